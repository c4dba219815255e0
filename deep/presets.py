"""The papers' recipes and the theory's own setting, to start from: `--preset NAME`, any field overridden."""

from dataclasses import asdict, replace

from stopgrad.deep.config import (
    SET_PREDICTORS,
    VECTOR_BACKBONES,
    Config,
    Data,
    Method,
    Monitor,
    Optimisation,
    predictor_learns,
)
from stopgrad.linear_theory.predictors.rules import reading

# Small enough for a CPU, and in a regime where alignment can be seen: crops keep most of a digit and never mirror it,
# and the predictor learns ten times as fast as the trunk. The papers' recipes start from the records' own values.
DEFAULT = Config(
    data=Data(crop_scale=(0.6, 1.0), flip=0.0),
    method=Method(width=8),
    optimisation=Optimisation(epochs=40, predictor_lr=0.5, weight_decay=2e-3),
)

# ---------------------------------------------------------------- Chen & He 2021 (SimSiam)

_SIMSIAM_HEADS = Method(
    width=64,
    projector_hidden=2048,
    embedding_dim=2048,
    projector_output_bn="affine_free",
    predictor="mlp",
    predictor_hidden=512,
    predictor_bias=True,
)

# Here and below the cosine falls at every step, the released scripts' at every epoch, and a partial last batch is left
# out. Output BatchNorm has no affine parameters, as in the released code; the paper's baseline has them (68.1 % with,
# 68.2 % without). Appendix D: base lr 0.03, batch 512, 800 epochs, weight decay 5e-4, no blur, a 2-layer projector.
SIMSIAM_CIFAR10 = Config(
    data=Data(dataset="cifar10"),
    method=replace(_SIMSIAM_HEADS, projector_layers=2),
    optimisation=Optimisation(epochs=800, batch_size=512, lr=0.03, weight_decay=5e-4),
    monitor=Monitor(monitor_every=50, evaluate_every=10),
)

# Section 3, and the released code with --fix-pred-lr: the predictor's learning rate stays where it is.
SIMSIAM_IMAGENET = Config(
    data=Data(dataset="imagefolder", data_folder="imagenet", image_size=224, blur=0.5, workers=16),
    method=replace(_SIMSIAM_HEADS, backbone="resnet50", stem="imagenet", projector_layers=3),
    optimisation=Optimisation(epochs=100, batch_size=512, lr=0.05, weight_decay=1e-4, predictor_schedule="constant"),
    monitor=Monitor(monitor_every=100, evaluate_every=10, probe="paper"),
)

# ---------------------------------------------------------------- Tian, Chen & Ganguli 2021

# The released code's setup, with four deviations: the target starts as a copy of the online network (there as another
# random one), BatchNorm within the heads has affine parameters, STL-10 is normalised, and the evaluation differs.
_TIAN_STL10 = Data(
    dataset="stl10", crop_scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), blur=1.0, blur_sigma=(0.1, 2.0)
)
_TIAN_CIFAR10 = Data(dataset="cifar10", crop_scale=(0.08, 1.0))
_TIAN_HEADS = Method(
    width=64,
    zero_init_residual=False,
    projector_layers=2,
    projector_hidden=512,
    embedding_dim=128,
    projector_bias=True,
    predictor="linear",
    target="ema",
    ema_momentum=0.996,
    loss_scale=4.0,  # the released code sums 2 − 2cos over both views
)
_TIAN_SGD = Optimisation(
    epochs=100, batch_size=128, lr=0.03, lr_scaling="none", momentum=0.9, weight_decay=4e-4, schedule="constant"
)
_TIAN_MONITOR = Monitor(monitor_every=100, evaluate_every=10, probe="paper")

# The linear predictor without bias of Tables 2 to 6; Table 8's setting of the two-layer predictor is --predictor mlp.
BYOL_STL10_TIAN = Config(
    _TIAN_STL10, replace(_TIAN_HEADS, stem="imagenet", predictor_hidden=512), _TIAN_SGD, _TIAN_MONITOR
)
BYOL_CIFAR10_TIAN = Config(_TIAN_CIFAR10, replace(_TIAN_HEADS, predictor_hidden=512), _TIAN_SGD, _TIAN_MONITOR)

# Table 8: ρ = 0.3, ε = 0.1, set at every step, with an EMA target; --predictor-freq 5 for its third row.
_DIRECTPRED = {"predictor": "directpred", "predictor_eps": 0.1, "predictor_rho": 0.3}
DIRECTPRED_STL10 = replace(BYOL_STL10_TIAN, method=replace(BYOL_STL10_TIAN.method, **_DIRECTPRED))
DIRECTPRED_CIFAR10 = replace(BYOL_CIFAR10_TIAN, method=replace(BYOL_CIFAR10_TIAN.method, **_DIRECTPRED))
# DirectCopy: ρ = 0.5, ε = 0.3. Which norm divides F is not said: the largest eigenvalue here, as for DirectPred;
# --predictor-normalisation frobenius is what Hoppe, Miszkurka & Wilkman's replication uses.
DIRECTCOPY_STL10 = replace(
    BYOL_STL10_TIAN,
    method=replace(BYOL_STL10_TIAN.method, predictor="directcopy", predictor_eps=0.3, predictor_rho=0.5),
)

