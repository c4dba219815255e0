"""Outcomes without weight decay and the separatrix with it, against long and against backward integration."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from log_modes import log_flow
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.basin import (
    collapses,
    critical_s0,
    outcome_without_decay,
)
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow

GOLDEN = Hyperparameters(sigma2=0.0, eta=0.04)
FREE = Hyperparameters(sigma2=0.0, eta=0.0)


def solve(flow, y0, t, **options):
    result = solve_ivp(flow, (0, t), y0, "DOP853", rtol=1e-10, atol=1e-13, **options)
    assert result.status >= 0
    return result


# ---------------------------------------------------------------- no weight decay


@pytest.mark.parametrize(
    ("p0", "s0", "p", "s"),
    [
        (0.2, 0.01, 1.0, 0.97),  # survives below the parabola: the paper's criterion is sufficient only
        (0.2, 0.05, 1.0, 1.01),
        (-0.2, 0.03, -0.1, 0.0),
        (1.5, 1.26, 1.0, 0.01),
        (1.5, 1.2, np.sqrt(1.05), 0.0),
        (-0.5, 0.3, 1.0, 1.05),
        (-0.5, 0.25, 0.0, 0.0),  # on the parabola
        (1.25, 0.5625, 1.0, 0.0),  # on the border beyond p*
        (0.7, 0.0, 0.7, 0.0),  # a line of fixed points
        (-0.7, 0.0, -0.7, 0.0),
    ],
)
@pytest.mark.parametrize("theory", [{}, {"sigma2": 0.25, "tau": 0.5, "alpha_p": 4.0, "x": 2.0}])
def test_golden_outcomes(theory, p0, s0, p, s):
    """G7, also in other units: p counts in τ/a, s in x(τ/a)²/α_p."""
    h = FREE.replace(**theory)
    unit = h.tau / h.a
    size = h.x * unit**2 / h.alpha_p
    end = outcome_without_decay(Mode(p0 * unit, s0 * size), h)
    on_the_border = s0 in (0.25, 0.5625)
    np.testing.assert_allclose([end.p / unit, end.s / size], [p, s], atol=1e-7 if on_the_border else 1e-14)
    assert on_the_border or (end.s == 0) == (s == 0)


@pytest.mark.parametrize(
    "h", [FREE, FREE.replace(sigma2=0.6, alpha_p=3.0, x=0.5), FREE.replace(sigma2=0.1, tau=0.6, alpha_p=0.4, x=2.0)]
)
def test_outcomes_against_long_integration(h):
    """Every point of a grid, integrated until 30 of the slowest relaxation times have passed."""
    unit = h.tau / (1 + h.sigma2)
    size = h.x * unit**2 / h.alpha_p
    p0 = unit * np.array([-1.3, -0.6, -0.2, 0.0, 0.1, 0.5, 0.95, 1.4, 2.1])[:, None]
    s0 = size * np.array([0.01, 0.07, 0.3, 0.7, 1.13, 2.9])
    p0, s0 = (v.ravel() for v in np.broadcast_arrays(p0, s0))

    def flow(_, y):
        return np.concatenate(log_flow(*y.reshape(2, -1), h))

    p, y = solve(flow, np.concatenate([p0, np.log(s0)]), 1000 / (h.x * h.tau * unit)).y[:, -1].reshape(2, -1)
    got = outcome_without_decay(Mode(p0, s0), h)
    np.testing.assert_allclose(got.p, p, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(got.s, np.exp(y), rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(got.s > 0, np.exp(y) > 1e-6)
    assert 10 < (got.s > 0).sum() < 50
    surprising = (got.s > 0) & (s0 < h.x * p0**2 / h.alpha_p)
    assert surprising.any()  # s(0) > p(0)²/α_p is not necessary


@given(st.floats(-3, 3), st.floats(0, 5), st.floats(0, 3), st.floats(0.1, 1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_outcomes_rest_and_keep_the_balance(p0, s0, sigma2, tau, alpha_p, x):
    h = Hyperparameters(sigma2=sigma2, eta=0.0, tau=tau, alpha_p=alpha_p, x=x)
    end = outcome_without_decay(Mode(p0, s0), h)
    np.testing.assert_allclose(mode_flow(end, h), 0, atol=1e-10 * max(1, end.s) * alpha_p * x)
    assert end.s >= 0
    if s0 > 0:
        before, after = (s - x * p * p / alpha_p for p, s in ((p0, s0), end))
        size = s0 + end.s + x * (p0**2 + end.p**2) / alpha_p
        assert after == pytest.approx(before, rel=1e-9, abs=1e-12 * size)
    again = outcome_without_decay(end, h)
    assert (again.p, again.s) == (pytest.approx(end.p, abs=1e-7), pytest.approx(end.s, abs=1e-7))


@given(st.floats(-3, 3), st.floats(0, 3), st.floats(0.1, 1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_without_decay_the_border_is_where_the_outcome_changes(p0, sigma2, tau, alpha_p, x):
    h = Hyperparameters(sigma2=sigma2, eta=0.0, tau=tau, alpha_p=alpha_p, x=x)
    border = float(critical_s0(p0, h))
    unit = tau / (1 + sigma2)
    assert border == pytest.approx(
        x / alpha_p * (p0**2 if p0 < 0 else max(p0**2 - unit**2, 0.0)), rel=1e-12, abs=1e-300 + 1e-15 * x / alpha_p
    )  # the difference of two squares is right to their rounding
    above = outcome_without_decay(Mode(p0, border * (1 + 1e-6) + 1e-9), h)
    assert above.s > 0 and above.p == pytest.approx(unit)
    if border > 1e-5:
        assert outcome_without_decay(Mode(p0, border * (1 - 1e-6)), h).s == 0


# ---------------------------------------------------------------- the separatrix


@pytest.mark.parametrize(
    ("p0", "s0", "digits"),
    [
        (0.0, 0.0041872340, 1e-10),
        (0.02, 0.0028063113, 1e-10),
        (0.06, 0.0011299224, 1e-10),
        (0.1, 0.00039826247, 1e-11),
        (1.5, 6.96e-8, 0.005e-8),
        (3.0, 5.19, 0.005),
    ],
)
@pytest.mark.parametrize("alpha_p", [1.0, 2.0, 10.0])
def test_golden_critical_s0(p0, s0, digits, alpha_p):
    """G3, and G4: it scales as 1/α_p."""
    got = critical_s0(p0, GOLDEN.replace(alpha_p=alpha_p))
    assert got * alpha_p == pytest.approx(s0, abs=digits)


def test_golden_minimum_near_p_plus():
    """G3: a tiny s survives where p is near p₊."""
    p0 = np.linspace(0.7, 1.3, 601)
    border, p_plus = critical_s0(p0, GOLDEN), float(fixed_points(GOLDEN).p_plus)
    assert border.min() == pytest.approx(5.7e-11, abs=0.05e-11)
    assert abs(p0[border.argmin()] - p_plus) < 2e-3
    assert (np.diff(border[p0 < p_plus]) < 0).all() and (np.diff(border[p0 > p_plus + 2e-3]) > 0).all()


@pytest.mark.parametrize("theory", [{}, {"alpha_p": 5.0}, {"eta": 0.1}, {"sigma2": 0.5, "tau": 0.7, "eta": 0.01}])
def test_golden_slope_at_the_saddle(theory):
    """G3: ds/dp = −p₋²√(τ² − 4ηa)/(α_p η)."""
    h = GOLDEN.replace(**theory)
    p_minus = float(fixed_points(h).p_minus)
    root = np.sqrt(h.tau**2 - 4 * h.eta * (1 + h.sigma2))
    want = -((h.tau - root) ** 2) / (2 * (1 + h.sigma2)) ** 2 * root / (h.alpha_p * h.eta)
    if not theory:
        assert want == pytest.approx(-0.0399240984, abs=1e-10)
    step = 1e-3 * p_minus
    below, above = critical_s0(p_minus + np.array([-step, step]), h)
    assert (above - below) / (2 * step) == pytest.approx(want, rel=1e-5)
    assert critical_s0(p_minus, h) == pytest.approx(h.x * p_minus**2 / h.alpha_p, rel=1e-12)


THEORIES = [
    GOLDEN,
    Hyperparameters(sigma2=0.1, eta=0.01, tau=0.8, alpha_p=0.3),
    Hyperparameters(sigma2=0.9, eta=0.03, alpha_p=4.0, x=0.6),
    Hyperparameters(sigma2=0.1, eta=0.2, x=1.3),  # near critical
    Hyperparameters(sigma2=0.1, eta=0.04, eta_p=0.01, alpha_p=2.0),
    Hyperparameters(sigma2=0.3, eta=0.05, eta_p=0.4, x=1.8, tau=0.9),
    Hyperparameters(sigma2=0.0, eta=0.03, eta_p=3.0, alpha_p=20.0),
]
NAMES = ["golden", "slow", "weak_mode", "near_critical", "small_eta_p", "large_eta_p", "fast_predictor"]
STARTS = np.array([-2.5, -0.4, 0.0, 0.03, 0.2, 0.9, 1.2, 1.6, 2.4])


def borders(p0, h):
    """`critical_s0` one by one: a lone point runs on plain floats, sooner than a handful of points in arrays."""
    return np.array([float(critical_s0(p, h)) for p in p0])


def saddle_of(h):
    """p₋, s₋ and the Jacobian's eigenvalues and eigenvectors there, by formula and by automatic differentiation."""
    a, r = 1 + h.sigma2, h.eta if h.eta_p is None else h.eta_p
    p = 2 * h.eta / h.x / (h.tau + np.sqrt(h.tau**2 - 4 * h.eta * a / h.x))
    s = r * p / (h.alpha_p * (h.tau - a * p))
    matrix = torch.autograd.functional.jacobian(
        lambda y: torch.stack(mode_flow(Mode(y[0], y[1]), h)), torch.tensor([p, s], dtype=torch.float64)
    )
    values, vectors = np.linalg.eig(matrix.numpy())
    order = np.argsort(values.real)
    return p, s, values[order].real, vectors[:, order].real


