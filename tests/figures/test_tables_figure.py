"""The papers' tables beside what was measured: their numbers, what is computed, and what is drawn."""

import functools
import itertools
import re

import numpy as np
import pytest
from figure_examples import DATA, from_made_up, made_up_runs
from matplotlib.text import Text

from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.papers import planned_elsewhere, suite
from stopgrad.figures.machinery import data
from stopgrad.figures.machinery.measures import FAMILIES, STATISTICS
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.machinery.runs import FromRuns
from stopgrad.figures.shared import tables
from stopgrad.figures.tian2021.tables import TABLES

NAMES = [f"tian-{name}" for name in TABLES]


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def cells(table, **wanted):
    return [cell for cell in TABLES[table]["cells"] if all(wanted[key] in cell[key] for key in wanted)]


# ----------------------------------------------------------------------------------------------- the paper's numbers


def test_every_table_is_whole():
    sizes = {"table1": 9, "table2": 5, "table3": 16, "table5": 16, "table6": 8, "table7": 8, "table8": 18}
    assert {name: len(table["cells"]) for name, table in TABLES.items()} == sizes
    for table in TABLES.values():
        places = [(cell["row"], cell["column"]) for cell in table["cells"]]
        assert (
            len(set(places)) == len(places) and table["title"] and table["setting"] and "2102.06810" in table["source"]
        )
        for cell in table["cells"]:
            assert set(cell) == {"row", "column", "paper", "arm"}
            mean, spread = cell["paper"]
            assert 0 < spread < 20 < mean < 100


@pytest.mark.parametrize(
    "table, wanted, paper",
    [
        ("table1", {"row": "no EMA", "column": "every step"}, [39.45, 1.26]),
        ("table3", {"row": "1 layer, EMA", "column": "no bias, symmetric"}, [75.09, 0.48]),
        ("table3", {"row": "1 layer, no EMA", "column": "no bias, symmetric"}, [36.62, 1.85]),
        ("table3", {"row": "2 layers, EMA", "column": "no bias, regular"}, [78.85, 0.25]),
        ("table5", {"row": "predictor's alone, no EMA", "column": "no bias, symmetric"}, [71.12, 0.71]),
        ("table6", {"row": "ρ = 0.3", "column": "ε = 0.1"}, [77.86, 0.16]),
        ("table7", {"row": "set every step", "column": "c = 0.1"}, [46.57, 18.43]),
        ("table8", {"row": "CIFAR-10, 500", "column": "gradient"}, [89.33, 0.27]),
    ],
)
def test_numbers_of_the_paper(table, wanted, paper):
    assert cells(table, **wanted)[0]["paper"] == paper


def test_numbers_that_stand_in_two_tables_agree():
    """Table 2 is in the second half of Table 5; Table 8's DirectPred after 100 epochs is Table 6's."""
    half = {cell["column"]: cell["paper"] for cell in cells("table5", row="none, EMA")}
    assert half["no bias, regular"] == cells("table2", row="no weight decay, EMA", column="no bias")[0]["paper"]
    assert half["bias, regular"] == [70.99, 1.01]
    assert (
        cells("table8", row="STL-10, 100")[0]["paper"] == cells("table6", row="ρ = 0.3", column="ε = 0.1")[0]["paper"]
    )
    gradient = cells("table3", row="1 layer, EMA", column="no bias, regular")[0]
    for table in ("table1", "table2"):
        assert TABLES[table]["cells"][0]["paper"] == gradient["paper"]
        assert TABLES[table]["cells"][0]["arm"] == gradient["arm"]


def test_a_setting_has_one_arm_and_an_arm_one_setting():
    """Within a table; Table 8 holds the same settings on two data sets."""
    for name, table in TABLES.items():
        arms = [cell["arm"] for cell in table["cells"] if cell["arm"]]
        assert len(arms) == len(set(arms)) * (2 if name == "table8" else 1)
    named = {cell["arm"] for table in TABLES.values() for cell in table["cells"]} - {None}
    assert set(tables.arms_of(TABLES.values())) == named | {f"cosine/{arm}" for arm in named}


# ---------------------------------------------------------------------------------------------- computed and drawn


def test_compute_reads_each_cell_off_its_arms():
    table = TABLES["table3"]
    unknown = ("bias", "cosine/ema")
    taken = made_up_runs(tables.arms_of([table]), missing=("mlp",), unknown=unknown, diverging=("ema",))
    d = tables.compute_table(taken, table)
    for k, cell in enumerate(table["cells"]):
        for loss, prefix in FAMILIES.items():
            one, arm = d.isel(cell=k).sel(loss=loss), f"{prefix}{cell['arm']}"
            assert [float(one.paper), float(one.spread)] == cell["paper"]
            runs = taken.of(arm)
            for seed in taken.seeds:
                assert bool(one.finished.sel(seed=seed)) == (seed in runs)
                value = float(one.value.sel(statistic="trace", seed=seed))
                np.testing.assert_equal(value, STATISTICS["trace"].value(runs[seed]) if seed in runs else np.nan)
            assert bool(one.part) == (cell["arm"] is not None and arm not in unknown)


