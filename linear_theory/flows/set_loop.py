"""Predictors that are a power of the features' correlation, under squared and cosine loss: Halvagal 2023, Zhuo 2023.

Halvagal, Laborieux & Zenke 2023 (arXiv 2212.04858) set W_P = U λ^α Uᵀ, λ the eigenvalues of E[z zᵀ], and ask what the
loss, stop-gradient, the predictor and their IsoLoss do to λ. Zhuo et al. 2023 (arXiv 2303.02387) set a power on either
branch: online w = V S^σ Vᵀ, λ^(σ/2) here, or on the target. With w = p t λ, u = a p² λ, v = a_t t² λ, where p is the
predictor's and t the target's eigenvalue and a = 1 + σ² of each branch, all of it is one equation,

    λ′ = 2λ[p t along − a p² against] − 2ηλ,    without stop-gradient also + 2λ[p t along_t − a_t t² against_t],

along = against = 1 for squared error and `flows.cosine_modes.pull` for the cosine. IsoLoss,
½‖z − sg(z_t + z − W_P z)‖², lets the error reach z past the predictor: one factor p is gone. For the cosine the same is
done to its gradient. Derived here; checked against networks in the tests.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from stopgrad.linear_theory.flows.cosine_modes import Moments, Pull, moments, products, pull
from stopgrad.linear_theory.tools.arrays import as_float64, settle
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import at_least, items, refuse_outside

LOSSES = ("squared", "cosine")
KINDS = ("predictor", "no-stop-gradient", "no-predictor", "neither", "isoloss", "target")


@dataclass(frozen=True)
class LoopHyperparameters:
    """What a set predictor's dynamics depend on; the defaults are those of Halvagal et al.'s example.

    >>> LoopHyperparameters(sigma2_target=0.25).a_target
    1.25
    """

    exponent: float = 1.0
    """α: the predictor's eigenvalue is λ^α (Zhuo's σ is 2α)."""
    sigma2: float = 0.0
    """σ² of the views that are predicted from; 0: the clean images."""
    sigma2_target: float = 0.01
    """σ² of the views that are predicted."""
    eta: float = 0.0
    """η: weight decay."""
    others: float = 9.0
    """How many modes there are beside the one of `Rivals`."""

    def __post_init__(self):
        settle(self)

    @property
    def a(self):
        """1 + σ² of the online branch."""
        return 1 + self.sigma2

    @property
    def a_target(self):
        """1 + σ² of the target."""
        return 1 + self.sigma2_target

    def replace(self, **changes) -> "LoopHyperparameters":
        """A copy with some fields changed."""
        return LoopHyperparameters(**{**items(self), **changes})

    def validate(self) -> "LoopHyperparameters":
        """Return self as float64 arrays. Raises ValueError with one sentence naming a field out of range."""
        checked = LoopHyperparameters(**{name: as_float64(v, name) for name, v in items(self).items()})
        of_any_sign = {"exponent": (np.isfinite, "finite")}
        refuse_outside(
            checked,
            of_any_sign | dict.fromkeys(("sigma2", "sigma2_target", "eta"), at_least(0)) | {"others": at_least(1)},
        )
        return checked


class Eigenvalues(NamedTuple):
    """λ_j of E[z zᵀ] of clean embeddings: (…, modes).

    >>> Eigenvalues([0.3, 0.9]).s
    [0.3, 0.9]
    """

    s: Any


class Rivals(NamedTuple):
    """The eigenvalue of one mode, and that of each of `others` modes beside it.

    >>> Rivals(0.1, 1.0).others
    1.0
    """

    s: Any
    others: Any


@dataclass(frozen=True)
class SetLoop:
    """The flow of `Eigenvalues` or `Rivals` under a loss and a way to train: a callable (state, h), hashed by value.

    >>> import numpy as np
    >>> h = LoopHyperparameters()
    >>> SetLoop("squared")(Eigenvalues(np.array([0.5])), h).s  # 2λ^(1 + α)(1 − λ^α)
    array([0.25])
    >>> SetLoop("squared", "isoloss")(Eigenvalues(np.array([0.5])), h).s  # 2λ(1 − λ^α): no plateau at small λ
    array([0.5])
    >>> SetLoop("cosine")(Eigenvalues(np.array([0.3, 0.9, 1.4])), h).s.sum().round(12)  # the trace stays
    np.float64(0.0)
    """

    loss: Literal["squared", "cosine"] = "squared"
    kind: Literal["predictor", "no-stop-gradient", "no-predictor", "neither", "isoloss", "target"] = "predictor"
    """predictor: W_P set, stop-gradient. no-stop-gradient: without the latter. no-predictor: W_P = I. neither: of both.
    isoloss: the error reaches z past the predictor. target: the power is on the target instead."""
    finite: bool = False
    """Of the cosine: with the first order in 1/width."""

    def __post_init__(self):
        for name, choices in (("loss", LOSSES), ("kind", KINDS)):
            if getattr(self, name) not in choices:
                raise BadInput(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}")

    def __call__(self, state: Eigenvalues | Rivals, h: LoopHyperparameters) -> Eigenvalues | Rivals:
        pairs = [self._eigenvalues(s, h) for s in state]
        own = [(s, p, t, p * t * s, h.a * p * p * s, h.a_target * t * t * s) for s, (p, t) in zip(state, pairs)]
        sums, turned = (self._sums([(w, *order(u, v)) for *_, w, u, v in own], h) for order in (_same, _turned))
        return type(state)(*(2 * s * self._rate(p, t, w, u, v, sums, turned, h) for s, p, t, w, u, v in own))

    def _eigenvalues(self, s, h: LoopHyperparameters):
        """p of the predictor and t of the target."""
        one, power = s / s, s**h.exponent
        return (one, power) if self.kind == "target" else (one if "predictor" in self._without else power, one)

    @property
    def _without(self) -> tuple[str, ...]:
        """What is not there."""
        named = {"no-predictor": ("predictor",), "no-stop-gradient": ("stop",), "neither": ("predictor", "stop")}
        return named.get(self.kind, ())

    def _rate(self, p, t, w, u, v, sums, turned, h: LoopHyperparameters):
        """λ′/2λ."""
        at = self._pull(w, u, v, sums)
        rate = (t * at.along - h.a * p * at.against) * (1 if self.kind == "isoloss" else p)
        if "stop" in self._without:
            back = self._pull(w, v, u, turned)
            rate = rate + t * (p * back.along - h.a_target * t * back.against)
        return rate - h.eta

    def _sums(self, each, h: LoopHyperparameters) -> Moments | None:
        if self.loss == "squared":
            return None
        if len(each) == 1:
            return moments(*each[0])
        return Moments(*(one + h.others * other for one, other in zip(*(products(*values) for values in each))))

    def _pull(self, w, u, v, sums) -> Pull:
        return Pull(1, 1) if sums is None else pull(w, u, v, sums, self.finite)


def _same(u, v):
    return u, v


def _turned(u, v):
    return v, u
