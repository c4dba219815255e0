"""What the representations are worth: kNN accuracy and their spectrum, before the projector, in eval mode.

Beside the accuracy stand its values before training and of raw pixels, without which it says nothing; beside the
spectrum's metrics those of white noise with the same number of samples and dimensions.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stopgrad.deep.measuring.probe import check_features
from stopgrad.deep.measuring.quantities.quantities import measured
from stopgrad.linear_theory.predictors.matrices import full_precision
from stopgrad.linear_theory.spectra.moments import merge, moments, singular_values
from stopgrad.linear_theory.spectra.spectrum import LI2022, SpectrumReport, report
from stopgrad.linear_theory.tools.arrays import as_tensor, is_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import directions

PIXELS = 32
"""Side to which larger images are averaged before their raw pixels are compared."""

_CHUNK_ENTRIES = 2**24  # similarities held at once: 64 MB, and a few times that where many are equal
_MOMENT_ROWS = 8192  # features turned into float64 at once
_VOTE_UNIT = 2.0**40


class Part(NamedTuple):
    """One part (train or test) of a dataset as evaluation sees it."""

    batches: Callable[[], Iterable[torch.Tensor]]
    """Starts a pass over the part: normalised, unaugmented batches (n, …) in a fixed order, on the network's device."""
    labels: torch.Tensor | None
    """Labels (N,), whole numbers, in that order; None where the set has none."""


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Eval mode for every module of `network`, and afterwards each module's own mode again, also after an error."""
    with _in_mode(network, training=False):
        yield network


@contextlib.contextmanager
def unnoticed(network: nn.Module) -> Iterator[nn.Module]:
    """Train mode for every module, and afterwards modes and buffers as they were, also after an error.

    So BatchNorm normalises with each batch's own statistics, and its running ones do not notice.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with _in_mode(network, training=True):
            yield network
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@contextlib.contextmanager
def _in_mode(network: nn.Module, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def representations(
    backbone: nn.Module, batches: Iterable[torch.Tensor], half: torch.dtype | None = None
) -> torch.Tensor:
    """Features (N, d) of `batches`, tensors (n, …) on the network's device, in eval mode and without gradients.

    float32, or float64 from a float64 network, whatever `half`, the dtype of the backbone's arithmetic (None: as
    it is). BatchNorm uses its running statistics and leaves them; training modes are restored. Raises ValueError for
    no batch.
    """
    features = []
    with torch.no_grad(), evaluating(backbone):
        for batch in batches:
            with torch.autocast(batch.device.type, half, enabled=half is not None):
                f = backbone(batch)
            features.append(f.to(torch.promote_types(f.dtype, torch.float32)))
    if not features:
        raise ValueError("there is no batch to represent; at least one is needed")
    return torch.cat(features)


def raw_pixels(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The batches themselves as features (N, channels · height · width); images beyond 32 pixels are averaged first."""
    return representations(RawPixels(), batches)


def evaluate(backbone: nn.Module, train: Part, test: Part | None, half: torch.dtype | None = None) -> dict:
    """`evaluate_features` of both parts' representations. `half` as in `representations`.

    The network as initialised, evaluated the same way, is the reference 'random'; it is also any run's value before
    training. Raises ValueError for an empty part, for labels that do not fit and for features that are not finite.
    """
    labelled = test is not None and train.labels is not None and test.labels is not None
    features = representations(backbone, train.batches(), half)
    if not labelled:
        return evaluate_features(features)
    return evaluate_features(features, train.labels, representations(backbone, test.batches(), half), test.labels)


def evaluate_features(
    train: torch.Tensor,
    train_labels: torch.Tensor | None = None,
    test: torch.Tensor | None = None,
    test_labels: torch.Tensor | None = None,
) -> dict:
    """One flat row, fit for JSON: `knn` and its `knn_k` (None without labels) and the spectrum of `train` (N, d).

    The spectrum is the singular values `sigma` of the centred features, as Li, Efros & Pathak 2022 take them, and
    their report (`spectra.spectrum`): each metric beside that of white noise of the same N and d, with space,
    centring, N and d. The metrics of features that do not vary at all are None: complete collapse is a result.
    """
    seen = Represented(as_tensor(train, "train features"), train_labels, test, test_labels)
    found = {name: v.tolist() if is_tensor(v) else v for name, v in measured(seen, "evaluation").items()}
    return {"knn": None, "knn_k": None} | seen.spectrum.row() | found | {"sigma": seen.sigma.tolist()}


@dataclass(frozen=True, eq=False)
class Represented:
    """What an evaluation's quantities look at: representations (N, d), and labels (N,) where there are any."""

    train: torch.Tensor
    labels: torch.Tensor | None = None
    test: torch.Tensor | None = None
    test_labels: torch.Tensor | None = None

    @property
    def k(self) -> int:
        """Neighbours that vote."""
        return default_k(len(self.train))

    @cached_property
    def knn(self) -> float:
        """kNN accuracy of `test`."""
        return knn_accuracy(self.train, self.labels, self.test, self.test_labels, self.k)

    @cached_property
    def sigma(self):
        """Singular values of the centred features of `train`."""
        return singular_values(self._moments, LI2022.centred)

    @cached_property
    def _moments(self):
        return reduce(merge, map(moments, self.train.split(_MOMENT_ROWS)))

    @cached_property
    def spectrum(self) -> SpectrumReport:
        """Their metrics, beside those of white noise."""
        return report(self.sigma, self._moments.count, self.train.shape[1], LI2022, "representation")


