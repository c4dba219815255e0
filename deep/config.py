"""What a run is: one frozen record of everything that decides its numbers, and what makes such a record impossible.

Nothing here computes; `deep.presets` holds the papers' recipes as instances. What varies in kind is a part, a value
with options of its own (`deep.parts`), and no code asks for a method by name (Chen & He 2021; Tian, Chen & Ganguli
2021; Li, Efros & Pathak 2022 differ in values).
"""

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal

from stopgrad.deep.kinds import Backbone, Objective, Order, Predictor, Target
from stopgrad.deep.parts import (
    BELOW_ONE,
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    TWO,
    Needs,
    Part,
    Range,
    canonical,
    complaint,
    flag,
    flat,
    known,
    options,
    override,
    parts_of,
    without,
)
from stopgrad.deep.seats import BACKBONE, OBJECTIVE, ORDER, PREDICTOR, TARGET
from stopgrad.linear_theory.tools.errors import BadInput

_GAUSSIAN = Needs("--dataset gaussian", lambda c: c.data.dataset == "gaussian")
_DEEP = Needs("--projector-layers 2 or 3", lambda c: c.method.projector_layers > 1)
_LEARNS = Needs("a predictor that learns", lambda c: c.method.predictor.learns)


class Record:
    """A group of fields, some of which are seats of parts."""

    @classmethod
    def of(cls, **values):
        """A record from options named flatly: `Method.of(predictor="mlp", predictor_hidden=64)`.

        Raises ValueError for an option that does not exist.
        """
        return override(cls(), values)

    def complaints(self, config: "Config") -> Iterator[str]:
        """A sentence for each pair of fields that contradict each other."""
        return iter(())


