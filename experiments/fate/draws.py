"""Recipes drawn at random, each with three seeds: a third of them to calibrate the forecast, the others to score it.

Drawn are weight decay, EMA or not, α_p, the predictor, which gradients stop, how strong the augmentation is, network
and width, and the loss. A draw is a function of its number alone.
"""

import math

import numpy as np

from stopgrad.deep.config import Config, change
from stopgrad.deep.data.fold import fold
from stopgrad.experiments.ladder.rungs import DIGITS
from stopgrad.experiments.suites.grid import Arm, Suite, in_units
from stopgrad.experiments.tian2021.ablation import SHARED, faster_predictor

KNOWN, NEW = 20, 40
_DRAW = int.from_bytes(b"fate")
_BASE = change(
    DIGITS[6].base,
    **{"epochs": 20, "laws_every": 1, "monitor_every": 22, "projector_layers": 1, "lr": 0.03, "momentum": 0.0},
    **{"crop_scale": (0.2, 1.0), "knn_images": 1024},
)
DIMENSIONS = _BASE.method.embedding_dim
LONG = 13.2
"""t of a run of 440 steps at a learning rate of 0.03."""
CHOICES = {
    "predictor": ("linear", "linear", "linear", "symmetric", "symmetric", "mlp", "mlp", "identity"),
    "stop_gradient": ("target",) * 7 + ("none",),
    "target": ("shared", "ema"),
    "loss": ("squared", "cosine"),
    "crop_scale": ((0.08, 1.0), (0.2, 1.0), (0.5, 1.0), (0.8, 1.0)),
    "network": (("mlp", 16), ("mlp", 32), ("mlp", 64), ("resnet18", 4), ("resnet18", 8)),
    "alpha_p": (1.0, 8.0),
}
DECAY = (0.02, 8.0)
"""ηt is drawn between these, its logarithm evenly."""


def drawn(number: int) -> dict:
    """What draw `number` chose: CHOICES by name, and `eta_t`.

    >>> drawn(0) == drawn(0) != drawn(1)
    True
    """
    rng = np.random.default_rng(fold(_DRAW, number))
    found = {name: options[int(rng.integers(len(options)))] for name, options in CHOICES.items()}
    return found | {"eta_t": float(np.exp(rng.uniform(*np.log(DECAY))))}


def config_of(number: int) -> Config:
    """The run of a draw. Without an EMA target where a gradient passes through the target, which it then cannot."""
    found = drawn(number)
    backbone, width = found["network"]
    base = change(_BASE, backbone=backbone, width=width, loss=found["loss"], crop_scale=found["crop_scale"])
    shared = found["stop_gradient"] == "none" or found["target"] == "shared"
    base = in_units(base, eta=found["eta_t"] / LONG, beta=0.5)
    base = change(base, **SHARED) if shared else base
    if found["predictor"] == "identity":
        rule = {"predictor": "identity", "predictor_lr": None, "predictor_weight_decay": None}
    else:
        rule = faster_predictor(base, found["alpha_p"]) | {"predictor": found["predictor"]}
        rule |= {"predictor_hidden": 8} if found["predictor"] == "mlp" else {}
    return change(base, **rule, stop_gradient=found["stop_gradient"])


def arm_name(number: int) -> str:
    """'known/03' of those to calibrate with, 'new/00' of those to be forecast."""
    return f"known/{number:02d}" if number < KNOWN else f"new/{number - KNOWN:02d}"


def words(number: int) -> str:
    """What was drawn, in a few words."""
    found = drawn(number)
    stop = "" if found["stop_gradient"] == "target" else "no stop-gradient, "
    target = "EMA, " if found["target"] == "ema" and not stop else ""
    network = "{} {}".format(*found["network"])
    crop, decay = found["crop_scale"][0], math.log10(found["eta_t"])
    return (
        f"{found['loss']}, {network}, {found['predictor']}, {stop}{target}α_p {found['alpha_p']:g}, crops from "
        f"{crop:g}, ηt 10^{decay:.1f}"
    )


def fate(scale: str) -> Suite:
    """All draws at one of `experiments.suites.grid.SCALES`: the same runs at all, but few and short at `smoke`."""
    if scale == "smoke":
        short = {"epochs": 4, "fraction": 0.1, "batch_size": 32, "monitor_every": 1}
        arms = [Arm(arm_name(k), change(config_of(k), **short), (0, 1, 2), words(k)) for k in (0, 1, KNOWN)]
    else:
        arms = [Arm(arm_name(k), config_of(k), (0, 1, 2), words(k)) for k in range(KNOWN + NEW)]
    named = {arm.name: arm for arm in arms}
    aside = tuple(named) if scale in ("quick", "cpu") else ()
    return Suite("fate", scale, named, aside=aside)
