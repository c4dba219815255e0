"""The training benchmark measures what it says: the same task for all engines, nothing else going on, honest rows.

No test asserts a speed. lightly, where it is not installed, is skipped here as it is in the benchmark.
"""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.storage.table import read
from stopgrad.experiments.benchmarks import rounds, ssl_engines, ssl_lightly, training, workers
from stopgrad.experiments.benchmarks.ssl_engines import Chunk, Task
from stopgrad.linear_theory.simulation import allocator

TOY = training.REHEARSAL


class InProcess:
    """A worker without a process."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.held = None

    def make(self, make, *arguments):
        self.held = make(*arguments)

    def ask(self, method, *arguments):
        found = getattr(self.held, method)
        return found(*arguments) if callable(found) else found


@pytest.fixture
def quick(monkeypatch):
    """No processes, no waiting for a quiet machine, no second attempt at a round; this process keeps its allocator."""
    monkeypatch.setattr(training, "Worker", InProcess)
    monkeypatch.setattr(ssl_engines, "keep_memory", lambda: True)
    monkeypatch.setattr(ssl_lightly, "keep_memory", lambda: True)
    for name, value in (("ATTEMPTS", 1), ("PATIENCE", 0.0), ("PAUSE", 0.0)):
        monkeypatch.setattr(rounds, name, value)


@pytest.fixture
def own_engine(quick):
    return ssl_engines.Stopgrad(TOY)


# ---------------------------------------------------------------- the task


@pytest.mark.parametrize("width", [64, 16])
def test_both_models_are_the_same_network(width):
    """Layer by layer; lightly keeps a bias before BatchNorm nowhere, as we do."""
    pytest.importorskip("lightly")
    task = Task(width=width)
    ours = Siamese(ssl_engines.config(task).method)
    theirs = ssl_lightly.LightlySimSiam(width, task.heads)
    shapes = lambda network: Counter(tuple(w.shape) for w in network.parameters())  # noqa: E731
    assert shapes(ours.online.backbone) == shapes(theirs.backbone)
    assert shapes(ours.online.projector) == shapes(theirs.projection_head)
    assert shapes(ours.predictor) == shapes(theirs.prediction_head)


def test_loss_of_lightly_is_ours():
    pytest.importorskip("lightly")
    theirs = ssl_lightly.LightlySimSiam(4, (32, 16, 8))
    ours = Siamese(ssl_engines.config(replace(TOY, heads=(32, 16, 8))).method)
    x0, x1 = torch.rand(2, 8, 3, 32, 32)
    (z0, p0), (z1, p1) = theirs(x0), theirs(x1)
    z, p = torch.stack([z0, z1]), torch.stack([p0, p1])
    torch.testing.assert_close(theirs.loss(x0, x1), ours.objective(z, p, z))
    assert not z.requires_grad


def test_operations_are_counted_for_both_views_forward_and_backward():
    """A layer of m inputs and n outputs takes 2mn forward and 4mn backward, the first one no gradient of its input."""
    width, (hidden, embedding, bottleneck) = 16, (96, 80, 24)
    task = replace(TOY, width=width, heads=(hidden, embedding, bottleneck))
    stages = [(width, width, 32**2 * 4)]
    for k in range(3):
        n, pixels = width * 2**k, (16 // 2**k) ** 2
        stages += [(n, 2 * n, pixels), (2 * n, 2 * n, pixels * 3)]
    convolutions = sum(9 * m * n * pixels for m, n, pixels in stages)
    shortcuts = sum(2 * (width * 2**k) ** 2 * (16 // 2**k) ** 2 for k in range(3))
    heads = 8 * width * hidden + hidden * embedding + 2 * embedding * bottleneck
    first = 9 * 3 * width * 32**2
    assert ssl_engines.flops_a_sample(task) == 2 * (6 * (convolutions + shortcuts + heads) + 4 * first)


def test_images_are_bytes_that_differ():
    drawn = ssl_engines.images(20)
    assert (drawn.shape, drawn.dtype) == ((20, 3, 32, 32), torch.uint8)
    assert drawn.float().std() > 30
    assert len(drawn.flatten(1).unique(dim=0)) == 20


# ---------------------------------------------------------------- what is timed


def test_chunk_of_ours_times_steps_after_warm_ones_and_one_measurement(own_engine, monkeypatch):
    seen = []
    measure = own_engine.recorder.measure
    monkeypatch.setattr(
        own_engine.recorder, "measure", lambda clock, outputs: seen.append(clock.step) or measure(clock, outputs)
    )
    before = [w.detach().clone() for w in own_engine.run.siamese.parameters()]
    chunk = own_engine.chunk()
    assert all(v > 0 for v in chunk)
    assert seen == [TOY.steps_per_epoch + ssl_engines.MONITOR_EVERY]
    assert own_engine.run.clock.step == seen[0] + TOY.timed
    assert any(not torch.equal(a, b) for a, b in zip(before, own_engine.run.siamese.parameters()))
    own_engine.chunk()
    assert seen[1:] == [seen[0] + TOY.steps_per_epoch]


def test_the_watch_is_timed_where_it_measures_and_where_it_does_not(quick, monkeypatch):
    """Of ten steps one measures; of fifty measurements one decomposes large matrices, and is charged as often."""
    engine = ssl_engines.Watched(TOY)
    engine.warm_up()
    chunk = engine.chunk()
    first = 2 * engine.watch.spectra_every
    assert all(v > 0 for v in chunk) and "Watch every 10 steps" in engine.setting
    assert read(engine.watch.folder).step.tolist() == [first, first + ssl_engines.MONITOR_EVERY]
    own = Chunk(end_to_end=3.0, step=2.0, augmentation=0.5, monitor=1.0)
    monkeypatch.setattr(ssl_engines.Stopgrad, "chunk", lambda self: own)
    engine.chunks += 1
    seconds = iter([6.0, 1.0])
    monkeypatch.setattr(engine, "_watched", lambda outputs, first: next(seconds))
    monitor = 1.0 + 5.0 * 10 / engine.watch.spectra_every
    assert engine.chunk() == pytest.approx((3 + (monitor - 1) / 10, 2, 0.5, monitor))


@pytest.mark.parametrize(("monitor", "met"), [(0.4, True), (1.1, False)])
def test_what_the_watch_takes_has_a_bar(monitor, met):
    row = training.timed(training.WATCHED, Task(), timing(stopgrad_watched=[(2.0, 2.0, 0.1, monitor)]), flops=1)
    assert (row["monitor_share"], row["monitor_bar"]) == (pytest.approx(monitor / 20), 0.05)
    assert row["monitor_bar_met"] is met
    own = training.timed("stopgrad", Task(), timing(stopgrad=[(2.0, 2.0, 0.1, monitor)]), flops=1)
    assert own["monitor_bar"] is own["monitor_bar_met"] is None


def test_a_step_is_charged_its_share_of_the_measurement(own_engine, monkeypatch):
    watch = SimpleNamespace(seconds=3.0, measured=[2.0])  # two steps in 6 s, 2 s of which the measurement took
    monkeypatch.setattr(own_engine, "_train", lambda run, made: watch)
    monkeypatch.setattr(ssl_engines, "seconds_a_batch", lambda batches, task: 0.5)
    assert TOY.timed == 2
    assert own_engine.chunk() == pytest.approx((2 + 2 / ssl_engines.MONITOR_EVERY, 3, 0.5, 2))


@pytest.mark.parametrize("task", [Task(), Task(width=16, **training.NARROW), TOY])
def test_chunk_holds_one_measurement_and_ends_before_the_epoch(task):
    assert 1 <= task.warm <= ssl_engines.MONITOR_EVERY
    assert task.timed <= ssl_engines.MONITOR_EVERY
    ahead = 2 * ssl_lightly.LOADER_WORKERS  # what torch's loader makes in advance
    assert task is TOY or task.warm_batches > ahead
    assert task.warm + task.timed + task.warm_batches + task.timed_batches + ahead <= task.steps_per_epoch
    assert ssl_engines.MONITOR_EVERY + task.timed < task.steps_per_epoch


def test_stopwatch_leaves_warm_steps_out(monkeypatch):
    times = iter([0.0, 10.0, 16.0])
    monkeypatch.setattr(ssl_engines.Stopwatch, "now", lambda self: next(times))
    watch = ssl_engines.Stopwatch(torch.device("cpu"), warm=2, timed=3)
    assert [watch.must_stop() for _ in range(5)] == [False] * 4 + [True]
    assert watch.seconds == 2
    assert not watch.wants(0)


def test_epochs_are_timed_one_by_one(own_engine):
    seconds = own_engine.epochs(1, 2)
    assert len(seconds) == 2
    assert all(s > 0 for s in seconds)
    assert own_engine.run.clock.step == 4 * TOY.steps_per_epoch


def test_a_run_that_diverges_is_no_measurement(own_engine, monkeypatch):
    monkeypatch.setattr(own_engine.recorder, "measure", lambda clock, outputs: False)
    with pytest.raises(RuntimeError, match="not a number"):
        own_engine.chunk()


@pytest.fixture
def forks(request):
    """For a test whose workers are forked: once JAX has computed here they may hang, so it runs in a fresh process."""
    if "jax" in sys.modules:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", request.node.nodeid]
        done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        pytest.skip("passed in a process of its own, since JAX is loaded in this one")


@pytest.mark.parametrize("make", [ssl_lightly.lightly, ssl_lightly.lightly_same_arithmetic])
def test_lightly_leaves_no_worker_behind(forks, quick, make):
    pytest.importorskip("lightly")
    others = set(multiprocessing.active_children())  # a test before this one may have left some
    engine = make(TOY)
    engine.warm_up()
    chunk = engine.chunk()
    assert all(v > 0 for v in chunk[:3])
    assert chunk.monitor is None
    assert not set(multiprocessing.active_children()) - others
    half = ssl_engines.half_precision(ssl_engines.config(TOY), torch.device("cpu"))
    same = make is ssl_lightly.lightly_same_arithmetic
    assert ("bfloat16" in engine.setting) == (same and half is not None)
    assert ("channels_last" in engine.setting) == same


# ---------------------------------------------------------------- processes and load


def test_worker_holds_an_object_and_passes_errors_on():
    with workers.Worker() as worker:
        worker.make(Counter, "abca")
        assert worker.ask("most_common", 1) == [("a", 2)]
        assert worker.ask("__len__") == 3
        with pytest.raises(RuntimeError, match=r"AttributeError.*no_such"):
            worker.ask("no_such")
        assert worker.ask("total") == 4
        with pytest.raises(ModuleNotFoundError) as missing:
            worker.make(__import__, "no_such_package")
        assert missing.value.name == "no_such_package"
        worker.make(os.getpid)
        with pytest.raises(RuntimeError, match="status 3"):
            worker.make(os._exit, 3)


@pytest.mark.skipif(not rounds.PROC_STAT.exists(), reason="only /proc tells what children compute")
def test_work_of_children_is_no_other_load():
    before = rounds._descendants_cpu_seconds()
    with workers.Worker() as worker:
        worker.make(time.process_time)
        worker.ask("__class__")
        worker.make(sum, range(10**7))
        living = rounds._descendants_cpu_seconds() - before
    assert living > 0.05
    assert rounds._descendants_cpu_seconds() - before >= living - 0.02  # kept when it has ended


def test_glibc_is_told_to_keep_memory(monkeypatch):
    with workers.Worker() as worker:  # for good, so not in this process
        worker.make(allocator.keep_memory)
        on_glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
        assert worker.ask("__bool__") == on_glibc
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert allocator.keep_memory() is False


# ---------------------------------------------------------------- rows


def timing(**columns):
    return rounds.Rounds({name: [Chunk(*c) for c in chunks] for name, chunks in columns.items()}, [0.0] * 3, 4)


def test_ratio_is_taken_within_rounds():
    ours = [(1.0, 0.8, 0.04, 0.2), (2.0, 1.6, 0.08, 0.4), (4.0, 3.2, 0.16, 0.8)]
    found = timing(stopgrad=ours, lightly=[(3.0, 2, 1), (4.0, 2, 1), (10.0, 2, 1)])
    row = training.timed("lightly", Task(), found, flops=10**9)
    assert row["stopgrad_times_faster"] == 2.5  # of 3, 2 and 2.5; the ratio of the medians is 2
    assert (row["bar"], row["bar_met"], row["aim"]) == (2.2, True, 3.5)
    assert (row["seconds_a_step"], row["samples_per_second"], row["monitor_share"]) == (4, 32, None)
    assert row["augmentation_views_per_second"] == 256
    assert row["tflop_per_second"] == pytest.approx(0.032)
    narrow = training.timed("lightly", Task(width=16), found, flops=1)
    assert (narrow["bar"], narrow["bar_met"], narrow["aim"]) == (2.8, False, 5)
    own = training.timed("stopgrad", Task(), found, flops=1)
    assert (own["stopgrad_times_faster"], own["bar_met"]) == (None, None)
    assert own["augmentation_share"] == pytest.approx(0.05)
    assert own["monitor_share"] == pytest.approx(0.4 / 10 / 1.6)
    alone = training.timed("lightly", Task(), timing(lightly=[(3.0, 2, 1)]), flops=1)
    assert (alone["stopgrad_times_faster"], alone["bar_met"]) == (None, None)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("Unheard Of 1", None),
    ],
)
def test_peak_by_name(device, peak):
    assert training.peak_flops(device) == peak


def test_row_on_an_h100_has_a_bar(monkeypatch):
    class Scripted(InProcess):
        def make(self, make, *arguments):
            pass

        def ask(self, method, *arguments):
            return {"setting": "bfloat16", "epochs": [1.4, 1.2, 1.6]}[method]

    monkeypatch.setattr(training, "Worker", Scripted)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    row = training.epochs(training.GPU)
    assert (row["epoch_seconds"], row["bar"], row["bar_met"], row["aim"]) == (1.4, 1.5, True, 1.0)
    assert row["samples_per_second"] == pytest.approx(97 * 512 / 1.4)
    assert row["mfu"] == pytest.approx(row["tflop_per_second"] / 989)
    assert row["gflop_a_sample"] == pytest.approx(6.746, abs=2e-3)


def test_rehearsal_goes_through_both_parts(forks, quick, capsys):
    pytest.importorskip("lightly")
    assert training.door(["--rehearse", "--rounds", "2", "--engines", "stopgrad", "lightly", "--json"]) == 0
    out = capsys.readouterr().out
    rows = json.loads(out)
    assert out.count("\n") == 1
    assert list(rows) == ["stopgrad", "lightly", "stopgrad_epochs"]
    own = rows["stopgrad"]["widths"]["8"]
    assert own["samples_per_second"] * own["seconds_a_step"] == pytest.approx(TOY.batch)
    assert len(own["round_seconds_a_step"]) == 2
    assert rows["stopgrad"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert rows["stopgrad"]["machine"]["cpus"] >= 1
    assert rows["stopgrad_epochs"]["mfu"] is rows["stopgrad_epochs"]["bar"] is None
    peer = rows["lightly"]["widths"]["8"]
    assert peer["stopgrad_times_faster"] > 0
    assert peer["bar"] is None


def test_table_says_all_and_a_missing_peer_is_a_skipped_row(quick, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightly", None)
    assert training.door(["--rehearse", "--rounds", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    own = rows["stopgrad"]["widths"]["8"]
    assert own["samples_per_second"] * own["seconds_a_step"] == pytest.approx(TOY.batch)
    assert len(own["round_seconds_a_step"]) == 2 and rows["stopgrad"]["machine"]["cpus"] >= 1
    assert rows["stopgrad_epochs"]["mfu"] is rows["stopgrad_epochs"]["bar"] is None
    out = training.Benchmark().text(rows)
    assert out.count("skipped: lightly is not installed; `make bench` installs it") == 2
    assert "stopgrad_watched at width 8: views take" in out and ", bar ≤ 5 %: m" in out
    for words in ("width 8", "stopgrad", "samples/s", "interleaved rounds", "views take", "s an epoch", "torch"):
        assert words in out


def test_error_of_ours_is_raised_and_a_peer_that_breaks_is_skipped(quick, monkeypatch):
    def broken(task):
        raise RuntimeError("ValueError: no")

    for name in ("stopgrad", "lightly"):
        monkeypatch.setitem(training.ENGINES, name, replace(training.ENGINES[name], build=broken))
    assert training.prepared(InProcess(), "lightly", TOY) == {"skipped": "ValueError: no"}
    with pytest.raises(RuntimeError):
        training.prepared(InProcess(), "stopgrad", TOY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engines", "solo"], "there is no engine 'solo'"),
        (["--rounds", "0"], "rounds is 0; it must be at least 1"),
        (["--widths", "0"], "each at least 1"),
        (["--device", "cuda"], "--rehearse"),
    ],
)
def test_bad_input_is_one_sentence(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.door(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
