"""Gradient descent against PyTorch's SGD, its own flow, and the edge of stability by simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.branches import stability
from stopgrad.linear_theory.exact.discrete import (
    Weights,
    descend,
    largest_stable_lr,
    mode_step,
    stable_lr,
    weights_flow,
)
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import Mode, ScalarNetwork, balance, mode_flow, scalar_network_flow

rates = st.floats(0.001, 0.5)


def random_problem(seed, n2=3, n1=4):
    rng = np.random.default_rng(seed)
    state = Network(*(0.5 * rng.standard_normal(shape) for shape in ((n2, n2), (n2, n1), (n2, n1))))
    factors = rng.standard_normal((2, n1, n1)) / 2
    return state, Correlations(*(factors @ factors.mT / n1))


@given(st.floats(-1.5, 1.5), st.floats(0, 2), rates, st.floats(0, 0.4), st.floats(0.1, 1.5))
def test_mode_step_is_the_weights_step(p, s, lr, eta, x):
    """(p, s) after a step are those of the stepped weights; s moves by the factor (1 + lr·g)²."""
    h = Hyperparameters(sigma2=0.3, eta=eta, tau=0.8, alpha_p=1.4, x=x)
    w = -((s / x) ** 0.5)  # either sign of w gives one s
    weights = descend(weights_flow, Weights(p, w), h, lr=lr, steps=1).state
    mode = mode_step(Mode(p, s), h, lr)
    assert mode.p == pytest.approx(weights.wp, rel=1e-13, abs=1e-13)
    assert mode.s == pytest.approx(x * weights.w**2, rel=1e-12, abs=1e-13)
    growth = x * p * (0.8 - 1.3 * p) - eta
    assert mode.s == pytest.approx(s * (1 + lr * growth) ** 2, rel=1e-12, abs=1e-13)
    euler = s + lr * mode_flow(Mode(p, s), h).s
    assert mode.s - euler == pytest.approx(s * (lr * growth) ** 2, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("target", ["shared", "proportional"])
def test_descent_is_pytorchs_sgd(momentum, target):
    """torch.optim.SGD on the loss tr(…) in X and X′, with coupled weight decay and the predictor's own lr."""
    lr, h = 0.05, Hyperparameters(eta=0.03, alpha_p=2.0, tau=0.7, eta_p=0.08)
    state, data = random_problem(1)
    Wp, W = (torch.tensor(v, requires_grad=True) for v in state[:2])
    X, Xp = map(torch.tensor, data)
    groups = [
        {"params": [W], "lr": lr, "weight_decay": h.eta},
        {"params": [Wp], "lr": lr * h.alpha_p, "weight_decay": h.eta_p / h.alpha_p},
    ]
    optimizer = torch.optim.SGD(groups, momentum=momentum)
    for _ in range(60):
        stopped = (W if target == "shared" else h.tau * W).detach()
        prediction = Wp @ W
        loss = torch.trace(prediction @ (X + Xp) @ prediction.T) / 2 - torch.trace(prediction @ X @ stopped.T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    descent = descend(network_flow, state, data, h, Switches(target), lr=lr, momentum=momentum, steps=60, event_dims=2)
    np.testing.assert_allclose(descent.state.Wp, Wp.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(descent.state.W, W.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ema_target_moves_by_the_time_of_a_step_without_momentum(momentum):
    """w_a ← γ w_a + (1 − γ) w after the step of w, with 1 − γ = β·lr/(1 − m), beside a hand-written loop."""
    h, lr = Hyperparameters(beta=0.3, x=0.8), 0.02
    wp, w, wa = 0.5, 0.6, 0.1
    velocities = [0.0, 0.0]
    gamma = 1 - h.beta * lr / (1 - momentum)
    for _ in range(40):
        flow = scalar_network_flow(ScalarNetwork(wp, w, wa), h)
        velocities = [momentum * v + f for v, f in zip(velocities, flow)]
        wp, w = wp + lr * velocities[0], w + lr * velocities[1]
        wa = gamma * wa + (1 - gamma) * w
    descent = descend(scalar_network_flow, ScalarNetwork(0.5, 0.6, 0.1), h, lr=lr, momentum=momentum, steps=40)
    assert [float(v) for v in descent.state] == pytest.approx([wp, w, wa], rel=1e-13)
    assert descent.time == pytest.approx(40 * lr / (1 - momentum))


PARAMETERS = [
    (0.0, 0.04, 1.0, 1.0, 1.0, 0.1, 0.2),
    (0.2, 0.01, 0.8, 3.0, 1.0, 0.4, 0.1),
    (0.1, 0.0, 1.0, 1.0, 0.6, 0.5, 0.9),
    (0.5, 0.3, 0.6, 0.5, 1.0, -0.3, 0.3),
]


@pytest.mark.parametrize(("sigma2", "eta", "tau", "alpha_p", "x", "p0", "w0"), PARAMETERS)
def test_balance_error_of_descent_is_first_order_as_predicted(sigma2, eta, tau, alpha_p, x, p0, w0):
    """G5: c = s − x p²/α_p misses e^{−2ηt}c(0) by E·lr, and E = ∫ e^{−2η(t−u)} [x w′² − x w_p′²/α_p − 2η²c] du.

    The bracket is what a step adds to c at second order, less what the exponential has there.
    """
    h, t = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, alpha_p=alpha_p, x=x), 4.0

    def extended(_, y):
        flow = weights_flow(Weights(*y[:2]), h)
        c = x * y[1] ** 2 - x * y[0] ** 2 / alpha_p
        return [*flow, x * flow.w**2 - x * flow.wp**2 / alpha_p - 2 * eta**2 * c - 2 * eta * y[2]]

    predicted = solve_ivp(extended, (0, t), (p0, w0, 0.0), "DOP853", rtol=1e-11, atol=1e-13).y[2, -1]
    c0 = x * w0**2 - x * p0**2 / alpha_p
    lr = 0.01 / 2.0 ** np.arange(4)
    errors = []
    for rate in lr:
        wp, w = descend(weights_flow, Weights(p0, w0), h, lr=rate, steps=round(t / rate)).state
        errors.append(balance(Mode(wp, x * w * w), h) - c0 * np.exp(-2 * eta * t))
    errors = np.array(errors)
    assert errors[-1] / lr[-1] == pytest.approx(predicted, rel=0.02, abs=1e-6)
    deviation = np.abs(errors / lr - predicted)
    np.testing.assert_allclose(deviation[1:] / deviation[:-1], 0.5, atol=0.02)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_descent_converges_to_its_flow_at_first_order(seed, momentum):
    """Halving lr halves the distance of the weights to the flow at the time steps·lr/(1 − m)."""
    state, data = random_problem(seed)
    h, switches, t = Hyperparameters(eta=0.04, beta=0.5, alpha_p=1.5), Switches(target="ema"), 6.0
    shapes = [v.shape for v in state]
    cuts = np.cumsum([v.size for v in state])[:-1]

    def unpack(y):
        return Network(*(v.reshape(s) for v, s in zip(np.split(y, cuts), shapes)))

    def right_hand_side(_, y):
        return np.concatenate([v.ravel() for v in network_flow(unpack(y), data, h, switches)])

    start = np.concatenate([v.ravel() for v in state])
    exact = solve_ivp(right_hand_side, (0, t), start, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    gaps = []
    for dt in (0.02, 0.01, 0.005):
        descent = descend(
            network_flow, state, data, h, switches,
            lr=dt * (1 - momentum), momentum=momentum, steps=round(t / dt), event_dims=2,
        )  # fmt: skip
        assert descent.time == pytest.approx(t)
        gaps.append(np.abs(np.concatenate([v.ravel() for v in descent.state]) - exact).max())
    assert gaps[-1] < 0.01
    # The buffers start empty, which costs m/(1 − m) steps of time: first order too.
    np.testing.assert_allclose(np.array(gaps[:-1]) / gaps[1:], 2.0, atol=0.2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("target", ["shared", "ema"])
def test_predictor_rate_symmetry_survives_discretisation(target, momentum):
    """G4: (α_p, W) and (1, √α_p W) take the same steps of W_p: bit for bit at α_p = 4, to 1e-14 at α_p = 3."""
    state, data = random_problem(4)
    base = Hyperparameters(eta=0.03, beta=0.2)
    options = {"lr": 0.02, "momentum": momentum, "steps": 100, "event_dims": 2}
    for alpha_p, tolerance in ((4.0, 0.0), (3.0, 1e-14)):
        root = alpha_p**0.5
        scaled = Network(state.Wp, root * state.W, root * state.Wa)
        one = descend(network_flow, state, data, base.replace(alpha_p=alpha_p), Switches(target), **options).state
        other = descend(network_flow, scaled, data, base, Switches(target), **options).state
        np.testing.assert_allclose(other.Wp, one.Wp, rtol=0, atol=tolerance)
        np.testing.assert_allclose(other.W, root * one.W, rtol=0, atol=tolerance)


GRID = Hyperparameters(
    sigma2=np.array([0.0, 0.1, 1.0])[:, None, None, None],
    eta=np.array([0.0, 1e-3, 0.02, 0.06])[:, None, None],
    alpha_p=np.array([0.3, 1.0, 5.0])[:, None],
    x=np.array([0.7, 1.0]),
)
TIED, TIED_MOMENTA = GRID.replace(tau=0.9), np.array([0.0, 0.5, 0.9])
SPIRAL = TIED.replace(eta=GRID.eta + 0.004, eta_p=0.15 * (GRID.eta + 0.004))  # p₊ a focus where η is large


@pytest.mark.parametrize("h", [TIED, SPIRAL], ids=["node", "focus"])
def test_fixed_points_eigenvalues_are_those_of_the_weights(h):
    """The Jacobian of the weights that are stepped has the eigenvalues of the (p, s) flow, at every point of a grid."""
    at = fixed_points(h)
    matrix = stability(weights_flow, Weights(at.p_plus, np.sqrt(at.s_plus / h.x)), h).jacobian
    expected = at.eigenvalues_plus
    np.testing.assert_allclose(np.trace(matrix, axis1=-2, axis2=-1), expected.sum(axis=-1), rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.linalg.det(matrix), expected.prod(axis=-1), rtol=0, atol=1e-13)
    assert np.any(np.abs(expected.imag) > 0.01) == (h is SPIRAL)


@pytest.mark.parametrize("h", [TIED, SPIRAL], ids=["node", "focus"])
@pytest.mark.parametrize("momentum", TIED_MOMENTA)
def test_descent_is_stable_just_below_the_largest_lr_and_not_just_above(h, momentum):
    """From a hair off p₊, on every point of a grid: 3 % below the bound the distance does not grow, 3 %
    above it does."""
    at = fixed_points(h)
    p, w = np.broadcast_arrays(at.p_plus, np.sqrt(at.s_plus / h.x))
    bound = largest_stable_lr(h, momentum)
    assert np.all(bound > 0) and np.all(np.isfinite(bound))
    distance = {}
    for side in (0.97, 1.03):
        rates = {"lr": side * bound, "momentum": momentum}
        path = descend(weights_flow, Weights(p + 1e-7, w - 1e-7), h, **rates, steps=3000, every=10).trajectory
        distance[side] = np.hypot(path.wp - p, path.w - w)
    early, _, late = np.split(distance[0.97][1:], 3)
    # Equal at η = 0, where the start comes to rest on another point of a line of fixed points.
    assert np.all(late.max(axis=0) <= early.max(axis=0) * (1 + 1e-6))
    assert np.all(distance[1.03].max(axis=0) > 2 * distance[0.97].max(axis=0))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_largest_lr_is_where_the_step_has_a_root_of_modulus_one(momentum):
    """Polynomial roots z² − (1 + m + lr λ)z + m at the bound, for real and complex λ."""
    rng = np.random.default_rng(5)
    eigenvalues = -rng.uniform(0.01, 2, 60) + 1j * rng.uniform(-2, 2, 60) * (np.arange(60) % 3 > 0)
    for value in eigenvalues:
        bound = stable_lr(np.array([value]), momentum)
        for side, compare in ((1 - 1e-6, np.less), (1 + 1e-6, np.greater)):
            roots = np.roots([1, -(1 + momentum + side * bound * value), momentum])
            assert compare(np.abs(roots).max(), 1.0)
        if value.imag == 0:
            assert bound == pytest.approx(2 * (1 + momentum) / abs(value), rel=1e-14)
        elif momentum == 0:
            assert bound == pytest.approx(-2 * value.real / abs(value) ** 2, rel=1e-14)


@pytest.mark.parametrize(
    ("h", "eigenvalue"),
    [
        (Hyperparameters(sigma2=0.0, eta=0.04), 0.8782575694956),
        (Hyperparameters(sigma2=0.0, eta=0.04, alpha_p=7.0), 0.8782575694956),
        (Hyperparameters(sigma2=0.5, eta=0.05), 0.512220008845),
        (Hyperparameters(sigma2=0.0, eta=0.04, tau=0.5), 0.12),
        (Hyperparameters(sigma2=0.0, eta=0.25), 0.5),
        (Hyperparameters(sigma2=0.25, eta=0.0, x=0.5), 0.4),
    ],
)
def test_largest_stable_lr_is_two_over_the_fastest_rate(h, eigenvalue):
    """G1–G2: max(2η, xτp₊ − 2η); momentum m multiplies it by 1 + m."""
    assert largest_stable_lr(h) == pytest.approx(2 / eigenvalue, rel=1e-11)
    assert largest_stable_lr(h, 0.9) == pytest.approx(3.8 / eigenvalue, rel=1e-11)


def test_largest_stable_lr_broadcasts_and_says_where_nothing_survives():
    h = Hyperparameters(eta=np.array([0.04, 0.2, 0.3]))
    bound = largest_stable_lr(h, np.array([[0.0], [0.9]]))
    assert bound.shape == (2, 3)
    np.testing.assert_array_equal(np.isnan(bound), [[False, False, True]] * 2)
    np.testing.assert_allclose(bound[1, :2], 1.9 * bound[0, :2], rtol=1e-14)
    np.testing.assert_array_equal(stable_lr(np.array([[-1.0, 0.5], [-1.0, 0.0], [1j, -1j]])), [0.0, 2.0, 0.0])


def test_divergence_is_reported_and_stays_finite():
    """Too large a step sends an element away; the others go on as if alone."""
    h = Hyperparameters(x=np.array([1.0, 1.0, 0.5]))
    lr = np.array([0.1, 6.0, 0.1])
    result = descend(weights_flow, Weights(1.5, 1.5), h, lr=lr, steps=300)
    np.testing.assert_array_equal(result.diverged, [False, True, False])
    assert result.diverged_at[1] > 0 and np.all(result.diverged_at[[0, 2]] == -1)
    assert all(np.all(np.isfinite(v)) for v in result.state)
    for k in (0, 2):
        alone = descend(weights_flow, Weights(1.5, 1.5), Hyperparameters(x=h.x[k]), lr=0.1, steps=300)
        assert [v[k] for v in result.state] == [float(v) for v in alone.state]
    until = descend(weights_flow, Weights(1.5, 1.5), h, lr=lr, steps=int(result.diverged_at[1]) - 1)
    assert not until.diverged.any() and until.state.w[1] == result.state.w[1]


def test_matrices_diverge_as_a_whole():
    state, data = random_problem(2)
    lr = np.array([0.05, 40.0])[:, None, None]
    result = descend(network_flow, state, data, Hyperparameters(), Switches(), lr=lr, steps=100, event_dims=2)
    np.testing.assert_array_equal(result.diverged, [False, True])
    assert result.state.W.shape == (2, 3, 4) and result.state.Wp.shape == (2, 3, 3)
    alone = descend(network_flow, state, data, Hyperparameters(), Switches(), lr=0.05, steps=100, event_dims=2)
    np.testing.assert_allclose(result.state.W[0], alone.state.W, rtol=0, atol=1e-14)


def test_trajectory_starts_at_the_start_and_keeps_every_kth_step():
    h, start = Hyperparameters(alpha_p=np.array([1.0, 2.0])), Weights(0.3, 0.4)
    whole = descend(weights_flow, start, h, lr=0.1, momentum=0.5, steps=25, every=10)
    assert whole.trajectory.w.shape == (3, 2)
    np.testing.assert_array_equal(whole.trajectory.w[0], [0.4, 0.4])
    for row, steps in enumerate((0, 10, 20)):
        shorter = descend(weights_flow, start, h, lr=0.1, momentum=0.5, steps=steps)
        np.testing.assert_array_equal(whole.trajectory.wp[row], shorter.state.wp)
    assert descend(weights_flow, start, h, lr=0.1, steps=3).trajectory is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be finite and above 0"),
        ({"lr": np.nan}, "lr must be finite and above 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"momentum": np.nan}, r"momentum must be in \[0, 1\)"),
        ({"steps": -1}, "steps is -1 and every is None; they must be at least 0 and 1"),
        ({"every": 0}, "steps is 3 and every is 0"),
    ],
)
def test_descend_refuses_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        descend(weights_flow, Weights(0.1, 0.2), Hyperparameters(), **({"lr": 0.1, "steps": 3} | options))


def test_descend_refuses_weights_that_are_not_finite():
    with pytest.raises(ValueError, match="w holds NaN or infinity; start from finite weights"):
        descend(weights_flow, Weights(0.1, np.nan), Hyperparameters(), lr=0.1, steps=1)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        largest_stable_lr(Hyperparameters(), -0.1)
    with pytest.raises(ValueError, match="eta is -1"):
        largest_stable_lr(Hyperparameters(eta=-1.0))
