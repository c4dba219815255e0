"""How long a run is in the theory's units: what had time to act on it, and its setting in words."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stopgrad.deep.config import Config
from stopgrad.deep.measuring.units import Noise, recipe_of, units
from stopgrad.linear_theory.exact.fixed_points import critical_eta

Need = Literal["eta_t", "beta_t"]
_NAMES = {"eta_t": ("ηt", "weight decay"), "beta_t": ("βt", "the EMA")}


class Acted(NamedTuple):
    """How long weight decay and the EMA acted on a run, in units of their own time; a rate that is 0 is left out."""

    eta_t: list[float]
    """ηt, and η_p t where the predictor learns with a decay of its own."""
    beta_t: list[float]


def acted(config: Config, t: float) -> Acted:
    """What a run of length t (in the theory's time) was long enough for."""
    h = units(config, Noise(0.0, 1.0))  # η, η_p and β do not depend on the data
    decays = [h.eta, *([h.predictor_decay] if config.method.predictor.learns else [])]
    return Acted(*([float(rate) * t for rate in rates if rate] for rates in (decays, [h.beta])))


def out_of_regime(needs: Sequence[Need], runs: Sequence[Mapping]) -> str | None:
    """The sentence to say where something of `needs` had no time to act in `runs`, {arm: record} of each seed.

    A rate of exactly 0 is a setting of its own and not a short run.
    """
    for need in needs:
        symbol, what = _NAMES[need]
        products: dict[str, list[float]] = {}
        for records in runs:
            for arm, record in records.items():
                products.setdefault(arm, []).extend(getattr(acted(record.config, record.last("time")), need))
        if not any(products.values()):
            return f"Out of regime: no run that this claim reads has {what} at all."
        for arm, found in products.items():
            if not all(product >= 1 for product in found):
                return f"Out of regime: {symbol} = {np.min(found):.2g} in {arm}; below 1 {what} had no time to act."
    return None


def describe(arm, records: Sequence = ()) -> tuple[str, str, str]:
    """An arm: its name, the theory's units of it (ηt and βt with a finished run's time), and its recipe, in words."""
    t = min((record.last("time") for record in records), default=None)
    return f"{arm.name}{f' ({arm.note})' if arm.note else ''}", in_theory(arm.config, t), in_recipe(arm.config)


def in_theory(config: Config, t: float | None) -> str:
    """α_p, η, β and, where the time t is known, ηt and βt; η/η_c where the data's σ² is set and not measured."""
    data, gaussian = config.data, config.data.dataset == "gaussian"
    h = units(config, Noise(data.gaussian_sigma2, 1.0) if gaussian else Noise(0.0, 1.0))
    part = f" = {h.eta / critical_eta(h):.3g} η_c" if gaussian and config.method.objective.theory == "squared" else ""
    said = [f"α_p = {h.alpha_p:.3g}"] if config.method.predictor.learns else []
    said.append(f"η = {h.eta:.3g}{part}{_times('ηt', h.eta, t)}")
    if config.method.predictor.learns and h.eta_p is not None:
        said.append(f"η_p = {h.eta_p:.3g}{_times('η_p t', h.eta_p, t)}")
    said.append("no EMA" if h.beta is None else f"β = {h.beta:.3g}{_times('βt', h.beta, t)}")
    return ", ".join(said)


def _times(symbol: str, rate: float, t: float | None) -> str:
    return "" if t is None else f", {symbol} = {rate * t:.3g}"


def in_recipe(config: Config) -> str:
    """Learning rates after scaling, weight decay, EMA momentum, loss, epochs."""
    o, recipe = config.optimisation, recipe_of(config)
    said = [f"lr {recipe.lr:.3g}, momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:.3g}"]
    if recipe.predictor_lr is not None:
        said.append(f"predictor lr {recipe.predictor_lr:.3g}")
    if recipe.predictor_weight_decay is not None:
        said.append(f"predictor weight decay {recipe.predictor_weight_decay:.3g}")
    said.append("target shared" if recipe.ema_momentum is None else f"EMA momentum {recipe.ema_momentum:g}")
    objective = config.method.objective
    settings = ", ".join(f"{k} {v}" for k, v in vars(objective).items())
    loss = f"{objective.theory} loss" if objective.theory else f"{objective} loss ({settings})"
    said.append(f"{config.method.predictor} predictor, {loss}, {o.epochs} epochs of {config.data.dataset}")
    return ", ".join(said)
