"""What the linear theory expects of a run, said before the first step.

What is to be expected of a method stands with its parts (`expects`); here is what several of them say.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from stopgrad.deep.config import Config
from stopgrad.deep.measuring.units import Noise, recipe_of, time_of_run, units
from stopgrad.linear_theory.exact.cosine_recipe import predict
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    pass


# What `predict` says of a step, of other recipes, and what the sentence on units says here.
_LEFT_OUT = ("time", "predictor_lr", "slower_target", "memory")


@dataclass(frozen=True)
class Setting:
    """A run as the parts see it that say what is to be expected."""

    config: Config
    noise: Noise
    h: Hyperparameters
    """The run in the theory's units."""
    t: float
    """Its length in the theory's time."""

    @property
    def squared(self) -> bool:
        """Whether the loss is the theory's squared error."""
        return self.config.method.objective.theory == "squared"

    @property
    def bounded(self) -> list[str]:
        """What an output BatchNorm does to a collapse, if there is one, in a sentence."""
        said = "The output BatchNorm rules a complete collapse out; the rank may collapse all the same."
        return [said] * (self.config.method.projector_output_bn == "affine_free")

    @cached_property
    def every_mode_dies(self) -> list[str]:
        """That the weight decay is more than any mode survives, if it is, whatever sets or learns p."""
        if not self.squared or self.config.method.objective.isoloss:
            return []
        if fixed_points(self.h).regime not in ("critical", "collapse_only"):
            return []
        said = predict(recipe_of(self.config), self.noise.sigma2, 1, self.noise.x)
        return [one.words() for one in said if one.kind == "outcome"]

    def in_direction(self, missing: str) -> str:
        """The collapse of a cosine loss, or of one that the theory does not know, without something."""
        if self.config.method.objective.theory is None:
            return (
                f"Without {missing} nothing holds embeddings apart, and the loss is lowest where all are alike: a "
                "collapse is to be expected (as in Theorem 2, of squared error)."
            )
        return (
            f"Without {missing} nothing holds embeddings apart, and a cosine loss is lowest where all point one way: a "
            "collapse in direction is to be expected (in Theorem 2, of squared error, the norm dies)."
        )

    def of_a_learned_matrix(self, *more: str) -> list[str]:
        """Fixed points, basin, alignment, speed, target; for the cosine what becomes of norms and directions.

        Of a loss that the theory does not know what it says of squared error, but for the speed.
        """
        recipe, target = recipe_of(self.config), self.config.method.target
        if self.config.method.objective.theory is None:
            recipe = replace(recipe, loss="squared")
        steps = max(1, round(self.t / recipe.time_per_step))  # steps at full rate that take as long as the schedule's
        left_out = {*_LEFT_OUT, *(["target"] * (target.ema_momentum is None)), *(["speed"] * (not self.squared))}
        found = predict(recipe, self.noise.sigma2, steps, self.noise.x)
        said = {one.kind: one.words() for one in found if one.kind not in left_out}
        return [*said.values(), *more]


def expectation(config: Config, noise: Noise, steps_per_epoch: int) -> list[str]:
    """What the run is in the theory's units and what the linear theory expects of it: sentences for a person."""
    if not (math.isfinite(noise.sigma2) and noise.x > 0):
        return ["The two views have no variance in common before the projector's last layer: no units of the theory."]
    setting = Setting(config, noise, units(config, noise), time_of_run(config, steps_per_epoch))
    method = config.method
    said = method.objective.expects(setting)
    if said is None:
        said = method.target.expects(setting)
    learned = said is None and method.predictor.linear and method.predictor.learns and not method.predictor.is_set
    learned &= method.objective.theory is not None
    if said is None:
        said = method.predictor.expects(setting)
    return [_in_units(setting), *said, *_caveat(config, said=learned)]


def _in_units(setting: Setting) -> str:
    o, h, t, learns = setting.config.optimisation, setting.h, setting.t, setting.config.method.predictor.learns
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
    seen = f"of what the projector's last layer sees, σ² = {setting.noise.sigma2:.3g} and x = {setting.noise.x:.3g}"
    return f"In the theory's units: {'; '.join(parts)}; {seen}."


def _caveat(config: Config, said: bool) -> list[str]:
    """What the theory leaves out; `said`: that the loss is no squared error has been said."""
    method = config.method
    one_layer = method.backbone.identity and method.projector_layers == 1 and method.projector_output_bn == "none"
    misses = ["squared error"] * (method.objective.theory != "squared" and not said)
    linear = one_layer and method.predictor.linear
    misses += ["one linear layer and a linear predictor on fixed inputs"] * (not linear)
    if not misses:
        return []
    return [f"The theory is of {' and of '.join(misses)}; here it is indicative: the way to look, not the numbers."]
