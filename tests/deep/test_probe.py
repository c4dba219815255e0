"""Linear probes: against scikit-learn's own pipeline and closed forms; nothing but the score ever sees a test label."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from stopgrad.deep.data import counter
from stopgrad.deep.data.fold import fold
from stopgrad.deep.measuring.probe import (
    STRENGTHS,
    classifier_accuracy,
    linear_probe,
    logistic_probe,
    paper_probe,
    supervised_reference,
)

PROTOCOLS = {"logistic": {"C": 0.01}, "paper": {"epochs": 10}}
both = pytest.mark.parametrize("protocol", PROTOCOLS)


def draw(key, n, d):
    return counter.normal(key, torch.arange(n), d).float()


def blobs(n=300, d=8, classes=3, distance=6.0, key=1):
    """Classes around the first axes, `distance` deviations out: train and test parts."""
    labels = torch.arange(2 * n) % classes
    x = draw(key, 2 * n, d) + distance * torch.eye(classes, d)[labels]
    return x[:n], labels[:n], x[n:], labels[n:]


def digits():
    x, y = (torch.as_tensor(v) for v in load_digits(return_X_y=True))
    order = counter.permutation(0, len(x))
    x, y = x.float()[order], y[order]
    return x[:500], y[:500], x[500:1000], y[500:1000]


def fit(protocol, data, **settings):
    return linear_probe(*data, protocol, **{**PROTOCOLS[protocol], **settings})


@both
def test_separable_classes_are_separated(protocol):
    probe = fit(protocol, blobs(distance=20))
    assert probe.accuracy == probe.train_accuracy == 1
    assert probe.converged
    assert probe.protocol == protocol


@both
def test_shuffled_training_labels_give_chance(protocol):
    """On average: one permutation may by accident give most of a class its own label."""
    x, y, test, truth = digits()
    permuted = [(x, y[counter.permutation(key, len(y))], test, truth) for key in range(12)]
    assert np.mean([fit(protocol, data).accuracy for data in permuted]) == pytest.approx(0.1, abs=0.08)


@both
def test_the_protocol_never_sees_test_labels(protocol):
    """The order of the test set changes nothing, and the score is the mean of the scores of its parts."""
    x, y, test, truth = digits()
    settings = {"C": None} if protocol == "logistic" else {}
    whole = fit(protocol, (x, y, test, truth), **settings)
    order = counter.permutation(9, len(test))
    assert fit(protocol, (x, y, test[order], truth[order]), **settings) == whole
    parts = [fit(protocol, (x, y, test[h], truth[h]), **settings) for h in (slice(250), slice(250, None))]
    assert np.mean([part.accuracy for part in parts]) == pytest.approx(whole.accuracy, abs=1e-12)
    assert {(part.C, part.train_accuracy) for part in parts} == {(whole.C, whole.train_accuracy)}


@both
def test_the_same_seed_gives_the_same_result(protocol):
    assert fit(protocol, digits(), seed=4) == fit(protocol, digits(), seed=4)


def test_logistic_probe_is_scikit_learns_pipeline():
    x, y, test, truth = digits()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, tol=1e-4))
    pipeline.fit(x.double().numpy(), y.numpy())
    probe = logistic_probe(x, y, test, truth, C=0.1)
    assert probe.accuracy == pytest.approx(pipeline.score(test.double().numpy(), truth.numpy()), abs=1e-12)
    assert probe.train_accuracy == pytest.approx(pipeline.score(x.double().numpy(), y.numpy()), abs=1e-12)


def test_strength_is_chosen_on_the_training_set_by_the_seed():
    x, y, test, truth = blobs(n=400, d=60, distance=1.0)
    probe = logistic_probe(x, y, test, truth, seed=2)
    assert probe.C in STRENGTHS[:-1]  # 60 dimensions of noise, 320 samples: the weakest decay overfits
    assert logistic_probe(x, y, x[:50], (y[:50] + 1) % 3, seed=2).C == probe.C


def test_an_unfinished_fit_says_so():
    assert not logistic_probe(*digits(), C=1.0, max_iter=2).converged
    assert logistic_probe(*digits(), C=1.0).converged


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_logistic_probe_is_free_of_scale_and_dead_dimensions(scale):
    x, y, test, truth = digits()
    dead = lambda f: torch.cat([scale * f + 7 * scale, torch.full((len(f), 3), 0.1)], dim=1)  # noqa: E731
    assert logistic_probe(dead(x), y, dead(test), truth, C=0.01).accuracy == pytest.approx(
        logistic_probe(x, y, test, truth, C=0.01).accuracy, abs=0.005
    )


def test_paper_probe_takes_the_papers_steps():
    """The same weights as a plain loop of the momentum rule with the softmax gradient written out."""
    x, y, test, truth = blobs(n=5, d=3, distance=1.0)
    x, test = x / 30, test / 30
    probe = paper_probe(x, y, test, truth, epochs=7, batch_size=5, seed=3)
    W = 0.01 * counter.normal(fold(3, 0x9B2), torch.arange(3), 3).numpy()
    b, V, v, X, onehot = np.zeros(3), 0, 0, x.double().numpy(), np.eye(3)[y]
    for epoch in range(7):  # one batch holds all, so that the order does not matter
        lr = 30 * 5 / 256 * (1 + np.cos(np.pi * epoch / 7)) / 2
        logits = X @ W.T + b
        error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - onehot
        V, v = 0.9 * V + error.T @ X / 5, 0.9 * v + error.mean(0)
        W, b = W - lr * V, b - lr * v
    score = [np.mean((f.numpy() @ W.T + b).argmax(1) == labels.numpy()) for f, labels in ((test, truth), (x, y))]
    assert [probe.accuracy, probe.train_accuracy] == score


def test_paper_probe_starts_from_the_seeds_weights():
    """With hardly a step it predicts by them."""
    x, y, *_ = blobs(n=200)
    probe = paper_probe(x, y, x, y, epochs=1, lr=1e-9, seed=3)
    W = 0.01 * counter.normal(fold(3, 0x9B2), torch.arange(3), 8)
    assert probe.accuracy == pytest.approx(float(((x @ W.T.float()).argmax(1) == y).double().mean()), abs=1e-12)


def test_paper_probe_on_digits_is_near_logistic_regression():
    data = digits()
    data = (data[0] / 16, data[1], data[2] / 16, data[3])
    assert linear_probe(*data, "paper").accuracy > logistic_probe(*data).accuracy - 0.05


def test_paper_probe_leaves_gradients_and_global_randomness_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with torch.no_grad():
        paper_probe(*blobs(n=20), epochs=2)
        assert not torch.is_grad_enabled()
    assert (torch.rand(3) == expected).all()


@both
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda x, y, t, u: (x[:-1], y, t, u), r"\(N, d\) and \(N,\)"),
        (lambda x, y, t, u: (x, y, t[:, :-1], u), "must agree"),
        (lambda x, y, t, u: (x * float("nan"), y, t, u), "finite"),
        (lambda x, y, t, u: (x, y.float(), t, u), "whole numbers"),
        (lambda x, y, t, u: (x, 0 * y, t, u), "two classes"),
        (lambda x, y, t, u: (x, y, t[:0], u[:0]), "at least 1"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_sentence(protocol, spoil, word):
    with pytest.raises(ValueError, match=word):
        fit(protocol, spoil(*blobs(n=30)))


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="'logistic' or 'paper'"):
        linear_probe(*blobs(n=30), "lars")


# ---------------------------------------------------------------- supervised reference


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6))


def stream(x, y, drawn):
    """Endless noisy batches of 50; `drawn` collects how many were taken."""
    while True:
        rows = counter.permutation(len(drawn), len(x))[:50]
        drawn.append(rows)
        yield x[rows], y[rows]


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_supervised_reference_learns_and_draws_no_more_than_its_steps(half):
    x, y, test, truth = blobs()
    backbone, drawn = network(), []
    before = [p.clone() for p in backbone.parameters()]
    head = supervised_reference(backbone, stream(x, y, drawn), steps=40, feature_dim=6, classes=3, lr=0.1, half=half)
    assert len(drawn) == 40
    assert head.weight.dtype == torch.float32
    assert any(not torch.equal(p, q) for p, q in zip(before, backbone.parameters()))
    backbone.eval()
    assert classifier_accuracy(head, backbone(test).detach(), truth) > 0.98


def test_supervised_reference_takes_sgds_steps_on_all_weights():
    """Three steps by hand, on all weights: v ← 0.9v + g + λw, w ← w − lr v, lr on a cosine from its full height."""
    x, y, *_ = blobs(n=50)
    backbone, twin = network(), network().train()
    settings = {"steps": 3, "feature_dim": 6, "classes": 3, "lr": 0.3, "weight_decay": 0.01, "seed": 5}
    head = supervised_reference(backbone, [(x, y)] * 3, **settings)
    W = (0.01 * counter.normal(fold(5, 0x9B3), torch.arange(3), 6)).float().requires_grad_()
    b = torch.zeros(3, requires_grad=True)
    weights = [*twin.parameters(), W, b]
    velocity = [torch.zeros_like(w) for w in weights]
    for lr in (0.3, 0.225, 0.075):
        loss = -(twin(x) @ W.T + b).log_softmax(1)[torch.arange(50), y].mean()
        for w, v, g in zip(weights, velocity, torch.autograd.grad(loss, weights)):
            v.mul_(0.9).add_(g + 0.01 * w.detach())
            w.data -= lr * v
    for got, expected in zip([*backbone.parameters(), *head.parameters()], weights):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_supervised_reference_says_what_went_wrong():
    x, y, *_ = blobs(n=50)
    settings = {"steps": 3, "feature_dim": 6, "classes": 3}
    with pytest.raises(ValueError, match="got 2 batches; it must get 3"):
        supervised_reference(network(), [(x, y)] * 2, lr=0.1, **settings)
    with pytest.raises(ValueError, match="diverged"):
        supervised_reference(network(), [(x * float("inf"), y)] * 3, lr=0.1, **settings)


def test_half_precision_is_no_reason_to_call_a_column_constant():
    """Values stored in half precision are exact there: 1 ± .05 by class differ by more than their rounding."""
    y = torch.arange(200) % 2
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([1 + 0.05 * (2.0 * y[:, None] - 1), noise], dim=1)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        features = x.to(dtype)
        assert logistic_probe(features, y, features, y).accuracy == 1
