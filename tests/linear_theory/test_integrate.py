"""The integrator: its order, its stated error, and its agreement with SciPy's DOP853 on every point of a grid."""

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.fixed_points import rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import (
    BalancedMode,
    EmaMode,
    Mode,
    balanced_mode_flow,
    ema_mode_flow,
    mode_flow,
    mode_of,
)
from stopgrad.linear_theory.simulation import integrate as module
from stopgrad.linear_theory.simulation import runge_kutta
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.trajectory import trajectory

H = Hyperparameters()


def reference(flow, state, h, t):
    """By DOP853 at nearly the smallest tolerance it has: fields of shape (times, *event)."""
    kind, shapes = type(state), [np.shape(v) for v in state]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def slope(_, y):
        if shapes[0] == ():  # Python floats are many times faster
            return flow(kind(*y.tolist()), h)
        fields = kind(*(f.reshape(shape) for f, shape in zip(np.split(y, cuts), shapes)))
        return np.concatenate([np.ravel(v) for v in flow(fields, h)])

    begin = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in state])
    times = np.atleast_1d(t)
    path = solve_ivp(slope, (0, times[-1]), begin, "DOP853", t_eval=times, rtol=2.3e-14, atol=2.3e-16)
    assert path.success
    return kind(*(f.T.reshape(len(times), *shape) for f, shape in zip(np.split(path.y, cuts), shapes)))


def on_grid(flow, state, h, t):
    """`reference` of a broadcast batch of modes, side by side: fields of shape (times, *batch)."""
    shape = np.broadcast_shapes(*(np.shape(v) for v in (*state, *vars(h).values()) if v is not None))
    return reference(flow, type(state)(*(np.broadcast_to(v, shape) for v in state)), h, t)


def true_error(found, exact):
    """As `Solution.error` is defined: largest over fields and times, absolute below one and relative above."""
    return np.max([np.max(np.abs(f - e) / np.maximum(np.abs(e), 1), axis=0) for f, e in zip(found, exact)], axis=0)


