"""A last layer's course, its two readings by Lemma 1, and the numbers that laws are told by."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.last_layer import (
    allowed,
    course,
    falls_at,
    falls_by,
    forecast,
    foreseen,
    halves,
    settles,
    tracking,
)

H = Hyperparameters(eta=0.03, alpha_p=2.0)
T = np.linspace(0, 12, 7)


def network(d=3, n=5, seed=0):
    noise = np.random.default_rng(seed)
    W = noise.normal(size=(d, n)) / 2
    return Network(noise.normal(size=(d, d)) / 2, W, W)


def correlations(n=5, seed=1):
    noise = np.random.default_rng(seed)
    A, B = noise.normal(size=(2, n, n))
    return Correlations(A @ A.T / n, 0.2 * B @ B.T / n)


# ---------------------------------------------------------------- readings


@pytest.mark.parametrize("p0, s0", [(0.3, 0.1), (0.1, 0.5), (0.8, 0.02)])
def test_an_aligned_start_goes_as_the_mode_equations_have_it(p0, s0):
    h = H.replace(sigma2=0.2)
    start = Network(p0 * np.eye(2), math.sqrt(s0) * np.eye(2), math.sqrt(s0) * np.eye(2))
    data = Correlations(np.eye(2), 0.2 * np.eye(2))
    found = course(T, forecast(T, start, data, h), data.X, h)
    expected = integrate(mode_flow, Mode(p0, s0), h, t=T).state
    np.testing.assert_allclose(found.s, np.stack([expected.s] * 2, -1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.misalignment, 0, atol=1e-9)


def test_tracking_of_what_stays_is_the_forecast_whatever_the_switches():
    data, start = correlations(), network()
    held = Correlations(*(np.stack([v] * len(T)) for v in data))
    for switches in (Switches(), Switches(stop_gradient="none"), Switches(predictor="fixed")):
        for found, expected in zip(tracking(T, start, held, H, switches), forecast(T, start, data, H, switches)):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_tracking_goes_by_the_mean_of_both_ends_of_each_stretch():
    first, last = correlations(seed=1), correlations(seed=2)
    t, start = np.array([0.0, 1.0, 3.0]), network()
    along = Correlations(*(np.stack([a, b, 3 * b]) for a, b in zip(first, last)))
    state = start
    for span, between in ((1.0, [(a + b) / 2 for a, b in zip(first, last)]), (2.0, [2 * b for b in last])):
        state = integrate(network_flow, state, Correlations(*between), H, t=span, event_dims=2).state
    for found, expected in zip(tracking(t, start, along, H), state):
        np.testing.assert_allclose(found[-1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_balance_is_kept_whatever_the_layer_is_fed(seed):
    """Theorem 1 for any X(t), X′(t): what stands before the layer does not matter to it."""
    fed = [correlations(seed=seed + k) for k in range(len(T))]
    along = Correlations(*(np.stack(v) for v in zip(*fed)))
    found = course(T, tracking(T, network(seed=seed), along, H), along.X, H)
    assert found.balance.max() < 1e-5 and found.balance[0] == 0


def test_what_is_too_stiff_to_be_followed_is_nan_and_soon():
    start, data = network(), correlations()
    stiff = Network(1e7 * start.Wp, start.W, start.Wa)
    for found in (
        forecast(T, stiff, data, H),
        tracking(T, stiff, Correlations(*(np.stack([v] * len(T)) for v in data)), H),
    ):
        assert all(np.isnan(v[1:]).all() for v in found)


def test_a_course_is_nan_from_where_weights_are_no_numbers():
    start = network()
    broken = Network(*(np.stack([v, v, v]) for v in start))
    broken.W[2] = np.inf
    broken.Wp[1, 0, 0] = np.nan
    found = course([0.0, 1.0, 2.0], broken, np.eye(5), H)
    for v in (found.s, found.misalignment, found.balance, found.size):
        assert np.isfinite(v[0]).all() and np.isnan(v[1:]).all()


def test_without_a_predictor_each_direction_dies_at_its_own_rate():
    """W′ = −W(X′ + η), Theorem 2: tr F falls at 2(x′ + η) where X has one direction."""
    data = Correlations(np.diag([1.0, 0.0]), np.diag([0.3, 0.7]))
    start = Network(np.eye(2), np.eye(2), np.eye(2))
    found = course(T, forecast(T, start, data, H, Switches(predictor="fixed")), data.X, H)
    for until in (3.0, 7.5, 12.0):
        assert falls_at(T, found.size, until) == pytest.approx(2 * (0.3 + H.eta), rel=1e-4)


@pytest.mark.parametrize(("rate", "goes_on"), [(0.02, 0.02), (0.5, 2 * 0.03), (-0.3, 0.0)])
def test_what_is_foreseen_shrinks_on_no_faster_than_decay_has_it(rate, goes_on):
    t, known = np.array([0.0, 0.5, 1.0, 4.0, 9.0]), correlations()
    fall = np.exp(-rate * t[:3])[:, None, None]
    found = foreseen(t, Correlations(*(v * fall for v in known)), 2, H)
    for v, at_first in zip(found, known):
        np.testing.assert_allclose(v[:3], at_first * fall)
        np.testing.assert_allclose(v[3:], v[2] * np.exp(-goes_on * (t[3:] - 1))[:, None, None], rtol=1e-12)


# ---------------------------------------------------------------- laws


def test_what_may_live_is_what_the_fixed_points_allow():
    x, noise = np.array([2.0, 1.0, 0.3, 0.1]), np.array([0.5, 0.1, 0.3, 0.0])
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    X, Xp = (turn @ np.diag([*v, 0.0]) @ turn.T for v in (x, noise))
    each = np.asarray(critical_eta(H.replace(x=x, sigma2=noise / x)))
    for eta in (0.01, 0.03, 0.07, 0.2, 0.5):
        found = allowed(Correlations(X, Xp), H.replace(eta=eta), 3)
        lives = each > eta
        assert found.modes == min(lives.sum(), 3) and found.critical == pytest.approx(each.max(), rel=1e-9)
        least = x / (4 * (1 + noise / x) ** 2 * H.alpha_p)
        assert found.floor == pytest.approx(0.1 * (least[lives].min() if lives.any() else least.max()), rel=1e-6)
    with pytest.raises(ValueError, match="nothing in common"):
        allowed(Correlations(0 * X, Xp), H, 3)


@given(st.floats(0.05, 20), st.floats(1e-3, 1e3))
def test_half_times_and_rates_of_an_exponential(rate, height):
    t = np.linspace(0, 4 / rate, 4001)
    curve = height * np.exp(-rate * t)
    assert halves(t, curve) == pytest.approx(math.log(2) / rate, rel=1e-5)
    assert falls_at(t, curve, 2.3 / rate) == pytest.approx(rate, rel=1e-9)
    assert falls_by(t, curve, math.e**2) == pytest.approx(2 / rate, rel=1e-9)
    assert settles(t, curve, within=0.5) == pytest.approx(t[-1] - 0.5 / rate, rel=1e-5)


def test_what_never_comes_and_what_is_gone():
    t = np.array([0.0, 1.0, 2.0])
    assert falls_by(t, [1.0, 0.9, 0.6], 2.0) == falls_by(t, [1.0, 2.0, 3.0], 1.5) == math.inf
    assert halves(t, [1.0, 0.9, 0.6]) == settles(t, [1.0, 1e-31, 1e-31]) == math.inf
    assert settles(t, [1.0, 1.01, 1.0]) == 0.0


@pytest.mark.parametrize("law", [halves, settles, lambda t, c: falls_by(t, c, 2.0), lambda t, c: falls_at(t, c, 1.0)])
def test_no_law_is_read_off_what_is_no_curve(law):
    t = [0.0, 1.0, 2.0]
    for curve in ([math.nan, 1.0, 0.1], [1.0, math.nan, 0.1], [1.0, 0.1, math.nan], [0.0, 0.0, 0.0]):
        assert math.isnan(law(t, curve))
    for times, curve in ([[], []], [t, [1.0, 0.5]], [[t], [[1.0, 0.5, 0.2]]]):
        with pytest.raises(ValueError, match="both must be"):
            law(times, curve)
    assert math.isnan(falls_at(t, [1.0, 0.5, 0.2], 2.5)) and math.isnan(falls_at([0.0], [1.0], 0.0))


def test_readings_want_times_from_zero_and_an_x_for_each():
    start, data = network(), correlations()
    for t in ([1.0, 2.0], []):
        with pytest.raises(ValueError, match="the start is at time 0"):
            forecast(t, start, data, H)
    stack = [list(map(list, data.X))] * 2
    assert tracking([0.0, 0.1], start, Correlations(stack, stack), H).W.shape == (2, 3, 5)
    with pytest.raises(ValueError, match="3 times, 2 X"):
        tracking([0.0, 0.1, 0.2], start, Correlations(stack, stack), H)


def test_what_has_all_but_died_falls_no_further():
    t = [0.0, 1.0, 2.0]
    assert falls_at(t, [1.0, -1e-20, 0.0], 2.0) == pytest.approx(30 * math.log(10) / 2)
