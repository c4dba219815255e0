"""Simulated fates: every mode is integrated until it is deep inside the basin of one attractor, and then until it is near.

Time is infinite here: no horizon is chosen, only a budget. All problems are integrated in scaled units (`mode_flow.
scales`), so that one budget, one tolerance and one notion of nearness serve every parameter. Windows of time double in
length, and only what has not arrived goes on.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from linear_theory.alignment import alignment_operator_mode
from linear_theory.basin import outcome_without_decay
from linear_theory.fixed_points import fixed_points
from linear_theory.hyperparameters import Hyperparameters
from linear_theory.integrate import integrate, worth_compiling
from linear_theory.mode_flow import (
    BalancedMode,
    EmaMode,
    Mode,
    balance,
    balanced_mode_flow,
    ema_mode_flow,
    mode_flow,
    mode_of,
    scaled,
    scales,
)

FATES = ("alive", "collapsed", "undecided", "diverged")
ALIVE, COLLAPSED, UNDECIDED, DIVERGED = range(4)
BUDGET = 12_775.0  # nine doubling windows from 25, in units of a/(xτ²)
NEAR = 0.01  # 'converged': within this share of τ/a of the limit, in p and in √(α_p s/x)
_WINDOW, _OUTPUTS = 25.0, 16
_CHUNK = 2**16


@dataclass(frozen=True)
class Fates:
    """What became of every mode; arrays of one shape."""

    fate: np.ndarray
    """int8 index into `FATES`."""
    p: np.ndarray
    s: np.ndarray
    """The limit the mode was seen to approach; where undecided, its last simulated state."""
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
    """
    h = h.validate()
    if (h.beta is not None) != isinstance(start, EmaMode):
        raise ValueError("a moving target needs beta and an EmaMode to start from, a fixed one neither")
    fields = [np.asarray(v, dtype=float) for v in start]
    if any(np.isnan(v).any() for v in fields) or np.any(fields[1] < 0):
        raise ValueError("the initial p or s is NaN or s is negative; s must be at least 0")
    given = [v for v in vars(h).values() if v is not None]
    shape = np.broadcast_shapes(*(v.shape for v in [*fields, *given]))

    def flat(v):
        return np.broadcast_to(v, shape).reshape(-1)

    fields, h, size = [flat(v) for v in fields], h.map(flat), int(np.prod(shape))
    solve = functools.partial(integrate, tolerance=tolerance, compiled=worth_compiling(size))
    parts = []
    for first in range(0, max(size, 1), _CHUNK):
        part = slice(first, first + _CHUNK)
        parts.append(
            _follow(type(start)(*(v[part] for v in fields)), h.map(lambda v, part=part: v[part]), budget, solve)
        )
        if progress:
            progress(min(1.0, (first + _CHUNK) / max(size, 1)))
    return Fates(*(np.concatenate([getattr(p, name) for p in parts]).reshape(shape) for name in Fates.__annotations__))


def decide(state: Mode | EmaMode, hat: Hyperparameters) -> np.ndarray:
    """The fate of a state in scaled units: alive or collapsed where it is certain, undecided elsewhere.

    For η_p = η and fixed τ both are proofs. Alive: ½ ≤ p ≤ 1 and s at least that of the parabola at ½, which lies in
    the invariant upper corner of the saddle. Collapsed: p and s below half of p₋ and a quarter of s₋, in its invariant
    lower corner; or p ≤ 0 on or below the parabola, which p < 0 can never leave. At η = 0 the conserved balance tells.
    With η_p ≠ η the same boxes serve, and with an EMA a neighbourhood of either attractor.
    """
    p, s = state[:2]
    eta, eta_p = hat.eta, hat.predictor_decay
    points = fixed_points(hat.replace(beta=None))
    missing = np.isnan(points.p_minus)
    p_minus = np.where(missing, 0.25, points.p_minus)
    s_minus = np.where(missing, 1 / 16, points.s_minus)
    ratio = np.divide(eta_p, eta, out=np.ones_like(eta), where=eta > 0)
    c = balance(Mode(p, s), hat)

    if isinstance(state, EmaMode):
        width = 0.1 * (points.p_plus - points.p_minus)
        near = [np.abs(v - at) <= width for v, at in ((p, points.p_plus), (s, points.s_plus), (state.tau, 1.0))]
        alive = np.all(near, axis=0)
        collapsed = (s <= s_minus / 100) & (np.abs(p) <= p_minus / 4) & (p * state.tau <= eta / 2)
    else:
        alive = (p >= 0.5) & (p <= 1) & (s >= ratio / 4) & ~missing & (ratio > 0)
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
    points = fixed_points(hat.replace(beta=None))
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


