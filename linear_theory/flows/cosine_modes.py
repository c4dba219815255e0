"""Modes under the cosine loss beyond the limit of wide embeddings: what the first order in 1/width adds.

`flows.mean.cosine_mode_flow` has p′ = s(1 − κp)/c − ρp and s′ = 2ps(1 − κp)/c − 2ρs, coupled through κ and c: norms
are taken as their root mean squares. Here the mean cosine of Gaussian g and f₂ is expanded to second order in how far
‖g‖² and ‖f₂‖² vary. With w = E[g f₂], u = E[g²] and v = E[f₂²] of each mode and sums over all modes,

    E cos = Σw/√(Σu Σv) · [1 − Σwu/(Σw Σu) − Σwv/(Σw Σv) + ¾Σu²/(Σu)² + ¾Σv²/(Σv)² + ½Σw²/(Σu Σv)] + O(1/r²),

r being the effective rank. Its slope along the logarithm of a mode's amplitude in g is w·along − u·against, and sums
to 0 over the modes as the loss's own does: norms are kept. Of these terms Bao 2023 has one, 2p⁶ (`flows.sixth_order`).
Derived here (SymPy: `linear_theory.symbolic.cosine_derivations`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import above, at_least, refuse_outside


class Moments(NamedTuple):
    """Sums over modes: of w, u and v, and of wu, wv, u², v² and w²."""

    w: Any
    u: Any
    v: Any
    wu: Any
    wv: Any
    uu: Any
    vv: Any
    ww: Any


class Pull(NamedTuple):
    """The slope of E cos along the logarithm of a mode's amplitude in g is w·along − u·against."""

    along: Any
    against: Any


def products(w, u, v) -> Moments:
    """A mode's own share of every sum."""
    return Moments(w, u, v, w * u, w * v, u * u, v * v, w * w)


def moments(w, u, v) -> Moments:
    """The sums over the last axis, which stays as one of 1."""
    return Moments(*(one.sum(axis=-1, keepdims=True) for one in products(w, u, v)))


def mean_cosine(m: Moments, finite: bool = True):
    """E cos(g, f₂) to first order in 1/width, or, not `finite`, in the limit of wide embeddings.

    >>> import numpy as np
    >>> one = np.ones(100)  # g and f₂ of cosine ½ in 100 dimensions
    >>> mean_cosine(moments(0.5 * one, one, one)).round(5), mean_cosine(moments(0.5 * one, one, one), finite=False)
    (array([0.49812]), array([0.5]))
    """
    return m.w / (m.u * m.v) ** 0.5 * (_correction(m) if finite else 1)


def _correction(m: Moments):
    spread = 3 / 4 * (m.uu / (m.u * m.u) + m.vv / (m.v * m.v)) + 1 / 2 * m.ww / (m.u * m.v)
    return 1 - m.wu / (m.w * m.u) - m.wv / (m.w * m.v) + spread


def pull(w, u, v, m: Moments, finite: bool = True) -> Pull:
    """What pulls at each mode: (1, κ)/c for wide embeddings, κ = Σw/Σu and c = √(Σu Σv), and with `finite` beyond.

    >>> import numpy as np
    >>> w = np.array([0.5, 1.0])
    >>> pull(w, w, w, moments(w, w, w), finite=False).against.round(3)  # κ/c = 1/1.5
    array([0.667])
    """
    c = (m.u * m.v) ** 0.5
    if not finite:
        return Pull(1 / c, m.w / m.u / c)
    B = _correction(m)
    along = B + m.wu / (m.w * m.u) + m.wv / (m.w * m.v) - 3 * u / m.u - v / m.v + w * m.w / (m.u * m.v)
    against = B - 2 * m.wu / (m.w * m.u) + 3 * (m.uu / m.u - u) / m.u + m.ww / (m.u * m.v)
    return Pull(along / c, against * m.w / m.u / c)


