"""Li et al.'s figures: what they are computed from, made-up runs drawn, released data found or missed in a sentence."""

import dataclasses

import numpy as np
import pytest
from matplotlib.text import Text

from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments.li2022 import modes, theory_claims
from stopgrad.experiments.papers import suite
from stopgrad.figures.li2022 import forecast, maps, orders, spectra
from stopgrad.figures.machinery import made
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.places import VARIABLE, Places
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.linear_theory.tools.errors import BadInput

ARMS = suite("li2022", "cpu").arms
STEPS = np.array([0, 11, 22])


class Made:
    """A finished run that was never trained."""

    whole, recorded = True, None

    def __init__(self, arm: str, seed: int):
        rng = np.random.default_rng([seed, len(arm)])
        self.config, self.key = dataclasses.replace(ARMS[arm].config, seed=seed), f"{arm}-{seed}"
        sigma = np.sort(rng.random(64))[::-1].copy()
        auc = np.array([0.6, 0.7, 0.75 + 0.1 * rng.random()])
        loss = np.array([-0.1, -0.5, -0.5 - 0.3 * rng.random()])
        found = {"collapse_auc": auc, "rankme": 64 * (1 - auc), "knn": 1 - auc}
        self.evaluations = Columns(STEPS, found, {"sigma": Series(STEPS, np.tile(sigma, (3, 1)))})
        eigenvalues = Series(STEPS, np.tile((np.arange(32) < 20.0).astype(float), (3, 1)))
        self.columns = Columns(STEPS, {"loss": loss}, {"eigenvalues": eigenvalues})
        self.summary = {
            "state": "finished", "probe": {"accuracy": 2 - auc[-1] + loss[-1]}, "knn": {"after": 1 - auc[-1]},
            "generalisation": {"train": {"loss": -0.6}, "test": {"loss": -0.5}},
        }  # fmt: skip
        self.numbers = {name: v[-1] for name, v in found.items()} | {
            "dim": 64.0, "variance_effective_rank": 5.0 + rng.random(), "participation_ratio": 3.0 + rng.random(),
            "stable_rank": 2.0 + rng.random(), "alpha_req": 1.0 + rng.random(),
        }  # fmt: skip

    def evaluated(self, name):
        return self.numbers[name]


@pytest.fixture(scope="module")
def runs():
    records = {arm: {seed: Made(arm, seed) for seed in (0, 1, 2)} for arm in ARMS}
    return Runs("li2022", "cpu", ARMS, records)


def said(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_the_map_has_shares_and_widths_of_the_scale_alone(runs):
    data = maps.compute_map(runs)
    run = runs.of("half-width/fraction-10")[1]
    one = data.sel(width="½", share="10 %", seed=1)
    assert one.auc == run.evaluated("collapse_auc") and one.gap == pytest.approx(0.1)
    text = said(maps.draw_map(data))
    assert "100 %" in text and "¼" not in text and "5 %" not in text.replace("95 %", "")
    assert "not measured" in said(maps.draw_map(maps.compute_map(runs._replace(records={}))))


def test_modes_are_counted_beside_theory(runs, monkeypatch):
    monkeypatch.setattr(modes, "allowed", lambda run: 24)
    data = maps.compute_modes(runs)
    assert (data.alive == 20).all() and (data.allowed == 24).all()
    [axis] = maps.draw_modes(data).axes
    assert {bar.get_height() for bar in axis.patches} == {24.0}


def test_orders_are_drawn_over_their_own_steps(runs):
    data = orders.compute_orders(runs)
    assert list(data.evaluated.values) == list(STEPS) and data.collapse_auc.sel(arm="baseline", seed=0)[0] == 0.6
    figure = orders.draw_orders(data)
    assert all(len(axis.lines) == 16 for axis in figure.axes)  # four orders, three seeds and their mean
    whole = orders.draw_fig6(orders.compute_fig6(runs))
    assert "half as wide" in said(whole) and whole.axes[0].get_yscale() == "log"
    for name in ("orders", "fig6", "switch"):
        compute, draw = (getattr(orders, f"{what}_{name}") for what in ("compute", "draw"))
        assert "not measured" in said(draw(compute(runs._replace(records={}))))


def test_a_sweep_of_switches_has_both_ends(runs):
    data = orders.compute_switch(runs)
    figure = orders.draw_switch(data)
    [line] = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3][:1]
    assert list(line.get_xdata()) == [0, 40, 100] and data.attrs["accuracy_of"] == "kNN"


def test_the_forecast_leaves_arms_out(runs):
    data = forecast.compute_forecast(runs)
    assert data.error.sel(model="collapse_auc + loss") < 1e-6 < data.error.sel(model="mean")
    assert "ResNet-34" in said(forecast.draw_forecast(data))
    assert "not measured" in said(forecast.draw_forecast(forecast.compute_forecast(runs._replace(records={}))))


@pytest.fixture
def released(tmp_path):
    """A folder of six spectra, power laws of rising exponent."""
    i = np.arange(1.0, 65)
    arrays = {f"resnet18_{s:03}percent": i ** (-0.2 * k) for k, s in enumerate(spectra.SHARES)}
    np.savez(tmp_path / spectra.ARRAYS, **arrays)
    return tmp_path


def test_released_spectra_are_found_by_flag_and_by_environment(released, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    places = Places(out=tmp_path / "out")
    one = FIGURES["li-fig3"]
    assert made.bring("li-fig3", one, places, False, print) is None
    assert "name the folder data/ of their code" in made.how("li-fig3", one, places) and "None" not in made.how(
        "li-fig3", one, places
    )
    assert made.examine("li-fig3", one, places).state == "no data"
    path = made.bring("li-fig3", one, dataclasses.replace(places, data=released), False, print)
    assert path.is_file()
    monkeypatch.setenv(VARIABLE, str(released))
    assert made.examine("li-fig3", one, places).state == "current"


def test_the_authors_own_files_are_read_too(released):
    import torch

    one = spectra.read_released(released)
    for k, share in enumerate(spectra.SHARES):
        path = released / "theirs" / spectra.THEIRS.format(share)
        path.parent.mkdir(parents=True)
        torch.save({"stds": torch.from_numpy(one.sigma.values[k])}, path)
    assert spectra.read_released(released / "theirs").equals(one)
    assert spectra.read_released(released / "nowhere") is None
    assert list(one.collapse_auc.values) == sorted(one.collapse_auc.values)


def test_the_picture_ranks_metrics_by_what_is_most_collapsed(released):
    import xarray as xr

    kept = theory_claims.released()
    data = spectra.read_released(released)
    data = data.assign({name: ("share", kept[name]) for name in spectra.METRICS})
    assert isinstance(data, xr.Dataset)
    numbers = [text.get_text() for text in spectra.draw_fig3(data).axes[4].texts]
    table = np.reshape([int(v) for v in numbers], (len(spectra.METRICS), 6))
    assert [int(row.argmin()) for row in table] == [3, 3, 3, 5, 5]  # 20 % by AUC and entropies, else 100 %


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(BadInput, match="--runs"):
        Places(out=tmp_path / "out", runs=tmp_path / "runs").check()


@pytest.mark.parametrize(("name", "said"), [("li-map", " --whole"), ("li-modes", "")])
def test_the_command_behind_a_picture_carries_out_its_runs(name, said):
    """Arms that scale cpu leaves to their record are trained with --whole alone; linear networks always are."""
    assert made.made_by(FIGURES[name], Places(scale="cpu")) == f"python -m experiments run li2022 --scale cpu{said}"
