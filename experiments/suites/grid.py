"""What a suite is made of: arms, each a config to be trained with several seeds, and how one config becomes another."""

from dataclasses import dataclass, replace

from stopgrad.deep.config import Config, change
from stopgrad.deep.measuring.units import recipe_of
from stopgrad.linear_theory.exact.unit_map import to_recipe
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

SCALES = ("smoke", "quick", "cpu", "cifar", "gpu", "paper")
"""From seconds on any machine to the papers' own size."""


@dataclass(frozen=True)
class Arm:
    """One setting of a suite, to be trained with several seeds."""

    name: str
    config: Config
    """With seed 0; runs differ in the seed alone, so that arms are paired by it."""
    seeds: tuple[int, ...]
    note: str = ""
    """What it differs in from the suite's baseline, in words."""


@dataclass(frozen=True)
class Suite:
    """A grid at one scale."""

    name: str
    scale: str
    arms: dict[str, Arm]
    worth: tuple[tuple[str, ...], ...] = ()
    """Groups of arms, the one to be carried out first at the front; arms of no group come last."""
    aside: tuple[str, ...] = ()
    """Arms of side questions, which are carried out only where they are asked for; else the record answers for them."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that some arm has."""
        return tuple(sorted({seed for arm in self.arms.values() for seed in arm.seeds}))

    def configs(self) -> list[tuple[str, int, Config]]:
        """(arm, seed, config) of every run, group by group and in each seed by seed, so that an interrupted suite is
        complete for the first groups, and for some seeds of the next."""
        first = dict.fromkeys(name for group in self.worth for name in group)
        groups = [*self.worth, [name for name in self.arms if name not in first]]
        return [
            (name, seed, replace(self.arms[name].config, seed=seed))
            for group in groups
            for seed in self.seeds
            for name in group
            if name in self.arms and seed in self.arms[name].seeds
        ]


def in_units(config: Config, eta: float, beta: float, alpha_p: float = 1.0) -> Config:
    """`config` with an EMA target whose momentum is β, and weight decay and predictor's rate that are η and α_p."""
    recipe, o = recipe_of(config), config.optimisation
    found = to_recipe(
        Hyperparameters(eta=eta, beta=beta, alpha_p=alpha_p),
        lr=recipe.lr,
        momentum=recipe.momentum,
        loss_scale=recipe.loss_scale,
        loss=recipe.loss,
    )
    values = {
        "weight_decay": found.weight_decay,
        "predictor_weight_decay": found.predictor_weight_decay,
        "predictor_lr": None if found.predictor_lr is None else o.lr * found.predictor_lr / recipe.lr,
        "ema_momentum": found.ema_momentum,
    }
    plain = {name: None if value is None else float(value) for name, value in values.items()}  # not NumPy's
    return change(config, target="ema", **plain)
