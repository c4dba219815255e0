"""A run in the theory's units: its recipe, what was measured of its views, its hyperparameters and its length."""

import math
from typing import TYPE_CHECKING, NamedTuple

from stopgrad.deep.config import Config
from stopgrad.deep.method.optimisation import base_rates, rates
from stopgrad.linear_theory.exact.unit_map import TrainingRecipe, to_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.arrays import as_tensor

if TYPE_CHECKING:
    import torch


class Noise(NamedTuple):
    """How much of a feature's variance the views disagree about, measured on one batch."""

    sigma2: float
    """σ² = tr X′/tr X."""
    x: float
    """A typical eigenvalue of X: tr X²/tr X, the mean eigenvalue weighted by variance."""


def measure_noise(first: "torch.Tensor", second: "torch.Tensor") -> Noise:
    """σ² and x of features (N, n) of two views of N ≥ 2 images, X and X′ being Lemma 1's.

    tr X = E[f₁·f₂] and tr X′ = ½E‖f₁ − f₂‖²; tr X² = E[(f₁ᵢ·f₂ⱼ)(f₁ⱼ·f₂ᵢ)] over pairs of images i ≠ j, without the bias
    of order n/N that the estimated X's own square has. NaN where the views have no variance in common (tr X ≤ 0).
    """
    import torch

    first, second = (as_tensor(v, "features", dtype=torch.float64) for v in (first, second))
    n, own, products = len(first), (first * second).sum(dim=1), first.mT @ second
    trace = float(own.mean())
    if not trace > 0:
        return Noise(math.nan, math.nan)
    square = float((products * products.mT).sum() - own.square().sum()) / (n * (n - 1))
    return Noise(float((first - second).square().sum()) / (2 * n) / trace, square / trace)


def recipe_of(config: Config) -> TrainingRecipe:
    """The run as the theory's unit map reads it; learning rates are those after warm-up and scaling.

    A loss that the theory does not know has the units of the cosine, for which it is indicative too.
    """
    o, method, peak = config.optimisation, config.method, base_rates(config.optimisation)
    return TrainingRecipe(
        lr=peak.trunk,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
        predictor_lr=None if o.predictor_lr is None else peak.predictor,
        predictor_weight_decay=o.predictor_weight_decay,
        ema_momentum=method.target.ema_momentum,
        loss_scale=method.loss_scale,
        loss=method.objective.theory or "cosine",
    )


def units(config: Config, noise: Noise) -> Hyperparameters:
    """α_p, η, η_p, β of the run, with the σ² and x that were measured."""
    return to_theory(recipe_of(config), noise.sigma2, noise.x)[0]


def time_of_run(config: Config, steps_per_epoch: int) -> float:
    """The theory's time that the run lasts: Σ c·lr/(1 − m) over its steps, its schedule included."""
    o = config.optimisation
    restart = config.data.order.restart(o.epochs)
    total = math.fsum(rates(o, step, steps_per_epoch, restart).trunk for step in range(o.epochs * steps_per_epoch))
    return config.method.loss_scale * total / (1 - o.momentum)
