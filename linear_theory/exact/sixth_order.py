"""Rests and regimes of Bao 2023's mode at held norms, and when shrinking norms bring a stable one.

With f(p) = p − a(m N_Φ p² N_Ψ + 2p⁵)/N_Ψ² the flow is p′ = p[f(p)/(N_Φ N_Ψ) − ρ]. f is concave for p > 0, so there are
two positive rests p₋ < p₊ (a saddle's and a stable one) below a critical weight decay and none above: norms decide. If
all weights shrink to the share λ, p₋, p₊ and f scale with λ and N_Φ N_Ψ with λ³, so that the critical weight decay
rises as λ⁻²: under weight decay every start leaves the regime of collapse in a finite time.

His three regimes carry his names; how they are told apart is derived here, since a rest's existence and the side of p₋
on which a mode lies are all that the flow distinguishes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stopgrad.linear_theory.flows.sixth_order import HeldNorms
from stopgrad.linear_theory.tools.arrays import as_float64

REGIMES = ("collapse", "acute", "stable")
COLLAPSE, ACUTE, STABLE = range(3)
_HALVINGS = 200


@dataclass(frozen=True)
class SixthOrderRests:
    """Positive rests of the mode; arrays of one shape, NaN where there is none."""

    p_minus: np.ndarray
    """Unstable: a mode that starts below it falls to 0."""
    p_plus: np.ndarray
    """Stable."""
    p_negative: np.ndarray
    """The unstable one below 0, beyond which the truncated flow runs away; it is always there."""
    critical_eta: np.ndarray
    """The weight decay above which there is no positive rest."""


def sixth_order_rests(h: HeldNorms) -> SixthOrderRests:
    """The rests of `sixth_order_flow` and the critical weight decay, by bisection to rounding. Shape (…).

    Raises ValueError for values out of range.

    >>> found = sixth_order_rests(HeldNorms(eta=0.02))
    >>> float(found.p_minus.round(4)), float(found.p_plus.round(4)), float(found.critical_eta.round(4))
    (0.2219, 0.5166, 0.0243)
    """
    h = h.validate()
    c, square = h.n_phi * h.n_psi, h.n_psi**2
    shape = np.broadcast_shapes(*(np.shape(v) for v in (h.eta, c, h.a, h.agreement)))

    def growth(p):
        """f(p)/(N_Φ N_Ψ) − ρ."""
        return (p - h.a * (h.trace * p**2 + 2 * p**5) / square) / c - h.eta

    def rising(p):
        return 1 - h.a * (2 * h.trace * p + 10 * p**4) / square

    zero = np.zeros(shape)
    beyond = zero + (square / (2 * h.a)) ** 0.25  # where p = 2a p⁵/N_Ψ²
    peak = _falls_at(rising, zero, beyond)
    critical = growth(peak) + h.eta
    there = h.eta <= critical
    low = _falls_at(lambda p: -growth(p), zero, peak)
    high = _falls_at(growth, peak, beyond)
    deep = zero + (1 + h.a * (h.trace + c * h.eta) / square + (square / h.a) ** 0.25 + h.a / square) * 2
    while (short := growth(-deep) < 0).any():
        deep = np.where(short, 2 * deep, deep)
    negative = -_falls_at(lambda p: -growth(-p), zero, deep)
    return SixthOrderRests(np.where(there, low, np.nan), np.where(there, high, np.nan), negative, critical)


def _falls_at(function: Callable, low, high):
    """Where a function that falls once through 0 between `low` and `high` does so."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def regime(p, h: HeldNorms) -> np.ndarray:
    """Index into `REGIMES` of a mode at p > 0: collapse without a positive rest, acute below p₋, stable above. (…).

    Large norms make the first, small ones the last (Bao 2023); the mode's fate at norms that stay is alive in the last
    alone.

    >>> [REGIMES[regime(0.1, HeldNorms(eta=0.02, n_phi=n, n_psi=n / 2))] for n in (8.0, 4.0, 2.0)]
    ['collapse', 'acute', 'stable']
    """
    found = sixth_order_rests(h)
    p = as_float64(p, "p")
    return np.where(np.isnan(found.p_minus), COLLAPSE, np.where(p < found.p_minus, ACUTE, STABLE)).astype(np.int8)


def emergence(h: HeldNorms) -> np.ndarray:
    """The time after which norms that shrink by weight decay alone have a stable rest: ln(ρ/ρ_c)/(2ρ), at least 0. (…).

    ρ_c is the critical weight decay of the norms at the start.

    >>> h = HeldNorms(eta=0.2)
    >>> left = np.exp(-h.eta * emergence(h))
    >>> bool(abs(sixth_order_rests(h.replace(n_phi=4 * left, n_psi=2 * left**2)).critical_eta - 0.2) < 1e-12)
    True
    """
    h = h.validate()
    with np.errstate(divide="ignore", invalid="ignore"):
        time = np.log(h.eta / sixth_order_rests(h).critical_eta) / (2 * h.eta)
    return np.where(h.eta > 0, np.maximum(time, 0), 0.0)
