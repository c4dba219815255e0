"""The variants of Zhang et al. 2022 as a grid: Tables 1 to 4, Figures 4, 5 and 6, simplified predictors, InfoNCE.

Below `cifar` the plain names are a small MLP on points with content and noise, where every row of the paper's tables
takes seconds, and `digits/…` the same on a ResNet. `bn/…` has an output BatchNorm without affine parameters, which
decides whether a collapse can be complete, and `affine/…` one with them. From `cifar` on all are the paper's own
network and recipe, in the size of the scale.
"""

from dataclasses import dataclass

from stopgrad.deep.config import Config
from stopgrad.deep.presets.zhang2022 import ZHANG2022_CIFAR100, ZHANG2022_TOY
from stopgrad.experiments.suites.grid import Arm, Suite, change
from stopgrad.experiments.tian2021 import ablation as tian2021

NONE = {"predictor": "identity"}
BN = {
    "": {},
    "bn/": {"projector_output_bn": "affine_free", "projector_bias": False},
    "affine/": {"projector_output_bn": "affine", "projector_bias": False},
}
"""The projector's end, by what the name of an arm begins with."""
COLLAPSE = "direction toward=view"
"""The naive Siamese objective as a phase: each view drawn to the other."""
TEMPERATURES = (0.03, 0.1, 0.2, 0.5, 1.0, 5.0)


def arms(steps: int, epochs: int) -> dict[str, tuple[dict, str]]:
    """What each arm changes in SimSiam, and where it is in the paper.

    steps: of a run of so many epochs, which phases divide.
    """
    third, quarter = steps // 3, steps // 4
    collapsed = (f"predictive@{third}", f"{COLLAPSE}@{third}")
    whole = (f"predictive@{quarter}", f"{COLLAPSE}@{5 * quarter}")  # of a run twice as long
    grid: dict[str, tuple[dict, str]] = {
        "simsiam": ({}, "Table 2"),
        "naive": (NONE, "Table 2"),
        "mirror": ({"stop_gradient": "mirrored"}, "Table 2"),
        "mirror-linear": ({"stop_gradient": "mirrored", "predictor": "linear"}, "Table 2, h without BatchNorm"),
        "symmetric": ({"target": "symmetric"}, "Table 2"),
        "inverse": ({"target": "inverse"}, "Figure 3"),
        "no-stop-gradient": ({"stop_gradient": "none"}, "§1"),
        "moving-average": (NONE | {"target": "moving_average"}, "Table 1"),
        "moving-average-random": (
            NONE | {"target": "moving_average", "average_start": "random"},
            "Table 1, averages that start at random as in the authors' code",
        ),
        "linear": ({"predictor": "linear"}, "simplified predictors"),
        "fixed": ({"predictor": "fixed"}, "simplified predictors"),
        "from-collapse": (scheduled(f"{COLLAPSE}@{third}", "predictive"), "from a collapsed state"),
        "from-health": (scheduled(f"predictive@{2 * third}", COLLAPSE), "from a healthy state"),
    }
    for views in (10, 25):
        grid[f"fresh-views-{views}"] = (NONE | {"target": "fresh_views", "target_views": views}, "Table 1")
    for keep in ("none", "centre", "residual", "both"):
        grid[f"keep-{keep}"] = ({"objective": "components", "keep": keep}, "Table 4")
    for keep in ("centre", "residual", "both"):
        grid[f"triplet-{keep}"] = (NONE | {"objective": "triplet", "keep": keep}, "Table 3")
    for layers in ("bias", "weight", "weight_bias", "bias_weight"):
        for constraint in ("none", "tanh"):
            name = layers.replace("_", "-") + ("" if constraint == "none" else f"-{constraint}")
            values = {"predictor": "bias", "predictor_layers": layers, "predictor_constraint": constraint}
            grid[name] = (values, "simplified predictors")
    for tau in TEMPERATURES:
        grid[f"infonce-{tau:g}"] = (NONE | {"objective": "infonce", "temperature": tau}, "Figure 5c")
    grid["directions"] = (
        scheduled(*(f"direction toward={toward}@{quarter}" for toward in DIRECTIONS), repeat=True),
        "Figure 4",
    )
    for form in ("covariance", "correlation"):
        for embeddings in ("normalised", "raw"):
            regulariser = f"decorrelation form={form} embeddings={embeddings}"
            name = f"undo-{form}" + ("-raw" if embeddings == "raw" else "")
            grid[name] = (scheduled(*collapsed, regulariser), "Figure 5b")
            grid[f"long-{name}"] = (
                scheduled(*whole, regulariser) | {"epochs": 2 * epochs},
                "Figure 5b, after a collapse of five quarters of the others' steps",
            )
    return grid


DIRECTIONS = ("centre", "random", "residual", "random")
"""Figure 4's phases."""


def scheduled(*phases: str, repeat: bool = False) -> dict:
    """Objectives one after the other."""
    return {"objective": "schedule", "phases": phases} | ({"repeat": True} if repeat else {})


