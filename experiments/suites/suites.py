"""Suites: declared grids of runs, by name and scale.

A new suite is a function from a scale to a `Suite`, entered in `SUITES`.
"""

from collections.abc import Callable

from stopgrad.deep.config import check
from stopgrad.experiments.suites.grid import Suite
from stopgrad.experiments.tian2021.ablation import ablation
from stopgrad.linear_theory.tools.errors import BadInput

SCALES = ("smoke", "quick", "cpu", "cifar", "gpu", "paper")
"""From seconds on any machine to the papers' own size."""

SUITES: dict[str, Callable[[str], Suite]] = {"tian2021": ablation}


def suite(name: str, scale: str) -> Suite:
    """The suite of this name at this scale, every config checked. Raises ValueError where there is none."""
    if name not in SUITES:
        raise BadInput(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
    if scale not in SCALES:
        raise BadInput(f"there is no scale {scale!r}; there are {', '.join(SCALES)}")
    found = SUITES[name](scale)
    for arm in found.arms.values():
        check(arm.config)
    return found
