"""Forecasts: regressions beside slow ones, what is left out, correlations, extrapolation, and the command."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.experiments.forecasting import regression
from stopgrad.experiments.forecasting.regression import Correlation, correlation, forecast, predict
from stopgrad.experiments.launch.launcher import InProcess, launch
from stopgrad.experiments.papers import suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import Store
from stopgrad.linear_theory.tools.door import main


def drawn(n=12, seed=3, noise=1.0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(0.6, 0.9, n), rng.uniform(-0.9, -0.5, n)])
    return x, 60 - 79.5 * x[:, 0] - 20.0 * x[:, 1] + noise * rng.standard_normal(n)


def test_the_fit_is_least_squares_and_the_errors_are_of_runs_that_it_has_not_seen():
    x, y = drawn()
    found = forecast(["auc", "loss"], x, y)
    design = np.column_stack([np.ones(len(y)), x])
    slow = np.linalg.lstsq(design, y, rcond=None)[0]
    assert [found.intercept, *found.coefficients] == pytest.approx(slow)
    left = [design[k] @ np.linalg.lstsq(np.delete(design, k, 0), np.delete(y, k), rcond=None)[0] for k in range(len(y))]
    assert found.left_out == pytest.approx(left)  # each is a setting of its own
    assert found.error == found.error_of_settings == pytest.approx(np.abs(y - left).mean())
    assert found.pearson.value == pytest.approx(stats.pearsonr(found.fitted, y)[0])
    assert found.spearman_left_out.value == pytest.approx(stats.spearmanr(left, y)[0])
    assert found.r2 == pytest.approx(found.pearson.value**2)
    assert found.regret == pytest.approx(y.max() - y[np.argmax(left)])


def test_seeds_of_a_setting_are_left_out_together():
    x, y = drawn(n=8)
    twice = np.repeat(x, 2, axis=0), np.repeat(y, 2)  # each setting with two seeds that are the same
    alone, twins = forecast(["a", "b"], x, y), forecast(["a", "b"], *twice, [k // 2 for k in range(16)])
    assert twins.error_of_settings == pytest.approx(alone.error)
    assert twins.error < alone.error  # its twin gives a run away
    with pytest.raises(ValueError, match="differ in the seed alone"):
        forecast(["a", "b"], x, y, ["one"] * 8)


def test_the_mean_orders_nothing_and_regrets_a_choice_at_random():
    _, y = drawn()
    found = forecast([], np.zeros((len(y), 0)), y)
    assert found.coefficients == () and found.r2 == 0 and found.pearson == Correlation(None, None, None)
    assert found.error == pytest.approx(np.abs(y - y.mean()).mean() * len(y) / (len(y) - 1))
    assert found.regret == pytest.approx(y.max() - y.mean())


@settings(max_examples=8, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 99))
def test_units_of_a_metric_change_nothing_that_is_forecast(scale, shift, seed):
    x, y = drawn(seed=seed)
    one, other = forecast(["a", "b"], x, y), forecast(["a", "b"], scale * x + shift, y)
    assert other.left_out == pytest.approx(one.left_out, rel=1e-6)
    assert other.pearson.value == pytest.approx(one.pearson.value, rel=1e-6)


def test_intervals_of_a_correlation_hold_it_and_narrow_with_runs():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(400)
    b = a + rng.standard_normal(400)
    wide, narrow = (correlation(a[:n], b[:n], np.random.default_rng(1)) for n in (20, 400))
    assert wide.low < wide.value < wide.high and narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert narrow.low < np.sqrt(0.5) < narrow.high
    assert correlation(np.ones(9), a[:9], rng) == Correlation(None, None, None)
    ranks = correlation(np.exp(a), a, np.random.default_rng(1), ranks=True)
    assert ranks == pytest.approx((1, 1, 1))


def test_a_prediction_has_students_interval_and_says_where_it_extrapolates():
    x, y = drawn(n=30)
    found = forecast(["auc", "loss"], x, y)
    inside, outside = predict(found, x, y, np.array([x.mean(0), [2.0, -0.7]]))
    assert inside.beyond == () and outside.beyond == ("auc",)
    s = np.sqrt(((y - np.array(found.fitted)) ** 2).sum() / 27)
    half = stats.t.ppf(0.975, 27) * s * np.sqrt(1 + 1 / 30)
    assert (inside.value, inside.low) == pytest.approx((y.mean(), y.mean() - half))
    line = np.linspace(0, 1, 10)
    thin = np.column_stack([line, line + 1e-3 * np.sin(9 * line)])
    [corner] = predict(forecast(["a", "b"], thin, line**2), thin, line**2, np.array([[0.1, 0.9]]))
    assert corner.beyond == ("together",)


def test_nine_of_ten_and_more_lie_in_the_interval(monkeypatch):
    monkeypatch.setattr(regression, "RESAMPLES", 2)
    hits = []
    for seed in range(40):
        x, y = drawn(n=13, seed=seed)
        found = forecast(["a", "b"], x[:12], y[:12])
        [one] = predict(found, x[:12], y[:12], x[12:])
        hits.append(one.low < y[12] < one.high)
    assert np.mean(hits) > 0.85


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0], "there are 3 runs to regress on; a forecast takes at least 4"),
        ([[1.0]] * 5, range(5), "auc is the same in all 5 runs"),
        ([[v] for v in range(5)], [4.0] * 5, "the accuracy is the same in all 5 runs"),
        ([[1.0], [np.nan], [3.0], [4.0]], range(4), "auc is not a finite number in 1 runs"),
    ],
)
def test_what_cannot_be_regressed_is_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        forecast(["auc"], np.array(x), np.array(list(y), float))


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five runs of a second each, of two settings of digits and one without classes."""
    from dataclasses import replace

    arms, kept = suite("li2022", "smoke").arms, Store(tmp_path_factory.mktemp("forecast") / "runs")
    wanted = [("baseline", 0), ("baseline", 1), ("half-width/baseline", 0), ("half-width/baseline", 1),
              ("linear/baseline", 0)]  # fmt: skip
    configs = [replace(arms[arm].config, seed=seed) for arm, seed in wanted]
    launch(configs, kept, InProcess("cpu"), "forecast", [f"{arm} {seed}" for arm, seed in wanted])
    return kept, [str(kept.folder(config)) for config in configs]


