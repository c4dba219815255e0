"""`python -m experiments run SUITE`: what it carries out, what it says, and how it ends."""

import json
import time
from dataclasses import replace

import pytest
import tyro

from stopgrad.deep.commands import commands
from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.deep.processes.stopping import REQUEST
from stopgrad.experiments import papers
from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.commands import suite_command
from stopgrad.experiments.commands.suite_command import RunSuite, select, summed_up
from stopgrad.experiments.launch import launcher, one_run
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import Arm, Suite
from stopgrad.linear_theory.tools.door import CONFIG, main

TINY = Config(
    Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
    Method.of(backbone="identity", projector_hidden=8, embedding_dim=4, predictor="linear"),
    Optimisation(epochs=1, batch_size=16),
    Monitor(monitor_every=1, evaluate_every=1, probe="none"),
)


GOOD = {
    "baseline": TINY,
    "baseline again": TINY,
    "directpred": change(TINY, predictor="directpred"),
}
BAD = {"too few": replace(TINY, data=replace(TINY.data, gaussian_samples=8))}
NO_DATA = {
    name: Config(Data(dataset=name, data_folder=folder), monitor=TINY.monitor)
    for name, folder in (("cifar10", None), ("stl10", None), ("imagefolder", "/nowhere/images"))
}


def arms(configs):
    return {name: Arm(name, config, (0, 1)) for name, config in configs.items()}


@pytest.fixture
def suites(monkeypatch):
    for name, configs in {"good": GOOD, "bad": GOOD | BAD, "no data": NO_DATA}.items():
        add(monkeypatch, name, configs)


def add(monkeypatch, name, configs):
    """A paper with such a suite."""
    suite = lambda scale: Suite(name, scale, arms(configs))  # noqa: E731
    monkeypatch.setitem(PAPERS, name, Paper(key=name, citation=name, suite=suite))


def run(tmp_path, capsys, *argv):
    """Exit status, standard output and standard error of a run with the launcher that starts no process."""
    both = {"run": RunSuite, "other": RunSuite}
    status = main("experiments", "", both, ["run", "--launcher", "inprocess", "--runs", str(tmp_path), *argv])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_suite_is_carried_out_once(suites, tmp_path, capsys):
    status, out, _ = run(tmp_path, capsys, "good", "--scale", "smoke", "--json")
    result = json.loads(out)
    assert status == 0 and result.pop("seconds") > 0
    counts = {"total": 4, "finished": 4, "fresh": 4, "stopped": 0, "signal": 0}
    assert result == {"suites": ["good"], "scale": "smoke", "failed": [], "diverged": [], "aside": []} | counts
    assert len(list(Store(tmp_path).records())) == 4
    again = json.loads(run(tmp_path, capsys, "good", "--json")[1])
    assert (again["finished"], again["fresh"]) == (4, 0)


def test_suites_of_several_papers_are_carried_out_at_once(suites, tmp_path, capsys, monkeypatch):
    kept = {name: one for name, one in PAPERS.items() if name in ("good", "bad")}
    monkeypatch.setattr(papers, "PAPERS", kept)  # a new list: what is taken out and put back would stand at its end
    for flags in (["good", "bad"], ["good", "--paper", "bad", "good"], []):
        result = json.loads(run(tmp_path, capsys, *flags, "--seeds", "0", "--json")[1])
        assert result["suites"] == ["good", "bad"] and (result["total"], len(result["failed"])) == (3, 1)


def test_arms_of_side_questions_are_left_to_their_record_unless_asked_for(monkeypatch, tmp_path, capsys):
    suite = Suite("side", "cpu", arms(GOOD), aside=("directpred",))
    monkeypatch.setitem(PAPERS, "side", Paper(key="side", citation="side", suite=lambda scale: suite))
    status, out, _ = run(tmp_path, capsys, "side", "--seeds", "0")
    assert status == 0 and "1 of 1 runs finished" in out and "with --whole: directpred\n" in out
    for flags in (("--whole",), ("--arms", "directpred", "baseline")):
        out = run(tmp_path, capsys, "side", "--seeds", "0", *flags)[1]
        assert "2 of 2 runs finished" in out and "--whole" not in out


