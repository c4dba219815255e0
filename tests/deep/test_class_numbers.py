"""Labels are names of classes: any whole numbers, in any dtype, give what 0, 1, 2, … give."""

import numpy as np
import pandas as pd
import pytest
import torch

from stopgrad.deep.data.counter import normal
from stopgrad.deep.data.datasets import ImageSet, choose_fraction, stratified_order, take
from stopgrad.deep.measuring.evaluation import evaluate_features, knn_accuracy
from stopgrad.deep.measuring.probe import class_indices, classifier_accuracy, linear_probe, supervised_reference

CLASSES = 4
PLACES = torch.arange(120) % CLASSES
FEATURES = normal(5, torch.arange(120), 6) + 1.2 * torch.eye(CLASSES, 6)[PLACES]
TRAIN, TEST = slice(0, 80), slice(80, 120)

# Four numbers for the classes, in rising order, and what holds them.
NUMBERS = {
    "uint8": ([0, 3, 200, 255], lambda v: v.astype(np.uint8)),
    "uint8 tensor": ([0, 3, 200, 255], lambda v: torch.tensor(v, dtype=torch.uint8)),
    "int32": ([0, 1, 2, 3], lambda v: v.astype(np.int32)),
    "int32 tensor": ([5, 6, 7, 8], lambda v: torch.tensor(v, dtype=torch.int32)),
    "uint16 tensor": ([0, 1, 2, 65535], lambda v: torch.tensor(v, dtype=torch.uint16)),
    "big-endian": ([0, 1, 2, 3], lambda v: v.astype(">i4")),
    "backwards": ([0, 1, 2, 3], lambda v: np.flip(np.flip(v).copy())),
    "large": ([10**8, 10**8 + 1, 10**12, 2**62], torch.tensor),
    "uint64": ([1, 2, 3, 2**63 - 1], lambda v: v.astype(np.uint64)),
    "negative": ([-(10**9), -2, -1, 0], torch.tensor),
    "list": ([1, 2, 3, 4], lambda v: v.tolist()),
    "objects": ([1, 2, 3, 4], lambda v: v.astype(object)),
    "pandas": ([1, 2, 3, 4], lambda v: pd.Series(v, index=np.arange(len(v))[::-1])),
}


def named(kind, places):
    numbers, make = NUMBERS[kind]
    return make(np.array(numbers)[places.numpy()])


def data(kind):
    labels = [named(kind, PLACES[part]) for part in (TRAIN, TEST)]
    return FEATURES[TRAIN], labels[0], FEATURES[TEST], labels[1]


PLAIN = FEATURES[TRAIN], PLACES[TRAIN], FEATURES[TEST], PLACES[TEST]


@pytest.mark.parametrize("kind", NUMBERS)
def test_any_numbers_for_the_classes_give_the_same_accuracies(kind):
    expected = knn_accuracy(*PLAIN, k=5)
    assert 0.5 < expected < 1 and knn_accuracy(*data(kind), k=5) == expected
    assert evaluate_features(*data(kind)) == evaluate_features(*PLAIN)
    for protocol, settings in (("logistic", {}), ("paper", {"epochs": 3})):
        assert linear_probe(*data(kind), protocol, **settings) == linear_probe(*PLAIN, protocol, **settings)


@pytest.mark.parametrize("kind", NUMBERS)
def test_any_numbers_for_the_classes_give_the_same_choice_of_images(kind):
    labels = named(kind, PLACES)
    assert torch.equal(stratified_order(labels, 3), stratified_order(PLACES, 3))
    assert torch.equal(choose_fraction(labels, 0.25, 1), choose_fraction(PLACES, 0.25, 1))


def test_of_equal_votes_the_smaller_number_counts_whatever_its_sign():
    same = torch.eye(4)[:1].expand(6, 4)
    labels = torch.tensor([7, -3, 7, -3, 10**10, 10**10])
    assert knn_accuracy(same, labels, same[:1], [-3], k=6) == 1
    assert knn_accuracy(same, labels, same[:1], [7], k=6) == 0


@pytest.mark.parametrize("unknown", [-1, 2, 10**9])
def test_a_class_that_training_never_saw_is_never_found(unknown):
    labels = [0, 1, 5] * 20
    x = torch.eye(3, 6)[torch.arange(60) % 3] + 0.01 * normal(1, torch.arange(60), 6)
    truth = torch.tensor([0, 1, 5, unknown])
    assert knn_accuracy(x, labels, x[:4], truth, k=3) == 0.75
    for protocol in ("logistic", "paper"):
        assert linear_probe(x, labels, x[:4], truth, protocol).accuracy == 0.75


def test_indices_are_places_among_the_classes_that_occur():
    found = class_indices(np.array([30, -5, 30, 10**9], ">i8"), [10**9, 7, -5, 2 * 10**9, -9])
    assert [v.tolist() for v in found] == [[1, 0, 1, 2], [2, -1, 0, -1, -1]]


@pytest.mark.parametrize(
    "labels", [torch.rand(80), ["cat"] * 80, np.full(80, 2**64 - 1, np.uint64), np.ma.array([1] * 80, mask=[1] * 80)]
)
def test_what_are_no_whole_numbers_is_refused_in_a_sentence(labels):
    for measure in (knn_accuracy, linear_probe):
        with pytest.raises(ValueError, match=r"train labels (must be whole numbers|have masked entries)"):
            measure(FEATURES[TRAIN], labels, FEATURES[TEST], PLACES[TEST])


def test_a_classifier_s_own_labels_come_in_any_dtype():
    classifier = torch.nn.Linear(6, CLASSES)
    expected = classifier_accuracy(classifier, FEATURES, PLACES)
    for dtype in (torch.uint8, torch.int32):
        assert classifier_accuracy(classifier, FEATURES, PLACES.to(dtype)) == expected
        batches = [(FEATURES, PLACES.to(dtype))]
        trained = supervised_reference(torch.nn.Identity(), batches, steps=1, feature_dim=6, classes=CLASSES, lr=0.1)
        assert trained.weight.isfinite().all()


@pytest.mark.parametrize("kind", [np.int32, np.uint8, ">i8"])
def test_images_are_taken_at_indices_of_any_dtype(kind):
    images = ImageSet(torch.arange(12).reshape(4, 3), torch.arange(4))
    found = take(images, np.array([0, 1, 3], kind)[::-1])
    assert found.labels.tolist() == [3, 1, 0] and torch.equal(found.images, images.images[[3, 1, 0]])
