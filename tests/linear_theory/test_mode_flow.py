"""The flows of decoupled modes against plain-float readings of the paper, each other and an independent integrator."""

import math

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    balance,
    ema_mode_flow,
    mode_flow,
    parabola_flow,
    scalar_network_flow,
)

unit = st.floats(0.01, 2)
signed = st.floats(-2, 2)
numbers = st.builds(
    Hyperparameters,
    sigma2=st.floats(0, 3),
    eta=st.floats(0, 1),
    tau=st.floats(0.05, 1),
    alpha_p=st.floats(0.1, 20),
    beta=st.floats(0, 2),
    eta_p=st.none() | st.floats(0, 1),
    x=unit,
)


def solve(flow, state, h, times):
    """SciPy's DOP853 on a flow over numbers: fields × times."""
    make = type(state)
    result = solve_ivp(
        lambda _, y: np.array(flow(make(*y), h)), (0, times[-1]), state, "DOP853", times, rtol=1e-12, atol=1e-14
    )
    assert result.success
    return make(*result.y)


def twin_decay(h):
    return h.eta if h.eta_p is None else h.eta_p


def twin_mode(p, s, h):
    """Eq. 11–12 term by term."""
    dp = h.alpha_p * s * h.tau - h.alpha_p * s * p - h.alpha_p * s * h.sigma2 * p - twin_decay(h) * p
    ds = 2 * h.x * p * s * h.tau - 2 * h.x * p * p * s - 2 * h.x * h.sigma2 * p * p * s - 2 * h.eta * s
    return dp, ds


def twin_ema(p, s, tau, h):
    """Eq. 13 as printed, s τ′ = β(1 − τ)s − τ s′/2."""
    dp, ds = twin_mode(p, s, h.replace(tau=tau))
    return dp, ds, (h.beta * (1 - tau) * s - tau * ds / 2) / s


def twin_network(wp, w, wa, h):
    """Lemma 1 with X = x, X′ = σ²x."""
    total = h.x + h.sigma2 * h.x
    error = -wp * w * total + wa * h.x
    return h.alpha_p * error * w - twin_decay(h) * wp, wp * error - h.eta * w, h.beta * (-wa + w)


@given(numbers, signed, unit, unit)
def test_flows_equal_their_scalar_readings(h, p, s, tau):
    scale = 1e-12 * (1 + 200 * abs(p) + 200 * s)
    assert mode_flow(Mode(p, s), h) == pytest.approx(twin_mode(p, s, h), rel=1e-12, abs=scale)
    assert ema_mode_flow(EmaMode(p, s, tau), h) == pytest.approx(twin_ema(p, s, tau, h), rel=1e-12, abs=scale)
    assert scalar_network_flow(ScalarNetwork(p, s, tau), h) == pytest.approx(
        twin_network(p, s, tau, h), rel=1e-12, abs=scale
    )
    on_parabola = twin_mode(p, h.x * p * p / h.alpha_p, h.replace(eta_p=h.eta))[0]
    assert parabola_flow(p, h) == pytest.approx(on_parabola, rel=1e-12, abs=100 * scale)
    assert balance(Mode(p, s), h) == pytest.approx(s - h.x / h.alpha_p * p**2, rel=1e-12, abs=scale)


@given(numbers, signed, unit, unit)
def test_numpy_torch_and_sympy_give_the_same_numbers(h, p, s, tau):
    for flow, state in [
        (mode_flow, Mode(p, s)),
        (ema_mode_flow, EmaMode(p, s, tau)),
        (scalar_network_flow, ScalarNetwork(p, s, tau)),
    ]:
        expected = flow(state, h)
        arrays = flow(type(state)(*map(np.float64, state)), h.map(np.float64))
        tensors = flow(
            type(state)(*(torch.tensor(v, dtype=torch.float64) for v in state)),
            h.map(lambda v: torch.tensor(v, dtype=torch.float64)),
        )
        exact = flow(type(state)(*map(sp.Rational, state)), h.map(sp.Rational))
        largest = 1e-13 * (1 + 100 * (abs(p) + s) ** 3)
        for other in (arrays, tensors, exact):
            assert [float(v) for v in other] == pytest.approx([float(v) for v in expected], rel=1e-12, abs=largest)


def test_states_and_hyperparameters_broadcast():
    h = Hyperparameters(eta=np.linspace(0, 0.2, 3)[:, None], x=np.array([0.5, 1.0]))
    state = Mode(np.linspace(-1, 1, 5)[:, None, None], 0.3)
    flow = mode_flow(state, h)
    p, s = np.broadcast_arrays(*flow)
    assert p.shape == (5, 3, 2)
    for index in np.ndindex(p.shape):
        one = Hyperparameters(eta=0.1 * index[1], x=[0.5, 1.0][index[2]])
        alone = mode_flow(Mode(-1 + 0.5 * index[0], 0.3), one)
        assert alone == pytest.approx([p[index], s[index]], rel=1e-14)


