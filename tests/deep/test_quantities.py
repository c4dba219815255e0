"""The one list of quantities: one that is added in fifteen lines is measured, kept, shown, summed up and listed."""

import json
import math
from dataclasses import replace
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from stopgrad.deep.__main__ import door
from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.deep.measuring import monitor
from stopgrad.deep.measuring.quantities import predictor, run, seen
from stopgrad.deep.measuring.quantities.quantities import QUANTITIES, collected
from stopgrad.deep.measuring.quantities.quantity import Quantity
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.storage.table import read
from stopgrad.deep.training.runs import Place, execute
from stopgrad.deep.words.picture import figure
from stopgrad.deep.words.report import text
from stopgrad.experiments.claims.measures import fall
from stopgrad.experiments.commands.runs import Compare
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.series import over_steps
from stopgrad.experiments.store.store import Store

NEW = '''
"""How long embeddings are, by image and over the layers of the network."""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity

QUANTITIES = (
    Quantity("norm_z", lambda seen: seen.z.norm(dim=-1).mean(), "mean norm of Z", drawn=Drawn("d", "purple")),
    Quantity("norms_z", lambda seen: seen.z.norm(dim=-1).sort(descending=True).values[0], "norms of Z, falling"),
    Quantity("largest", lambda seen: max(w.abs().max() for w in seen.siamese.parameters()), "largest weight",
             needs=("siamese",)),
    Quantity("reach", lambda seen: seen.train.norm(dim=-1).max(), "longest representation", needs=("test",),
             at="evaluation"),
)
'''
assert len(NEW.strip().splitlines()) <= 15
TINY = Config(
    Data(fraction=0.1, image_size=8),
    Method.of(backbone="linear", projector_hidden=16, embedding_dim=8),
    Optimisation(epochs=1, batch_size=32),
    Monitor(monitor_every=1, evaluate_every=1, probe="none"),
)
ALONE = World(0, 1, torch.device("cpu"), None)


@pytest.fixture
def new(monkeypatch) -> dict:
    """NEW, entered in the list."""
    file = ModuleType("new")
    exec(NEW, file.__dict__)
    for one in file.QUANTITIES:
        monkeypatch.setitem(QUANTITIES, one.name, one)
    return {one.name: one for one in file.QUANTITIES}


def trained(folder, **method):
    """The summary of a tiny run in `folder`."""
    config = change(TINY, **method)
    return execute(config, Place(folder, picture=False), ALONE)


def test_a_new_quantity_is_everywhere(new, tmp_path, capsys):
    summary = trained(tmp_path / "run")
    table, evaluations, said = read(tmp_path / "run"), read(tmp_path / "run" / "evaluations"), capsys.readouterr().err
    steps = len(table.step)
    assert np.isfinite(table.scalars["norm_z"]).all() and len(table.scalars["norm_z"]) == steps > 1
    assert np.isfinite(table.scalars["largest"]).all() and table.arrays["norms_z"].values.shape == (steps, 32)
    assert np.isfinite(evaluations.scalars["reach"]).all()
    assert table.scalars["norm_z"][0] ** 2 == pytest.approx(table.scalars["trace_z"][0], rel=0.5)
    for name, one in new.items():
        assert f"{name} " in said and one.words in text(summary)
    assert one.text(summary["last"]["norm_z"]) in text(summary)
    assert "mean norm of Z" in [line.get_label() for line in figure(table, "").axes[3].lines]


def test_a_new_quantity_can_be_claimed_compared_drawn_and_recorded(new, tmp_path):
    store = Store(tmp_path / "runs")
    configs = [TINY, replace(TINY, seed=1)]
    for config in configs:
        execute(config, Place(store.folder(config), quiet=True, picture=False), ALONE)
    records = [store.find(config) for config in configs]
    assert fall(records[0], "norm_z") == records[0].first("norm_z") - records[0].last("norm_z") != 0
    compared = Compare(tuple(record.key for record in records), store.root).run()["outcome"]
    assert compared["norm_z"] == [record.last("norm_z") for record in records]
    drawn, columns = over_steps(records[0].columns, ["norm_z", "norms_z"]), records[0].columns
    assert drawn.norm_z.dims == ("step",) and drawn.norms_z.dims == ("step", "mode")
    np.testing.assert_array_equal(drawn.norm_z, columns.scalars["norm_z"])
    np.testing.assert_array_equal(drawn.norms_z, columns.arrays["norms_z"].values)
    kept = evidence._kept(records[0])
    assert kept["first"]["norm_z"] == records[0].first("norm_z") and kept["last"]["largest"] > 0


def test_a_quantity_is_measured_where_there_is_what_it_needs(new):
    z = torch.randn(2, 8, 4)
    found = monitor.measure(z, z, z)
    assert "norm_z" in found.scalars and "norms_z" in found.arrays
    absent = {"largest", "reach", "loss", "misalignment", "alignment", "target_ratio", "balance_residual", "knn"}
    assert not absent & {*found.scalars, *found.arrays}
    assert "misalignment" in monitor.measure(z, z, z, torch.eye(4)).scalars


def test_what_several_quantities_rest_on_is_computed_once(monkeypatch):
    names = ("eigh", "eigvalsh", "correlation", "misalignment", "directions")
    asked = {name: Mock(wraps=getattr(seen, name)) for name in names}
    for name, counting in asked.items():
        monkeypatch.setattr(seen, name, counting)
    z = torch.randn(2, 8, 4)
    monitor.measure(z, z, z, torch.randn(4, 4))
    counts = {name: counting.call_count for name, counting in asked.items()}
    assert counts == {"eigh": 1, "eigvalsh": 2, "correlation": 3, "misalignment": 1, "directions": 3}


def test_f_is_in_the_units_of_the_embeddings():
    z = 0.01 * torch.randn(2, 8, 4, dtype=torch.float64)
    flat = z.flatten(0, 1)
    found = seen.Seen(z, z, z)
    assert torch.allclose(found.F, flat.mT @ flat / 16, rtol=1e-12) and float(found.modes.scale) < 1


def test_a_name_is_given_once():
    assert collected([run, predictor]).keys() < QUANTITIES.keys()
    twin = ModuleType("twin")
    twin.QUANTITIES = (Quantity("loss", lambda seen: seen.loss, "another loss"),)
    with pytest.raises(ValueError, match="two quantities are called loss"):
        collected([run, twin])


def test_values_as_people_read_them():
    one = Quantity("x", lambda seen: 0.0, "x", form="+.2f", entries=(1, 3))
    assert one.text(None) == "" and one.text(0.126) == "+0.13"
    assert one.text([1.0, None, math.nan, 4.0]) == "– –" and one.text(np.array([1.0, 0.5])) == "+0.50"


def test_the_command_lists_every_quantity_with_its_words(capsys):
    assert door(["quantities"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}: {one.words}" in said for name, one in QUANTITIES.items())
    assert door(["quantities", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == QUANTITIES.keys() and listed["knn"]["at"] == "evaluation"


def test_every_column_of_a_run_is_a_quantity(tmp_path):
    trained(tmp_path / "run", target="ema")
    table = read(tmp_path / "run")
    assert {*table.scalars, *table.arrays} == {
        one.name for one in QUANTITIES.values() if one.at == "step" and "balance" not in one.needs
    } | {"balance_residual"}
