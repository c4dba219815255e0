"""Boundaries between outcomes in a plane of two parameters: traced directly by bisection, or by refining cells.

Both ask only for a label at each point, so they serve the theory's own outcomes and any question of the user's ("the
top k modes survive"). A boundary is an interval with a status, not a point: what is returned says between which two
evaluated points the label changes, and where nothing could be decided.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

UNDECIDED = -1
"""The label of a point at which nothing could be decided."""

_OUTSIDE = -2  # what lies beyond the ends of a scan

Label = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(x, y), two arrays of one shape, to labels of that shape: bool, integers from 0, or floats with NaN for undecided."""


@dataclass(frozen=True)
class Boundary:
    """One row a crossing, ordered by x and then y: arrays of one length, and how they were made.

    `status` is "found" where the label is `before` at `lower` and `after` at `upper`, no further apart than `width`
    (relative to `lower` where `log`); "undecided" where a zone without decision lies between the two (`before` or
    `after` is UNDECIDED where the zone reaches the end of the scan); "none" where the scan saw one label only.
    """

    x: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    before: np.ndarray
    after: np.ndarray
    status: np.ndarray
    width: float
    log: bool
    evaluations: int

    @property
    def middle(self) -> np.ndarray:
        """The middle of every interval (geometric where `log`), for drawing."""
        return _middle(self.lower, self.upper, self.log)


@dataclass(frozen=True)
class Cells:
    """Rectangles [x0, x1] × [y0, y1] that tile the plane: arrays of one length, and how they were made.

    `uniform`: the four corners agree on `label`; elsewhere a boundary passes and `label` is that of (x0, y0).
    `evaluations` of the label were made where the full grid of the smallest cell's size has `full_grid` points.
    """

    x0: np.ndarray
    x1: np.ndarray
    y0: np.ndarray
    y1: np.ndarray
    label: np.ndarray
    uniform: np.ndarray
    level: np.ndarray
    evaluations: int
    full_grid: int

    @property
    def spared(self) -> float:
        """The share of the full grid's evaluations that was not needed."""
        return 1 - self.evaluations / self.full_grid


def trace_boundary(
    predicate: Label, x, y, width: float = 1e-6, log: bool = False, undecided: int = UNDECIDED
) -> Boundary:
    """Every change of `predicate` along y, for every x, to intervals of the given width.

    x: 1-D, the parameter held. y: 1-D increasing, the coarse scan; two crossings between neighbours of the scan are
    missed. All brackets are bisected at once, in about log₂(spacing/width) calls. width: absolute, or with `log`
    relative, with geometric midpoints. undecided: the label that means so, beside NaN. A label met inside a bracket
    that is neither of its ends splits it in two, so an undecided zone is found with both its edges.

    Raises ValueError for a scan that is not increasing or too short, a width beyond float64, or labels of wrong shape.

    >>> found = trace_boundary(lambda x, y: y > x**2, x=[0.5, 0.75], y=[0.0, 1.0])
    >>> found.middle.round(5), found.status.tolist()
    (array([0.25  , 0.5625]), ['found', 'found'])
    """
    x, y = _axis("x", x, 1), _increasing("y", y, log)
    finest = 4 * np.finfo(float).eps * (1.0 if log else np.abs(y).max())
    if not finest <= width < np.inf:
        raise BadInput(f"width is {width:g}; it must be finite and at least {finest:.2g}, which float64 can resolve")
    label = _Counted(predicate, undecided)
    scan = label(*np.meshgrid(x, y, indexing="ij"))
    i, j = np.nonzero(scan[:, :-1] != scan[:, 1:])
    brackets = _Brackets(i, y[j], y[j + 1], scan[i, j], scan[i, j + 1])
    while (wide := _span(brackets.lower, brackets.upper, log) > width).any():
        kept, b = brackets.take(~wide), brackets.take(wide)
        middle = _middle(b.lower, b.upper, log)
        found = label(x[b.row], middle)
        is_before, is_after = found == b.before, found == b.after
        left = _Brackets(b.row, b.lower, middle, b.before, found).take(~is_before)
        right = _Brackets(b.row, middle, b.upper, found, b.after).take(~is_after)
        brackets = _join(kept, left, right)
    table, status = _table(brackets, scan, y)
    return Boundary(x[table.row], *table[1:], status=status, width=width, log=log, evaluations=label.count)


