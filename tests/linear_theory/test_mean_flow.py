"""Images with a mean: flows against plain readings, each other, the loss's own gradient and the trained network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopgrad.linear_theory.exact.nonisotropic import mode_hyperparameters
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.mean import (
    BiasedNetwork,
    Centre,
    MeanHyperparameters,
    biased_network_flow,
    centre_flow,
    centre_norms,
    cosine_centre_flow,
    cosine_mode_flow,
    cosine_network_flow,
    network_norms,
    with_mean,
)
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.samples.biased_siamese import biased_objective, shifted_views, train_biased
from stopgrad.linear_theory.samples.linear_siamese import Training
from stopgrad.linear_theory.samples.views import exact_views, gaussian_views
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.sweeps.centre_problem import centre_length

amount, signed = st.floats(0.05, 2), st.floats(-1.5, 1.5)
numbers = st.builds(
    MeanHyperparameters,
    sigma2=st.floats(0, 2),
    eta=st.floats(0, 0.5),
    tau=st.floats(0.1, 1),
    alpha_p=st.floats(0, 3),
    eta_p=st.none() | st.floats(0, 0.5),
    x=amount,
    alpha_b=st.floats(0, 3),
    eta_b=st.none() | st.floats(0, 0.5),
    mu=st.floats(0, 3),
    x_mean=st.floats(0, 2),
    directions=st.integers(1, 40).map(float),
)
states = st.builds(Centre, amount, amount, signed, amount, amount)


def twin(state, h, cosine):
    """Both losses, mode by mode and term by term."""
    p, w, b, q, v = state
    eta_p = h.eta if h.eta_p is None else h.eta_p
    eta_b = eta_p if h.eta_b is None else h.eta_b
    xp, n = h.sigma2 * h.x, int(h.directions)
    energies = [h.x_mean * w * w + xp * w * w] + [h.x * v * v + xp * v * v for _ in range(n)]
    N = math.sqrt(h.mu**2 * w * w + math.fsum(energies))
    d = N * b if cosine else b
    kappa, clock, tau, inward = 1.0, 1.0, h.tau, 0.0
    if cosine:
        predicted = p * h.mu * w + d
        G2 = predicted**2 + p * p * energies[0] + math.fsum(q * q * e for e in energies[1:])
        agreed = predicted * h.mu * w + p * h.x_mean * w * w + math.fsum(q * h.x * v * v for _ in range(n))
        kappa, clock, tau = agreed / G2, N * math.sqrt(G2), 1.0
        inward = b / N * (h.mu * w - kappa * (p * h.mu * w + d))
    along = tau * h.x_mean * w + tau * h.mu**2 * w - kappa * p * (h.x_mean + h.mu**2 + xp) * w - kappa * d * h.mu
    across = tau * h.x * v - kappa * q * v * h.x - kappa * q * v * xp
    of_bias = tau * h.mu * w - kappa * p * h.mu * w - kappa * d
    return (
        h.alpha_p * along * w / clock - eta_p * p,
        p * along / clock + inward * (h.x_mean + h.mu**2 + xp) * w / clock - h.eta * w,
        h.alpha_b * (N if cosine else 1) * of_bias / clock - eta_b * b,
        h.alpha_p * across * v / clock - eta_p * q,
        q * across / clock + inward * (h.x + xp) * v / clock - h.eta * v,
    )


@given(numbers, states)
def test_flows_equal_their_scalar_readings(h, state):
    for flow, cosine in ((centre_flow, False), (cosine_centre_flow, True)):
        expected = twin(state, h, cosine)
        assert flow(state, h) == pytest.approx(expected, rel=1e-11, abs=1e-11 * (1 + max(map(abs, expected))))


def as_network(state, h):
    """The same as matrices: the mean's mode first, `directions` others."""
    n = int(h.directions) + 1
    p, w = (np.diag([first, *[other] * (n - 1)]) for first, other in ((state.p, state.q), (state.w, state.v)))
    b = np.zeros((n, 1))
    b[0] = state.b
    mu = np.zeros((n, 1))
    mu[0] = h.mu
    data = Correlations(np.diag([h.x_mean, *[h.x] * (n - 1)]), h.xp * np.eye(n))
    return BiasedNetwork(p, w, b), data, mu


@given(numbers.filter(lambda h: h.directions < 5), states)
def test_modes_are_the_network_s_on_numpy_and_torch(h, state):
    network, data, mu = as_network(state, h)
    tensors = [type(r)(*map(torch.as_tensor, r)) for r in (network, data)]
    for mode_form, matrix_form in ((centre_flow, biased_network_flow), (cosine_centre_flow, cosine_network_flow)):
        modes, whole = mode_form(state, h), matrix_form(network, data, mu, h)
        there, *_ = as_network(modes, h)
        scale = 1e-12 * (1 + max(np.abs(v).max() for v in there))
        for mine, theirs in zip(there, whole):
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=scale)
        for mine, theirs in zip(whole, matrix_form(*tensors, torch.as_tensor(mu), h)):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-11, atol=scale)
    for mine, theirs in zip(centre_norms(state, h), network_norms(network, data, mu)):
        assert mine == pytest.approx(theirs.item(), rel=1e-11)


