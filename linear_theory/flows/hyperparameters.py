"""The five numbers that fix the dynamics, in the units of the theory.

Time is counted so that the encoder moves with rate one: a gradient step of learning rate `lr` advances time by `lr`
(momentum and loss scale change this; see `linear_theory.exact.unit_map`).
"""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from stopgrad.linear_theory.tools.arrays import as_float64, settle
from stopgrad.linear_theory.tools.records import above, at_least, items, refuse_outside


@dataclass(frozen=True)
class Hyperparameters:
    """σ², η, τ, α_p, β, η_p and x of Tian, Chen & Ganguli 2021 (sections 3 and 4).

    Every field is a number or an array; arrays broadcast against each other and against the states (for matrix flows,
    give them shape (…, 1, 1)). Lists and arrays become float64; else nothing is checked here, so that the same record
    can carry SymPy symbols and tensors: call `validate` where a user's numbers enter.

    >>> h = Hyperparameters(sigma2=0.1, eta=[0.01, 0.1])
    >>> h.a, h.replace(tau=0.5).tau
    (1.1, 0.5)
    """

    sigma2: float = 0.1
    """σ² = x′/x: augmentation variance over the variance of the augmentation means."""
    eta: float = 0.04
    """η: weight decay of the encoder, per unit of time."""
    tau: float = 1.0
    """τ: the target network is τ times the online one (1: SimSiam)."""
    alpha_p: float = 1.0
    """α_p: learning rate of the predictor over that of the encoder."""
    beta: float | None = None
    """β: rate of the EMA target, per unit of time; None keeps τ fixed."""
    eta_p: float | None = None
    """η_p: weight decay of the predictor; None takes η."""
    x: Annotated[float, tyro.conf.arg(name="variance")] = 1.0
    """x: variance of this mode of the input (1: the isotropic case)."""

    def __post_init__(self):
        settle(self)

    @property
    def a(self):
        """a = 1 + σ² = 1 + x′/x: the factor by which augmentation inflates a mode's variance."""
        return 1 + self.sigma2

    @property
    def predictor_decay(self):
        """η_p where given, else η."""
        return self.eta if self.eta_p is None else self.eta_p

    def replace(self, **changes) -> "Hyperparameters":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def map(self, function) -> "Hyperparameters":
        """A copy with `function` applied to every field that is not None."""
        return type(self)(**{k: v if v is None else function(v) for k, v in items(self).items()})

    def validate(self) -> "Hyperparameters":
        """Return self as float64 arrays. Raises ValueError with one sentence naming the first field out of range."""
        checked = self.map(as_float64)
        refuse_outside(checked, _RANGES)
        return checked


_RANGES = {
    "sigma2": at_least(0),
    "eta": at_least(0),
    "tau": (lambda v: (v > 0) & (v <= 1), "in (0, 1]"),
    "alpha_p": above(0),
    "beta": at_least(0),
    "eta_p": at_least(0),
    "x": above(0),
}
