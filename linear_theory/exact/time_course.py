"""Exact time course on the invariant parabola s = x p²/α_p (Eq. 16): the time t(p) and its inverse p(t).

With w = 1/p the flow separates into dt = w dw/(x Q(w)), Q(w) = e w² − τ w + a, e = η/x: regular as η → 0, where the
textbook partial fractions in p lose all digits. Three readings of the same integral cover the plane, each where it
loses nothing: a quadrature where |w| is small against the roots 1/p± of Q (there the logarithms cancel), partial
fractions where the roots lie far apart, and an atanh/atan form through the critical weight decay, where they merge.
"""

from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import discriminant
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

REACHED, ASYMPTOTIC, NEVER = "reached", "asymptotic", "never"
_LATEST = 700.0  # in units of `_approach`: e^{−u} is then at the end of the floats, and p as good as at its limit
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


class Passage(NamedTuple):
    """`time` from start to end (infinite unless reached) and `status`: reached, asymptotic (a limit), or never."""

    time: np.ndarray
    status: np.ndarray


class _Cubic(NamedTuple):
    """p′/x = −a p(p − p₋)(p − p₊): its constants, with e = η/x; p± are NaN where the discriminant d2 < 0."""

    e: np.ndarray
    a: np.ndarray
    tau: np.ndarray
    d2: np.ndarray
    p_minus: np.ndarray
    p_plus: np.ndarray


def limit(p_start, h: Hyperparameters) -> np.ndarray:
    """p(∞) on the parabola from `p_start`: p₊ from above p₋, else 0; a fixed point stays. Broadcasts.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> limit([0.1, 0.3], Hyperparameters(sigma2=0.0, eta=0.16)).round(12)  # p₋ = 0.2 parts them
    array([0. , 0.8])
    """
    p, h = _prepare(h, p_start)
    return _limit(p, _cubic(h))


def time_between(p_start, p_end, h: Hyperparameters) -> Passage:
    """Time for p to go from `p_start` to `p_end` on the parabola, exactly; every argument broadcasts.

    Needs τ fixed and η_p = η. Relative error 1e-9 where η is off η_c and both ends are off p± by 1e-6 (relative);
    nearer, that of an ulp of the input.

    Raises ValueError for NaN, infinities or hyperparameters out of range.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> h = Hyperparameters(sigma2=0.0, eta=0.0)
    >>> time_between(0.5, 0.75, h).time.round(9)  # ∫ dp / p²(1 − p) = [ln(p/(1 − p)) − 1/p] = ln 3 + 2/3
    np.float64(1.765278955)
    """
    start, end, h = _prepare(h, p_start, p_end)
    cubic = _cubic(h)
    final = _limit(start, cubic)
    between = (start != final) & (np.minimum(start, final) < end) & (end < np.maximum(start, final))
    status = np.select([between | (end == start), end == final], [REACHED, ASYMPTOTIC], NEVER)
    time = np.where(end == start, 0.0, np.inf)
    if between.any():
        inside = _Cubic(*(v[between] for v in cubic))
        time[between] = _integral(start[between], end[between], inside) / h.x[between]
    return Passage(time, status)


def position(p_start, t, h: Hyperparameters) -> np.ndarray:
    """p(t) on the parabola from `p_start`: the inverse of `time_between`; every argument broadcasts.

    Raises ValueError for t < 0, NaN, infinities (see `limit`) or hyperparameters out of range.

    >>> from stopgrad.linear_theory import Hyperparameters, time_between
    >>> h = Hyperparameters(sigma2=0.0, eta=0.0)
    >>> position(0.5, time_between(0.5, 0.75, h).time, h).round(9)
    np.float64(0.75)
    """
    start, t, h = _prepare(h, p_start, t)
    if np.any(t < 0):
        raise BadInput(f"t is {t[t < 0].flat[0]:g}; it must be at least 0")
    cubic = _cubic(h)
    final = _limit(start, cubic)
    moving = (start != final) & (t > 0)
    result = start.copy()
    if moving.any():
        from scipy.optimize import elementwise  # here, since `time_between` needs no SciPy

        args = (start[moving], final[moving], (t * h.x)[moving], *(v[moving] for v in cubic))
        bracket = (np.zeros(args[0].shape), np.full(args[0].shape, _LATEST))
        found = elementwise.find_root(
            _lateness, bracket, args=args, tolerances={"xrtol": 1e-15, "xatol": 0, "frtol": 0, "fatol": 0}
        )
        result[moving] = _approach(found.x, *args[:2])
    return result


def _approach(u, start, final):
    """The point between start (u = 0) and limit (u = ∞) whose distance to the limit has shrunk by e^{−u}."""
    return final + (start - final) * np.exp(-u)


def _lateness(u, start, final, t, *cubic):
    """(t(p) − t)/(t(p) + t) at p = `_approach(u)`: −1 at the start, 1 at the limit, 0 at the sought p."""
    p = _approach(u, start, final)
    arrived, unmoved = (p == final) | (u == _LATEST), p == start
    inner = np.where(arrived | unmoved, (start + final) / 2, p)
    inner = np.where(inner == 0, start, inner)
    time = np.where(unmoved, 0.0, _integral(start, inner, _Cubic(*cubic)))
    late = arrived | ~np.isfinite(time)
    return np.where(late, 1.0, (np.where(late, 0.0, time) - t) / (np.where(late, 0.0, time) + t))


