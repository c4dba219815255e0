"""The watch in other people's loops: what it measures, says and keeps, in a plain loop, in Lightning, with lightly."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from processes import PROCESSES
from torch import nn

from stopgrad.deep import Watch, measure
from stopgrad.deep.__main__ import door
from stopgrad.deep.measuring.monitor import to_host
from stopgrad.deep.storage.run_folder import whole_summary
from stopgrad.deep.storage.table import read
from stopgrad.deep.training.watch import CollapseWarning
from stopgrad.experiments.store.series import over_steps
from stopgrad.experiments.store.store import Store

PLAIN = {"tensorboard": False, "picture": False}


def vectors(seed=0, B=24, d=6, views=2):
    """Two views of images that agree half, (2, B, d)."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(1, B, d, generator=draw)
    return own + torch.randn(views, B, d, generator=draw)


def narrow(share, seed=0):
    """Embeddings of which all but this share points one way."""
    return torch.ones(6) + share * vectors(seed)


# ---------------------------------------------------------------- what it measures


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_row_is_what_the_monitor_measures(tmp_path, dtype):
    z, p, target = (vectors(k).to(dtype) for k in range(3))
    W = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    with Watch(tmp_path, **PLAIN) as watch:
        row = watch((z[0], z[1]), p.requires_grad_(), target, W, loss=torch.tensor(0.25), epoch=3, lr=0.5)
    wanted, arrays = to_host(measure(z, p, target, W, full=True))
    assert row.items() >= wanted.items() and (row["loss"], row["epoch"]) == (0.25, 3)
    kept = read(tmp_path)
    assert kept.scalars["lr"].tolist() == [0.5] and p.grad is None
    assert all(np.array_equal(kept.arrays[name].values[0], value, equal_nan=True) for name, value in arrays.items())


def test_only_every_kth_step_is_looked_at(tmp_path, monkeypatch):
    with Watch(tmp_path, every=3, **PLAIN) as watch:
        rows = [watch(vectors(k)) for k in range(8)]
        assert watch(vectors(), step=12) is not None
    assert [k for k, row in enumerate(rows) if row] == [0, 3, 6] and read(tmp_path).step.tolist() == [0, 3, 6, 12]
    assert watch.summary["steps"] == 13
    with pytest.raises(ValueError, match="this watch is closed"):
        watch(vectors())


def test_large_spectra_are_taken_now_and_then(tmp_path):
    with Watch(tmp_path, every=2, spectra_every=6, **PLAIN) as watch:
        rows = [watch(vectors(B=4, d=520)) for _ in range(13)]
    assert [k for k, row in enumerate(rows) if row and "rank_z" in row] == [0, 6, 12]
    assert all(row["participation_z"] > 1 for row in rows if row)


def test_without_predictor_and_target_these_are_the_embeddings(tmp_path):
    z = vectors(views=3)  # of more views the first two
    with Watch(tmp_path, **PLAIN) as watch:
        row = watch(z)
    assert row == pytest.approx(row | to_host(measure(z[:2], z[:2], z[:2]))[0], nan_ok=True)
    assert row["cosine_prediction"] == row["cosine_views"]


def test_a_loop_is_not_disturbed(tmp_path):
    """Neither its random numbers nor its graph."""
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    z = vectors().requires_grad_()
    with Watch(tmp_path, every=1, **PLAIN) as watch:
        watch(z)
        assert torch.equal(torch.rand(3), wanted)
        z.square().sum().backward()
    assert torch.equal(z.grad, 2 * z)


# ---------------------------------------------------------------- what it says


def test_it_warns_in_words_as_soon_as_a_collapse_begins_and_once(tmp_path):
    with Watch(tmp_path, every=1, **PLAIN) as watch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k, share in enumerate((1.0, 0.9, 0.1, 0.1, 0.05)):
            watch(narrow(share, k))
    first, *_ = (str(one.message) for one in said if one.category is CollapseWarning)
    assert first.startswith("step 2: channel std × √d of Z fell below 0.18") and said[0].filename == __file__
    kinds = [sign.kind for sign in watch.signs]
    assert len(kinds) == len(set(kinds)) == len(said) and "direction collapsed" in kinds
    assert watch.summary["diagnosis"] == "complete collapse (direction)" and len(watch.summary["warnings"]) == len(said)


def test_a_warning_may_end_the_loop(tmp_path):
    with warnings.catch_warnings(), Watch(tmp_path, every=1, **PLAIN) as watch:
        warnings.simplefilter("error", CollapseWarning)
        watch(narrow(1.0))
        with pytest.raises(CollapseWarning, match="step 1: "):
            watch(narrow(0.01))
    assert read(tmp_path).step.tolist() == [0, 1]  # what was seen is kept


@pytest.mark.parametrize("at", [0, 1])
def test_what_is_no_number_is_a_divergence(tmp_path, at):
    with Watch(tmp_path, every=1, **PLAIN) as watch, pytest.warns(CollapseWarning, match="no longer a finite number"):
        for k in range(2):
            watch(vectors() * (math.nan if k >= at else 1))
    assert watch.summary["state"] == watch.summary["diagnosis"] == "diverged"
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "diverged"


