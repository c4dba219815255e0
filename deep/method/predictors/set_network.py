"""Predictors that are set from the correlation of the embeddings: DirectPred, DirectSet, DirectCopy and the optimal.

Each is a rule from moments of the embeddings to W_p (Tian, Chen & Ganguli 2021, Eq. 18–19 and Table 1; Wang et al.
2021), entered in `linear_theory.predictors.rules`; around it stands what training adds: moving averages, processes, how
often, and the optimiser that learns W_p in between.
"""

import torch
from torch import nn

from stopgrad.deep.processes.distributed import all_reduce_mean
from stopgrad.linear_theory.predictors.matrices import correlation, full_precision, update_correlation
from stopgrad.linear_theory.predictors.rules import Rule

# ---------------------------------------------------------------- what is measured


def own_moments(z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """F = E[f fᵀ] over both views' embeddings, uncentred: z (2, B, d) to (1, d, d)."""
    return correlation(z.flatten(0, 1), check=False)[None]


def own_and_cross_moments(z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """F and E[f_a fᵀ], f_a being the target's embedding of the other view: z, target (2, B, d) to (2, d, d)."""
    d = z.shape[-1]
    joint = correlation(torch.cat([target.flip(0), z], -1).flatten(0, 1), check=False)
    return torch.stack([joint[d:, d:], joint[:d, d:]])


_MOMENTS = {"own": own_moments, "own and cross": own_and_cross_moments}


# ---------------------------------------------------------------- what W_p is then


@full_precision
def _linear_map(z, weight):
    return z.to(torch.promote_types(z.dtype, torch.float32)) @ weight.mT


class SetPredictor(nn.Module):
    """p = W_p z, W_p being set after every `freq`-th step from moments averaged over processes and steps.

    Until then W_p is what a linear predictor starts from (same draw of random numbers), as runs that differ in the
    predictor alone should. With `freq` 1 it is a buffer, which no optimiser sees; above 1 it is a parameter
    and learns in between. Moments and step counter are in the state dict, so a resumed run continues exactly.
    """

    def __init__(self, rule: Rule, options: dict, d: int, rho: float, freq: int):
        super().__init__()
        self.measure, self.rule, self.options = _MOMENTS[rule.moments], rule.matrix, options
        self.rho, self.freq = rho, freq
        self.steps = 0
        weight = nn.Linear(d, d, bias=False).weight
        if freq == 1:
            self.register_buffer("weight", weight.detach())
        else:
            self.weight = weight
        self.register_buffer("moments", torch.zeros_like(self.measure(torch.zeros(2, 1, d), torch.zeros(2, 1, d))))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Embeddings to predictions, (B, d) each, in float32 or wider. Changes nothing, in training or evaluation."""
        return _linear_map(z, self.weight)

    @torch.no_grad()
    def after_step(self, z: torch.Tensor, target: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Average the step's moments into the running ones, and set W_p if it is its turn.

        z, target: (2, B, d), the online and the target network's embeddings of views 1 and 2, as the step computed
        them in train mode. Every process must call it, with equally large batches. Nothing happens in eval mode. Where
        moments are NaN or infinite W_p stays as it is. Raises ValueError where the module was cast to half precision.
        """
        if not self.training:
            return
        new = all_reduce_mean(self.measure(z, target))
        self.moments.copy_(update_correlation(self.moments if self.steps else None, new, self.rho))
        self.steps += 1
        if self.steps % self.freq == 0 and self.moments.isfinite().all():
            self.weight.copy_(self.rule(*self.moments, **self.options))
            _forget_momentum(optimiser, self.weight)

    def matrix(self) -> torch.Tensor:
        """A copy of W_p (d, d) in float32 or wider."""
        return self.weight.detach().to(torch.promote_types(self.weight.dtype, torch.float32), copy=True)

    def get_extra_state(self) -> torch.Tensor:
        """The step counter, for the state dict; no buffer, or reading it would make the host wait for the device."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the step counter from a state dict."""
        self.steps = int(state)


def _forget_momentum(optimiser: torch.optim.Optimizer, weight: torch.Tensor) -> None:
    """Let `weight` start from rest.

    Its momentum sums gradients taken at the W_p that is no more, and would drag the new one along the old one's path.
    Zeroed, which for SGD without dampening equals never having moved, and not removed: the fused SGD fails where one
    parameter of a group has a buffer and another has none.
    """
    for value in optimiser.state.get(weight, {}).values():
        if isinstance(value, torch.Tensor):
            value.zero_()
