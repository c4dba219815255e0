"""A run in the theory's units, and what the linear theory expects of it, said before the first step."""

from typing import NamedTuple

import torch

from deep.config import SET_PREDICTORS, Config
from deep.optimisation import base_rates, rates
from linear_theory.hyperparameters import Hyperparameters
from linear_theory.matrix_flow import symmetric_part
from linear_theory.unit_map import TrainingRecipe, predict, to_theory


class Noise(NamedTuple):
    """How much of a feature's variance the views disagree about, measured on one batch."""

    sigma2: float
    """σ² = tr X′/tr X."""
    x: float
    """A typical eigenvalue of X: tr X²/tr X, the mean eigenvalue weighted by variance."""


@torch.no_grad()
def measure_noise(first: torch.Tensor, second: torch.Tensor) -> Noise:
    """σ² and x of features (N, n) of two views: X = sym E[f₁f₂ᵀ], X′ = ½E[(f₁ − f₂)(f₁ − f₂)ᵀ], as in Lemma 1."""
    first, second = first.double(), second.double()
    X = symmetric_part(first.mT @ second) / len(first)
    trace = float(X.diagonal().sum().clamp(min=1e-300))
    return Noise(float((first - second).square().sum()) / (2 * len(first)) / trace, float(X.square().sum()) / trace)


def recipe_of(config: Config) -> TrainingRecipe:
    """The run as the theory's unit map reads it; learning rates are those after warm-up and scaling."""
    o, method, peak = config.optimisation, config.method, base_rates(config.optimisation)
    ema = method.target == "ema"
    return TrainingRecipe(
        lr=peak.trunk,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
        predictor_lr=None if o.predictor_lr is None else peak.predictor,
        predictor_weight_decay=o.predictor_weight_decay,
        ema_momentum=method.ema_momentum if ema else None,
        loss_scale=method.loss_scale,
        loss=method.loss,
    )


def units(config: Config, noise: Noise) -> Hyperparameters:
    """α_p, η, η_p, β of the run, with the σ² and x that were measured."""
    return to_theory(recipe_of(config), noise.sigma2, noise.x)[0]


def time_of_run(config: Config, steps_per_epoch: int) -> float:
    """The theory's time that the run lasts: Σ c·lr/(1 − m) over its steps, its schedule included."""
    o = config.optimisation
    total = sum(rates(o, step, steps_per_epoch).trunk for step in range(o.epochs * steps_per_epoch))
    return config.method.loss_scale * total / (1 - o.momentum)


def expectation(config: Config, noise: Noise, steps_per_epoch: int) -> list[str]:
    """What the run is in the theory's units and what the linear theory expects of it: sentences for a person."""
    method, recipe = config.method, recipe_of(config)
    h, t = units(config, noise), time_of_run(config, steps_per_epoch)
    steps = max(1, round(t / recipe.time_per_step))  # steps at full rate that take as long as the schedule's
    follows = f", β = {h.beta:.3g}, βt = {h.beta * t:.3g}" if h.beta is not None else ""
    said = [
        f"In the theory's units: α_p = {h.alpha_p:.3g}, η = {h.eta:.3g}, η_p = {h.predictor_decay:.3g}{follows}, "
        f"t = {t:.4g} over the run, ηt = {h.eta * t:.3g}; measured before the projector's last layer: "
        f"σ² = {noise.sigma2:.3g}, x = {noise.x:.3g}.",
        _about_method(config),
    ]
    if method.stop_gradient == "target" and method.predictor in ("linear", "symmetric"):
        said += predict(recipe, noise.sigma2, steps, noise.x)[1:]
    if method.predictor == "mlp" or method.backbone not in ("linear", "identity"):
        said.append("The theory is of linear networks; here it tells which way to look, not the numbers.")
    return [sentence for sentence in said if sentence]


def _about_method(config: Config) -> str | None:
    """What the theory says of the switches themselves."""
    method = config.method
    if method.stop_gradient == "none":
        return "Without stop-gradient the encoder is driven to zero in every direction (Theorem 2): a collapse."
    if method.stop_gradient == "mirrored":
        return (
            "With the gradient stopped on the predicting side the predictor never learns: a collapse is to be expected."
        )
    if method.predictor == "identity":
        return "Without a predictor every direction that the views disagree about decays (Theorem 2): a collapse."
    if method.predictor == "bias":
        return "A bias alone acts on the mean direction only: no complete collapse, but nothing holds the rank."
    if method.predictor in SET_PREDICTORS:
        return f"The predictor is set from F's eigenvectors ({method.predictor}), so its alignment is no evidence."
    return None
