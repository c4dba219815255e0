"""A run in the theory's units, and what the linear theory expects of it, said before the first step."""

import math
from typing import TYPE_CHECKING, NamedTuple

from stopgrad.deep.config import SET_PREDICTORS, Config, Method, predictor_learns
from stopgrad.deep.training.optimisation import base_rates, rates
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.unit_map import TrainingRecipe, predict, to_theory
from stopgrad.linear_theory.predictors.rules import SET_RULES
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
    total = math.fsum(rates(o, step, steps_per_epoch).trunk for step in range(o.epochs * steps_per_epoch))
    return config.method.loss_scale * total / (1 - o.momentum)


# What `predict` says of a step, of other recipes, and what the sentence on units says here.
_LEFT_OUT = ("time", "predictor_lr", "slower_target", "memory")


def expectation(config: Config, noise: Noise, steps_per_epoch: int) -> list[str]:
    """What the run is in the theory's units and what the linear theory expects of it: sentences for a person."""
    if not (math.isfinite(noise.sigma2) and noise.x > 0):
        return ["The two views have no variance in common before the projector's last layer: no units of the theory."]
    method, h, t = config.method, units(config, noise), time_of_run(config, steps_per_epoch)
    if method.stop_gradient == "target" and method.predictor in ("linear", "symmetric"):
        return [_in_units(config, noise, h, t), *_linear_predictor(config, noise, h, t), *_caveat(config, said=True)]
    return [_in_units(config, noise, h, t), *_about_method(config, noise, h, t), *_caveat(config, said=False)]


def _in_units(config: Config, noise: Noise, h: Hyperparameters, t: float) -> str:
    o, learns = config.optimisation, predictor_learns(config.method)
    parts = [f"t = {t:.4g} over the run"]
    if learns:
        falls = o.predictor_schedule == "constant" and (o.schedule != "constant" or o.warmup_epochs > 0)
        parts.append(f"α_p = {h.alpha_p:.3g}{' where the learning rate is highest, else more' if falls else ''}")
    effects = ("weight decay hardly acts", "the start still shows at the end", "the start is forgotten")
    parts.append(f"η = {h.eta:.3g}, ηt = {h.eta * t:.3g} ({effects[int(h.eta * t > 0.1) + int(h.eta * t > 3)]})")
    if learns and h.eta_p is not None:
        parts.append(f"η_p = {h.eta_p:.3g}")
    if h.beta is not None:
        parts.append(f"β = {h.beta:.3g}, βt = {h.beta * t:.3g}")
    seen = f"of what the projector's last layer sees, σ² = {noise.sigma2:.3g} and x = {noise.x:.3g}"
    return f"In the theory's units: {'; '.join(parts)}; {seen}."


def _linear_predictor(config: Config, noise: Noise, h: Hyperparameters, t: float) -> list[str]:
    """Fixed points, basin, alignment, target, and for squared error the speed."""
    recipe, method = recipe_of(config), config.method
    steps = max(1, round(t / recipe.time_per_step))  # steps at full rate that take as long as the schedule's
    left_out = {*_LEFT_OUT, *(["speed"] * (method.loss == "cosine")), *(["target"] * (method.target == "shared"))}
    said = [one.words() for one in predict(recipe, noise.sigma2, steps, noise.x) if one.kind not in left_out]
    if method.predictor == "symmetric" and h.beta is None and h.alpha_p == 1 and h.eta_p is None:
        warning = (
            "Tian et al. saw a symmetric predictor fail without EMA at α_p = 1 and equal decay (Table 3); a larger "
            "α_p, or decay of the predictor alone, rescued it (Fig. 6, Table 5)."
        )
        said.insert(len(said) - (method.loss == "cosine"), warning)
    return said


# ---------------------------------------------------------------- other methods than a learned linear predictor

_IN_DIRECTION = (
    "Without {} nothing holds embeddings apart, and a cosine loss is lowest where all point one way: a collapse in "
    "direction is to be expected (in Theorem 2, of squared error, the norm dies)."
)
_MIRRORED = (
    "With the gradient stopped on the predicting side the predictor gets none, and the embedding is drawn to what is "
    "predicted from itself: a collapse is to be expected (Mirror SimSiam)."
)
_BOUNDED = "The output BatchNorm rules a complete collapse out; the rank may collapse all the same."
_OTHER_PREDICTORS = {
    "mlp": "With stop-gradient and a predictor that learns, no collapse is to be expected; the theory's p and s belong "
    "to a linear one.",
    "fixed": "A predictor that never learns cannot follow the embedding: Chen & He saw no collapse and no convergence.",
    "bias": "A bias alone acts on the mean direction only: no complete collapse, but nothing holds the rank.",
}


