"""The first look: recipes, record and stopping, rehearsed in toy size."""

import json
import math
import os
import signal
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import stopgrad.deep.training.recorder
import stopgrad.deep.words.picture
from stopgrad.deep.config import Config, Monitor, Optimisation
from stopgrad.deep.data.datasets import Dataset, ImageSet
from stopgrad.deep.method.backbones.resnet import ResNet18
from stopgrad.deep.presets import changes
from stopgrad.deep.presets.simsiam import SIMSIAM_CIFAR10
from stopgrad.deep.storage.table import Table, read
from stopgrad.deep.training.stopping import HINTS, Told
from stopgrad.experiments.commands.first_look import RECIPES, FirstLook, stopping
from stopgrad.experiments.commands.first_look_record import CIFAR10, columns, compact, over_time, recorded, scale, speed

TEN = Config(optimisation=Optimisation(batch_size=10))


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For `rehearsed` too: a record names the number of threads, and the last bits follow from it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rehearsal(folder, **options):
    return FirstLook(**{"rehearse": True, "runs": folder, "out": folder / "record.json", "quiet": True} | options)


def timeless(record):
    """A record without wall-clock times."""
    recipes = json.loads(compact(record))["recipes"]
    for found in recipes.values():
        del found["seconds"], found["speed"], found["over_time"]["seconds"]
    return recipes


# ---------------------------------------------------------------- recipes


def test_the_recipes_are_the_papers_but_for_what_they_say(tmp_path):
    for configs in (FirstLook(data_folder=tmp_path).configs(), FirstLook(data_folder=tmp_path, epochs=7).configs()):
        own = changes(configs["simsiam"], SIMSIAM_CIFAR10)
        assert own.keys() == {"dataset", "data_folder", "epochs", "monitor_every", "evaluate_every"}
        linear = changes(configs["linear-predictor"], configs["simsiam"])
        heads = {"projector_output_bn": "none", "predictor": "linear", "predictor_bias": False, "embedding_dim": 128}
        assert {name: v for name, v in linear.items() if name != "monitor_every"} == heads
    config = FirstLook(data_folder=tmp_path).configs()["simsiam"]
    assert (config.method.backbone, config.optimisation.epochs) == (ResNet18(width=64), 100)


def test_every_evaluation_of_simsiam_falls_on_a_measurement(tmp_path):
    """Otherwise the spectra in 2048 dimensions would not be taken."""
    for recipe in RECIPES.values():
        monitor, steps = recipe.config.monitor, 50_000 // recipe.config.optimisation.batch_size
        assert recipe.config.method.embedding_dim <= 512 or steps * monitor.evaluate_every % monitor.monitor_every == 0


# ---------------------------------------------------------------- the record


def write_run(folder, rows, dimension=12, full_every=1, seconds=lambda step: step / 4):
    """A table of `rows` measurements, one every second step, 10 steps an epoch; mode j's values are j + step/100."""
    with Table(folder) as table:
        for k in range(rows):
            step, modes = 2 * k, np.arange(1, dimension + 1)
            full = k % full_every == 0
            scalars = {"epoch": step // 10, "loss": -step, "seconds": seconds(step)} | (
                {"rank_z": step} if full else {}
            )
            arrays = {"eigenvalues": modes + step / 100, "alignment": -modes - step / 100} if full else {}
            table.append(step, scalars, {name: v.astype(np.float64) for name, v in arrays.items()})
    return read(folder)


def test_columns_hold_the_modes_by_name(tmp_path):
    found = over_time(write_run(tmp_path, 30), 10)
    assert found["step"] == [*range(0, 60, 2)]
    assert found["epoch"] == [step / 10 for step in found["step"]]
    assert found["loss"] == [-step for step in found["step"]]
    for mode in range(2, 9):
        np.testing.assert_allclose(found[f"alignment_{mode}"], [-mode - step / 100 for step in found["step"]])
    assert {"alignment_1", "alignment_9", "eigenvalue_9"}.isdisjoint(found)
    assert found["eigenvalue_1"][0] == 1
    assert {len(column) for column in found.values()} == {30}


def test_modes_that_were_not_measured_are_no_numbers(tmp_path):
    found = over_time(write_run(tmp_path, 30, dimension=3, full_every=4), 10)
    there = [k % 4 == 0 for k in range(30)]
    assert [math.isfinite(v) for v in found["alignment_3"]] == there
    assert [math.isfinite(v) for v in found["rank_z"]] == there
    assert "alignment_4" not in found


