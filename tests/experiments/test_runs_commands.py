"""`python -m experiments runs …` as a person meets it, over a store of a few small runs."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from small_runs import TINY

from stopgrad.deep.config import change, to_json
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.storage import lock
from stopgrad.deep.training.runs import Place, execute
from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.experiments.store.store import Store, key
from stopgrad.linear_theory.tools.door import main

DIRECTPRED = change(TINY, predictor="directpred", lr=0.1)
DIVERGED = change(TINY, loss="squared", loss_scale=1e39)
FINISHED = (TINY, replace(TINY, seed=1), DIRECTPRED, DIVERGED)
BEGUN = replace(TINY, seed=7)
STALE = "fedcba9876543210"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store: three finished runs, a diverged one, one that was only begun, and one by other code."""
    store = Store(tmp_path_factory.mktemp("kept") / "runs")
    for config in FINISHED:
        place = Place(store.folder(config), quiet=True, picture=False)
        execute(config, place, World(0, 1, torch.device("cpu"), None))
    store.folder(BEGUN).mkdir()
    (store.folder(BEGUN) / "config.json").write_text(to_json(BEGUN))
    shutil.copytree(store.folder(TINY), store.root / STALE)
    summary = json.loads((store.root / STALE / "summary.json").read_text())
    summary["provenance"]["fingerprint"] = "other"
    summary["provenance"]["code"]["stopgrad.deep.method.siamese"] = "old"
    (store.root / STALE / "summary.json").write_text(json.dumps(summary))
    return store


@pytest.fixture
def store(kept, tmp_path):
    shutil.copytree(kept.root, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture
def runs(capsys):
    def command(store, *argv):
        status = main("experiments", "", COMMANDS, ["runs", *map(str, argv), "--runs", str(store.root)])
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def answer(runs):
    def command(store, *argv):
        status, out, err = runs(store, *argv, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return command


@pytest.fixture
def refusal(runs):
    def command(store, *argv):
        status, out, err = runs(store, *argv)
        assert (status, out, err.count("\n")) == (2, "", 1)
        return err

    return command


def line_of(out, key):
    return next(line for line in out.splitlines() if line.startswith(key))


# ---------------------------------------------------------------- list


def test_list_names_every_run(kept, runs):
    status, out, err = runs(kept, "list")
    assert (status, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split()[:7] == ["key", "state", "code", "dataset", "predictor", "seed", "seconds"]
    assert len(lines) == len(FINISHED) + 2
    assert line_of(out, key(TINY)).split()[1:6] == ["finished", "this", "digits", "linear", "0"]
    assert line_of(out, key(DIRECTPRED)).split()[4] == "directpred"
    assert "lr 0.1," in line_of(out, key(DIRECTPRED)) and "lr 0.1," not in line_of(out, key(TINY))
    assert "image-size 8" in line_of(out, key(TINY)) and "predictor-lr none" in line_of(out, key(TINY))
    assert line_of(out, key(DIVERGED)).split()[1] == "diverged"
    assert line_of(out, key(BEGUN)).split()[1:5] == ["unfinished", "digits", "linear", "7"]
    assert line_of(out, STALE).split()[1:3] == ["finished", "other"]


def test_list_as_json_has_the_values(kept, answer):
    found = {row["key"]: row for row in answer(kept, "list")["runs"]}
    summary = kept.find(TINY).summary
    assert found[key(TINY)]["seconds"] == summary["seconds"]
    assert found[key(TINY)]["diagnosis"] == summary["diagnosis"]
    assert found[key(TINY)]["current_code"] is True and found[STALE]["current_code"] is False
    assert found[key(BEGUN)]["current_code"] is found[key(BEGUN)]["seconds"] is None
    assert found[key(DIRECTPRED)]["changes"]["predictor"] == "directpred"


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["--state", "diverged"], [DIVERGED]),
        (["--state", "unfinished"], [BEGUN]),
        (["--state", "running"], []),
        (["--predictor", "directpred"], [DIRECTPRED]),
        (["--dataset", "gaussian"], []),
        (["--stale"], [STALE]),
        (["--state", "finished"], [TINY, FINISHED[1], DIRECTPRED, STALE]),
        (["--state", "finished", "--predictor", "linear"], [TINY, FINISHED[1], STALE]),
    ],
)
def test_list_filters(kept, answer, argv, wanted):
    found = {row["key"] for row in answer(kept, "list", *argv)["runs"]}
    assert found == {one if isinstance(one, str) else key(one) for one in wanted}


def test_an_empty_list_is_a_sentence(tmp_path, runs):
    status, out, _ = runs(Store(tmp_path / "none"), "list")
    assert (status, out) == (0, f"no such runs in {tmp_path / 'none'}\n")


# ---------------------------------------------------------------- show


def test_show_says_what_became_of_a_run(kept, runs, answer):
    status, out, _ = runs(kept, "show", key(TINY)[:8])
    assert status == 0
    summary = kept.find(TINY).summary
    for words in (
        f"{key(TINY)}: digits, linear predictor, seed 0", "code: that of now", summary["explanation"],
        "effective rank of Z", f"folder: {kept.folder(TINY)}",
    ):  # fmt: skip
        assert words in out
    assert answer(kept, "show", key(TINY))["spectrum"] == summary["spectrum"]


