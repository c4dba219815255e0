"""Simulated fates: every mode is integrated until it is deep inside one attractor's basin, and then until it is near.

Time is infinite here: no horizon is chosen, only a budget. All problems are integrated in scaled units (`mode_flow.
scales`), so that one budget, one tolerance and one notion of nearness serve every parameter. Windows of time double in
length, and only what has not arrived goes on.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stopgrad.linear_theory.exact.basin import lives_for_certain, outcome_without_decay
from stopgrad.linear_theory.exact.fixed_points import rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, balance, mode_flow, scaled, scales
from stopgrad.linear_theory.simulation.runge_kutta import APART
from stopgrad.linear_theory.simulation.trajectory import check_start, solve, trajectory
from stopgrad.linear_theory.spectra.alignment import alignment_operator_mode

FATES = ("alive", "collapsed", "undecided", "diverged")
ALIVE, COLLAPSED, UNDECIDED, DIVERGED = range(4)
BUDGET = 12_775.0  # nine doubling windows from 25, in units of a/(xτ²)
NEAR = 0.01  # 'converged': within this share of τ/a of the limit, in p and in √(α_p s/x)
_LOST = 1e-6  # of s's unit: what fell lower and came back is followed once more, in ln s
_WINDOW, _OUTPUTS = 25.0, 8
_CHUNK = 2**15  # modes in one call of the integrator
_BATCH = 2**17  # modes followed together: bounds the memory


@dataclass(frozen=True)
class Fates:
    """What became of every mode; arrays of one shape."""

    fate: np.ndarray
    """int8 index into `FATES`."""
    p: np.ndarray
    s: np.ndarray
    """The limit the mode was seen to approach; where undecided, its last simulated state, NaN if it was lost."""
    time_to_converge: np.ndarray
    """Time after which the mode stays within `NEAR` of its limit, interpolated; NaN if not within the budget."""
    lowest_K: np.ndarray
    """Smallest alignment operator K (Theorem 3, on the mode) met at the output times; NaN with an EMA."""
    error: np.ndarray
    """Estimated integration error in p and s, summed over the windows, relative to τ/a and s's unit."""


def simulate(
    start: Mode | EmaMode,
    h: Hyperparameters,
    budget: float = BUDGET,
    tolerance: float = 1e-7,
    progress: Callable[[float], None] | None = None,
) -> Fates:
    """Integrate every mode until its fate is certain and its limit near; fields and hyperparameters broadcast.

    With `h.beta` the start is an EmaMode and its τ moves; else a Mode and τ is fixed. budget: longest time, in units
    of a/(xτ²). progress: called with the share done, from 0 to 1.

    Raises ValueError for NaN, s < 0 or hyperparameters out of range.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode
    >>> simulate(Mode(0.2, [0.03, 0.05]), Hyperparameters(sigma2=0.0, eta=0.16)).fate  # alive is 0, collapsed 1
    array([1, 0], dtype=int8)
    """

    h = h.validate()
    fields = check_start(start, h)
    given = [v for v in vars(h).values() if v is not None]
    shape = np.broadcast_shapes(*(v.shape for v in [*fields, *given]))

    def flat(v):
        return np.broadcast_to(v, shape).reshape(-1)

    def flat_if_varied(v):  # what all modes share stays a number and costs no memory
        return flat(v) if v.ndim else v

    size = int(np.prod(shape))
    integrate = functools.partial(solve, tolerance=tolerance, compiled=size > 1 or None)  # so many windows are worth it
    fields, h, parts = [flat(v) for v in fields], h.map(flat_if_varied), []
    for first in range(0, max(size, 1), _BATCH):
        part = slice(first, first + _BATCH)

        def report(share, first=first):
            if progress:
                progress(min(1.0, (first + share * _BATCH) / max(size, 1)))

        parts.append(_follow(type(start)(*(v[part] for v in fields)), _rows(h, part), budget, integrate, report))
    *found, lowest = (np.concatenate(field) for field in zip(*parts))
    if h.beta is None and (lost := np.flatnonzero((found[0] == ALIVE) & (lowest < _LOST) & _dives(scaled(h)))).size:
        again = _in_logarithms(Mode(*(v[lost] for v in fields)), _rows(h.map(flat), lost), budget)
        for field, values in zip(found, vars(again).values()):
            field[lost] = values
    return Fates(*(field.reshape(shape) for field in found))


