"""`python -m experiments …`: the comparisons of theory and training."""

import sys
from dataclasses import dataclass

from experiments.estimate import Estimate
from experiments.fingerprints import Fingerprints
from experiments.first_look import FirstLook
from experiments.linear_digits_command import LinearDigits
from experiments.runs_commands import RUNS
from experiments.suite_command import RunSuite
from experiments.verify_command import Verify
from linear_theory.door import Command, main, sentences


@dataclass(frozen=True)
class List(Command):
    """Name every command and say what it does."""

    json: bool = False

    def run(self) -> dict:
        return sentences(COMMANDS)


COMMANDS = {
    "list": List,
    "linear-digits": LinearDigits,
    "first-look": FirstLook,
    "estimate": Estimate,
    "run": RunSuite,
    "verify": Verify,
    "runs": RUNS,
    "fingerprints": Fingerprints,
}

if __name__ == "__main__":
    sys.exit(main("experiments", "Hold the theory against trained networks, with a number.", COMMANDS))
