"""Linear probes: how well a linear classifier reads the labels off a frozen network's representations.

Two protocols on cached eval-mode features, both scored once, at the end: regularised logistic regression solved to
convergence, and the papers' stochastic gradient descent. Test labels enter the score and nothing else. Beside them the
supervised reference: the same backbone, trained with the labels.
"""

import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stopgrad.deep.data import counter
from stopgrad.deep.data.fold import fold
from stopgrad.linear_theory.predictors.matrices import full_precision
from stopgrad.linear_theory.tools.arrays import as_int64, as_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import magnitude

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths C that the logistic probe chooses among: Σ cross-entropy + ‖w‖²/(2C), on standardised features."""

_HELD_OUT, _FIT, _SUPERVISED = 0x9B1, 0x9B2, 0x9B3  # what a key's randomness is for


class Probe(NamedTuple):
    """A probe's result and what decided it: accuracies in [0, 1]."""

    accuracy: float
    """On the test set, of the classifier at the end of the fit."""
    train_accuracy: float
    """On the features it was fitted to."""
    protocol: str
    """logistic or paper."""
    C: float | None
    """logistic: inverse strength of the regularisation, given or chosen."""
    converged: bool
    """logistic: whether the solver reached its tolerance; paper: whether the loss stayed finite."""


def linear_probe(
    train: torch.Tensor,
    train_labels: torch.Tensor,
    test: torch.Tensor,
    test_labels: torch.Tensor,
    protocol: Literal["logistic", "paper"] = "logistic",
    *,
    seed: int = 0,
    **settings,
) -> Probe:
    """Fit a linear classifier to `train` and score it once on `test`. Features (N, d), labels (N,): whole numbers
    of any dtype, the classes being those that occur in `train_labels`.

    `settings` go to `logistic_probe` or `paper_probe`. Raises ValueError for an unknown protocol, for shapes or labels
    that do not fit, for features that are not finite and for fewer than two classes.

    >>> import torch
    >>> x, y = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2
    >>> x[:, 0] += 20 * y  # two classes far apart
    >>> linear_probe(x, y, x, y).accuracy
    1.0
    """
    probes = {"logistic": logistic_probe, "paper": paper_probe}
    if protocol not in probes:
        raise BadInput(f"protocol is {protocol!r}; it must be 'logistic' or 'paper'")
    return probes[protocol](train, train_labels, test, test_labels, seed=seed, **settings)


def logistic_probe(
    train: torch.Tensor,
    train_labels: torch.Tensor,
    test: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    C: float | None = None,
    seed: int = 0,
    held_out: float = 0.2,
    max_iter: int = 3000,
    tolerance: float = 1e-4,
) -> Probe:
    """L2-regularised multinomial logistic regression, by L-BFGS in float64 on the CPU.

    Features are standardised with the training set's mean and deviation, whatever their size; what varies by no more
    than 8 spacings of its dtype is rounding and not enlarged. C None: the one of `STRENGTHS` with the best accuracy on
    `held_out` of the *training* set (the stronger of equals), then fitted again to all of it. `tolerance` bounds the
    largest entry of the gradient of the mean loss.
    """
    train, train_labels, test, test_labels = check_features(train, train_labels, test, test_labels)
    _check_classes(train_labels)
    x, standardise = _standardised(train)
    y = train_labels.cpu().numpy()
    fit = _Logistic(max_iter, tolerance)
    if C is None:
        C = _chosen_strength(fit, x, y, seed, held_out)
    model, converged = fit(x, y, C)
    accuracy = model.score(standardise(test), test_labels.cpu().numpy())
    return Probe(float(accuracy), float(model.score(x, y)), "logistic", C, converged)


