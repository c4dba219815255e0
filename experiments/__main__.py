"""`python -m experiments …`: the comparisons of theory and training."""

import sys
from dataclasses import dataclass

from stopgrad.experiments.commands.estimate import Estimate
from stopgrad.experiments.commands.fate_command import Fate
from stopgrad.experiments.commands.fingerprints import Fingerprints
from stopgrad.experiments.commands.forecast import Forecast
from stopgrad.experiments.commands.results import Results
from stopgrad.experiments.commands.runs import RUNS
from stopgrad.experiments.commands.suite_command import RunSuite
from stopgrad.experiments.commands.verify_command import Verify
from stopgrad.experiments.linear_digits.command import LinearDigits
from stopgrad.linear_theory.tools.door import Command, main, sentences


@dataclass(frozen=True)
class List(Command):
    """Name every command and say what it does."""

    json: bool = False

    def run(self) -> dict:
        return sentences(COMMANDS)


COMMANDS = {
    "list": List,
    "linear-digits": LinearDigits,
    "estimate": Estimate,
    "run": RunSuite,
    "verify": Verify,
    "results": Results,
    "forecast": Forecast,
    "fate": Fate,
    "runs": RUNS,
    "fingerprints": Fingerprints,
}

if __name__ == "__main__":
    sys.exit(main("experiments", "Hold the theory against trained networks, with a number.", COMMANDS))