def survives(p0, s0, h):
    """Follow the flow until it is well past the saddle on one side."""
    p_minus, s_minus, (_, rate), _ = saddle_of(h)
    p_top, y_minus = 2 * h.tau / (1 + h.sigma2) / 2 - p_minus, np.log(s_minus)
    p_between, y_between = (p_minus + p_top) / 2, y_minus + np.log((p_minus + p_top) / (2 * p_minus))

    def up(_, v):
        return min(v[0] - p_between, v[1] - y_between)

    def down(_, v):
        return max(v[0] - p_minus / 2, v[1] - y_minus + np.log(4))

    up.terminal = down.terminal = True
    up.direction, down.direction = 1, -1
    end = solve(lambda _, v: log_flow(*v, h), [p0, np.log(s0)], 60 / rate, events=(up, down)).y[:, -1]
    alive, dead = end[0] > p_minus and end[1] > y_minus, end[0] < p_minus and end[1] < y_minus
    assert alive != dead
    return alive


@pytest.mark.parametrize("h", THEORIES, ids=NAMES)
def test_simulation_changes_its_fate_at_the_border(h):
    """A ten-thousandth above the border DOP853 ends alive, a ten-thousandth below collapsed, at every start."""
    p0 = STARTS * h.tau / h.a
    border = borders(p0, h)
    assert np.isfinite(border).all() and (border > 0).all()
    for p, s in zip(p0, border):
        assert survives(p, s * (1 + 1e-4), h), p
        assert not survives(p, s * (1 - 1e-4), h), p
    assert collapses(Mode(p0[:6:2], border[:6:2] * (1 - 1e-4)), h).all()
    assert not collapses(Mode(p0[:6:2], border[:6:2] * (1 + 1e-4)), h).any()