@dataclass(frozen=True)
class Data(Record):
    """What is learned from, in which order, and how views of an image are made."""

    dataset: Literal["digits", "cifar10", "cifar100", "stl10", "imagefolder", "gaussian"] = "digits"
    """digits comes with scikit-learn; cifar10, cifar100, stl10 with torchvision's download; gaussian is drawn, and
    without classes has neither kNN accuracy nor linear probe."""
    data_folder: str | None = None
    """Where torchvision keeps its sets, or the imagefolder with train/CLASS/… and val/CLASS/… (or test/)."""
    download: bool = False
    """Let torchvision download the set where it is missing."""
    fraction: Annotated[float, FRACTION] = 1.0
    """Share of the training images to use; which, the seed decides."""
    image_size: Annotated[int | None, Range("at least 8 pixels", lambda v: v >= 8)] = None
    """Side of a view in pixels; None: the set's own (digits 16, cifar 32, stl10 96, imagefolder that of its images)."""
    storage: Literal["auto", "resident", "stream"] = "auto"
    """resident: decoded once and kept on the training device; stream: decoded anew each epoch; auto: by size."""
    workers: Annotated[int, NOT_NEGATIVE] = 4
    """Processes that decode images where they stream."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Range of the random crop's share of the image's area."""
    flip: Annotated[float, PROBABILITY] = 0.5
    """Probability of a horizontal flip."""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Strength of the jitter of brightness, contrast, saturation and hue."""
    jitter_probability: Annotated[float, PROBABILITY] = 0.8
    """Probability that a view's colours are jittered."""
    grayscale: Annotated[float, PROBABILITY] = 0.2
    """Probability that a view loses its colours."""
    blur: Annotated[float, PROBABILITY] = 0.0
    """Probability of a Gaussian blur; SimSiam's is 0.5 on ImageNet and 0 on 32-pixel images."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's σ in pixels."""
    gaussian_dim: Annotated[int, TWO, _GAUSSIAN] = 32
    """gaussian: dimensions of x."""
    gaussian_decay: Annotated[float, NOT_NEGATIVE, _GAUSSIAN] = 0.0
    """gaussian: X has eigenvalues j^−decay, j = 1 … dim."""
    gaussian_rank: Annotated[int | None, COUNT, _GAUSSIAN] = None
    """gaussian: directions with content, the first of dim, X being 0 in the others; None: all."""
    gaussian_mean: Annotated[float, NOT_NEGATIVE, _GAUSSIAN] = 0.0
    """gaussian: ‖μ‖, the length of the points' mean, which lies along the last direction, that of least content."""
    gaussian_sigma2: Annotated[float, NOT_NEGATIVE, _GAUSSIAN] = 0.1
    """gaussian: X′ = σ² I, the variance of the views' noise."""
    gaussian_samples: Annotated[int, TWO, _GAUSSIAN] = 4096
    """gaussian: number of points; their views are drawn anew at every visit."""
    order: Order = ORDER.field()
    """In which order a run visits its images."""

    def complaints(self, config: "Config") -> Iterator[str]:
        """Ranges that do not rise, and what a set cannot do."""
        for name in ("crop_scale", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf or (name == "crop_scale" and high > 1):
                limit = " and at most 1" if name == "crop_scale" else ""
                yield f"{flag(name)} is {low:g} {high:g}; it must be a rising range above 0{limit}"
        if not all(0 <= v < math.inf for v in self.jitter) or self.jitter[3] > 0.5:
            given = " ".join(map(str, self.jitter))
            yield f"--jitter is {given}; strengths are at least 0, and that of hue at most 0.5"
        if self.dataset == "imagefolder" and self.data_folder is None:
            yield "--dataset imagefolder needs --data-folder, a folder with train/CLASS/… and val/CLASS/…"
        if self.dataset == "gaussian" and self.storage == "stream":
            yield "--storage stream is for images in files; the gaussian set is drawn in memory"
        if self.gaussian_rank is not None and self.gaussian_rank > self.gaussian_dim:
            yield f"--gaussian-rank {self.gaussian_rank} exceeds --gaussian-dim {self.gaussian_dim}"


@dataclass(frozen=True)
class Method(Record):
    """The network and its learning rule: its parts, and what they share."""

    backbone: Backbone = BACKBONE.field()
    """From views to representations."""
    projector_layers: Annotated[int, Range("1, 2 or 3", lambda v: 1 <= v <= 3)] = 2
    """Linear layers of the projector, 1 to 3; BatchNorm and ReLU stand between them."""
    projector_hidden: Annotated[int, COUNT, _DEEP] = 128
    """Width of the projector's hidden layers."""
    embedding_dim: Annotated[int, TWO] = 64
    """d, the dimension of the embedding: the projector's output, the predictor's input and output."""
    projector_bias: bool = False
    """Bias of the projector's last layer."""
    projector_output_bn: Literal["affine", "affine_free", "none"] = "none"
    """BatchNorm after the projector's last layer; affine_free makes a complete collapse impossible."""
    predictor: Predictor = PREDICTOR.field()
    """From an embedding to the prediction of another view's."""
    target: Target = TARGET.field()
    """What predictions are compared with."""
    objective: Objective = OBJECTIVE.field()
    """The loss."""
    loss_scale: Annotated[float, POSITIVE] = 1.0
    """c: the loss is multiplied by it. BYOL's released code sums 2 − 2cos over both views: 4."""

    def complaints(self, config: "Config") -> Iterator[str]:
        """A bias that BatchNorm takes away, and batches in parts for an objective that needs them whole."""
        if self.projector_bias and self.projector_output_bn != "none":
            yield f"--projector-bias has no effect before an output BatchNorm; {without('projector_bias')}"
        if self.objective.whole_batch and config.optimisation.accumulation > 1:
            yield f"--objective {self.objective} compares images of a batch, which --accumulation would part"


@dataclass(frozen=True)
class Optimisation(Record):
    """SGD with momentum: rates, decay, length and arithmetic."""

    epochs: Annotated[int, NOT_NEGATIVE] = 20
    """Passes over the training images."""
    batch_size: Annotated[int, TWO] = 128
    """Images of a step, over all processes and accumulated parts."""
    lr: Annotated[float, POSITIVE] = 0.05
    """Learning rate for a batch of 256; a run's own is lr · batch_size/256 unless lr_scaling is none."""
    lr_scaling: Literal["linear", "none"] = "linear"
    """linear: learning rates are given for a batch of 256."""
    momentum: Annotated[float, BELOW_ONE] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 5e-4
    """Added to the gradient of every parameter, as in torch's SGD (coupled)."""
    predictor_lr: Annotated[float | None, POSITIVE, _LEARNS] = None
    """Learning rate of the predictor, scaled like lr; None: lr."""
    predictor_weight_decay: Annotated[float | None, NOT_NEGATIVE, _LEARNS] = None
    """Weight decay of the predictor; None: weight_decay."""
    predictor_schedule: Annotated[Literal["same", "constant"], _LEARNS] = "same"
    """constant: the predictor's learning rate does not fall with the schedule (SimSiam's fixed predictor lr)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: to zero over the run, step by step."""
    warmup_epochs: Annotated[float, NOT_NEGATIVE] = 0.0
    """Epochs over which the learning rate first rises linearly from 0."""
    accumulation: Annotated[int, COUNT] = 1
    """Parts that a batch is split into, one after the other, to save memory; BatchNorm sees one part at a time."""
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Arithmetic of the backbone; heads and correlations use float32 or float64. auto: bfloat16 where it is fast."""
    compile: bool = False
    """Fuse the backbone with torch.compile; pays on GPUs, not on CPUs."""
    start_from: str | None = None
    """Folder of a finished run from whose final weights this one starts, its optimiser at rest; None: random ones."""

    def complaints(self, config: "Config") -> Iterator[str]:
        """Parts that are not equal or too small, and a warm-up that never ends."""
        if self.batch_size % self.accumulation:
            yield f"--accumulation {self.accumulation} does not divide --batch-size {self.batch_size}"
        if self.batch_size // self.accumulation < 2:
            yield "--accumulation leaves fewer than 2 images in a part, too few for BatchNorm"
        if self.warmup_epochs > self.epochs:
            yield f"--warmup-epochs {self.warmup_epochs:g} exceeds --epochs {self.epochs}"
        if self.start_from == "":
            yield "--start-from is empty; it must be the folder of a finished run"


@dataclass(frozen=True)
class Monitor(Record):
    """What is measured, and when."""

    monitor_every: Annotated[int, COUNT] = 10
    """Steps between measurements on the training batch."""
    evaluate_every: Annotated[int, COUNT] = 5
    """Epochs between evaluations of the representations (kNN, spectrum); before training and at the end always."""
    knn_images: Annotated[int, TWO] = 10_000
    """Training images that kNN searches and the representation's spectrum is taken over, at most."""
    probe: Literal["none", "logistic", "paper"] = "logistic"
    """Linear probe at the end: regularised logistic regression, or the papers' SGD protocol."""
    references: tuple[Literal["pixels", "random", "supervised"], ...] = ()
    """Evaluate, for comparison, raw pixels, a network as initialised, or one trained with the labels as long."""
    laws_every: Annotated[int | None, COUNT] = None
    """Epochs between measurements of what the projector's last layer reads, X and X′ (of new views of the first epoch's
    images, as many as knn_images, a batch at least), and of its weights, which at the end are held against the linear
    theory's laws; None: never. It may read and give 512 numbers at most."""
    generalisation: bool = False
    """At the end take new views of images of the last epoch, and of images not trained on: the loss of both, and X and
    X′ at the projector's input."""

    def complaints(self, config: "Config") -> Iterator[str]:
        """Comparisons of accuracies where there are none."""
        if self.references and config.data.dataset == "gaussian":
            yield "--references are compared by how well they tell classes apart, and --dataset gaussian has none"
        method = config.method
        for part, name in ((method.objective, "objective"), (method.target, "target"), (method.predictor, "predictor")):
            if self.laws_every is not None and not part.in_theory:
                yield f"Lemma 1, which --laws-every is about, knows no {flag(name)} {part} as it is set here"


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers, and nothing else."""

    data: Data = Data()
    method: Method = Method()
    optimisation: Optimisation = Optimisation()
    monitor: Monitor = Monitor()
    seed: Annotated[int, Range("at least 0 and below 2^63", lambda v: 0 <= v < 2**63)] = 0
    """Decides initialisation, subset, order and views."""


GROUPS = {f.name: f.default for f in fields(Config) if is_dataclass(f.default)}
"""The groups of a config as they are by default."""


def parts(config: Config) -> list[Part]:
    """Every part of a run."""
    return [part for name in GROUPS for part in parts_of(getattr(config, name))]


def views_wanted(config: Config) -> int:
    """Views of an image that a step needs: those that are predicted, and those of a target that is wanted."""
    method = config.method
    own = method.target.views if method.target.wanted(method.objective, method.predictor) else 0
    return method.objective.views + own


# ---------------------------------------------------------------- options named flatly


def flat_config(config: Config) -> dict[str, Any]:
    """{flat name: value} of all groups; the seed is none of them. Raises ValueError for a name that two parts have."""
    return flat(*(getattr(config, group) for group in GROUPS))


def change(config: Config, **values) -> Config:
    """`config` with options replaced, named flatly, whichever of its groups they stand in.

    Raises ValueError for an option that does not exist.

    >>> change(Config(), predictor="mlp", predictor_hidden=64, lr=0.1).method.predictor.hidden
    64
    """
    changed: dict[str, Any] = {"seed": values.pop("seed")} if "seed" in values else {}
    for group, default in GROUPS.items():
        names = known(type(default)) & values.keys()
        if names:
            changed[group] = override(getattr(config, group), {name: values.pop(name) for name in sorted(names)})
    if values:
        raise BadInput(f"there is no option {next(iter(values))!r} in a config")
    return replace(config, **changed)


# ---------------------------------------------------------------- impossible records


def check(config: Config) -> Config:
    """Return `config`. Raises ValueError with one sentence that names the flag, for anything knowable without data."""
    groups = [getattr(config, name) for name in GROUPS]
    for record in groups:
        for option in options(record):
            if said := complaint(option):
                raise BadInput(said)
    flat_config(config)
    for option in options(config):
        if option.name not in GROUPS and (said := complaint(option)):
            raise BadInput(said)
    for owner in (*groups, *parts(config)):
        for said in owner.complaints(config):
            raise BadInput(said)
    return config


# ---------------------------------------------------------------- records as text


def to_json(config: Config) -> str:
    """The record as canonical JSON: every option that it has, keys sorted, no spaces; equal just where records are."""
    return _text(config, defaults=True)


def key_text(config: Config) -> str:
    """What of the record names a run: `to_json` without what is as its class has it by default.

    So a field that comes later, with the old behaviour as its default, changes the name of no run that there is.
    """
    return _text(config, defaults=False)


def _text(config: Config, defaults: bool) -> str:
    try:
        return _written(config, defaults)
    except TypeError:  # a part of somebody's own may have an option that cannot be hashed
        return _written.__wrapped__(config, defaults)


@functools.lru_cache(maxsize=2**13)  # a store asks for the same few hundred again and again
def _written(config: Config, defaults: bool) -> str:
    record = {name: canonical(getattr(config, name), defaults) for name in GROUPS} | {"seed": config.seed}
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Config:
    """The record that `to_json` wrote, with defaults for what is missing; options of parts not chosen do not matter.

    Raises ValueError naming a field that does not exist or has a wrong type.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"a config is a JSON object, and this is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput("a config is a JSON object")
    for name in found:
        if name not in (*GROUPS, "seed"):
            raise BadInput(f"there is no field {name!r}; there are {', '.join((*GROUPS, 'seed'))}")
        if name in GROUPS and not isinstance(found[name], dict):
            raise BadInput(f"{name} is {found[name]!r}; it must be a JSON object of fields")
    groups = {name: override(default, found[name], others=True) for name, default in GROUPS.items() if name in found}
    return check(Config(**found | groups))
