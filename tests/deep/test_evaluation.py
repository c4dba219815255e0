"""kNN against scikit-learn and against a loop in float64; representations that leave the network as it was."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from stopgrad.deep.data import counter
from stopgrad.deep.measuring.evaluation import (
    Part,
    evaluate,
    evaluate_features,
    for_table,
    knn_accuracy,
    pixel_knn,
    raw_pixels,
    representations,
    unnoticed,
)

SIZES = st.integers(1, 40)


def draw(key, n, d):
    return counter.normal(key, torch.arange(n), d).float()


def noisy_classes(n=400, m=300, d=6, classes=4, key=0, distance=1.0):
    """Overlapping classes, so that accuracy is far from 0, chance and 1; an offset keeps similarities of one sign."""
    labels = torch.arange(n + m) % classes
    x = draw(key, n + m, d) + distance * torch.eye(classes, d)[labels] + 0.3
    return x[:n], labels[:n], x[n:], labels[n:]


def brute_force(train, labels, test, truth, k, temperature):
    """Votes one by one in float64, with equals in the order that the docstring promises."""
    train, test, labels, truth = (
        v.double().numpy() if v.is_floating_point() else v.numpy() for v in (train, test, labels, truth)
    )
    unit = lambda f: f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)  # noqa: E731
    correct = 0
    for row, answer in zip(unit(test) @ unit(train).T, truth):
        votes = np.zeros(int(labels.max()) + 1)
        for j in np.argsort(-row, kind="stable")[:k]:
            votes[labels[j]] += np.exp(row[j] / temperature)
        correct += votes.argmax() == answer
    return float(correct / len(test))


# ---------------------------------------------------------------- kNN


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_knn_is_scikit_learns_with_these_weights(k, temperature):
    train, y, test, truth = noisy_classes()
    model = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    model.fit(train.double().numpy(), y.numpy())
    expected = model.score(test.double().numpy(), truth.numpy())
    assert knn_accuracy(train, y, test, truth, k, temperature) == pytest.approx(expected, abs=1e-12)
    assert 0.3 < expected < 0.9


@given(SIZES, SIZES, st.integers(1, 5), st.integers(1, 4), st.integers(1, 40), st.integers(0, 10**6))
def test_knn_is_brute_force(n, m, d, classes, k, key):
    train, y, test, truth = noisy_classes(n, m, d, classes, key)
    k = min(k, n)
    assert knn_accuracy(train, y, test, truth, k) == pytest.approx(
        brute_force(train, y, test, truth, k, 0.1), abs=1e-12
    )


@given(
    SIZES,
    SIZES,
    st.integers(2, 3),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.integers(1, 50),
    st.sampled_from([0.1, 5.0]),
)
def test_among_equals_the_earlier_sample_and_the_smaller_label_count(n, m, classes, k, key, chunk, temperature):
    """Features on a few exact directions: nearly every similarity has equals."""
    axis, half = [1.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]
    directions = torch.tensor([axis, [0, 1, 0, 0], half, [0.5, 0.5, -0.5, -0.5]])
    directions = torch.cat([directions, -directions])  # similarities 0, ±½ and ±1
    pick = (8 * counter.uniform(key, torch.arange(n + m), 2)).long()
    x, labels = directions[pick[:, 0]], pick[:, 1] % classes
    data = (x[:n], labels[:n], x[n:], labels[n:])
    k = min(k, n)
    assert knn_accuracy(*data, k, temperature, chunk) == pytest.approx(brute_force(*data, k, temperature), abs=1e-12)


def test_among_equals_below_zero_the_nearer_count_first():
    """All similarities negative: four of −½ before three of −1, of which the third and fourth are left out."""
    far, near = [-1.0, 0, 0, 0], [-0.5, 0.5, 0.5, 0.5]
    train = torch.tensor([far, near, near, far, near, near, far])
    labels = torch.tensor([2, 0, 0, 2, 1, 1, 2])
    data = (train, labels, torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([0]))
    assert knn_accuracy(*data, 2) == knn_accuracy(*data, 3) == 1
    assert knn_accuracy(*data, 7, temperature=100) == 0


@pytest.mark.parametrize("chunk", [1, 7, 64, 299, 300, 10_000, None])
def test_knn_does_not_depend_on_chunks(chunk):
    data = noisy_classes()
    assert knn_accuracy(*data, chunk=chunk) == knn_accuracy(*data, chunk=50)


@pytest.mark.parametrize(("n", "k"), [(20, 1), (49, 1), (50, 1), (100, 2), (9_999, 199), (10_000, 200), (12_000, 200)])
def test_default_k_is_a_fiftieth_of_the_training_set_from_1_to_200(n, k):
    train, y, test, truth = noisy_classes(n, 30, classes=3)
    assert knn_accuracy(train, y, test, truth) == knn_accuracy(train, y, test, truth, k)
    counted = train[:, :1] * 0 + 1  # all equally near: the first k decide, and only then is k visible in the result
    first = (torch.arange(n) < k // 2 + 1).logical_not().long()
    assert knn_accuracy(counted, first, counted[:1], torch.tensor([0])) == 1
    assert k == 1 or knn_accuracy(counted, first, counted[:1], torch.tensor([0]), 2 * (k // 2) + 3) == 0


def test_separated_classes_are_found_and_permuted_labels_are_chance():
    train, y, test, truth = noisy_classes(2000, 2000, distance=30.0)
    assert knn_accuracy(train, y, test, truth) == 1
    train, y, test, truth = noisy_classes(2000, 2000, d=30)
    chance = knn_accuracy(train, y[counter.permutation(1, len(y))], test, truth)
    assert chance == pytest.approx(1 / 4, abs=0.05)


def test_knn_never_sees_the_order_of_the_test_set_nor_the_scale_of_features():
    train, y, test, truth = noisy_classes()
    order = counter.permutation(5, len(test))
    scale = counter.uniform(6, torch.arange(len(test)), 1).float() + 0.5
    expected = knn_accuracy(train, y, test, truth)
    assert knn_accuracy(train, y, test[order], truth[order]) == expected
    assert knn_accuracy(1e4 * train, y, scale * test, truth) == expected


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_knn_of_collapsed_features_is_a_number(value):
    """All features equal: the first k training samples decide everything, whatever the chunks."""
    same = torch.full((60, 4), value)
    labels = torch.arange(60) % 3
    assert knn_accuracy(same, labels, same, labels, 4) == knn_accuracy(same, labels, same, labels, 4, chunk=7) == 1 / 3


def test_half_precision_and_autocast_do_not_change_the_arithmetic():
    train, y, test, truth = (f.bfloat16() if f.is_floating_point() else f for f in noisy_classes())
    expected = knn_accuracy(train.float(), y, test.float(), truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert knn_accuracy(train, y, test, truth) == expected


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"k": 0}, "between 1 and the 400"), ({"k": 401}, "between 1 and the 400"), ({"temperature": 0.0}, "above 0")],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, word):
    with pytest.raises(ValueError, match=word):
        knn_accuracy(*noisy_classes(), **settings)


def test_features_that_are_not_finite_are_refused():
    train, y, test, truth = noisy_classes()
    with pytest.raises(ValueError, match="test features have entries that are NaN"):
        knn_accuracy(train, y, test / 0, truth)


# ---------------------------------------------------------------- representations


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.LazyLinear(5))


def images(key=0, n=20, side=6):
    return draw(key, n, 3 * side * side).reshape(n, 3, side, side)


def test_representations_are_those_of_eval_mode_whatever_the_batches():
    net = network().train()
    net(images(1))
    expected = net.eval()(images()).detach()
    net.train()
    got = representations(net, images().split(7))
    assert got.shape == (20, 5)
    assert got.dtype == torch.float32
    assert not got.requires_grad
    torch.testing.assert_close(got, expected)


def test_representations_leave_modes_buffers_and_gradients_alone():
    net = network().train()
    net(images(1))
    net[1].eval()  # a frozen BatchNorm inside a network that trains
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    representations(net, images().split(7))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.is_grad_enabled()


def test_modes_return_after_an_error_too():
    net = network().train()
    with pytest.raises(RuntimeError):
        representations(net, [torch.zeros(2, 5, 6, 6)])
    assert all(module.training for module in net.modules())


def test_looking_in_train_mode_is_not_noticed_also_after_an_error():
    net = network()
    net(images(1))
    net.eval()[3].train()
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RuntimeError), unnoticed(net) as whole:
        assert whole is net and all(module.training for module in net.modules())
        net(images(2))
        assert not torch.equal(net[1].running_mean, state["1.running_mean"])
        net(torch.zeros(2, 5, 6, 6))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_representations_run_in_half_precision_where_asked_and_come_back_in_float32():
    net = network()
    full = representations(net, [images()])
    half = representations(net, [images()], half=torch.bfloat16)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
    assert representations(net.double(), [images().double()]).dtype == torch.float64


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="no batch"):
        representations(network(), [])


def test_raw_pixels_are_the_batch_itself_and_large_ones_its_averages():
    small, large = images(side=32), images(side=64)
    assert torch.equal(raw_pixels(small.split(8)), small.flatten(1))
    blocks = large.reshape(20, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(raw_pixels(large.split(8)), blocks.flatten(1))
    assert torch.equal(raw_pixels([draw(0, 9, 70)]), draw(0, 9, 70))


# ---------------------------------------------------------------- the whole evaluation


def parts(labelled=True):
    n = 300
    x = images(3, n)
    labels = torch.arange(n) % 3
    x[:, 0] += 0.4 * labels[:, None, None]
    return (
        Part(lambda: x[:200].split(64), labels[:200] if labelled else None),
        Part(lambda: x[200:].split(64), labels[200:] if labelled else None),
    )


def test_evaluation_is_knn_and_the_centred_spectrum_of_the_representations():
    net, (train, test) = network(), parts()
    found = evaluate(net, train, test)
    features, tested = (representations(net, part.batches()) for part in (train, test))
    assert found["knn"] == knn_accuracy(features, train.labels, tested, test.labels, 4)
    assert found["knn_k"] == 4
    assert [found[name] for name in ("samples", "dim", "centred", "space")] == [200, 5, True, "representation"]
    x = features.double().numpy()
    sigma = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert found["sigma"] == pytest.approx(sigma, rel=1e-6)
    share, variance = sigma / sigma.sum(), sigma**2
    assert found["collapse_auc"] == pytest.approx(np.mean(np.cumsum(share)), rel=1e-6)
    assert found["rankme"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert found["participation_ratio"] == pytest.approx(variance.sum() ** 2 / (variance**2).sum(), rel=1e-6)
    assert found["stable_rank"] == pytest.approx(variance.sum() / variance.max(), rel=1e-6)


def test_white_noise_scores_what_stands_beside_it():
    found = evaluate_features(draw(8, 2000, 20))
    for name in ("collapse_auc", "rankme", "participation_ratio"):
        assert found[name] == pytest.approx(found[f"{name}_white_noise"], rel=0.01)


def test_an_evaluation_is_json_and_its_numbers_go_into_a_table():
    found = evaluate(network(), *parts())
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
    scalars, arrays = for_table(found)
    assert {"knn", "rankme", "rankme_white_noise", "samples", "dim"} <= scalars.keys()
    assert not {"space", "convention"} & scalars.keys()
    assert arrays["sigma"].shape == (5,)
    assert "knn" not in for_table(evaluate(network(), *parts(labelled=False)))[0]


def test_without_labels_there_is_a_spectrum_and_no_accuracy():
    net, (train, test) = network(), parts(labelled=False)
    for other in (test, None):
        found = evaluate(net, train, other)
        assert found["knn"] is None
        assert found["knn_k"] is None
        assert found["rankme"] > 1
        assert pixel_knn(train, other) is None


def test_complete_collapse_is_a_result():
    labels = torch.arange(100) % 2
    found = evaluate_features(torch.full((100, 6), 0.7), labels, torch.full((100, 6), 0.7), labels)
    assert found["rankme"] is None
    assert found["knn"] == 0.5


def test_raw_pixels_know_what_pixels_show():
    train, test = parts()
    x, y = (torch.cat(list(part.batches())).flatten(1) for part in (train, test))
    assert pixel_knn(train, test) == pytest.approx(brute_force(x, train.labels, y, test.labels, 4, 0.1), abs=1e-12)
    assert pixel_knn(train, test) > 0.5
