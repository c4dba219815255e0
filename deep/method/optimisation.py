"""SGD with its two groups of parameters, trunk and predictor, and their learning rates step by step."""

import math
from typing import TYPE_CHECKING, NamedTuple

from stopgrad.deep.config import Optimisation

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.method.siamese import Siamese


class Rates(NamedTuple):
    """Learning rates of one step, or whatever else each role of weights has of its own; see `Siamese.groups`."""

    trunk: float
    predictor: float


def base_rates(o: Optimisation) -> Rates:
    """The learning rates at full height: lr · batch_size/256 with linear scaling."""
    scale = o.batch_size / 256 if o.lr_scaling == "linear" else 1.0
    return Rates(scale * o.lr, scale * (o.lr if o.predictor_lr is None else o.predictor_lr))


def rates(o: Optimisation, step: int, steps_per_epoch: int, restart: int = 0) -> Rates:
    """The learning rates of the step with this number, from 0: linear warm-up, then a cosine to 0, or constant.

    The predictor's may stay at its height (`predictor_schedule="constant"`), as in SimSiam's released code. At epoch
    `restart` the cosine begins anew, without a warm-up, to reach 0 at the run's end (a warm restart; Loshchilov and
    Hutter 2017); before it, nothing is different.
    """
    peak, warm, total = base_rates(o), o.warmup_epochs * steps_per_epoch, o.epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warm) if warm > 0 else 1.0
    begun = max(warm, restart * steps_per_epoch) if step >= restart * steps_per_epoch else warm
    done = max(0.0, step - begun) / max(1.0, total - begun)
    factor = rise * (0.5 * (1 + math.cos(math.pi * min(done, 1.0))) if o.schedule == "cosine" else 1.0)
    return Rates(factor * peak.trunk, peak.predictor * (1.0 if o.predictor_schedule == "constant" else factor))


def make_optimiser(siamese: "Siamese", o: Optimisation) -> "torch.optim.SGD":
    """SGD over all parameters that learn, BatchNorm's and biases included, as the papers have it."""
    import torch

    own = o.weight_decay if o.predictor_weight_decay is None else o.predictor_weight_decay
    decay, weights = Rates(trunk=o.weight_decay, predictor=own), siamese.groups()
    groups = [{"params": weights[role], "weight_decay": getattr(decay, role)} for role in Rates._fields]
    # Fused: one kernel for all parameters, where a small network would launch several for each.
    optimiser = torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum, fused=True)
    if o.momentum:  # at rest, all alike: fused, a weight that gets its first gradient later than others would fail
        optimiser.state |= {w: {"momentum_buffer": torch.zeros_like(w)} for some in weights.values() for w in some}
    return optimiser


def set_rates(optimiser: "torch.optim.SGD", now: Rates) -> None:
    """Let the optimiser's two groups learn at these rates."""
    for group, rate in zip(optimiser.param_groups, now, strict=True):
        group["lr"] = rate
