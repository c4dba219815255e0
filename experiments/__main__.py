"""`python -m experiments …`: the comparisons of theory and training."""

import sys
from dataclasses import dataclass
from importlib import import_module

from linear_theory.door import Command, Commands, Group, main, sentences


@dataclass(frozen=True)
class List(Command):
    """Name every command and say what it does."""

    json: bool = False

    def run(self) -> dict:
        return sentences(commands(*MODULES))


MODULES = {
    "list": (
        ("experiments.__main__", "List"),
        "Name every command and say what it does.",
    ),
    "linear-digits": (
        ("experiments.linear_digits", "LinearDigits"),
        "Hold Lemma 1, with X and X′ measured, against a linear Siamese network trained on scikit-learn's digits.",
    ),
    "first-look": (
        ("experiments.first_look", "FirstLook"),
        "Train ResNet-18 on CIFAR-10 with a linear predictor and with SimSiam's, and record a small table of each.",
    ),
    "run": (
        ("experiments.suite_command", "RunSuite"),
        "Carry out a suite: finished runs are found, unfinished ones resumed, those of other processes left to them.",
    ),
    "verify": (
        ("experiments.verify_command", "Verify"),
        "Hold the papers' claims against theory and finished runs. Trains nothing unless told to with --run-missing.",
    ),
    "runs": (
        ("experiments.runs_commands", "RUNS"),
        "Look into the store of runs: list, show, compare, rm.",
    ),
}
"""Where each command is, and what it does, in a sentence."""


def commands(*called: str) -> Commands:
    """All commands; but for those `called`, only what is said of them: what they import takes seconds."""
    found: Commands = {}
    for name, ((module, attribute), about) in MODULES.items():
        found[name] = getattr(import_module(module), attribute) if name in called else Group(about, {})
    return found


def __getattr__(name: str) -> Commands:
    """COMMANDS, every one of them imported."""
    if name == "COMMANDS":
        return commands(*MODULES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    description = "Hold the theory against trained networks, with a number."
    sys.exit(main("experiments", description, commands(*sys.argv[1:2])))
