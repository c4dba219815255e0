"""A run as a whole: its folder, what is refused, how it ends, and two processes that do what one does."""

import contextlib
import json
import os
import shlex
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from processes import PROCESSES
from small_runs import TINY, run, title_alone, undrawn

from stopgrad.deep.config import change
from stopgrad.deep.storage import checkpoint, lock, table
from stopgrad.deep.training.runs import evaluate_again, joined
from stopgrad.linear_theory.tools.errors import BadInput


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(folder)


# ---------------------------------------------------------------- how runs end


@pytest.mark.parametrize("loss", ["squared", "cosine"])
@pytest.mark.parametrize("every", [1, 1000])
def test_divergence_is_seen_also_between_measurements(tmp_path, monkeypatch, loss, every):
    if loss == "cosine":
        undrawn(monkeypatch)  # the table of the other is as full of holes
    config = change(TINY, lr=1e30, loss=loss, monitor_every=every, epochs=50, references=("random",))
    summary = run(tmp_path / "run", config, picture=True)
    assert summary["state"] == summary["diagnosis"] == "diverged"
    assert summary["steps"] < 50 * 4
    assert summary["knn"]["after"] is summary["representation"] is summary["probe"] is None
    start = b"digits, " if loss == "cosine" else b"\x89PNG"
    assert (tmp_path / "run" / "run.png").read_bytes().startswith(start)
    assert not (tmp_path / "run" / "backbone.pt").exists()
    assert run(tmp_path / "run", config) == summary
    with pytest.raises(ValueError, match="diverged"):
        evaluate_again(tmp_path / "run", "none", (), "cpu")


def test_weights_that_are_lost_in_the_very_last_step(tmp_path, monkeypatch):
    """Every measured row is finite; the network is not."""
    step = torch.optim.SGD.step
    calls = []

    def last_is_lost(self, *arguments):
        calls.append(step(self, *arguments))
        if len(calls) == 8:
            self.param_groups[0]["params"][0].data[0] = torch.nan

    monkeypatch.setattr(torch.optim.SGD, "step", last_is_lost)
    summary = run(tmp_path / "run")
    assert (summary["diagnosis"], summary["steps"], summary["last"]["step"]) == ("diverged", 8, 7)


def test_a_loss_that_overflows_at_the_first_step(tmp_path):
    summary = run(tmp_path / "run", change(TINY, loss="squared", loss_scale=1e39), picture=True)
    assert (summary["diagnosis"], summary["steps"]) == ("diverged", 0)


def test_a_collapse_is_a_result(tmp_path):
    config = change(
        TINY, predictor="identity", loss="squared", lr=1.0, epochs=25, probe="logistic", stop_gradient="none"
    )
    summary = run(tmp_path / "run", config)
    assert summary["state"] == "finished"
    assert "collapse" in summary["diagnosis"]
    assert summary["alignment"] is None
    assert summary["probe"]["accuracy"] >= 0


def test_no_epoch_at_all_evaluates_the_network_as_initialised(tmp_path, monkeypatch):
    undrawn(monkeypatch)
    config = change(TINY, epochs=0, probe="logistic", references=("random", "supervised"))
    summary = run(tmp_path / "run", config, picture=True)
    assert summary["diagnosis"] is summary["spectrum"] is None
    assert summary["explanation"].startswith("Nothing was trained")
    assert summary["knn"]["before"] == summary["knn"]["after"] == summary["references"]["random"]["knn"]
    assert summary["probe"]["accuracy"] == summary["references"]["random"]["probe"]
    assert run(tmp_path / "run", config) == summary
    assert evaluate_again(tmp_path / "run", "none", (), "cpu")["knn"] == summary["knn"]["after"]


def test_a_run_is_evaluated_again_to_the_same_numbers(tmp_path):
    config = change(TINY, references=("pixels", "random", "supervised"), probe="logistic", precision="float64")
    summary = run(tmp_path / "run", config)
    again = evaluate_again(tmp_path / "run", "logistic", config.monitor.references, "cpu")
    assert again["knn"] == summary["knn"]["after"]
    assert again["knn_pixels"] == summary["knn"]["pixels"]
    assert again["probe"] == summary["probe"]
    assert again["references"] == summary["references"]
    assert again["references"]["random"]["knn"] == summary["knn"]["before"]
    assert again["references"]["pixels"]["knn"] == summary["knn"]["pixels"]
    assert again["collapse_auc"] == summary["representation"]["collapse_auc"]