def for_table(found: dict) -> tuple[dict, dict]:
    """An evaluation as a run's table keeps it: its numbers, and as arrays σ, `sigma`, and other rows of numbers. Words
    and None stay out."""
    scalars = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return scalars, {name: np.asarray(value) for name, value in found.items() if isinstance(value, list)}


def pixel_knn(train: Part, test: Part | None) -> float | None:
    """kNN accuracy of raw pixels; None without labels. Once a run is enough: no weight enters."""
    if test is None or train.labels is None or test.labels is None:
        return None
    return knn_accuracy(raw_pixels(train.batches()), train.labels, raw_pixels(test.batches()), test.labels)


def default_k(samples: int) -> int:
    """min(200, N_train/50), at least 1."""
    return max(1, min(200, samples // 50))


@torch.no_grad()
@full_precision
def knn_accuracy(
    train: torch.Tensor,
    train_labels: torch.Tensor,
    test: torch.Tensor,
    test_labels: torch.Tensor,
    k: int | None = None,
    temperature: float = 0.1,
    chunk: int | None = None,
) -> float:
    """Share of `test` whose k nearest neighbours in `train` vote for its label; features (N, d), labels (N,) as in
    `linear_probe`.

    Neighbours by cosine similarity, votes weighted by exp(similarity/temperature); k = min(200, N_train/50), at least
    1, fixed in advance. Of equally similar neighbours the earlier in `train` counts, of equal votes the smaller label:
    votes are summed as integers, so no device's order of summation decides. Features of any length, of which only the
    directions count; these in float32, `chunk` test rows at a time (default: as memory allows). Raises ValueError for
    shapes, labels, k or features that cannot serve.

    >>> import torch
    >>> labels, test = torch.tensor([0, 1]), torch.tensor([[1.0, 0.1], [0.9, 0.0]])  # both point as the first does
    >>> knn_accuracy(torch.eye(2), labels, test, labels, k=1)
    0.5
    """
    train, train_labels, test, test_labels = check_features(train, train_labels, test, test_labels)
    n = len(train)
    k = default_k(n) if k is None else k
    if not 1 <= k <= n:
        raise BadInput(f"k is {k}; it must be between 1 and the {n} training samples")
    if not temperature > 0:
        raise BadInput(f"temperature is {temperature:g}; it must be above 0")
    chunk = max(1, _CHUNK_ENTRIES // n) if chunk is None else chunk

    train, test = (directions(f).float() for f in (train, test.to(train.device)))
    labels, truth = train_labels.to(train.device), test_labels.to(train.device)
    correct = 0
    for rows, answer in zip(test.split(chunk), truth.split(chunk)):
        similarity, neighbour = _nearest(rows @ train.T, k)
        weight = torch.exp((similarity - similarity[:, :1]) / temperature)  # a common factor changes no vote
        votes = torch.zeros(len(rows), int(labels.max()) + 1, dtype=torch.int64, device=train.device)
        votes.scatter_add_(1, labels[neighbour], torch.round(weight * _VOTE_UNIT).long())
        correct += int((votes.argmax(1) == answer).sum())
    return correct / len(test)


def _nearest(similarity: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of float32 (rows, n), the largest first, as float64, and their columns; of equals the lower ones.

    topk leaves open which of equals it takes; that matters in rows where one equal to the k-th is left out.
    """
    value, column = similarity.topk(k, dim=1)
    crowded = (similarity >= value[:, -1:]).sum(dim=1) > k
    if crowded.any():
        column[crowded] = _lower_of_equals(similarity[crowded], k)
    return similarity.gather(1, column).double(), column


def _lower_of_equals(similarity: torch.Tensor, k: int) -> torch.Tensor:
    """Columns of the k largest, of equals the lower: by keys without equals, the value's bits above the column's.

    The bits of a float32, mapped to an integer of the same order, and the column counted down make one int64.
    """
    n = similarity.shape[1]
    bits = (similarity + 0.0).view(torch.int32)  # −0 becomes 0
    rank = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    down = torch.arange(n - 1, -1, -1, device=similarity.device)
    return n - 1 - (((rank << 32) + down).topk(k, dim=1).values & 0xFFFFFFFF)


class RawPixels(nn.Module):
    """No network: a batch's own numbers, (B, channels · height · width); images beyond 32 pixels are averaged first."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, …) to (B, numbers)."""
        if batch.ndim == 4 and max(batch.shape[-2:]) > PIXELS:
            batch = functional.adaptive_avg_pool2d(batch, PIXELS)
        return batch.flatten(1)
