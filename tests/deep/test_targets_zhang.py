"""Targets of Zhang et al. 2022 and SimSiam's alternation, simplified predictors, and the setting of their toy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import batch, close, siamese
from small_runs import TINY, run
from torch.nn.functional import cosine_similarity, normalize

from stopgrad.deep.config import Config, Data, Method, change, check, views_wanted
from stopgrad.deep.data import datasets
from stopgrad.deep.measuring.units import Noise
from stopgrad.deep.measuring.weights import balance_applies
from stopgrad.deep.method.networks import BiasLayer
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.presets import preset
from stopgrad.deep.storage import checkpoint, table
from stopgrad.deep.training.training import gradient
from stopgrad.deep.words.expectation import expectation


def steps(network, batches, lr=0.1):
    """Outputs of each step of SGD with momentum on these batches, and the network as it is then."""
    optimiser = make_optimiser(network, change(Config(), lr=lr, lr_scaling="none").optimisation)
    found = []
    for one in batches:
        found.append(gradient(network, [one]))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        network.after_step(found[-1], optimiser)
    return found


def slopes(loss, weights):
    return torch.autograd.grad(loss, list(weights), retain_graph=True, materialize_grads=True)


# ---------------------------------------------------------------- symmetric


def test_a_predictor_on_both_sides_is_the_naive_network_of_h_after_f():
    network = siamese(target="symmetric")
    found, given = network(batch()), batch()
    P = [normalize(network.predictor(network.online(x)), dim=-1) for x in given.views]
    naive = -((P[0] * P[1].detach()).sum(-1) + (P[1] * P[0].detach()).sum(-1)).mean() / 2
    assert close(found.loss, naive)
    for mine, theirs in zip(slopes(found.loss, network.parameters()), slopes(naive, network.parameters())):
        assert close(mine, theirs)
    free = siamese(target="symmetric", stop_gradient="none")
    for stopped, passed in zip(slopes(found.loss, network.parameters()), slopes(free(batch()).loss, free.parameters())):
        assert close(2 * stopped, passed)  # so that stop-gradient only halves it


# ---------------------------------------------------------------- inverse


def test_three_losses_reach_three_networks_and_no_other():
    """Algorithm 5: h from sg(z), h⁻¹ from sg(p), the encoder against h⁻¹(p) of the other view."""
    network, given = siamese(target="inverse"), batch()
    found = network(given)
    parts = {"encoder": network.online, "h": network.predictor, "inverse": network.target.inverse}
    losses = {"encoder": found.loss, "h": found.terms["predictor_loss"], "inverse": found.terms["inverse_loss"]}
    for owner, loss in losses.items():
        for name, part in parts.items():
            reached = [v.any().item() for v in slopes(loss, part.parameters())]
            assert all(reached) if name == owner else not any(reached), (owner, name)
    # as written, from plain parts
    z = [network.online(x) for x in given.views]
    h, inverse = network.predictor, network.target.inverse

    def D(a, b):
        return -cosine_similarity(a, b.detach(), dim=-1).mean()

    p = [h(v) for v in z]
    by_hand = {
        "encoder": D(p[0], inverse(p[1])) / 2 + D(p[1], inverse(p[0])) / 2,
        "h": D(h(z[0].detach()), z[1]) / 2 + D(h(z[1].detach()), z[0]) / 2,
        "inverse": D(inverse(p[0].detach()), z[0]) / 2 + D(inverse(p[1].detach()), z[1]) / 2,
    }
    for owner, loss in by_hand.items():
        assert close(losses[owner], loss)
        weights = list(parts[owner].parameters())
        for mine, theirs in zip(slopes(losses[owner], weights), slopes(loss, weights)):
            assert close(mine, theirs, 1e-10)


def test_the_inverse_is_of_the_predictors_build_and_learns_to_undo_it():
    for predictor in ("mlp", "linear", "symmetric"):
        network = siamese(target="inverse", predictor=predictor)
        shapes = [[tuple(w.shape) for w in part.parameters()] for part in (network.predictor, network.target)]
        assert shapes[0] == shapes[1]
        ids = [id(w) for w in network.groups()["predictor"]]
        assert sorted(ids) == sorted(id(w) for part in (network.predictor, network.target) for w in part.parameters())
        assert not any(name.startswith("target.") and "redictor" in name for name in network.state_dict())
        found = [outputs.terms["inverse_loss"].item() for outputs in steps(network, [batch(images=20)] * 30)]
        assert predictor == "symmetric" or found[-1] < -0.7 < found[0]
    W = network.target.inverse.matrix()
    assert torch.equal(W, W.mT)  # the inverse of a symmetric matrix is one


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target": "inverse", "predictor": "directset"}, "--target inverse undoes a predictor that learns"),
        ({"target": "inverse", "predictor": "fixed"}, "like mlp; not fixed"),
        ({"target": "inverse", "predictor": "identity"}, "like mlp; not identity"),
        ({"target": "inverse", "loss": "squared"}, "say nothing of lengths"),
        ({"target": "symmetric", "predictor": "identity"}, "with identity use shared"),
        ({"target": "fresh_views", "target_views": 0}, "--target-views is 0"),
        ({"target": "moving_average", "average_momentum": 1.0}, "--average-momentum is 1.0"),
        ({"target": "alternating", "alternation": 0}, "--alternation is 0"),
        ({"target": "alternating", "stop_gradient": "none"}, "needs a target that learns"),
        ({"dataset": "gaussian", "backbone": "mlp", "gaussian_rank": 33}, "--gaussian-rank 33 exceeds"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(fields, words):
    with pytest.raises(ValueError, match=words):
        check(change(Config(), **fields))


def test_the_balance_of_theorem_1_is_not_claimed_where_the_predictor_has_a_loss_of_its_own():
    linear = {"predictor": "linear", "projector_output_bn": "none", "predictor_lr": None}
    assert "a loss of its own" in balance_applies(change(Config(), target="inverse", **linear))
    for target in ("shared", "fresh_views", "moving_average", "alternating", "symmetric"):
        assert balance_applies(change(Config(), target=target, **linear)) is None


# ---------------------------------------------------------------- fresh views


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_target_is_the_mean_of_views_that_nobody_else_sees(n):
    network = siamese(target="fresh_views", target_views=n, predictor="identity")
    given = batch(views=2 + n)
    found = network(given)
    with torch.no_grad():
        fresh = sum(network.online(x) for x in given.views[2:]) / n
    assert found.z.shape == found.target.shape == (2, 10, 4) and not found.target.requires_grad
    assert close(found.target[0], fresh) and torch.equal(found.target[0], found.target[1])
    assert not close(found.target, found.z.detach(), 1e-2)
    loss = -(cosine_similarity(found.z[0], fresh) + cosine_similarity(found.z[1], fresh)).mean() / 2
    assert close(found.loss, loss)


def test_a_run_draws_as_many_views_as_the_target_asks_for():
    config = check(change(TINY, target="fresh_views", target_views=3))
    assert views_wanted(config) == 5 and views_wanted(TINY) == 2


# ---------------------------------------------------------------- alternation


def test_a_refresh_at_every_step_is_simsiam():
    batches = [batch(seed=k) for k in range(5)]
    one, other = siamese(target="alternating", alternation=1), siamese()
    for a, b in zip(steps(one, batches), steps(other, batches)):
        assert torch.equal(a.loss, b.loss) and torch.equal(a.target, b.z)


def test_between_refreshes_the_target_stands_still():
    network = siamese(target="alternating", alternation=3)
    given = batch()
    found = [outputs.target for outputs in steps(network, [given] * 7)]
    embedded = [outputs.z for outputs in steps(siamese(target="alternating", alternation=3), [given] * 7)]
    for k, target in enumerate(found):
        assert torch.equal(target, embedded[k - k % 3])  # of the network as it was at the last refresh
    assert not close(embedded[3], embedded[4], 1e-6)


# ---------------------------------------------------------------- simplified predictors


@pytest.mark.parametrize("constraint", ["none", "tanh", "sigmoid"])
@pytest.mark.parametrize("layers", ["bias", "weight", "weight_bias", "bias_weight"])
def test_a_simplified_predictor_is_its_formula(layers, constraint):
    network = siamese(predictor="bias", predictor_layers=layers, predictor_constraint=constraint).predictor
    weights = dict(network.network.named_parameters())
    assert sorted(weights) == sorted(layers.split("_"))
    if "bias" in weights:
        assert not weights["bias"].any()
        torch.nn.init.normal_(weights["bias"])
    bound = (lambda w: w) if constraint == "none" else lambda w: torch.tanh(0.5 * w)
    W, b = (bound(weights.get(name, torch.zeros(1))) for name in ("weight", "bias"))
    z = batch().views[0][:, :4]
    x = normalize(z, dim=-1)
    wanted = {"bias": lambda: x + b, "weight": lambda: x @ W.T, "weight_bias": lambda: x @ W.T + b}
    wanted["bias_weight"] = lambda: (x + b) @ W.T
    assert close(network(z), wanted[layers]())
    assert all(v.any() for v in slopes(network(z).square().sum(), weights.values()))


def test_the_bias_is_as_it_was():
    layer = siamese(predictor="bias").predictor
    assert list(layer.state_dict()) == ["network.bias"] and torch.equal(BiasLayer(3).bias, torch.zeros(3))
    torch.manual_seed(4)
    W = BiasLayer(5, ("weight",)).weight
    torch.manual_seed(4)
    assert torch.equal(W, torch.nn.Linear(5, 5, bias=False).weight)  # as the authors' code has it


# ---------------------------------------------------------------- MLP, and golden facts of its start


def m_o(vectors):
    return normalize(vectors.double(), dim=-1).mean(0).norm().item()


def test_an_mlp_has_the_layers_that_it_is_asked_for():
    network = siamese(width=7, depth=3).online.backbone
    assert [type(layer).__name__ for layer in network] == ["Flatten", *["Linear", "BatchNorm1d", "ReLU"] * 3]
    assert network.out_features == 7 and network(torch.randn(5, 3, 3).double()).shape == (5, 7)
    widths = [w.shape for w in Siamese(preset("zhang2022-toy").method, 64).online.parameters() if w.ndim == 2]
    assert widths == [(256, 64), (256, 256), (64, 256)]


@pytest.mark.parametrize(("depth", "layers"), [(1, 1), (1, 2), (2, 1)])
def test_zhang_g8_the_centre_at_initialisation(depth, layers):
    """G8: 1/√π without output BatchNorm, whatever the depth, and nearly 0 with it; m_r is the rest."""
    shape = {"backbone": "mlp", "width": 1024, "depth": depth, "projector_layers": layers, "projector_hidden": 1024}
    x = torch.randn(300, 1500, generator=torch.Generator().manual_seed(2))
    for output_bn, centre in (("none", 1 / math.sqrt(math.pi)), ("affine_free", 0.0)):
        torch.manual_seed(1)
        method = Method.of(embedding_dim=2048, projector_output_bn=output_bn, **shape)
        with torch.no_grad():
            z = Siamese(method, 1500).train().online(x)
        assert m_o(z) == pytest.approx(centre, abs=0.02)
        residual = (normalize(z, dim=-1) - normalize(z, dim=-1).mean(0)).norm(dim=1).mean().item()
        assert residual == pytest.approx(math.sqrt(1 - centre**2), abs=0.02)


@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([0.0, 1.0, 8.0]))
def test_zhang_g9_affine_free_normalisation_bounds_the_centre(seed, n, spread):
    """G9: m_o ≤ 1 − 2/N for any input of a BatchNorm without affine parameters."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    x = x * 10 ** (spread * torch.rand(n, 1, generator=draw, dtype=torch.float64))
    norm = torch.nn.BatchNorm1d(3, affine=False).double()
    assert m_o(norm(x)) <= 1 - 2 / n + 1e-9


