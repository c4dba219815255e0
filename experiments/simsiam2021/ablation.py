"""SimSiam's own ablations (Chen & He 2021) as a grid: what of it keeps a network from collapse, and what is a detail.

Three families of arms. Plain names: the heads as released, whose output BatchNorm has no affine parameters, so that a
collapse can only be one of dimensions (m_o ≤ 1 − 2/N). `bare/…`: no BatchNorm on the output, so that a collapse can be
complete; of the paper's own heads ("hidden only") too. `digits/…`: a ResNet on digits, at scale cpu alone.

An arm is its family's base with a few fields changed. Below `cifar` the networks of the first two are small MLPs on
Gaussian points; from `gpu` on the base is the paper's recipe as it stands. Factors are of the paper's own grid, so that
an arm means the same at all sizes: its batches 64 … 4096 are ⅛ to 8 times the baseline's 512, its outputs 256 … 2048
are ⅛ to 1 times 2048.
"""

from dataclasses import dataclass

from stopgrad.deep.config import Config, change
from stopgrad.deep.presets.simsiam import SIMSIAM_CIFAR10, SIMSIAM_IMAGENET
from stopgrad.deep.presets.zhang2022 import ZHANG2022_TOY
from stopgrad.experiments.suites.grid import Arm, Suite
from stopgrad.experiments.tian2021.ablation import SCALE as TIAN2021

BARE, DIGITS = "bare/", "digits/"
NO_OUTPUT_BN = {"projector_output_bn": "none", "projector_bias": True}
FREE_OUTPUT_BN = {"projector_output_bn": "affine_free", "projector_bias": False}
LARGE_BATCH_WARMUP = 10.0
"""Epochs of warm-up with batches of twice the baseline's and more, where a run is long enough for them."""