def problem(seed=0, n=4):
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, n, n)) / np.sqrt(n)
    network = BiasedNetwork(
        0.6 * np.eye(n) + 0.2 * rng.normal(size=(n, n)), rng.normal(size=(n, n)), 0.3 * rng.normal(size=(n, 1))
    )
    return network, Correlations(A @ A.T, 0.4 * B @ B.T), rng.normal(size=(n, 1))


H = MeanHyperparameters(eta=0.03, eta_p=0.05, eta_b=0.01, alpha_p=1.7, alpha_b=0.6, tau=0.8)


@pytest.mark.parametrize("seed", range(4))
def test_a_step_on_exact_views_is_an_euler_step_of_the_squared_flow(seed):
    network, data, mu = problem(seed)
    views = shifted_views(exact_views(data), mu[:, 0])
    run = train_biased(views, network, H, "squared", Training(lr=0.1, steps=1, symmetric_loss=False))
    for after, before, slope in zip(run.state, network, biased_network_flow(network, data, mu, H)):
        np.testing.assert_allclose(after, before + 0.1 * slope, atol=1e-13)
    without = train_biased(
        views, network._replace(b=0 * network.b), H.replace(alpha_b=0.0), "squared", Training(lr=0.1, steps=1)
    )
    plain = network_flow(Network(network.Wp, network.W, 0), with_mean(data, mu), H, Switches("proportional"))
    np.testing.assert_allclose(without.state.W, network.W + 0.1 * plain.W, atol=1e-13)


def test_squared_training_follows_its_flow_closer_with_smaller_steps():
    network, data, mu = problem(1)
    views, gaps = shifted_views(exact_views(data), mu[:, 0]), []
    end = integrate(biased_network_flow, network, data, mu, H, t=2.0, event_dims=2, compiled=False).state
    for lr in (0.02, 0.01, 0.005):
        run = train_biased(views, network, H, "squared", Training(lr=lr, steps=round(2 / lr), symmetric_loss=False))
        gaps.append(max(np.abs(a - b).max() for a, b in zip(run.state, end)))
    assert gaps[-1] > 1e-5
    np.testing.assert_allclose([gaps[0] / gaps[1], gaps[1] / gaps[2]], 2, atol=0.15)


# ---------------------------------------------------------------- the cosine loss on real networks


N1 = 48
ROTATION = np.linalg.qr(np.random.default_rng(3).normal(size=(N1, N1)))[0]
X = np.r_[0.4, np.linspace(0.6, 1.4, N1 - 1)]
XP = np.r_[0.5, np.linspace(0.9, 0.3, N1 - 1)]
MU = np.r_[5.0, np.zeros(N1 - 1)]
DATA = Correlations(np.diag(X), np.diag(XP))
PREDICTORS = {
    "none": {"alpha_p": 0.0, "alpha_b": 0.0},
    "bias": {"alpha_p": 0.0, "alpha_b": 1.0},
    "linear": {"alpha_p": 1.0, "alpha_b": 0.0},
    "linear and bias": {"alpha_p": 1.0, "alpha_b": 1.0},
}


def in_modes(state):
    """p and w of every mode, and b along the centre."""
    Wp, W, b = (np.asarray(v) for v in state)
    return BiasedNetwork((ROTATION.T @ Wp @ ROTATION).diagonal(), (ROTATION.T @ W).diagonal(), (ROTATION.T @ b)[:1, 0])


def start(p=1.0):
    return BiasedNetwork(p * np.eye(N1), ROTATION.copy(), np.zeros((N1, 1)))


