"""Fixed points of the mode flow, their stability and the critical weight decay, in closed form.

The discriminant τ² − 4ηa/x decides everything and vanishes at the critical weight decay, so it is computed in
double-double arithmetic: what is derived from it is then right to rounding however near the transition lies.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

REGIMES = ("no_weight_decay", "bistable", "critical", "collapse_only")
_CRITICAL_WIDTH = 4 * np.finfo(float).eps  # η this near η_c (relative) is η_c as typed in decimals


class RestPoints(NamedTuple):
    """p± and s± of `mode_flow` at fixed τ: arrays of the hyperparameters' shape; NaN where they do not exist."""

    p_plus: np.ndarray
    s_plus: np.ndarray
    p_minus: np.ndarray
    s_minus: np.ndarray


@dataclass(frozen=True)
class FixedPoints:
    """All fixed points of `mode_flow` at fixed τ. Arrays of the hyperparameters' shape; NaN where one does not exist.

    Eigenvalues have a trailing axis of two, sorted by real part; complex only where η_p ≠ η makes a focus.
    """

    p_plus: np.ndarray
    s_plus: np.ndarray
    p_minus: np.ndarray
    s_minus: np.ndarray
    critical_eta: np.ndarray
    regime: np.ndarray
    """One of `REGIMES` for every element."""
    eigenvalues_plus: np.ndarray
    eigenvalues_minus: np.ndarray
    eigenvalues_zero: np.ndarray


def critical_eta(h: Hyperparameters):
    """η_c = τ²x/(4a): above it the collapsed state is the only fixed point (section 4; x: the mode's variance).

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> critical_eta(Hyperparameters(sigma2=0.0))
    0.25
    """
    return h.tau * h.tau * h.x / (4 * h.a)


def discriminant(h: Hyperparameters) -> np.ndarray:
    """τ² − 4ηa/x with a = 1 + σ², right to rounding in the given float64 values; exactly 0 within 4 ulp of η_c."""
    tau2x = _times(_two_product(h.tau, h.tau), h.x)
    four_eta_a = _times(_two_sum(1.0, h.sigma2), 4.0 * h.eta)
    high, low = _two_sum(tau2x[0], -four_eta_a[0])
    difference = high + (low + (tau2x[1] - four_eta_a[1]))
    return np.where(np.abs(difference) <= _CRITICAL_WIDTH * tau2x[0], 0.0, difference / h.x)


def rest_points(h: Hyperparameters) -> RestPoints:
    """p± = (τ ± √(τ² − 4ηa/x))/(2a) and s± = η_p x p±²/(α_p η); section 4. Values are not checked.

    At η = η_p = 0 every (τ/a, s) is fixed; the one on the parabola is returned, and p₋ = 0. At η = 0 < η_p nothing but
    the collapsed state is fixed.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> rest = rest_points(Hyperparameters(sigma2=0.0, eta=0.16))  # p(1 − p) = η
    >>> rest.p_minus.round(12), rest.p_plus.round(12)
    (np.float64(0.2), np.float64(0.8))
    """
    d, ratio = _gap(h)
    p_plus = (h.tau + d) / (2 * h.a)
    p_minus = np.minimum(2 * h.eta / (h.x * (h.tau + d)), p_plus)  # at η_c rounding must not part or cross them
    strength = ratio * h.x / h.alpha_p
    return RestPoints(p_plus, strength * p_plus**2, p_minus, strength * p_minus**2)


def fixed_points(h: Hyperparameters) -> FixedPoints:
    """`rest_points` and the collapsed state (0, 0), with their stability and regime.

    The Jacobian's eigenvalues follow from its trace −r x τ p and determinant ±2 r x p η d, with r = η_p/η and d the
    discriminant's root; for r = 1 they are −2η and −(x τ p − 2η).

    Raises ValueError (from `validate`) for hyperparameters out of range.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> found = fixed_points(Hyperparameters(sigma2=0.0, eta=0.16))
    >>> found.s_plus.round(12), str(found.regime)
    (np.float64(0.64), 'bistable')
    """
    h = h.validate()
    h = h if h.beta is None else h.replace(beta=None, tau=np.float64(1))  # an EMA rests at τ = 1
    shape = np.broadcast_shapes(*(np.shape(v) for v in vars(h).values() if v is not None))
    h = h.map(lambda value: np.broadcast_to(value, shape))
    d2, (d, ratio), rest = discriminant(h), _gap(h), rest_points(h)
    return FixedPoints(
        *rest,
        critical_eta=np.broadcast_to(critical_eta(h), shape),
        regime=np.select([h.eta == 0, d2 > 0, d2 == 0], REGIMES[:3], REGIMES[3]),
        eigenvalues_plus=_eigenvalues(rest.p_plus, d, ratio, h),
        eigenvalues_minus=_eigenvalues(rest.p_minus, -d, ratio, h),
        eigenvalues_zero=np.sort(np.stack([-h.predictor_decay, -2 * h.eta], axis=-1), axis=-1) + 0.0,
    )


def _gap(h: Hyperparameters):
    """The discriminant's root, NaN where p± do not exist, and r = η_p/η (1 at η = 0)."""
    d2, eta_p = discriminant(h), np.asarray(h.predictor_decay)
    d = np.sqrt(np.where((d2 >= 0) & ((h.eta > 0) | (eta_p == 0)), d2, np.nan))
    whole = np.ones(np.broadcast_shapes(np.shape(h.eta), eta_p.shape))
    return d, np.divide(eta_p, h.eta, out=whole, where=np.asarray(h.eta) > 0)


def _eigenvalues(p, d, ratio, h: Hyperparameters):
    """Roots of λ² + r x τ p λ + 2 r x p η d, without cancellation."""
    trace = -ratio * h.x * h.tau * p
    determinant = 2 * ratio * h.x * p * h.eta * d
    square = (trace + 4 * h.eta) ** 2 + 16 * h.eta**2 * (ratio - 1)
    root = np.sqrt(square.astype(complex)) if np.any(square < 0) else np.sqrt(square)
    fast = (trace - root) / 2
    slow = np.divide(determinant, fast, out=np.zeros_like(fast), where=(fast != 0) & ~np.isnan(fast))
    slow = np.where(np.isnan(fast), np.nan, slow)
    return np.sort(np.stack([fast, slow], axis=-1), axis=-1) + 0.0  # no negative zeros


def _two_sum(x, y):
    """x + y as an unevaluated sum of two floats, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x, y):
    """x·y as an unevaluated sum of two floats, exactly (Dekker, with Veltkamp's splitting)."""
    product = x * y
    x_high, x_low = _split(x)
    y_high, y_low = _split(y)
    return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def _split(x):
    high = 134217729.0 * x
    high = high - (high - x)
    return high, x - high


def _times(double, y):
    """(high + low)·y in double-double."""
    high, low = _two_product(double[0], y)
    return _two_sum(high, low + double[1] * y)