@full_precision
def paper_probe(
    train: torch.Tensor,
    train_labels: torch.Tensor,
    test: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    epochs: int = 90,
    lr: float = 30.0,
    batch_size: int = 256,
    momentum: float = 0.9,
    seed: int = 0,
) -> Probe:
    """SimSiam's linear evaluation by SGD (Chen & He 2021): no weight decay, cosine schedule, the last epoch's result.

    `lr` is for a batch of 256 and scales with the batch; a last batch may be smaller. Unlike the paper's, the features
    come from unaugmented images and are computed once, where the paper draws a new crop and flip at each visit. They
    are not standardised, as there. Order and initial weights (σ = 0.01, bias 0) are counted from the seed, so that the
    same machine gives the same bits. Runs on the device of `train`, in float32.
    """
    train, train_labels, test, test_labels = check_features(train, train_labels, test, test_labels)
    _check_classes(train_labels)
    train, labels = train.detach().float(), train_labels.to(train.device)
    n, d, classes = *train.shape, int(labels.max()) + 1
    batch_size = min(batch_size, n)
    classifier = _linear_classifier(d, classes, fold(seed, _FIT), train.device)
    optimiser = torch.optim.SGD(classifier.parameters(), lr * batch_size / 256, momentum)
    base, finite = optimiser.param_groups[0]["lr"], True
    with torch.enable_grad():
        for epoch in range(epochs):
            optimiser.param_groups[0]["lr"] = base * _cosine(epoch / epochs)
            order = counter.permutation(fold(seed, _FIT, epoch), n).to(train.device)
            for rows in order.split(batch_size):
                optimiser.zero_grad()
                loss = functional.cross_entropy(classifier(train[rows]), labels[rows])
                loss.backward()
                optimiser.step()
            finite = finite and bool(loss.isfinite())
    accuracy = classifier_accuracy(classifier, test, test_labels)
    return Probe(accuracy, classifier_accuracy(classifier, train, labels), "paper", None, finite)


def supervised_reference(
    backbone: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    steps: int,
    feature_dim: int,
    classes: int,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    half: torch.dtype | None = None,
    seed: int = 0,
) -> nn.Linear:
    """Train `backbone`, in place, and a linear classifier on it with the labels; returns the classifier.

    `batches` yields (augmented views on the network's device, labels (batch,) from 0 to classes − 1), and the learning
    rate `lr` (not scaled here) falls along a cosine over `steps` of them; further ones are not drawn. `half`: dtype of
    the backbone's arithmetic; classifier and loss stand in float32 or wider. Raises ValueError where the batches run
    out or the loss is no longer finite at the end.
    """
    device, dtype = _place(backbone)
    classifier = _linear_classifier(feature_dim, classes, fold(seed, _SUPERVISED), device).to(dtype)
    parameters = [p for p in (*backbone.parameters(), *classifier.parameters()) if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay)
    backbone.train()
    done = 0
    for views, labels in itertools.islice(batches, steps):
        optimiser.param_groups[0]["lr"] = lr * _cosine(done / steps)
        optimiser.zero_grad()
        with torch.autocast(device.type, half, enabled=half is not None):
            features = backbone(views)
        loss = functional.cross_entropy(classifier(features.to(dtype)), labels.to(device, torch.int64))
        loss.backward()
        optimiser.step()
        done += 1
    if done < steps:
        raise ValueError(f"the supervised reference got {done} batches; it must get {steps}")
    if steps and not loss.isfinite():
        raise BadInput("the supervised reference diverged: its loss is not finite; a smaller lr would do")
    return classifier