def at_time(start: Mode | EmaMode, h: Hyperparameters, t_end, tolerance: float = 1e-7, progress=None) -> Fates:
    """Every mode at the time t_end: its state, its fate if that is already certain, and when it came near its limit.

    Arguments and errors as in `simulate`; `p` and `s` are the state at t_end, not the limit.
    """

    h = h.validate()
    fields = check_start(start, h)
    shape = np.broadcast_shapes(*(v.shape for v in [*fields, *(v for v in vars(h).values() if v is not None)]))
    size, parts = int(np.prod(shape)), []
    fields = [np.broadcast_to(v, shape).reshape(-1) for v in fields]
    h = h.map(lambda v: np.broadcast_to(v, shape).reshape(-1) if v.ndim else v)
    times = np.linspace(0, t_end, 17)[1:] if t_end > 0 else np.zeros(1)
    for first in range(0, size, _CHUNK):
        part = slice(first, first + _CHUNK)
        begin, here = type(start)(*(v[part] for v in fields)), _rows(h, part)
        found = trajectory(begin, here, times, tolerance=tolerance, compiled=size > 1 or None)
        parts.append(list(vars(judge(begin, found.state, times[:, None], here, found.error)).values()))
        if progress:
            progress(min(1.0, (first + _CHUNK) / size))
    return Fates(*(np.concatenate(field).reshape(shape) for field in zip(*parts)))


def _dives(hat: Hyperparameters) -> np.ndarray:
    """Where s may fall by tens of decades and rise again, since p decays far more slowly, so that what came back may be
    rounding: where the separatrix may turn back (`basin.critical_s0`)."""
    eta, eta_p = hat.eta, hat.predictor_decay
    return (eta > 0.2) & (eta <= 0.25) & (eta_p < 0.35 * eta) & (eta_p > 0)


def _in_logarithms(start: Mode, h: Hyperparameters, budget) -> Fates:
    """Fates by integrating p and ln s of one mode (s > 0) after the other, to the budget or for 30/η_p if longer."""
    from scipy.integrate import solve_ivp

    unit, found = scales(h), []
    for k in range(start.p.size):
        one, p, s = h.map(lambda v, k=k: float(v[k])), float(start.p[k]), float(start.s[k])
        end = max(budget * unit.time[k], 30 / one.predictor_decay)
        times = np.geomspace(end / 1e5, end, 4000)

        def slope(_, y, one=one):
            move = mode_flow(Mode(y[0], math.exp(min(y[1], 700.0))), one)
            return [move.p, 2 * (one.x * y[0] * (one.tau - one.a * y[0]) - one.eta)]  # s may be 0 to rounding

        found_p, logarithms = solve_ivp(slope, (0, end), (p, math.log(s)), "LSODA", times, rtol=1e-9, atol=1e-9).y
        begin, path = Mode(np.array([p]), np.array([s])), Mode(found_p[:, None], np.exp(logarithms)[:, None])
        found.append(judge(begin, path, times[: len(path.p), None], _rows(h, slice(k, k + 1)), 1e-7))
    return Fates(*(np.concatenate([getattr(one, name) for one in found]) for name in vars(found[0])))


def judge(start, path, times, h: Hyperparameters, error=0.0) -> Fates:
    """`Fates` read off a path whose fields are (times, modes), from `start`; times: (times, 1) or (times, modes)."""
    unit, hat = scales(h), scaled(h)
    begin, seen = (type(start)(v[0] / unit.p, v[1] / unit.s, *v[2:]) for v in (start, path))
    end = type(start)(*(v[-1] for v in seen))
    fate = np.broadcast_to(decide(end, hat), begin.p.shape).copy()
    limits = _limits(begin, hat)
    clock = np.broadcast_to(np.vstack([np.zeros((1, times.shape[1])), times]), (len(times) + 1, begin.p.size))
    track = [np.vstack([_distance(begin, at)[None], _distance(seen, at)]) for at in limits]
    crossed = np.stack([_last_crossing(d, clock, np.zeros(begin.p.size)) for d in track])
    time = np.where(fate == COLLAPSED, crossed[1], crossed[0])
    arrived = _arrived(fate, np.stack([d[-1] for d in track]))
    K = np.fmin(_operator(begin, h, unit), _operator(seen, h, unit).min(axis=0))
    return Fates(fate, path[0][-1], path[1][-1], np.where(arrived, time, np.nan), K, np.broadcast_to(error, fate.shape))


