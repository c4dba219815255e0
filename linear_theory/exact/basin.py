"""Which initial states collapse: the outcome at η = 0 in closed form, and the separatrix of the whole (p, s) plane.

The paper's basin {p < p₋} holds on the invariant parabola only. Off it the border is the stable manifold of the saddle
(p₋, s₋), a falling curve that crosses p = 0 at a finite s: even p0 < 0 survives if s is large enough.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import RestPoints, discriminant, rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, balance, scaled, scales
from stopgrad.linear_theory.tools.arrays import as_float64, in_float64
from stopgrad.linear_theory.tools.errors import BadInput

_EPS = np.finfo(float).eps
_START = 1e-7  # where on the manifold's tangent to leave the saddle, in units of p₋: the error is its square


class Saddle(NamedTuple):
    """p₋, α_p s₋ and p₊ − p₋."""

    p_minus: Any
    strength: Any
    gap: Any


def border_slope(d, y, saddle: Saddle, h: Hyperparameters):
    """dy/dd along the saddle's stable manifold, with d = p − p₋ and y = ln(s/s₋): Eq. 12 over Eq. 11 about (p₋, s₋).

    s′/s = 2ax d(p₊ − p₋ − d) and p′ = η_p p₋(e^y − 1) − a α_p s₋ d e^y − η_p d: no difference of near-equal numbers.
    """
    lift = math.expm1(min(y, 700.0))  # a trial step of the integrator may overshoot
    growth = 2 * h.a * h.x * d * (saddle.gap - d)
    speed = h.predictor_decay * (saddle.p_minus * lift - d) - h.a * saddle.strength * d * (1 + lift)
    # On the manifold p moves to the saddle. Else the integrator's trial step went too far, and is taken back, or the
    # manifold turns back, and there is no going on.
    return growth / speed if d * speed < 0 else math.inf


def saddle_slope(saddle: Saddle, h: Hyperparameters):
    """dy/dd of the manifold at the saddle: the negative root of η_p p₋ m² − (a α_p s₋ + η_p) m − 2ax(p₊ − p₋) = 0."""
    middle = h.a * saddle.strength + h.predictor_decay
    product = 2 * h.a * h.x * saddle.gap
    return -2 * product / (middle + np.sqrt(middle**2 + 4 * product * h.predictor_decay * saddle.p_minus))


def outcome_without_decay(state: Mode, h: Hyperparameters) -> Mode:
    """The limit at η = η_p = 0, exactly, from c = s − x p²/α_p, which is then conserved (Eq. 14; fixed τ).

    Survives to (τ/a, x(τ/a)²/α_p + c) if c > 0, or if p > 0 and that s is positive (the paper's c > 0 is sufficient
    only); collapses to (sign(p)√(−α_p c/x), 0) otherwise. s = 0 is a line of fixed points.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> rest = outcome_without_decay(Mode(0.5, 0.5), Hyperparameters(sigma2=0.0))  # c = s − p² stays
    >>> float(rest.p), float(rest.s)
    (1.0, 1.25)
    """
    state = in_float64(state)
    c = balance(state, h)
    p_star = h.tau / h.a
    s_star = h.x / h.alpha_p * p_star**2 + c
    alive = (state.s > 0) & ((c > 0) | ((state.p > 0) & (s_star > 0)))
    resting = np.sign(state.p) * np.sqrt(np.maximum(-c * h.alpha_p / h.x, 0.0))
    p = np.where(state.s > 0, np.where(alive, p_star, resting), state.p)
    return Mode(p + 0.0, np.where(alive, s_star, 0.0))


def critical_s0(p0, h: Hyperparameters, tolerance: float = 1e-11) -> np.ndarray:
    """The s0 above which a mode that starts at p0 survives and below which it collapses; broadcasts.

    At η > 0 the stable manifold of (p₋, s₋), followed outward in ln s, so that the tiny values near p₊ keep their
    digits: one integration for each distinct (η, η_p) in scaled units, however many p0 it serves. At η = η_p = 0
    in closed form; infinite above η_c; NaN where just one of η and η_p is 0 (no saddle point then: all collapses), and
    where the manifold turns back (η_p far below η > 0.8 η_c: above a second s0 modes collapse again). The limit η → 0
    is singular: past p0 = τ/a the border falls from x(p0² − (τ/a)²)/α_p at η = 0 to x(p0² − (2τ/a)²)/α_p for any η > 0,
    however small, because p then decays first and s grows again.

    tolerance: relative, of s0. Raises ValueError for NaN, for hyperparameters out of range, and for an EMA (beta),
    whose border has another dimension.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> critical_s0(0.2, Hyperparameters(sigma2=0.0, eta=0.16)).round(9)  # the saddle (p₋, p₋²) itself
    np.float64(0.04)
    """
    if h.beta is not None:
        raise BadInput("beta is given; with a moving tau the border is no curve in (p, s), so leave beta out")
    h = h.validate()
    p0 = as_float64(p0, "p0")
    if not np.isfinite(p0).all():
        raise BadInput("p0 is NaN or infinite; give finite numbers")
    unit, hat = scales(h), scaled(h)
    p0, eta, eta_p, unit_s = np.broadcast_arrays(p0 / unit.p, hat.eta, hat.eta_p, unit.s)

    lost = np.where(p0 < 0, p0**2, np.maximum(p0**2 - 1, 0.0))
    result = np.where((eta == 0) & (eta_p == 0), lost, np.where((eta > 0) == (eta_p > 0), np.inf, np.nan))
    bent = (eta > 0) & (eta_p > 0) & (discriminant(scaled(h)) >= 0)
    pairs, which = np.unique(np.stack([eta[bent], eta_p[bent]], axis=-1), axis=0, return_inverse=True)
    found = np.empty(which.size)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=len(pairs)))
    for pair, members in zip(pairs, np.split(order, ends[:-1]) if len(pairs) else []):
        found[members] = _border(p0[bent][members], Hyperparameters(0.0, pair[0], eta_p=pair[1]), tolerance)
    result[bent] = found
    return result * unit_s


def _border(p0, h: Hyperparameters, tolerance) -> np.ndarray:
    """s on the manifold at every p0, for one set of hyperparameters: outward from the saddle on either side."""
    from scipy.integrate import solve_ivp  # here, since importing it takes longer than what needs no border

    rest = RestPoints(*map(float, rest_points(h)))
    saddle = Saddle(rest.p_minus, h.alpha_p * rest.s_minus, rest.p_plus - rest.p_minus)
    d = p0 - rest.p_minus
    y = saddle_slope(saddle, h) * d  # the tangent: enough as near as `_START`
    for side in (-1.0, 1.0):
        away = np.flatnonzero(side * d > _START * rest.p_minus)
        # It can turn back only where p′ = 0, below p = τ/a, if η_p < η: so far it is followed, whoever asks.
        beyond = [1 - rest.p_minus] if side > 0 and h.predictor_decay < h.eta else []
        if not away.size and not beyond:
            continue
        start = side * _START * rest.p_minus
        u, inverse = np.unique(np.log(np.r_[d[away], beyond] / start), return_inverse=True)

        def slope(u, y, start=start):
            here = start * math.exp(u)
            return [here * border_slope(here, float(y[0]), saddle, h)]

        begin = [saddle_slope(saddle, h) * start]
        # ln s may be −10⁵, of which a relative tolerance would leave no digit of s; and the path is never stiff.
        with np.errstate(invalid="ignore"):  # of steps that are taken back
            path = solve_ivp(slope, (0.0, u[-1]), begin, "DOP853", t_eval=u, rtol=100 * _EPS, atol=tolerance / 20)
        if not path.success:  # the border turns back: there is another above it, and between them alone a mode lives
            return np.full(np.shape(p0), np.nan)
        y[away] = path.y[0][inverse.ravel()][: away.size]
    return rest.s_minus * np.exp(y)


def collapses(state: Mode, h: Hyperparameters) -> np.ndarray:
    """Whether a mode is in the basin of the collapsed state (fixed τ), by its side of the separatrix; broadcasts.

    Raises ValueError as `critical_s0` does, and where the separatrix turns back: follow the flow there.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> collapses(Mode(0.2, [0.03, 0.05]), Hyperparameters(sigma2=0.0, eta=0.16))
    array([ True, False])
    """
    h = h.validate()
    edge = np.where((h.eta > 0) == (np.asarray(h.predictor_decay) > 0), critical_s0(state.p, h), np.inf)
    if np.isnan(edge).any():
        raise BadInput("eta_p is so far below eta that the separatrix turns back; follow the flow (`simulate`) instead")
    return as_float64(state.s, "s") <= edge


def lives_for_certain(state: Mode, h: Hyperparameters) -> np.ndarray:
    """Whether a Lyapunov function proves that a mode comes to (p₊, s₊), whatever η_p, at a fixed τ; broadcasts.

    In units of `scaled`, with U(p) = p² + 2η ln(1 − p) and P(p) = p/(1 − p), V = s − s₊ ln s − U(p) has the rate
    V′ = 2η_p [p(1 − p) − η] [P(p) − P(p₊)], nowhere positive for p₋ < p < 1; so what lies there with V below its value
    at p = p₋, s = s₊ never comes out. The region does not reach the separatrix, and is none at the critical η.

    Raises ValueError for hyperparameters out of range, and for an EMA (beta), whose τ moves.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> lives_for_certain(Mode(0.8, [0.001, 0.64]), Hyperparameters(sigma2=0.0, eta=0.16))
    array([False,  True])
    """
    if h.beta is not None:
        raise BadInput("beta is given; the proof is for a fixed tau, so leave beta out")
    h = h.validate()
    unit, hat = scales(h), scaled(h)
    p, s = np.broadcast_arrays(as_float64(state.p, "p") / unit.p, as_float64(state.s, "s") / unit.s)
    rest = rest_points(hat)

    def height(at):
        return at * at + 2 * hat.eta * np.log1p(-at)

    with np.errstate(divide="ignore", invalid="ignore"):
        above = s - rest.s_plus - rest.s_plus * np.log(s / rest.s_plus)
        return (p > rest.p_minus) & (p < 1) & (above < height(p) - height(rest.p_minus))
