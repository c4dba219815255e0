"""Scaled units and the balanced state: other ways to tell the same flow."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import (
    BalancedMode,
    EmaMode,
    Mode,
    balanced_mode_flow,
    ema_mode_flow,
    mode_flow,
    mode_of,
    scaled,
    scales,
)

positive = st.floats(1e-3, 1e3)
theories = st.builds(
    Hyperparameters,
    sigma2=st.floats(0, 10),
    eta=st.floats(0, 10),
    tau=st.floats(0.01, 1),
    alpha_p=positive,
    eta_p=st.none() | st.floats(0, 10),
    x=positive,
)
p_hats, s_hats = st.floats(-10, 10), st.floats(0, 100)
SOME = Hyperparameters(sigma2=0.7, eta=0.03, tau=0.6, alpha_p=3.0, eta_p=0.05, x=1.8)


def written_out(p, s, tau, h):
    """Eq. 11–13, each term with its size, so that cancellation between them is not held against anyone."""
    decay = h.eta if h.eta_p is None else h.eta_p
    a = 1 + h.sigma2
    dp = [h.alpha_p * s * tau, -h.alpha_p * s * a * p, -decay * p]
    ds = [2 * h.x * p * s * tau, -2 * h.x * a * p * p * s, -2 * h.eta * s]
    dtau = [h.beta or 0.0, -(h.beta or 0.0) * tau, -h.x * p * tau * tau, h.x * a * p * p * tau, h.eta * tau]
    return [(sum(terms), sum(map(abs, terms))) for terms in (dp, ds, dtau)]


@given(theories, p_hats, s_hats)
def test_the_scaled_flow_is_the_flow(h, p, s):
    unit, hat = scales(h), scaled(h)
    assert (hat.sigma2, hat.tau, hat.alpha_p, hat.x, hat.beta) == (0, 1, 1, 1, None)
    slope = mode_flow(Mode(p, s), hat)
    expected = written_out(unit.p * p, unit.s * s, h.tau, h)
    for d, u, (value, size) in zip(slope, (unit.p, unit.s), expected):
        assert d * u / unit.time == pytest.approx(value, rel=1e-12, abs=1e-14 * size + 1e-300)


@given(theories, st.floats(0, 10), p_hats, s_hats, st.floats(0, 2))
def test_the_scaled_ema_flow_is_the_flow(h, beta, p, s, tau):
    h = h.replace(beta=beta)
    unit, hat = scales(h), scaled(h)
    assert scales(h) == scales(h.replace(tau=1.0))  # τ is a state: its starting value is no unit
    assert hat.beta == pytest.approx(beta * (1 + h.sigma2) / h.x, rel=1e-14)
    slope = ema_mode_flow(EmaMode(p, s, tau), hat)
    expected = written_out(unit.p * p, unit.s * s, tau, h)
    for d, u, (value, size) in zip(slope, (unit.p, unit.s, 1.0), expected):
        assert d * u / unit.time == pytest.approx(value, rel=1e-12, abs=1e-14 * size + 1e-300)


def test_units_in_closed_form():
    sigma2, eta, tau, alpha_p, x = sp.symbols("sigma2 eta tau alpha_p x", positive=True)
    h = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, alpha_p=alpha_p, x=x)
    unit = scales(h)
    a = 1 + sigma2
    assert sp.simplify(unit.p - tau / a) == 0
    assert sp.simplify(unit.s - x * tau**2 / (alpha_p * a**2)) == 0
    assert sp.simplify(unit.time - a / (x * tau**2)) == 0
    assert sp.simplify(scaled(h).eta - a * eta / (x * tau**2)) == 0


@pytest.mark.parametrize("start", [Mode(0.3, 0.05), Mode(-0.5, 0.9), Mode(2.0, 1e-3)])
@pytest.mark.parametrize("beta", [None, 0.4])
def test_trajectories_agree(start, beta):
    h = SOME.replace(beta=beta)
    unit, hat = scales(h), scaled(h)
    flow, make, sizes = (
        (mode_flow, Mode, (unit.p, unit.s)) if beta is None else (ema_mode_flow, EmaMode, (unit.p, unit.s, 1.0))
    )
    y0 = np.array([*start, *([] if beta is None else [0.2])])
    sizes = np.array(sizes)

    def solve(theory, y, t):
        return solve_ivp(lambda _, v: np.array(flow(make(*v), theory)), (0, t), y, "DOP853", rtol=1e-12, atol=1e-14).y[
            :, -1
        ]

    np.testing.assert_allclose(sizes * solve(hat, y0 / sizes, 20 / unit.time), solve(h, y0, 20), rtol=1e-9, atol=1e-12)


def test_scales_broadcast():
    h = Hyperparameters(sigma2=np.linspace(0, 1, 3)[:, None], tau=np.array([0.5, 1.0]), x=2.0)
    unit = scales(h)
    assert unit.p.shape == unit.s.shape == unit.time.shape == scaled(h).eta.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        lone = h.replace(sigma2=h.sigma2[i, 0], tau=h.tau[j])
        assert scales(lone) == pytest.approx(tuple(v[i, j] for v in unit), rel=1e-15)
        assert scaled(lone).eta == pytest.approx(scaled(h).eta[i, j], rel=1e-15)


@given(theories, st.floats(-10, 10), st.floats(-10, 10))
def test_the_balanced_flow_is_the_flow(h, p, c):
    """c = s − x p²/α_p: then c′ = s′ − 2x p p′/α_p; terms of c′ cancel, so the comparison is against their size."""
    h = h.replace(eta_p=None)
    s = h.x * p * p / h.alpha_p + c
    assert mode_of(BalancedMode(p, c), h) == (p, pytest.approx(s, rel=1e-14, abs=1e-300))
    dp, dc = balanced_mode_flow(BalancedMode(p, c), h)
    (dp_s, size_p), (ds, size_s), _ = written_out(p, s, h.tau, h)
    assert dp == pytest.approx(dp_s, rel=1e-12, abs=1e-13 * size_p + 1e-300)
    push = 2 * h.x * p / h.alpha_p
    assert dc == pytest.approx(ds - push * dp_s, rel=1e-12, abs=1e-13 * (size_s + abs(push) * size_p) + 1e-300)


@pytest.mark.parametrize("start", [BalancedMode(0.2, 0.03), BalancedMode(0.9, -0.4), BalancedMode(-0.4, 0.5)])
def test_balanced_trajectories_agree(start):
    """G5: the balance decays exactly as e^{−2ηt}; with it, s is a function of p and time."""
    h = SOME.replace(eta_p=None)

    def solve(flow, make, y):
        return solve_ivp(lambda _, v: np.array(flow(make(*v), h)), (0, 30), y, "DOP853", rtol=1e-12, atol=1e-14).y[
            :, -1
        ]

    told = solve(balanced_mode_flow, BalancedMode, list(start))
    direct = solve(mode_flow, Mode, list(mode_of(start, h)))
    np.testing.assert_allclose(mode_of(BalancedMode(*told), h), direct, rtol=1e-9, atol=1e-12)
    assert told[1] == pytest.approx(start.c * np.exp(-2 * h.eta * 30), rel=1e-9)