def _follow(start, h: Hyperparameters, budget, solve) -> Fates:
    """One chunk, flat: windows of doubling length until every mode has arrived or the budget is spent."""
    unit, hat = scales(h), scaled(h)
    state = type(start)(start.p / unit.p, start.s / unit.s, *start[2:])
    limits = _limits(state, hat)
    size = state.p.size
    fate = decide(state, hat)
    lowest_K = _operator(state, h, unit)
    error = np.zeros(size)
    crossed = np.zeros((2, size))  # when the mode last came near each limit
    distance = np.stack([_distance(state, limit) for limit in limits])
    last = Mode(state.p.copy(), state.s.copy())
    todo = np.flatnonzero(~_arrived(fate, distance))
    fields = [v[todo] for v in state]
    now, window = 0.0, _WINDOW
    while len(todo) and now < budget * (1 - 1e-9):
        here = hat.map(lambda v, todo=todo: v[todo] if np.ndim(v) else v)
        times = np.linspace(0, window, _OUTPUTS + 1)[1:]
        path, gap = _path(solve, type(start)(*fields), here, times)
        end = type(start)(*(v[-1] for v in path))
        error[todo] += gap
        fate[todo] = np.where(fate[todo] == UNDECIDED, decide(end, here), fate[todo])
        lowest_K[todo] = np.fmin(lowest_K[todo], np.min(_operator(path, h.map(lambda v: v[todo]), unit, todo), axis=0))
        for k, limit in enumerate(limits):
            track = np.vstack([distance[k, todo], _distance(path, Mode(limit.p[todo], limit.s[todo]))])
            crossed[k, todo] = _last_crossing(track, np.concatenate([[0.0], times]) + now, crossed[k, todo])
            distance[k, todo] = track[-1]
        last.p[todo], last.s[todo] = end.p, end.s
        go_on = ~_arrived(fate[todo], distance[:, todo]) & np.isfinite(end.p)
        todo, fields = todo[go_on], [v[go_on] for v in end]
        now, window = now + window, 2 * window

    decided = fate <= COLLAPSED
    pick = np.where(fate == COLLAPSED, 1, 0)[None]
    limit_p, limit_s, time = (
        np.take_along_axis(np.stack(pair), pick, 0)[0]
        for pair in ((limits[0].p, limits[1].p), (limits[0].s, limits[1].s), crossed)
    )
    arrived = _arrived(fate, distance)
    known = decided & np.isfinite(limit_p)
    return Fates(
        fate=fate,
        p=np.where(known, limit_p, last.p) * unit.p,
        s=np.where(known & np.isfinite(limit_s), limit_s, last.s) * unit.s,
        time_to_converge=np.where(arrived, time, np.nan) * unit.time,
        lowest_K=lowest_K,
        error=error,
    )


def _path(solve, state, hat: Hyperparameters, times):
    """Path at `times`, fields (times, modes), and the estimated error; one equation fewer where the balance allows."""
    if isinstance(state, EmaMode):
        done = solve(ema_mode_flow, state, hat, t=times)
        return done.state, done.error
    if np.array_equal(hat.eta, hat.eta_p):
        begin = BalancedMode(state.p, balance(state, hat))
        hat = hat.replace(eta_p=None)
        done = solve(balanced_mode_flow, begin, hat, t=times, decays={"c": 2 * hat.eta})
        path = mode_of(done.state, hat)
        return Mode(path.p, np.maximum(path.s, 0.0)), done.error
    done = solve(mode_flow, state, hat, t=times)
    return done.state, done.error


def _operator(state, h: Hyperparameters, unit, chosen=slice(None)):
    """K on the mode, in the units of h; NaN with an EMA, whose τ is no constant of Theorem 3."""
    if h.beta is not None:
        return np.full(np.shape(state[0]), np.nan)
    return alignment_operator_mode(Mode(state.p * unit.p[chosen], state.s * unit.s[chosen]), h)


def _distance(state, limit: Mode):
    """Distance to the limit in p and in √s, both in units of τ/a; infinite where the limit does not exist."""
    with np.errstate(invalid="ignore"):
        gap = np.maximum(np.abs(state[0] - limit.p), np.abs(np.sqrt(np.maximum(state[1], 0)) - np.sqrt(limit.s)))
    return np.where(np.isnan(gap), np.inf, gap)


def _arrived(fate, distance):
    near = distance <= NEAR
    return np.select([fate == ALIVE, fate == COLLAPSED], near, False)


def _last_crossing(distance, times, before):
    """When `distance` (times, modes) last fell to NEAR: log-linear between outputs; `before` if it was never above."""
    far = distance > NEAR
    index = np.where(far.any(axis=0), len(times) - 1 - np.argmax(far[::-1], axis=0), -1)
    inner = np.clip(index, 0, len(times) - 2)
    column = np.arange(distance.shape[1])
    d0, d1 = distance[inner, column], distance[inner + 1, column]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(d0 / NEAR) / np.log(d0 / np.maximum(d1, 1e-300))
    share = np.where(np.isfinite(share), np.clip(share, 0, 1), 1.0)
    crossing = times[inner] + share * (times[inner + 1] - times[inner])
    return np.where(index < 0, before, np.where(index == len(times) - 1, np.inf, crossing))
