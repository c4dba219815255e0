"""SimSiam's predictor of two layers, learned or frozen."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Predictor
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class MLP(Predictor):
    """Two layers, learned (SimSiam)."""

    hidden: Annotated[int, COUNT] = 32
    """Width of the hidden layer."""
    bias: bool = False
    """Bias of the last layer."""
    in_theory = "learned"

    def build(self, d: int):
        """d → hidden with BatchNorm and ReLU → d without."""
        from stopgrad.deep.method.networks import PredictorNetwork, mlp

        return PredictorNetwork(mlp(d, self.hidden, self.bias))

    def expects(self, setting) -> list[str]:
        """No collapse where a linear one would not."""
        return setting.every_mode_dies or [
            "With stop-gradient and a predictor that learns, no collapse is to be expected; the theory's p and s "
            "belong to a linear one."
        ]


@dataclass(frozen=True)
class SymmetricMLP(MLP):
    """Two layers, learned, each made the other's transpose after every step."""

    in_theory = None

    def build(self, d: int):
        """As `MLP`, its matrices tied (Tian, Chen & Ganguli 2021, Table 3)."""
        from stopgrad.deep.method.networks import TiedNetwork, mlp

        return TiedNetwork(mlp(d, self.hidden, self.bias))

    def expects(self, setting) -> list[str]:
        """What the paper saw without an EMA target."""
        if setting.every_mode_dies or setting.h.beta is not None:
            return super().expects(setting)
        return [
            "Tian et al. saw a predictor of two tied layers fail without EMA as a symmetric matrix does (Table 3); the "
            "theory's p and s belong to a linear one."
        ]


@dataclass(frozen=True)
class Fixed(Predictor):
    """Two layers, frozen at random."""

    hidden: Annotated[int, COUNT] = 32
    """Width of the hidden layer."""
    learns = False

    def build(self, d: int):
        """SimSiam's ablation: parameters are frozen; BatchNorm normalises by the batch as any other."""
        from stopgrad.deep.method.networks import PredictorNetwork, mlp

        return PredictorNetwork(mlp(d, self.hidden, bias=False).requires_grad_(False))

    def expects(self, setting) -> list[str]:
        """What Chen & He saw."""
        return setting.every_mode_dies or [
            "A predictor that never learns cannot follow the embedding: Chen & He saw no collapse and no convergence."
        ]