@pytest.mark.parametrize("x", [1.0, 0.4])
@pytest.mark.parametrize(("beta", "eta", "tau0"), [(0.4, 0.04, 0.3), (0.05, 0.01, 0.0), (1.5, 0.1, 1.0)])
def test_three_readings_of_the_ema_target_agree(beta, eta, tau0, x):
    """G16: a 1×1 matrix, (w_p, w, w_a) and (p, s, τ) follow one trajectory to 1e-10, for any x and α_p."""
    h = Hyperparameters(sigma2=0.2, eta=eta, beta=beta, alpha_p=1.7, x=x)
    wp, w, times = 0.6, 0.7, np.linspace(0, 25, 11)
    scalar = solve(scalar_network_flow, ScalarNetwork(wp, w, tau0 * w), h, times)
    modes = solve(ema_mode_flow, EmaMode(wp, x * w * w, tau0), h, times)

    def matrix_flow(state, h):
        one = Network(*(v.reshape(1, 1) for v in state))
        data = Correlations(np.array([[x]]), np.array([[0.2 * x]]))
        return [float(v.item()) for v in network_flow(one, data, h, Switches(target="ema"))]

    matrix = solve(matrix_flow, Network(np.array(wp), np.array(w), np.array(tau0 * w)), h, times)
    np.testing.assert_allclose(np.array(matrix), np.array(scalar), rtol=0, atol=1e-10)
    np.testing.assert_allclose(modes.p, scalar.wp, rtol=0, atol=1e-10)
    np.testing.assert_allclose(modes.s, x * scalar.w**2, rtol=0, atol=1e-10)
    np.testing.assert_allclose(modes.tau, scalar.wa / scalar.w, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("beta", "eta", "p0"), [(0.4, 0.04, 0.5), (1.0, 0.02, 0.3), (0.1, 0.01, 0.8)])
def test_tau_is_the_discounted_integral_of_p_on_the_parabola(beta, eta, p0):
    """Eq. 15, with τ(0) = 0: τ = β e^{−βt} ∫ p e^{βu} du / p, the integral by quadrature over the trajectory."""
    h = Hyperparameters(eta=eta, beta=beta)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    for end in (1.0, 6.0, 15.0):
        times = np.append((nodes + 1) * end / 2, end)
        path = solve(ema_mode_flow, EmaMode(p0, p0**2 / h.alpha_p, 0.0), h, times)
        integral = np.sum(weights * end / 2 * path.p[:-1] * np.exp(beta * (times[:-1] - end)))
        assert path.tau[-1] == pytest.approx(beta * integral / path.p[-1], rel=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.04, 0.3])
@pytest.mark.parametrize("alpha_p", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("x", [0.5, 1.0])
def test_balance_decays_exactly(eta, alpha_p, x):
    """Eq. 14 and G5, for fixed and for dynamic τ; and not at all as e^{−2ηt} where η_p ≠ η."""
    h = Hyperparameters(eta=eta, alpha_p=alpha_p, x=x, tau=0.8, beta=0.3)
    times = np.linspace(0, 10, 6)
    decay = np.exp(-2 * eta * times)
    start = balance(Mode(0.3, 0.05), h)
    fixed = solve(mode_flow, Mode(0.3, 0.05), h, times)
    np.testing.assert_allclose(balance(fixed, h), start * decay, rtol=0, atol=3e-12)
    ema = solve(ema_mode_flow, EmaMode(0.3, 0.05, 0.2), h, times)
    np.testing.assert_allclose(balance(ema, h), start * decay, rtol=0, atol=3e-12)
    other = solve(mode_flow, Mode(0.3, 0.05), h.replace(eta_p=eta + 0.2), times)
    assert np.max(np.abs(balance(other, h) - start * decay)) > 1e-3


@given(numbers, signed)
def test_parabola_is_invariant(h, p):
    """On s = x p²/α_p the (p, s) flow is tangent to it and moves p by Eq. 16, if η_p = η."""
    h = h.replace(eta_p=None)
    flow = mode_flow(Mode(p, h.x * p * p / h.alpha_p), h)
    expected = parabola_flow(p, h)
    assert flow.p == pytest.approx(expected, rel=1e-10, abs=1e-11)
    assert flow.s == pytest.approx(2 * h.x * p / h.alpha_p * expected, rel=1e-10, abs=1e-9)


@given(numbers, signed, unit, unit)
def test_input_variance_is_a_rescaling(h, p, s, tau):
    """x is absorbed by η/x, α_p/x, η_p/x, β/x and time·x."""
    rescaled = h.replace(
        eta=h.eta / h.x,
        alpha_p=h.alpha_p / h.x,
        beta=h.beta / h.x,
        eta_p=None if h.eta_p is None else h.eta_p / h.x,
        x=1.0,
    )
    for flow, state in [(mode_flow, Mode(p, s)), (ema_mode_flow, EmaMode(p, s, tau))]:
        fast = [h.x * v for v in flow(state, rescaled)]
        assert flow(state, h) == pytest.approx(fast, rel=1e-11, abs=1e-10)


def test_collapsed_line_and_zero_weights_do_not_move_away():
    """At s = 0 the mode stays at s = 0 and p decays; the EMA form stays finite there."""
    h = Hyperparameters(beta=0.4)
    flow = ema_mode_flow(EmaMode(0.7, 0.0, 0.5), h)
    assert flow.s == 0 and flow.p == pytest.approx(-0.04 * 0.7) and math.isfinite(flow.tau)
    assert scalar_network_flow(ScalarNetwork(0.0, 0.0, 0.0), h) == (0, 0, 0)
