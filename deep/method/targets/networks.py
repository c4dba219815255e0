"""Targets with weights or a memory of their own, beside the moving average of the network in `method.networks`."""

from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call

from stopgrad.deep.method.networks import CopyTarget, TargetNetwork
from stopgrad.deep.method.objectives.predictive import cosine_loss
from stopgrad.deep.method.objectives.vectors import random_directions
from stopgrad.deep.processes.distributed import gathered


class AlternatingTarget(CopyTarget):
    """The online network as it was at the last multiple of `every` steps, BatchNorm's running statistics included."""

    def __init__(self, online: nn.Module, every: int):
        super().__init__(online)
        self.every, self.steps = every, 0

    def after_step(self, online: nn.Module, outputs) -> None:
        """Become the present network, if it is time."""
        self.steps += 1
        if self.steps % self.every == 0:
            self.network.load_state_dict(online.state_dict())

    def get_extra_state(self) -> torch.Tensor:
        """The step counter, for the state dict: a run may be resumed within a cycle."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the step counter from a state dict."""
        self.steps = int(state)


class InverseTarget(TargetNetwork):
    """h⁻¹(h(z)) as target, where h and h⁻¹ learn by losses of their own and the encoder alone by the objective."""

    def __init__(self, inverse: nn.Module, predictor: nn.Module):
        super().__init__()
        self.inverse = inverse
        self._predictor = (predictor,)  # in a tuple, since it is not the target's to keep or to have trained

    def forward(self, batch, seen, online):
        """`seen` with predictions whose gradient passes by h to the embeddings, and with the losses of h and h⁻¹."""
        (h,), z = self._predictor, seen.z.detach()
        fixed = {name: w.detach() for name, w in h.named_parameters()}
        p = torch.stack([functional_call(h, fixed, (v,)) for v in seen.z])
        predicted = torch.stack([h(v) for v in z])
        inverted = torch.stack([self.inverse(v) for v in p.detach()])
        terms = {"predictor_loss": cosine_loss(predicted, z.flip(0)), "inverse_loss": cosine_loss(inverted, z)}
        return replace(seen, p=p, target=inverted.detach(), terms=seen.terms | terms)

    def after_step(self, online: nn.Module, outputs) -> None:
        """What a predictor does after a step; one that asked for the optimiser would be set, and is refused."""
        self.inverse.after_step(outputs.p, outputs.z, None)


class MovingAverageTarget(TargetNetwork):
    """A moving average for each image, in `means`, (n, d), which grows with the indices; until an image is seen it is
    NaN, and its own embedding is the first, or a unit vector that its index decides (`start`).

    Every process has the averages of all images, the same in each.
    """

    def __init__(self, d: int, momentum: float, start: Literal["embedding", "random"] = "embedding"):
        super().__init__()
        self.momentum, self.start = momentum, start
        self.register_buffer("means", torch.zeros(0, d))

    @torch.no_grad()
    def forward(self, batch, seen, online):
        """An image's average before this step, for every view; where that is NaN each view's own z."""
        self._make_room(batch.index)
        means = self.means[batch.index.to(self.means.device)]
        return replace(seen, target=torch.where(means.isnan(), seen.z.detach(), means))

    @torch.no_grad()
    def after_step(self, online: nn.Module, outputs) -> None:
        """η ← mη + (1 − m)z, z being the mean over the image's views, and over its places if it has several in a step.

        Every process must call it.
        """
        z, index = gathered(outputs.z.mean(dim=0), dim=0), gathered(outputs.index, dim=0)
        self._make_room(index)
        images = index.unique()
        places = (images[:, None] == index).to(z)
        new = places @ z / places.sum(dim=1, keepdim=True)
        images = images.to(self.means.device)
        old = self.means[images]
        moved = self.momentum * old + (1 - self.momentum) * new
        self.means[images] = torch.where(old.isnan(), new, moved)

    def _make_room(self, index: torch.Tensor) -> None:
        (n, d), last = self.means.shape, int(index.max())
        if last < n:
            return
        if self.start == "random":
            more = random_directions(0, torch.arange(n, last + 1), d).to(self.means)
        else:
            more = self.means.new_full((last + 1 - n, d), torch.nan)
        self.means = torch.cat([self.means, more])

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        if (saved := state_dict.get(f"{prefix}means")) is not None:
            self.means = self.means.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
