"""Suites: the declared grids of runs of all papers, by name and scale."""

from stopgrad.deep.config import check
from stopgrad.experiments.papers import chosen
from stopgrad.experiments.suites.grid import SCALES, Suite
from stopgrad.linear_theory.tools.errors import BadInput


def suite(name: str, scale: str) -> Suite:
    """The suite of this paper at this scale, every config checked. Raises ValueError where there is none."""
    [paper] = chosen([name], having="suite")
    if scale not in SCALES:
        raise BadInput(f"there is no scale {scale!r}; there are {', '.join(SCALES)}")
    found = paper.suite(scale)
    for arm in found.arms.values():
        check(arm.config)
    return found
