"""Outcomes of any flow: what is asked of a state, and following every system until it is answered.

An outcome is a function of the end of a path and the hyperparameters to ALIVE, COLLAPSED or UNDECIDED. The proofs that
hold for one mode of the theory are such a function, `mode_outcome`; for a flow of one's own there is `threshold`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import scaled, scales
from stopgrad.linear_theory.simulation.fate import ALIVE, BUDGET, COLLAPSED, DIVERGED, FATES, UNDECIDED, decide
from stopgrad.linear_theory.simulation.runge_kutta import APART
from stopgrad.linear_theory.tools.arrays import as_float64, in_float64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items, with_values

_WINDOW = 25.0  # the first time at which an outcome is asked for; each further one takes twice as long
_QUICK = 2**13  # steps within which a window is followed; where that fails it is halved …
_LOSSES = 32  # … so many times, which reaches what blows up; then the methods for stiff systems are tried, …
_LAST = _LOSSES + 4  # … and so many times in all
_LOOSE = 100  # a window that is not quite resolved may miss the tolerance by this factor
_CHUNK = 2**15  # systems in one call of the integrator


class End(NamedTuple):
    """Where n systems are at time t, (n,), with state′ there: records of arrays (n, …).

    >>> from stopgrad.linear_theory import Mode
    >>> End(state=Mode([0.8], [0.6]), slope=Mode([0.0], [0.0]), t=[25.0]).state.p
    [0.8]
    """

    state: Any
    slope: Any
    t: Any


Outcome = Callable[[End, Any], np.ndarray]
"""(end, hyperparameters) → whole numbers of shape (n,), indices into `FATES`."""


@dataclass(frozen=True)
class Outcomes:
    """What became of every system; arrays of the batch's shape."""

    fate: np.ndarray
    """int8 index into `FATES`."""
    state: Any
    """The last state, of the initial state's type; where `fate` is diverged, one beyond all bounds."""
    t: np.ndarray
    """The time of that state."""
    error: np.ndarray
    """Estimated integration error, summed over the windows: absolute below one, relative above."""


def threshold(what: str | Callable, above: float, slow: float = 1e-6) -> Outcome:
    """An outcome: alive where a quantity of the settled state is above a threshold, else collapsed.

    what: a field of the state, or a function of the state to one number a system, (n,). slow: a state has settled where
    no field moves faster than this per unit of time (relative to fields larger than one) and a quantity above 0 and
    below the threshold does not grow at such a rate, as it does near an unstable rest; infinite: at any speed. What
    still moves is undecided.

    >>> from stopgrad.linear_theory import End, Mode
    >>> threshold("s", 0.01)(End(Mode([0.9, 0.1], [0.8, 1e-5]), Mode([0.0, 0.0], [0.0, -1e-8]), 100.0), None)
    array([0, 1], dtype=int8)
    """

    def quantity(state):
        if not callable(what) and what not in items(state):
            raise BadInput(f"the state has no field {what!r}; it has {', '.join(items(state))}")
        return as_float64(what(state) if callable(what) else items(state)[what], "the quantity")

    def outcome(end: End, h) -> np.ndarray:
        state, slope = in_float64(end.state), in_float64(end.slope)
        now, soon = quantity(state), quantity(type(state)(*(v + dv for v, dv in zip(state, slope))))
        moving = [np.abs(dv) > slow * np.maximum(np.abs(v), 1) for v, dv in zip(state, slope)]
        settled = ~np.any([v.reshape(*now.shape, -1).any(axis=-1) for v in moving], axis=0)
        with np.errstate(invalid="ignore"):  # infinitely slow, and nothing there
            growing = (now > 0) & (soon - now > slow * now)
        return np.select([settled & (now > above), settled & ~growing], [ALIVE, COLLAPSED], UNDECIDED).astype(np.int8)

    return outcome


def mode_outcome(end: End, h: Hyperparameters) -> np.ndarray:
    """The outcome of one mode (`Mode` or `EmaMode`), proved by the attractor's basin; see `fate.decide`.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode
    >>> mode_outcome(End(Mode(0.8, 0.64), None, None), Hyperparameters(sigma2=0.0, eta=0.16))
    array(0, dtype=int8)
    """
    unit = scales(h)
    p, s, *rest = end.state
    return decide(type(end.state)(p / unit.p, s / unit.s, *rest), scaled(h))


