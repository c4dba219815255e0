"""The integrator's C++ programs: they do what the eager steps do, for every flow of plain operators, and are kept."""

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from stopgrad.linear_theory.exact.closed_loop import Amplitudes, closed_loop_flow, optimal_regression_flow
from stopgrad.linear_theory.exact.discrete import Weights, weights_flow
from stopgrad.linear_theory.exact.nonisotropic import Online, predictorless_flow, tied_flow
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import (
    BalancedMode,
    EmaMode,
    Mode,
    ScalarNetwork,
    balanced_mode_flow,
    ema_mode_flow,
    mode_flow,
    scalar_network_flow,
)
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum, directset_spectrum, namespace
from stopgrad.linear_theory.simulation import kernel as module
from stopgrad.linear_theory.simulation import runge_kutta
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.kernel_source import Given
from stopgrad.linear_theory.simulation.runge_kutta import SLOT, Problem, map_leaves

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


def served(flow, start, *args, event_dims=0, **options) -> bool:
    """Whether a program is made for this call of `integrate`."""
    problem = Problem(flow, type(start), map_leaves(lambda _: SLOT, args), tuple(options.get("decays", ())))
    leaves: list = []
    map_leaves(leaves.append, args)
    given = [*leaves, *options.get("decays", {}).values(), options.get("duration", 1.0)]

    def described(v, batched):
        return Given(batched, np.shape(v)[max(np.ndim(v) - event_dims, 0) :])

    fields = [described(v, True) for v in start]
    return module.kernel(problem, (*fields, *(described(v, np.ndim(v) > event_dims) for v in given))) is not None


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


def powers(state, a):
    x, v = state
    return Pair(x**2 - x**3 / 3 + x**-1 - (1 + v * v) ** 0.5, x**a - v**3 + (1 + x) ** -0.7 + 2**v - x**1)


def functions(state, a):
    (x, v), xp = state, namespace(state.x)
    root = xp.exp(-x) - xp.sqrt(x) + xp.log(1 + x * x)
    return Pair(root, abs(v - 0.2) - xp.maximum(x, a) * v + xp.minimum(x, v) + xp.square(v.clip(0.1, 0.4)))


def functions_of_torch(state, a):
    x, v = state
    return Pair(
        torch.exp(-x) - torch.sqrt(x) + torch.log(1 + x * x), torch.abs(v) - torch.maximum(x, v) * torch.pow(v, 2)
    )


def compared(state, a):
    (x, v), xp = state, namespace(state.x)
    return Pair((x > 0.5) * v - (x <= a) * x, xp.where(v < 0.4, x, v) - 2 * v * (v >= 0.3))


@pytest.mark.parametrize("flow", [powers, functions, functions_of_torch, compared])
def test_powers_roots_exponentials_and_choices_are_recorded(flow):
    start, a = Pair(np.linspace(0.05, 1.2, 40), np.linspace(0.9, 0.1, 40)), np.linspace(0.3, 0.8, 40)
    assert served(flow, start, a)
    fused, eager = both(flow, start, a, t=[0.5, 2.0], most_steps=48)
    assert_equal(fused, eager)
    assert fused.engine == "C++" and eager.engine == ("torch" if flow is functions_of_torch else "NumPy")


def test_a_root_of_less_than_nothing_is_told_as_eager_tells_it():
    start = Pair(np.array([-1.0, np.inf, 0.5]), 0.2)
    fused, eager = both(functions, start, np.full(3, 0.3), t=1.0, most_steps=48)
    assert np.array_equal(np.isfinite(fused.error), np.isfinite(eager.error)) and np.isinf(fused.error[0])


MODES = H.replace(x=np.array([1.0, 0.6, 0.2]), eta=np.linspace(0.01, 0.1, 20)[:, None], beta=None)
START = Amplitudes(np.linspace(0.05, 0.9, 60).reshape(20, 3))
SPECTRA = {
    "DirectPred": (directpred_spectrum, "views", np.geomspace(0.01, 2, 20)[:, None]),
    "DirectPred, cut off": (directpred_spectrum, "means", 0.1, 0.05),
    "the released code": (directpred_spectrum, "views", 0.1, 0.0, "spectral", 1e-4),
    "DirectSet": (directset_spectrum, "views", 0.7, 0.05),
    "DirectCopy": (directset_spectrum, "means", 1.0, 0.1, "frobenius"),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_systems_of_several_modes_are_served(name):
    arguments = (closed_loop_flow, START, MODES, *SPECTRA[name])
    assert served(*arguments, event_dims=1)
    assert_equal(*both(*arguments, event_dims=1, t=[2.0, 15.0], most_steps=48))


@pytest.mark.parametrize("switches", [Switches(), Switches("ema"), Switches(stop_gradient="none")], ids=str)
def test_small_matrices_are_served(switches):
    rng = np.random.default_rng(3)
    start = Network(*(rng.normal(scale=0.4, size=(30, *shape)) for shape in ((1, 1), (1, 3), (1, 3))))
    data = Correlations(np.diag([1.0, 0.6, 0.3]), 0.1 * np.eye(3))
    arguments = (network_flow, start, data, H.replace(eta=np.linspace(0, 0.2, 30)[:, None, None]), switches)
    assert served(*arguments, event_dims=2)
    assert_equal(*both(*arguments, event_dims=2, t=[1.0, 6.0], most_steps=48))


def unknown(state):
    return Pair(np.sinh(state.x), state.v)


def unknown_in_torch(state):
    return Pair(torch.erf(state.x), state.v)


def rooted_in_torch(state):
    return Pair(torch.sqrt(torch.as_tensor(state.x)), state.v)


def branching(state):
    return Pair(state.x if state.x else state.v, state.v)


def equated(state):
    return Pair(state.x * (state.x == 1), state.v)


def weighed(state, weight=torch.ones(1, dtype=torch.float64)):
    return Pair(state.x * weight, state.v)


def infinite(state):
    return Pair(state.x * np.inf, state.v)


def endless(state):
    x = state.x
    for k in range(1000):
        x = x + k * state.v
    return Pair(x, state.v)


def short(state):
    return (state.x,)


REFUSED = [unknown, unknown_in_torch, rooted_in_torch, branching, equated, weighed, infinite, endless, short]


@pytest.mark.parametrize("flow", REFUSED)
def test_a_flow_that_cannot_be_recorded_is_not_served_and_says_so(flow):
    module.kernel.cache_clear()
    with pytest.warns(UserWarning, match=f"{flow.__name__} is integrated by torch"):
        assert not served(flow, Pair(0.1, 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not served(flow, Pair(0.1, 0.2))  # it is said once


def test_torch_compile_is_asked_for_a_flow_that_cannot_be_recorded(monkeypatch):
    asked = []

    def fused(problem, compiler):  # the compiling itself is tested with `test_integrate`
        asked.append(problem.flow)
        return runge_kutta.eager(problem)

    monkeypatch.setattr(runge_kutta, "fused", fused)
    flow = functools.partial(closed_loop_flow, spectrum=torch.erf, seen="means")
    start, h = Amplitudes(np.linspace(0.1, 1, 6)), H.replace(eta=0.05)
    with pytest.warns(UserWarning, match="closed_loop_flow is integrated by torch"):
        runs = both(flow, start, h, t=4.0)
    assert set(asked) == {flow} and np.array_equal(runs[0].state.r, runs[1].state.r)
    assert [run.engine for run in runs] == ["torch.compile", "torch"]
    both(mode_flow, Mode(P, 0.2), TIED, t=4.0)
    assert set(asked) == {flow}


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
    text = module.source(problem, (Given(True), Given(True), Given(False)))
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
