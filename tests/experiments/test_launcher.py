"""A suite is carried out once, whoever is killed, whoever else is at it, and whichever of its runs fail."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from processes import PROCESSES, hear_ctrl_c, stay_with_the_server

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.deep.processes.stopping import REQUEST
from stopgrad.deep.storage import checkpoint, lock, table
from stopgrad.deep.training import runs
from stopgrad.experiments.launch import launcher as launchers
from stopgrad.experiments.launch import worker_pool
from stopgrad.experiments.launch.launcher import InProcess, Pool, choose, launch
from stopgrad.experiments.launch.one_run import Outcome, sentence
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.store.store import Store

TINY = Config(
    Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
    Method.of(backbone="identity", projector_hidden=8, embedding_dim=4, predictor="linear"),
    Optimisation(epochs=1, batch_size=16),
    Monitor(monitor_every=1, evaluate_every=1, probe="none"),
)
BAD = replace(TINY, data=replace(TINY.data, gaussian_samples=8))  # fewer points than a batch, which only data can tell
LONG = replace(
    TINY, optimisation=replace(TINY.optimisation, epochs=20_000), monitor=Monitor(monitor_every=1000, probe="none")
)
PATIENCE = 120


def seeds(count):
    return [replace(TINY, seed=seed) for seed in range(count)]


def carried_out(configs, store, launcher):
    return launch(configs, store, launcher, "test", [f"run {k}" for k in range(len(configs))])


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def written(store):
    """When each finished run of a store was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in store.root.glob("*/summary.json")}


def measured(store):
    return {path.parent.name: table.fingerprint(path.parent) for path in store.root.glob("*/summary.json")}


def put(run, folder):
    """What another has computed, into a folder where it may have begun."""
    there = [path.name for path in folder.iterdir()]
    shutil.copytree(run, folder, copy_function=os.link, dirs_exist_ok=True, ignore=lambda *_: [".lock", *there])


# ---------------------------------------------------------------- launchers in processes of their own


def start(configs, store, launcher, answer, log=None, workers="fork"):
    """`launch` in a process of its own, which has done nothing before and may fork its workers: that saves seconds.

    Else they come from a server of its own, as a user's do, or from the one that forked it.
    """
    process = PROCESSES.Process(target=_launch, args=(configs, store, launcher, answer, log, workers))
    process.start()
    return process


def _launch(configs, store, launcher, answer, log, workers):
    hear_ctrl_c()
    worker_pool.START = "fork" if workers == "fork" else "forkserver"
    if workers == "the server":
        stay_with_the_server()
    if log:
        concluded = runs.conclude

        def conclude(config, dataset, folder, *rest):
            with log.open("a") as file:
                file.write(f"{folder.name}\n")
            return concluded(config, dataset, folder, *rest)

        runs.conclude = conclude
    with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
        outcomes = carried_out(configs, store, launcher)
    answer.write_text(json.dumps([outcome._asdict() for outcome in outcomes]))
    sys.exit(0)


def answered(process, answer):
    process.join(PATIENCE)
    assert process.exitcode == 0
    return [Outcome(**outcome) for outcome in json.loads(answer.read_text())]


def writer_of(folder):
    """The process that writes the run in `folder`; 0 where there is none."""
    words = lock.writer(folder)
    return int(words.split()[1]) if words and words.split()[0] == "process" else 0


# ---------------------------------------------------------------- what became of the runs


@pytest.mark.parametrize("launcher", [InProcess("cpu"), Pool(2, "cpu")])
def test_outcomes_stand_in_the_order_of_the_configs(launcher, tmp_path, capsys):
    store, configs = Store(tmp_path), seeds(3)
    configs = [configs[0], BAD, configs[1], configs[0], configs[2]]
    outcomes = carried_out(configs, store, launcher)
    assert [outcome.key for outcome in outcomes] == [store.folder(config).name for config in configs]
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "finished", "finished", "finished"]
    assert outcomes[1].reason == "--batch-size 16 exceeds the 8 training images; it must be at most 8"
    assert outcomes[3] == outcomes[0] and all(outcome.fresh for outcome in outcomes)
    said = capsys.readouterr().err
    assert "3/4 finished, 1 failed" in said and "failed: run 1: --batch-size 16 exceeds" in said
    before = written(store)
    assert set(before) == {outcomes[k].key for k in (0, 2, 4)}

    again = carried_out(configs, store, launcher)
    assert written(store) == before
    assert [outcome.state for outcome in again] == [outcome.state for outcome in outcomes]
    assert [outcome.fresh for outcome in again] == [False, True, False, False, False]
    assert again[0].seconds == store.find(configs[0]).summary["seconds"]


