"""How every wing's `python -m …` reads its arguments, prints and fails.

A command is a frozen dataclass: its fields are the flags, its docstring the help, and `run()` returns the result as a
dictionary. `text(result)` says it to a person; with `--json` the dictionary itself is printed instead. A user's mistake
is a `BadInput`, or what the system refuses, anywhere below `run()`: exit status 2 and one sentence on standard error.
Any other error is the program's, and keeps its traceback.
"""

import contextlib
import dataclasses
import difflib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Annotated, Union

import numpy as np
import tyro
from tyro import _errors as refused

from stopgrad.linear_theory.tools.errors import BadInput, sentence_of
from stopgrad.linear_theory.tools.garbage import seldom_collect

# How long a thread of a fused kernel spins at a barrier before it sleeps. The default is so long that on a busy machine
# threads that wait keep off those that are waited for; sleeping at once costs more than a small kernel takes.
_SPINNING = ("GOMP_SPINCOUNT", "20000")
BAD_INPUT, INTERRUPTED, NO_READER = 2, 130, 141  # the last two are a shell's 128 + SIGINT and 128 + SIGPIPE
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)


class Command:
    """What `main` asks of a command. Subclasses are frozen dataclasses with a field `json: bool = False` at the end."""

    def run(self) -> dict:
        """Compute and return the result. Raises BadInput for values that make no sense."""
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


def main(
    program: str,
    description: str,
    commands: Commands,
    argv: list[str] | None = None,
    speaks: Callable[[Exception], bool] = lambda error: True,
) -> int:
    """Parse `argv` into one of `commands`, run it and print the result. Returns the exit status.

    That of the command, usually 0; 2 for bad input, whose sentence is printed if `speaks(error)`; 130 after Ctrl-C; 141
    where nobody reads the output any longer (`… | head`). An instance among the commands brings other defaults than its
    class, a Group more commands under one name. The name of a lone command may be left out.
    """
    os.environ.setdefault(*_SPINNING)  # read by the OpenMP runtime when torch is first imported, which is later
    seldom_collect()
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
    except (BadInput, OSError) as error:
        if (told := sentence_of(error)) is None:
            raise
        _drop_output()
        if speaks(error):
            print(f"error: {told}", file=sys.stderr)
        return BAD_INPUT
    except SystemExit as leave:  # tyro has said all that is to be said
        return leave.code or 0
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


def _parse(program: str, description: str, commands: Commands, argv: list[str]) -> Command:
    """The command that `argv` stands for. Raises BadInput where it stands for none, SystemExit after printing help."""
    name, *rest = argv or [""]
    if len(commands) == 1:
        [(alone, command)] = commands.items()
        return _read(f"python -m {program}", description, command, rest if name == alone else argv)
    if isinstance(group := commands.get(name), Group):
        return _parse(f"{program} {name}", group.about, group.commands, rest)
    if name in commands:
        return _read(f"python -m {program} {name}", None, commands[name], rest)
    if name in ("-h", "--help"):
        every = Union[tuple(_listed(name, command) for name, command in commands.items())]  # noqa: UP007
        return tyro.cli(every, prog=f"python -m {program}", description=description, args=argv, config=CONFIG)
    unknown = f"there is no command {name}" if name else "a command is missing"
    raise BadInput(f"{unknown}; there are {', '.join(commands)}")


def _listed(name: str, command: type[Command] | Command | Group):
    """A command as the help of all shows it."""
    if not isinstance(command, type):
        about = command.about if isinstance(command, Group) else type(command).__doc__
        command = dataclasses.make_dataclass(name, [], namespace={"__doc__": about})
    return Annotated[command, tyro.conf.subcommand(name, prefix_name=False)]


def _read(prog: str, description: str | None, command: type[Command] | Command, argv: list[str]) -> Command:
    """The command with the flags of `argv`."""
    kind, given = (command, {}) if isinstance(command, type) else (type(command), {"default": command})

    def refuse(event: refused.ParseErrorEvent) -> None:
        if told := _refusal(event, command, argv):
            raise BadInput(told) from None

    with refused.on_parse_error(refuse):
        return tyro.cli(kind, prog=prog, description=description, args=argv, config=CONFIG, **given)


def _refusal(event: refused.ParseErrorEvent, command: type[Command] | Command, argv: list[str]) -> str | None:
    """What is wrong with the flags, and what would be right; None leaves it to tyro's own words."""
    match event:
        case refused.UnrecognizedArgs(tokens=tokens):
            return f"unknown: {' '.join(tokens)}{_near(tokens[0], _flags(command))}"
        case refused.MissingArgs(missing_arguments=missing):
            return f"missing: {', '.join(each.arg.display_name() for each in missing)}; see {event.prog} --help"
        case refused.InvalidChoice(argument=argument, value=value, choices=choices):
            return f"{argument.display_name()} is {value!r}; it must be one of {', '.join(choices)}"
        case refused.BadValue(argument=argument, reason="too_few_values"):
            return f"{argument.display_name()} needs a value: {argument.lowered.metavar}"
        case refused.InstantiationFailure(argument=None, message=message):
            return message
        case refused.InstantiationFailure(argument=argument, message=message):
            name, first = argument.display_name(), message.partition("\n")[0].rstrip(".")
            given = _after(name, argv)
            said = f", not {' '.join(map(repr, given))}" if given else f"; {first}"
            return f"{name} takes {argument.lowered.metavar}{said}"
    return None


def _after(flag: str, argv: list[str]) -> list[str]:
    """What a flag is given, the last time; nothing where it is not."""
    given: list[str] = []
    for k, word in enumerate(argv):
        stem, equals, value = word.partition("=")
        if stem.replace("_", "-") == flag:
            given = [value] if equals else [*takewhile(lambda word: not word.startswith("--"), argv[k + 1 :])]
    return given


def _near(word: str, known: Iterable[str]) -> str:
    """'; perhaps --colour' where something known is called much the same."""
    near = difflib.get_close_matches(word.partition("=")[0], known)
    return f"; perhaps {' or '.join(near)}" if near else ""


def _flags(record) -> Iterator[str]:
    """The flags of a command, those of the groups among its fields included."""
    for field in dataclasses.fields(record):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        value = getattr(record, field.name, made)
        if dataclasses.is_dataclass(value):
            yield from _flags(value)
        else:
            yield f"--{field.name.replace('_', '-')}"


def refuse_nan(command) -> None:
    """Raise BadInput naming the first field, at any depth, that holds NaN.

    Infinity passes: whether it makes sense (an end time may be infinite) is for the command to say.
    """
    for field in dataclasses.fields(command):
        if _holds_nan(getattr(command, field.name)):
            raise BadInput(f"{field.name.replace('_', '-')} is NaN; give a number")


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