# ---------------------------------------------------------------- Li, Efros & Pathak 2022

# The released script's defaults, and batch 256 of its README: ResNet-18, projector d → d → d → 2048, d = 512. Its probe
# has another protocol (LARS, batch 1024).
LI2022_IMAGENET = Config(
    data=Data(dataset="imagefolder", data_folder="imagenet", image_size=224, blur=0.5, workers=16),
    method=replace(_SIMSIAM_HEADS, stem="imagenet", projector_layers=3, projector_hidden=512),
    optimisation=Optimisation(epochs=100, batch_size=256, lr=0.05, weight_decay=1e-4, predictor_schedule="constant"),
    monitor=Monitor(monitor_every=100, evaluate_every=10, probe="paper"),
)

# ---------------------------------------------------------------- the theory's own setting

# Linear predictor, nothing but a linear layer behind the projector's last normalisation, squared error, equal decay.
LINEAR_THEORY = replace(
    DEFAULT,
    method=replace(DEFAULT.method, loss="squared"),
    optimisation=replace(DEFAULT.optimisation, lr=0.02, predictor_lr=None, weight_decay=0.01, schedule="constant"),
)

# The theory itself: Gaussian points of known X and X′ through one linear layer.
LINEAR_GAUSSIAN = Config(
    data=Data(dataset="gaussian"),
    method=Method(backbone="identity", projector_layers=1, embedding_dim=32, loss="squared"),
    optimisation=Optimisation(epochs=40, batch_size=256, lr=0.02, momentum=0.0, weight_decay=0.01, schedule="constant"),
)

PRESETS = {
    "default": DEFAULT,
    "simsiam-cifar10": SIMSIAM_CIFAR10,
    "simsiam-imagenet": SIMSIAM_IMAGENET,
    "byol-stl10-tian": BYOL_STL10_TIAN,
    "byol-cifar10-tian": BYOL_CIFAR10_TIAN,
    "directpred-stl10": DIRECTPRED_STL10,
    "directpred-cifar10": DIRECTPRED_CIFAR10,
    "directcopy-stl10": DIRECTCOPY_STL10,
    "li2022-imagenet": LI2022_IMAGENET,
    "linear-theory": LINEAR_THEORY,
    "linear-gaussian": LINEAR_GAUSSIAN,
}


def preset(name: str) -> Config:
    """The recipe of this name. Raises ValueError, naming the others, where there is none.

    >>> preset("linear-theory").method.loss
    'squared'
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


_RESIDUAL = ("a residual backbone", lambda c: c.method.backbone not in VECTOR_BACKBONES)
_LEARNS = ("a predictor that learns", lambda c: predictor_learns(c.method))
_GAUSSIAN = ("--dataset gaussian", lambda c: c.data.dataset == "gaussian")


def _predictor(*names: str):
    return f"--predictor {', '.join(names)}", lambda c: c.method.predictor in names


_NEEDS = {
    "predictor_hidden": _predictor("mlp", "fixed"),
    "predictor_bias": _predictor("linear", "mlp"),
    "predictor_eps": _predictor(*reading("eps")),
    "predictor_normalisation": _predictor(*reading("normalisation")),
    "predictor_rho": _predictor(*SET_PREDICTORS),
    "ema_momentum": ("--target ema", lambda c: c.method.target == "ema"),
    "projector_hidden": ("--projector-layers 2 or 3", lambda c: c.method.projector_layers > 1),
    **dict.fromkeys(("stem", "width", "zero_init_residual"), _RESIDUAL),
    **dict.fromkeys(("predictor_lr", "predictor_weight_decay", "predictor_schedule"), _LEARNS),
    **dict.fromkeys(("gaussian_dim", "gaussian_decay", "gaussian_sigma2", "gaussian_samples"), _GAUSSIAN),
}


def refuse_idle(config: Config, base: Config) -> Config:
    """Return `config`. Raises ValueError for a field changed from `base` that nothing in `config` reads.

    Such a field is allowed in a record, so that a recipe goes with any predictor, target or backbone; one that a person
    asks for and that then does nothing (DirectPred with a hidden layer, a momentum without EMA) is a misunderstanding.
    """
    for name, value in changes(config, base).items():
        if name in _NEEDS and value is not False and not _NEEDS[name][1](config):
            raise ValueError(f"--{name.replace('_', '-')} {value} would have no effect; it goes with {_NEEDS[name][0]}")
    return config


def changes(config: Config, base: Config = DEFAULT) -> dict:
    """The fields in which a record differs from another, by name."""
    mine, theirs = asdict(config), asdict(base)
    groups = [name for name in mine if isinstance(mine[name], dict)]
    return {k: v for group in groups for k, v in mine[group].items() if v != theirs[group][k]}


def words(fields: dict) -> str:
    """Fields as `name value` pairs in one line."""
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in fields.items())
