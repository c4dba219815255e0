"""What a run is: one frozen record of everything that decides its numbers, and what makes such a record impossible.

Nothing here computes; `deep.presets` holds the papers' recipes as instances. A switch of the method is a field, and no
code asks for a method by name (Chen & He 2021; Tian, Chen & Ganguli 2021; Li, Efros & Pathak 2022 differ in values).
"""

import dataclasses
import functools
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from stopgrad.linear_theory.predictors.rules import SET_RULES, reading
from stopgrad.linear_theory.tools.errors import BadInput

SET_PREDICTORS = tuple(SET_RULES)
"""Predictors that are set from moments of the embeddings; the others are learned, frozen or absent."""
VECTOR_BACKBONES = ("linear", "identity")

_PREDICTOR_HELP = (
    "Learned (mlp, linear, symmetric, bias), none (identity), frozen at random (fixed), or set from F, the correlation "
    f"of the embeddings, with eigenvalues s. {'; '.join(f'{name}: {rule.help}' for name, rule in SET_RULES.items())}."
)


@dataclass(frozen=True)
class Data:
    """What is learned from, and how two views of an image are made."""

    dataset: Literal["digits", "cifar10", "cifar100", "stl10", "imagefolder", "gaussian"] = "digits"
    """digits comes with scikit-learn; cifar10, cifar100, stl10 with torchvision's download; gaussian is drawn."""
    data_folder: str | None = None
    """Where torchvision keeps its sets, or the imagefolder with train/CLASS/… and val/CLASS/… (or test/)."""
    download: bool = False
    """Let torchvision download the set where it is missing."""
    fraction: float = 1.0
    """Share of the training images to use; which, the seed decides."""
    image_size: int | None = None
    """Side of a view in pixels; None: the set's own (digits 16, cifar 32, stl10 96, imagefolder that of its images)."""
    storage: Literal["auto", "resident", "stream"] = "auto"
    """resident: decoded once and kept on the training device; stream: decoded anew each epoch; auto: by size."""
    workers: int = 4
    """Processes that decode images where they stream."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Range of the random crop's share of the image's area."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Strength of the jitter of brightness, contrast, saturation and hue."""
    jitter_probability: float = 0.8
    """Probability that a view's colours are jittered."""
    grayscale: float = 0.2
    """Probability that a view loses its colours."""
    blur: float = 0.0
    """Probability of a Gaussian blur; SimSiam's is 0.5 on ImageNet and 0 on 32-pixel images."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's σ in pixels."""
    gaussian_dim: int = 32
    """gaussian: dimensions of x."""
    gaussian_decay: float = 0.0
    """gaussian: X has eigenvalues j^−decay, j = 1 … dim."""
    gaussian_sigma2: float = 0.1
    """gaussian: X′ = σ² I, the variance of the views' noise."""
    gaussian_samples: int = 4096
    """gaussian: number of points; their views are drawn anew at every visit."""


