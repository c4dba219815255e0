"""Set predictors while a network trains: against NumPy, through steps, momentum, processes, checkpoints and NaN."""

import numpy as np
import pytest
import torch
from methods import predictor
from torch import nn

import stopgrad.deep.method.predictors.set_network
from stopgrad.deep.config import Method
from stopgrad.linear_theory.predictors.rules import SET_RULES

D, B = 5, 12
NORMALISATIONS = ["none", "spectral", "frobenius"]


def make(name="directpred", dtype=torch.float64, seed=0, **fields):
    torch.manual_seed(seed)
    return predictor(Method.of(embedding_dim=D, predictor=name, **fields)).to(dtype)


def batches(steps, seed=1, dtype=torch.float64):
    """(z, target) of every step, each (2, B, D), with a mean direction and a spectrum that is not flat."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(2, 0.1, D, dtype=torch.float64)
    z = 0.3 + scale * torch.randn(steps, 2, 2, B, D, generator=generator, dtype=torch.float64)
    return [(a.to(dtype), b.to(dtype)) for a, b in z]


def idle():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def run(network, steps, seed=1, optimiser=None):
    for z, target in batches(steps, seed, network.weight.dtype):
        network.after_step(z, target, optimiser or idle())
    return network


def averaged(steps, rho):
    """NumPy: moving averages of F and of E[f_a fᵀ], sample by sample."""
    F = cross = None
    for z, target in batches(steps):
        z, target = z.numpy(), target.numpy()
        newF = sum(np.outer(f, f) for view in z for f in view) / (2 * B)
        new = sum(np.outer(target[1 - v][i], z[v][i]) for v in (0, 1) for i in range(B)) / (2 * B)
        F, cross = (newF, new) if F is None else (rho * F + (1 - rho) * newF, rho * cross + (1 - rho) * new)
    return F, cross


def size(s, normalisation):
    return {"none": 1.0, "spectral": np.abs(s).max(), "frobenius": np.sqrt((s**2).sum())}[normalisation]


# ---------------------------------------------------------------- W_p


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("cutoff", [0.0, 0.1, -0.1])
def test_directpred_against_numpy(normalisation, cutoff):
    network = run(make(predictor_cutoff=cutoff, predictor_normalisation=normalisation, predictor_eps=0.2), 4)
    s, U = np.linalg.eigh(averaged(4, 0.3)[0])
    s = s / size(s, normalisation)
    p = np.sqrt(np.maximum(s - cutoff, 0)) + 0.2 * s.max()
    np.testing.assert_allclose(network.matrix(), U @ np.diag(p) @ U.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize(("name", "alpha"), [("directset", 0.5), ("directset", 2.0), ("directcopy", 1.0)])
def test_directset_and_directcopy_against_numpy(normalisation, name, alpha):
    fields = {"predictor_normalisation": normalisation}
    fields |= {"predictor_alpha": alpha} if name == "directset" else {}
    network = run(make(name, predictor_eps=0.25, predictor_rho=0.6, **fields), 3)
    s, U = np.linalg.eigh(averaged(3, 0.6)[0])
    p = s**alpha / size(s**alpha, normalisation) + 0.25
    np.testing.assert_allclose(network.matrix(), U @ np.diag(p) @ U.T, rtol=0, atol=1e-11)


def test_optimal_solves_table_1s_equation():
    network = run(make("optimal"), 3)
    F, cross = averaged(3, 0.3)
    np.testing.assert_allclose(network.matrix().numpy() @ F, (cross + cross.T) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(network.moments, [F, cross], rtol=0, atol=1e-13)


def test_optimal_is_the_least_squares_prediction_of_the_other_view():
    """One batch, both directions, views exchangeable: where E[f_a fᵀ] is symmetric no matrix predicts better."""
    z = torch.randn(2, B, D, dtype=torch.float64)
    network = make("optimal")
    network.after_step(z, z, idle())  # the target of view v is the online embedding of view v
    f, goal = z.flatten(0, 1).numpy(), z.flip(0).flatten(0, 1).numpy()
    best = np.linalg.lstsq(f, goal, rcond=None)[0].T
    np.testing.assert_allclose(network.matrix(), best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SET_RULES)
def test_moments_are_uncentred_and_averaged_over_processes(name, monkeypatch):
    """Two processes with half of the batch each average to one with all of it."""
    whole = run(make(name), 2)
    halves = [make(name) for _ in range(2)]
    for z, target in batches(2):
        parts = [(z[:, k::2], target[:, k::2]) for k in range(2)]
        mean = sum(halves[0].measure(*part) for part in parts) / 2
        monkeypatch.setattr(stopgrad.deep.method.predictors.set_network, "all_reduce_mean", lambda own, mean=mean: mean)
        for half, part in zip(halves, parts):
            half.after_step(*part, idle())
    for half in halves:
        torch.testing.assert_close(half.moments, whole.moments, rtol=0, atol=1e-13)
        torch.testing.assert_close(half.matrix(), whole.matrix(), rtol=0, atol=1e-11)
    shifted = make(name).measure(batches(1)[0][0] + 10, batches(1)[0][1])
    assert torch.linalg.eigvalsh(shifted[0])[-1] > 90 * D


# ---------------------------------------------------------------- when, and beside an optimiser


def test_set_every_step_is_a_buffer_that_no_optimiser_sees():
    network = make(predictor_freq=1)
    assert not list(network.parameters()) and "weight" in dict(network.named_buffers())
    before = network.matrix()
    run(network, 1)
    assert not torch.equal(network.matrix(), before)


@pytest.mark.parametrize("name", SET_RULES)
@pytest.mark.parametrize("freq", [1, 2])
def test_the_start_is_that_of_a_linear_predictor(name, freq):
    assert torch.equal(make(name, predictor_freq=freq).matrix(), make("linear").matrix())


@pytest.mark.parametrize("fused", [True, False])
def test_between_settings_it_learns_and_starts_each_time_from_rest(fused):
    """freq 3 with momentum: set after steps 3 and 6, plain SGD with a fresh velocity between, the trunk unaffected."""
    lr, momentum, decay = 0.05, 0.9, 0.01
    network, trunk = make(predictor_freq=3), nn.Parameter(torch.ones(D, dtype=torch.float64))
    group = {"lr": lr, "momentum": momentum, "weight_decay": decay, "fused": fused}
    optimiser = torch.optim.SGD([trunk, *network.parameters()], **group)
    reference = make(predictor_freq=1)  # has the same moments, hence the W_p to be set
    W, velocity, trunk_velocity, a = network.matrix(), 0, 0, trunk.detach().clone()
    for step, (z, target) in enumerate(batches(8), start=1):
        optimiser.zero_grad()
        ((trunk * network(z[0]) - target[1]) ** 2).sum().backward()
        residual = 2 * (a * (z[0] @ W.T) - target[1])
        gradient = (a * residual).T @ z[0]
        velocity = momentum * velocity + gradient + decay * W
        trunk_velocity = momentum * trunk_velocity + (residual * (z[0] @ W.T)).sum(0) + decay * a
        optimiser.param_groups[0]["lr"] = rate = lr / 100
        W, a = W - rate * velocity, a - rate * trunk_velocity
        optimiser.step()
        network.after_step(z, target, optimiser)
        reference.after_step(z, target, idle())
        if step % 3 == 0:
            W, velocity = reference.matrix(), 0
            assert torch.equal(network.matrix(), W)
        torch.testing.assert_close(network.matrix(), W, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(trunk.detach(), a, rtol=1e-11, atol=1e-12)


def test_setting_goes_without_momentum_buffers():
    network = make(predictor_freq=2)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for z, target in batches(4):
        optimiser.zero_grad()
        network(z[0]).square().sum().backward()
        optimiser.step()
        network.after_step(z, target, optimiser)
    assert network.steps == 4


def test_nothing_changes_in_eval_mode_or_by_a_forward_pass():
    network = run(make(), 2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    run(network.eval(), 2, seed=5)
    network.train()(batches(1, seed=6)[0][0][0])
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# ---------------------------------------------------------------- checkpoints, precision, NaN


@pytest.mark.parametrize("name", SET_RULES)
@pytest.mark.parametrize("freq", [1, 3])
def test_a_resumed_run_is_the_unbroken_one(name, freq, tmp_path):
    """Stopped after step 4, that is between settings and after the moving average began."""
    unbroken = make(name, torch.float32, predictor_freq=freq)
    resumed = make(name, torch.float32, seed=9, predictor_freq=freq)
    data = batches(7, dtype=torch.float32)
    for z, target in data[:4]:
        unbroken.after_step(z, target, idle())
    torch.save(unbroken.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for z, target in data[4:]:
        for network in (unbroken, resumed):
            network.after_step(z, target, idle())
    assert unbroken.steps == resumed.steps == 7
    states = unbroken.state_dict(), resumed.state_dict()
    assert states[0].keys() == states[1].keys() == {"weight", "moments", "_extra_state"}
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("name", SET_RULES)
def test_autocast_leaves_correlations_in_float32(name):
    plain, cast = make(name, torch.float32), make(name, torch.float32)
    run(plain, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(cast, 3)
    assert cast.moments.dtype == cast.matrix().dtype == torch.float32
    assert torch.equal(cast.moments, plain.moments) and torch.equal(cast.matrix(), plain.matrix())


def test_embeddings_in_half_precision_are_promoted_and_buffers_in_it_refused():
    z, target = batches(1, dtype=torch.bfloat16)[0]
    half, full = make(dtype=torch.float32), make(dtype=torch.float32)
    half.after_step(z, target, idle())
    full.after_step(z.float(), target.float(), idle())
    assert torch.equal(half.matrix(), full.matrix())
    with pytest.raises(ValueError, match="float32 or float64"):
        make(dtype=torch.bfloat16).after_step(z, target, idle())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("name", SET_RULES)
@pytest.mark.parametrize("freq", [1, 2])
def test_a_broken_batch_leaves_the_predictor_alone(name, bad, freq):
    network = run(make(name, predictor_freq=freq), 3)
    before = network.matrix()
    z, target = batches(1)[0]
    z[1, 3, 2] = bad
    network.after_step(z, target, idle())
    assert torch.equal(network.matrix(), before) and network.steps == 4
    run(network, 2)


@pytest.mark.parametrize("name", SET_RULES)
def test_a_dead_embedding_gives_a_finite_predictor(name):
    network = make(name)
    network.after_step(torch.zeros(2, B, D), torch.zeros(2, B, D), idle())
    assert network.matrix().isfinite().all()
