"""The ladder as a grid: each rung the one before and an ingredient more, each run held against Lemma 1's laws.

Rung 0 is the theory's closed forms and rung 1 its matrix flow: both are computed. From rung 2 on networks are trained,
without an EMA target and with a predictor that learns eight times as fast, so that few starts lie in the basin of
collapse. An arm is rung-K/SETTING: `baseline`; `no-stop-gradient` and `no-predictor`, which collapse; and
`decay-F`, F times a weight decay that stands for the critical one, for the rungs of CRITICAL: among these lies the
decay beyond which nothing lives. Beside the ladder stand `set-predictor` and `isoloss` on the rungs of ISOLOSS: what
Halvagal et al. 2023 derive of eigenvalues under squared error and cosine loss, on ResNets.

Images have eigenvalues of X up to 40 and representations of a tenth of that, so learning rate and weight decay are each
rung's own: lr · 4η_c, the first mode's step, is between 0.02 and 0.5, and ηt between 1.6 and 5. Tried on seed 1000,
which no verdict uses.
"""

from dataclasses import dataclass, field, replace

from stopgrad.deep.config import Config, change
from stopgrad.deep.presets.default import DEFAULT
from stopgrad.deep.presets.theory import LINEAR_GAUSSIAN
from stopgrad.experiments.suites.grid import Arm, Suite, in_units
from stopgrad.experiments.tian2021.ablation import SHARED, faster_predictor

ALPHA_P = 8.0
INGREDIENTS = {
    0: "closed forms of the modes",
    1: "matrix flow, measured X and X′",
    2: "SGD on Gaussian points",
    3: "on images",
    4: "a linear layer before",
    5: "an MLP before",
    6: "a ResNet before",
    7: "BatchNorm in the projector",
    8: "cosine loss",
    9: "MLP predictor, momentum, schedule",
}
"""What each rung adds to the one before."""
TRAINED = tuple(range(2, 10))
COLLAPSES = ("no-stop-gradient", "no-predictor")
_NEAR, _BELOW = (0.707, 0.841, 1.0, 1.189, 1.414), (0.0221, 0.0313, 0.0442, 0.0625, 0.0884)
CRITICAL = {2: _NEAR, 3: _NEAR, 5: _BELOW, 6: _BELOW}
"""Rungs on which the critical weight decay is looked for, by which factors of what stands for it: about it, and where
networks whose representations shrink under decay were seen to die on seed 1000."""
ISOLOSS = {7: "squared", 8: "cosine"}
"""Rungs, with their losses, on which W_P = √λ_j in the eigenbasis of F is set, without and
with IsoLoss."""


@dataclass(frozen=True)
class Rung:
    """A rung at a scale."""

    base: Config
    eta: float
    """Weight decay of all but the `decay-F` arms, in units of the flow."""
    critical: float
    """The weight decay that `decay-F` multiplies: of seed 1000 the largest x_j²/(4(x_j + x′_j)) before training."""


def arm_name(rung: int, setting: str) -> str:
    """'rung-5/baseline'."""
    return f"rung-{rung}/{setting}"


def decays(rung: int) -> dict[str, float]:
    """{setting: F} of the rung's `decay-F`, rising; none where the critical decay is not looked for."""
    return {f"decay-{factor:g}": factor for factor in CRITICAL.get(rung, ())}


def at_decay(base: Config, eta: float) -> Config:
    """`base` with a shared target, α_p = 8 and a weight decay of everything that is η in units of the flow."""
    shared = change(in_units(base, eta=eta, beta=0.0), **SHARED)
    return change(shared, **faster_predictor(shared, ALPHA_P))


_OWN = {"predictor_lr": None, "predictor_weight_decay": None}
_DIRECTSET = {"predictor": "directset", "predictor_eps": 0.0, "predictor_rho": 0.0, "predictor_normalisation": "none"}
_SET = {"set-predictor": False, "isoloss": True}
"""Whether the error reaches z past the predictor that is set."""


ASIDE = (
    *(arm_name(rung, name) for rung in (3, 4, 6, 7, 8, 9) for name in COLLAPSES),
    *(arm_name(6, name) for name in decays(6)),
    *(arm_name(rung, name) for rung in ISOLOSS for name in _SET),
)
"""At scale cpu left to the record: collapses beside those of rungs 2 and 5, as a ResNet's are among Tian et al.'s arms;
a ResNet's critical decay; IsoLoss."""


def _without(setting: str) -> dict:
    if setting == "no-stop-gradient":
        return {"stop_gradient": "none"}
    return {"predictor": "identity"} | _OWN


def ladder(scale: str) -> Suite:
    """The whole ladder at one of `experiments.suites.grid.SCALES`."""
    at = SCALE[scale]
    arms: dict[str, Arm] = {}
    for k, rung in at.rungs.items():
        settings = {"baseline": (at_decay(rung.base, rung.eta), INGREDIENTS[k])}
        if k in at.collapses:
            for name in COLLAPSES:
                settings[name] = (change(settings["baseline"][0], **_without(name)), "Theorem 2")
        for name, isoloss in (_SET if k in at.isoloss else {}).items():
            config = change(settings["baseline"][0], **_DIRECTSET | _OWN, isoloss=isoloss, laws_every=None)
            settings[name] = (config, "Halvagal et al. 2023")
        for name, factor in (decays(k) if k in at.critical else {}).items():
            settings[name] = (at_decay(rung.base, factor * rung.critical), "critical weight decay")
        for name, (config, note) in settings.items():
            seeds = at.more_seeds.get(k, at.seeds) if name == "baseline" else at.seeds
            arms[arm_name(k, name)] = Arm(arm_name(k, name), config, seeds, note)
    worth = tuple(
        tuple(name for name in arms if of(name.partition("/")[2]))
        for of in (lambda s: s == "baseline", lambda s: s.startswith("decay"), lambda s: s in (*COLLAPSES, *_SET))
    )
    aside = tuple(name for name in ASIDE if name in arms) if scale == "cpu" else ()
    return Suite("ladder", scale, arms, tuple(group for group in worth if group), aside)