def test_launchers_compute_the_same_bits(tmp_path):
    here, pool = Store(tmp_path / "here"), Store(tmp_path / "pool")
    carried_out(seeds(2), here, InProcess("cpu"))
    carried_out(seeds(2), pool, Pool(2, "cpu"))
    assert len(measured(here)) == 2 and measured(here) == measured(pool)


def test_a_run_that_diverges_is_an_outcome(tmp_path):
    wild = change(TINY, loss="squared", lr=1e12, lr_scaling="none", epochs=20)
    store = Store(tmp_path)
    assert [carried_out([wild], store, InProcess("cpu"))[0][1:3] for _ in range(2)] == [("diverged", None)] * 2
    assert len(written(store)) == 1


def test_an_empty_list_has_no_outcomes(tmp_path):
    assert carried_out([], Store(tmp_path), Pool(2)) == []


def test_an_unforeseen_error_is_one_line_with_its_place():
    try:
        json.loads(3)
    except TypeError as error:
        assert sentence(error).startswith("TypeError: the JSON object must be") and "line" in sentence(error)
    assert sentence(ValueError("two\n lines")) == "ValueError: two lines"
    assert sentence(ValueError()) == "ValueError"


def test_the_traceback_of_a_mistake_in_the_program_is_kept_until_the_run_is_begun_again(tmp_path, monkeypatch, capsys):
    def edited(*_):
        return torch.zeros(2) + torch.zeros(3)

    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "build", edited)
        outcomes = carried_out([TINY, BAD], store, InProcess("cpu"))
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    kept = store.folder(TINY) / "error.txt"
    assert f"{kept}" in outcomes[0].reason and "failed: run 0" in capsys.readouterr().err
    assert "Traceback" in kept.read_text() and "in edited" in kept.read_text()
    assert not store.folder(BAD).exists()  # bad input: a sentence says it all

    assert carried_out([TINY], store, InProcess("cpu"))[0].state == "finished"
    assert not kept.exists()


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("times, state", [(1, "stopped"), (2, "failed")])
def test_a_killed_worker_costs_its_own_run_an_attempt(times, state, tmp_path):
    store, answer = Store(tmp_path / "runs"), tmp_path / "answer.json"
    configs = [LONG, *seeds(3)]
    process = start(configs, store, Pool(2, "cpu"), answer)
    killed = set()
    for _ in range(times):
        worker = until(lambda: writer_of(store.folder(LONG)) not in {0, *killed} and writer_of(store.folder(LONG)))
        os.kill(worker, signal.SIGKILL)
        killed.add(worker)
    until(lambda: len(written(store)) == 3)
    if state == "stopped":  # it is at its second attempt, and would be for long
        until(lambda: writer_of(store.folder(LONG)) not in {0, *killed})
        os.kill(process.pid, signal.SIGTERM)
    outcomes = answered(process, answer)
    assert [outcome.state for outcome in outcomes] == [state, "finished", "finished", "finished"]
    if state == "failed":
        assert outcomes[0].reason == "its process was killed twice"


def test_a_launcher_killed_at_any_moment_is_taken_up_by_the_next(tmp_path):
    configs, moments = seeds(8), random.Random(4)
    undisturbed, store, answer = Store(tmp_path / "undisturbed"), Store(tmp_path / "runs"), tmp_path / "answer.json"
    carried_out(configs, undisturbed, InProcess("cpu"))
    before = {}
    for k in range(10):
        process = start(configs, store, Pool(2, "cpu"), answer, workers="the server" if k == 3 else "fork")
        # A moment by work done, which a busy machine cannot make all the same, and a random while after it.
        begun = min(len(before) + k % 2, 6)
        until(lambda: len(list(store.root.glob("*/config.json"))) > begun or not process.is_alive())  # noqa: B023
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        now = written(store)
        assert before.items() <= now.items()
        before = now
    outcomes = answered(start(configs, store, Pool(2, "cpu"), answer), answer)
    assert {outcome.state for outcome in outcomes} == {"finished"}
    assert before.items() <= written(store).items()
    assert not any(outcome.fresh for outcome in outcomes if outcome.key in before)
    assert measured(store) == measured(undisturbed)


