"""Which initial states collapse: the outcome at η = 0 in closed form, and the separatrix of the whole (p, s) plane.

The paper's basin {p < p₋} holds on the invariant parabola only. Off it the border is the stable manifold of the saddle
(p₋, s₋), a falling curve that crosses p = 0 at a finite s: even p0 < 0 survives if s is large enough.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from linear_theory.fixed_points import fixed_points
from linear_theory.hyperparameters import Hyperparameters
from linear_theory.integrate import integrate
from linear_theory.mode_flow import Mode, balance

_START = 1e-7  # where on the manifold's tangent to leave the saddle, in units of p₋: the error is its square


class Border(NamedTuple):
    """A point of the saddle's stable manifold: d = p − p₋ and y = ln(s/s₋)."""

    d: Any
    y: Any


class Saddle(NamedTuple):
    """p₋, α_p s₋, p₊ − p₋, and the logarithm by which |d| grows over the path."""

    p_minus: Any
    strength: Any
    gap: Any
    length: Any


def border_flow(state: Border, saddle: Saddle, h: Hyperparameters) -> Border:
    """dy/du along the manifold, u the share of `length` by which ln|d| has grown: Eq. 11–12 about (p₋, s₋), divided.

    s′/s = 2ax d(p₊ − p₋ − d) and p′ = η_p p₋(e^y − 1) − a α_p s₋ d e^y − η_p d: no difference of near-equal numbers.
    """
    d, y = state
    lift = torch.expm1(y) if isinstance(y, torch.Tensor) else math.expm1(y)
    growth = 2 * h.a * h.x * d * (saddle.gap - d)
    speed = h.predictor_decay * (saddle.p_minus * lift - d) - h.a * saddle.strength * d * (1 + lift)
    return Border(saddle.length * d, saddle.length * d * growth / speed)


def saddle_slope(saddle: Saddle, h: Hyperparameters):
    """dy/dd of the manifold at the saddle: the negative root of η_p p₋ m² − (a α_p s₋ + η_p) m − 2ax(p₊ − p₋) = 0."""
    middle = h.a * saddle.strength + h.predictor_decay
    product = 2 * h.a * h.x * saddle.gap
    return -2 * product / (middle + np.sqrt(middle**2 + 4 * product * h.predictor_decay * saddle.p_minus))


def outcome_without_decay(state: Mode, h: Hyperparameters) -> Mode:
    """The limit at η = η_p = 0, exactly, from c = s − x p²/α_p, which is then conserved (Eq. 14; fixed τ).

    Survives to (τ/a, x(τ/a)²/α_p + c) if c > 0, or if p > 0 and that s is positive (the paper's c > 0 is sufficient
    only); collapses to (sign(p)√(−α_p c/x), 0) otherwise. s = 0 is a line of fixed points.
    """
    c = balance(state, h)
    p_star = h.tau / h.a
    s_star = h.x / h.alpha_p * p_star**2 + c
    alive = (state.s > 0) & ((c > 0) | ((state.p > 0) & (s_star > 0)))
    resting = np.sign(state.p) * np.sqrt(np.maximum(-c * h.alpha_p / h.x, 0.0))
    p = np.where(state.s > 0, np.where(alive, p_star, resting), state.p)
    return Mode(p + 0.0, np.where(alive, s_star, 0.0))


def critical_s0(p0, h: Hyperparameters, tolerance: float = 1e-10) -> np.ndarray:
    """The s0 above which a mode that starts at p0 survives and below which it collapses; broadcasts.

    At η > 0 the stable manifold of (p₋, s₋), followed outward in ln s, so that the tiny values near p₊ keep their
    digits (relative error about `tolerance`); at η = η_p = 0 in closed form; infinite above η_c. η_p ≠ η is fine, but
    where just one of them is 0 the saddle is no point and the border unknown here: NaN.

    Raises ValueError for NaN, for hyperparameters out of range, and for an EMA (beta), whose border has another
    dimension.
    """
    if h.beta is not None:
        raise ValueError("beta is given; with a moving tau the border is no curve in (p, s), so leave beta out")
    h = h.validate()
    p0 = np.asarray(p0, dtype=float)
    if np.isnan(p0).any():
        raise ValueError("p0 is NaN; give numbers")
    points = fixed_points(h)
    shape = np.broadcast_shapes(p0.shape, points.p_minus.shape)
    h = h.map(lambda v: np.broadcast_to(v, shape))
    p0, p_minus, p_plus, s_minus = (
        np.broadcast_to(v, shape) for v in (p0, points.p_minus, points.p_plus, points.s_minus)
    )
    result = np.where((h.eta > 0) == (h.predictor_decay > 0), np.inf, np.nan)

    still = (h.eta == 0) & (h.predictor_decay == 0)
    p_star = h.tau / h.a
    lost = np.where(p0 < 0, p0**2, np.maximum(p0**2 - p_star**2, 0.0))
    result[still] = (h.x / h.alpha_p * lost)[still]

    bent = (h.eta > 0) & (h.predictor_decay > 0) & np.isfinite(p_minus)
    result[bent] = s_minus[bent]
    away = np.where(bent, np.abs(p0 - p_minus) / np.where(bent, p_minus, 1.0), 0.0)
    far = away > _START
    if far.any():
        theory = h.map(lambda v: v[far])
        start = np.sign(p0 - p_minus)[far] * _START * p_minus[far]
        strength = theory.alpha_p * s_minus[far]
        saddle = Saddle(p_minus[far], strength, (p_plus - p_minus)[far], np.log(away[far] / _START))
        begin = Border(start, saddle_slope(saddle, theory) * start)
        end = integrate(border_flow, begin, saddle, theory, t=1.0, tolerance=tolerance, decays={"d": -saddle.length})
        result[far] = s_minus[far] * np.exp(end.state.y)
    return result


def collapses(state: Mode, h: Hyperparameters) -> np.ndarray:
    """Whether a mode is in the basin of the collapsed state (fixed τ), by its side of the separatrix; broadcasts."""
    return np.asarray(state.s) <= critical_s0(state.p, h)
