"""How large is a basin: the share of random initial conditions that meets each fate, along a curve of parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_float64, as_int64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items, with_values


@dataclass(frozen=True)
class BasinFraction:
    """Shares of every label at m points of a curve, each with its Wilson interval.

    `labels` (k,); `count`, `fraction`, `lower`, `upper` (m, k); `n` samples a point. The intervals hold for each point
    alone. With `common` random numbers all points share their samples: differences along the curve are then sharper
    than two intervals suggest, and the errors of neighbours are alike.
    """

    labels: np.ndarray
    count: np.ndarray
    fraction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n: int
    confidence: float
    common: bool
    seed: int
    curve: Any


def wilson_interval(count, n, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (1927) for a binomial share, `count` of `n`: arrays of their broadcast shape, in [0, 1].

    Raises ValueError for n < 1, a count outside 0…n, or a confidence outside (0, 1).

    >>> lower, upper = wilson_interval(5, 10)
    >>> lower.round(4), upper.round(4)
    (np.float64(0.2366), np.float64(0.7634))
    """
    from scipy.special import ndtri

    count, n = np.broadcast_arrays(as_float64(count, "count"), as_float64(n, "n"))
    if not (n >= 1).all():
        raise BadInput("n must be at least 1")
    if not ((count >= 0) & (count <= n)).all():
        raise BadInput("count must be from 0 to n")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence is {confidence:g}; it must be in (0, 1)")
    z2 = ndtri((1 + confidence) / 2) ** 2
    centre = (count + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (count * (n - count) / n + z2 / 4)) / (n + z2)
    return np.where(count == 0, 0.0, centre - half), np.where(count == n, 1.0, centre + half)


def basin_fraction(
    fate: Callable,
    sample: Callable[[np.random.Generator, int], tuple],
    n: int,
    curve: Any,
    confidence: float = 0.95,
    seed: int = 0,
    common: bool = True,
    labels: Sequence[int] | None = None,
    points_per_call: int = 2**20,
) -> BasinFraction:
    """Draw n initial conditions, ask for their fate at every point of `curve`, and count.

    fate(state, h): integer labels of shape (points, n), for states of shape (1 or points, n) and h of (points, 1), such
    as `FlowProblem.fates` of any flow, or the fates that `simulate` gives of modes.
    sample(rng, n): the initial conditions, a NamedTuple of arrays of shape (n,) (or a number, for a fixed field).
    curve: hyperparameters, a record whose fields are numbers or 1-D arrays of one length. common: the same n samples at
    every point; else each has its own. labels: those to report, also where they never occur; by default those seen.
    points_per_call: samples times curve points that one call of `fate` may hold, which bounds the memory.

    Raises ValueError for hyperparameters out of range, fields of unequal length, n < 1, samples or labels of a wrong
    shape, a label that is not among `labels`, and a confidence outside (0, 1).

    >>> from stopgrad.linear_theory import Hyperparameters, Mode, simulate
    >>> def sample(rng, n):
    ...     return Mode(rng.uniform(0, 0.9, n), 0.01)
    >>> curve = Hyperparameters(eta=[0.0, 0.3])  # without decay all live, above the critical one none
    >>> basin_fraction(lambda state, h: simulate(state, h).fate, sample, 50, curve).fraction
    array([[1., 0.],
           [0., 1.]])
    """
    if n < 1:
        raise BadInput(f"n is {n}; draw at least 1 sample")
    column, length = _column(curve)
    streams = np.random.default_rng(seed).spawn(1 if common else length)
    rows = max(1, points_per_call // n)
    shared = _draw(sample, streams[:1], n) if common else None
    found = np.concatenate(
        [
            _labels(fate, shared or _draw(sample, streams[part], n), _rows(column, part), (part.stop - part.start, n))
            for part in (slice(start, min(start + rows, length)) for start in range(0, length, rows))
        ]
    )
    seen = np.unique(found)
    labels = seen if labels is None else as_int64(labels, "labels")
    if not np.isin(seen, labels).all():
        raise BadInput(f"label {np.setdiff1d(seen, labels)[0]} occurs and is not among the labels to report")
    count = np.stack([(found == label).sum(axis=1) for label in labels], axis=-1)
    lower, upper = wilson_interval(count, n, confidence)
    return BasinFraction(labels, count, count / n, lower, upper, n, confidence, common, seed, curve)


def _column(curve) -> tuple[Any, int]:
    """The curve's fields as columns (points, 1), and the number of points."""
    curve = curve.validate() if hasattr(curve, "validate") else curve
    values = {k: np.atleast_1d(as_float64(v, k)) for k, v in items(curve).items() if _is_number(v)}
    sizes = {v.shape for v in values.values() if v.shape != (1,)} or {(1,)}
    if len(sizes) > 1 or len(next(iter(sizes))) != 1:
        shapes = " and ".join(map(str, sorted(sizes)))
        raise BadInput(f"the curve's fields have shapes {shapes}; they must be numbers or lists of one length")
    (length,) = sizes.pop()
    return with_values(curve, {k: np.broadcast_to(v, (length,))[:, None] for k, v in values.items()}), length


def _is_number(value) -> bool:
    """Whether a field holds what may vary: no None, nor a whole number, which is a constant of the flow."""
    return value is not None and not isinstance(value, int)


def _rows(column, part: slice):
    return with_values(column, {k: v[part] for k, v in items(column).items() if _is_number(v)})


def _draw(sample, streams, n: int):
    """Samples of every stream, stacked: a state whose fields have shape (streams, n)."""
    draws = [sample(rng, n) for rng in streams]
    shapes = {np.shape(field) for draw in draws for field in draw}
    if not shapes <= {(), (n,)}:
        raise BadInput(f"a sample has a field of shape {(shapes - {(), (n,)}).pop()}; it must be ({n},) or a number")
    return type(draws[0])(*(np.stack([np.broadcast_to(v, (n,)) for v in field]) for field in zip(*draws)))


def _labels(fate, state, h, shape: tuple[int, int]) -> np.ndarray:
    labels = np.asarray(fate(state, h))
    if labels.shape != shape or labels.dtype.kind not in "biu":
        raise BadInput(
            f"fate gave {labels.dtype} of shape {labels.shape}; it must give integer labels of shape {shape}"
        )
    return labels.astype(np.int64)