@pytest.mark.parametrize("name", PREDICTORS)
def test_sgd_on_the_cosine_loss_follows_the_flow_on_every_mode(name):
    """In 48 dimensions every residual mode to 2.5 %; that of the mean to 10 %, where a bias has cancelled its pull."""
    h = MeanHyperparameters(eta=0.0, **PREDICTORS[name])
    training = Training(lr=1.0, steps=80, batch=128, record_every=20)
    run = train_biased(shifted_views(gaussian_views(DATA), MU), start(), h, "cosine", training, observe=in_modes)
    flow = integrate(
        cosine_network_flow,
        start(),
        DATA,
        MU[:, None],
        h,
        t=run.times[1:],
        event_dims=2,
        tolerance=1e-6,
        compiled=False,
    ).state
    moved = 0
    for k in range(len(run.times) - 1):
        expected = in_modes(BiasedNetwork(*(v[k] for v in flow)))
        found = BiasedNetwork(*(v[k + 1] for v in run.observed))
        for mine, theirs in ((found.W, expected.W), (found.Wp, expected.Wp)):
            np.testing.assert_allclose(mine[1:], theirs[1:], rtol=0.025)
            np.testing.assert_allclose(mine[0], theirs[0], rtol=0.1)
        np.testing.assert_allclose(found.b, expected.b, atol=0.04)
        moved = np.abs(expected.W[1:] - 1).max()
    assert moved > 0.13
    assert np.linalg.norm(run.state.W) == pytest.approx(np.linalg.norm(ROTATION), rel=0.01)  # the loss leaves it


def test_the_flow_is_the_wide_limit_of_the_gradient():
    """What autograd gives on many views comes to the flow as the dimension grows, b beside Z included."""
    gaps = []
    for n in (16, 64):
        data = Correlations(np.eye(n), 0.6 * np.eye(n))
        mu = np.zeros(n)
        mu[0] = 0.7 * np.sqrt(n)
        network = BiasedNetwork(0.9 * np.eye(n), np.eye(n), 0.2 * np.eye(n)[:, :1])
        views = shifted_views(gaussian_views(data), mu)(torch.Generator().manual_seed(0), 20_000)
        free = BiasedNetwork(*(torch.tensor(v).requires_grad_() for v in network))
        slopes = torch.autograd.grad(biased_objective(free, *views, "cosine"), free)
        flow = cosine_network_flow(network, data, mu[:, None], MeanHyperparameters(eta=0.0, alpha_p=1.0))
        gaps.append(max(abs(float(-g[0, 0] / v[0, 0]) - 1) for g, v in zip(slopes, flow)))
    assert gaps[1] < 0.5 * gaps[0] < 0.5 * 0.25


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_sample_s_cosine_gradient_turns_w_and_does_not_stretch_it(seed):
    """⟨W, ∂L/∂W⟩ = 0 and ⟨W_p, ∂L/∂W_p⟩ + ⟨b, ∂L/∂b⟩ = 0 on any batch; so in the flow."""
    network, data, mu = problem(seed)
    views = shifted_views(gaussian_views(data), mu[:, 0], mirrored=False)(torch.Generator().manual_seed(seed), 9)
    free = BiasedNetwork(*(torch.tensor(v).requires_grad_() for v in network))
    slopes = torch.autograd.grad(biased_objective(free, *views, "cosine"), free)
    flow = cosine_network_flow(network, data, mu, MeanHyperparameters(eta=0.0))
    for Wp, W, b in (map(np.asarray, slopes), flow):
        scale = 1e-10 * (1 + np.abs(W).max() + np.abs(Wp).max())
        assert abs((network.W * W).sum()) < scale
        assert abs((network.Wp * Wp).sum() + (network.b * b).sum()) < scale


# ---------------------------------------------------------------- modes of the cosine loss


def test_modes_of_the_cosine_loss_are_those_of_eq_11_and_12_with_a_target_and_a_clock_of_their_own():
    h = mode_hyperparameters(with_mean(DATA, MU[:, None]), Hyperparameters(eta=0.02, alpha_p=1.3))
    rng = np.random.default_rng(0)
    state = Mode(rng.uniform(0.2, 1.5, N1), rng.uniform(0.1, 2, N1))
    energy = [(1 + s2) * s for s2, s in zip(h.sigma2, state.s)]
    kappa = math.fsum(state.p * state.s) / math.fsum(state.p**2 * energy)
    c = math.sqrt(math.fsum(energy) * math.fsum(state.p**2 * energy))
    clock = kappa / c
    slowed = h.replace(tau=1 / kappa, eta=h.eta / clock)
    for mine, theirs in zip(cosine_mode_flow(state, h), mode_flow(state, slowed)):
        np.testing.assert_allclose(mine, clock * theirs, rtol=1e-12, atol=1e-14)


def test_without_a_mean_it_is_the_isotropic_theory():
    """p_j′ = s_j(1 − κp_j)/c − ρp_j with κ = Σps/Σp²s and c = (1 + σ²)√(Σp²s Σs)."""
    rng = np.random.default_rng(1)
    p, s, sigma2, rho = rng.uniform(0.1, 1, 6), rng.uniform(0.1, 1, 6), 0.25, 0.03
    kappa, c = sum(p * s) / sum(p * p * s), (1 + sigma2) * math.sqrt(sum(p * p * s) * sum(s))
    flow = cosine_mode_flow(Mode(p, s), Hyperparameters(sigma2=sigma2, eta=rho))
    np.testing.assert_allclose(flow.p, s * (1 - kappa * p) / c - rho * p, rtol=1e-12)
    np.testing.assert_allclose(flow.s, 2 * p * s * (1 - kappa * p) / c - 2 * rho * s, rtol=1e-12)


