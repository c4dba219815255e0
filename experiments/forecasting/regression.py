"""Linear regressions of an accuracy on metrics that need no labels, and how far they can be trusted.

Li, Efros & Pathak 2022 (Fig. 4) regress the probe's accuracy on the collapse metric (AUC) and the training loss over
some 20 finished models and report R² of the same models. Beside that stand here the error on runs that were left out,
with or without their twins of other seeds, bootstrap intervals, and what choosing a run by the forecast would cost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.tools.errors import BadInput

FEWEST = 4
"""Runs: fewer leave nothing to tell a regression on two metrics from chance."""
RESAMPLES, CONFIDENCE = 2000, 0.95
ROUNDING = 1e-9
"""Of a column's size: what varies by no more does not vary."""


class Correlation(NamedTuple):
    """A correlation with its bootstrap interval; None where one side does not vary."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forecast:
    """A regression, on the runs that it was fitted to and on runs that were left out. Errors in the target's units."""

    metrics: tuple[str, ...]
    """What it regresses on; nothing for the mean."""
    intercept: float
    coefficients: tuple[float, ...]
    r2: float
    """Of the runs it was fitted to, as the paper has it; 0 for the mean."""
    pearson: Correlation
    spearman: Correlation
    """Of its values at these runs with what was measured there."""
    error: float
    """Mean absolute error of each run from a regression on all others."""
    error_of_settings: float
    """The same where runs that differ in the seed alone are left out together."""
    pearson_left_out: Correlation
    spearman_left_out: Correlation
    """Of the forecasts of runs left out, setting by setting; None for the mean, which orders nothing."""
    regret: float
    """What the run of the best forecast, setting left out, is short of the best; of the mean a choice at random."""
    fitted: tuple[float, ...]
    left_out: tuple[float, ...]


class Prediction(NamedTuple):
    """What is forecast of a run, with the interval in which 95 of 100 such runs should lie, and why not to trust it."""

    value: float
    low: float
    high: float
    beyond: tuple[str, ...]
    """Metrics outside the range of the runs that were regressed on; "together" where only their combination is."""


def forecast(
    metrics: Sequence[str], values: np.ndarray, target: np.ndarray, settings: Sequence = (), seed: int = 0
) -> Forecast:
    """The regression of `target` (n,) on `values` (n, k), columns named `metrics`; k = 0 is the mean.

    settings: what runs that differ in the seed alone have in common, (n,); none: each is a setting of its own. Raises
    BadInput for fewer than `FEWEST` runs, and where target or a metric does not vary or is not finite.

    >>> import numpy as np
    >>> x = np.array([[0.1], [0.2], [0.3], [0.4], [0.5]])
    >>> found = forecast(["auc"], x, 60 - 80 * x[:, 0])
    >>> round(found.intercept, 6), round(found.coefficients[0], 6), round(found.error, 6)
    (60.0, -80.0, 0.0)
    """
    values, target = checked(metrics, values, target)
    n = len(target)
    intercept, slopes = _fit(values, target)
    fitted = intercept + values @ slopes
    together = (
        np.unique(np.array([str(one) for one in settings]), return_inverse=True)[1] if len(settings) else range(n)
    )
    alone, left_out = _left_out(values, target, range(n)), _left_out(values, target, together)
    chosen = float(target.mean()) if not metrics else float(target[np.argmax(left_out)])
    rng = np.random.default_rng(seed)
    none = Correlation(None, None, None)
    return Forecast(
        metrics=tuple(metrics),
        intercept=float(intercept),
        coefficients=tuple(map(float, slopes)),
        r2=float(1 - ((target - fitted) ** 2).sum() / ((target - target.mean()) ** 2).sum()),
        pearson=correlation(fitted, target, rng) if metrics else none,
        spearman=correlation(fitted, target, rng, ranks=True) if metrics else none,
        error=float(np.abs(target - alone).mean()),
        error_of_settings=float(np.abs(target - left_out).mean()),
        pearson_left_out=correlation(left_out, target, rng) if metrics else none,
        spearman_left_out=correlation(left_out, target, rng, ranks=True) if metrics else none,
        regret=float(target.max()) - chosen,
        fitted=tuple(map(float, fitted)),
        left_out=tuple(map(float, left_out)),
    )


