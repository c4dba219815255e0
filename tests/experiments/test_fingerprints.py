"""Fingerprints: every method is in one of them, the same code gives the same bits, and what differs is named."""

import json
from dataclasses import replace
from typing import get_args

import pytest

from stopgrad.deep.config import check
from stopgrad.deep.parts import flat, options
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.commands import fingerprints
from stopgrad.experiments.commands.fingerprints import CASES, TINY, Fingerprints, differing
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.suites.grid import change
from stopgrad.linear_theory.tools.door import main

FEW = {name: CASES[name] for name in ("linear", "directpred")}


@pytest.mark.parametrize("field", ["predictor", "target", "objective", "loss", "stop_gradient", "isoloss"])
def test_every_choice_is_in_some_case(field):
    [hint] = [option.hint for option in options(TINY.method) if option.name == field]
    methods = [flat(change(TINY, **values).method) for values in CASES.values()]
    there = {method[field] for method in methods if field in method}
    assert there == set(get_args(hint) if hint is not bool else (True, False))


def test_every_case_is_a_run_that_can_be():
    assert len({check(change(TINY, data_folder="images", **values)) for values in CASES.values()}) == len(CASES)


@pytest.fixture
def value(monkeypatch):
    """Few runs, and a ledger of one claim whose value is this list's last."""
    values = [0.1]
    about = {"id": "sum", "place": "Eq. 1", "statement": "It is more."}
    claim = Claim(**about, theory=lambda: "", rule=Rule("a sum", 0.05), value=lambda: values[-1])
    for key, paper in PAPERS.items():
        monkeypatch.setitem(PAPERS, key, replace(paper, claims=(claim,) if key == "tian2021" else ()))
    monkeypatch.setattr(fingerprints, "CASES", dict(FEW))
    return values


def say(capsys, *flags):
    """Exit status, and what is printed."""
    status = main("experiments", "x", {"fingerprints": Fingerprints}, ["fingerprints", *map(str, flags)])
    said = capsys.readouterr()
    return status, said.out or said.err


def test_what_differs_is_named_and_nothing_else(capsys, tmp_path, value):
    path = tmp_path / "before.json"
    assert say(capsys, "--record", path) == (0, f"{count(path)} values recorded in {path}\n")
    assert json.loads(path.read_text()).keys() == {"machine", *FEW, "theory"}
    status, said = say(capsys, "--against", path, "--json")
    assert (status, json.loads(said)) == (0, {"values": count(path), "changed": {}})
    value.append(0.1 + 1e-16)
    fingerprints.CASES["directpred"] = FEW["directpred"] | {"weight_decay": 6e-4}
    status, said = say(capsys, "--against", path, "--json")
    changed = json.loads(said)["changed"]
    assert status == 1 and changed.keys() == {"directpred", "theory"} and changed["theory"] == ["tian2021-sum"]
    assert {"weights", "F", "loss"} <= set(changed["directpred"]) and "time" not in changed["directpred"]


def count(path):
    return sum(map(len, json.loads(path.read_text()).values()))


def test_a_record_of_another_machine_is_not_compared_with(capsys, tmp_path, monkeypatch):
    path, here = tmp_path / "before.json", fingerprints.machine()
    assert {"hardware", "instructions", "torch", "numpy"} <= here.keys()
    path.write_text(json.dumps({"machine": here | {"torch": "1.0"}, "linear": {"weights": "0"}}))
    monkeypatch.setattr(fingerprints, "computed", lambda: pytest.fail("nothing is to be computed"))
    status, said = say(capsys, "--against", path)
    assert status == 1 and "not compared" in said and said.endswith("another machine: torch\n")
    status, said = say(capsys, "--against", path, "--json")
    assert (status, json.loads(said)) == (1, {"values": 0, "changed": {"machine": ["torch"]}})


@pytest.mark.parametrize("flags", [(), ("--against", "a.json", "--record", "b.json"), ("--record", "b.txt")])
def test_one_file_is_named(capsys, flags):
    status, said = say(capsys, *flags)
    assert status == 2 and len(said.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"machine": 1}', '{"machine": {}, "linear": [1]}'])
def test_what_is_no_record_is_refused(capsys, tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    status, said = say(capsys, "--against", tmp_path / "a.json")
    assert status == 2 and len(said.splitlines()) == 1 and "a.json is no record" in said


def test_new_and_missing_values_differ_too():
    assert differing({"a": {"x": "1", "y": "2"}, "b": {"x": "1"}}, {"a": {"y": "2", "z": "3"}, "b": {"x": "1"}}) == {
        "a": ["x", "z"]
    }
