"""Near the critical decay: a border that keeps its digits, or turns back, and modes that live for certain."""

import math

import numpy as np
import pytest
import sympy as sp
from log_modes import log_flow
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.basin import (
    Saddle,
    border_slope,
    collapses,
    critical_s0,
    lives_for_certain,
    saddle_slope,
)
from stopgrad.linear_theory.exact.fixed_points import fixed_points, rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, simulate
from stopgrad.linear_theory.sweeps.mode_problem import Problem


@pytest.mark.parametrize(
    ("p0", "eta", "eta_p"), [(2.0, 0.0015625, None), (0.9, 0.0015625, None), (2.0, 1e-4, None), (1.5, 0.2, 0.0002)]
)
def test_the_border_is_right_to_its_tolerance_where_its_logarithm_is_large(p0, eta, eta_p):
    """On its way to p0 the border falls to 10⁻¹²⁰ and far lower, and beyond p₊ it rises again; Radau to 3e-11."""
    h = Hyperparameters(0.0, eta, eta_p=eta_p)
    rest = rest_points(h)
    saddle = Saddle(float(rest.p_minus), float(rest.s_minus), float(rest.p_plus - rest.p_minus))
    start = 1e-7 * saddle.p_minus
    end = math.log((p0 - saddle.p_minus) / start)

    def slope(u, y):
        d = start * math.exp(u)
        return [d * border_slope(d, float(y[0]), saddle, h)]

    begin = [saddle_slope(saddle, h) * start]
    y = solve_ivp(slope, (0, end), begin, "Radau", rtol=1e-11, atol=1e-11).y[0, -1]
    assert float(critical_s0(p0, h)) == pytest.approx(float(rest.s_minus) * math.exp(y), rel=1e-10, abs=0)


def test_where_the_border_turns_back_no_single_s0_is_told_and_fates_are_simulated():
    """η near η_c and η_p far below: modes live between two s0, so that to be told one of them would be wrong."""
    h = Hyperparameters(0.0, 0.24, eta_p=0.00024)
    assert np.isnan(critical_s0([-1.0, 0.5, 3.0], h)).all()
    with pytest.raises(ValueError, match="turns back"):
        collapses(Mode(0.5, 0.1), h)
    p0, s0 = np.array([[0.5], [0.7], [1.5]]), 10.0 ** np.array([-6.0, -3.0, -2.5, -2.0, -1.5, 2.0])
    lives = Problem(h).survives({"p0": p0, "s0": s0})
    settled = np.log(fixed_points(h).s_plus)
    for k, j in np.ndindex(lives.shape):
        start = p0[k, 0], np.log(s0[j])
        _, end = solve_ivp(lambda _, y: log_flow(*y, h), (0, 2e5), start, "LSODA", rtol=1e-8, atol=1e-8).y[:, -1]
        assert lives[k, j] == (abs(end - settled) < 0.01) != (end < -50), (k, j)
    assert lives.tolist() == [[True] * 4 + [False] * 2, [True] * 3 + [False] * 3, [False] * 6]


def test_the_lyapunov_function_falls_as_it_is_said_to():
    p, s, eta, eta_p, top = sp.symbols("p s eta eta_p p_+", positive=True)
    level = eta_p * top / (1 - top)
    flow = mode_flow(Mode(p, s), Hyperparameters(sigma2=0, eta=eta, eta_p=eta_p))
    V = s - level * sp.log(s) - p**2 - 2 * eta * sp.log(1 - p)
    said = 2 * eta_p * (p * (1 - p) - eta) * (p / (1 - p) - top / (1 - top))
    assert sp.simplify(sp.diff(V, p) * flow.p + sp.diff(V, s) * flow.s - said) == 0


@pytest.mark.parametrize("ratio", [0.005, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("eta", [0.05, 0.2, 0.24])
def test_what_lives_for_certain_lives(eta, ratio):
    """In units of its own, off which the function must read the same."""
    h = Hyperparameters(0.3, eta * 0.25 / 1.3, 0.5, 2.0, eta_p=ratio * eta * 0.25 / 1.3)
    rest, rng = fixed_points(h), np.random.default_rng(0)
    p = rest.p_plus + (rest.p_plus - rest.p_minus) * rng.uniform(-1.2, 0.8, 300)
    s = rest.s_plus * np.exp(rng.uniform(-1, 1, 300) / np.sqrt(max(ratio, 0.2)))
    found = lives_for_certain(Mode(p, s), h)
    assert 0.02 < found.mean() < 0.98 and not found[p < rest.p_minus].any()
    for k in np.flatnonzero(found)[::8]:
        start = p[k], np.log(s[k])
        _, end = solve_ivp(lambda _, y: log_flow(*y, h), (0, 2e5), start, "LSODA", rtol=1e-6, atol=1e-6).y[:, -1]
        assert end == pytest.approx(np.log(rest.s_plus), abs=0.02)


@pytest.mark.parametrize("eta_p", [None, 0.08, 0.5])
def test_a_start_beyond_the_border_collapses_near_the_critical_decay(eta_p):
    """p = 1 and s above that of the parabola at ½, which is no sign of life there."""
    h = Hyperparameters(0.0, 0.249, eta_p=eta_p)
    edge = float(critical_s0(1.0, h))
    assert simulate(Mode(1.0, [0.9 * edge, 1.1 * edge]), h).fate.tolist() == [COLLAPSED, ALIVE]


def test_with_weight_decay_on_one_of_the_two_everything_collapses():
    assert collapses(Mode(0.5, [0.1, 9.0]), Hyperparameters(0.0, 0.1, eta_p=0.0)).all()
    assert collapses(Mode(0.5, [0.1, 9.0]), Hyperparameters(0.0, 0.0, eta_p=0.1)).all()


def test_no_proof_for_a_moving_target():
    with pytest.raises(ValueError, match="beta is given"):
        lives_for_certain(Mode(0.8, 0.6), Hyperparameters(beta=0.1))