@pytest.mark.parametrize("h", THEORIES, ids=NAMES)
def test_border_against_the_flow_run_backwards_from_the_saddle(h):
    """An independent reading to 1e-6: along the stable eigenvector, back in time, until p reaches p0."""
    p_minus, s_minus, (rate, _), vectors = saddle_of(h)
    direction = vectors[:, 0] / vectors[0, 0]
    assert critical_s0(p_minus, h) == pytest.approx(s_minus, rel=1e-9)
    for side in (-1, 1):
        goals = [p for p in STARTS * h.tau / h.a if side * (p - p_minus) > 1e-3 * p_minus]
        step = side * 1e-6 * p_minus

        def there(_, v, goal=side * max(side * p for p in goals)):
            return v[0] - goal

        there.terminal = True
        path = solve(
            lambda _, v: -np.array(log_flow(*v, h)),
            [p_minus + step, np.log(s_minus) + direction[1] * step / s_minus],
            200 / abs(rate),
            events=there,
            dense_output=True,
        )
        crossings = [_crossing(path.sol, path.t, goal) for goal in goals]
        np.testing.assert_allclose(borders(goals, h), np.exp(crossings), rtol=1e-6)


def _crossing(path, times, goal):
    """ln s where the path's p, which moves one way, equals the goal: bisection on its time."""
    rising = path(times[-1])[0] > path(times[0])[0]
    low, high = times[0], times[-1]
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (path(middle)[0] < goal) == rising else (low, middle)
    return path(high)[1]