def decide(state: Mode | EmaMode, hat: Hyperparameters) -> np.ndarray:
    """The fate of a state in scaled units: alive or collapsed where it is certain, undecided elsewhere.

    Collapsed is proved: p and s below half of p₋ and a quarter of s₋, in the invariant lower corner of the saddle; or,
    for η_p = η, p ≤ 0 on or below the parabola, which p < 0 can never leave. So is alive for η_p = η with p ≥ ½ on or
    above the parabola, where p cannot fall to p₋, and for any η_p what `basin.lives_for_certain` has. At η = 0 the
    conserved balance tells. Alive is ½ ≤ p ≤ 1 with s at least that of the parabola at ½ too, where no separatrix
    enters there (η at most 0.8 η_c, `basin.critical_s0`); with an EMA a neighbourhood of either attractor.
    """
    p, s = state[:2]
    eta, eta_p = hat.eta, hat.predictor_decay
    points = rest_points(hat)
    missing = np.isnan(points.p_minus)
    p_minus = np.where(missing, 0.25, points.p_minus)
    s_minus = np.where(missing, 1 / 16, points.s_minus)
    ratio = np.divide(eta_p, eta, out=np.ones(np.shape(eta + eta_p)), where=eta > 0)
    c = balance(Mode(p, s), hat)

    if isinstance(state, EmaMode):
        width = 0.1 * (points.p_plus - points.p_minus)
        near = [np.abs(v - at) <= width for v, at in ((p, points.p_plus), (s, points.s_plus), (state.tau, 1.0))]
        alive = np.all(near, axis=0)
        target = np.nan_to_num(state.tau) ** 2 * s  # w_a², which must have gone too
        collapsed = (s <= s_minus / 100) & (target <= s_minus / 100) & (np.abs(p) <= p_minus / 4)
    else:
        alive = (p >= 0.5) & (p <= 1) & (s >= ratio / 4) & (eta <= 0.2)
        alive |= (p >= 0.5) & (c >= 0) & (eta_p == eta)
        alive |= lives_for_certain(state, hat)
        alive &= ~missing & (ratio > 0)
        collapsed = (p <= p_minus / 2) & (s <= s_minus / 4)
        collapsed |= (eta_p == eta) & (p <= 0) & (c <= 0)
        collapsed |= (eta > 0) & (eta_p == 0) & (s < 1e-9) & (p * (1 - p) < 0.9 * eta)
    free = (eta == 0) & (eta_p == 0)  # no decay: s only grows for 0 < p ≤ 1
    if not isinstance(state, EmaMode):
        alive = np.where(eta == 0, (p > 0) & (p <= 1) & (s > 0), alive)
        collapsed = np.where(free, ((p <= 0) & (c <= 0)) | ((p > 1) & (1 + c <= 0)), collapsed & (eta > 0))
    return np.select([s == 0, alive, collapsed], [COLLAPSED, ALIVE, COLLAPSED], UNDECIDED).astype(np.int8)


def _limits(start, hat: Hyperparameters):
    """The two possible limits of every mode in scaled units: ((p, s) if alive, (p, s) if collapsed)."""
    points = rest_points(hat)
    still = (hat.eta == 0) & (hat.predictor_decay == 0)
    rest = outcome_without_decay(Mode(start.p, start.s), hat)
    growing = (hat.eta == 0) & ~still  # s grows without bound and draws p to τ/a
    alive = Mode(
        np.select([still, growing], [rest.p, 1.0], points.p_plus),
        np.select([still, growing], [rest.s, np.inf], points.s_plus),
    )
    line = (start.s == 0) & (hat.predictor_decay == 0)  # s = 0 and no decay: p stays where it is
    collapsed_p = np.select([line, still], [start.p, rest.p], np.where(hat.predictor_decay > 0, 0.0, np.nan))
    return alive, Mode(collapsed_p, np.zeros_like(start.s))


