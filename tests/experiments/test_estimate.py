"""`python -m experiments estimate SUITE`: what the first runs say of the rest, and that they are kept."""

import json
from dataclasses import replace

import pytest

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.commands.estimate import AT_LEAST, OTHER_WORK, Estimate, by_kind
from stopgrad.experiments.launch import launcher
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import Arm, Suite
from stopgrad.linear_theory.tools.door import main

TINY = Config(
    Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
    Method.of(backbone="identity", projector_hidden=8, embedding_dim=4, predictor="linear"),
    Optimisation(epochs=1, batch_size=16),
    Monitor(monitor_every=1, evaluate_every=1, probe="none"),
)
LONG = replace(TINY, optimisation=replace(TINY.optimisation, epochs=2))
ARMS = {"short": (TINY, range(5)), "long": (LONG, range(3))}


@pytest.fixture
def suite(monkeypatch):
    found = Suite("s", "cpu", {name: Arm(name, config, tuple(seeds)) for name, (config, seeds) in ARMS.items()})
    monkeypatch.setitem(PAPERS, "s", Paper(key="s", citation="s", suite=lambda scale: found))
    return found


@pytest.fixture
def here(monkeypatch):
    """Carry the runs out in this process, whatever the launcher; each takes 10 s."""
    carry_out = launcher.launch

    def launch(configs, store, _, *words):
        outcomes = carry_out(configs, store, launcher.InProcess("cpu"), *words)
        return [outcome._replace(seconds=10.0) for outcome in outcomes]

    monkeypatch.setattr(launcher, "launch", launch)


def test_the_rest_is_what_the_first_of_each_kind_say_and_they_are_kept(suite, here, tmp_path):
    told = Estimate(("s",), workers=2, runs=tmp_path).run()
    # Two of five and two of three runs took 10 s, two at a time, so 5 s a run; what else there is counts as runs too.
    assert told["seconds"] == pytest.approx(5 * 3 + 5 * 1 + 5 * OTHER_WORK)
    assert (told["runs"], told["left"], told["workers"]) == (8, 8, 2)
    store = Store(tmp_path)
    assert [store.find(config) is not None for *_, config in suite.configs()] == [True] * 4 + [False] * 4
    again = Estimate(("s",), workers=2, runs=tmp_path).run()
    assert again["left"] == 4 and again["seconds"] == pytest.approx(5 * 1 + 5 * OTHER_WORK)


def test_the_first_runs_of_all_kinds_are_one_launch_and_each_kind_has_its_own_pace(suite, tmp_path, monkeypatch):
    launched = []

    def launch(configs, store, launcher, title, labels):
        launched.append(list(labels))
        return [Outcome("k", "finished", None, 100.0 if "long" in label else 20.0, True) for label in labels]

    monkeypatch.setattr(launcher, "launch", launch)
    told = Estimate("s", workers=2, runs=tmp_path).run()
    assert launched == [["short, seed 0", "short, seed 1", "long, seed 0", "long, seed 1"]]
    assert told["seconds"] == pytest.approx(10 * 3 + 50 * 1 + max(50 * OTHER_WORK, AT_LEAST))


def test_beside_tiny_runs_the_other_work_takes_its_time(suite, tmp_path):
    assert Estimate(("s",), workers=2, runs=tmp_path).run()["seconds"] > AT_LEAST


def test_with_nothing_left_nothing_is_computed(suite, here, tmp_path, capsys):
    runs = ["estimate", "s", "--workers", "2", "--runs", str(tmp_path)]
    for left in (8, 4, 1, 0):
        assert main("experiments", "", {"estimate": Estimate, "other": Estimate}, [*runs, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["left"] == left and (told["seconds"] == 0) == (left == 0)
    assert main("experiments", "", {"estimate": Estimate, "other": Estimate}, runs) == 0
    assert "8 runs are finished" in capsys.readouterr().out


def test_a_signal_ends_it_with_its_number(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "launch", lambda configs, *_: [Outcome("k", "stopped", None, 0.0, False, 15)])
    told = Estimate(("s",), workers=2, runs=tmp_path)
    assert told.status(told.run()) == 143


def test_runs_of_one_network_on_one_set_of_data_are_of_a_kind():
    wider = change(TINY, backbone="linear", width=3)
    runs = [("a", TINY), ("b", LONG), ("c", replace(TINY, seed=1)), ("d", wider)]
    assert [[label for label, _ in group] for group in by_kind(runs)] == [["a", "c"], ["b"], ["d"]]
