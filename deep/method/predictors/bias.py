"""The predictor that is a single bias."""

from dataclasses import dataclass

from stopgrad.deep.kinds import Predictor


@dataclass(frozen=True)
class Bias(Predictor):
    """z/‖z‖ + b with b = 0 at the start, learned (Zhang et al. 2022)."""

    def build(self, d: int):
        """One vector."""
        from stopgrad.deep.method.networks import BiasLayer, PredictorNetwork

        return PredictorNetwork(BiasLayer(d))

    def expects(self, setting) -> list[str]:
        """No complete collapse."""
        return setting.every_mode_dies or [
            "A bias alone acts on the mean direction only: no complete collapse, but nothing holds the rank."
        ]
