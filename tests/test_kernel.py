"""The integrator's C++ programs: they do what the eager steps do, for every flow of plain operators, and are kept."""

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from linear_theory import kernel as module
from linear_theory import runge_kutta
from linear_theory.closed_loop import Amplitudes, closed_loop_flow, optimal_regression_flow
from linear_theory.discrete import Weights, weights_flow
from linear_theory.hyperparameters import Hyperparameters
from linear_theory.integrate import integrate
from linear_theory.mode_flow import (
    BalancedMode,
    EmaMode,
    Mode,
    ScalarNetwork,
    balanced_mode_flow,
    ema_mode_flow,
    mode_flow,
    scalar_network_flow,
)
from linear_theory.nonisotropic import Online, predictorless_flow, tied_flow
from linear_theory.runge_kutta import SLOT, Problem, map_leaves

pytestmark = pytest.mark.skipif(module.compiler() is None, reason="there is no C++ compiler")

P = np.linspace(-0.3, 1.2, 45)
ETA = np.geomspace(1e-3, 0.4, 45)
H = Hyperparameters(0.2, ETA, 0.8, 1.7, beta=0.3, eta_p=0.07, x=1.3)
TIED = Hyperparameters(0, ETA, 1, 1)
PROBLEMS = {
    "mode": (mode_flow, Mode(P, 0.2), H),
    "constants that are ints": (mode_flow, Mode(P, P * P), TIED),
    "all alike but one": (mode_flow, Mode(0.3, P * P), H.replace(eta=0.04)),
    "moving target": (ema_mode_flow, EmaMode(P, 0.3, 0.5), H),
    "scalar network": (scalar_network_flow, ScalarNetwork(P, 0.4, 0.2), H),
    "weights": (weights_flow, Weights(P, 0.4), H),
    "tied": (tied_flow, Online(P, 0.3), H),
    "no predictor": (predictorless_flow, Online(P, 0.3), H),
    "one field": (optimal_regression_flow, Amplitudes(np.abs(P)), H),
    "balance": (balanced_mode_flow, BalancedMode(P, 0.1), TIED),
}
EXTRAS = {
    "decay, each its own": ("balance", {"decays": {"c": 2 * ETA}}),
    "decay, one for all": ("balance", {"decays": {"c": 0.3}}),
    "nothing but decays": ("balance", {"decays": {"c": 2 * ETA, "p": 0.1}}),
    "own clocks": ("mode", {"duration": np.linspace(0.1, 3, 45)}),
    "own clocks and decay": ("balance", {"decays": {"c": 2 * ETA}, "duration": np.linspace(0.1, 3, 45)}),
    "one clock": ("moving target", {"duration": 0.7}),
}


def both(flow, start, *args, **options):
    """The fused and the eager solution."""
    return [integrate(flow, start, *args, compiled=c, **options) for c in (True, False)]


def served(flow, start, *args, **options) -> bool:
    """Whether a program is made for this call of `integrate`."""
    problem = Problem(flow, type(start), map_leaves(lambda _: SLOT, args), tuple(options.get("decays", ())))
    leaves: list = []
    map_leaves(lambda v: leaves.append(np.ndim(v) > 0), args)
    rates = [np.ndim(v) > 0 for v in options.get("decays", {}).values()]
    return module.kernel(problem, (*leaves, *rates, np.ndim(options.get("duration", 1.0)) > 0)) is not None


def assert_equal(fused, eager):
    for f, e in zip(fused.state, eager.state):
        np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(fused.error, eager.error, rtol=1e-9, atol=1e-13)
    assert np.array_equal(fused.steps, eager.steps)


@pytest.mark.parametrize("name", [*PROBLEMS, *EXTRAS])
@pytest.mark.parametrize("t", [9.0, [0.0, 0.5, 1.0, 7.0, 11.0]], ids=["one time", "several"])
def test_a_program_takes_the_steps_that_eager_takes(name, t):
    name, options = EXTRAS.get(name, (name, {}))
    flow, start, h = PROBLEMS[name]
    assert served(flow, start, h, **options)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_equal(*both(flow, start, h, t=t, most_steps=48, **options))  # one round: the same steps in both