def finite_width_mode_flow(state: Mode, h: Hyperparameters) -> Mode:
    """`cosine_mode_flow` with the first order in 1/width: p, s, x_j and σ_j² of shape (…, modes), Gaussian images.

    p_j′ = α_p s_j(along_j − a_j p_j against_j) − η_p p_j and s_j′ = 2s_j[x_j p_j(along_j − a_j p_j against_j) − η].

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters, cosine_mode_flow
    >>> p = np.linspace(0.5, 1, 40)
    >>> state, h = Mode(p, p * p), Hyperparameters(eta=0.0)
    >>> narrow, wide = finite_width_mode_flow(state, h).p, cosine_mode_flow(state, h).p
    >>> (narrow[0] / wide[0]).round(3), abs((p * narrow).sum()) < 1e-15  # ‖W_p‖ stays
    (np.float64(1.031), np.True_)
    """
    p, s = state
    w, u, v = p * s, h.a * p * p * s, h.a * s
    return _learned(p, s, h.a, h.x, pull(w, u, v, moments(w, u, v)), h)


def _learned(p, s, a, x, at: Pull, h: Hyperparameters) -> Mode:
    force = at.along - a * p * at.against
    return Mode(h.alpha_p * s * force - h.predictor_decay * p, 2 * s * (x * p * force - h.eta))


# ---------------------------------------------------------------- one mode beside others


@dataclass(frozen=True)
class PairHyperparameters(Hyperparameters):
    """`Hyperparameters` of one mode (σ², x), and of `others` modes beside it, all alike.

    >>> PairHyperparameters(sigma2=0.5, sigma2_rest=0.1).a_rest
    1.1
    """

    sigma2_rest: float = 0.1
    """σ² of the others."""
    x_rest: float = 1.0
    """x of the others."""
    others: float = 63.0
    """How many there are."""

    @property
    def a_rest(self):
        """1 + σ² of the others."""
        return 1 + self.sigma2_rest

    def validate(self) -> "PairHyperparameters":
        """Return self as float64 arrays. Raises ValueError with one sentence naming a field out of range."""
        checked = super().validate()
        refuse_outside(checked, {"sigma2_rest": at_least(0), "x_rest": above(0), "others": at_least(1)})
        if checked.beta is not None:
            raise BadInput(
                "beta is the rate of an EMA target, which modes of the cosine loss do not have; leave it out"
            )
        return checked


class Pair(NamedTuple):
    """One mode (p, s) and the state (q, r) of each of the others.

    >>> Pair(p=0.5, s=0.25, q=1.0, r=1.0).q
    1.0
    """

    p: Any
    s: Any
    q: Any
    r: Any


def pair_flow(state: Pair, h: PairHyperparameters) -> Pair:
    """`cosine_mode_flow` for one mode beside others that are all alike, in the limit of wide embeddings.

    >>> h = PairHyperparameters(sigma2=0.1, eta=0.0)
    >>> pair_flow(Pair(0.5, 0.25, 1.0, 1.0), h).p > 0 > pair_flow(Pair(1.5, 2.25, 1.0, 1.0), h).p  # to the others' p
    True
    """
    return _pair_flow(state, h, finite=False)


def finite_width_pair_flow(state: Pair, h: PairHyperparameters) -> Pair:
    """`pair_flow` with the first order in 1/width."""
    return _pair_flow(state, h, finite=True)


def _pair_flow(state: Pair, h: PairHyperparameters, finite: bool) -> Pair:
    p, s, q, r = state
    mine = p * s, h.a * p * p * s, h.a * s
    rest = q * r, h.a_rest * q * q * r, h.a_rest * r
    sums = Moments(*(one + h.others * other for one, other in zip(products(*mine), products(*rest))))
    return Pair(
        *_learned(p, s, h.a, h.x, pull(*mine, sums, finite), h),
        *_learned(q, r, h.a_rest, h.x_rest, pull(*rest, sums, finite), h),
    )
