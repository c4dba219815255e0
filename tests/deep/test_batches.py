"""What a run's batches are: the same from any step on, in any number of processes; and who they are of arrives."""

from dataclasses import replace

import pytest
import torch
from image_folders import write_image

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.deep.data import datasets
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.orders.hybrid import Hybrid
from stopgrad.deep.data.orders.setting import Setting
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.storage import checkpoint
from stopgrad.deep.storage.table import read
from stopgrad.deep.training.build import build
from stopgrad.deep.training.recorder import Recorder
from stopgrad.deep.training.runs import Place, execute, training_batches

ALONE = World(0, 1, torch.device("cpu"), None)
SMALL = Method.of(backbone="linear", embedding_dim=4, projector_hidden=8)
LENGTH = Optimisation(epochs=5, batch_size=8, accumulation=2)
UNLOOKED = Monitor(probe="none", evaluate_every=1000)  # nobody here asks what a network is good for


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for k in range(24):
        write_image(root / ("train" if k % 3 else "val") / f"class {k % 2}" / f"{k}.png", k)
    return root


@pytest.fixture(params=["resident", "stream", "points"])
def config(request, folder, monkeypatch):
    """16 images in each storage, with an order that repeats them within an epoch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))  # where decoded images are kept
    images = Data(dataset="imagefolder", data_folder=str(folder), workers=0, order=Hybrid())
    points = Data(dataset="gaussian", gaussian_dim=6, gaussian_samples=16, order=Hybrid())
    data = points if request.param == "points" else replace(images, storage=request.param)
    return Config(data, SMALL, LENGTH, UNLOOKED)


def batches(config, world=ALONE, first_step=0):
    dataset = datasets.load(config.data, config.seed)
    return list(training_batches(config, dataset, world, torch.float32)(first_step))


def same(a: Batch, b: Batch) -> bool:
    tensors = zip((a.index, a.visit, *a.views), (b.index, b.visit, *b.views), strict=True)
    return a.step == b.step and all(map(torch.equal, *zip(*tensors)))


def test_a_run_repeats_images_and_no_view(config):
    """An image of a chunk is seen twice and more within an epoch, otherwise each time."""
    whole = batches(config)
    index, visit = (torch.cat(v) for v in zip(*((b.index, b.visit) for b in whole)))
    views = torch.cat([view for b in whole for view in b.views]).flatten(1)
    assert len(index[:16].unique()) <= 4
    assert len(set(zip(index.tolist(), visit.tolist()))) == len(index) == 5 * 16
    assert len(views.unique(dim=0)) == len(views) == 2 * 5 * 16


@pytest.mark.parametrize("step", [1, 3, 6])
def test_from_any_step_on_a_run_is_the_same(config, step):
    whole, rest = batches(config), batches(config, first_step=step)
    assert len(rest) == len(whole) - 2 * step
    assert all(map(same, rest, whole[2 * step :]))


def test_two_processes_see_what_one_sees(config):
    both = [batches(config, World(rank, 2, ALONE.device, None)) for rank in (0, 1)]
    for alone, first, second in zip(batches(config), *both, strict=True):
        views = tuple(map(torch.cat, zip(first.views, second.views)))
        index, visit = (torch.cat([getattr(b, name) for b in (first, second)]) for name in ("index", "visit"))
        assert same(alone, Batch(views, index, visit, first.step))


def test_the_objective_knows_which_images_it_sees(config):
    dataset, seen = datasets.load(config.data, config.seed), []
    siamese = build(config, dataset, ALONE)
    asked = siamese.objective

    class Listening:
        views, whole_batch, compares, scalars = asked.views, False, asked.compares, asked.scalars

        def at(self, step):
            return self

        def __call__(self, outputs):
            seen.append(outputs.index)
            return asked(outputs)

    siamese.objective = Listening()
    for batch in batches(config):
        siamese(batch)
    setting = Setting.of(config, dataset.train.labels)
    assert torch.equal(torch.stack(seen).view(-1, 8), torch.stack([Hybrid().at(setting, k)[0] for k in range(10)]))


def learned(config, folder, **place):
    """How a run in `folder` ends, and its weights."""
    state = execute(config, Place(folder, quiet=True, picture=False, **place), ALONE)["state"]
    return state, checkpoint.load_latest(folder).payload["siamese"]


@pytest.mark.parametrize("order", ["hybrid", "current", "accumulate", "last"])
def test_stopped_in_mid_chunk_a_run_goes_on_to_the_same_bits(config, order, tmp_path, monkeypatch):
    config = change(config, order=order)
    _, whole = learned(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "must_stop", lambda self: len(self.rows) == 1)  # after the first step, in a chunk
        assert learned(config, tmp_path / "parted")[0] == "stopped"
    state, parted = learned(config, tmp_path / "parted", resume=True)
    assert state == "finished"
    assert all(torch.equal(whole[name], parted[name]) for name in whole)


def test_a_restarted_learning_rate_changes_nothing_before_the_switch(config, tmp_path):
    rates = []
    for restart in (False, True):
        one = change(config, restart_lr=restart, monitor_every=1, accumulation=1)
        learned(one, tmp_path / f"{restart}")
        rates.append(read(tmp_path / f"{restart}").scalars)
    plain, anew = (found["lr"] for found in rates)
    switch = 2 * 2  # epochs of 5, of two steps each
    assert (plain[:switch] == anew[:switch]).all() and anew[switch] == anew[0] > plain[switch]
    assert (rates[0]["loss"][: switch + 1] == rates[1]["loss"][: switch + 1]).all()
    assert (anew[switch + 1 :] > plain[switch + 1 :]).all()


def test_an_order_makes_a_difference(config, tmp_path):
    usual = change(config, order="shuffled")
    (_, one), (_, other) = learned(config, tmp_path / "hybrid"), learned(usual, tmp_path / "shuffled")
    assert not all(torch.equal(one[name], other[name]) for name in one)
