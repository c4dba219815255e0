"""What the comparison on the digits depends on; nothing here computes, so that its flags are known at once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Switches
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from stopgrad.linear_theory.samples.linear_siamese import Training

SIDE = 8  # pixels of a digit's side
VARIANTS = {
    "stop-gradient, predictor": Switches(),
    "stop-gradient, no predictor": Switches(predictor="fixed"),
    "no stop-gradient, predictor": Switches(stop_gradient="none"),
    "no stop-gradient, no predictor": Switches(stop_gradient="none", predictor="fixed"),
}
LEADING = 3  # the agreement is that of the leading three modes
RESOLVED = 1e-12  # the flow's weights are right to about 1e-8, so smaller s_j ~ w² have few right digits
RECORDS = 80


@dataclass(frozen=True)
class Setting:
    """What the comparison depends on."""

    lr: float = 0.02
    """Learning rate of encoder and predictor."""
    batch: int = 128
    """Pairs of views a step."""
    eta: float = 0.01
    """Weight decay η, per unit of time."""
    t_end: float = 40.0
    """Length of the training in the theory's time: t_end/lr steps."""
    n2: int = 16
    """Features."""
    views: int = 1024
    """Augmentations of each image from which X and X′ are measured."""

    def validate(self) -> "Setting":
        """Return self. Raises ValueError with one sentence naming the first field out of range."""
        for name, valid, rule in (
            ("t_end", 0 < self.t_end < np.inf, "finite and above 0"),
            ("lr", 0 < self.lr <= self.t_end, "above 0 and at most t_end"),
            ("n2", LEADING <= self.n2 <= SIDE**2, f"from {LEADING} to {SIDE**2}"),
            ("views", self.views >= 2, "at least 2"),
        ):
            if not valid:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be {rule}")
        self.hyperparameters.validate()
        _ = self.training  # refuses what Training refuses
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        return Hyperparameters(eta=self.eta)

    @property
    def training(self) -> "Training":
        from stopgrad.linear_theory.samples.linear_siamese import Training

        steps = round(self.t_end / self.lr)
        return Training(self.lr, steps, self.batch, record_every=-(-steps // RECORDS))
