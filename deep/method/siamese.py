"""The Siamese method: an online network, a predictor, a target, and an objective, each chosen once from the config.

Views x₁, x₂ of an image become embeddings z₁, z₂ = projector(backbone(x)); each view's prediction p = predictor(z) is
compared with the other view's target t. `Siamese` composes parts and knows no method by name.
"""

from collections import Counter
from dataclasses import replace

import torch
from torch import nn

from stopgrad.deep.config import Method
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.networks import projector
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.processes.distributed import gathered_with_gradient


class Online(nn.Module):
    """Backbone and projector: views → embeddings. The backbone runs in `half` precision where that is given."""

    def __init__(self, method: Method, in_features: int | None = None, half: torch.dtype | None = None):
        super().__init__()
        self.backbone = method.backbone.build(in_features)
        self.projector = projector(method, self.backbone.out_features)
        self.half = half

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        """Representations of views, in the precision of the weights: (B, backbone.out_features)."""
        if self.half is None:
            return self.backbone(x)
        with torch.autocast(x.device.type, dtype=self.half):
            return self.backbone(x).to(next(self.projector.parameters()).dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings of views: (B, d)."""
        return self.projector(self.represent(x))


class Siamese(nn.Module):
    """The whole method. `in_features`: how many numbers a view has, for backbones that must know.

    Raises ValueError where some weights that are to be trained would not be.
    """

    def __init__(self, method: Method, in_features: int | None = None, half: torch.dtype | None = None):
        super().__init__()
        self.online = Online(method, in_features, half)
        self.predictor = method.predictor.build(method.embedding_dim)
        self.target = method.target.build(self.online, self.predictor, method)
        self.method, self.objective, self.loss_scale = method, method.objective, method.loss_scale
        self.groups()

    def compared(self, batch: Batch) -> Outputs:
        """Embeddings of a batch, predictions and targets. The views go through one by one: BatchNorm sees each."""
        z = torch.stack([self.online(x) for x in batch.views[: self.objective.views]])
        p = torch.stack([self.predictor(v) for v in z])
        found = Outputs(z, p, batch.index, target=z, step=batch.step)
        if self.method.target.wanted(self.objective.at(batch.step), self.method.predictor):
            found = self.target(batch, replace(found, target=None), self.online)
        if found.target is None or found.target.shape != p.shape:
            shape = None if found.target is None else tuple(found.target.shape)
            raise ValueError(
                f"the target's embeddings have shape {shape}; they must have the predictions', {tuple(p.shape)}"
            )
        return found

    def forward(self, batch: Batch) -> Outputs:
        """Embeddings of a batch, and the loss, for which an objective that compares images has all processes'."""
        found = self.compared(batch)
        compared = found.map(gathered_with_gradient) if self.objective.whole_batch else found
        loss = self.loss_scale * self.objective(compared)
        if loss.ndim:
            raise ValueError(f"the objective gave a loss of shape {tuple(loss.shape)}; it must be one number, 0-d")
        return replace(found, loss=loss, scalars=found.scalars | self.objective.scalars(compared))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """{role: what is trained at its learning rate and weight decay}: trunk and predictor, each parameter once.

        Raises ValueError where a parameter that is to be trained is in no group, or in two.
        """
        groups: dict[str, list[nn.Parameter]] = {"trunk": [], "predictor": []}
        for role, part in (("trunk", self.online), ("predictor", self.predictor), (None, self.target)):
            if isinstance(part, nn.Module):
                groups[role or part.role] += [w for w in part.parameters() if w.requires_grad]
        times = Counter(id(w) for weights in groups.values() for w in weights)
        for name, weight in self.named_parameters(remove_duplicate=False):
            if weight.requires_grad and (count := times[id(weight)]) != 1:
                raise ValueError(f"{name} would be trained {count} times a step; a part must own its weights, once")
        return groups

    @torch.no_grad()
    def after_step(self, outputs: Outputs, optimiser) -> None:
        """What follows an optimiser's step: a set predictor is set, a moving target moves."""
        self.predictor.after_step(outputs.z.detach(), outputs.target.detach(), optimiser)
        self.target.after_step(self.online, outputs)