def predict(found: Forecast, values: np.ndarray, target: np.ndarray, new: np.ndarray) -> list[Prediction]:
    """What `found`, fitted to `values` (n, k) and `target` (n,), forecasts of runs with the metrics `new` (m, k).

    The interval is that of a further run (Student's t), the regression's own uncertainty included. A run extrapolates
    where a metric lies outside its range, or where all lie inside and their leverage is above any of the n runs'.
    """
    from scipy import stats

    values, new = (np.asarray(v, float).reshape(len(v), len(found.metrics)) for v in (values, new))
    n, k = values.shape
    residual = np.asarray(target, float) - np.asarray(found.fitted)
    spread = math.sqrt(float(residual @ residual) / (n - k - 1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - k - 1)) * spread
    leverage, most = _leverage(values, new), _leverage(values, values).max()
    ends = list(zip(found.metrics, values.T.min(1, initial=math.inf), values.T.max(1, initial=-math.inf)))
    predictions = []
    for one, h in zip(new, leverage):
        value = found.intercept + float(one @ np.asarray(found.coefficients))
        outside = tuple(name for (name, low, high), v in zip(ends, one) if not low <= v <= high)
        beyond = outside or (("together",) if h > most * (1 + ROUNDING) else ())
        half = reach * math.sqrt(1 + h)
        predictions.append(Prediction(value, value - half, value + half, beyond))
    return predictions


def checked(metrics: Sequence[str], values, target) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) and (n,) in float64, or BadInput with a sentence."""
    target = np.asarray(target, float)
    values = np.asarray(values, float).reshape(len(target), len(metrics))
    if len(target) < FEWEST:
        raise BadInput(f"there are {len(target)} runs to regress on; a forecast takes at least {FEWEST}")
    for name, column in [("the accuracy", target), *zip(metrics, values.T)]:
        if not np.isfinite(column).all():
            raise BadInput(
                f"{name} is not a finite number in {int((~np.isfinite(column)).sum())} runs; leave these out"
            )
        if np.ptp(column) <= ROUNDING * np.abs(column).max():
            raise BadInput(f"{name} is the same in all {len(target)} runs; there is nothing to regress")
    return values, target


def correlation(first, second, rng: np.random.Generator, ranks: bool = False) -> Correlation:
    """Pearson's correlation of two rows of numbers (n,), or of their ranks (Spearman's), with a percentile interval of
    resampled pairs."""
    from scipy import stats

    first, second = np.asarray(first, float), np.asarray(second, float)
    which = rng.integers(len(first), size=(RESAMPLES, len(first)))
    pairs = [np.vstack([v[None], v[which]]) for v in (first, second)]
    if ranks:
        pairs = [stats.rankdata(rows, axis=1) for rows in pairs]
    a, b = (rows - rows.mean(1, keepdims=True) for rows in pairs)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = (a * b).sum(1)[size > 0] / size[size > 0]
    if not size[0] > 0:
        return Correlation(None, None, None)
    tail = 100 * (1 - CONFIDENCE) / 2
    return Correlation(float(found[0]), *map(float, np.percentile(found[1:], [tail, 100 - tail])))


# ---------------------------------------------------------------- least squares


def _fit(values: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Intercept and slopes."""
    if not values.shape[1]:
        return target.mean(), np.zeros(0)
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(values, target)
    return model.intercept_, model.coef_


def _left_out(values: np.ndarray, target: np.ndarray, groups) -> np.ndarray:
    """What is forecast of each run by the regression on the runs of all other groups, (n,).

    Raises BadInput where all runs are of one group.
    """
    groups = np.asarray(groups)
    if len(np.unique(groups)) < 2:
        raise BadInput("all runs have one setting and differ in the seed alone; a forecast takes several settings")
    found = np.empty(len(target))
    for group in np.unique(groups):
        out = groups == group
        intercept, slopes = _fit(values[~out], target[~out])
        found[out] = intercept + values[out] @ slopes
    return found


def _leverage(values: np.ndarray, new: np.ndarray) -> np.ndarray:
    """xᵀ(XᵀX)⁻¹x with the intercept, of each row of `new`: (m,)."""
    inside = np.linalg.pinv(np.column_stack([np.ones(len(values)), values]), rcond=1e-12)
    return ((np.column_stack([np.ones(len(new)), new]) @ inside) ** 2).sum(1)
