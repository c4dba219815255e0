"""The objective of SimSiam and BYOL: each view's prediction is compared with the other view's target.

Its switches are the theory's: which side passes no gradient, cosine or squared error, IsoLoss, one direction or both
(Chen & He 2021; Tian, Chen & Ganguli 2021; Zhang et al. 2022; Halvagal et al. 2023); and SimSiam's cross-entropy.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.linear_theory.tools.lengths import directions

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


def cross_entropy_loss(prediction, target):
    """−softmax(target)·log softmax(prediction), averaged over the batch: SimSiam's other similarity (Chen & He 2021).

    The d channels are as classes that the target chooses among; neither side is normalised to a direction.
    """
    return -(target.softmax(dim=-1) * prediction.log_softmax(dim=-1)).sum(dim=-1).mean()


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
LOSS = {"cosine": cosine_loss, "squared": squared_loss, "cross_entropy": cross_entropy_loss}

# ---------------------------------------------------------------- the part

_MIRRORED = (
    "With the gradient stopped on the predicting side the predictor gets none, and the embedding is drawn to what is "
    "predicted from itself: a collapse is to be expected (Mirror SimSiam)."
)


@dataclass(frozen=True)
class Predictive(Objective):
    """Each view's prediction against the other's target."""

    stop_gradient: Literal["target", "none", "mirrored"] = "target"
    """Which side passes no gradient: the target, neither, or the predicting side (Zhang et al. 2022)."""
    loss: Literal["cosine", "squared", "cross_entropy"] = "cosine"
    """−cos(prediction, target) or ½‖prediction − target‖², as in the theory, or SimSiam's cross-entropy of softmaxes,
    −softmax(target)·log softmax(prediction); the mean over the batch."""
    isoloss: bool = False
    """Halvagal et al. 2023: the gradient at the prediction acts on z itself, so that all modes learn at one speed."""
    symmetric_loss: bool = True
    """Let each view predict the other, and average; else only the first predicts the second."""

    @property
    def theory(self):
        """The linear theory is of squared error and cosine."""
        return None if self.loss == "cross_entropy" else self.loss

    @property
    def in_theory(self):
        """Lemma 1 has both losses; IsoLoss has another gradient."""
        return self.theory is not None and not self.isoloss

    def __call__(self, outputs):
        """The loss of z, p and target, each (2, B, d)."""
        sides, views = predict_oneself if self.isoloss else STOP[self.stop_gradient], 2 if self.symmetric_loss else 1
        prediction, goal = sides(outputs.z, outputs.p, outputs.target.flip(0))
        return LOSS[self.loss](prediction[:views], goal[:views])

    def complaints(self, config) -> Iterator[str]:
        """IsoLoss goes with a predictor that is set, and a stopped gradient elsewhere with a target that learns."""
        predictor, target = config.method.predictor, config.method.target
        if self.isoloss and not predictor.is_set:
            yield f"--isoloss gives the predictor no gradient; use one that is set, like directset, not {predictor}"
        if self.isoloss and predictor.is_set and predictor.learns:
            yield "--isoloss gives the predictor no gradient to learn by between settings; use --predictor-freq 1"
        if self.isoloss and self.stop_gradient != "target":
            yield f"--isoloss defines its own target; it goes with --stop-gradient target, not {self.stop_gradient}"
        if not target.learns and self.stop_gradient != "target":
            yield (
                f"--stop-gradient {self.stop_gradient} needs a target that learns, which is --target shared, "
                f"not {target}"
            )

    def unbalanced(self) -> str | None:
        """Theorem 1 is of the gradient through the predictor alone."""
        if self.isoloss:
            return "IsoLoss does not send its gradient through the predictor"
        if self.stop_gradient != "target":
            return "the embedding learns through the target too, or only through it (--stop-gradient target)"
        return None

    def expects(self, setting) -> list[str] | None:
        """Theorem 2 without stop-gradient, Mirror SimSiam; else it is the predictor that decides."""
        if self.stop_gradient == "none":
            free = _dies(setting.h, setting.t) if setting.squared else setting.in_direction("stop-gradient")
            return [free, *setting.bounded]
        if self.stop_gradient == "mirrored" and not setting.config.method.predictor.absent:
            return [_MIRRORED, *setting.bounded]
        return None


def _dies(h, t: float) -> str:
    # Eq. 6 with X = x I, X′ = σ² X: λ_min(H) = min over W_p of x(σ²(p² + 1) + (p − 1)²) + η, taken at p = 1/a.
    rate = h.x * (h.a - 1 / h.a) + h.eta
    if rate == 0:
        return "Without stop-gradient a collapse needs augmentation or weight decay (Theorem 2), and here is neither."
    return (
        "Without stop-gradient the embedding dies in every direction, whatever the predictor (Theorem 2): over the run "
        f"to e^(−λt) = {math.exp(-rate * t):.2g} or less, λ = x(a − 1/a) + η = {rate:.3g}."
    )
