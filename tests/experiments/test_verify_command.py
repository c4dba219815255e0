"""`python -m experiments verify`: its JSON, its tables, and that it trains only when told to."""

import json
import math
import types

import pytest

from stopgrad.experiments.claims import ledger
from stopgrad.experiments.claims.claim import KEYS, Claim, Rule
from stopgrad.experiments.claims.multiplicity import adjusted, in_words
from stopgrad.experiments.commands import verify_command
from stopgrad.experiments.commands.verify_command import Verify, summary, table
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.store.store import Store
from stopgrad.linear_theory.tools.door import main


def claim(name, value, **fields):
    about = {"id": f"tian2021-{name}", "paper": "tian2021", "place": "Eq. 1", "statement": f"Statement {name}."}
    return Claim(**about, theory=lambda: "As it must.", rule=Rule("a number", 0.5), value=lambda *_: value, **fields)


@pytest.fixture(autouse=True)
def three_claims(monkeypatch):
    """A ledger that is quick: one claim holds, one fails, one comes out as NaN, one needs runs."""
    claims = claim("up", 1.0), claim("down", 0.25), claim("lost", math.nan), claim("nets", 1.0, arms=("no-such-arm",))
    monkeypatch.setitem(ledger.LEDGER, "tian2021", claims)


@pytest.fixture
def launched(monkeypatch):
    """What was given to the launcher, which does nothing."""

    def launch(configs, *given):
        calls.append((configs, *given))
        finished = {"state": "finished", "reason": None, "seconds": 1.0, "fresh": True}
        keys = [f"{config}" for config in configs]
        return [Outcome(keys[0], **finished | calls.became), *(Outcome(key, **finished) for key in keys[1:])]

    class Calls(list):
        became = types.MappingProxyType({})

    calls = Calls()
    quiet = types.SimpleNamespace(launch=launch, choose=lambda: "the launcher")
    monkeypatch.setattr(verify_command, "launcher", quiet)
    return calls


def verify(capsys, tmp_path, *flags):
    status = main("experiments", "x", {"verify": Verify}, ["verify", "--runs", str(tmp_path / "runs"), *flags])
    return status, capsys.readouterr()


def test_json_has_exactly_the_rows(capsys, tmp_path, launched):
    status, said = verify(capsys, tmp_path, "--json")
    assert status == 0 and not launched
    result = json.loads(said.out)
    assert list(result) == ["claims"]
    assert [row["verdict"] for row in result["claims"]] == ["holds", "fails", "inconclusive", "not measured"]
    assert all(tuple(row) == KEYS for row in result["claims"])
    assert result["claims"][1]["ci"] == [0.25, 0.25]


def test_tables_are_grouped_by_verdict_and_summed_up(capsys, tmp_path, launched):
    status, said = verify(capsys, tmp_path, "--scale", "smoke")
    assert status == 0 and not launched  # a claim that fails is a finding
    order = [said.out.index(word) for word in ("Holds (1)", "Fails", "Inconclusive (1)", "Not measured (1)")]
    assert order == sorted(order)
    assert "4 claims: 1 holds, 1 fails, 1 inconclusive, 1 not measured" in said.out
    assert "0.25" in said.out and "Statement down." in said.out
    assert "runs of scale smoke are finished" in said.out and "--run-missing" in said.out


def test_missing_runs_are_carried_out_when_asked_for(capsys, tmp_path, launched):
    status, _ = verify(capsys, tmp_path, "--scale", "smoke", "--run-missing", "--json")
    [(configs, store, launcher, title, labels)] = launched
    assert status == 0 and launcher == "the launcher" and title == "tian2021, smoke"
    assert len(configs) == len(labels) > 0 and labels[0].endswith(f"seed {configs[0].seed}")
    assert store.root == tmp_path / "runs"


@pytest.mark.parametrize(
    ("became", "status", "words"),
    [
        ({"state": "stopped", "reason": "told to", "signal": 15}, 128 + 15, "1 runs stopped; the same command"),
        ({"state": "failed", "reason": "it could not"}, 3, "seed 0: it could not"),
        ({"state": "diverged", "reason": None}, 0, "4 claims"),
    ],
)
def test_what_became_of_missing_runs_decides_the_exit_status(capsys, tmp_path, launched, became, status, words):
    launched.became = became
    code, said = verify(capsys, tmp_path, "--scale", "smoke", "--run-missing")
    assert code == status and words in said.out
    code, said = verify(capsys, tmp_path, "--scale", "smoke", "--run-missing", "--json")
    assert code == status and list(json.loads(said.out)) == ["claims"]


@pytest.mark.parametrize(
    ("flags", "words"), [(("--paper", "nobody2020"), "nobody2020"), (("--scale", "huge"), "'huge'")]
)
def test_bad_input_ends_with_a_sentence(capsys, tmp_path, launched, flags, words):
    status, said = verify(capsys, tmp_path, *flags, "--run-missing")
    assert status == 2 and not launched and not said.out
    assert words in said.err and len(said.err.splitlines()) == 1


def test_summary_and_table_take_rows_as_they_are():
    row = dict.fromkeys(KEYS, "") | {"id": "tian2021-x", "paper": "tian2021", "verdict": "holds", "seeds": [0, 1, 2]}
    row |= {"estimate": 1.23456, "ci": [1.0, 2.0], "n_seeds": 3, "scale": "cpu", "statement": "Long " * 30}
    assert summary([row]) == "1 claim: 1 holds, 0 fail, 0 inconclusive, 0 not measured"
    drawn = table("Holds", [row], width=90)
    assert "1.235" in drawn and "1 … 2" in drawn and max(map(len, drawn.splitlines())) <= 90


def test_it_is_said_how_many_verdicts_may_err(capsys, tmp_path, launched, monkeypatch):
    rows, chance = ledger.rows("tian2021", "cpu", Store(tmp_path)), {"holds": 0.001, "fails": 0.02}
    seen = adjusted(row | {"p": chance.get(row["verdict"])} for row in rows)
    monkeypatch.setattr(ledger, "rows", lambda *_: seen)
    assert in_words(seen)[0] in verify(capsys, tmp_path)[1].out
    rows = json.loads(verify(capsys, tmp_path, "--json")[1].out)["claims"]
    assert [row["survives"] for row in rows] == [True, False, None, None]
    assert [row["p_adjusted"] for row in rows] == [pytest.approx(0.003), pytest.approx(0.03), None, None]