def test_what_cannot_be_computed_at_the_end_does_not_cost_the_run(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise BadInput("the training labels are all the same")

    monkeypatch.setattr("stopgrad.deep.training.conclusion.linear_probe", refuse)
    summary = run(tmp_path / "run", change(TINY, probe="logistic"))
    assert summary["probe"] is None
    assert summary["warnings"][-1] == "linear probe: the training labels are all the same"


def test_the_backbone_loads_into_torchvision(tmp_path, monkeypatch):
    undrawn(monkeypatch)
    config = change(TINY, backbone="resnet18", stem="imagenet", width=64, epochs=0)
    run(tmp_path / "run", config, picture=True)
    state = torch.load(tmp_path / "run" / "backbone.pt", weights_only=True)
    network = torchvision.models.resnet18()
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"}
    assert unexpected == []


# ---------------------------------------------------------------- several processes

WIDE = change(  # float64 and 20 steps
    TINY, backbone="resnet18", width=1, precision="float64", epochs=5, monitor_every=1, target="ema", ema_momentum=0.9,
    predictor="directpred", predictor_freq=2, references=("supervised",), evaluate_every=1000,
)  # fmt: skip


def process(rank, size, port, work, arguments):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    raise SystemExit(work(rank, *arguments))


def two(work, *arguments):
    """Exit statuses of work(rank, …) in two processes, None for one that had to be killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = [PROCESSES.Process(target=process, args=(rank, 2, port, work, arguments)) for rank in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    statuses = [one.exitcode for one in both]
    for one in both:
        one.kill()
    return statuses


def door_in(rank, folder, argv):
    """The command line, its output in files of its own."""
    import stopgrad.deep.words.picture
    from stopgrad.deep.__main__ import door

    stopgrad.deep.words.picture.draw = title_alone
    with contextlib.ExitStack() as outputs:
        for name, redirect in (("out", contextlib.redirect_stdout), ("err", contextlib.redirect_stderr)):
            outputs.enter_context(redirect(outputs.enter_context(open(folder / f"{rank}.{name}", "a"))))
        return door(argv)


def execute_in(rank, folder, configs, resume=False):
    with joined("cpu") as world:
        for k, config in enumerate(configs):
            summary = run(folder / f"run{k}", config, resume, world)
            Path(folder / f"{rank}-{k}.json").write_text(json.dumps(summary))


def stop_in(rank, folder, config):
    """The process that does not write is told to stop within the third epoch."""
    import signal

    from stopgrad.deep.training.recorder import Recorder

    wants = Recorder.wants

    def told(self, step):
        if step == 10 and rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return wants(self, step)

    Recorder.wants = told
    with joined("cpu") as world:
        summary = run(folder / "run0", config, world=world)
    assert (summary["state"], summary["step"], summary["signal"]) == ("stopped", 11, signal.SIGUSR1)


CONFIGS = (  # evaluated before and after; what is between is not compared
    WIDE,
    change(
        TINY, precision="float64", epochs=5, accumulation=2, projector_bias=True, predictor_bias=True, laws_every=2,
        evaluate_every=1000,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return [(folder / f"run{k}", run(folder / f"run{k}", config)) for k, config in enumerate(CONFIGS)]


def assert_near(found, expected, where):
    """Relative to the largest entry, 1e-8."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            scale = value.abs().max().clamp(min=1e-300)
            assert (found[name] - value).abs().max() <= 1e-8 * scale, (where, name)
        else:
            assert found[name] == value, (where, name)


def assert_equals_one_process(folder, expected_folder, steps=20):
    both = folder, expected_folder
    found, expected = checkpoint.load_latest(folder), checkpoint.load_latest(expected_folder)
    assert found.step == expected.step == steps
    assert_near(found.payload["siamese"], expected.payload["siamese"], "weights, buffers and F")
    found, expected = table.read(folder), table.read(expected_folder)
    columns = [
        {name: torch.as_tensor(v) for name, v in t.scalars.items() if name != "seconds"} for t in (found, expected)
    ]
    columns = [{name: v[~v.isnan()] for name, v in c.items()} for c in columns]
    assert_near(*columns, "scalars")
    drawn = {"eigenvalues", "spectrum_z", "spectrum_p", "centre_curve_p", "centre_curve_z"}
    for name in sorted(drawn & expected.arrays.keys()):
        values = ({name: torch.as_tensor(t.arrays[name].values)} for t in (found, expected))
        assert_near(*values, "spectra")
    laws = [{name: one.values for name, one in table.read(path / "laws").arrays.items()} for path in both]
    assert laws[0].keys() == laws[1].keys()
    for name, values in laws[1].items():
        np.testing.assert_allclose(laws[0][name], values, rtol=1e-5, atol=1e-6 * np.abs(values).max())


def test_two_processes_are_one(tmp_path, alone):
    """The bar: float64, 20 steps, 10⁻⁸ relative on weights and F, and on what was measured."""
    assert two(execute_in, tmp_path, CONFIGS) == [0, 0]
    for k, (folder, summary) in enumerate(alone):
        assert_equals_one_process(tmp_path / f"run{k}", folder)
        first, second = (json.loads((tmp_path / f"{rank}-{k}.json").read_text()) for rank in range(2))
        assert second == {"state": "finished", "run": str(tmp_path / f"run{k}")}
        assert first["diagnosis"] == summary["diagnosis"]
        assert first["provenance"]["processes"] == 2
        assert first["references"].keys() == summary["references"].keys()


POINTS = change(
    TINY, dataset="gaussian", gaussian_dim=8, gaussian_samples=64, fraction=1.0, backbone="mlp", width=6, epochs=6,
    precision="float64", monitor_every=2, evaluate_every=1000,
)  # fmt: skip
PARTS = [
    change(POINTS, target=target, objective="schedule", phases=phases, repeat=True, predictor="mlp")
    for target, phases in {
        "inverse": ("components keep=centre@3", "infonce temperature=0.1@3", "decorrelation form=correlation@2"),
        "alternating": ("triplet@3", "components keep=residual@3", "direction toward=random@2", "direction@2"),
    }.items()
]
PARTS += [
    change(POINTS, target="moving_average", predictor="bias", predictor_layers="weight_bias"),
    change(POINTS, target="fresh_views", target_views=2, predictor="identity", accumulation=2),
]


def break_off_in(rank, folder, configs):
    """Each run is stopped within its phases and its cycle, and then goes on from the checkpoint."""
    from stopgrad.deep.training.recorder import Recorder

    must_stop = Recorder.must_stop
    with joined("cpu") as world:
        for k, config in enumerate(configs):
            asked = iter(range(1, 13))
            Recorder.must_stop = lambda self, asked=asked: next(asked) == 7
            assert run(folder / f"run{k}", config, world=world)["step"] == 7
            Recorder.must_stop = must_stop
            run(folder / f"run{k}", config, True, world)


def test_every_target_and_objective_is_in_two_processes_what_it_is_in_one(tmp_path):
    """What compares images, what remembers them, what stands still and what learns by itself: stopped and resumed."""
    assert two(break_off_in, tmp_path, PARTS) == [0, 0]
    for k, config in enumerate(PARTS):
        run(tmp_path / f"alone{k}", config)
        assert_equals_one_process(tmp_path / f"run{k}", tmp_path / f"alone{k}", 12)


def test_two_processes_stop_together_and_resume(tmp_path, alone):
    assert two(stop_in, tmp_path, CONFIGS[1]) == [0, 0]
    assert checkpoint.load_latest(tmp_path / "run0").step == 11
    assert two(execute_in, tmp_path, CONFIGS[1:], True) == [0, 0]
    assert_equals_one_process(tmp_path / "run0", alone[1][0])


ARGV = shlex.split("train --backbone linear --fraction .1 --image-size 8 --batch-size 32 --epochs 1 --probe none")


def test_two_processes_answer_once(tmp_path):
    argv = [*ARGV, "--seeds", "0-1", "--out", str(tmp_path / "run"), "--json"]
    assert two(door_in, tmp_path, argv) == [0, 0], (tmp_path / "0.err").read_text()
    [answer] = (tmp_path / "0.out").read_text().splitlines()
    assert [r["run"] for r in json.loads(answer)["runs"]] == [str(tmp_path / "run" / f"seed{k}") for k in (0, 1)]
    assert "steps of 32 images" in (tmp_path / "0.err").read_text()
    assert (tmp_path / "1.out").read_text() == (tmp_path / "1.err").read_text() == ""
    assert two(door_in, tmp_path, argv) == [0, 0]  # finished, and read
    assert len((tmp_path / "0.out").read_text().splitlines()) == 2


def fail_in(rank, folder, argv):
    """The process that does not write fails by itself."""
    from stopgrad.deep.training import runs

    prepare = runs.prepare

    def failing(*arguments):
        if rank == 1:
            raise OSError(28, "the disk of one is full")
        return prepare(*arguments)

    runs.prepare = failing
    return door_in(rank, folder, argv)


@pytest.mark.parametrize("case", ["finished", "locked", "shares", "preset", "flag", "value", "pair", "rank 1"])
def test_two_processes_refuse_together(tmp_path, finished, case):
    """Nobody waits for one that left, and there is one sentence."""
    folder, more, sentence = {
        "finished": (finished[0], [], "another, finished run"),
        "locked": (tmp_path / "run", [], "is being written by"),
        "shares": (tmp_path / "run", ["--batch-size", "35"], "2 processes cannot share --batch-size 35 evenly"),
        "preset": (tmp_path / "run", ["--preset", "none"], "no preset"),
        "flag": (tmp_path / "run", ["--temperature", "1"], "--temperature goes with --objective infonce"),
        "value": (tmp_path / "run", ["--width", "two"], "--width takes"),
        "pair": (tmp_path / "run", ["--stop-gradient", "none", "--target", "ema"], "--stop-gradient none needs"),
        "rank 1": (tmp_path / "run", [], "the disk of one is full"),
    }[case]
    with lock.hold(folder) if case == "locked" else contextlib.nullcontext():
        work = fail_in if case == "rank 1" else door_in
        assert two(work, tmp_path, [*ARGV, *more, "--out", str(folder)]) == [2, 2]
    err = [(tmp_path / f"{rank}.err").read_text() for rank in range(2)]
    if case == "rank 1":
        err.reverse()
    assert sentence in err[0]
    assert err[0].count("\n") == 1
    assert err[1] == ""