def test_zhang_g9_one_antipodal_outlier_reaches_the_bound():
    for n in (3, 7, 64):
        x = torch.ones(n, 5, dtype=torch.float64)
        x[0] = -4
        assert m_o(torch.nn.BatchNorm1d(5, affine=False).double()(x)) == pytest.approx(1 - 2 / n, abs=1e-12)


# ---------------------------------------------------------------- Gaussian content and mean


def test_content_and_mean_of_the_points():
    fields = {"dataset": "gaussian", "gaussian_dim": 6, "gaussian_samples": 40_000}
    data = Data(**fields, gaussian_rank=2, gaussian_decay=1.0, gaussian_mean=3.0)
    x = datasets.load(data, seed=3).train.images.double()
    assert not x[:, 2:5].any() and torch.equal(x[:, 5], torch.full((40_000,), 3.0).double())
    X = x.T @ x / len(x)
    np.testing.assert_allclose(X, np.diag([1, 0.5, 0, 0, 0, 9]), atol=0.04)
    plain = datasets.load(Data(**fields), seed=3)
    full = datasets.load(Data(**fields, gaussian_rank=6), seed=3)
    assert plain.key == full.key and torch.equal(plain.train.images[:, :2], full.train.images[:, :2])
    shifted = datasets.load(Data(**fields, gaussian_mean=2.0), seed=3).train.images
    assert close(shifted - plain.train.images, torch.tensor([0.0] * 5 + [2.0]).expand(40_000, -1), 1e-5)


