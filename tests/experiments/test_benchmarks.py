"""The benchmark measures what it says: every engine solves the task, rounds are judged, rows are honest.

No test asserts a speed. Peers that are not installed are skipped here as they are in the benchmark.
"""

import json
import math
import sys

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from stopgrad.experiments.benchmarks import engines, ode, rounds
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow


@pytest.fixture
def quick(monkeypatch):
    """No waiting for a quiet machine and no second attempt at a round."""
    monkeypatch.setattr(rounds, "ATTEMPTS", 1)
    monkeypatch.setattr(rounds, "PATIENCE", 0.0)
    monkeypatch.setattr(rounds, "PAUSE", 0.0)


def off_parabola_task(points=60):
    """Random starts with s0 unrelated to p0², so that an engine that leans on the invariant parabola fails."""
    draw = np.random.default_rng(7)
    return engines.Task(
        draw.uniform(0, 0.3, points), draw.uniform(-0.2, 1, points), draw.uniform(0, 1, points), 20.0, 0.3
    )


def one_by_one(task):
    """The end states by SciPy's DOP853, point by point, from the flow of linear_theory."""

    def one(p0, s0, eta):
        h = Hyperparameters(sigma2=task.sigma2, eta=eta)
        rate = lambda t, y: mode_flow(Mode(*y), h)  # noqa: E731
        return solve_ivp(rate, (0, task.t), (p0, s0), method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]

    return np.array([one(*point) for point in zip(task.p0, task.s0, task.eta)]).T


@pytest.fixture(scope="module")
def truth():
    return one_by_one(off_parabola_task())


def test_flow_of_the_peers_is_the_mode_flow():
    draw = np.random.default_rng(1)
    p, s, eta, sigma2 = draw.uniform(-1, 1, (4, 100))
    expected = mode_flow(Mode(p, s), Hyperparameters(sigma2=sigma2, eta=eta))
    np.testing.assert_allclose(engines.flow(p, s, eta, 1 + sigma2), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ode.ENGINES)
def test_engine_solves_any_start(name, truth):
    task = off_parabola_task()
    for package in ode.ENGINES[name].packages:
        pytest.importorskip(package)
    p, s = ode.ENGINES[name].build(task)()
    assert p.shape == s.shape == task.p0.shape
    assert ode.worst_error((p, s), truth) < ode.ALLOWED_ERROR


def test_reference_is_far_tighter_than_what_it_judges():
    task = engines.grid_task(7)
    reference = engines.scipy_one_system(task, "DOP853", ode.REFERENCE_TOLERANCE)
    assert ode.worst_error(reference, one_by_one(task)) < 1e-4 * ode.ALLOWED_ERROR


def test_grid_is_the_product_of_both_axes():
    task = engines.grid_task(4)
    assert {(e, p) for e, p in zip(task.eta, task.p0)} == {
        (e, p) for e in np.linspace(0, 0.3, 4) for p in np.linspace(0.01, 1, 4)
    }
    np.testing.assert_array_equal(task.s0, task.p0**2)
    assert (task.t, task.sigma2, task.a) == (50.0, 0.1, 1.1)


@pytest.mark.parametrize(("points", "expected"), [(None, 16), (1, 1), (5, 5), (16, 16), (64, 16)])
def test_sample_is_spread_over_the_task(points, expected):
    task = engines.grid_task(4)
    chosen = task.spread(points)
    assert chosen.size == expected
    assert chosen.size == 1 or (chosen[0], chosen[-1]) == (0, 15)
    np.testing.assert_array_equal(task.take(chosen).p0, task.p0[chosen])


def test_worst_error_sees_both_states_and_nan():
    zero = np.zeros(3)
    assert ode.worst_error((zero, np.array([0, -2.0, 1])), (zero, zero)) == 2
    assert ode.worst_error((np.array([0.5]), zero[:1]), (np.array([9, 1.0]), zero), [1]) == 0.5
    assert not ode.worst_error((zero, zero * np.nan), (zero, zero)) <= ode.ALLOWED_ERROR


