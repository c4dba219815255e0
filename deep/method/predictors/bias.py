"""Predictors of a single layer on the direction of the embedding: a bias, one matrix, or both."""

from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Predictor

CONSTRAINTS = {
    "none": lambda w: w,
    "tanh": lambda w: (w / 2).tanh(),
    "sigmoid": lambda w: 2 * w.sigmoid() - 1,
}
"""What a learned w becomes where it acts; the last two are one function."""


@dataclass(frozen=True)
class Bias(Predictor):
    """z/‖z‖ + b with b = 0 at the start, learned (Zhang et al. 2022).

    Or one matrix W, or both: a part of one layer, as far as their predictor could be simplified. In the authors' code
    the constraint overwrites b and W at every forward pass, which halves what is small each time; here it is applied
    where they act, and only bounds them, to (−1, 1).

    >>> from stopgrad.deep import Config, change
    >>> change(Config(), predictor="bias", predictor_layers="weight_bias", predictor_constraint="tanh").method.predictor
    Bias(layers='weight_bias', constraint='tanh')
    """

    layers: Literal["bias", "weight", "weight_bias", "bias_weight"] = "bias"
    """What acts on x = z/‖z‖: x + b, Wx, Wx + b, or W(x + b); W starts as torch's linear layer does."""
    constraint: Literal["none", "tanh", "sigmoid"] = "none"
    """Keep the entries of b and W between −1 and 1, as tanh(w/2) or 2σ(w) − 1, which are the same."""

    def build(self, d: int):
        """One vector, one matrix, or both."""
        from stopgrad.deep.method.networks import BiasLayer, PredictorNetwork

        return PredictorNetwork(BiasLayer(d, self.layers.split("_"), CONSTRAINTS[self.constraint]))

    def expects(self, setting) -> list[str]:
        """No complete collapse."""
        if setting.every_mode_dies:
            return setting.every_mode_dies
        if self.layers == "bias":
            return ["A bias alone acts on the mean direction only: no complete collapse, but nothing holds the rank."]
        return ["One matrix on the embedding's direction: no collapse is to be expected with stop-gradient."]