# ---------------------------------------------------------------- runs


STATES = {
    "moving_average": {"target": "moving_average", "predictor": "identity"},
    "random_averages": {"target": "moving_average", "average_start": "random", "predictor": "identity"},
    "alternating": {"target": "alternating", "alternation": 3},
    "inverse": {"target": "inverse", "predictor": "mlp"},
    "fresh_views": {"target": "fresh_views", "target_views": 2},
}


@pytest.mark.parametrize("name", STATES)
def test_a_run_resumed_in_mid_cycle_is_the_same_to_the_last_bit(name, tmp_path, monkeypatch):
    """Stopped at step 5, within the second epoch of four and the second cycle of three."""
    from stopgrad.deep.training import recorder

    config = check(change(TINY, backbone="mlp", width=8, monitor_every=1, epochs=3, **STATES[name]))
    whole = run(tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        asked = iter(range(1, 6))
        patch.setattr(recorder.Recorder, "must_stop", lambda self: next(asked) == 5)
        patch.setattr("stopgrad.deep.training.runs._stopped", lambda folder, step, *_: step)
        assert run(tmp_path / "parts", config) == 5
    again = run(tmp_path / "parts", config, resume=True)
    assert whole["state"] == again["state"] == "finished" and whole["last"]["loss"] == again["last"]["loss"]
    states = [checkpoint.load_latest(tmp_path / folder).payload["siamese"] for folder in ("whole", "parts")]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert value.numpy().tobytes() == states[1][key].numpy().tobytes(), key
    if name == "inverse":
        scalars = table.read(tmp_path / "whole").scalars
        assert {"predictor_loss", "inverse_loss"} <= scalars.keys()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target": "symmetric", "predictor": "mlp"}, "collapse (Table 2)"),
        ({"target": "inverse", "predictor": "mlp"}, "no collapse is to be expected"),
        ({"target": "fresh_views", "predictor": "identity"}, "10 and of 25 views"),
        ({"target": "moving_average", "predictor": "identity"}, "46.6 %"),
        ({"target": "moving_average", "predictor": "identity"}, "in every average from the start"),
        ({"target": "alternating", "predictor": "mlp"}, "68.7, 68.9 and 67.0"),
        ({"predictor": "bias", "predictor_layers": "bias_weight"}, "One matrix on the embedding's direction"),
    ],
)
def test_the_papers_outcome_is_said_before_the_run(fields, words):
    config = check(change(Config(), **fields))
    said = expectation(config, Noise(0.1, 1.0), 10)
    assert words in " ".join(said) and all(sentence.endswith(".") for sentence in said)


def test_a_target_of_which_nothing_is_known_leaves_it_to_the_predictor():
    for fields in ({"target": "fresh_views"}, {"target": "alternating", "alternation": 1}):
        config, plain = change(Config(), predictor="mlp", **fields), change(Config(), predictor="mlp")
        assert expectation(config, Noise(0.1, 1.0), 10) == expectation(plain, Noise(0.1, 1.0), 10)