def test_other_load_leaves_out_this_process(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    monkeypatch.setattr(rounds, "PROC_STAT", stat)
    monkeypatch.setattr(rounds.time, "process_time", lambda: 5.0)
    stat.write_text("cpu  100 10 20 1000 5 1 2 3 0 0\ncpu0 9 9 9 9\n")
    meter = rounds.OtherLoad()
    # 100 ticks pass: 55 idle or waiting, 45 busy (5 of them stolen by another machine), of which 0.2 s are ours.
    stat.write_text("cpu  130 10 30 1050 10 1 2 8 0 0\ncpu0 9 9 9 9\n")
    monkeypatch.setattr(rounds.time, "process_time", lambda: 5.2)
    assert meter.read() == pytest.approx(0.25)
    stat.unlink()
    assert math.isnan(meter.read())


def scripted_load(monkeypatch, loads):
    """`OtherLoad` that reads `loads` one after the other."""
    readings = iter(loads)
    monkeypatch.setattr(rounds, "OtherLoad", lambda: type("Scripted", (), {"read": lambda self: next(readings)})())


def test_engines_take_turns_and_loud_rounds_are_rejected(monkeypatch, quick):
    monkeypatch.setattr(rounds, "ATTEMPTS", 3)
    scripted_load(monkeypatch, [0.5, 0.02, 0.11, 0.1, 0.0])
    calls = []
    result = rounds.interleaved({name: lambda name=name: calls.append(name) for name in "AB"}, 2, at_least=0)
    assert "".join(calls) == "AB" * 4
    assert (result.other_load, result.attempted, result.quiet) == ([0.02, 0.1], 4, True)
    assert all(len(seconds) == 2 for seconds in result.seconds.values())


def test_a_machine_never_quiet_gives_the_quietest_rounds_and_says_so(monkeypatch, quick):
    monkeypatch.setattr(rounds, "ATTEMPTS", 2)
    scripted_load(monkeypatch, [0.9, 0.3, 0.5, 0.4])
    result = rounds.interleaved({"A": lambda: None}, 2, at_least=0)
    assert (result.other_load, result.attempted, result.quiet) == ([0.3, 0.4], 4, False)


def test_a_spent_budget_ends_the_rounds(monkeypatch, quick):
    monkeypatch.setattr(rounds, "ATTEMPTS", 3)
    monkeypatch.setattr(rounds, "BUDGET", -1.0)
    scripted_load(monkeypatch, [0.9, 0.3])
    result = rounds.interleaved({"A": lambda: None}, 2, at_least=0)
    assert (result.other_load, result.attempted, result.quiet) == ([0.9], 1, False)


def test_unknown_load_is_not_called_quiet():
    assert not rounds.Rounds({}, [0.0, math.nan], 2).quiet


def test_ratio_is_taken_within_rounds():
    timing = rounds.Rounds({"stopgrad": [1.0, 2.0, 4.0], "torchode": [100.0, 20.0, 280.0]}, [0.0, 0.0, 0.0], 3)
    ours = [s / 50 for s in timing.seconds["stopgrad"]]
    row = ode.timed("torchode", {"points": 50}, timing, ours)
    assert row["stopgrad_times_faster"] == 70  # of 100, 10 and 70; the ratio of the medians is 50
    assert (row["bar"], row["bar_met"]) == (60, True)
    assert (row["seconds"], row["best_seconds"], row["points_per_second"]) == (100, 20, 0.5)
    assert ode.timed("torchode", {"points": 5}, timing, ours)["stopgrad_times_faster"] == 700
    assert ode.timed("torchode", {"points": 50}, timing, None)["bar_met"] is None
    assert ode.timed("stopgrad", {"points": 50}, timing, ours)["stopgrad_times_faster"] is None


@pytest.mark.parametrize("name", ["diffrax_lockstep", "diffrax_vmap", "torchode", "numba_dopri5", "numba_rk4_simd"])
def test_missing_peer_is_a_skipped_row(monkeypatch, quick, capsys, name):
    package = ode.ENGINES[name].packages[0]
    monkeypatch.setitem(sys.modules, package, None)
    assert ode.door(["--grid", "3", "--rounds", "1", "--engines", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        name: {"skipped": f"{package} is not installed; `make bench` installs it"}
    }
    assert ode.door(["--grid", "3", "--rounds", "1", "--engines", name]) == 0
    assert "skipped" in capsys.readouterr().out


def test_broken_peer_is_skipped_but_our_own_error_is_raised(monkeypatch):
    def broken(task):
        raise RuntimeError("Cannot subclass\n  this")

    for name in ("torchode", "stopgrad"):
        monkeypatch.setitem(ode.ENGINES, name, ode.Engine(broken, "", ()))
    task = engines.grid_task(2)
    assert ode.first_call("torchode", task, None) == (None, {"skipped": "RuntimeError: Cannot subclass this"})
    with pytest.raises(RuntimeError, match="Cannot subclass"):
        ode.first_call("stopgrad", task, None)


def test_inaccurate_engine_is_called_so(monkeypatch):
    task = engines.grid_task(3)
    off = lambda task: lambda: (task.p0, task.s0 + 2e-6)  # noqa: E731
    monkeypatch.setitem(ode.ENGINES, "torchode", ode.Engine(off, "off", ()))
    _, row = ode.first_call("torchode", task, (task.p0, task.s0))
    assert row["worst_error"] == pytest.approx(2e-6)
    assert row["accurate"] is False


def test_json_is_one_object_of_engines(quick, capsys):
    names = ["stopgrad", "scipy_rk45", "scipy_loop_extrapolated"]
    assert ode.door(["--grid", "9", "--rounds", "2", "--engines", *names, "--json"]) == 0
    out = capsys.readouterr().out
    rows = json.loads(out)
    assert out.count("\n") == 1
    assert list(rows) == names
    for name, row in rows.items():
        assert row["points"] == (64 if "extrapolated" in name else 81)
        assert row["extrapolated"] == ("extrapolated" in name)
        assert row["points_per_second"] * row["seconds"] == pytest.approx(row["points"])
        assert 0 < row["best_seconds"] == min(row["round_seconds"]) <= row["seconds"]
        assert len(row["round_seconds"]) == 2
        assert row["first_call_seconds"] > 0
        assert 0 < row["worst_error"] <= 1e-6
        assert row["accurate"]
        assert row["reference_uncertainty"] < 1e-4 * ode.ALLOWED_ERROR
        assert row["versions"]
        assert row["machine"]["cpus"] >= 1
    assert rows["stopgrad"]["stopgrad_times_faster"] is None
    assert rows["scipy_rk45"]["bar_met"] == (rows["scipy_rk45"]["stopgrad_times_faster"] >= 30)


def test_table_names_engines_bars_and_provenance(quick, capsys):
    assert ode.door(["--grid", "3", "--rounds", "1", "--engines", "stopgrad", "scipy_rk45"]) == 0
    out = capsys.readouterr().out
    for words in ("9 points", "stopgrad", "scipy_rk45", "≥ 30×", "interleaved rounds", "numpy", "rtol 1e-13"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engines", "euler"], "there is no engine 'euler'"),
        (["--grid", "1"], "grid is 1; it must be at least 2"),
        (["--rounds", "0"], "rounds is 0; it must be at least 1"),
        (["--grid", "nan"], "nan"),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, words):
    assert ode.door(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
