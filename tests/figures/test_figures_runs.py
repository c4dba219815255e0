"""Figures whose data are runs: what is read off a run, which runs are taken, and what is drawn of them."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import xarray as xr
from figure_examples import COSINE, DATA, RECORDED, from_made_up, made_up_run, made_up_runs
from matplotlib.colors import to_hex
from matplotlib.text import Text
from scipy import stats

from stopgrad.deep.config import Config
from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import Arm
from stopgrad.figures import commands
from stopgrad.figures.machinery import data, made, runs, style
from stopgrad.figures.machinery.made import Places
from stopgrad.figures.machinery.measures import STATISTICS, Runs, statistics_at
from stopgrad.figures.machinery.picture import FromRuns
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.machinery.runs import not_planned
from stopgrad.figures.tian2021 import runs as tian2021_runs

OF_RUNS = {name: one for name, one in FIGURES.items() if isinstance(one.compute, FromRuns)}


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


# ------------------------------------------------------------------------------------------ what is read off a run


def test_statistics_of_a_run():
    run = made_up_run(Config())
    q = run.columns.arrays["eigenvalues"].values[-1] / run.columns.arrays["eigenvalues"].values[-1].sum()
    assert STATISTICS["modes"].value(run) == pytest.approx(np.exp(stats.entropy(q)), rel=1e-5)
    trace = run.columns.scalars["trace_z"]
    assert STATISTICS["trace"].value(run) == pytest.approx(np.log10(trace[-1] / trace[0]))
    assert STATISTICS["accuracy"].value(run) == pytest.approx(70)
    run.summary["probe"] = None
    assert np.isnan(STATISTICS["accuracy"].value(run))
    assert STATISTICS["modes"].value(made_up_run(Config(), collapses=True)) < 1.2
    assert all(np.isnan(STATISTICS[name].value(made_up_run(Config(), diverges=True))) for name in ("modes", "trace"))
    assert "accuracy" not in statistics_at("cpu") and "accuracy" in statistics_at("cifar")


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.3, 0.1, np.nan, 0.2, 0.25]])
def test_interval_is_students(values):
    found = interval(values)
    finite = np.array(values)[np.isfinite(values)]
    expected = stats.ttest_1samp(finite, 0).confidence_interval(0.95)
    assert found.count == len(finite)
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)
    np.testing.assert_allclose([found.mean - found.error[0][0], found.mean + found.error[1][0]], expected, rtol=1e-12)


def test_interval_of_too_few():
    one = interval([2.0])
    assert np.isnan(one.low) and one.error is None and (one.mean, one.count) == (2, 1)
    assert np.isnan(interval([np.nan]).mean) and interval([]).count == 0


# ------------------------------------------------------------------------------------------------------ Figure 2


def test_fig2_holds_the_runs_modes():
    arms = ("ema", "symmetric-ema")
    taken = made_up_runs(arms)
    d = tian2021_runs.compute_fig2(taken)
    for row, arm in enumerate(arms):
        columns = taken.of(arm)[0].columns
        np.testing.assert_array_equal(d.s.isel(row=row), columns.arrays["eigenvalues"].values)
        np.testing.assert_array_equal(d.p.isel(row=row), columns.arrays["predictor_spectrum"].values)
        for seed, run in taken.of(arm).items():
            one = d.isel(row=row).sel(seed=seed)
            np.testing.assert_array_equal(one.asymmetry, run.columns.scalars["asymmetry"])
            np.testing.assert_array_equal(one.predictor_negative, run.columns.scalars["predictor_negative"])
    assert d.shown.values.tolist() == [0, 0] and (d.steps_per_epoch, d.step[-1]) == (16, 640)


def test_fig2_joins_runs_measured_at_other_times_and_takes_the_first_seed_there_is():
    early, late = made_up_run(Config(seed=1), rows=5), made_up_run(Config(seed=2), rows=9)
    d = tian2021_runs.compute_fig2(
        Runs("tian2021", "cpu", {"ema": Arm("ema", Config(), (0, 1, 2))}, {"ema": {1: early, 2: late}})
    )
    assert d.shown.values.tolist() == [1, -1] and d.sizes["step"] == 9
    top = d.isel(row=0)
    assert top.s.dropna("step").sizes["step"] == 5
    assert top.asymmetry.notnull().sum("step").values.tolist() == [0, 5, 9]
    assert d.asymmetry.isel(row=1).isnull().all()


def test_fig2_draws_every_mode_and_says_what_is_missing():
    d = data.read(DATA / "tian-fig2.nc")
    figure = FIGURES["tian-fig2"].draw(d)
    alignment = figure.axes[2]
    curves = [line for line in alignment.lines if len(line.get_xdata()) == d.sizes["step"]]
    drawn = {tuple(np.asarray(line.get_ydata(), dtype=np.float32)) for line in curves}
    assert drawn == {tuple(v) for v in d.alignment.isel(row=0).transpose("mode", "step").values}
    negative = [line for line in figure.axes[7].lines if to_hex(line.get_color()).upper() == style.OKABE_ITO["blue"]]
    np.testing.assert_allclose(negative[0].get_ydata(), d.predictor_negative.isel(row=1).mean("seed"), rtol=1e-6)
    assert d.sizes["row"] == 2 and from_made_up("tian-fig2").sizes["row"] == 4  # with the cosine loss, where there is
    said = words(FIGURES["tian-fig2"].draw(from_made_up("tian-fig2", missing=("symmetric-ema",))))
    assert said.count("not measured:\nno run of symmetric-ema") == 4 and "epoch" in said


def test_fig2_of_runs_that_diverged_is_over_steps():
    d = from_made_up("tian-fig2", seeds=(0,), diverging=("ema", "symmetric-ema"), unknown=COSINE)
    assert np.isnan(d.steps_per_epoch)
    said = words(FIGURES["tian-fig2"].draw(d))
    assert "step" in said and "epoch" not in said


# ------------------------------------------------------------------------------------------------------ Figure 6


def test_fig6_reads_alpha_off_the_configs_and_values_off_the_runs():
    source = FIGURES["tian-fig6"].compute
    unknown = ("symmetric-alpha-2", "cosine/symmetric-alpha-2")
    taken = made_up_runs(source.arms, unknown=unknown, missing=("symmetric-alpha-4",))
    both = source.compute(taken)
    assert both.loss.values.tolist() == ["squared error", "cosine loss"] and both.value.sel(alpha_p=4).notnull().any()
    d = both.sel(loss="squared error")
    assert d.alpha_p.values.tolist() == [1, 4, 8]
    assert d.value.sel(alpha_p=4).isnull().all()
    for seed, run in taken.of("symmetric-alpha-8").items():
        for name, one in STATISTICS.items():
            if name in d.statistic:
                assert float(d.value.sel(statistic=name, alpha_p=8, seed=seed)) == one.value(run)
    reference = d.reference.sel(statistic="trace", other="symmetric, EMA")
    assert reference.values.tolist() == [STATISTICS["trace"].value(run) for run in taken.of("symmetric-ema").values()]


def test_fig6_draws_seeds_means_and_gaps():
    d = data.read(DATA / "tian-fig6.nc")
    figure = FIGURES["tian-fig6"].draw(d)
    assert len(figure.axes) == 4 and words(figure).count("not measured") == 2  # alpha_p = 8, in two panels
    for axis, (loss, name) in zip(figure.axes, itertools.product(d.loss.values, d.statistic.values)):
        points = np.concatenate([line.get_ydata() for line in axis.lines if line.get_label() == "one seed"])
        expected = d.value.sel(loss=loss, statistic=name).values
        np.testing.assert_array_equal(np.sort(points), np.sort(expected[np.isfinite(expected)]))
    assert "linear probe, %" in words(FIGURES["tian-fig6"].draw(from_made_up("tian-fig6", scale="cifar")))
    lacking = from_made_up(
        "tian-fig6", unknown=[arm for arm in FIGURES["tian-fig6"].compute.arms if "symmetric" in arm]
    )
    assert words(FIGURES["tian-fig6"].draw(lacking)).count("not in the suite\nat this scale") == 2
    alone = from_made_up("tian-fig6", unknown=[arm for arm in FIGURES["tian-fig6"].compute.arms if "/" in arm])
    assert len(FIGURES["tian-fig6"].draw(alone).axes) == 2


# -------------------------------------------------------------------------------------- from the store to the data


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_data_are_those_of_the_code(name):
    """`python tests/figure_examples.py` brings tests/data up to date."""
    xr.testing.assert_allclose(data.read(DATA / f"{name}.nc"), from_made_up(name, **RECORDED[name]), rtol=1e-6)


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_figure_of_runs_names_them_and_survives_without_any(name):
    source = OF_RUNS[name].compute
    d = from_made_up(name)
    taken = made_up_runs(source.arms, suite=source.suite)
    assert all(key in d.attrs["run_ids"] for key in taken.ids().values())
    assert (d.attrs["scale"], d.attrs["suite"], d.attrs["not_measured"]) == ("cpu", source.suite, "nothing")
    some = from_made_up(name, missing=source.arms[1:])
    assert f"{source.arms[1]} (0 of 3)" in some.attrs["not_measured"]
    assert any("not measured" in text for text in words(OF_RUNS[name].draw(some)))


def test_the_data_go_by_code_scale_and_runs():
    source = FIGURES["tian-fig6"].compute
    taken = made_up_runs(source.arms)
    first = runs.origin_of(source, taken)
    assert {"stopgrad.figures.tian2021.runs", "stopgrad.experiments.claims.measures"} <= set(first)
    deep = {name for name in first if name.startswith("deep.")}
    assert deep <= {
        "stopgrad.deep.measuring.diagnosis"
    }  # the keys of the runs follow from the others; this one is where a limit stands
    fewer = made_up_runs(source.arms, missing=("symmetric",))
    assert {k for k in first if k not in runs.origin_of(source, fewer)} == {f"run symmetric/{s}" for s in range(3)}
    assert runs.origin_of(source, taken._replace(scale="gpu")) != first
    changed = tian2021_runs.compute_fig6
    assert runs.origin_of(dataclasses.replace(source, compute=lambda r: changed(r)), taken) != first


def test_gather_asks_the_store_for_every_seed_of_the_arms_that_the_suite_has(monkeypatch, tmp_path):
    asked = []

    def find(self, config):
        asked.append((self.root, str(config.method.target), config.seed))
        return made_up_run(config) if config.seed else None

    monkeypatch.setattr(Store, "find", find)
    taken = runs.gather(FIGURES["tian-fig2"].compute, "smoke", tmp_path)
    assert asked == [(tmp_path, "ema", seed) for seed in (0, 1, 2)]  # no symmetric-ema at this scale
    assert list(taken.arms) == ["ema"] and list(taken.of("ema")) == [1, 2] and taken.seeds == (0, 1, 2)
    with pytest.raises(ValueError, match="no scale 'huge'"):
        runs.gather(FIGURES["tian-fig2"].compute, "huge", tmp_path)


@pytest.mark.parametrize("name", ["tian-table5", "tian-table7"])
def test_a_figure_none_of_whose_arms_are_in_the_suite_is_said_to_be_so(tmp_path, name):
    said = "not in the suite tian2021 at scale smoke; at scale cpu it is: "
    said += "python -m experiments run tian2021 --scale cpu --whole"  # some of their arms are side questions
    one, places = FIGURES[name], Places(out=tmp_path, runs=tmp_path / "runs", scale="smoke")
    assert made.bring(name, one, places, False, print) is None
    assert made.examine(name, one, places) == ("not in the suite", said)
    assert commands.All(places).text({name: None}) == f"{name}: {said}"
    with pytest.raises(ValueError, match=f"{name}: not in the suite tian2021 at scale smoke"):
        commands.Make(name, places).run()
    elsewhere = dataclasses.replace(places, scale="gpu")
    assert not_planned(one.compute, elsewhere.scale) is None and made.examine(name, one, elsewhere).state == "no data"


# ----------------------------------------------------------------------------------------------- the store, made up


@pytest.fixture
def store(monkeypatch):
    """What the store has, as `gather` would find it: to be changed by the test."""
    lacking = {}
    monkeypatch.setattr(
        runs, "gather", lambda source, scale, root: made_up_runs(source.arms, scale, **{"seeds": (0, 1, 2), **lacking})
    )
    return lacking


@style.styled
def draw_means(dataset):
    """A picture that is quickly drawn, of the same data."""
    figure, axes = style.new_figure(panel=(2, 2))
    axes[0, 0].plot(dataset.value.mean(("loss", "statistic", "seed")))
    return figure


FIG6 = dataclasses.replace(FIGURES["tian-fig6"], draw=draw_means)


def bring(places):
    said = []
    path = made.bring("tian-fig6", FIG6, places, False, said.append)
    return path, said


def test_runs_that_come_or_go_are_noticed(store, tmp_path):
    places, name, arms = Places(out=tmp_path), "tian-fig6", FIGURES["tian-fig6"].compute.arms
    store["missing"] = arms
    assert bring(places) == (None, []) and not list(tmp_path.iterdir())
    assert "python -m experiments" in made.how(name, FIGURES[name], places)

    store["missing"] = ("symmetric-alpha-8",)
    path, said = bring(places)
    assert path.is_file() and said == ["tian-fig6: collected from runs, because there are no data yet"]
    text = path.with_suffix(".txt").read_text()
    assert "scale = cpu" in text and "symmetric-alpha-8 (0 of 3)" in text and "--scale cpu" in text
    assert all(key in text for key in made_up_runs(arms, missing=("symmetric-alpha-8",)).ids().values())
    assert bring(places)[1] == [] and made.examine(name, FIG6, places).state == "current"

    store["missing"] = ()
    assert made.examine(name, FIG6, places).why == "3 runs new"
    assert bring(places)[1] == ["tian-fig6: collected from runs, because 3 runs new"]
    store["missing"] = ("symmetric",)
    found = made.examine(name, FIG6, places)
    assert found == ("stale", "3 runs gone")
    store["missing"] = arms
    found = made.examine(name, FIG6, places)
    assert found.state == "stale" and "no run" in found.why


def test_a_picture_is_checked_at_the_scale_it_was_made_at(store, tmp_path):
    places = Places(out=tmp_path, scale="gpu")
    path, _ = bring(places)
    assert json.loads(path.with_suffix(".json").read_text())["scale"] == "gpu"
    assert made.examine("tian-fig6", FIG6, Places(out=tmp_path)).state == "current"
    assert bring(Places(out=tmp_path))[1] == ["tian-fig6: collected from runs, because scale changed"]
