"""`python -m experiments …`: the comparisons of theory and training."""

import sys
from dataclasses import dataclass

from experiments.first_look import FirstLook
from experiments.linear_digits import LinearDigits
from linear_theory.door import Command, main


@dataclass(frozen=True)
class List(Command):
    """Name every command and say what it does."""

    json: bool = False

    def run(self) -> dict:
        return {name: command.__doc__.splitlines()[0] for name, command in COMMANDS.items()}


COMMANDS = {
    "list": List,
    "linear-digits": LinearDigits,
    "first-look": FirstLook,
}

if __name__ == "__main__":
    sys.exit(main("experiments", "Hold the theory against trained networks, with a number.", COMMANDS))