def refine(label: Label, x_edges, y_edges, levels: int, floor=0.0, undecided: int = UNDECIDED) -> Cells:
    """Split in four, up to `levels` times, every cell whose corners disagree, and no other; one call a level.

    x_edges, y_edges: 1-D increasing edges of the first cells. floor: no cell gets narrower than this in either
    direction; a number, or (in x, in y). A feature that lies inside a cell and touches none of its corners is missed.

    Raises ValueError for edges that are not increasing, levels outside 0…20, a negative floor, labels of wrong shape.

    >>> cells = refine(lambda x, y: x < 0.4, [0.0, 1.0], [0.0, 1.0], levels=1)
    >>> cells.x0.tolist(), cells.uniform.tolist()
    ([0.0, 0.0, 0.5, 0.5], [False, False, True, True])
    """
    edges = _increasing("x_edges", x_edges), _increasing("y_edges", y_edges)
    floor = np.broadcast_to(as_float64(floor, "floor"), (2,))
    if not 0 <= levels <= 20:
        raise BadInput(f"levels is {levels}; it must be from 0 to 20")
    if not (floor >= 0).all():
        raise BadInput(f"floor is {floor.min():g}; it must be at least 0")
    call = _Counted(label, undecided)
    # Corners are integers on the lattice of the finest possible level, so that shared ones are known to be the same.
    step = 2**levels
    rows = (edges[1].size - 1) * step + 1

    def at(axis, corner):
        return np.interp(corner / 2**levels, np.arange(edges[axis].size), edges[axis])

    i, j = (v.ravel() * step for v in np.meshgrid(*(np.arange(e.size - 1) for e in edges), indexing="ij"))
    keys, values, done = np.empty(0, np.int64), np.empty(0, np.int64), []
    for level in range(levels + 1):
        corners = np.stack([(i + di) * rows + j + dj for di in (0, step) for dj in (0, step)])
        new = np.setdiff1d(corners, keys)
        keys, values = np.append(keys, new), np.append(values, call(at(0, new // rows), at(1, new % rows)))
        order = np.argsort(keys)
        keys, values = keys[order], values[order]
        found = values[np.searchsorted(keys, corners)]
        uniform = (found == found[0]).all(axis=0)
        box = at(0, i), at(0, i + step), at(1, j), at(1, j + step)
        wide = (box[1] - box[0] >= 2 * floor[0]) & (box[3] - box[2] >= 2 * floor[1])
        split = ~uniform & wide & (level < levels)
        done.append([v[~split] for v in (*box, found[0], uniform, np.full(i.size, level))])
        if not split.any():
            break
        step //= 2
        i, j = (
            np.concatenate([v[split] + d * step for d in quarter])
            for v, quarter in ((i, (0, 0, 1, 1)), (j, (0, 1, 0, 1)))
        )
    full = [(e.size - 1) * 2**level + 1 for e in edges]
    return Cells(*map(np.concatenate, zip(*done)), evaluations=call.count, full_grid=full[0] * full[1])


class _Brackets(NamedTuple):
    """The label along y at x[row] is `before` at `lower` and `after` at `upper`: arrays of one length."""

    row: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def take(self, index) -> "_Brackets":
        return _Brackets(*(v[index] for v in self))


def _join(*brackets: _Brackets) -> _Brackets:
    """All of them, ordered by row and then y."""
    joined = _Brackets(*map(np.concatenate, zip(*brackets)))
    return joined.take(np.lexsort((joined.upper, joined.lower, joined.row)))


def _table(brackets: _Brackets, scan, y) -> tuple[_Brackets, np.ndarray]:
    """The rows of a `Boundary`: the edges of every undecided zone made one row, and a row where nothing changes."""
    starts, stops = (np.flatnonzero(scan[:, end] == UNDECIDED) for end in (0, -1))
    outside = [np.full(rows.size, _OUTSIDE) for rows in (starts, stops)]
    at = [np.full(starts.size, y[0]), np.full(stops.size, y[-1])]
    edges = _join(
        brackets,
        _Brackets(starts, at[0], at[0], outside[0], scan[starts, 0]),
        _Brackets(stops, at[1], at[1], scan[stops, -1], outside[1]),
    )
    opens, closes = edges.take(edges.after == UNDECIDED), edges.take(edges.before == UNDECIDED)
    before, after = (np.where(v == _OUTSIDE, UNDECIDED, v) for v in (opens.before, closes.after))
    zones = _Brackets(opens.row, opens.lower, closes.upper, before, after)
    found = edges.take((edges.after != UNDECIDED) & (edges.before != UNDECIDED))
    quiet = np.setdiff1d(np.arange(len(scan)), edges.row)
    ends = np.full(quiet.size, y[0]), np.full(quiet.size, y[-1])
    none = _Brackets(quiet, *ends, scan[quiet, 0], scan[quiet, -1])

    status = np.repeat(["found", "undecided", "none"], [v.row.size for v in (found, zones, none)])
    table = _Brackets(*map(np.concatenate, zip(found, zones, none)))
    order = np.lexsort((table.lower, table.row))
    return table.take(order), status[order]


class _Counted:
    """A label function whose answers are checked, turned into integers and counted."""

    def __init__(self, label: Label, undecided: int):
        self.label, self.undecided, self.count = label, undecided, 0

    def __call__(self, x, y) -> np.ndarray:
        values = as_float64(self.label(x, y), "the label")
        if values.shape != x.shape:
            raise BadInput(f"the labels have shape {values.shape}; they must have the points' shape {x.shape}")
        self.count += x.size
        values = np.where(np.isnan(values) | (values == self.undecided), UNDECIDED, values).astype(np.int64)
        if (values < UNDECIDED).any():
            raise BadInput(f"a label is {values.min()}; labels must be at least 0, or {UNDECIDED} for undecided")
        return values


def _span(lower, upper, log: bool):
    return upper / lower - 1 if log else upper - lower


def _middle(lower, upper, log: bool):
    return lower * np.sqrt(upper / lower) if log else lower + (upper - lower) / 2


def _axis(name: str, values, least: int) -> np.ndarray:
    values = as_float64(values, name)
    if values.ndim != 1 or values.size < least or not np.isfinite(values).all():
        raise BadInput(f"{name} must be a list of at least {least} finite numbers, and no NaN")
    return values


def _increasing(name: str, values, log: bool = False) -> np.ndarray:
    values = _axis(name, values, 2)
    if not (np.diff(values) > 0).all():
        raise BadInput(f"{name} must increase from each value to the next")
    if log and values[0] <= 0:
        raise BadInput(f"{name} starts at {values[0]:g}; a logarithmic axis must be above 0 throughout")
    return values
