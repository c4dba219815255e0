"""Networks of the parts: projector, predictors and targets that hold weights.

A predictor's network, learned here or set in `predictors.set_network`, has three methods and nothing else that training
needs:

- `forward(z)`: (B, d) to (B, d);
- `after_step(z, target, optimiser)`: once after every step of the optimiser;
- `matrix()`: W_p (d, d) in float32 or wider, a copy, or None where the predictor is no linear map to be observed.

Heads leave autocast and compute in float32 or wider. Linear layers keep torch's initialisation U(−1/√k, 1/√k), k their
inputs, which SimSiam depends on ('substantially different initializers may not converge').
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from stopgrad.deep.config import Method
from stopgrad.linear_theory.flows.matrices import symmetric_part
from stopgrad.linear_theory.predictors.matrices import full_precision
from stopgrad.linear_theory.tools.lengths import directions


@full_precision
def in_full_precision(x: torch.Tensor, network) -> torch.Tensor:
    """network(x) without autocast, x in half precision being promoted to float32."""
    return network(x.to(torch.promote_types(x.dtype, torch.float32)))


# ---------------------------------------------------------------- projector

_OUTPUT_BN = {
    "affine": lambda d: [nn.BatchNorm1d(d)],
    "affine_free": lambda d: [nn.BatchNorm1d(d, affine=False)],
    "none": lambda d: [],
}


class Projector(nn.Sequential):
    """Linear layers with BatchNorm and ReLU between them, (B, in_features) to (B, d)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Representations to embeddings, in float32 or wider."""
        return in_full_precision(x, super().forward)

    @property
    def last(self) -> nn.Linear:
        """The last linear layer, whose [W b] the balance of Theorem 1 is about."""
        return next(layer for layer in reversed(self) if isinstance(layer, nn.Linear))


def projector(method: Method, in_features: int) -> Projector:
    """`projector_layers` linear layers with output BatchNorm as asked for.

    A bias that BatchNorm follows is left out, whatever `projector_bias` says: the subtracted mean takes it away, so it
    would receive no gradient but rounding (the released SimSiam freezes it).
    """
    hidden, d, output_bn = method.projector_hidden, method.embedding_dim, method.projector_output_bn
    layers, width = [], in_features
    for _ in range(method.projector_layers - 1):
        layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        width = hidden
    last = nn.Linear(width, d, bias=method.projector_bias and output_bn == "none")
    return Projector(*layers, last, *_OUTPUT_BN[output_bn](d))


# ---------------------------------------------------------------- predictors


class PredictorNetwork(nn.Module):
    """A network that the optimiser trains, or that stays as it is: nothing to do after a step, no matrix to observe."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Embeddings to predictions, (B, d) each, in float32 or wider."""
        return in_full_precision(z, self.network)

    def after_step(self, z: torch.Tensor, target: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Called after every step of the optimiser."""

    def matrix(self) -> torch.Tensor | None:
        """A copy of W_p (d, d), or None."""
        return None


class LinearNetwork(PredictorNetwork):
    """p = W_p z (+ b); `network` is one nn.Linear."""

    def matrix(self) -> torch.Tensor:
        """A copy of W_p (d, d)."""
        weight = self.network.weight.detach()
        return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)


class SymmetricNetwork(LinearNetwork):
    """A linear predictor whose W_p is replaced by (W_p + W_pᵀ)/2 at the start and after every step.

    This descends the symmetric part of the gradient, Tian et al.'s Eq. 7–8: taking the symmetric part is linear and
    leaves a symmetric W_p and its decay alone, so of gradient and momentum the symmetric parts alone act.
    """

    def __init__(self, network: nn.Linear):
        super().__init__(network)
        self._symmetrise()

    def after_step(self, z: torch.Tensor, target: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Make W_p symmetric."""
        self._symmetrise()

    @torch.no_grad()
    def _symmetrise(self):
        # Out of place: `w += w.T` reads entries it has already written and leaves w asymmetric.
        self.network.weight.copy_(symmetric_part(self.network.weight))


class TiedNetwork(PredictorNetwork):
    """`mlp` whose matrices are replaced by (W₁ + W₂ᵀ)/2 and its transpose at the start and after every step.

    As for a symmetric matrix, this descends the gradient of the one matrix that both stand for.
    """

    def __init__(self, network: nn.Sequential):
        super().__init__(network)
        self._tie()

    def after_step(self, z: torch.Tensor, target: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Tie the matrices again."""
        self._tie()

    @torch.no_grad()
    def _tie(self):
        first, last = self.network[0].weight, self.network[-1].weight
        mean = (first + last.mT) / 2
        first.copy_(mean)
        last.copy_(mean.mT)


class BiasLayer(nn.Module):
    """z/‖z‖ through a bias, one matrix, or both in either order: Zhang et al. 2022's simplified predictors.

    `layers`: "bias" and "weight" in the order in which they act. b is 0 at the start, W as torch's linear layer has it,
    as in the authors' code. `constrain` is applied to each where it acts, so that what is learned is free.
    """

    def __init__(self, d: int, layers: Sequence[str] = ("bias",), constrain: Callable = lambda w: w):
        super().__init__()
        self.layers, self.constrain = tuple(layers), constrain
        for name in self.layers:
            start = torch.zeros(d) if name == "bias" else nn.Linear(d, d, bias=False).weight.detach()
            self.register_parameter(name, nn.Parameter(start))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(B, d) to (B, d)."""
        x = directions(z)
        for name in self.layers:
            w = self.constrain(getattr(self, name))
            x = x + w if name == "bias" else x @ w.mT
        return x


def mlp(d: int, hidden: int, bias: bool) -> nn.Sequential:
    """SimSiam's predictor: d → hidden with BatchNorm and ReLU → d without; `bias` is that of the last layer."""
    first = nn.Linear(d, hidden, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, d, bias=bias))


# ---------------------------------------------------------------- targets


class TargetNetwork(nn.Module):
    """A target with weights. Those that are to be trained are in the optimiser's group `role`.

    One that is another state of the online network has it as `network`.
    """

    role = "predictor"
    """Whose learning rate and weight decay its trained weights have: trunk or predictor."""

    def forward(self, batch, seen, online):
        """`seen` (`deep.method.outputs.Outputs`) with its target, (V, B, d), and perhaps terms: losses of its own."""
        raise NotImplementedError

    def after_step(self, online: nn.Module, outputs) -> None:
        """Called after every step of the optimiser, with what this process's images gave in it, all parts together."""


class CopyTarget(TargetNetwork):
    """A network of its own that starts as the online network's copy and passes no gradient."""

    def __init__(self, online: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, batch, seen, online):
        """The target embeddings of the views that were seen, without gradient."""
        return replace(seen, target=torch.stack([self.network(x) for x in batch.views[: len(seen.z)]]))


class EmaTarget(CopyTarget):
    """A moving average of the online network's parameters, starting as its copy (BYOL).

    Parameters are averaged. BatchNorm's buffers are not: the target normalises with the statistics of its own batch, as
    the online network does, and its running statistics follow from its own forward passes.
    """

    def __init__(self, online: nn.Module, momentum: float):
        super().__init__(online)
        self.momentum = momentum

    @torch.no_grad()
    def after_step(self, online: nn.Module, outputs) -> None:
        """W_a ← γW_a + (1 − γ)W."""
        mine, theirs = list(self.network.parameters()), list(online.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.momentum)