@dataclass(frozen=True)
class Method:
    """The network and its learning rule, every switch of the theory among them."""

    backbone: Literal[
        "resnet18", "resnet34", "resnet50", "resnet18_bottleneck", "resnet50_basic", "linear", "identity"
    ] = "resnet18"
    """The last two for the theory's own setting; Li et al.'s variants are resnet18_bottleneck and resnet50_basic."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """cifar: 3×3 convolution with stride 1 and no pooling; imagenet: 7×7 with stride 2, then max-pooling."""
    width: int = 16
    """Channels of the first stage; 64 is the ResNet of the papers."""
    zero_init_residual: bool = True
    """Start every residual block as the identity (the last normalisation's weight is 0)."""
    projector_layers: int = 2
    """Linear layers of the projector, 1 to 3; BatchNorm and ReLU stand between them."""
    projector_hidden: int = 128
    """Width of the projector's hidden layers."""
    embedding_dim: int = 64
    """d, the dimension of the embedding: the projector's output, the predictor's input and output."""
    projector_bias: bool = False
    """Bias of the projector's last layer."""
    projector_output_bn: Literal["affine", "affine_free", "none"] = "none"
    """BatchNorm after the projector's last layer; affine_free makes a complete collapse impossible."""
    predictor: Annotated[
        Literal["mlp", "linear", "symmetric", "identity", "fixed", "bias", *SET_PREDICTORS],
        tyro.conf.arg(help=_PREDICTOR_HELP),
    ] = "linear"
    """Learned, none, frozen or set; the rules that set it are `linear_theory.predictors.rules.SET_RULES`."""
    predictor_hidden: int = 32
    """Width of the mlp predictor's hidden layer."""
    predictor_bias: bool = False
    """Bias of the linear predictor, or of the mlp's last layer."""
    predictor_eps: float = 0.1
    """Set predictors: ε of p = √s + ε max s (DirectPred) or p = s^α + ε."""
    predictor_rho: float = 0.3
    """Set predictors: ρ of the moving average F ← ρF + (1 − ρ)E[zzᵀ] over batches."""
    predictor_freq: int = 1
    """Set predictors: set at every freq-th step, learned by gradient between; 1: never learned."""
    predictor_cutoff: float = 0.0
    """directpred: c of p = √max(s − c, 0) (Table 7); the signed threshold."""
    predictor_alpha: float = 1.0
    """directset: exponent α of p = s^α."""
    predictor_normalisation: Literal["none", "spectral", "frobenius"] = "spectral"
    """Set predictors: what s is divided by first; the released code of DirectPred divides by max s."""
    stop_gradient: Literal["target", "none", "mirrored"] = "target"
    """Which side passes no gradient: the target, neither, or the predicting side (Zhang et al. 2022)."""
    target: Literal["shared", "ema"] = "shared"
    """The online network itself (SimSiam) or a moving average of it (BYOL)."""
    ema_momentum: float = 0.996
    """γ of the target's moving average W_a ← γW_a + (1 − γ)W."""
    loss: Literal["cosine", "squared"] = "cosine"
    """−cos(prediction, target), or ½‖prediction − target‖², as in the theory; the mean over the batch."""
    isoloss: bool = False
    """Halvagal et al. 2023: the gradient at the prediction acts on z itself, so that all modes learn at one speed."""
    symmetric_loss: bool = True
    """Let each view predict the other, and average; else only the first predicts the second."""
    loss_scale: float = 1.0
    """c: the loss is multiplied by it. BYOL's released code sums 2 − 2cos over both views: 4."""


@dataclass(frozen=True)
class Optimisation:
    """SGD with momentum: rates, decay, length and arithmetic."""

    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 128
    """Images of a step, over all processes and accumulated parts."""
    lr: float = 0.05
    """Learning rate for a batch of 256; a run's own is lr · batch_size/256 unless lr_scaling is none."""
    lr_scaling: Literal["linear", "none"] = "linear"
    """linear: learning rates are given for a batch of 256."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Added to the gradient of every parameter, as in torch's SGD (coupled)."""
    predictor_lr: float | None = None
    """Learning rate of the predictor, scaled like lr; None: lr."""
    predictor_weight_decay: float | None = None
    """Weight decay of the predictor; None: weight_decay."""
    predictor_schedule: Literal["same", "constant"] = "same"
    """constant: the predictor's learning rate does not fall with the schedule (SimSiam's fixed predictor lr)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: to zero over the run, step by step."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate first rises linearly from 0."""
    accumulation: int = 1
    """Parts that a batch is split into, one after the other, to save memory; BatchNorm sees one part at a time."""
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Arithmetic of the backbone; heads and correlations use float32 or float64. auto: bfloat16 where it is fast."""
    compile: bool = False
    """Fuse the backbone with torch.compile; pays on GPUs, not on CPUs."""


@dataclass(frozen=True)
class Monitor:
    """What is measured, and when."""

    monitor_every: int = 10
    """Steps between measurements on the training batch."""
    evaluate_every: int = 5
    """Epochs between evaluations of the representations (kNN, spectrum); before training and at the end always."""
    knn_images: int = 10_000
    """Training images that kNN searches and the representation's spectrum is taken over, at most."""
    probe: Literal["none", "logistic", "paper"] = "logistic"
    """Linear probe at the end: regularised logistic regression, or the papers' SGD protocol."""
    references: tuple[Literal["random", "supervised"], ...] = ()
    """Evaluate, for comparison, a network as initialised, or one trained with the labels for as many epochs."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers, and nothing else."""

    data: Data = Data()
    method: Method = Method()
    optimisation: Optimisation = Optimisation()
    monitor: Monitor = Monitor()
    seed: int = 0
    """Decides initialisation, subset, order and views."""


def predictor_learns(method: Method) -> bool:
    """Whether the optimiser has a predictor to train: one that exists, is not frozen, and not set at every step."""
    always_set = method.predictor in SET_PREDICTORS and method.predictor_freq == 1
    return method.predictor not in ("identity", "fixed") and not always_set


# ---------------------------------------------------------------- impossible records

_HINTS = functools.cache(typing.get_type_hints)
_FRACTION = (lambda v: 0 < v <= 1, "above 0 and at most 1")
_PROBABILITY = (lambda v: 0 <= v <= 1, "between 0 and 1")
_POSITIVE = (lambda v: v > 0, "above 0")
_NOT_NEGATIVE = (lambda v: v >= 0, "at least 0")
_COUNT = (lambda v: v >= 1, "at least 1")

_RANGES = {
    "fraction": _FRACTION,
    "image_size": (lambda v: v >= 8, "at least 8 pixels"),
    "workers": _NOT_NEGATIVE,
    "flip": _PROBABILITY,
    "jitter_probability": _PROBABILITY,
    "grayscale": _PROBABILITY,
    "blur": _PROBABILITY,
    "gaussian_dim": (lambda v: v >= 2, "at least 2"),
    "gaussian_decay": _NOT_NEGATIVE,
    "gaussian_sigma2": _NOT_NEGATIVE,
    "gaussian_samples": (lambda v: v >= 2, "at least 2"),
    "width": _COUNT,
    "projector_layers": (lambda v: 1 <= v <= 3, "1, 2 or 3"),
    "projector_hidden": _COUNT,
    "embedding_dim": (lambda v: v >= 2, "at least 2"),
    "predictor_hidden": _COUNT,
    "predictor_eps": _NOT_NEGATIVE,
    "predictor_rho": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "predictor_freq": _COUNT,
    "predictor_cutoff": (lambda v: True, "finite"),
    "predictor_alpha": _POSITIVE,
    "loss_scale": _POSITIVE,
    "ema_momentum": (lambda v: 0 <= v <= 1, "between 0 and 1"),
    "epochs": _NOT_NEGATIVE,
    "batch_size": (lambda v: v >= 2, "at least 2"),
    "lr": _POSITIVE,
    "momentum": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "weight_decay": _NOT_NEGATIVE,
    "predictor_lr": _POSITIVE,
    "predictor_weight_decay": _NOT_NEGATIVE,
    "warmup_epochs": _NOT_NEGATIVE,
    "accumulation": _COUNT,
    "monitor_every": _COUNT,
    "evaluate_every": _COUNT,
    "knn_images": (lambda v: v >= 2, "at least 2"),
    "seed": (lambda v: 0 <= v < 2**63, "at least 0 and below 2^63"),
}


def check(config: Config) -> Config:
    """Return `config`. Raises ValueError with one sentence that names the field, for anything knowable without data."""
    for group in (config.data, config.method, config.optimisation, config.monitor, config):
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            _check_type(field.name, value, _HINTS(type(group))[field.name])
            if field.name in _RANGES and value is not None:
                test, rule = _RANGES[field.name]
                if not (-math.inf < value < math.inf and test(value)):  # an int may be too large for math.isfinite
                    raise BadInput(f"{_flag(field.name)} is {value}; it must be {rule}")
    for complaint in _complaints(config.data, config.method, config.optimisation):
        raise BadInput(complaint)
    return config


def _complaints(data: Data, method: Method, optimisation: Optimisation):
    """A sentence for each pair of fields that contradict each other."""
    for name in ("crop_scale", "blur_sigma"):
        low, high = getattr(data, name)
        if not 0 < low <= high < math.inf or (name == "crop_scale" and high > 1):
            limit = " and at most 1" if name == "crop_scale" else ""
            yield f"{_flag(name)} is {low:g} {high:g}; it must be a rising range above 0{limit}"
    if not all(0 <= v < math.inf for v in data.jitter) or data.jitter[3] > 0.5:
        yield f"--jitter is {' '.join(map(str, data.jitter))}; strengths are at least 0, and that of hue at most 0.5"
    vectors = data.dataset == "gaussian"
    if data.dataset == "imagefolder" and data.data_folder is None:
        yield "--dataset imagefolder needs --data-folder, a folder with train/CLASS/… and val/CLASS/…"
    if vectors and method.backbone not in VECTOR_BACKBONES:
        yield f"--backbone {method.backbone} needs images; with --dataset gaussian use linear or identity"
    if vectors and data.storage == "stream":
        yield "--storage stream is for images in files; the gaussian set is drawn in memory"
    if method.backbone == "identity" and not vectors:
        yield "--backbone identity has nothing to do with images; it is for --dataset gaussian"
    if method.projector_bias and method.projector_output_bn != "none":
        yield f"--projector-bias has no effect before an output BatchNorm; {_without('projector_bias')}"
    is_set = method.predictor in SET_PREDICTORS
    if is_set and method.predictor_bias:
        yield f"--predictor {method.predictor} is a matrix without bias; {_without('predictor_bias')}"
    if method.predictor in ("symmetric", "fixed") and method.predictor_bias:
        yield f"--predictor {method.predictor} has no bias; {_without('predictor_bias')}, or use --predictor linear"
    if not is_set and method.predictor_freq != 1:
        yield f"--predictor-freq is for predictors that are set; --predictor {method.predictor} is not one of them"
    for option in ("cutoff", "alpha"):  # eps and normalisation may stand idle, so that a recipe goes with any predictor
        name, readers = f"predictor_{option}", reading(option)
        if getattr(method, name) != getattr(Method, name) and method.predictor not in readers:
            yield f"{_flag(name)} belongs to --predictor {' or '.join(readers)}, not {method.predictor}"
    if method.isoloss and not is_set:
        yield f"--isoloss gives the predictor no gradient; use one that is set, like directset, not {method.predictor}"
    if method.isoloss and method.predictor_freq != 1:
        yield "--isoloss gives the predictor no gradient to learn by between settings; use --predictor-freq 1"
    if method.isoloss and method.stop_gradient != "target":
        yield f"--isoloss defines its own target; it goes with --stop-gradient target, not {method.stop_gradient}"
    if method.target == "ema" and method.stop_gradient != "target":
        yield f"--stop-gradient {method.stop_gradient} needs a target that learns, which is --target shared, not ema"
    if optimisation.batch_size % optimisation.accumulation:
        yield f"--accumulation {optimisation.accumulation} does not divide --batch-size {optimisation.batch_size}"
    if optimisation.batch_size // optimisation.accumulation < 2:
        yield "--accumulation leaves fewer than 2 images in a part, too few for BatchNorm"
    if optimisation.warmup_epochs > optimisation.epochs:
        yield f"--warmup-epochs {optimisation.warmup_epochs:g} exceeds --epochs {optimisation.epochs}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _without(switch: str) -> str:
    flag = _flag(switch)
    return f"leave {flag} out, or give {_flag('no_' + switch)} where a preset brings it"


def _check_type(name: str, value, hint) -> None:
    """Refuse what a config file or a script could bring in and the command line could not."""
    if dataclasses.is_dataclass(hint):
        return
    if not _fits(value, hint):
        raise BadInput(f"{_flag(name)} is {value!r}; it must be {_words(hint)}")


def _fits(value, hint) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


# ---------------------------------------------------------------- records as text


def to_json(config: Config) -> str:
    """The record as canonical JSON: every field, keys sorted, no spaces; equal records have equal texts."""
    return json.dumps(_canonical(config, Config), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value, hint):
    """`value` with what equals the same number written the same way: 1 as 1.0 where floats belong, −0.0 as 0.0."""
    if dataclasses.is_dataclass(value):
        return {name: _canonical(getattr(value, name), kind) for name, kind in _HINTS(hint).items()}
    if isinstance(value, tuple):
        return [_canonical(v, typing.get_args(hint)[0]) for v in value]
    if value is not None and float in (hint, *typing.get_args(hint)):
        return float(value) + 0.0
    return value


def from_json(text: str) -> Config:
    """The record that `to_json` wrote, with defaults for what is missing.

    Raises ValueError naming a field that does not exist or has a wrong type.
    """
    groups = {f.name: f.default for f in dataclasses.fields(Config)}
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"a config is a JSON object, and this is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadInput("a config is a JSON object")
    for name in fields:
        if name not in groups:
            raise BadInput(f"there is no field {name!r}; there are {', '.join(groups)}")
        if dataclasses.is_dataclass(groups[name]) and not isinstance(fields[name], dict):
            raise BadInput(f"{name} is {fields[name]!r}; it must be a JSON object of fields")
    values = {
        name: override(default, fields[name]) if dataclasses.is_dataclass(default) else fields[name]
        for name, default in groups.items()
        if name in fields
    }
    return check(Config(**values))


def override(record, values: dict):
    """`record` with the fields in `values` replaced, lists read as tuples. Raises ValueError for an unknown field."""
    names = [f.name for f in dataclasses.fields(record)]
    for name in values:
        if name not in names:
            raise BadInput(f"there is no field {name!r} in {type(record).__name__}; there are {', '.join(names)}")
    return dataclasses.replace(record, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