@pytest.mark.parametrize("name, scale", [*((name, "cifar") for name in NAMES), ("tian-table3", "cpu")])
def test_draw_shows_every_number(name, scale):
    d = from_made_up(name, scale=scale)
    shown = texts(FIGURES[name].draw(d))
    for k, cell in enumerate(TABLES[name.removeprefix("tian-")]["cells"]):
        assert f"{cell['paper'][0]:.2f} ± {cell['paper'][1]:.2f}" in shown
        assert ", ".join(filter(None, (cell["row"], cell["column"]))) in shown
        for loss, statistic in itertools.product(d.loss.values, d.statistic.values) if cell["arm"] else ():
            found = interval(d.value.isel(cell=k).sel(loss=loss, statistic=statistic))
            assert tables.plus_minus(found.mean, (found.high - found.low) / 2) in shown
    heads = [text for text in shown if text.startswith("Here: ")]
    assert len(heads) == (3 if scale == "cifar" else 2)
    assert ("Here: linear probe, %" in heads) == (scale == "cifar")
    assert f"{scale} scale, 3 seeds asked for" in shown and any(d.attrs["setting"] in text for text in shown)
    assert {"squared error: mean, 95 % interval", "cosine loss: mean, 95 % interval"} <= set(shown)


def test_draw_says_why_a_number_is_missing():
    d = data.read(DATA / "tian-table3.nc")
    shown = texts(FIGURES["tian-table3"].draw(d))
    absent = int((~d.part.any("loss")).sum())
    assert absent == sum(cell["arm"] == "mlp" for cell in TABLES["table3"]["cells"]) > 0
    assert shown.count("not measured") == 2 and shown.count("at scale cifar") == 2 * absent
    assert sum("(n = 2, 1 not finite)" in text for text in shown) == 2
    named = tables.arms_of([TABLES["table2"]])
    lost = made_up_runs(named, seeds=(0,), diverging=named)
    d = tables.compute_table(lost, TABLES["table2"]).assign_attrs(scale="cpu")
    assert texts(tables.draw_table(d)).count("not finite") == 2 * len(named)


def test_a_cell_that_the_suite_has_at_another_scale_says_at_which():
    one = FIGURES["simsiam-batch-size"]
    planned = suite("simsiam2021", "cpu").arms
    taken = made_up_runs(one.compute.arms, unknown=set(one.compute.arms) - planned.keys(), suite="simsiam2021")
    d = one.compute.compute(taken).assign_attrs(scale="cpu")
    assert texts(one.draw(d)).count("at scale cifar") == 6 * 2 and d.elsewhere.values.tolist()[0].count("") == 1
    for scale, arm, other in (
        ("cpu", "simclr", "cifar"),
        ("gpu", "digits/baseline", "cpu"),
        ("smoke", "simclr", "cifar"),
    ):
        assert planned_elsewhere("simsiam2021", scale)[arm] == other
    assert not planned_elsewhere("simsiam2021", "cpu").keys() & planned.keys()


@pytest.mark.parametrize("scale", ["cifar", "gpu", "paper"])
def test_the_suite_has_every_arm_that_a_picture_of_runs_names(scale):
    """Where all arms are planned, of digits only at scale cpu, and shares of the data too small for a scale at the
    paper's own; a name misspelt here or there would be 'not in the suite' for ever."""
    of = functools.cache(lambda paper, scale: suite(paper, scale).arms.keys())
    for name, one in FIGURES.items():
        if isinstance(one.compute, FromRuns):
            arms = {arm for arm in one.compute.arms if not arm.startswith("digits/")}
            shares = {arm for arm in arms if arm.endswith("fraction-1")}
            assert arms - shares <= of(one.compute.suite, scale) and shares <= of(one.compute.suite, "paper"), name
            assert set(one.compute.arms) - arms <= of(one.compute.suite, "cpu"), name


@pytest.mark.parametrize(
    "mean, half, text",
    [
        (0.8812, 0.0333, "0.881 ± 0.033"),
        (75.093, 0.481, "75.09 ± 0.48"),
        (1234.5, 56.2, "1234 ± 56"),
        (-0.0015, 0.011, "-0.002 ± 0.011"),
        (0.5, 0.0, "0.5"),
        (0.5, np.nan, "0.5"),
    ],
)
def test_plus_minus(mean, half, text):
    assert tables.plus_minus(mean, half) == text


def test_the_numbers_of_a_table_count_for_its_data():
    from stopgrad.figures.machinery.data import origin

    one = FIGURES["tian-table3"].compute.compute
    other = functools.partial(tables.compute_table, table={**TABLES["table3"], "title": "another"})
    assert origin(one)["parameters"] != origin(other)["parameters"]
    assert re.fullmatch("[0-9a-f]{16}", origin(one)["parameters"])
