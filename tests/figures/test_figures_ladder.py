"""Pictures of the ladder and of the forecast: data from made-up runs whose errors are known, and that they draw."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments.fate.claims import ARMS as DRAWS
from stopgrad.experiments.fate.draws import KNOWN, NEW
from stopgrad.experiments.fate.foretell import COLLAPSES, MODELS
from stopgrad.experiments.ladder.errors import LAWS
from stopgrad.experiments.ladder.rungs import COLLAPSES as SETTINGS
from stopgrad.experiments.ladder.rungs import CRITICAL, TRAINED, arm_name, decays
from stopgrad.experiments.papers import suite
from stopgrad.figures.ladder import critical, fate, isoloss, laws
from stopgrad.figures.machinery.measures import Runs

SEEDS = (0, 1, 2)
SAME = {"balance": 0.0, "half_time": 4.0, "modes": 3, "settles": 9.0, "fall": 0.5, "critical": 0.2, "dies": None}


def run(config=None, diagnosis="healthy", eta=0.1, rank=2.0, **readings):
    told = {"eta": eta, "t_end": 20.0} | {
        name: SAME | readings.get(name, {}) for name in ("measured", "forecast", "tracking")
    }
    told["early"] = {"size": 0.0} | told["forecast"] | readings.get("early", {})
    scalars = {"rank_z": np.array([9.0, math.exp(rank)]), "loss": np.array([9.0, 0.3])}
    summary = {"state": "finished", "diagnosis": diagnosis, "laws": told}
    return SimpleNamespace(key="k", config=config, summary=summary, columns=Columns(np.array([0, 22]), scalars, {}))


def of(name, records):
    arms = suite(name, "cpu").arms
    return Runs(name, "cpu", {arm: arms[arm] for arm in arms}, records)


@pytest.fixture
def rungs():
    """Modes too few by a factor e^(rung/10) in the forecast, and all else right; rung 9 has not been run."""
    return of(
        "ladder",
        {
            arm_name(rung, setting): {
                seed: run(forecast={"modes": math.exp(rung / 10) * 4 - 1, "half_time": None if rung == 8 else 4.0})
                for seed in SEEDS
            }
            for rung in TRAINED[:-1]
            for setting in ("baseline", *SETTINGS)
        },
    )


def test_errors_stand_where_they_belong(rungs):
    data = laws.compute_ladder(rungs)["error"]
    assert data.sizes == {"law": len(LAWS), "reading": 2, "rung": 8, "seed": 8}  # rung 9 has so many
    found = data.sel(law="modes", reading="forecast")
    for rung in TRAINED[:-1]:
        assert found.sel(rung=rung, seed=[*SEEDS]).values == pytest.approx([-rung / 10] * 3)
    assert np.isnan(data.sel(rung=9)).all()
    late = data.sel(law="alignment", reading="forecast", rung=8, seed=[*SEEDS])
    assert late.values == pytest.approx([-math.log(5)] * 3)
    assert (data.sel(reading="tracking", rung=[2, 5, 8], seed=[*SEEDS]) == 0).all()
    reach = laws.compute_ladder(rungs).reach
    assert (reach.sel(reading="tracking") == 8).all() and reach.sel(law="modes", reading="forecast") == 4


@pytest.mark.parametrize(
    ("errors", "highest"),
    [([0.0] * 8, 9), ([0.0, 0.0, 9.0, 0.0, 0, 0, 0, 0], 3), ([9.0] * 8, 0), ([0.0, math.nan, 0, 0, 0, 0, 0, 0], 2)],
)
def test_a_law_reaches_as_far_as_it_holds_on_every_rung(errors, highest):
    assert laws.reached(np.array([[e, e / 2, -e] for e in errors]), 0.2) == highest


def test_brackets_are_those_of_the_decays(rungs):
    records = {
        arm_name(rung, name): {
            seed: run(
                eta=factor * 0.4,
                measured={"modes": int(k < 2 + seed)},
                tracking={"modes": int(k < 2)},
                forecast={"critical": 0.4},
            )
            for seed in SEEDS
        }
        for rung in CRITICAL
        for k, (name, factor) in enumerate(decays(rung).items())
    }
    data = critical.compute_critical(of("ladder", records))
    for rung in CRITICAL:
        etas = [factor * 0.4 for factor in decays(rung).values()]
        for seed in SEEDS:
            at = data.sel(rung=rung, seed=seed)
            assert at.predicted == 0.4 and at.low.sel(reading="measured") == pytest.approx(etas[1 + seed])
            assert at.high.sel(reading="tracking") == pytest.approx(etas[2])
    one = critical.draw_critical(data)
    assert one.axes[0].get_yscale() == "log"
    nothing = critical.compute_critical(of("ladder", {}))
    assert np.isnan(nothing.predicted).all() and critical.draw_critical(nothing)


def test_the_ladder_draws_with_and_without_runs(rungs):
    for runs in (rungs, of("ladder", {})):
        figure = laws.draw_ladder(laws.compute_ladder(runs))
        assert len(figure.axes) == len(LAWS) == 6
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert said.count("not measured") == 6


def test_scores_are_those_of_each_seed_s_own_runs():
    arms, rng = suite("fate", "cpu").arms, np.random.default_rng(0)

    def drawn(arm):
        size = float(rng.uniform(-2, 8))
        modes = 0 if size > 2 else 4
        ends = COLLAPSES[0] if size > 2 else "healthy"
        return run(
            arms[arm].config, ends, rank=rng.normal(), measured={"modes": modes}, early={"size": size, "modes": modes}
        )

    records = {arm: {seed: drawn(arm) for seed in SEEDS[:2]} for arm in DRAWS}
    data = fate.compute_fate(of("fate", records))
    assert data.sizes["run"] == NEW and len(DRAWS) == KNOWN + NEW
    assert (data.brier.sel(model="theory", seed=[0, 1]) < 0.05).all() and np.isnan(data.brier.sel(seed=2)).all()
    assert (data.brier.sel(model="share", seed=[0, 1]) > 0.15).all() and [*data.model.values] == [*MODELS]
    np.testing.assert_array_equal(data.lived.sel(seed=[0, 1]) == 0, data.collapsed.sel(seed=[0, 1]) == 1)
    assert ((data.probability > 0.5) == (data.collapsed == 1)).sel(seed=[0, 1]).mean() > 0.95
    for found in (data, fate.compute_fate(of("fate", {}))):
        assert len(fate.draw_fate(found).axes) == 4


@pytest.mark.parametrize("there", [isoloss.ARMS, isoloss.ARMS[1:2], ()])
def test_eigenvalues_are_those_of_the_first_seed_and_ranks_of_all(there):
    def drawn(seed):
        values = np.exp(-np.arange(4.0)) * np.array([[1.0], [2.0], [3.0]]) * (1 + seed)
        arrays = {"eigenvalues": Series(np.array([0, 11, 22]), values)}
        columns = Columns(np.array([0, 11, 22]), {"rank_z": np.array([4.0, 3.0, 2.0 + seed])}, arrays)
        return SimpleNamespace(key=f"{seed}", summary={}, columns=columns)

    data = isoloss.compute_isoloss(of("ladder", {arm: {seed: drawn(seed) for seed in (1, 2)} for arm in there}))
    figure = isoloss.draw_isoloss(data)
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert said.count("not measured") == {4: 0, 1: 4, 0: 6}[len(there)]
    for arm in there:
        of_arm = data.sel(arm=arm)
        np.testing.assert_allclose(of_arm.eigenvalues.sel(step=11), 4 * np.exp(-np.arange(4.0)))
        np.testing.assert_allclose(of_arm.rank_z.sel(step=22, seed=[*SEEDS]), [np.nan, 3.0, 4.0])