def network_arms(base: Config, images: int) -> dict[str, tuple[dict, str]]:
    """What each arm changes in its base, and which of the paper's ablations it belongs to.

    images: of the training set, which decide after how many steps an epoch is over.
    """
    o, m = base.optimisation, base.method
    none = {"predictor": "identity", "predictor_lr": None, "predictor_schedule": "same"}
    grid: dict[str, tuple[dict, str]] = {
        "baseline": ({}, "the recipe"),
        "no-stop-gradient": ({"stop_gradient": "none"}, "stop-gradient"),
        "no-predictor": (none, "predictor"),
        "fixed-predictor": (
            {**none, "predictor": "fixed", "predictor_hidden": m.predictor.hidden},
            "predictor: random and never trained",
        ),
        "predictor-decayed": ({"predictor_schedule": "same"}, "predictor: its learning rate falls with the encoder's"),
        "predictor-constant": ({"predictor_schedule": "constant"}, "predictor: its learning rate is not decayed"),
        "affine-output": ({"projector_output_bn": "affine"}, "BatchNorm on heads: the paper's default"),
        "affine-output-no-stop-gradient": (
            {"projector_output_bn": "affine", "stop_gradient": "none"},
            "stop-gradient, with the paper's default heads",
        ),
        "cross-entropy": ({"loss": "cross_entropy"}, "similarity"),
        "asymmetric": ({"symmetric_loss": False}, "symmetrisation"),
        "asymmetric-twice": (
            {"symmetric_loss": False, "epochs": 2 * o.epochs},
            "symmetrisation: twice the epochs for two pairs of views an image",
        ),
        "moving-average": ({**none, "target": "moving_average"}, "expectation over augmentation, no predictor"),
        "affine-output-moving-average": (
            {**none, "target": "moving_average", "projector_output_bn": "affine"},
            "expectation over augmentation, with the paper's default heads",
        ),
        "simclr": ({**none, "objective": "infonce"}, "SimCLR"),
        "simclr-predictor": ({"objective": "infonce"}, "SimCLR with a predictor"),
        "simclr-predictor-stop-gradient": (
            {"objective": "infonce", "stopped_keys": "all"},
            "SimCLR with a predictor and stop-gradient",
        ),
    }
    for name, steps in (("10", 10), ("100", 100), ("epoch", images // o.batch_size)):
        grid[f"alternation-{name}"] = ({"target": "alternating", "alternation": steps}, "multi-step alternation")
    for factor in (8, 4, 2):
        grid[f"batch-over-{factor}"] = ({"batch_size": o.batch_size // factor}, "batch size")
        larger = {"batch_size": o.batch_size * factor, "warmup_epochs": min(LARGE_BATCH_WARMUP, o.epochs / 10)}
        grid[f"batch-times-{factor}"] = (larger, "batch size, with a warm-up")
        narrower = {"embedding_dim": m.embedding_dim // factor, "predictor_hidden": m.predictor.hidden // factor}
        grid[f"dimension-over-{factor}"] = (narrower, "output dimension")
    return grid


@dataclass(frozen=True)
class Scale:
    """A base with SimSiam's heads, how many images it trains on, and the arms of each family; None: all of them."""

    base: Config
    images: int
    arms: tuple[str, ...] | None = None
    bare: tuple[str, ...] = ()
    digits: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)


def ablation(scale: str) -> Suite:
    """The whole study at one of `experiments.suites.grid.SCALES`."""
    at = SCALE[scale]
    arms: dict[str, Arm] = {}
    families = (
        ("", at.base, at.images, at.arms),
        (BARE, change(at.base, **NO_OUTPUT_BN), at.images, at.bare),
        (DIGITS, DIGITS_BASE, DIGITS_IMAGES, at.digits),
    )
    for prefix, base, images, chosen in families:
        grid = network_arms(base, images)
        for name in grid if chosen is None else chosen:
            values, note = grid[name]
            arms[prefix + name] = Arm(prefix + name, change(base, **values), at.seeds, note)
    aside = ("affine-output-moving-average",) if scale == "cpu" else ()  # it explains another row, and is none
    return Suite("simsiam2021", scale, arms, WORTH if at.arms is None else (), aside)


def _named(prefix: str, *names: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in names)


COLLAPSES = ("baseline", "no-stop-gradient", "no-predictor")
WORTH = (
    (*COLLAPSES, *_named(BARE, *COLLAPSES)),
    ("moving-average", *_named(BARE, "moving-average", "fixed-predictor"), "fixed-predictor"),
    ("cross-entropy", "asymmetric", "alternation-10", "alternation-100", "alternation-epoch", "predictor-constant"),
    ("batch-over-8", "batch-times-8", "affine-output", "affine-output-no-stop-gradient", "dimension-over-8"),
)
"""Arms by what they decide, where the whole takes days: collapse, what else prevents it, variants, sizes."""

# ---------------------------------------------------------------- scales

# 1,000 steps of 256 points, 50 an epoch. An image is visited 20 times, so that a moving average over its visits means
# something, and the learning rate falls to 0, so that a predictor whose own does not is a setting of its own.
TOY_IMAGES = 50 * 256
TOY = change(
    ZHANG2022_TOY,
    gaussian_samples=TOY_IMAGES,
    epochs=20,
    schedule="cosine",
    evaluate_every=1000,
    **FREE_OUTPUT_BN,
)
# The digits of Tian et al.'s study under the papers' loss, with a predictor of two layers, and like theirs with nothing
# behind the projector's last layer.
DIGITS_IMAGES = 1437
DIGITS_BASE = change(TIAN2021["cpu"].cosine, target="shared", predictor="mlp", predictor_hidden=32, predictor_bias=True)
# As Tian et al.'s study at this scale, 10,000 images at 24 pixels and a quarter of the width, with SimSiam's heads.
CIFAR_IMAGES = 10_000
CIFAR = change(
    SIMSIAM_CIFAR10,
    fraction=0.2,
    image_size=24,
    width=16,
    projector_hidden=256,
    embedding_dim=256,
    predictor_hidden=64,
    epochs=15,
    batch_size=64,
    lr=0.06,
    monitor_every=39,
    evaluate_every=5,
)
BARE_ARMS = (*COLLAPSES, "fixed-predictor", "moving-average", "cross-entropy", "asymmetric", "alternation-100")
"""Those that there are without output BatchNorm too."""

SCALE = {
    "smoke": Scale(
        change(TOY, gaussian_samples=512, epochs=2, batch_size=64, width=32, projector_hidden=32, monitor_every=1),
        512,
        COLLAPSES,
        ("baseline", "moving-average"),
    ),
    # None: its main claim, on the stop-gradient, is Theorem 2's too, whose arms are in Tian et al.'s study.
    "quick": Scale(TOY, TOY_IMAGES, ()),
    "cpu": Scale(
        *(TOY, TOY_IMAGES, (*COLLAPSES, "moving-average", "affine-output-moving-average")),
        tuple(name for name in BARE_ARMS if name != "asymmetric"),
        ("baseline", "no-stop-gradient"),
    ),
    "cifar": Scale(CIFAR, CIFAR_IMAGES, bare=BARE_ARMS),
    "gpu": Scale(SIMSIAM_CIFAR10, 50_000, bare=BARE_ARMS),
    "paper": Scale(SIMSIAM_IMAGENET, 1_281_167, bare=BARE_ARMS),
}