def test_modes_are_the_matrix_flow_and_keep_their_balance():
    h = mode_hyperparameters(with_mean(DATA, MU[:, None]), Hyperparameters(eta=0.01))
    order = np.argsort(-np.r_[X[0] + MU[0] ** 2, X[1:]])
    p, w = np.linspace(0.5, 1.2, N1), np.linspace(1.3, 0.7, N1)
    modes = cosine_mode_flow(Mode(p[order], h.x * w[order] ** 2), h)
    whole = cosine_network_flow(
        BiasedNetwork(np.diag(p), np.diag(w), np.zeros((N1, 1))),
        DATA,
        MU[:, None],
        MeanHyperparameters(eta=0.01, alpha_b=0.0),
    )
    np.testing.assert_allclose(modes.p, whole.Wp.diagonal()[order], rtol=1e-11)
    np.testing.assert_allclose(modes.s, (2 * whole.W.diagonal() * w)[order] * h.x, rtol=1e-10)
    imbalance = 2 * whole.W.diagonal() * w - 2 * p * whole.Wp.diagonal()
    np.testing.assert_allclose(imbalance, -2 * 0.01 * (w * w - p * p), rtol=1e-9)


@pytest.mark.parametrize(("m_o", "rho"), [(0.35, 0.55), (0.6, 0.7), (0.85, 0.4)])
def test_at_the_best_predictor_the_extra_gradient_s_centre_is_minus_eta_o_p(m_o, rho):
    """G13: o_e = −η o_p with η = 1 − √(m_o² + ρ²(1 − m_o²)), here as the rest of the flow at a given encoder."""
    n, sigma2 = 400, 1 / rho - 1
    mu = m_o / math.sqrt(1 - m_o**2) * math.sqrt(n / rho)
    h = mode_hyperparameters(
        Correlations(np.diag([mu**2, *[1.0] * n]), np.diag([1e-9, *[sigma2] * n])), Hyperparameters(eta=0.0)
    )
    state = Mode(1 / h.a, h.x)
    np.testing.assert_allclose(cosine_mode_flow(state, h).p, 0, atol=1e-12)
    of_z, of_p = math.sqrt(np.sum(h.a * state.s)), math.sqrt(np.sum(h.a * state.p**2 * state.s))
    o_z, o_p = mu / of_z, state.p[0] * mu / of_p
    assert o_z == pytest.approx(m_o, rel=1e-6)
    eta = 1 - math.sqrt(m_o**2 + rho**2 * (1 - m_o**2))
    assert o_z - o_p == pytest.approx(-eta * o_p, rel=1e-6)


@pytest.mark.parametrize(("m_o", "rho"), [(0.35, 0.55), (0.7, 0.8)])
def test_a_bias_settles_at_the_best_one_and_then_nothing_pulls_at_the_centre(m_o, rho):
    """G13: b* = (1/ρ − 1) o_z, for α_p = 0 and an encoder that is held; x_μ = 0, and so many modes that x′ is of no
    weight."""
    n, sigma2 = 10_000.0, 1 / rho - 1
    mu = m_o / math.sqrt(1 - m_o**2) * math.sqrt(n / rho)
    h = MeanHyperparameters(sigma2, eta=0.0, alpha_p=0.0, mu=mu, directions=n)
    state = Centre(1.0, 1.0, 0.0, 1.0, 1.0)
    pull_without = cosine_centre_flow(state, h).w
    state = state._replace(b=(1 / rho - 1) * centre_length(state, h))
    at_best = cosine_centre_flow(state, h)
    assert centre_length(state, h) == pytest.approx(m_o, rel=1e-3)
    assert abs(at_best.b) < 1e-3 * abs(cosine_centre_flow(state._replace(b=0.0), h).b)
    assert abs(at_best.w) < 2e-3 * pull_without and pull_without > 0


def test_hyperparameters_refuse_what_makes_no_sense():
    assert MeanHyperparameters(alpha_p=0.0).validate().alpha_p == 0
    for field, value in (("mu", -1), ("x_mean", -0.1), ("directions", 0.5), ("alpha_b", np.nan), ("sigma2", -1)):
        with pytest.raises(ValueError, match=f"^{field} is "):
            MeanHyperparameters(**{field: value}).validate()
    with pytest.raises(ValueError, match="EMA"):
        MeanHyperparameters(beta=0.1).validate()
    with pytest.raises(ValueError, match="loss is 'linear'"):
        biased_objective(BiasedNetwork(*(torch.eye(2),) * 3), torch.eye(2), torch.eye(2), "linear")
