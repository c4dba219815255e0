"""The mean of a few seeds and how far it may be off: Student's t, once, for verdicts and for pictures.

A number that cannot leave a range (a share, a cosine) is averaged by its log odds in it, and brought back.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stopgrad.experiments.store.evidence import DIGITS

CONFIDENCE = 0.95
FINEST = 0.5 * 10.0**-DIGITS
"""Half the last figure that a record keeps of a number near 1: what is nearer to an end of its range is taken to be so
near, lest a run and its record decide differently, and a cosine of exactly 1 have infinite log odds."""
Range = tuple[float, float] | None
"""What a number cannot leave; None: nothing holds it."""


class Interval(NamedTuple):
    """A mean with Student's t-interval."""

    mean: float
    """NaN of no value."""
    low: float
    high: float
    """NaN of fewer than two values."""
    count: int
    """How many values are finite; others are left out."""

    @property
    def error(self) -> list[list[float]] | None:
        """[[mean − low], [high − mean]], as matplotlib's error bars take it; None where there is no interval."""
        return [[self.mean - self.low], [self.high - self.mean]] if self.count > 1 else None


def interval(values: Sequence[float], within: Range = None, confidence: float = CONFIDENCE) -> Interval:
    """Mean and t-interval of the finite `values`, both taken on log odds where they are `within` a range.

    Raises ValueError for a value outside the range.
    """
    from scipy import stats

    found = np.asarray(values, dtype=float)
    found = scaled(found[np.isfinite(found)], within)
    n = len(found)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean, half = float(np.mean(found)), math.nan
    if n > 1:
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(found, ddof=1) / math.sqrt(n))
    return Interval(*(plain(value, within) for value in (mean, mean - half, mean + half)), n)


def p_value(values: Sequence[float], above: float, within: Range = None) -> float:
    """Chance of a mean this far to its side of `above`, were the truth there: Student's t, one-sided, at most 0.5."""
    from scipy import stats

    found, n = scaled(values, within), len(values)
    distance = abs(float(np.mean(found)) - float(scaled(above, within)))
    error = float(np.std(found, ddof=1)) / math.sqrt(n)
    return float(stats.t.sf(distance / error if error else distance and math.inf, n - 1))


def scaled(values: float | Sequence[float], within: Range = None) -> np.ndarray:
    """Values of any shape as they are averaged: log odds at least `FINEST` from an end; without `within` unchanged.

    Raises ValueError for a value outside the range.
    """
    values = np.asarray(values, dtype=float)
    if within is None:
        return values
    low, high = within
    if np.any((values < low - FINEST) | (values > high + FINEST)):
        raise ValueError(f"{values} is not between {low:g} and {high:g}")
    values = np.clip(values, low + FINEST, high - FINEST)
    return np.log((values - low) / (high - values))


def plain(value: float, within: Range = None) -> float:
    """The value that has these log odds: `scaled` undone."""
    low, high = within or (0.0, 1.0)
    return float(value if within is None else low + (high - low) / (1 + np.exp(-value)))
