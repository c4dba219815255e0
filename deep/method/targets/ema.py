"""A moving average of the online network as target."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import PROBABILITY


@dataclass(frozen=True)
class Ema(Target):
    """A moving average of the online network (BYOL)."""

    ema_momentum: Annotated[float, PROBABILITY] = 0.996
    """γ of the target's moving average W_a ← γW_a + (1 − γ)W."""
    learns = False
    in_theory = "ema"
    spared = True

    def build(self, online, predictor, method):
        """A copy of the online network to begin with."""
        from stopgrad.deep.method.networks import EmaTarget

        return EmaTarget(online, self.ema_momentum)
