"""The door of the deep wing: `python -m deep --help`."""

import contextlib
import os
import sys

from stopgrad.deep.commands import as_stored, commands
from stopgrad.linear_theory.tools.door import BAD_INPUT, main
from stopgrad.linear_theory.tools.errors import BadInput, Unshared

DESCRIPTION = (
    "Train real SimSiam and BYOL networks with every switch of the theory, and measure their spectra, alignment and "
    "collapse while they train. `python -m deep train` alone trains a small ResNet on digits in about a minute."
)


def door(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Of several processes that torchrun started, one answers, and one
    refuses what all do: the first, unless it is another's own mistake.
    """
    argv = sys.argv[1:] if argv is None else argv
    first = os.environ.get("RANK", "0") == "0"
    try:
        with contextlib.ExitStack() as quiet:
            if not first:
                quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
            known, given = commands(argv), as_stored(argv)
            return main("deep", DESCRIPTION, known, given, lambda error: first or isinstance(error, Unshared))
    except BadInput as error:  # an unknown preset, met before the arguments are read
        if first:
            print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(door())
