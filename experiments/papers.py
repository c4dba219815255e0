"""The one list of papers, and of studies that are none: what is run, verified, drawn and reported."""

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Literal

from stopgrad.deep.config import check
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.suites.grid import SCALES, Suite
from stopgrad.linear_theory.tools.errors import BadInput

MODULES = (
    "stopgrad.experiments.tian2021.paper",
    "stopgrad.experiments.zhang2022.paper",
    "stopgrad.experiments.simsiam2021.paper",
    "stopgrad.experiments.li2022.paper",
    "stopgrad.experiments.linear_digits.paper",
    "stopgrad.experiments.ladder.paper",
    "stopgrad.experiments.fate.paper",
)
"""Each has a `PAPER`: a new one is one line here. In a checkout any module that Python finds from there will do."""

PAPERS: dict[str, Paper] = {paper.key: paper for paper in (import_module(name).PAPER for name in MODULES)}


def chosen(keys: Sequence[str] = (), having: Literal["suite", "claims"] | None = None) -> list[Paper]:
    """The papers with these keys, each once; all where none is named, or all that have a suite, or claims.

    Raises BadInput for a key that there is not, and for a paper that is named and lacks what is asked for.
    """
    there = {key: paper for key, paper in PAPERS.items() if having is None or getattr(paper, having)}
    for key in keys:
        if key not in PAPERS:
            raise BadInput(f"there is no paper {key!r}; there are {', '.join(PAPERS)}")
        if key not in there:
            raise BadInput(f"{key} has no {having}; there are those of {', '.join(there)}")
    return [there[key] for key in dict.fromkeys(keys or there)]


def suite(name: str, scale: str) -> Suite:
    """The suite of this paper at this scale, every config checked. Raises BadInput where there is none."""
    [paper] = chosen([name], having="suite")
    if scale not in SCALES:
        raise BadInput(f"there is no scale {scale!r}; there are {', '.join(SCALES)}")
    return _checked(paper.suite, scale)


_built = functools.cache(lambda of, scale: of(scale))


@functools.cache
def _checked(of: Callable[[str], Suite], scale: str) -> Suite:
    """A suite is asked for again and again, and is a function of its scale."""
    found = _built(of, scale)
    for arm in found.arms.values():
        check(arm.config)
    return found


def command(name: str, scale: str, arms: Iterable[str]) -> str:
    """What carries out these arms of the suite: with --whole where some would be left to their record."""
    left = set(suite(name, scale).aside) & set(arms)
    return f"python -m experiments run {name} --scale {scale}{' --whole' * bool(left)}"


def planned_elsewhere(name: str, scale: str) -> dict[str, str]:
    """{arm: scale} of every arm that this paper's suite lacks at `scale`: the next larger one that has it, else the
    next smaller."""
    [paper] = chosen([name], having="suite")
    here, place, found = suite(name, scale).arms, SCALES.index(scale), {}
    for other in (*SCALES[place + 1 :], *reversed(SCALES[:place])):
        found = dict.fromkeys(_built(paper.suite, other).arms, other) | found
    return {arm: other for arm, other in found.items() if arm not in here}
