"""What claims that theory alone decides share: how they are written down, and how one that errs stands beside its form.

A claim without arms is computed whenever the ledger is; its statistic must come from a simulation or an exact formula.
"""

from collections.abc import Callable

import numpy as np

from stopgrad.experiments.claims.claim import Claim, Rule

BORDERS = "fewer than 1 start in 100 may lie within the integrator's error of a border"
TOLERANCE = "the integrator's tolerance is 1e-6, so an identity shows at least 5 digits"
COLLAPSE = "a collapse leaves next to nothing"


def claim(
    name: str,
    place: str,
    statement: str,
    rule: Rule,
    value: Callable[[], float],
    theory: Callable[[], str],
    setting: str,
) -> Claim:
    """The claim theory-NAME, decided by value() alone; `setting` says over which hyperparameters it runs."""
    about = {"id": f"theory-{name}", "place": place, "statement": statement}
    return Claim(**about, rule=rule, value=value, theory=theory, setting=setting)


def pair(corrected: Claim, stated: str, value: Callable[[], float], rule: Rule | None = None) -> tuple[Claim, Claim]:
    """A corrected claim and the paper's own form of it; the latter's rule is the same unless another is given."""
    values = {**vars(corrected), "as_stated": stated}
    twin = {"id": f"{corrected.id}-as-stated", "statement": f"As stated: {stated}", "as_stated": None, "value": value}
    return Claim(**values), Claim(**{**values, **twin, "rule": rule or corrected.rule})


def digits(error) -> float:
    """How many decimal digits agree where the largest relative error is this: 16 at most."""
    return float(-np.log10(np.maximum(np.max(error), 1e-16)))
