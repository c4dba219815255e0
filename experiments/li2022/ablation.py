"""Li, Efros & Pathak 2022 as a grid: share of the data × size of the network, orders of the data, four methods.

An arm is FAMILY/SETTING. Families are networks (width, depth, block, width of the output) and methods; the plain one,
without a prefix, is SimSiam on a scale's base. Settings are shares of the images and orders of them, by the authors'
own bookkeeping: whatever is seen, all runs of a scale take the same number of steps (`deep.data.orders`). So `baseline`
is all images in the usual order (the paper's multiple pass), `fraction-10` the same steps on a tenth of them, and
`single-pass`, `cumulative` and `hybrid-40` differ from it in nothing but the order. `linear/…` is one linear layer on
Gaussian points with X = I and X′ = σ²I, where the theory says how many modes live, on all points and on a few.
"""

from dataclasses import dataclass, field

from stopgrad.deep.config import Config, change
from stopgrad.deep.presets.default import DEFAULT
from stopgrad.deep.presets.li2022 import LI2022_IMAGENET
from stopgrad.deep.presets.simsiam import SIMSIAM_CIFAR10
from stopgrad.experiments.suites.grid import Arm, Suite, in_units
from stopgrad.experiments.tian2021.ablation import EMA, LINEAR_EMA, SHARED, TUNED, faster_predictor

PERCENT = (1, 5, 10, 20, 50)
"""Shares of the images, in per cent; a scale has those that are whole epochs of its runs."""
SWITCHES = (20, 40, 60, 80)
"""Where a single pass gives way to the usual order, in per cent of the steps; at 0 it is `baseline`, at 100
`single-pass`."""


