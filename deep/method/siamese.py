"""The Siamese method: an online network, a predictor, a target, and a loss, each chosen once from the config.

Two views x₁, x₂ of an image become embeddings z₁, z₂ = projector(backbone(x)); each view's prediction p = predictor(z)
is compared with the other view's target t. `Siamese` composes functions and knows no method by name.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from stopgrad.deep.config import Method
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.backbones import backbone
from stopgrad.deep.method.heads import predictor, projector
from stopgrad.linear_theory.tools.lengths import directions


class Outputs(NamedTuple):
    """What one batch gave: the loss, and for both views (2, B, d) embeddings, predictions and target embeddings."""

    loss: torch.Tensor
    z: torch.Tensor
    p: torch.Tensor
    target: torch.Tensor

    def detached(self) -> "Outputs":
        """The same numbers without their graph."""
        return Outputs(*(v.detach() for v in self))

    @staticmethod
    def joined(parts: list["Outputs"]) -> "Outputs":
        """The outputs of a batch that was computed in equal parts."""
        if len(parts) == 1:
            return parts[0]
        fields = list(zip(*parts))
        return Outputs(torch.stack(fields[0]).mean(), *(torch.cat(f, dim=1) for f in fields[1:]))


# ---------------------------------------------------------------- losses: (prediction, target), each (…, B, d)


def cosine_loss(prediction, target):
    """−cos(prediction, target), averaged over the batch (Chen & He 2021, Eq. 1).

    Of true directions, as the monitor's, however short the vectors: the gradient is exact and grows as 1/‖prediction‖,
    where torch's cosine_similarity takes any length below 1e-8 for 1e-8. A vector that is 0 has no direction: it adds
    0 to the loss and receives no gradient.
    """
    return -(directions(prediction) * directions(target)).sum(dim=-1).mean()


def squared_loss(prediction, target):
    """½‖prediction − target‖², averaged over the batch (Tian, Chen & Ganguli 2021, Eq. 1)."""
    return (prediction - target).square().sum(dim=-1).mean() / 2


# ---------------------------------------------------------------- stop-gradient: (z, p, t) → (prediction, target)


def stop_target(z, p, t):
    """The target passes no gradient: SimSiam and BYOL."""
    return p, t.detach()


def stop_nothing(z, p, t):
    """Both sides pass gradients; with a learned predictor the loss collapses all the same (Theorem 2)."""
    return p, t


def stop_prediction(z, p, t):
    """Mirror SimSiam: the predicting side passes no gradient (Zhang et al. 2022, Fig. 1c)."""
    return p.detach(), t


def predict_oneself(z, p, t):
    """IsoLoss (Halvagal et al. 2023): the loss of p, its gradient acting on z as if the predictor were the identity.

    For squared error this is ½‖z − sg(t + z − p)‖². The predictor receives no gradient.
    """
    return z + (p - z).detach(), t.detach()


STOP = {"target": stop_target, "none": stop_nothing, "mirrored": stop_prediction}
LOSS = {"cosine": cosine_loss, "squared": squared_loss}


def objective(method: Method) -> Callable:
    """The loss of (z, p, target), each (2, B, d): every view predicts the other, or the first alone the second."""
    sides = predict_oneself if method.isoloss else STOP[method.stop_gradient]
    distance, scale, views = LOSS[method.loss], method.loss_scale, slice(2 if method.symmetric_loss else 1)

    def loss(z, p, target):
        prediction, goal = sides(z, p, target.flip(0))
        return scale * distance(prediction[views], goal[views])

    return loss


# ---------------------------------------------------------------- networks


class Online(nn.Module):
    """Backbone and projector: views → embeddings. The backbone runs in `half` precision where that is given."""

    def __init__(self, method: Method, in_features: int | None = None, half: torch.dtype | None = None):
        super().__init__()
        self.backbone = backbone(method, in_features)
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


class SharedTarget(nn.Module):
    """The online network is its own target (SimSiam)."""

    def forward(self, views, z):
        """The target embeddings of both views: (2, B, d)."""
        return z

    def after_step(self, online: Online) -> None:
        """Nothing to follow."""


class EmaTarget(nn.Module):
    """A moving average of the online network's parameters, starting as its copy (BYOL).

    Parameters are averaged. BatchNorm's buffers are not: the target normalises with the statistics of its own batch, as
    the online network does, and its running statistics follow from its own forward passes.
    """

    def __init__(self, online: Online, momentum: float):
        super().__init__()
        self.network = copy.deepcopy(online).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, views, z):
        """The target embeddings of both views: (2, B, d), without gradient."""
        return torch.stack([self.network(x) for x in views])

    @torch.no_grad()
    def after_step(self, online: Online) -> None:
        """W_a ← γW_a + (1 − γ)W."""
        mine, theirs = list(self.network.parameters()), list(online.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.momentum)


class Siamese(nn.Module):
    """The whole method. `in_features`: dimension of the views where they are vectors, not images."""

    def __init__(self, method: Method, in_features: int | None = None, half: torch.dtype | None = None):
        super().__init__()
        self.online = Online(method, in_features, half)
        self.predictor = predictor(method)
        self.target = EmaTarget(self.online, method.ema_momentum) if method.target == "ema" else SharedTarget()
        self.objective = objective(method)

    def forward(self, batch: Batch) -> Outputs:
        """Loss and embeddings of a batch of two views. The views go through one by one: BatchNorm sees each."""
        views = batch.views
        z = torch.stack([self.online(x) for x in views])
        p = torch.stack([self.predictor(v) for v in z])
        target = self.target(views, z)
        return Outputs(self.objective(z, p, target), z, p, target)

    @torch.no_grad()
    def after_step(self, outputs: Outputs, optimiser) -> None:
        """What follows an optimiser's step: a set predictor is set, a moving target moves."""
        self.predictor.after_step(outputs.z.detach(), outputs.target.detach(), optimiser)
        self.target.after_step(self.online)