def _follow(start, h: Hyperparameters, budget, integrate, progress) -> list[np.ndarray]:
    """The fields of `Fates` for flat arrays, and the lowest s in its unit: windows of doubling length until all arrived
    or the budget is spent."""
    kind, unit, hat = type(start), scales(h), scaled(h)
    state = kind(start.p / unit.p, start.s / unit.s, *start[2:])
    limits = _limits(state, hat)
    fate, lowest_K, error = decide(state, hat), _operator(state, h, unit), np.zeros(state.p.size)
    distance = np.stack([_distance(state, limit) for limit in limits])
    crossed = np.zeros_like(distance)  # when the mode last came near each limit
    last, lowest_s = np.stack(state), state.s.copy()
    now, window = 0.0, _WINDOW
    todo = np.flatnonzero(~_finished(fate, distance))
    while len(todo) and now < budget * (1 - 1e-9):
        times = np.linspace(0, window, _OUTPUTS + 1)
        for first in range(0, len(todo), _CHUNK):
            part = todo[first : first + _CHUNK]
            here, theory = _rows(hat, part), _rows(h, part)
            found = integrate(kind(*last[:, part]), here, times[1:])
            path = kind(*(np.where(found.error <= APART, v, np.nan) for v in found.state))  # else it says nothing
            last[:, part] = end = [v[-1] for v in path]
            error[part] += found.error
            fate[part] = np.where(fate[part] == UNDECIDED, decide(kind(*end), here), fate[part])
            lowest_s[part] = np.fmin(lowest_s[part], path[1].min(axis=0))
            lowest_K[part] = np.fmin(lowest_K[part], _operator(path, theory, scales(theory)).min(axis=0))
            for k, limit in enumerate(limits):
                track = np.vstack([distance[k, part], _distance(path, Mode(limit.p[part], limit.s[part]))])
                crossed[k, part] = _last_crossing(track, times + now, crossed[k, part])
                distance[k, part] = track[-1]
        todo = todo[~_finished(fate[todo], distance[:, todo]) & np.isfinite(last[0, todo])]
        now, window = now + window, 2 * window
        progress(1 - len(todo) / state.p.size)
    progress(1.0)

    def of_fate(alive, collapsed):
        return np.where(fate == COLLAPSED, collapsed, alive)

    p, s, time = (of_fate(*pair) for pair in (*zip(*limits), crossed))
    decided = fate != UNDECIDED
    return [
        fate,
        np.where(decided & np.isfinite(p), p, last[0]) * unit.p,
        np.where(decided & np.isfinite(s), s, last[1]) * unit.s,
        np.where(_arrived(fate, distance), time, np.nan) * unit.time,
        lowest_K,
        error,
        lowest_s,
    ]


def _rows(h: Hyperparameters, chosen) -> Hyperparameters:
    return h.map(lambda v: v[chosen] if np.ndim(v) else v)


def _operator(state, h: Hyperparameters, unit):
    """K on the mode, in the units of h; NaN with an EMA, whose τ is no constant of Theorem 3."""
    if h.beta is not None:
        return np.full(np.shape(state[0]), np.nan)
    return alignment_operator_mode(Mode(state.p * unit.p, state.s * unit.s), h)


def _distance(state, limit: Mode):
    """Distance to the limit in p and in √s, both in units of τ/a; infinite where the limit does not exist."""
    with np.errstate(invalid="ignore"):
        gap = np.maximum(np.abs(state[0] - limit.p), np.abs(np.sqrt(np.maximum(state[1], 0)) - np.sqrt(limit.s)))
    return np.where(np.isnan(gap), np.inf, gap)


def _arrived(fate, distance):
    near = distance <= NEAR
    return np.select([fate == ALIVE, fate == COLLAPSED], near, False)


def _finished(fate, distance):
    """Arrived, or certain to survive without a limit (s grows for ever at η = 0 < η_p): nothing more to see."""
    return _arrived(fate, distance) | ((fate == ALIVE) & np.isinf(distance[0]))


def _last_crossing(distance, times, before):
    """When `distance` (times, modes) last fell to NEAR: log-linear between outputs; `before` if it was never above."""
    far = distance > NEAR
    last = len(distance) - 1
    index = np.where(far.any(axis=0), last - np.argmax(far[::-1], axis=0), -1)
    inner = np.clip(index, 0, last - 1)
    column = np.arange(distance.shape[1])
    d0, d1 = distance[inner, column], distance[inner + 1, column]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(d0 / NEAR) / np.log(d0 / np.maximum(d1, 1e-300))
    share = np.where(np.isfinite(share), np.clip(share, 0, 1), 1.0)
    times = np.broadcast_to(times.reshape(len(times), -1), distance.shape)
    crossing = times[inner, column] + share * (times[inner + 1, column] - times[inner, column])
    return np.where(index < 0, before, np.where(index == last, np.inf, crossing))