def settings(epochs: int) -> dict[str, tuple[dict, str]]:
    """What each setting changes in a run of so many epochs, and where it is in the paper."""
    shares = {p: p * epochs // 100 for p in PERCENT if p * epochs % 100 == 0}
    grid: dict[str, tuple[dict, str]] = {"baseline": ({}, "multiple pass")}
    grid |= {f"fraction-{p}": ({"order": "last", "chunk_size": c}, f"{p} % of the images") for p, c in shares.items()}
    grid |= {
        "single-pass": ({"order": "current"}, "single pass"),
        "cumulative": ({"order": "accumulate"}, "cumulative"),
    }
    for p in SWITCHES:
        grid[f"hybrid-{p}"] = ({"order": "hybrid", "single_pass": p / 100}, "hybrid")
    restarted = {"order": "hybrid", "single_pass": 0.4, "restart_lr": True, "schedule": "cosine"}
    return grid | {"hybrid-40-restart": (restarted, "hybrid, the learning rate restarted at the switch")}


def networks(base: Config) -> dict[str, tuple[dict, str]]:
    """What each family of networks changes in its base, a ResNet-18; projectors are as wide as what they read."""
    width, m = base.method.backbone.width, base.method
    d = 8 * width

    def of(backbone: str, width: int, out: int) -> dict:
        return {"backbone": backbone, "width": width, "projector_hidden": out}

    return {
        "": ({}, "ResNet-18"),
        "half-width/": (of("resnet18", width // 2, d // 2), "half as wide"),
        "quarter-width/": (of("resnet18", width // 4, d // 4), "a quarter as wide"),
        "deep/": (of("resnet34", width, d), "ResNet-34"),
        "bottleneck/": (of("resnet18_bottleneck", width, 4 * d), "bottlenecks, four times the output"),
        "bottleneck-same-output/": (of("resnet18_bottleneck", width // 4, d), "bottlenecks, the same output"),
        "deep-bottleneck/": (of("resnet50", width, 4 * d), "ResNet-50"),
        "deep-basic/": (of("resnet50_basic", width, d), "ResNet-50's depth without bottlenecks"),
        "narrow-embedding/": (
            {"embedding_dim": m.embedding_dim // 4, "predictor_hidden": max(2, m.predictor.hidden // 4)},
            "a quarter of the embedding's dimension",
        ),
    }


def methods(momentum: float) -> dict[str, tuple[dict, str]]:
    """What each family of methods changes; an EMA target's momentum is the scale's."""
    ema = {**EMA, "ema_momentum": momentum}
    return {
        "byol/": (ema, "BYOL"),
        "directpred/": (ema | {"predictor": "directpred"} | TUNED["directpred"], "DirectPred"),
        "directcopy/": (ema | {"predictor": "directcopy"} | TUNED["directcopy"], "DirectCopy"),
    }


def linear_arms(short: dict) -> dict[str, tuple[Config, str]]:
    """The theory's own setting at a weight decay η that every mode of X = I can bear, and at one that none can.

    A predictor that learns 8 times as fast leaves few starts in the basin of collapse (Observation 1 of Tian et al.).
    short: changes for runs that are over at once.
    """

    def at(eta: float, **values) -> Config:
        base = change(in_units(LINEAR_EMA, eta=eta, beta=0.2), **SHARED)
        return change(base, **faster_predictor(base, 8.0) | values | short)

    few = {"order": "last", "chunk_size": 1}
    return {
        "linear/baseline": (at(BEARABLE), "all points, η below η_c of X = I"),
        "linear/few": (at(BEARABLE, **few), "a fortieth of the points, η below η_c of X = I"),
        "linear/narrow": (at(BEARABLE, embedding_dim=8), "all points, W of rank 8"),
        "linear/beyond": (at(UNBEARABLE), "all points, η above η_c of X = I"),
        "linear/beyond-few": (at(UNBEARABLE, **few), "a fortieth of the points, η above η_c of X = I"),
    }


BEARABLE, UNBEARABLE = 0.15, 0.3
"""η on either side of η_c = 1/4(1 + σ²) = 0.227."""


@dataclass(frozen=True)
class Scale:
    """A base, and in groups, the one to be carried out first at the front, which settings of which families it has."""

    base: Config
    groups: tuple[dict[str, tuple[str, ...]], ...]
    ema_momentum: float = 0.99
    seeds: tuple[int, ...] = (0, 1, 2)
    linear: dict = field(default_factory=dict)
    """What the linear arms change besides."""
    linear_arms: tuple[str, ...] | None = None
    """Which of them there are; None: all."""


def ablation(scale: str) -> Suite:
    """The whole study at one of `experiments.suites.grid.SCALES`. Raises KeyError for an arm that is none."""
    at = SCALE[scale]
    families, grid = networks(at.base) | methods(at.ema_momentum), settings(at.base.optimisation.epochs)
    arms: dict[str, Arm] = {}
    worth = []
    for group in at.groups:
        named = [(family, setting) for family, chosen in group.items() for setting in chosen]
        for family, setting in named:
            (own, network), (ordered, order) = families[family], grid[setting]
            name = family + setting
            arms[name] = Arm(name, change(at.base, **own | ordered), at.seeds, f"{network}, {order}")
        worth.append(tuple(family + setting for family, setting in named))
    linear = linear_arms(at.linear)
    linear = linear if at.linear_arms is None else {name: linear[name] for name in at.linear_arms}
    arms |= {name: Arm(name, config, at.seeds, note) for name, (config, note) in linear.items()}
    worth[0] += tuple(linear)  # they take seconds
    # Digits leave undecided whatever compares networks: scale cifar is for that. The baseline is aside with the others,
    # so that pictures, too, show all of them from one store.
    aside = tuple(name for name in arms if name not in linear) if scale == "cpu" else ()
    return Suite("li2022", scale, arms, tuple(worth) if len(worth) > 1 else (), aside)


# ---------------------------------------------------------------- scales

_WIDTHS = ("", "half-width/", "quarter-width/")
_BLOCKS = ("deep/", "bottleneck/", "bottleneck-same-output/", "deep-bottleneck/", "deep-basic/", "narrow-embedding/")
_METHODS = ("byol/", "directpred/", "directcopy/")
_ORDERS = ("single-pass", "cumulative", "hybrid-40")


def _groups(*fractions: str) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Share of the data × width; orders × width; where to switch; methods; depth, blocks and outputs."""
    some = ("baseline", "fraction-5", "fraction-20", *_ORDERS)
    return (
        dict.fromkeys(_WIDTHS, ("baseline", *fractions)),
        dict.fromkeys(_WIDTHS, _ORDERS),
        dict.fromkeys(("", "quarter-width/"), ("hybrid-20", "hybrid-60", "hybrid-80", "hybrid-40-restart")),
        dict.fromkeys(_METHODS, some),
        dict.fromkeys(_BLOCKS, some),
    )


# SimSiam's recipe on the digits, 220 steps of 64: a tenth of the images, 143, is the least that order `last` can have
# of 10 epochs. At 8 pixels, the digits' own, a run takes half of what it does at 12. Tried on a seed that no verdict
# uses: at a quarter of this learning rate the loss ends near -0.5 in all arms, as here at four times the weight decay
# in some.
DIGITS = change(
    DEFAULT,
    image_size=8,
    width=8,
    projector_hidden=64,
    embedding_dim=64,
    projector_output_bn="affine_free",
    predictor="mlp",
    predictor_hidden=16,
    predictor_bias=True,
    predictor_lr=None,
    predictor_schedule="constant",
    epochs=10,
    batch_size=64,
    lr=0.8,
    weight_decay=5e-4,
    monitor_every=11,
    evaluate_every=5,
    knn_images=800,
    generalisation=True,
)
# 10,000 images at 16 pixels, 3,120 steps of 64 in 20 epochs, so that a twentieth of them, 500, is one epoch's chunk.
# The base is a quarter of the paper's width; heads as SimSiam has them, in proportion.
CIFAR = change(
    SIMSIAM_CIFAR10,
    fraction=0.2,
    image_size=16,
    width=16,
    projector_layers=3,
    projector_hidden=128,
    embedding_dim=256,
    predictor_hidden=64,
    predictor_schedule="constant",
    epochs=20,
    batch_size=64,
    lr=0.06,
    monitor_every=52,
    evaluate_every=4,
    generalisation=True,
)
# The paper's recipe on CIFAR-10 as a GPU trains it in minutes: 100 epochs, as many chunks, and the preset's heads but
# for a third projector layer and a predictor whose learning rate stays.
GPU = change(
    SIMSIAM_CIFAR10,
    projector_layers=3,
    projector_hidden=512,
    predictor_schedule="constant",
    epochs=100,
    generalisation=True,
)
PAPER = change(LI2022_IMAGENET, generalisation=True)

SCALE = {
    "smoke": Scale(
        change(DIGITS, fraction=0.1, epochs=5, batch_size=32, width=4, monitor_every=1, knn_images=100),
        groups=({"": ("baseline", "fraction-20", *_ORDERS), "half-width/": ("baseline",), "byol/": ("baseline",)},),
        linear={"gaussian_samples": 512, "epochs": 2, "monitor_every": 1},
    ),
    # Of `cpu` the arms that its main claims rest on, all of them linear: the same runs, which `cpu` then finds.
    "quick": Scale(DIGITS, groups=({},), linear_arms=("linear/few", "linear/beyond", "linear/beyond-few")),
    "cpu": Scale(
        DIGITS,
        ema_momentum=0.97,
        groups=(
            {
                "": ("baseline", "fraction-10", *_ORDERS),
                "half-width/": ("baseline", "fraction-10"),
                "bottleneck-same-output/": ("baseline",),
                "byol/": ("baseline",),
                "directcopy/": ("baseline",),
            },
        ),
    ),
    "cifar": Scale(CIFAR, groups=_groups("fraction-5", "fraction-10", "fraction-20", "fraction-50")),
    "gpu": Scale(GPU, groups=_groups(*(f"fraction-{p}" for p in PERCENT))),
    "paper": Scale(PAPER, groups=_groups(*(f"fraction-{p}" for p in PERCENT))),
}