@pytest.mark.parametrize("eta_p", [None, 0.3])
def test_the_border_at_the_critical_decay(eta_p):
    """There p₋ = p₊ is half-stable; what lies above its strong stable manifold ends on it, the rest collapses."""
    h = Hyperparameters(sigma2=0.0, eta=0.25, eta_p=eta_p)
    ratio = 1 if eta_p is None else eta_p / 0.25
    p0 = np.array([-0.5, 0.0, 0.3, 0.8, 1.5])
    border = critical_s0(p0, h)
    assert critical_s0(0.5, h) == pytest.approx(ratio / 4)
    for factor, alive in ((1.02, True), (0.98, False)):
        for p, s in zip(p0, border):
            end = solve(lambda _, v: log_flow(*v, h), [p, np.log(factor * s)], 3000.0).y[:, -1]
            assert (end[0] > 0.49 and end[1] > np.log(0.24 * ratio)) == alive, (p, factor)
            assert (end[1] < -20) != alive


def test_infinite_above_the_critical_decay():
    eta = np.array([0.24, 0.26, 10.0])
    border = critical_s0([[0.1], [-3.0], [50.0]], Hyperparameters(sigma2=0.0, eta=eta))
    assert border.shape == (3, 3)
    assert np.isfinite(border[:, 0]).all() and np.isinf(border[:, 1:]).all()
    assert collapses(Mode(0.5, 1e6), Hyperparameters(sigma2=0.0, eta=0.3))


@pytest.mark.parametrize(("p0", "want"), [(-1.0, 1.0), (-0.3, 0.09), (0.5, 0.0), (1.5, 0.0), (2.5, 2.5**2 - 4)])
def test_a_little_weight_decay(p0, want):
    """η → 0 is η = 0 only up to p*: beyond, p itself decays and s, however small by then, grows again below p*.

    The longest such detour starts at 2p*, where ∫(1 − p)dp from there to 0 vanishes; from above it s has to bear
    p²/α_p − (2p*)²/α_p.
    """
    borders = [critical_s0(p0, FREE.replace(eta=eta, alpha_p=2.0)) for eta in (0.04, 0.02, 0.01)]
    gaps = np.abs(np.array(borders) - want / 2)
    assert gaps[2] < gaps[1] < gaps[0] and gaps[2] < 0.05
    if want == 0:
        assert gaps[2] < 1e-12 and gaps[2] < gaps[1] ** 1.5


@pytest.mark.parametrize(("eta", "eta_p"), [(0.0, 0.1), (0.1, 0.0)])
def test_unknown_where_only_one_decay_vanishes(eta, eta_p):
    assert np.isnan(critical_s0([0.2, -0.2], Hyperparameters(eta=eta, eta_p=eta_p))).all()


def test_broadcasts_and_does_not_depend_on_its_neighbours():
    h = Hyperparameters(sigma2=0.1, eta=np.array([0.0, 0.01, 0.1, 0.9]), alpha_p=np.array([[1.0], [3.0]]))
    p0 = np.array([-0.5, 0.001, 1.7])[:, None, None]
    border = critical_s0(p0, h)
    assert border.shape == (3, 2, 4)
    assert critical_s0(0.2, Hyperparameters()).shape == ()
    for i, j, k in itertools.product(range(3), range(2), range(4)):
        lone = Hyperparameters(sigma2=0.1, eta=h.eta[k], alpha_p=h.alpha_p[j, 0])
        assert critical_s0(p0[i, 0, 0], lone) == pytest.approx(border[i, j, k], rel=1e-8)
    np.testing.assert_allclose(border[:, 1], border[:, 0] / 3, rtol=1e-8)


@pytest.mark.parametrize("tau", [0.3, 1.0])
@pytest.mark.parametrize("sigma2", [0.0, 2.0])
def test_other_units_give_the_same_border(tau, sigma2):
    """p counts in τ/a, s in x(τ/a)²/α_p and η in xτ²/a: one curve for all."""
    x, alpha_p, a = 1.7, 0.6, 1 + sigma2
    unit = tau / a
    h = Hyperparameters(sigma2=sigma2, tau=tau, x=x, alpha_p=alpha_p, eta=0.04 * x * tau * unit)
    got = borders(STARTS[:-1] * unit, h)
    np.testing.assert_allclose(got / (x * unit**2 / alpha_p), borders(STARTS[:-1], GOLDEN), rtol=1e-8)


def test_refuses_bad_input():
    for theory, sentence in [
        ({"beta": 0.4}, "beta is given"),
        ({"eta": np.nan}, "eta is nan"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"tau": 2.0}, "tau is 2"),
        ({"eta_p": -1.0}, "eta_p is -1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            critical_s0(0.1, Hyperparameters(**theory))
    for p0 in (np.nan, [0.1, np.nan]):
        with pytest.raises(ValueError, match="p0 is NaN"):
            critical_s0(p0, Hyperparameters())