# ---------------------------------------------------------------- what it keeps


def test_what_is_watched_is_read_as_a_run(tmp_path, capsys):
    folder = tmp_path / "mine"
    W = torch.eye(6)
    with Watch(folder, every=1, tensorboard=False) as watch:
        for k in range(3):
            watch(vectors(k), W=W, loss=0.5)
    assert whole_summary(folder) == watch.summary == watch.close()
    assert door(["summary", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "3 steps" in said and "effective rank of Z" in said and "healthy: Embeddings keep their size" in said
    assert (folder / "run.png").stat().st_size > 10_000 and (folder / "measurements.npz").exists()
    drawn = over_steps(read(folder), ["loss", "rank_z", "alignment"])
    assert drawn.sizes == {"step": 3, "mode": 6} and (drawn.loss == 0.5).all()
    [entry] = Store(tmp_path).entries()  # listed, and never taken for a run of some config
    assert (entry.state, entry.config, entry.record) == ("finished", None, None)


def test_a_program_that_ends_without_closing_leaves_a_summary(tmp_path):
    program = (
        "import torch\nfrom stopgrad.deep import Watch\n"
        f"watch = Watch({str(tmp_path)!r}, picture=False, tensorboard=False)\n"
        "watch(torch.randn(2, 16, 4))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and whole_summary(tmp_path)["steps"] == 1


def test_a_folder_that_is_gone_at_the_end_is_no_error(tmp_path):
    with Watch(tmp_path / "gone", **PLAIN) as watch:
        watch(vectors())
        shutil.rmtree(tmp_path / "gone")
    assert watch.summary == {} and not (tmp_path / "gone").exists()


def test_nothing_seen_is_nothing_kept(tmp_path):
    with Watch(tmp_path / "none", **PLAIN) as watch:
        pass
    assert watch.summary == {} and not (tmp_path / "none").exists()


def test_a_watch_goes_on_where_a_loop_was_resumed(tmp_path):
    parts = [vectors(k) for k in range(8)]
    with Watch(tmp_path / "whole", every=1, **PLAIN) as whole:
        for part in parts:
            whole(part)
    with Watch(tmp_path / "parted", every=1, **PLAIN) as first:
        for part in parts[:6]:
            first(part)
    with Watch(tmp_path / "parted", every=1, resume=True, **PLAIN) as again:
        for k in range(4, 8):  # from a checkpoint after the fourth step
            again(parts[k], step=k)
    a, b = (read(tmp_path / name) for name in ("whole", "parted"))
    assert a.step.tolist() == b.step.tolist() and np.array_equal(a.scalars["std_z"], b.scalars["std_z"])
    assert whole.summary["first"]["std_z"] == again.summary["first"]["std_z"] and whole.signs == again.signs
    assert (np.diff(b.scalars["seconds"]) > 0).all()
    with Watch(tmp_path / "parted", every=1, resume=True, **PLAIN) as last:
        last(parts[0])  # no step given: the next
    assert read(tmp_path / "parted").step.tolist() == list(range(9))


def test_tensorboard_has_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Watch(tmp_path, every=1, picture=False) as watch:
        rows = [watch(vectors(k)) for k in range(2)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("train/std_z")] == pytest.approx([row["std_z"] for row in rows])


# ---------------------------------------------------------------- several processes


def part(rank, folder, port):
    """One of two processes, each with half of the images."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    with Watch(folder, every=2, **PLAIN) as watch:
        rows = [watch(vectors(k).chunk(2, dim=1)[rank], loss=float(rank)) for k in range(3)]
    assert [row is None for row in rows] == ([False, True, False] if rank == 0 else [True] * 3)
    torch.distributed.destroy_process_group()


def test_two_processes_are_watched_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [PROCESSES.Process(target=part, args=(rank, tmp_path / "both", port)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    with Watch(tmp_path / "one", every=2, **PLAIN) as watch:
        for k in range(3):
            watch(vectors(k), loss=0.5)
    one, two = (read(tmp_path / name) for name in ("one", "both"))
    assert one.step.tolist() == two.step.tolist() == [0, 2]
    for name in one.scalars.keys() - {"seconds"}:
        np.testing.assert_allclose(two.scalars[name], one.scalars[name], rtol=1e-4, atol=1e-5, err_msg=name)


# ---------------------------------------------------------------- refusals


def test_a_folder_with_measurements_is_not_mixed_up(tmp_path):
    with Watch(tmp_path, **PLAIN) as watch:
        watch(vectors())
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds measurements already; name another folder, or go on with resume=True"):
        Watch(tmp_path, **PLAIN)(vectors())
    with Watch(tmp_path / "busy", **PLAIN) as watch:
        watch(vectors())
        with pytest.raises(ValueError, match="is being written"):
            Watch(tmp_path / "busy", resume=True, **PLAIN)(vectors())
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_what_makes_no_sense_is_said(tmp_path):
    for name in ("every", "spectra_every"):
        with pytest.raises(ValueError, match=f"{name} is 0; a watch measures every so many steps"):
            Watch(tmp_path, **{name: 0})
    with Watch(tmp_path / "a", **PLAIN) as watch:
        with pytest.raises(ValueError, match=r"\(2, 24, 6\), \(2, 24, 5\)"):
            watch(vectors(), vectors(d=5))
        with pytest.raises(ValueError, match="std_z: measured already"):
            watch(vectors(), step=0, std_z=1.0)


# ---------------------------------------------------------------- Lightning


def test_a_callback_without_lightning_says_what_to_install(tmp_path, monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="a callback needs Lightning: pip install lightning"):
        Watch(tmp_path).callback()


def test_a_callback_hands_on_what_a_training_step_returns(tmp_path, monkeypatch):
    """Against a Trainer that calls the hooks as Lightning does; the real one is below, where it is installed."""
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.SimpleNamespace(Callback=object))
    trainer = types.SimpleNamespace(global_step=0, current_epoch=1, accumulate_grad_batches=1)
    watch = Watch(tmp_path, every=1, **PLAIN)
    callback = watch.callback()
    callback.on_train_start(trainer, None)
    for k in range(3):
        outputs = {"loss": torch.tensor(float(k)), "z": vectors(k), "W": torch.eye(6)}
        callback.on_train_batch_end(trainer, None, outputs, None, k)
    with pytest.raises(ValueError, match="a training_step that returns a dictionary with 'loss' and 'z'"):
        callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.0)}, None, 3)
    callback.on_train_end(trainer, None)
    found = read(tmp_path)
    assert found.scalars["loss"].tolist() == [0, 1, 2] and (found.scalars["epoch"] == 1).all()
    assert "alignment" in found.arrays and watch.summary["state"] == "finished"
    trainer.global_step = 2  # resumed
    watch = Watch(tmp_path, every=1, resume=True, **PLAIN)
    callback = watch.callback()
    callback.on_train_start(trainer, None)
    callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(7.0), "z": vectors()}, None, 0)
    callback.on_exception(trainer, None, KeyboardInterrupt())
    assert read(tmp_path).scalars["loss"].tolist() == [0, 1, 7] and watch.summary["steps"] == 3


def installed_lightning():
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return pytest.importorskip(name, exc_type=ImportError)
        except pytest.skip.Exception:
            continue
    pytest.skip("Lightning is not installed")


def test_lightnings_own_trainer(tmp_path):
    lightning = installed_lightning()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.f, self.h = nn.Linear(8, 6), nn.Linear(6, 6, bias=False)

        def training_step(self, batch, index):
            z = torch.stack([self.f(x) for x in batch])
            p = self.h(z)
            loss = -torch.cosine_similarity(p, z.detach().flip(0), dim=-1).mean()
            return {"loss": loss, "z": z, "p": p, "W": self.h.weight}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*torch.randn(2, 40, 8)), batch_size=8)
    watch = Watch(tmp_path / "watched", every=2, **PLAIN)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[watch.callback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Module(), loader)
    found = read(tmp_path / "watched")
    assert found.step.tolist() == [0, 2, 4, 6, 8] and found.scalars["epoch"].tolist() == [0, 0, 0, 1, 1]
    assert watch.summary["steps"] == 10 and "alignment" in found.arrays


# ---------------------------------------------------------------- lightly's own SimSiam


@pytest.mark.parametrize(
    ("free", "sign", "lr"),
    [(True, "direction narrows", 0.1), (False, "directions fall away", 0.2)],
    ids=["without its last BatchNorm", "as it is"],
)
def test_lightlys_simsiam_is_warned_of_when_its_predictor_is_removed(free, sign, lr, tmp_path, monkeypatch):
    """On digits, with lightly's heads and loss, before the epoch ends, and of nothing while the predictor was there.

    BatchNorm behind the projector leaves only a collapse of dimensions, which begins slowly; without it all embeddings
    turn one way.
    """
    monkeypatch.setenv("LIGHTLY_DID_VERSION_CHECK", "True")
    pytest.importorskip("lightly")
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
    from sklearn.datasets import load_digits

    torch.manual_seed(1000)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
    projection = SimSiamProjectionHead(128, 64, 32)
    projection.layers = projection.layers[:-1] if free else projection.layers
    prediction, criterion = SimSiamPredictionHead(32, 16, 32), NegativeCosineSimilarity()
    weights = [w for part in (backbone, projection, prediction) for w in part.parameters()]
    optimiser = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-3)
    batch = 16
    epoch = len(images) // batch

    def train(watch, predict, steps):
        for _ in range(steps):
            x = images[torch.randint(len(images), (batch,))]
            z1, z2 = (projection(backbone(x + 0.5 * torch.randn_like(x))) for _ in range(2))
            p1, p2 = predict(z1), predict(z2)
            loss = (criterion(p1, z2.detach()) + criterion(p2, z1.detach())) / 2
            watch((z1, z2), (p1, p2), loss=loss)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    with Watch(tmp_path, every=5, **PLAIN) as watch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(watch, prediction, 2 * epoch)
        assert watch.signs == said == []
        train(watch, lambda z: z, epoch)
    assert sign in {one.kind for one in watch.signs}
    assert CollapseWarning in {one.category for one in said}