@dataclass(frozen=True)
class Scale:
    """The base, its seeds, steps that phases divide, and which arms there are (None: all), by what they begin with."""

    base: Config
    steps: int
    chosen: dict[str, tuple[str, ...] | None]
    seeds: tuple[int, ...] = (0, 1, 2)
    digits: tuple[str, ...] = ()
    """Arms of a ResNet on digits as well."""


def ablation(scale: str) -> Suite:
    """The whole study at one of `experiments.suites.grid.SCALES`."""
    at = SCALE[scale]
    found: dict[str, Arm] = {}
    for prefix, names in at.chosen.items():
        for name, (values, place) in arms(at.steps, at.base.optimisation.epochs).items():
            if names is None or name in names:
                config = change(at.base, **BN[prefix] | values)
                found[prefix + name] = Arm(prefix + name, config, at.seeds, place)
    for name in at.digits:
        values, place = arms(DIGITS_STEPS, DIGITS.optimisation.epochs)[name]
        found[f"digits/{name}"] = Arm(f"digits/{name}", change(DIGITS, **values), at.seeds, place)
    worth, aside = (WORTH, ()) if scale in ("cifar", "gpu", "paper") else ((), ASIDE if scale == "cpu" else ())
    return Suite("zhang2022", scale, found, worth, aside)


# ---------------------------------------------------------------- scales

# 800 steps, in whose time (lr/(1 − m) each) what collapses has collapsed; a run takes five seconds.
TOY = change(ZHANG2022_TOY, epochs=8, lr=0.15, monitor_every=20, evaluate_every=100, knn_images=1000)
TOY_STEPS, DIGITS_STEPS = 800, 264
DIGITS = change(
    tian2021.COSINE,
    target="shared",
    projector_bias=True,
    predictor="mlp",
    predictor_hidden=32,
    predictor_bias=True,
    predictor_lr=None,
    predictor_weight_decay=None,
    weight_decay=1e-4,
    lr=0.05,
)
_CIFAR = change(
    ZHANG2022_CIFAR100,
    dataset="cifar10",
    fraction=0.2,
    image_size=24,
    crop_scale=(0.2, 1.0),
    width=16,
    projector_layers=2,
    projector_hidden=256,
    embedding_dim=128,
    predictor_hidden=32,
    batch_size=64,
    epochs=15,
    lr=0.06,
    lr_scaling="none",
    warmup_epochs=1.0,
    weight_decay=5e-4,
    monitor_every=39,
    evaluate_every=5,
)
_GPU = change(ZHANG2022_CIFAR100, epochs=200, monitor_every=195)

_TABLES = (
    *("simsiam", "naive", "mirror", "symmetric", "inverse", "moving-average", "fresh-views-10"),
    *("keep-none", "keep-centre", "keep-residual", "triplet-centre", "triplet-residual", "triplet-both"),
)
_CPU = (
    *_TABLES,
    *("no-stop-gradient", "bias", "weight", "linear", "from-collapse", "from-health", "directions"),
    *("infonce-0.1", "infonce-0.5", "infonce-5", "undo-covariance", "undo-correlation"),
    *("moving-average-random", "mirror-linear"),
)
_BN = ("simsiam", "naive", "symmetric", "undo-covariance", "undo-covariance-raw", "undo-correlation")
# Behind affine parameters a collapse takes three times as long, for which the long arms are.
_AFFINE = (
    *("naive", "moving-average"),
    *("long-undo-covariance", "long-undo-covariance-raw", "long-undo-correlation"),
)
ASIDE = (
    *("moving-average-random", "mirror-linear", "weight", "bn/symmetric"),
    *(f"bn/{name}" for name in _BN if name.startswith("undo")),
    *(f"affine/{name}" for name in _AFFINE),
)
"""What beside the paper's rows explains them: why averages and Mirror come out otherwise, and which BatchNorm decides
in Figure 5b; and two of which nothing is claimed."""
WORTH = (
    _TABLES,
    ("bias", "weight", "linear", "fixed", "directions", "undo-covariance", "undo-correlation"),
    tuple(f"bn/{name}" for name in _TABLES),
    tuple(f"infonce-{tau:g}" for tau in TEMPERATURES),
)
"""Arms by what they decide: Tables 1 to 4; simplified predictors, Figures 4 and 5b; the output BatchNorm; InfoNCE."""
_ALL = dict.fromkeys(BN)

SCALE = {
    "smoke": Scale(
        change(TOY, epochs=1, gaussian_samples=6 * 64, batch_size=64, monitor_every=1), 6, {"": _CPU, "bn/": _BN}
    ),
    "quick": Scale(TOY, TOY_STEPS, {"": ("simsiam", "naive")}),
    "cpu": Scale(
        TOY,
        TOY_STEPS,
        {"": _CPU, "bn/": _BN, "affine/": _AFFINE},
        digits=("simsiam", "naive"),
    ),
    "cifar": Scale(_CIFAR, 2340, _ALL),
    "gpu": Scale(_GPU, 200 * 195, _ALL),
    "paper": Scale(ZHANG2022_CIFAR100, 1000 * 195, _ALL),
}