def _about_method(config: Config, noise: Noise, h: Hyperparameters, t: float) -> list[str]:
    """What the theory says of the switches themselves."""
    method, squared = config.method, config.method.loss == "squared"
    bounded = [_BOUNDED] * (method.projector_output_bn == "affine_free")
    if method.stop_gradient == "none":
        return [_without_stop_gradient(h, t) if squared else _IN_DIRECTION.format("stop-gradient"), *bounded]
    if method.predictor == "identity":
        return [_without_predictor(h, t) if squared else _IN_DIRECTION.format("a predictor"), *bounded]
    if method.stop_gradient == "mirrored":
        return [_MIRRORED, *bounded]
    if squared and not method.isoloss and fixed_points(h).regime in ("critical", "collapse_only"):
        said = predict(recipe_of(config), noise.sigma2, 1, noise.x)
        return [one.words() for one in said if one.kind == "outcome"]  # whatever sets or learns p
    return _set_predictor(method, h) if method.predictor in SET_PREDICTORS else [_OTHER_PREDICTORS[method.predictor]]


def _without_stop_gradient(h: Hyperparameters, t: float) -> str:
    # Eq. 6 with X = x I, X′ = σ² X: λ_min(H) = min over W_p of x(σ²(p² + 1) + (p − 1)²) + η, taken at p = 1/a.
    rate = h.x * (h.a - 1 / h.a) + h.eta
    if rate == 0:
        return "Without stop-gradient a collapse needs augmentation or weight decay (Theorem 2), and here is neither."
    return (
        "Without stop-gradient the embedding dies in every direction, whatever the predictor (Theorem 2): over the run "
        f"to e^(−λt) = {math.exp(-rate * t):.2g} or less, λ = x(a − 1/a) + η = {rate:.3g}."
    )


def _without_predictor(h: Hyperparameters, t: float) -> str:
    rate = h.x * h.sigma2 + h.eta
    if rate == 0:
        return "Without a predictor a collapse needs augmentation or weight decay (Theorem 2), and here is neither."
    slower = ", more slowly behind the EMA" if h.beta is not None else ""
    return (
        "Without a predictor the embedding dies wherever the views disagree, stop-gradient or not (Theorem 2): over "
        f"the run to e^(−λt) = {math.exp(-rate * t):.2g}, λ = xσ² + η = {rate:.3g}{slower}."
    )


def _set_predictor(method: Method, h: Hyperparameters) -> list[str]:
    rule, squared = SET_RULES[method.predictor], method.loss == "squared"
    normalised = "normalisation" in rule.options and method.predictor_normalisation != "none"
    said = [f"The predictor is set from the embeddings ({method.predictor}), so its alignment is no evidence."]
    if rule.prospect:
        return [f"{said[0][:-1]}; {rule.prospect}"]
    if method.isoloss:
        said.append("With IsoLoss a mode's own p does not slow it down: weak modes learn as fast as strong ones.")
    elif rule.weak_mode_grows is None:
        pass  # nothing is known of the rule's weak modes
    elif squared and not normalised:
        said += _weak_modes(method, h)
    elif method.predictor_eps == 0 and method.predictor_cutoff >= 0:
        said.append("With ε = 0 a weak mode learns as slowly as its p is small, and a dead one stays dead.")
    else:
        said.append("The p of weak modes stays above 0, so that they grow.")
    if squared and normalised:
        said.append(
            "Dividing F by its size makes p blind to the norm, which under squared error then grows or, where p > 1/a, "
            "dies; --predictor-normalisation none lets it settle."
        )
    return said


def _weak_modes(method: Method, h: Hyperparameters) -> list[str]:
    """Which ε lets a mode too weak to matter to p grow: p₋ < p(0) < p₊, at the uncut spectrum."""
    if method.predictor_cutoff != 0:
        return []
    points = fixed_points(h.replace(eta_p=None))
    condition = SET_RULES[method.predictor].weak_mode_grows(float(points.p_minus), float(points.p_plus))
    return [f"A weak mode grows just if {condition}; ε is {method.predictor_eps:.3g}."]


def _caveat(config: Config, said: bool) -> list[str]:
    """What the theory leaves out; `said`: that the loss is a cosine has been said."""
    method = config.method
    one_layer = method.backbone == "identity" and method.projector_layers == 1 and method.projector_output_bn == "none"
    linear = one_layer and method.predictor not in ("mlp", "fixed", "bias")
    misses = ["squared error"] * (method.loss == "cosine" and not said)
    misses += ["one linear layer and a linear predictor on fixed inputs"] * (not linear)
    if not misses:
        return []
    return [f"The theory is of {' and of '.join(misses)}; here it is indicative: the way to look, not the numbers."]
