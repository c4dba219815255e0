"""Bao 2023 (arXiv 2309.16109): one mode of the cosine loss where the norms of the embeddings are held, a sixth power.

For x₁, x₂ ~ N(0, aI) that share N(0, I), a = 1 + σ², Isserlis' theorem gives E[(g·f₂) g f₁ᵀ] = a W_p W(tr A + A + Aᵀ)Wᵀ
with A = Wᵀ W_p W. Where N_Φ² = E‖f‖² and N_Ψ² = E‖g‖² are taken for constants (his Assumption 5), on s = p²,

    p′ = [p² − a(T p³ + 2p⁶)/N_Ψ²]/(N_Φ N_Ψ) − ρp,   T = Σ_k p_k³ = m N_Φ N_Ψ, m the mean cosine.

The squared loss has p′ = p²(1 − a p) − ρp, third order, whatever the norms (Tian, Chen & Ganguli 2021, Eq. 16). The
reduction is not exact: norms do move, and 2p⁶ is one of several terms of the order 1/width (`flows.cosine_modes` has
all), alone in which the loss would shrink ‖W_p‖. At a linear network's own norms the tests find it off by 3 times the
network's p′ at width 8 and by a sixth of it at 64, and without 2p⁶ by a quarter and a fiftieth. Derived here from his
assumptions; weights here are his W = W_p and Φ = W.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from stopgrad.linear_theory.tools.arrays import as_float64, settle
from stopgrad.linear_theory.tools.records import above, at_least, items, refuse_outside


@dataclass(frozen=True)
class HeldNorms:
    """What is held while one mode moves.

    >>> h = HeldNorms(n_phi=4.0, n_psi=2.0, agreement=0.5)
    >>> h.trace  # T = m N_Φ N_Ψ
    4.0
    """

    sigma2: float = 0.25
    """σ²: augmentation variance."""
    eta: float = 0.01
    """ρ: weight decay of both layers."""
    n_phi: float = 4.0
    """N_Φ = √E‖f‖²: norm of the embeddings."""
    n_psi: float = 2.0
    """N_Ψ = √E‖g‖²: norm of the predictions."""
    agreement: float = 0.5
    """m = E cos(g, f₂), minus the loss; at most 1/(1 + σ²) where all modes agree."""

    def __post_init__(self):
        settle(self)

    @property
    def a(self):
        """1 + σ²."""
        return 1 + self.sigma2

    @property
    def trace(self):
        """T = E[g·f₂] = m N_Φ N_Ψ."""
        return self.agreement * self.n_phi * self.n_psi

    def replace(self, **changes) -> "HeldNorms":
        """A copy with some fields changed."""
        return HeldNorms(**{**items(self), **changes})

    def validate(self) -> "HeldNorms":
        """Return self as float64 arrays. Raises ValueError with one sentence naming a field out of range."""
        checked = HeldNorms(**{name: as_float64(v, name) for name, v in items(self).items()})
        refuse_outside(
            checked,
            dict.fromkeys(("sigma2", "eta", "agreement"), at_least(0)) | dict.fromkeys(("n_phi", "n_psi"), above(0)),
        )
        return checked


class Level(NamedTuple):
    """p: eigenvalue of a symmetric W_p with s = p².

    >>> Level(0.5)
    Level(p=0.5)
    """

    p: Any


class ShrinkingLevel(NamedTuple):
    """A `Level` and the share to which weight decay has brought all weights: N_Φ → N_Φ·left, N_Ψ → N_Ψ·left²."""

    p: Any
    left: Any


def sixth_order_flow(state: Level, h: HeldNorms) -> Level:
    """p′ = [p² − a(T p³ + 2p⁶)/N_Ψ²]/(N_Φ N_Ψ) − ρp (Bao 2023; coefficients derived here).

    >>> sixth_order_flow(Level(1.0), HeldNorms(sigma2=0.0, eta=0.0, n_phi=2.0, n_psi=2.0, agreement=0.25))  # (1 − ¾)/4
    Level(p=0.0625)
    """
    return Level(_slope(state.p, h.n_phi, h.n_psi, h.agreement, h.a) - h.eta * state.p)


def shrinking_flow(state: ShrinkingLevel, h: HeldNorms) -> ShrinkingLevel:
    """`sixth_order_flow` where the norms are as weight decay leaves them, N_Φ e^(−ρt) and N_Ψ e^(−2ρt), and m is held.

    The exact law of ‖W‖ and ‖W_p‖: so much of a norm's change is no approximation. In p/left weight decay is nothing
    but a clock, so that every p > 0 comes to the rest that is stable without decay: whatever the norms at the start, a
    stable rest emerges. Derived here.

    >>> shrinking_flow(ShrinkingLevel(0.1, 1.0), HeldNorms(eta=0.5)).left
    -0.5
    """
    p, left = state
    return ShrinkingLevel(_slope(p, h.n_phi * left, h.n_psi * left * left, h.agreement, h.a) - h.eta * p, -h.eta * left)


def _slope(p, n_phi, n_psi, agreement, a):
    square = p * p
    trace = agreement * n_phi * n_psi
    return (square - a * (trace * square * p + 2 * square * square * square) / (n_psi * n_psi)) / (n_phi * n_psi)
