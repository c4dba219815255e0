"""Stiff systems: known digits, SciPy's Radau as judge, and what cannot be followed is said to be undecided."""

import functools
import time
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import BalancedMode, EmaMode, Mode, balanced_mode_flow, ema_mode_flow, mode_flow
from stopgrad.linear_theory.simulation import stiff
from stopgrad.linear_theory.simulation.fate import ALIVE, UNDECIDED, at_time, simulate
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.trajectory import trajectory
from stopgrad.linear_theory.sweeps.axes import parse_axis
from stopgrad.linear_theory.sweeps.mode_problem import Problem, Start
from stopgrad.linear_theory.sweeps.phase_diagram import phase_diagram

H = Hyperparameters()
ALPHA = np.array([1e2, 1e4, 1e6])
P = np.array([0.89056042217747, 0.90873357461955, 0.90908729966459])
S = np.array([0.01708879809986, 0.00924039911533, 0.00915864588409])


def radau(flow, start, h, t, size):
    """So many systems by Radau, side by side: the state at t, (fields, systems), to some 1e-13."""

    def slope(_, y):
        fields = np.moveaxis(y.reshape(len(start), size, -1), -1, 1)  # columns before systems
        slopes = np.stack([np.broadcast_to(v, fields.shape[1:]) for v in flow(type(start)(*fields), h)])
        return np.moveaxis(slopes, 1, -1).reshape(y.shape)

    begin = np.concatenate([np.broadcast_to(v, size) for v in start])
    path = solve_ivp(slope, (0, t), begin, "Radau", rtol=1e-10, atol=1e-13, vectorized=True)
    return path.y[:, -1].reshape(len(start), size)


def test_a_fast_predictor_comes_to_the_known_digits():
    found = trajectory(Mode(0.0, 0.5), H.replace(alpha_p=ALPHA), 50.0)
    np.testing.assert_allclose(found.state.p, P, atol=1e-13)
    np.testing.assert_allclose(found.state.s, S, atol=1e-13)
    np.testing.assert_allclose(found.state.s - found.state.p**2 / ALPHA, np.exp(-4) / 2, rtol=1e-12)
    assert found.resolved.all() and found.engine.endswith("VODE")


@pytest.mark.parametrize("k", range(3))
def test_so_does_one_alone_and_along_the_way(k):
    found = trajectory(Mode(0.0, 0.5), H.replace(alpha_p=ALPHA[k]), [0.0, 1e-7, 1.0, 50.0], tolerance=1e-10)
    assert found.state.p[0] == 0 and found.state.s[0] == pytest.approx(0.5, rel=1e-14)
    assert [found.state.p[-1], found.state.s[-1]] == pytest.approx([P[k], S[k]], abs=5e-13)
    assert found.resolved and found.engine == "Python floats" + ", VODE" * (k > 0)


@pytest.mark.parametrize(
    ("flow", "start", "h"),
    [
        (mode_flow, Mode(0.1, 0.5), H.replace(eta_p=0.3, alpha_p=np.geomspace(1e3, 1e6, 4))),
        (mode_flow, Mode(-0.3, 0.5), H.replace(eta_p=np.geomspace(1e3, 1e5, 3))),
        (ema_mode_flow, EmaMode(0.1, 0.5, 0.2), H.replace(beta=0.3, alpha_p=np.geomspace(1e3, 1e5, 3))),
        (ema_mode_flow, EmaMode(0.1, 0.5, 0.2), H.replace(beta=np.geomspace(1e3, 1e5, 3))),
    ],
)
def test_any_flow_agrees_with_radau_within_the_stated_error(flow, start, h):
    found = integrate(flow, start, h, t=8.0)
    exact = radau(flow, start, h, 8.0, len(found.error))
    error = np.max(np.abs(np.array(found.state) - exact) / np.maximum(np.abs(exact), 1), axis=0)
    assert (error <= np.maximum(found.error, 1e-11)).all()
    assert found.resolved.all() and "VODE" in found.engine


def test_decays_and_clocks_are_kept():
    h, unit, rate = H.replace(eta=0.1), np.array([0.5, 2.0]), 0.2
    start = BalancedMode(np.array([0.3, -0.1]), np.array([1e4, 1e5]))
    found = integrate(balanced_mode_flow, start, h, t=[1.0, 8.0], decays={"c": rate}, duration=unit)
    np.testing.assert_allclose(found.state.c, start.c * np.exp(-rate * np.outer([1.0, 8.0], unit)), rtol=1e-13)
    for k in range(2):
        one = BalancedMode(start.p[k], start.c[k])
        assert found.state.p[1, k] == pytest.approx(radau(balanced_mode_flow, one, h, 8 * unit[k], 1)[0, 0], abs=1e-9)
    assert "VODE" in found.engine