def test_show_says_what_has_changed_since(kept, runs):
    assert "code: stopgrad.deep.method.siamese changed" in runs(kept, "show", STALE)[1]


def test_show_of_an_unfinished_run_says_how_far_it_is(store, runs):
    assert "unfinished; nothing measured yet" in runs(store, "show", key(BEGUN))[1]
    (store.folder(TINY) / "summary.json").write_text('{"state": "fin')
    with lock.hold(store.folder(TINY)):
        out = runs(store, "show", key(TINY))[1]
    assert "running by process " in out and "; last measured at step 7" in out


@pytest.mark.parametrize("command", ["show", "rm"])
def test_a_prefix_must_name_one_run(store, refusal, command):
    assert "there is no run '0000nope'" in refusal(store, command, "0000nope")
    assert "give at least 4 characters" in refusal(store, command, STALE[:3])
    shutil.copytree(store.root / STALE, store.root / "fedcba9999999999")
    message = refusal(store, command, "fedc")
    assert f"'fedc' may be {STALE} or fedcba9999999999; give more of the key" in message


# ---------------------------------------------------------------- compare


def test_compare_shows_what_differs_and_what_came_out(kept, runs, answer):
    found = answer(kept, "compare", key(TINY), key(DIRECTPRED), key(TINY)[:9])
    assert found["settings"] == {"lr": [0.05, 0.1, 0.05], "predictor": ["linear", "directpred", "linear"]}
    assert found["outcome"]["loss"] == [kept.find(config).last("loss") for config in (TINY, DIRECTPRED, TINY)]
    _, out, _ = runs(kept, "compare", key(TINY), key(DIRECTPRED))
    assert line_of(out, "--lr").split() == ["--lr", "0.05", "0.1"]
    assert line_of(out, "knn").split()[1] == f"{kept.find(TINY).summary['knn']['after']:.4g}"
    assert len(line_of(out, "balance_residual").split()) == 2  # the set predictor has none


def test_compare_of_the_same_settings_by_two_codes(kept, runs):
    _, out, _ = runs(kept, "compare", key(TINY), STALE)
    assert "the same settings" in out
    assert line_of(out, "code").split() == ["code", "this", "other"]


def test_compare_needs_two_finished_runs(kept, refusal):
    assert "at least two different keys" in refusal(kept, "compare", key(TINY), key(TINY))
    assert f"the run {key(BEGUN)} is unfinished" in refusal(kept, "compare", key(TINY), key(BEGUN))


# ---------------------------------------------------------------- rm


def test_nothing_is_removed_without_yes(store, runs):
    before = sorted(store.root.rglob("*"))
    status, out, _ = runs(store, "rm", key(TINY)[:8], "--unfinished", "--stale")
    assert status == 0
    assert out.startswith("3 runs would be removed; add --yes to do it:\n")
    assert {line.split()[0] for line in out.splitlines()[1:]} == {key(TINY), key(BEGUN), STALE}
    assert sorted(store.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("argv", "gone"),
    [
        ([key(TINY)], {key(TINY)}),
        ([key(TINY), key(DIVERGED)[:10]], {key(TINY), key(DIVERGED)}),
        (["--stale"], {STALE}),
        (["--unfinished"], {key(BEGUN)}),
        (["--stale", "--unfinished", key(TINY)], {STALE, key(BEGUN), key(TINY)}),
    ],
)
def test_what_is_named_is_removed(store, answer, argv, gone):
    before = {entry.key for entry in store.entries()}
    found = answer(store, "rm", *argv, "--yes")
    assert found["removed"] is True and {row["key"] for row in found["runs"]} == gone
    assert {entry.key for entry in store.entries()} == before - gone


def test_rm_needs_to_be_told_what(store, refusal):
    assert "name the runs to delete: keys, --stale or --unfinished" in refusal(store, "rm", "--yes")


def test_a_run_at_work_stays(store, refusal, answer):
    with lock.hold(store.folder(BEGUN)):
        assert "is being written by process" in refusal(store, "rm", key(BEGUN), key(TINY), "--yes")
        assert answer(store, "rm", "--unfinished", "--yes")["runs"] == []
    assert store.find(TINY) and store.state(BEGUN) == "unfinished"


# ---------------------------------------------------------------- the door


def test_the_commands_stand_under_one_name(capsys):
    assert main("experiments", "", COMMANDS, ["list", "--json"]) == 0
    assert {"runs list", "runs show", "runs compare", "runs rm"} <= json.loads(capsys.readouterr().out).keys()
    assert main("experiments", "", COMMANDS, ["runs", "--help"]) == 0
    out = capsys.readouterr().out
    assert "python -m experiments runs" in out and "compare" in out and "linear-digits" not in out
    assert main("experiments", "", COMMANDS, ["runs"]) == 2
    assert "list, show, compare, rm" in capsys.readouterr().err
    assert main("experiments", "", COMMANDS, ["runs", "lst"]) == 2
    assert "list, show, compare, rm" in capsys.readouterr().err