def call(capsys, *arguments):
    status = main("experiments", "", COMMANDS, ["forecast", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_runs_are_forecast_and_new_ones_too(store, capsys):
    _, folders = store
    status, out, _ = call(capsys, *folders[:4], "--new", folders[0], "--json")
    found = json.loads(out)
    assert status == 0 and found["runs"] == 4 and found["settings"] == 2
    assert set(found["models"]) >= {"collapse_auc + loss", "rankme", "mean"}
    model = found["models"]["rankme"]
    assert model["new"][0]["low"] < model["new"][0]["value"] < model["new"][0]["high"]
    assert model["fitted"][0] == pytest.approx(model["new"][0]["value"])  # it is one of them
    status, out, _ = call(capsys, *folders, "--new", folders[0])
    assert status == 0 and "1 without it left aside" in out and "R² .95" in out and "mean" in out


def test_a_suite_and_a_record_are_read_too(store, capsys, tmp_path, monkeypatch):
    kept, _ = store
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    path = evidence.record(suite("li2022", "smoke"), kept)
    both = [
        json.loads(call(capsys, name, "--json", *more)[1])
        for name, more in (("li2022:smoke", ("--runs", str(kept.root))), (str(path), ()))
    ]
    assert sorted(both[0]["keys"]) == sorted(both[1]["keys"])
    for name, model in both[0]["models"].items():
        assert both[1]["models"][name]["error"] == pytest.approx(model["error"], rel=2e-2, abs=1e-3), name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no runs: name folders of runs"),
        (["nowhere"], "there is no finished run in nowhere"),
        (["li2022:paper"], "no run of li2022 at scale paper is finished or recorded"),
        (["nowhere.json"], "there is no record nowhere.json"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(names, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call(capsys, *names)
    assert status == 2 and words in err and err.count("\n") <= 2


def test_too_few_runs_and_runs_without_classes_are_refused(store, capsys):
    _, folders = store
    assert "at least 4" in call(capsys, *folders[:2])[2]
    assert "none of the 1 runs has a probe accuracy" in call(capsys, folders[4])[2]
