"""How every wing's `python -m …` reads its arguments, prints and fails.

A command is a frozen dataclass: its fields are the flags, its docstring the help, and `run()` returns the result as a
dictionary. `text(result)` says it to a person; with `--json` the dictionary itself is printed instead. Bad input is a
ValueError (or OSError) anywhere below `run()`: exit status 2 and one sentence on standard error.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Union

import numpy as np
import tyro

# How long a thread of a fused kernel spins at a barrier before it sleeps. The default is so long that on a busy machine
# threads that wait keep off those that are waited for; sleeping at once costs more than a small kernel takes.
_SPINNING = ("GOMP_SPINCOUNT", "20000")
BAD_INPUT, INTERRUPTED, NO_READER = 2, 130, 141  # the last two are a shell's 128 + SIGINT and 128 + SIGPIPE
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)


class Command:
    """What `main` asks of a command. Subclasses are frozen dataclasses with a field `json: bool = False` at the end."""

    def run(self) -> dict:
        """Compute and return the result. Raises ValueError for values that make no sense."""
        raise NotImplementedError

    def text(self, result: dict) -> str:
        """The result in words; by default one `name: value` a line."""
        return "\n".join(f"{name}: {value}" for name, value in result.items())

    def status(self, result: dict) -> int:
        """The exit status that goes with a result; 0 unless a command has more to tell."""
        return 0


@dataclasses.dataclass(frozen=True)
class Group:
    """Commands under a common name: `python -m PROGRAM NAME COMMAND …`."""

    about: str
    """What they are for, in a sentence."""
    commands: "Commands"


Commands = dict[str, type[Command] | Command | Group]


def main(program: str, description: str, commands: Commands, argv: list[str] | None = None) -> int:
    """Parse `argv` into one of `commands`, run it and print the result. Returns the exit status.

    That of the command, usually 0; 2 for bad input; 130 after Ctrl-C; 141 where nobody reads the output any longer
    (`… | head`). An instance among the commands brings other defaults than its class, a Group more commands under one
    name. The name of a lone command may be left out.
    """
    os.environ.setdefault(*_SPINNING)  # read by the OpenMP runtime when torch is first imported, which is later
    status = 0
    _write_what_can_be_written()
    try:
        command = _parse(program, description, commands, sys.argv[1:] if argv is None else argv)
        if command:
            text, status = _answer(command)
            print(text, end="", flush=True)
    except BrokenPipeError:
        _drop_output()
        return NO_READER
    except (ValueError, OSError) as error:
        _drop_output()
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _answer(command: Command) -> tuple[str, int]:
    """What the command has to say, with the newline at its end, and its exit status."""
    refuse_nan(command)
    with contextlib.redirect_stdout(sys.stderr):  # whatever else is printed on the way must not join the answer
        result = command.run()
    text = dumps(result) if command.json else command.text(result)
    return text + "\n" if text else "", command.status(result)


def _write_what_can_be_written() -> None:
    """Where a stream is not UTF-8, or a file's name is not, replace letters instead of losing the answer for them."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        with contextlib.suppress(AttributeError):  # no stream, or one that writes everything
            stream.reconfigure(errors=errors)


def _drop_output() -> None:
    """Forget what is still to be printed: Python would otherwise try again as it leaves, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sentences(commands: Commands) -> dict[str, str]:
    """What each command does, by name; those of a group by both names."""
    said = {}
    for name, command in commands.items():
        if isinstance(command, Group):
            said |= {f"{name} {inner}": sentence for inner, sentence in sentences(command.commands).items()}
        else:
            said[name] = command.__doc__.splitlines()[0]
    return said


def _subcommand(name: str, command: type[Command] | Command | Group):
    if isinstance(command, Group):  # only for the help, and for what is said of a name that does not exist
        command = dataclasses.make_dataclass("Group", [], namespace={"__doc__": command.about})
    if isinstance(command, type):
        return Annotated[command, tyro.conf.subcommand(name, prefix_name=False)]
    return Annotated[type(command), tyro.conf.subcommand(name, prefix_name=False, default=command)]


def _parse(program: str, description: str, commands: Commands, argv: list[str]) -> Command | None:
    """The command that `argv` stands for; None where tyro has printed the help that was asked for."""
    group = commands.get(argv[0]) if argv else None
    if isinstance(group, Group):
        return _parse(f"{program} {argv[0]}", group.about, group.commands, argv[1:])
    kinds = tuple(_subcommand(name, command) for name, command in commands.items())
    kind = Union[kinds]  # noqa: UP007
    if len(commands) == 1:  # a union of one is no union, and would have no name to be called by
        [(name, kind)] = commands.items()
        argv = argv[1:] if argv[:1] == [name] else argv
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"python -m {program}", description=description, args=argv, config=CONFIG)
    except SystemExit as leave:
        if leave.code in (0, None):
            return None
        classes = [c.__name__ if isinstance(c, type) else type(c).__name__ for c in commands.values()]
        raise ValueError(_from_box(complaint.getvalue(), classes) or "the arguments could not be read") from None


def _from_box(box: str, classes: list[str]) -> str:
    """tyro's complaint, a titled box with sections, as one sentence: what is wrong and what would be right."""
    title, *lines = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines() or [""]
    inside = "\n".join(re.sub(r"^[│ ] |\s*│?$", "", line) for line in lines)  # where UTF-8 is missing, it has no border
    first, *more = [s for s in re.split(r"^[ ╰]?[─-]{3,}╯?$", inside, flags=re.MULTILINE) if s.strip()] or [""]
    first = _one_line(first.split("Got errors:")[0])  # tyro's own account of every type it has tried
    first = re.sub(r"\.? \(required\)(?= |$)", ",", first).rstrip(",.")
    # An error raised by a dataclass itself names its field; where tyro met it is of no use to the reader.
    first = re.sub(rf"^Error parsing (?:{'|'.join(map(re.escape, classes))}|[a-z_][\w.-]*): ", "", first)
    if "Missing subcommand" in title:
        first = f"Missing subcommand: {first[:1].lower()}{first[1:]}"
    hints = (_one_line(re.sub(r"^ {5,}.*$", "", part, flags=re.MULTILINE)) for part in more)  # without their help texts
    return "; ".join([first, *(h for h in hints if h and not re.match("Argument helptext|For full|Full help", h))])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return _one_line(str(error))


def refuse_nan(command) -> None:
    """Raise ValueError naming the first field, at any depth, that holds NaN.

    Infinity passes: whether it makes sense (an end time may be infinite) is for the command to say.
    """
    for field in dataclasses.fields(command):
        if _holds_nan(getattr(command, field.name)):
            raise ValueError(f"{field.name.replace('_', '-')} is NaN; give a number")


def _holds_nan(value) -> bool:
    if dataclasses.is_dataclass(value):
        refuse_nan(value)  # names the field inside
        return False
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return any(map(_holds_nan, value))
    return isinstance(value, (float, complex, np.inexact)) and value != value


def plain(value):
    """`value` with arrays turned into lists, complex numbers into {re, im}, and NaN or infinity into None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars, torch's tensors
        return plain(value.tolist())
    if isinstance(value, complex):
        return {"re": plain(value.real), "im": plain(value.imag)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(result: dict) -> str:
    """One JSON object on one line; a value that does not exist is null."""
    return json.dumps(plain(result), allow_nan=False, default=str)