def test_a_failed_run_is_reported_and_stops_no_other(suites, tmp_path, capsys):
    status, out, _ = run(tmp_path, capsys, "bad", "--seeds", "1,3", "--arms", "too few", "directpred", "--json")
    result = json.loads(out)
    assert status == 3 and result["finished"] == 2
    reason = "--batch-size 16 exceeds the 8 training images; it must be at most 8"
    keys = [Store(tmp_path).folder(replace(BAD["too few"], seed=seed)).name for seed in (1, 3)]
    assert result["failed"] == [
        {"arm": "too few", "seed": s, "key": key, "reason": reason, "fetch": ""} for s, key in zip((1, 3), keys)
    ]
    status, out, err = run(tmp_path, capsys, "bad", "--seeds", "1", "--arms", "too few")
    assert "bad, cpu: 0 of 1 runs finished" in out and "1 failed" in out
    assert f"failed: too few, seed 1: {reason}" in err


def test_data_that_are_missing_can_be_fetched_by_a_command_that_exists(suites, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status, out, err = run(tmp_path / "runs", capsys, "no data")
    assert status == 3 and "--download to" not in err and "--data-folder to" not in err
    for name in ("cifar10", "stl10"):
        command = f"python -m deep train --dataset {name} --download --epochs 0"
        assert err.count(f"or damaged there; fetch it with {command}\n") == 2
        assert out.count(f"to fetch the data: {command}") == 1
        *_, flags = command.partition("train ")
        train = commands([])["train"]
        config = tyro.cli(type(train), default=train, args=flags.split(), config=CONFIG).configs()[0]
        assert (config.data.dataset, config.data.download, config.data.data_folder) == (name, True, None)
    assert "there is no train/ in /nowhere/images; that folder" in err and "must hold train/CLASS/" in err


@pytest.mark.parametrize(
    "argv, complaint",
    [
        (["nothing"], "there is no paper 'nothing'"),
        (
            ["good", "--arms", "nobody"],
            "there is no arm 'nobody' in good; there are baseline, baseline again, d",
        ),
        (["good", "--seeds", "a"], "--seeds is 'a'"),
        (["good", "--workers", "2"], "--workers belongs to --launcher pool, not inprocess"),
        (["good", "--runs", "/proc/runs"], "cannot write into /proc/runs"),
        (["good", "--runs", __file__], f"{__file__} is a file"),
        (["good", "--minutes", "0"], "--minutes is 0; it must be above 0"),
        (["good", "--partition", "fast"], "flags of Slurm jobs need --launcher slurm"),
    ],
)
def test_bad_input_is_one_sentence(suites, argv, complaint, tmp_path, capsys):
    status, out, err = run(tmp_path, capsys, *argv)
    assert status == 2 and not out and err.startswith(f"error: {complaint}") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_flags_reach_the_launcher(suites, tmp_path, monkeypatch):
    seen = []

    def launch(configs, store, launcher, title, labels, minutes):
        seen.append((launcher, title, labels, minutes))
        return [Outcome(str(config.seed), "finished", None, 1.0, True) for config in configs]

    monkeypatch.setattr(suite_command, "launch", launch)
    flags = ["--launcher", "slurm", "--partition", "fast", "--gpus", "1", "--chunk", "3", "--minutes", "5"]
    flags += ["--arms", "directpred"]
    assert main("experiments", "", {"run": RunSuite}, ["run", "good", *flags, "--runs", str(tmp_path)]) == 0
    labels = ["directpred, seed 0", "directpred, seed 1"]
    assert seen == [(Slurm(partition="fast", gpus=1, chunk=3), "good, cpu", labels, 5.0)]


# ---------------------------------------------------------------- for so many minutes


@pytest.fixture
def out_of_time(monkeypatch):
    """The time is over while the third run is at work, however fast the machine; the labels of the runs begun."""
    begun, timers = [], []

    class Timer:
        def __init__(self, seconds, tell, arguments):
            self.start = lambda: timers.append(lambda: tell(*arguments))
            self.cancel, self.join = timers.clear, lambda: None

    def carry_out(task, world):
        begun.append(task.label)
        if len(begun) == 3:
            timers[0]()
            time.sleep(60)  # which the signal ends
        return one_run.carry_out(task, world)

    monkeypatch.setattr(launcher.threading, "Timer", Timer)
    monkeypatch.setattr(launcher, "carry_out", carry_out)
    return begun


def test_a_suite_stops_in_order_when_its_time_is_over_and_goes_on(suites, out_of_time, tmp_path, capsys, monkeypatch):
    status, out, _ = run(tmp_path, capsys, "good", "--minutes", "1e-6", "--json")
    result = json.loads(out)
    assert status == 0 and (result["finished"], result["stopped"], result["signal"]) == (2, 2, 0)
    assert out_of_time == ["baseline, seed 0", "directpred, seed 0", "baseline, seed 1"]
    done = {record.key for record in Store(tmp_path).records()}
    assert done == {Store(tmp_path).folder(GOOD[name]).name for name in ("baseline", "directpred")}
    monkeypatch.undo()
    add(monkeypatch, "good", GOOD)
    result = json.loads(run(tmp_path, capsys, "good", "--minutes", "9", "--json")[1])
    assert (result["finished"], result["fresh"], result["stopped"]) == (4, 2, 0)


def test_a_signal_before_the_time_is_over_decides_the_exit_status(suites, out_of_time, tmp_path, capsys):
    status, out, _ = run(tmp_path, capsys, "good", "--minutes", "1e6")
    assert status == 128 + REQUEST and "2 stopped; the same command goes on" in out


@pytest.mark.parametrize("how", [["inprocess"], ["pool", "--workers", "2"]])
def test_a_time_that_is_over_at_once_kills_nothing(suites, tmp_path, capsys, how):
    status, out, _ = run(tmp_path, capsys, "good", "--minutes", "1e-5", "--launcher", *how, "--json")
    result = json.loads(out)
    assert (
        status == 0 and result["stopped"] > 0 and result["finished"] + result["stopped"] == 4 and not result["failed"]
    )


# ---------------------------------------------------------------- the door


def test_help_names_every_command(capsys):
    assert main("experiments", "", COMMANDS, ["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)


# ---------------------------------------------------------------- parts


def test_a_run_that_serves_two_arms_counts_once_under_the_first():
    names = [("a", 0), ("b", 0), ("c", 0), ("d", 0)]
    failed = Outcome("k1", "failed", "why", 1.0, True)
    found = Outcome("k2", "finished", None, 3.0, False)
    wild = Outcome("k3", "diverged", None, 3.0, True)
    result = summed_up(names, [failed, failed, found, wild])
    assert (result["total"], result["finished"], result["fresh"]) == (3, 2, 1)
    assert result["failed"] == [{"arm": "a", "seed": 0, "key": "k1", "reason": "why", "fetch": ""}]
    assert result["diverged"] == [{"arm": "d", "seed": 0, "key": "k3", "reason": None, "fetch": ""}]


def test_a_signal_decides_the_exit_status(tmp_path):
    result = summed_up(
        [("a", 0), ("b", 0)],
        [Outcome("k", "stopped", "told", 0.0, False, 15), Outcome("l", "failed", "why", 0.0, True)],
    )
    assert RunSuite(("s",)).status(result) == 128 + 15
    text = RunSuite(("s",)).text(result | {"suites": ["s"], "scale": "cpu", "aside": [], "seconds": 3.0})
    assert "0 of 2 runs finished, in 3 s" in text and "the same command goes on" in text


def test_selected_arms_keep_their_order():
    suite = Suite("s", "cpu", {name: Arm(name, TINY, (0, 1, 2)) for name in "abc"})
    names = [(arm, seed) for arm, seed, _ in select([suite], ["c", "a"], None)]
    assert sorted(names) == [(arm, seed) for arm in "ac" for seed in (0, 1, 2)]
    assert {seed for _, seed, _ in select([suite], [], "4-5")} == {4, 5}
    other = Suite("t", "cpu", {"d": Arm("d", TINY, (7,))})
    assert [entry[:2] for entry in select([suite, other], ["d", "a"], None)] == [
        *(("a", k) for k in range(3)),
        ("d", 7),
    ]
