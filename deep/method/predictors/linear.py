"""The theory's predictor: one matrix, learned, or learned and kept symmetric."""

from dataclasses import dataclass

from stopgrad.deep.kinds import Predictor

_FAILED = (
    "Tian et al. saw a symmetric predictor fail without EMA at α_p = 1 and equal decay (Table 3); a larger "
    "α_p, or decay of the predictor alone, rescued it (Fig. 6, Table 5)."
)


@dataclass(frozen=True)
class Linear(Predictor):
    """One matrix, learned."""

    bias: bool = False
    """p = W_p z + b."""
    linear = True
    balanced = True
    in_theory = "learned"

    def build(self, d: int):
        """One linear layer."""
        from torch import nn

        from stopgrad.deep.method.networks import LinearNetwork

        return LinearNetwork(nn.Linear(d, d, bias=self.bias))

    def expects(self, setting) -> list[str]:
        """What the unit map says."""
        return setting.of_a_learned_matrix()


@dataclass(frozen=True)
class Symmetric(Predictor):
    """One matrix, learned, made symmetric after every step."""

    bias: bool = False
    """p = W_p z + b."""
    linear = True
    in_theory = "symmetrised"

    def build(self, d: int):
        """One linear layer."""
        from torch import nn

        from stopgrad.deep.method.networks import SymmetricNetwork

        return SymmetricNetwork(nn.Linear(d, d, bias=self.bias))

    def expects(self, setting) -> list[str]:
        """What the unit map says, and where the paper saw it fail."""
        h = setting.h
        fails = h.beta is None and h.alpha_p == 1 and h.eta_p is None
        return setting.of_a_learned_matrix(*[_FAILED] * fails)
