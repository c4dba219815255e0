"""A suite as jobs of a cluster: chunks, what becomes of lost jobs, cancelling; with submitit's local executor."""

import os
import signal
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.processes.stopping import HINTS, Stop
from stopgrad.deep.storage.checkpoint import load_latest
from stopgrad.deep.training import recorder
from stopgrad.experiments.launch import slurm
from stopgrad.experiments.launch.launcher import launch
from stopgrad.experiments.launch.one_run import Outcome, Task, carry_out
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.store.store import Store

TINY = Config(
    Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
    Method.of(backbone="identity", projector_hidden=8, embedding_dim=4, predictor="linear"),
    Optimisation(epochs=1, batch_size=16),
    Monitor(monitor_every=1, evaluate_every=1, probe="none"),
)
BAD = replace(TINY, data=replace(TINY.data, gaussian_samples=8))
CONFIGS = [TINY, BAD, replace(TINY, seed=1)]


def test_two_chunks_through_the_local_executor(tmp_path, capsys):
    store, labels = Store(tmp_path), ["first", "bad", "last"]
    outcomes = launch(CONFIGS, store, Slurm(cluster="local", chunk=2, poll=0.1), "suite", labels)
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "finished"]
    assert [outcome.key for outcome in outcomes] == [store.folder(config).name for config in CONFIGS]
    assert outcomes[1].reason == "--batch-size 16 exceeds the 8 training images; it must be at most 8"
    assert all(outcome.fresh for outcome in outcomes)
    assert len(list(tmp_path.glob(".slurm/*_result.pkl"))) == 2  # two jobs
    assert "failed: bad: --batch-size 16" in capsys.readouterr().err
    assert [record.key for record in store.records()] == sorted(outcomes[k].key for k in (0, 2))


# ---------------------------------------------------------------- jobs that are lost, without waiting for real ones


@dataclass
class Cluster:
    """An executor whose jobs are carried out at once, but for those with a run that kills them so many times."""

    deaths: dict[str, int] = field(default_factory=dict)
    submitted: list = field(default_factory=list)
    pending: bool = False

    def submit_array(self, calls):
        self.submitted.append([[task.label for task in call.tasks] for call in calls])
        return [FakeJob(self, call) for call in calls]


class FakeJob:
    def __init__(self, cluster, call):
        self.cluster, self.call, self.cancelled = cluster, call, False

    def done(self):
        return not self.cluster.pending or self.cancelled

    def cancel(self, check=True):
        self.cancelled = True

    def result(self):
        from submitit.core.utils import UncompletedJobError

        outcomes, world = [], World(0, 1, __import__("torch").device("cpu"), None)
        for task in self.call.tasks:
            if self.cluster.deaths.get(task.label, 0) > 0:
                self.cluster.deaths[task.label] -= 1
                raise UncompletedJobError
            outcomes.append(carry_out(task, world))
        return outcomes


def outcomes_on(cluster, monkeypatch, tmp_path, stop=None, **settings):
    monkeypatch.setattr(slurm, "_executor", lambda *_: cluster)
    tasks = [Task(f"{k}", replace(TINY, seed=k), tmp_path / str(k), f"run {k}") for k in range(5)]
    found = Slurm(poll=0.01, **settings).outcomes(tasks, stop or SimpleNamespace(signal=0))
    return {k: outcome for k, outcome in found if outcome is not None}


def test_runs_of_a_lost_job_are_given_one_each(monkeypatch, tmp_path):
    cluster = Cluster({"run 1": 1})
    outcomes = outcomes_on(cluster, monkeypatch, tmp_path, chunk=3)
    # what the lost job had finished is seen in its folder, and not done again
    assert cluster.submitted == [[["run 0", "run 1", "run 2"], ["run 3", "run 4"]], [["run 1"], ["run 2"]]]
    assert [outcomes[k].state for k in range(5)] == ["finished"] * 5


def test_a_run_whose_job_is_lost_twice_has_failed(monkeypatch, tmp_path):
    outcomes = outcomes_on(Cluster({"run 1": 2}), monkeypatch, tmp_path, chunk=3)
    assert [outcomes[k].state for k in range(5)] == ["finished", "failed", *["finished"] * 3]
    assert outcomes[1].reason.startswith("its job was lost twice")


def test_long_lists_become_several_arrays(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm, "_LONGEST_ARRAY", 2)
    cluster = Cluster()
    assert len(outcomes_on(cluster, monkeypatch, tmp_path, chunk=1)) == 5
    assert [len(array) for array in cluster.submitted] == [2, 2, 1]


def test_a_signal_cancels_the_jobs(monkeypatch, tmp_path):
    with Stop() as stop:
        cluster = Cluster(pending=True)
        monkeypatch.setattr(slurm, "_pause", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        outcomes = outcomes_on(cluster, monkeypatch, tmp_path, stop, chunk=3)
    assert [outcomes[k].state for k in range(5)] == ["stopped"] * 5
    assert {outcome.signal for outcome in outcomes.values()} == {signal.SIGTERM}


@pytest.mark.parametrize("number", [*HINTS, signal.SIGTERM, signal.SIGINT])
def test_a_job_told_to_stop_keeps_the_state_before_submitit_queues_it_again(number, monkeypatch, tmp_path):
    """Of a signal that submitit waits for it hears when the run's state is kept; what nobody waits for ends there."""
    folder, heard = tmp_path / "run", []
    asked = recorder.Recorder.wants

    def struck(self, step):
        if step == 1:
            os.kill(os.getpid(), number)
        return asked(self, step)

    monkeypatch.setattr(recorder.Recorder, "wants", struck)
    takes = number in (signal.SIGUSR2, signal.SIGTERM)
    before = signal.signal(number, lambda *_: heard.append(load_latest(folder).step)) if takes else None
    try:
        outcomes = slurm.Chunk((Task("k", TINY, folder, "run"), Task("l", TINY, tmp_path / "l", "next")), threads=1)()
    finally:
        if takes:
            signal.signal(number, before)
    assert [(outcome.state, outcome.signal) for outcome in outcomes] == [("stopped", number)]
    assert heard == ([2] if takes else [])
    assert load_latest(folder).step == 2


def test_a_job_that_is_queued_again_carries_the_same_chunk():
    chunk = slurm.Chunk((), threads=1)
    again = chunk.checkpoint()
    assert again.function == chunk and again.result() == []


# ---------------------------------------------------------------- what cannot be


def test_without_submitit_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"needs submitit: pip install 'stopgrad\[slurm\]'"):
        launch(CONFIGS, Store(tmp_path), Slurm(), "suite", ["a", "b", "c"])


def test_without_slurm_the_sentence_says_what_to_use(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no Slurm here"):
        launch(CONFIGS, Store(tmp_path), Slurm(), "suite", ["a", "b", "c"])


@pytest.mark.parametrize("settings", [{"chunk": 0}, {"gpus": 2}, {"job_minutes": 0}, {"poll": 0.0}])
def test_impossible_settings_are_refused_before_anything_is_said(settings, tmp_path, capsys):
    [name] = (field.replace("_", "-") for field in settings)
    with pytest.raises(ValueError, match=f"--{name} is 0|--{name} is 2"):
        launch(CONFIGS, Store(tmp_path), Slurm(cluster="local", **settings), "suite", ["a", "b", "c"])
    assert not capsys.readouterr().err


def test_nothing_is_submitted_for_finished_runs(monkeypatch, tmp_path):
    assert list(Slurm().outcomes([], SimpleNamespace(signal=0))) == []
    assert Outcome("k", "finished", None, 1.0, True).signal == 0