# ---------------------------------------------------------------- scales


@dataclass(frozen=True)
class Scale:
    """Rungs by number; on which of them what collapses is trained too, the critical decay looked for, a predictor set;
    seeds."""

    rungs: dict[int, Rung]
    collapses: tuple[int, ...] = TRAINED
    critical: tuple[int, ...] = tuple(CRITICAL)
    isoloss: tuple[int, ...] = tuple(ISOLOSS)
    seeds: tuple[int, ...] = (0, 1, 2)
    more_seeds: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Of a rung's baseline, in place of `seeds`."""


_GAUSSIAN = change(
    LINEAR_GAUSSIAN,
    gaussian_samples=2048,
    gaussian_decay=1.0,
    embedding_dim=16,
    batch_size=64,
    epochs=40,
    lr=0.05,
    lr_scaling="none",
    monitor_every=64,
    evaluate_every=1000,
    laws_every=2,
)
# The digits at their own 8 pixels, 22 steps of 64 an epoch.
_DIGITS = change(
    DEFAULT,
    image_size=8,
    backbone="identity",
    projector_layers=1,
    projector_output_bn="none",
    embedding_dim=16,
    predictor="linear",
    predictor_schedule="same",
    loss="squared",
    batch_size=64,
    epochs=60,
    lr=0.002,
    lr_scaling="none",
    momentum=0.0,
    schedule="constant",
    probe="none",
    monitor_every=66,
    evaluate_every=1000,
    knn_images=1437,
    laws_every=3,
)


Rates = dict[int, tuple[float, float, float]]


def rungs(points: Config, images: Config, width: int, mlp: int, network: dict, rates: Rates) -> dict[int, Rung]:
    """Rungs 2 to 9.

    images: of rungs 3 to 5, where the linear layer, `width` units, and the MLP, `mlp` units, read them; network: what
    ResNets change in them; rates: learning rate, η, and what stands for the critical η, of each rung.
    """
    residual = change(images, backbone="resnet18", **network)
    projected = change(residual, projector_layers=2, projector_hidden=8 * residual.method.backbone.width)
    projected = change(projected, projector_output_bn="affine_free")
    cosine = change(projected, loss="cosine")
    bases = {
        2: points,
        3: images,
        4: change(images, backbone="linear", width=width),
        5: change(images, backbone="mlp", width=mlp),
        6: residual,
        7: projected,
        8: cosine,
        9: change(cosine, predictor="mlp", predictor_hidden=8, momentum=0.9, schedule="cosine"),
    }
    return {k: Rung(change(base, lr=rates[k][0]), *rates[k][1:]) for k, base in bases.items()}


_RATES = {
    2: (0.05, 0.05, 0.222),
    3: (0.004, 0.5, 10.7),
    4: (0.04, 0.05, 0.63),
    5: (0.03, 0.05, 2.4),
    6: (0.075, 0.05, 1.6),
    7: (0.02, 0.1, 1.6),
    8: (0.075, 0.05, 1.6),
    9: (0.015, 0.05, 1.6),
}
_NETWORK = {"width": 8, "epochs": 20, "laws_every": 1, "monitor_every": 44}
DIGITS = rungs(_GAUSSIAN, _DIGITS, 32, 64, _NETWORK, _RATES)
# 10,000 images of CIFAR-10, 156 steps an epoch: about as many steps as on the digits, at 8 pixels below the ResNets,
# whose own are 16. Pixels' leading eigenvalue is smaller than the digits', so less decay is critical on rung 3.
_IMAGES = change(_DIGITS, dataset="cifar10", fraction=0.2, epochs=9, laws_every=1, monitor_every=156, knn_images=2048)
_RATES_CIFAR = _RATES | {3: (0.004, 0.5, 6.1), 5: (0.03, 0.02, 2.4), 6: (0.075, 0.02, 1.6)}
_RESNET = {"image_size": 16, "width": 16, "epochs": 3, "monitor_every": 52}
CIFAR = rungs(_GAUSSIAN, _IMAGES, 32, 64, _RESNET, _RATES_CIFAR)
# All of it, at the paper's width.
_WHOLE = change(_IMAGES, fraction=1.0, batch_size=256, epochs=10)
GPU = rungs(_GAUSSIAN, _WHOLE, 64, 256, {"image_size": 32, "width": 64, "epochs": 20}, _RATES)


def _short(rung: Rung) -> Rung:
    images = {"fraction": 0.1} if rung.base.data.dataset == "digits" else {"gaussian_samples": 256}
    short = change(rung.base, epochs=2, batch_size=32, monitor_every=1, laws_every=1, **images)
    return replace(rung, base=short)


SCALE = {
    "smoke": Scale({k: _short(DIGITS[k]) for k in (2, 5, 9)}, collapses=(2,), critical=(), isoloss=()),
    # Of `cpu` the arms that its main claims rest on: the same runs, which `cpu` then finds.
    "quick": Scale({k: DIGITS[k] for k in (2, 5)}, collapses=(), critical=(), isoloss=()),
    # On rung 9 three to five modes live, by chance: on one processor three seeds decided that, on another they did not.
    "cpu": Scale(DIGITS, more_seeds={9: tuple(range(8))}),
    "cifar": Scale(CIFAR),
    "gpu": Scale(GPU),
    "paper": Scale(GPU, seeds=(0, 1, 2, 3, 4)),
}