P0 = np.array([-0.3, 0.02, 0.1, 0.6, 1.3])
NEAR = rest_points(H).p_minus * np.array([1 - 1e-3, 1 - 1e-6, 1 + 1e-6, 1 + 1e-3])
ETA = np.array([0.0, 0.04, 0.21, 0.4])[:, None]
TIMES = np.array([3.0, 40.0])
PROBLEMS = {
    "mode": (mode_flow, Mode(P0, P0**2), H.replace(eta=ETA)),
    "off the parabola": (mode_flow, Mode(P0, np.array([0.3, 1e-3, 2.0, 1e-6, 0.05])), H.replace(eta=ETA, tau=0.7)),
    "near the separatrix": (mode_flow, Mode(NEAR, NEAR**2), H),
    "two decays": (mode_flow, Mode(P0, P0**2 + 0.1), H.replace(eta=ETA, eta_p=0.09, alpha_p=2.5)),
    "moving target": (ema_mode_flow, EmaMode(P0, P0**2 + 0.2, 0.3), H.replace(eta=ETA, beta=0.35)),
    "stiff predictor": (mode_flow, Mode(P0, P0**2 + 0.1), H.replace(eta=0.04, alpha_p=20.0)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_point_agrees_with_dop853_within_the_stated_error(name):
    flow, start, h = PROBLEMS[name]
    found = integrate(flow, start, h, t=TIMES, compiled=False)
    error = true_error(found.state, on_grid(flow, start, h, TIMES))
    assert found.resolved.all() and found.error.shape == error.shape
    assert (error <= 1e-8).all()
    # DOP853 has rounding of its own, which a saddle amplifies: e^{40·0.038} near the separatrix.
    assert (error <= found.error + 2e-12).all()


@pytest.mark.parametrize("target", ["shared", "ema"])
def test_matrix_flows_agree_with_dop853(target):
    rng = np.random.default_rng(4)
    start = Network(*(rng.normal(scale=0.4, size=(3, 2, n)) for n in (2, 3, 3)))
    data = Correlations(np.diag([1.0, 0.6, 0.3]), 0.1 * np.eye(3))
    decays = [0.02, 0.1, 0.3]
    h, switches = H.replace(beta=0.4), Switches(target=target)
    flow = functools.partial(network_flow, switches=switches)
    batch = h.replace(eta=np.reshape(decays, (3, 1, 1)))
    found = integrate(flow, start, data, batch, t=TIMES, event_dims=2)
    assert found.error.shape == (3,) and found.resolved.all()
    assert found.state.W.shape == (2, 3, 2, 3)
    for k, eta in enumerate(decays):
        one = Network(*(v[k] for v in start))
        exact = reference(lambda state, h: flow(state, data, h), one, h.replace(eta=eta), TIMES)
        error = max(np.max(np.abs(f[:, k] - e) / np.maximum(np.abs(e), 1)) for f, e in zip(found.state, exact))
        assert error <= min(1e-8, found.error[k] + 1e-12)


class Wave(NamedTuple):
    """cos and −sin."""

    x: Any
    v: Any


def wave_flow(state):
    return Wave(state.v, -state.x)


def test_the_step_is_of_order_six():
    def error(count):
        advance, y = runge_kutta.eager(runge_kutta.Problem(wave_flow, Wave, (), ())), [1.0, 0.0]
        runs = advance(y, y, 0.0, 0.0, 5.0 / count, [], [], count)[:2]
        return [np.hypot(x - np.cos(5.0), v + np.sin(5.0)) for x, v in runs]

    errors = np.array([error(n) for n in (16, 32, 64, 128)])
    np.testing.assert_allclose(errors[:-1, 1], errors[1:, 0], rtol=1e-4)  # beside it go twice as many steps
    order = np.log2(errors[:-1, 0] / errors[1:, 0])
    assert (order > 5.8).all() and (order < 6.6).all()


def test_extrapolation_pays_for_one_order_more():
    start, exact = Mode(0.3, 0.4), reference(mode_flow, Mode(0.3, 0.4), H, 10.0)
    runs = [integrate(mode_flow, start, H, t=10.0, tolerance=1e-300, most_steps=n) for n in (48, 96)]
    assert [int(r.steps) for r in runs] == [48, 96] and not any(r.resolved for r in runs)
    true = [np.max(np.abs(np.array(r.state) - np.ravel(exact))) for r in runs]
    assert true[0] > 2**6 * true[1] and all(t < r.worst_error for t, r in zip(true, runs))


def test_runs_that_end_together_in_a_wrong_place_are_not_believed(monkeypatch):
    """With steps of 15 both runs can be thrown into the wrong basin, where they agree; on the way they did not."""
    start, h = Mode(-0.4195, 0.318), Hyperparameters(sigma2=0, eta=0.1304 + np.linspace(-1e-4, 1e-4, 41))
    exact = trajectory(start, h, [400.0])

    def wrong():
        found = trajectory(start, h, [400.0], tolerance=1e-6, most_steps=48)
        return found.resolved & (true_error(found.state, exact.state) > 1e-6)

    assert not wrong().any()
    monkeypatch.setattr(runge_kutta, "APART", np.inf)
    assert wrong().any()


@pytest.mark.parametrize("rate", [0.08, 3.0])
def test_decays_are_exact_and_help(rate):
    eta = rate / 2
    h = H.replace(eta=eta)
    p0 = np.array([0.1, 0.5, 0.9])
    start = BalancedMode(p0, np.array([0.4, -1e-3, 2.0]))
    times = np.array([0.7, 9.0])
    found = integrate(balanced_mode_flow, start, h, t=times, decays={"c": rate})
    np.testing.assert_allclose(found.state.c, start.c * np.exp(-rate * times)[:, None], rtol=1e-13)
    begin = mode_of(start, h)
    exact = on_grid(mode_flow, begin, h, times)
    assert np.abs(found.state.p - exact.p).max() < 1e-9
    assert np.abs(mode_of(found.state, h).s - exact.s).max() < 1e-9


def test_decay_rates_may_differ_from_element_to_element():
    eta = np.array([0.01, 0.1, 0.5])
    found = integrate(balanced_mode_flow, BalancedMode(0.3, 0.2), H.replace(eta=eta), t=4.0, decays={"c": 2 * eta})
    np.testing.assert_allclose(found.state.c, 0.2 * np.exp(-8 * eta), rtol=1e-13)


def test_every_element_has_its_own_clock():
    units = np.array([0.5, 1.0, 7.0])
    found = integrate(mode_flow, Mode(0.2, 0.1), H, t=[1.0, 6.0], duration=units)
    for k, unit in enumerate(units):
        alone = integrate(mode_flow, Mode(0.2, 0.1), H, t=[unit, 6 * unit])
        np.testing.assert_allclose(np.array(found.state)[:, :, k], np.array(alone.state), atol=1e-10)


@pytest.mark.parametrize("times", [[0.0, 2.0, 2.5, 31.0], [1e-3, 30.0], [0.0]])
def test_several_times_equal_separate_runs(times):
    start = Mode(np.array([0.1, -0.2]), 0.3)
    together = integrate(mode_flow, start, H, t=times)
    for k, t in enumerate(times):
        alone = integrate(mode_flow, start, H, t=t)
        assert alone.state.p.shape == (2,)
        np.testing.assert_allclose(np.array(together.state)[:, k], np.array(alone.state), atol=1e-9)


def test_time_zero_is_the_start():
    found = integrate(mode_flow, Mode(np.array([0.1, 0.7]), 0.3), H, t=0.0)
    assert found.state.p.tolist() == [0.1, 0.7] and found.state.s.tolist() == [0.3, 0.3] and found.worst_error == 0


def test_one_element_equals_the_same_element_in_a_batch():
    alone = integrate(mode_flow, Mode(0.1, 0.2), H, t=20.0)
    batch = integrate(mode_flow, Mode(np.array([0.1, 0.5]), 0.2), H, t=20.0)
    assert alone.state.p.shape == ()
    assert alone.state.p == pytest.approx(batch.state.p[0], abs=1e-12)
    assert alone.state.s == pytest.approx(batch.state.s[0], abs=1e-12)


def test_torch_compile_and_eager_agree():
    """Where several numbers make one system, as here, torch.compile fuses; `test_kernel` tests the C++ programs."""
    p0 = np.linspace(-0.3, 1.2, 40).reshape(20, 2)
    h = H.replace(eta=np.array([0.0, 0.05, 0.3])[:, None, None])
    start = Mode(p0, np.full(2, 0.2))
    runs = [integrate(mode_flow, start, h, t=[2.0, 25.0], event_dims=1, compiled=c) for c in (True, False)]
    for fused, eager in zip(*(r.state for r in runs)):
        np.testing.assert_allclose(fused, eager, rtol=1e-12, atol=1e-12)
    # The same kernel serves every size, also one.
    single = integrate(mode_flow, Mode(p0[0], start.s), H.replace(eta=0.05), t=[2.0, 25.0], event_dims=1, compiled=True)
    np.testing.assert_allclose(single.state.p, runs[1].state.p[:, 1, 0], atol=1e-12)


def test_blocks_do_not_change_the_result(monkeypatch):
    p0 = np.linspace(-0.3, 1.2, 23)
    whole = integrate(mode_flow, Mode(p0, 0.2), H, t=30.0, compiled=False)
    monkeypatch.setattr(module, "_BLOCK", 5)
    parts = integrate(mode_flow, Mode(p0, 0.2), H, t=30.0, compiled=False)
    assert np.array_equal(whole.state.p, parts.state.p) and np.array_equal(whole.steps, parts.steps)


def test_inputs_are_left_alone_and_may_be_read_only():
    p0, s0, eta = np.array([0.1, 0.4]), np.array([0.2, 0.3]), np.array([0.04, 0.1])
    before = [v.copy() for v in (p0, s0, eta)]
    for v in (p0, s0, eta):
        v.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integrate(mode_flow, Mode(p0, s0), H.replace(eta=eta), t=5.0)
    assert all(np.array_equal(a, b) for a, b in zip(before, (p0, s0, eta)))


def test_what_the_steps_do_not_resolve_is_said():
    start = Mode(np.array([0.3, 0.0]), np.array([0.4, 0.0]))  # the second rests
    found = integrate(mode_flow, start, H, t=200.0, tolerance=1e-13, most_steps=64)
    assert found.resolved.tolist() == [False, True] and (found.steps <= 64).all()
    assert found.error[0] > 1e-13 and found.worst_error == found.error.max()
    enough = integrate(mode_flow, start, H, t=200.0, tolerance=1e-10)
    assert enough.resolved.all() and enough.steps[0] > enough.steps[1]


def square_flow(state):
    """x′ = x², which leaves the finite numbers at t = 1/x0; v rests."""
    return Wave(state.x * state.x, 0 * state.v)


def test_a_solution_that_blows_up_is_not_resolved():
    found = integrate(square_flow, Wave(np.array([0.1, 2.0]), 0.0), t=1.0, most_steps=2**10)
    assert found.resolved.tolist() == [True, False]
    assert found.state.x[0] == pytest.approx(1 / 9, abs=1e-10)


def test_an_empty_batch_has_an_empty_solution():
    found = integrate(mode_flow, Mode(np.zeros(0), 0.1), H, t=1.0)
    assert found.state.p.shape == (0,) and found.worst_error == 0


def test_tensors_are_taken_too():
    start = Mode(torch.tensor([0.1, 0.5], dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64))
    found = integrate(mode_flow, start, H, t=3.0)
    same = integrate(mode_flow, Mode(np.array([0.1, 0.5]), 0.2), H, t=3.0)
    assert isinstance(found.state.p, np.ndarray) and np.array_equal(found.state.p, same.state.p)


@pytest.mark.parametrize("t", [-1.0, np.nan, np.inf, [1.0, 0.5], [1.0, 1.0], [1.0, np.nan], [[1.0]]])
def test_times_that_make_no_sense_are_refused(t):
    with pytest.raises(ValueError, match="t must be finite"):
        integrate(mode_flow, Mode(0.1, 0.2), H, t=t)


@pytest.mark.parametrize("start", [Mode(np.nan, 0.1), Mode(0.1, np.array([0.1, np.nan]))])
def test_a_start_of_nan_is_refused(start):
    with pytest.raises(ValueError, match="NaN"):
        integrate(mode_flow, start, H, t=1.0)


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\).* do not broadcast"):
        integrate(mode_flow, Mode(np.ones(3), np.ones(2)), H, t=1.0)
    with pytest.raises(ValueError, match="do not broadcast"):
        integrate(mode_flow, Mode(np.ones(3), 1.0), H.replace(eta=np.full(4, 0.1)), t=1.0)
    with pytest.raises(ValueError, match="do not broadcast"):
        integrate(mode_flow, Mode(np.ones(3), 1.0), H, t=1.0, duration=np.ones(2))


# Trajectories in the user's units.


@pytest.mark.parametrize(
    "h",
    [
        Hyperparameters(0.3, np.array([[0.0], [0.02], [0.3]]), 0.8, 4.0, x=0.6),
        Hyperparameters(0.3, np.array([[0.0], [0.02], [0.3]]), 0.8, 4.0, eta_p=0.1, x=2.0),
        Hyperparameters(0.3, np.array([[0.0], [0.02], [0.3]]), 0.8, 0.5, beta=0.2, x=1.7),
    ],
    ids=["one decay", "two decays", "moving target"],
)
def test_trajectories_agree_with_dop853_in_the_users_units(h):
    p0 = np.array([-0.2 if h.beta is None else 0.02, 0.05, 0.7])  # below 0 τ passes through infinity with an EMA
    start = Mode(p0, 0.1) if h.beta is None else EmaMode(p0, 0.1, 0.4)
    flow = mode_flow if h.beta is None else ema_mode_flow
    found = trajectory(start, h, TIMES, tolerance=1e-10)
    exact = on_grid(flow, start, h, TIMES)
    for f, e in zip(found.state[:2], exact):
        np.testing.assert_allclose(f, e, rtol=1e-9, atol=1e-9)
    for f, e in zip(found.state[2:], exact[2:]):  # τ = w_a/w is known as well as w is
        seen = np.asarray(exact.s) > 1e-4
        np.testing.assert_allclose(np.asarray(f)[seen], np.asarray(e)[seen], rtol=1e-7)
    assert found.worst_error <= 1e-10 and found.resolved.all()


@pytest.mark.parametrize(
    ("start", "h", "said"),
    [
        (Mode(np.nan, 0.1), H, "initial p is not a finite"),
        (Mode(0.1, np.inf), H, "initial s is not a finite"),
        (Mode(0.1, -0.1), H, "initial s is -0.1"),
        (Mode(0.1, 0.1), H.replace(beta=0.3), "beta"),
        (EmaMode(0.1, 0.1, 0.0), H, "beta"),
        (Mode(0.1, 0.1), H.replace(eta=-0.1), "eta is -0.1"),
    ],
)
def test_trajectories_refuse_what_makes_no_sense(start, h, said):
    with pytest.raises(ValueError, match=said):
        trajectory(start, h, 1.0)


class One(NamedTuple):
    x: float


@pytest.mark.parametrize("n", [1, 3, 500])
@pytest.mark.parametrize("wrong", [lambda s: -s.x, lambda s: (-s.x, s.x), lambda s: None])
def test_a_flow_gives_one_slope_for_each_field(wrong, n):
    """A bare array would pass for as many slopes as it has entries, and every system follow the first one's."""
    with pytest.raises(TypeError, match=r"it must give One\(x\)"):
        integrate(wrong, One(np.linspace(0.1, 0.4, n)), t=10.0)
