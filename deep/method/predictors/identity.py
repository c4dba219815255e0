"""No predictor."""

import math
from dataclasses import dataclass

from stopgrad.deep.kinds import Predictor


@dataclass(frozen=True)
class Identity(Predictor):
    """None: p = z."""

    learns = False
    linear = True
    absent = True
    in_theory = "fixed"

    def build(self, d: int):
        """There is no matrix, so there is no alignment to observe."""
        from torch import nn

        from stopgrad.deep.method.networks import PredictorNetwork

        return PredictorNetwork(nn.Identity())

    def expects(self, setting) -> list[str]:
        """A collapse (Theorem 2)."""
        dies = _dies(setting.h, setting.t) if setting.squared else setting.in_direction("a predictor")
        return [dies, *setting.bounded]


def _dies(h, t: float) -> str:
    rate = h.x * h.sigma2 + h.eta
    if rate == 0:
        return "Without a predictor a collapse needs augmentation or weight decay (Theorem 2), and here is neither."
    slower = ", more slowly behind the EMA" if h.beta is not None else ""
    return (
        "Without a predictor the embedding dies wherever the views disagree, stop-gradient or not (Theorem 2): over "
        f"the run to e^(−λt) = {math.exp(-rate * t):.2g}, λ = xσ² + η = {rate:.3g}{slower}."
    )