def _prepare(h: Hyperparameters, *values):
    """The values and the hyperparameters, validated and broadcast to one shape; refuses what Eq. 16 does not cover."""
    h = h.validate()
    if h.beta is not None:
        raise BadInput("beta is given; the closed time course needs a fixed tau, so leave beta out")
    if np.any(h.predictor_decay != h.eta):
        raise BadInput("eta_p differs from eta; the parabola is invariant only where they are equal")
    values = [as_float64(v, "p or t") for v in values]
    if not all(np.isfinite(v).all() for v in values):
        raise BadInput("p or t is NaN or infinite; give finite numbers")
    fields = [h.sigma2, h.eta, h.tau, h.alpha_p, h.x]
    shape = np.broadcast_shapes(*(np.shape(v) for v in values + fields))
    h = h.map(lambda v: np.broadcast_to(v, shape))
    return *(np.array(np.broadcast_to(v, shape)) for v in values), h


def _cubic(h: Hyperparameters) -> _Cubic:
    d2 = discriminant(h)
    d = np.sqrt(np.where(d2 >= 0, d2, np.nan))
    return _Cubic(h.eta / h.x, h.a, h.tau, d2, 2 * (h.eta / h.x) / (h.tau + d), (h.tau + d) / (2 * h.a))


def _limit(p, cubic: _Cubic):
    return np.select([p == cubic.p_minus, p > cubic.p_minus], [cubic.p_minus, cubic.p_plus], 0.0)


def _integral(start, end, cubic: _Cubic):
    """∫ w dw/Q from w = 1/start to 1/end, which lie on one side of every root and of 0. All arrays of one shape."""
    modulus = np.sqrt(np.divide(cubic.a, cubic.e, out=np.full_like(cubic.a, np.inf), where=cubic.d2 < 0))
    radius = np.where(cubic.d2 >= 0, 1 / cubic.p_plus, modulus) / 2
    w0, w1 = 1 / start, 1 / end

    near0, near1 = np.clip(w0, -radius, radius), np.clip(w1, -radius, radius)
    far0 = np.where(np.abs(w0) < radius, np.sign(w0) / radius, start)  # as p, so that p − p± keeps its digits
    far1 = np.where(np.abs(w1) < radius, np.sign(w1) / radius, end)
    apart = cubic.d2 > cubic.tau**2 / 2
    far = np.where(apart, _partial_fractions(far0, far1, cubic), _through_critical(far0, far1, cubic))
    return _quadrature(near0, near1, cubic) + far


def _quadrature(w0, w1, c: _Cubic):
    """Gauss–Legendre where every root is at least twice as far as the path: 20 nodes are exact to rounding."""
    half, middle = (w1 - w0) / 2, (w1 + w0) / 2
    total = np.zeros_like(w0)
    for node, weight in zip(_NODES, _WEIGHTS):
        w = middle + half * node
        total += weight * w / (c.a - w * (c.tau - c.e * w))
    return half * total


def _log_ratio(end, start, change):
    """ln(end/start) with change = end − start known without cancellation."""
    relative = change / start
    small = np.abs(relative) < 0.5
    return np.where(small, np.log1p(np.where(small, relative, 0.0)), np.log(np.abs(np.where(small, 1.0, end / start))))


def _partial_fractions(p0, p1, c: _Cubic):
    """[w₋ ln((w₋ − w₁)/(w₋ − w₀)) − w₊ ln((w₁ − w₊)/(w₀ − w₊))]/d with w± = 1/p±; finite as p₋ → 0 (η → 0)."""
    with np.errstate(all="ignore"):
        change = (p0 - p1) / p0 / p1
        growth = -change * c.p_minus * p0 / (p0 - c.p_minus)
        slope = np.where(growth == 0, 1.0, np.log1p(growth) / np.where(growth == 0, 1.0, growth))
        first = -change * p0 / (p0 - c.p_minus) * slope
        above = [(c.p_plus - p) / (p * c.p_plus) for p in (p0, p1)]
        second = -_log_ratio(above[1], above[0], change) / c.p_plus
        return (first + second) / np.sqrt(c.d2)


def _through_critical(p0, p1, c: _Cubic):
    """ln(Q₁/Q₀)/(2e) + (τ/2e)∫dw/Q; the last is atanh below and atan above η_c, one smooth function through it."""
    with np.errstate(all="ignore"):
        change = (p0 - p1) / p0 / p1
        plus = [(c.p_plus - p) / (p * c.p_plus) for p in (p0, p1)]
        minus = [(c.p_minus - p) / (p * c.p_minus) for p in (p0, p1)]
        one, other = minus[1] * plus[0], plus[1] * minus[0]
        mean, delta = (one + other) / 2, np.sqrt(c.d2) / (2 * c.e)
        z = delta * change / mean
        small = np.abs(z) < 0.5
        atanhc = np.where(z == 0, 1.0, np.arctanh(np.where(small, z, 0.0)) / np.where(z == 0, 1.0, z))
        inverse = np.where(small, change / mean * atanhc, np.log(one / other) / (2 * delta))
        logs = _log_ratio(plus[1], plus[0], change) + _log_ratio(minus[1], minus[0], change)
        below = logs / (2 * c.e) + c.tau / (2 * c.e**2) * inverse

        v0, v1 = ((2 * c.e - c.tau * p) / (2 * c.e * p) for p in (p0, p1))
        mu = np.sqrt(-c.d2) / (2 * c.e)
        angle = np.arctan2(mu * change, v0 * v1 + mu**2) / mu
        r0, r1 = np.hypot(v0, mu), np.hypot(v1, mu)
        log = 2 * _log_ratio(r1, r0, change * (v0 + v1) / (r0 + r1))
        beyond = log / (2 * c.e) + c.tau / (2 * c.e**2) * angle
    return np.where(c.d2 >= 0, below, beyond)