def follow(
    flow: Callable,
    start,
    h,
    outcome: Outcome,
    t_end: float | None = None,
    budget: float = BUDGET,
    tolerance: float = 1e-7,
    bound: float = 1e6,
    event_dims: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Outcomes:
    """Integrate state′ = flow(state, h) until the outcome is known; fields and hyperparameters broadcast.

    The outcome is asked for at time 25 and, where it is undecided, again and again after twice as long, up to `budget`;
    with `t_end` once, then. bound: a system of which a field is larger, or no number, has diverged. event_dims: as for
    `integrate`. progress: called with the share done, from 0 to 1.

    Raises ValueError for a start that is not finite, shapes that do not broadcast, and an outcome of a wrong kind.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode, mode_flow
    >>> found = follow(mode_flow, Mode(0.2, [0.03, 0.05]), Hyperparameters(sigma2=0.0, eta=0.16), threshold("s", 0.1))
    >>> found.fate, found.state.p.round(5)
    (array([1, 0], dtype=int8), array([0. , 0.8]))
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    kind, fields = type(start), in_float64(start)
    for name, v in items(fields).items():
        if not np.isfinite(v).all():
            raise BadInput(f"the initial {name} is not a finite number; give one")
    varied = {k: as_float64(v, k) for k, v in items(h).items() if not isinstance(v, int) and v is not None}

    def event(v):
        return v.shape[v.ndim - event_dims :] if event_dims else ()

    shapes = [v.shape[: v.ndim - event_dims] for v in (*fields, *varied.values()) if v.ndim > event_dims]
    shape = np.broadcast_shapes(*shapes)
    size = int(np.prod(shape))

    def flat(v):
        return np.broadcast_to(v, (*shape, *event(v))).reshape(size, *event(v))

    state = [flat(v).copy() for v in fields]
    flat_h = with_values(h, {k: flat(v) if v.ndim > event_dims else v for k, v in varied.items()})
    end, first = (budget, _WINDOW) if t_end is None else (t_end, t_end)
    fate, error, now = np.full(size, UNDECIDED, np.int8), np.zeros(size), np.zeros(size)
    window, steady, losses = np.full(size, min(first, end)), np.ones(size, bool), np.zeros(size, int)
    todo, compiled = np.arange(size), None
    while todo.size:
        kinds = todo[losses[todo] < _LOSSES], todo[losses[todo] >= _LOSSES]
        for part in (group[k : k + _CHUNK] for group in kinds for k in range(0, group.size, _CHUNK)):
            stubborn = losses[part[0]] >= _LOSSES
            begin, theory = kind(*(v[part] for v in state)), _rows(flat_h, part, event_dims)
            unit = window[part].reshape(-1, *(1,) * event_dims)
            most = None if stubborn else _QUICK
            found = integrate(
                flow, begin, theory, t=1.0, duration=unit, tolerance=tolerance, event_dims=event_dims,
                most_steps=most, compiled=compiled,
            )  # fmt: skip
            compiled = compiled or "C++" in found.engine or None  # once there is a program, it serves the few as well
            reached = found.error <= (APART if stubborn else _LOOSE * tolerance)
            moved, lost = part[reached], part[~reached]
            for whole, v in zip(state, found.state):
                whole[moved] = v[reached]
            now[moved] += window[moved]
            error[moved] += found.error[reached]
            window[moved] *= np.where(steady[moved], 2, 1)
            losses[lost] += 1
            window[lost] = np.where(losses[lost] == _LOSSES, first, window[lost] / 2)
            steady[moved], steady[lost] = True, False
            asked = moved if t_end is None else moved[now[moved] >= end]
            if asked.size:
                there = kind(*(v[asked] for v in state))
                fate[asked] = _asked(flow, outcome, there, _rows(flat_h, asked, event_dims), now[asked])
            fate[part[_beyond([v[part] for v in state], bound)]] = DIVERGED
        window[todo] = np.minimum(window[todo], end - now[todo])
        todo = todo[(fate[todo] == UNDECIDED) & (now[todo] < end) & (losses[todo] < _LAST)]
        if progress:
            progress(1 - todo.size / max(size, 1))
    last = kind(*(v.reshape((*shape, *v.shape[1:])) for v in state))
    return Outcomes(fate.reshape(shape), last, now.reshape(shape), error.reshape(shape))


def _rows(h, part, event_dims: int):
    """The hyperparameters of some of the systems."""
    return with_values(h, {k: v[part] for k, v in items(h).items() if np.ndim(v) > event_dims})


def _beyond(fields, bound: float):
    with np.errstate(invalid="ignore"):
        return ~np.all([(np.abs(v) <= bound).reshape(len(v), -1).all(axis=-1) for v in fields], axis=0)


def _asked(flow, outcome: Outcome, state, h, t) -> np.ndarray:
    """The outcome's answer, checked."""
    with np.errstate(all="ignore"):
        slope = type(state)(*(np.broadcast_to(dv, v.shape) for dv, v in zip(flow(state, h), state)))
        codes = np.asarray(outcome(End(state, slope, t), h))
    if codes.shape != t.shape or codes.dtype.kind not in "iu" or not np.isin(codes, range(len(FATES))).all():
        raise BadInput(
            f"the outcome gave {codes.dtype} of shape {codes.shape}; it must give whole numbers from 0 to "
            f"{len(FATES) - 1} ({', '.join(FATES)}) of shape {t.shape}"
        )
    return codes