def test_matrices_move_as_the_mode_does():
    one, h = np.ones((1, 1)), H.replace(alpha_p=np.array([1e4, 1e5])[:, None, None])
    start = Network(0.2 * one, 0.8 * one, 0 * one)
    data = Correlations(one, H.sigma2 * one)
    found = integrate(functools.partial(network_flow, switches=Switches()), start, data, h, t=10.0, event_dims=2)
    mode = trajectory(Mode(0.2, 0.64), H.replace(alpha_p=np.array([1e4, 1e5])), 10.0)
    np.testing.assert_allclose(found.state.Wp[:, 0, 0], mode.state.p, atol=1e-9)
    np.testing.assert_allclose(found.state.W[:, 0, 0] ** 2, mode.state.s, atol=1e-9)
    assert "VODE" in found.engine


def test_a_diagram_with_few_stiff_cells_takes_seconds_and_is_that_of_the_separatrix():
    x, y = parse_axis("alpha_p=1:1e6:13:log"), parse_axis("eta=0.01:0.2:9")
    problem, began = Problem(H, Start(0.0, 0.5)), time.process_time()
    found = phase_diagram(x, y, problem)
    assert time.process_time() - began < 30  # of the processor; it took more than six minutes
    survive = problem.survives({"alpha_p": x.values, "eta": y.values[:, None]})
    assert np.array_equal(found.fate == ALIVE, survive) and not (found.fate == UNDECIDED).any()
    assert found.attrs["worst_error"] < 1e-5
    below = phase_diagram(x, y, Problem(H, Start(-0.4, 0.02)))
    survive = Problem(H, Start(-0.4, 0.02)).survives({"alpha_p": x.values, "eta": y.values[:, None]})
    assert np.array_equal(below.fate == ALIVE, survive) and 0 < survive.sum() < survive.size


@pytest.mark.parametrize("follow", [simulate, functools.partial(at_time, t_end=50.0)])
def test_what_cannot_be_followed_is_undecided(monkeypatch, follow):
    monkeypatch.setattr(stiff, "_EVALUATIONS", 10)
    found = follow(Mode(0.0, 0.5), H.replace(alpha_p=np.array([1.0, 1e6])))
    assert found.fate.tolist() == [ALIVE, UNDECIDED] and np.isfinite(found.p[0]) and np.isnan(found.time_to_converge[1])


class Pair(NamedTuple):
    x: Any
    v: Any


def bursting(state, rate):
    """v decays at `rate`; x′ = x², which leaves the finite numbers at t = 1/x0."""
    return Pair(state.x * state.x, 1 - rate * state.v)


def test_one_that_leaves_the_finite_numbers_does_not_spoil_the_others():
    x0 = np.array([0.1, 0.2, 3.0, 0.3, 0.4])
    found = integrate(bursting, Pair(x0, 2.0), 1e6, t=1.0)
    assert found.resolved.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(found.state.x[found.resolved], (x0 / (1 - x0))[found.resolved], rtol=1e-8)
    np.testing.assert_allclose(found.state.v[found.resolved], 1e-6, rtol=1e-6)


def test_the_engine_follows_from_systems_times_steps():
    start = Mode(np.linspace(0.1, 0.5, 3), 0.3)
    assert integrate(mode_flow, start, H, t=1.0).engine == "NumPy"
    assert integrate(mode_flow, start, H, t=np.linspace(1, 50, 400)).engine == "C++"
    assert integrate(mode_flow, Mode(np.linspace(0.1, 0.5, 20_000), 0.3), H, t=1.0).engine == "C++"
    assert integrate(mode_flow, Mode(0.1, 0.3), H, t=1.0).engine == "Python floats"
    assert integrate(mode_flow, start, H.replace(alpha_p=30.0), t=60.0).engine == "NumPy, C++"  # few, of many steps


def test_small_tensors_are_handled_by_one_thread():
    seen = []

    def flow(state):
        seen.append(torch.get_num_threads())
        return Pair(torch.cos(state.x), -state.v)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = integrate(flow, Pair(np.linspace(0.1, 1, 50), 0.3), t=1.0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert found.engine == "torch" and set(seen[1:]) == {1}