@pytest.mark.parametrize("name", PROBLEMS)
def test_refinement_comes_to_the_same(name):
    flow, start, h = PROBLEMS[name]
    fused, eager = both(flow, start, h, t=[1.0, 30.0], tolerance=1e-10)
    assert np.array_equal(fused.resolved, eager.resolved) and fused.worst_error <= 1e-10
    for f, e in zip(fused.state, eager.state):
        np.testing.assert_allclose(f, e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 255, 257, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_size_on_any_number_of_threads(size, threads):
    start, h = Mode(np.linspace(-0.2, 1, size), 0.3), H.replace(eta=np.linspace(0, 0.3, size))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal(*both(mode_flow, start, h, t=[3.0, 11.0], most_steps=48))
    finally:
        torch.set_num_threads(before)


def test_shapes_broadcast_and_a_lone_number_is_served():
    grid = integrate(mode_flow, Mode(P, 0.2), TIED.replace(eta=ETA[:7, None]), t=9.0, compiled=True)
    assert grid.state.p.shape == (7, 45)
    alone = integrate(mode_flow, Mode(P[3], 0.2), TIED.replace(eta=float(ETA[2])), t=9.0, compiled=True)
    assert alone.state.p.shape == () and alone.state.p == pytest.approx(grid.state.p[2, 3], abs=1e-13)
    empty = integrate(mode_flow, Mode(np.zeros(0), 0.2), TIED.replace(eta=0.1), t=9.0, compiled=True)
    assert empty.state.p.shape == (0,) and empty.worst_error == 0


class Pair(NamedTuple):
    x: Any
    v: Any


def every_operator(state, a, b):
    x, v = state
    return Pair(-x / (2 + a * x) - 0.5 * v + 1, (3 - v) / 7 - b + 1 / (1.5 + x * x) - np.float64(0.1) * v + x - 2)


def test_every_operator_is_recorded_on_both_sides():
    start = Pair(np.linspace(0, 1, 40), 0.3)
    assert served(every_operator, start, 0.3, np.linspace(0, 1, 40))
    assert_equal(*both(every_operator, start, 0.3, np.linspace(0, 1, 40), t=5.0, most_steps=48))


def square_flow(state):
    """x′ = x², which leaves the finite numbers at t = 1/x0; v rests."""
    return Pair(state.x * state.x, 0 * state.v)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_overflow_is_told_as_eager_tells_it():
    start = Pair(np.concatenate([np.linspace(0.1, 0.9, 20), [2.0, 1e3, 1e200, np.inf]]), 0.2)
    assert served(square_flow, start)
    fused, eager = both(square_flow, start, t=[0.5, 1.0], most_steps=2**10)
    assert np.array_equal(fused.resolved, eager.resolved) and fused.resolved.tolist() == [True] * 20 + [False] * 4
    assert np.array_equal(np.isfinite(fused.error), np.isfinite(eager.error)) and np.isinf(fused.error[-1])
    np.testing.assert_allclose(fused.state.x[:, :20], eager.state.x[:, :20], rtol=1e-12)
    assert np.array_equal(np.isfinite(fused.state.x), np.isfinite(eager.state.x))


def test_runs_that_were_far_apart_are_not_believed():
    h = Hyperparameters(sigma2=0, eta=0.1304 + np.linspace(-1e-4, 1e-4, 41))
    fused, eager = both(mode_flow, Mode(-0.4195, 0.318), h, t=400.0, most_steps=48, tolerance=1e-6)
    assert np.array_equal(fused.resolved, eager.resolved) and not fused.resolved.all()
    assert np.array_equal(fused.error > 0.01, eager.error > 0.01)


def rooted(state):
    return Pair(np.sqrt(state.x), state.v)


def rooted_in_torch(state):
    return Pair(torch.sqrt(torch.as_tensor(state.x)), state.v)


def chosen(state):
    return Pair(state.x if state.x else state.v, state.v)


def compared(state):
    return Pair(state.x * (state.x > 0), state.v)


def equated(state):
    return Pair(state.x * (state.x == 1), state.v)


def weighed(state, weight=torch.ones(1, dtype=torch.float64)):
    return Pair(state.x * weight, state.v)


def infinite(state):
    return Pair(state.x * np.inf, state.v)


@pytest.mark.parametrize("flow", [rooted, rooted_in_torch, chosen, compared, equated, weighed, infinite])
def test_a_flow_of_more_than_operators_is_not_served(flow):
    assert not served(flow, Pair(0.1, 0.2))


def test_torch_compile_is_asked_for_a_flow_of_more_than_operators(monkeypatch):
    asked = []

    def fused(problem, compiler):  # the compiling itself is tested with the closed loop's flows
        asked.append(problem.flow)
        return runge_kutta.eager(problem)

    monkeypatch.setattr(runge_kutta, "fused", fused)
    flow = functools.partial(closed_loop_flow, spectrum=torch.sqrt, seen="means")
    start, h = Amplitudes(np.linspace(0.1, 1, 6)), H.replace(eta=0.05)
    runs = both(flow, start, h, t=4.0)
    assert asked == [flow] and np.array_equal(runs[0].state.r, runs[1].state.r)
    both(mode_flow, Mode(P, 0.2), TIED, t=4.0)
    assert asked == [flow]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder, and nothing remembered of the one before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module.kernel.cache_clear()
    yield tmp_path / "stopgrad" / "kernels"
    module.kernel.cache_clear()


def solved():
    return integrate(square_flow, Pair(np.linspace(0.1, 0.5, 10), 0.2), t=1.0, compiled=True)


def test_a_program_is_compiled_once(cache, monkeypatch):
    first = solved()
    (kept,) = cache.iterdir()
    assert kept.suffix == ".so"
    module.kernel.cache_clear()  # as in the next process
    monkeypatch.setattr(module.subprocess, "run", None)
    assert np.array_equal(solved().state.x, first.state.x)


@pytest.mark.parametrize("damage", [b"", b"no program"])
def test_a_damaged_program_is_compiled_again(cache, damage):
    cache.mkdir(parents=True)
    problem = Problem(square_flow, Pair, (), ())
    text = module.source(problem, (False,))
    path = module.place(text)[1]
    path.write_bytes(damage)
    expected = integrate(square_flow, Pair(np.linspace(0.1, 0.5, 10), 0.2), t=1.0, compiled=False)
    np.testing.assert_allclose(solved().state.x, expected.state.x, rtol=1e-13)
    assert [p.name for p in cache.iterdir()] == [path.name] and path.stat().st_size > 1000


def test_a_folder_that_cannot_be_written_does_no_harm(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert solved().resolved.all()


def test_a_compiler_that_fails_is_told(cache, monkeypatch):
    monkeypatch.setattr(module, "_FLAGS", ("-no-such-flag",))
    with pytest.warns(UserWarning, match="C\\+\\+ compiler failed.*no-such-flag"):
        assert not served(square_flow, Pair(0.1, 0.2))
    assert not list(cache.iterdir())


def test_a_missing_compiler_gives_one_warning_and_still_works(cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    module.compiler.cache_clear()
    start = Mode(np.linspace(0.1, 0.9, 5), 0.2)
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            runs = [integrate(mode_flow, start, TIED.replace(eta=0.1), t=10.0, compiled=True) for _ in range(3)]
    finally:
        monkeypatch.undo()
        module.compiler.cache_clear()
    told = [str(w.message) for w in seen if "C++ compiler" in str(w.message)]
    assert len(told) == 1 and "no-such-compiler" in told[0]
    eager = integrate(mode_flow, start, TIED.replace(eta=0.1), t=10.0, compiled=False)
    assert all(np.array_equal(r.state.p, eager.state.p) for r in runs)