def test_a_long_run_is_thinned_and_keeps_its_rare_spectra(tmp_path):
    found = over_time(write_run(tmp_path, 5000, full_every=100), 10)
    assert found["step"][0] == 0
    assert found["step"][-1] == 9998
    assert 100 < len(found["step"]) <= 200
    assert found["step"][:4] == [0, 2, 4, 6]
    assert set(range(0, 10_000, 200)) <= set(found["step"])
    assert max(np.diff(found["step"])) <= 10_000 / 49


def test_nothing_measured_is_no_column(tmp_path):
    empty = read(tmp_path)
    assert over_time(empty, 10) == {"step": [], "epoch": []}
    assert columns(empty, ("knn",), np.arange(0)) == {"step": []}
    assert speed(empty, TEN, 10) == {}
    assert recorded(tmp_path, TEN, 100)["state"] == "not begun"


def test_speed_leaves_out_what_happens_between_epochs(tmp_path):
    """Steps of 0.25 s, and 3 s after each epoch of 10."""
    table = write_run(tmp_path, 50, seconds=lambda step: step / 4 + 3 * (step // 10))
    found = speed(table, TEN, 10)
    assert found["images_per_second"] == pytest.approx(40)
    assert found["seconds_per_epoch"] == pytest.approx(2.5)
    assert found["seconds_per_epoch_all_told"] == pytest.approx((98 / 4 + 27) / 98 * 10)


def test_the_whole_record_is_small_and_one_line_a_column(tmp_path):
    write_run(tmp_path, 5000, full_every=90)
    table = {"steps, with, commas": ["a,b", "c, d"], "recipe": recorded(tmp_path, TEN, 100)}
    text = compact(dict.fromkeys(RECIPES, table))
    assert len(text.encode()) < 100_000
    assert json.loads(text) == json.loads(json.dumps(json.loads(text)))
    assert json.loads(text)["simsiam"]["steps, with, commas"] == ["a,b", "c, d"]
    assert sum(line.startswith('"loss": [') and line.endswith("],") for line in text.splitlines()) == 2


def images(count, size=32):
    return ImageSet(torch.zeros(1, 3, size, size, dtype=torch.uint8).expand(count, -1, -1, -1), torch.zeros(count))


@pytest.mark.parametrize(
    ("count", "suffix", "words"),
    [
        (50_000, ".jpg", "CIFAR-10 (JPEG copy)"),
        (50_000, ".png", "CIFAR-10"),
        (5_000, ".jpg", "5000 + 10000 images of 32 pixels in 10 classes"),
    ],
)
def test_the_scale_says_what_the_images_are(tmp_path, count, suffix, words):
    path = tmp_path / "train" / "airplane" / f"0{suffix}"
    path.parent.mkdir(parents=True)
    path.touch()
    dataset = Dataset("imagefolder", CIFAR10, (0,) * 3, (1,) * 3, images(count), images(10_000), 32, "")
    hidden = tmp_path / "train" / ".ipynb_checkpoints" / "0.jpg"
    hidden.parent.mkdir()
    hidden.touch()
    assert scale(str(tmp_path), dataset) == words


# ---------------------------------------------------------------- the rehearsal


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The folder and record of a rehearsal that nobody disturbed."""
    folder = tmp_path_factory.mktemp("first_look")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return folder, rehearsal(folder).run()


def test_a_rehearsal_records_both_recipes(rehearsed):
    folder, result = rehearsed
    record = json.loads((folder / "record.json").read_text())
    assert record["state"] == "finished"
    assert record["scale"] == "128 + 64 images of 16 pixels in 4 classes"
    assert {"fingerprint", "hardware", "torch", "python"} <= record["provenance"].keys()
    assert [*record["recipes"]] == ["linear-predictor", "simsiam"]
    for name, found in record["recipes"].items():
        assert (found["state"], found["epochs_done"]) == ("finished", 3)
        assert found["diagnosis"]
        assert found["evaluations"]["epoch"] == [0, 1, 2, 3]
        assert all(0 <= knn <= 1 for knn in found["evaluations"]["knn"])
        assert {"loss", "rank_z", "rank_p"} <= found["over_time"].keys()
        assert ("alignment_2" in found["over_time"]) == (name == "linear-predictor")
        assert found["speed"]["images_per_second"] > 0
        assert "data_folder" not in found["config"]["data"]
    assert str(folder) not in (folder / "record.json").read_text()
    command = rehearsal(folder)
    assert command.status(result) == 0
    assert "alignment_2: " in command.text(result)


def test_repeated_it_trains_nothing_again(rehearsed, monkeypatch):
    folder, result = rehearsed
    before = (folder / "record.json").read_bytes()
    monkeypatch.setattr(stopgrad.deep.training.recorder.Recorder, "measure", None)
    assert rehearsal(folder).run() == result
    assert (folder / "record.json").read_bytes() == before


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (stopgrad.deep.training.recorder.Recorder, "wants", 6),  # in training, where the run keeps its state
        (stopgrad.deep.training.recorder.Recorder, "wants", 17),  # in that of the second
        (stopgrad.deep.words.picture, "draw", 1),  # out of training, where nobody else takes the signal
    ],
)
def test_stopped_it_goes_on_with_the_same_command(tmp_path, rehearsed, monkeypatch, owner, name, call):
    original, calls = getattr(owner, name), []

    def struck(*arguments):
        calls.append(0)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, struck)
        stopped = rehearsal(tmp_path).run()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert rehearsal(tmp_path).status(stopped) == 128 + signal.SIGTERM
    assert "the same command goes on" in rehearsal(tmp_path).text(stopped)
    assert json.loads((tmp_path / "record.json").read_text())["state"] == "unfinished"
    linear, simsiam = stopped["recipes"].values()
    assert linear["over_time"]["step"]
    assert (linear["state"], simsiam["state"]) == (
        ("finished", "unfinished") if call == 17 else ("unfinished", "not begun")
    )
    result = rehearsal(tmp_path).run()
    assert result["state"] == "finished"
    assert timeless(result) == timeless(rehearsed[1])


def test_a_run_that_diverges_is_recorded_and_the_next_one_begun(tmp_path, monkeypatch):
    command, original = rehearsal(tmp_path, epochs=1), FirstLook.configs

    def configs(self):
        found = original(self)
        wild = replace(found["linear-predictor"].optimisation, lr=1e30, lr_scaling="none", precision="float32")
        return found | {"linear-predictor": replace(found["linear-predictor"], optimisation=wild)}

    monkeypatch.setattr(FirstLook, "configs", configs)
    result = command.run()
    assert [found["state"] for found in result["recipes"].values()] == ["diverged", "finished"]
    assert command.status(result) == 1
    assert json.loads((tmp_path / "record.json").read_text())["state"] == "finished"


# ---------------------------------------------------------------- stopping in time


def test_when_time_is_over_the_process_is_told_so():
    written = []
    with pytest.raises(Told), stopping(time.monotonic() + 0.05, lambda: 1 / len(written), every=0.01):
        while True:  # a writing that fails must not cost the order to stop
            time.sleep(0.01)


def test_without_a_limit_it_only_writes():
    written = []
    with stopping(math.inf, lambda: written.append(0), every=0.001):
        while len(written) < 3:
            time.sleep(0.001)
    count = len(written)
    time.sleep(0.01)
    assert len(written) == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, *HINTS])
def test_an_order_from_outside_counts_as_well(number):
    with pytest.raises(Told) as told, stopping(math.inf, lambda: None):
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert told.value.number == number


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rehearse": False}, "--data-folder"),
        ({"data_folder": "somewhere"}, "either --data-folder"),
        ({"minutes": 0.0}, "--minutes is 0"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"rehearse": False, "data_folder": "nowhere", "device": "cpu"}, "there is no train/ in nowhere"),
    ],
)
def test_impossible_wishes_leave_no_record(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        rehearsal(tmp_path, **options).run()
    assert not (tmp_path / "record.json").exists()


def test_without_an_accelerator_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="there is no CUDA device"):
        rehearsal(tmp_path, rehearse=False, data_folder=tmp_path).run()


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stopgrad.deep.training.runs.joined", lambda device: nullcontext(SimpleNamespace(size=2)))
    with pytest.raises(ValueError, match="without torchrun"):
        rehearsal(tmp_path).run()


@pytest.mark.parametrize("change", ["scale", "hardware", "config", "nonsense"])
def test_another_record_is_neither_lost_nor_mixed_with(tmp_path, rehearsed, change):
    record = json.loads((rehearsed[0] / "record.json").read_text())
    if change == "hardware":
        record["provenance"]["hardware"] = "another"
    elif change == "config":
        record["recipes"]["simsiam"]["config"]["seed"] = 1
    else:
        record[change] = "another"
    text = "{}" if change == "nonsense" else json.dumps(record)
    (tmp_path / "record.json").write_text(text)
    words = "no record of a first look" if change == "nonsense" else f"another {change}"
    with pytest.raises(ValueError, match=words):
        rehearsal(tmp_path).run()
    assert (tmp_path / "record.json").read_text() == text


def test_a_toy_recipe_is_small_and_otherwise_the_recipe(tmp_path):
    for name, config in rehearsal(tmp_path).configs().items():
        assert type(config.method.predictor) is type(RECIPES[name].config.method.predictor)
        assert config.method.projector_output_bn == RECIPES[name].config.method.projector_output_bn
        assert config.monitor != Monitor()