def test_workers_follow_their_launcher_and_keep_their_state(tmp_path):
    store = Store(tmp_path / "runs")
    process = start([LONG], store, Pool(1, "cpu"), tmp_path / "answer.json", workers="own server")
    folder = store.folder(LONG)
    until(lambda: (folder / "metrics.jsonl").exists())
    worker = writer_of(folder)
    process.kill()
    until(lambda: not writer_of(folder))
    with pytest.raises(ProcessLookupError):
        until(lambda: os.kill(worker, 0))
    assert checkpoint.load_latest(folder).step > 0


@pytest.mark.parametrize("launcher", [InProcess("cpu"), Pool(1, "cpu")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_the_suite_with_what_is_done(launcher, number, tmp_path):
    store, answer = Store(tmp_path / "runs"), tmp_path / "answer.json"
    first, last = seeds(2)
    process = start([first, LONG, last], store, launcher, answer)
    folder = store.folder(LONG)
    until(lambda: (folder / "metrics.jsonl").exists())
    os.kill(process.pid, number)
    outcomes = answered(process, answer)
    assert [outcome.state for outcome in outcomes] == ["finished", "stopped", "stopped"]
    assert [outcome.signal for outcome in outcomes] == [0, number, number]
    assert outcomes[2].reason == f"told to stop by {number.name}"
    assert checkpoint.load_latest(folder).step > 0 and store.state(LONG) == "unfinished"
    assert store.state(last) == "absent"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_every_process_of_a_job_costs_no_state(number, tmp_path):
    store, answer = Store(tmp_path / "runs"), tmp_path / "answer.json"
    process = start([LONG], store, Pool(1, "cpu"), answer)
    folder = store.folder(LONG)
    until(lambda: (folder / "metrics.jsonl").exists())
    for told in (writer_of(folder), process.pid):
        os.kill(told, number)
    [outcome] = answered(process, answer)
    assert (outcome.state, outcome.signal) == ("stopped", number)
    assert checkpoint.load_latest(folder).step > 0


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_server_killed_as_it_forks_is_started_once_more(deaths, monkeypatch):
    tried = []

    class Process:
        def __init__(self, **about):
            tried.append(self)

        def start(self):
            if len(tried) <= deaths:
                raise EOFError("unexpected EOF")

    pipe = multiprocessing.get_context("fork").Pipe
    context = SimpleNamespace(Pipe=pipe, Process=Process, set_forkserver_preload=lambda modules: None)
    monkeypatch.setattr(worker_pool.multiprocessing, "get_context", lambda method: context)
    monkeypatch.setattr(worker_pool, "_GLANCE", 0)
    if deaths == 1:
        assert worker_pool._Worker("cpu").process is tried[1]
    else:
        with pytest.raises(ValueError, match=r"^worker processes cannot be started \(unexpected EOF\); use fewer"):
            worker_pool._Worker("cpu")
    assert len(tried) == 2


def test_a_worker_whose_server_is_dead_is_told_to_stop():
    context = multiprocessing.get_context("fork")
    process = context.Process(target=time.sleep, args=(PATIENCE,))
    process.start()
    worker = worker_pool._Worker.__new__(worker_pool._Worker)
    # what multiprocessing takes for the end of a process whose server was killed
    worker.process = SimpleNamespace(pid=process.pid, returncode=255, terminate=lambda: None, kill=lambda: None)
    worker.at, worker.told = 0, False
    crew = worker_pool._Crew(Pool(1, "cpu"))
    crew.workers.append(worker)
    crew.tell_to_stop()
    process.join(PATIENCE)
    assert process.exitcode == -REQUEST
    worker.tell(REQUEST)  # gone by now, which is what was wanted


# ---------------------------------------------------------------- several at once


def test_two_launchers_share_the_runs(tmp_path):
    configs, store, log = seeds(12), Store(tmp_path / "runs"), tmp_path / "log"
    both = [(start(configs, store, InProcess("cpu"), path, log), path) for path in (tmp_path / "a", tmp_path / "b")]
    for process, path in both:
        outcomes = answered(process, path)
        assert [outcome.state for outcome in outcomes] == ["finished"] * 12
    assert sorted(log.read_text().split()) == sorted(store.folder(config).name for config in configs)


@pytest.mark.parametrize("finishes", [False, True])
def test_a_run_held_by_another_is_looked_at_again(finishes, tmp_path, monkeypatch):
    store, [config] = Store(tmp_path), seeds(1)
    monkeypatch.setattr(launchers, "LOOK_AGAIN", 0.01)
    waited = threading.Event()
    wait = launchers._wait

    def waiting(*arguments):
        waited.set()
        return wait(*arguments)

    monkeypatch.setattr(launchers, "_wait", waiting)
    elsewhere = Store(tmp_path / "elsewhere")
    carried_out([config], elsewhere, InProcess("cpu"))
    held = threading.Event()

    def hold():
        with lock.hold(store.folder(config)):
            held.set()
            assert waited.wait(PATIENCE)
            if finishes:
                put(elsewhere.folder(config), store.folder(config))

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)
    outcome = carried_out([config], store, InProcess("cpu"))[0]
    holder.join()
    assert outcome.state == "finished" and outcome.fresh == (not finishes)


def test_a_run_that_another_finished_while_its_lock_was_waited_for_is_not_fresh(tmp_path, monkeypatch):
    store, [config] = Store(tmp_path / "runs"), seeds(1)
    elsewhere = Store(tmp_path / "elsewhere")
    carried_out([config], elsewhere, InProcess("cpu"))
    theirs, ours = elsewhere.folder(config), store.folder(config)
    ours.mkdir(parents=True)
    os.link(theirs / "config.json", ours / "config.json")  # they have begun
    original = runs.execute

    def execute(*arguments):
        put(theirs, ours)
        return original(*arguments)

    monkeypatch.setattr(runs, "execute", execute)
    outcome = carried_out([config], store, InProcess("cpu"))[0]
    assert (outcome.state, outcome.fresh) == ("finished", False)
    assert written(store) == written(elsewhere)


# ---------------------------------------------------------------- which launcher


def test_the_launcher_fits_the_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose() == Pool(launchers.cores())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose() == InProcess()
    assert choose("auto", workers=3) == choose("pool", workers=3) == Pool(3)
    assert choose("pool", workers=3, device="cuda") == Pool(3, "cuda") and choose(device="cuda") == InProcess("cuda")
    assert choose(device="cpu") == Pool(launchers.cores(), "cpu")
    with pytest.raises(ValueError, match="--device belongs to this machine"):
        choose("slurm", device="cuda")
    assert choose("slurm") == Slurm() and choose("slurm", slurm=Slurm(gpus=1)) == Slurm(gpus=1)
    with pytest.raises(ValueError, match="--workers belongs to --launcher pool, not inprocess"):
        choose("inprocess", workers=2)
    with pytest.raises(ValueError, match="--workers is 0"):
        choose("pool", workers=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_workers_share_one_accelerator(tmp_path):
    store = Store(tmp_path)
    outcomes = carried_out(seeds(4), store, Pool(3, "cuda"))
    assert [outcome.state for outcome in outcomes] == ["finished"] * 4
    assert {record.summary["provenance"]["device"] for record in store.records()} == {"cuda"}


def test_torchrun_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        carried_out(seeds(1), Store(tmp_path), InProcess("cpu"))


@pytest.mark.parametrize("launcher", [InProcess("nowhere"), Pool(1, "nowhere")])
def test_a_device_that_is_not_there_is_one_sentence(launcher, tmp_path):
    with pytest.raises(ValueError, match="--device is 'nowhere'"):
        carried_out(seeds(2), Store(tmp_path), launcher)


def locked_out(tmp_path):
    (tmp_path / "file").touch()
    return {"beneath a file": tmp_path / "file" / "runs", "where nothing can be made": Path("/proc/runs")}


@pytest.mark.parametrize("where", ["beneath a file", "where nothing can be made"])
def test_a_store_that_cannot_be_written_is_one_sentence_before_anything_begins(where, tmp_path, capsys):
    with pytest.raises(ValueError, match="cannot write into"):
        carried_out(seeds(2), Store(locked_out(tmp_path)[where]), InProcess("cpu"))
    assert not capsys.readouterr().err


def test_finished_runs_are_found_where_nothing_can_be_written(tmp_path, monkeypatch):
    carried_out(seeds(1), Store(tmp_path), InProcess("cpu"))
    monkeypatch.setattr(launchers, "prepare_file", None)
    assert carried_out(seeds(1), Store(tmp_path), InProcess("cpu"))[0].state == "finished"
