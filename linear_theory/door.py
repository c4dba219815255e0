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
import re
import sys
from typing import Annotated, Union

import numpy as np
import tyro


class Command:
    """What `main` asks of a command. Subclasses are frozen dataclasses with a field `json: bool = False` at the end."""

    def run(self) -> dict:
        """Compute and return the result. Raises ValueError for values that make no sense."""
        raise NotImplementedError

    def text(self, result: dict) -> str:
        """The result in words; by default one `name: value` a line."""
        return "\n".join(f"{name}: {value}" for name, value in result.items())


def main(program: str, description: str, commands: dict[str, type[Command]], argv: list[str] | None = None) -> int:
    """Parse `argv` into one of `commands`, run it and print the result. Returns the exit status."""
    kinds = tuple(Annotated[c, tyro.conf.subcommand(name, prefix_name=False)] for name, c in commands.items())
    # tyro wants a union; two arms at the least, so a lone command is named twice.
    union = Union[kinds if len(kinds) > 1 else kinds * 2]  # noqa: UP007
    try:
        command = _parse(union, program, description, sys.argv[1:] if argv is None else argv)
        refuse_nan(command)
        result = command.run()
    except (ValueError, OSError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(dumps(result) if command.json else command.text(result))
    return 0


def _parse(union, program, description, argv):
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                union,
                prog=f"python -m {program}",
                description=description,
                args=argv,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        # tyro draws a box of several lines around its complaint; ours is one sentence.
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │╭╮╰╯─") for line in complaint.getvalue().splitlines()]
        words = [line for line in lines if line and line not in ("Parsing error", "Unrecognized options")]
        words = words[: next((i for i, w in enumerate(words) if w.startswith(("For full helptext", "Full helptext"))), None)]
        raise ValueError(" ".join(words) or "the arguments could not be read") from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def refuse_nan(command) -> None:
    """Raise ValueError naming the first field, at any depth, that holds NaN."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            refuse_nan(value)
        elif any(isinstance(v, float) and math.isnan(v) for v in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{field.name.replace('_', '-')} is NaN; give a number")


def plain(value):
    """`value` with NumPy turned into Python, complex numbers into {re, im}, and NaN or infinity into None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, complex):
        return {"re": plain(value.real), "im": plain(value.imag)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(result: dict) -> str:
    """One JSON object on one line; a value that does not exist is null."""
    return json.dumps(plain(result), allow_nan=False, default=str)