@torch.no_grad()
@full_precision
def classifier_accuracy(classifier: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of rows of `features` (N, d) that `classifier` gives their label (N,), the index of one of its outputs."""
    features, labels = as_tensor(features, "features"), torch.from_numpy(as_int64(labels, "labels"))
    anchor = next(classifier.parameters())
    predicted = classifier(features.to(anchor)).argmax(1)
    return float((predicted == labels.to(anchor.device)).double().mean())


def check_features(train, train_labels, test, test_labels) -> tuple[torch.Tensor, ...]:
    """Features (N, d) as tensors, labels (N,) as `class_indices`.

    Raises ValueError, in one sentence, unless they fit and could be learned from.
    """
    train, test = as_tensor(train, "train features"), as_tensor(test, "test features")
    train_labels, test_labels = as_int64(train_labels, "train labels"), as_int64(test_labels, "test labels")
    for name, features, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
            shapes = f"{tuple(features.shape)} with labels {tuple(labels.shape)}"
            raise ValueError(f"{name} features are {shapes}; they must be (N, d) and (N,), with N at least 1")
        if not features.isfinite().all():
            raise BadInput(f"{name} features have entries that are NaN or infinite; they must be finite")
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train features have {train.shape[1]} dimensions and test's {test.shape[1]}; they must agree")
    train_labels, test_labels = class_indices(train_labels, test_labels)
    return train, train_labels, test, test_labels


def class_indices(labels, others) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as places among the classes that occur in `labels`, rising; −1 for a class of `others` that does not.

    labels, others: (N,), whole numbers of any dtype and sign, below 2⁶³; int64 tensors on the CPU come back. ValueError
    for what are no such numbers.
    """
    others = as_int64(others, "labels")
    classes, places = np.unique(as_int64(labels, "labels"), return_inverse=True)
    near = np.searchsorted(classes, others).clip(max=len(classes) - 1)
    return torch.from_numpy(places), torch.from_numpy(np.where(classes[near] == others, near, -1))


# ---------------------------------------------------------------- parts


def _check_classes(labels: torch.Tensor) -> None:
    if (labels == labels[0]).all():
        raise BadInput("the training labels are all the same; a linear classifier needs at least two classes")


class _Logistic(NamedTuple):
    max_iter: int
    tolerance: float

    def __call__(self, x, y, C: float) -> tuple[Any, bool]:
        """The fitted model, and whether the solver reached its tolerance."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=C, max_iter=self.max_iter, tol=self.tolerance)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, y)
        return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _chosen_strength(fit: _Logistic, x, y, seed: int, held_out: float, strengths: Sequence[float] = STRENGTHS) -> float:
    """The C with the best accuracy on the held-out share of (x, y); the smallest of equals."""
    order = counter.permutation(fold(seed, _HELD_OUT), len(y)).numpy()
    aside = round(held_out * len(y))
    kept, apart = order[aside:], order[:aside]
    if not aside or len(np.unique(y[kept])) < 2:
        return strengths[-1]  # too few samples to choose by
    scores = [fit(x[kept], y[kept], C)[0].score(x[apart], y[apart]) for C in strengths]
    return strengths[int(np.argmax(scores))]


def _standardised(train: torch.Tensor):
    """(standardised features, the function that standardises others so); what does not vary keeps scale 1."""
    x = _float64(train)
    size = magnitude(x, axis=0)  # so that no square vanishes or overflows
    mean, deviation = (x / size).mean(axis=0), (x / size).std(axis=0)
    # a constant that was computed in floating point need not come out with a deviation of exactly 0
    spacing = torch.finfo(train.dtype).eps if train.is_floating_point() else 0.0
    few = 1 if train.is_floating_point() and train.dtype.itemsize == 2 else 8  # stored in half, not computed in it
    scale = np.where(deviation > few * spacing * np.abs(mean), deviation, 1.0)

    def standardise(features: torch.Tensor) -> np.ndarray:
        return (_float64(features) / size - mean) / scale

    return standardise(train), standardise


def _float64(features: torch.Tensor) -> np.ndarray:
    return features.detach().to("cpu", torch.float64).numpy()


def _linear_classifier(d: int, classes: int, key: int, device) -> nn.Linear:
    """A linear layer with weights of deviation 0.01 counted from `key`, and bias 0."""
    classifier = nn.utils.skip_init(nn.Linear, d, classes, device=device)  # draws nothing from global randomness
    with torch.no_grad():
        classifier.weight.copy_(0.01 * counter.normal(key, torch.arange(classes), d))
        classifier.bias.zero_()
    return classifier


def _cosine(elapsed: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * elapsed))


def _place(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    anchor = next(network.parameters(), torch.zeros(()))
    return anchor.device, anchor.dtype
