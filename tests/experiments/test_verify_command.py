"""`python -m experiments verify`: its JSON, its tables, and that it trains only when told to."""

import json
import math
import re
import types
from dataclasses import replace

import pytest

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import KEYS, Claim, Rule
from stopgrad.experiments.claims.multiplicity import adjusted, in_words
from stopgrad.experiments.commands import verify_command
from stopgrad.experiments.commands.verify_command import BEGIN, END, Verify, markdown, replaced, summary, table
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.store.store import Store
from stopgrad.linear_theory.tools.door import main


def claim(name, value, **fields):
    about = {"id": name, "place": "Eq. 1", "statement": f"Statement {name}."}
    return Claim(**about, theory=lambda: "As it must.", rule=Rule("a number", 0.5), value=lambda *_: value, **fields)


@pytest.fixture(autouse=True)
def three_claims(monkeypatch):
    """A ledger of one paper that is quick: one claim holds, one fails, one comes out as NaN, one needs runs."""
    for key, other in PAPERS.items():
        monkeypatch.setitem(PAPERS, key, replace(other, claims=()))
    claims = claim("up", 1.0), claim("down", 0.25), claim("lost", math.nan), claim("nets", 1.0, arms=("no-such-arm",))
    monkeypatch.setitem(PAPERS, "tian2021", replace(PAPERS["tian2021"], claims=claims))


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


# ---------------------------------------------------------------- README


@pytest.fixture
def headlines(monkeypatch):
    """A ledger with two headlines, of which a linear network and a ResNet decide one each, and its rows."""
    arms = [("linear/baseline",), ("baseline",), ()]
    claims = [claim(name, 1.0, arms=a, headline=bool(a)) for name, a in zip(("a|b", "b", "c-as-stated"), arms)]
    whole = replace(PAPERS["tian2021"], claims=(*claims, claim("c", 1.0, as_stated="Not so.")))
    monkeypatch.setitem(PAPERS, "tian2021", whole)
    claims = whole.claims[:3]
    rows = [dict.fromkeys(KEYS) | {k: getattr(c, k) for k in ("id", "paper", "place", "statement")} for c in claims]
    rows[0] |= {"scale": "cpu", "n_seeds": 5, "verdict": "holds", "estimate": 27.987, "ci": [-0.001, 1.0]}
    rows[1] |= {"scale": "cpu", "n_seeds": 3, "verdict": "inconclusive", "reason": "So it came."}
    rows[2] |= {"scale": "theory", "n_seeds": 0, "verdict": "fails", "estimate": 0.0, "ci": [0.0, 0.0]}
    monkeypatch.setattr(ledger, "rows", lambda *_: rows)
    return rows


def test_markdown_has_the_counts_and_the_headlines(headlines, capsys, tmp_path, launched):
    text = markdown("cpu", {"tian2021": headlines})
    words, lines = text.partition("\n\n")[::2]
    counts = [int(n) for n in re.findall(r"\b\d+\b", words)]
    assert counts == [2021, 3, 1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1] and max(map(len, words.splitlines())) <= 120
    assert lines.splitlines()[2:] == [
        r"| Statement a\|b | Eq. 1 | 27.99 | 0.00 … 1.00 | 0.5 | holds |",
        "| Statement b | Eq. 1 |  |  | 0.5 | inconclusive |",
    ]
    assert verify(capsys, tmp_path, "--markdown")[1].out == text + "\n"


def test_readme_is_written_between_the_marks_and_nowhere_else(headlines, capsys, tmp_path, launched):
    path, around = tmp_path / "README.md", f"# é\n{BEGIN}\n%s{END}\nthe rest\n"
    for before in ("", "an old\n\n| table |\n"):
        path.write_text(around % before, encoding="utf-8")
        status, said = verify(capsys, tmp_path, "--readme", str(path))
        assert status == 0 and f"written: {path}" in said.out
        assert path.read_text(encoding="utf-8") == around % (markdown("cpu", {"tian2021": headlines}) + "\n")
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n" * 2, f"x {BEGIN}\n{END}\n"])
def test_a_file_without_one_place_for_it_is_refused_before_anything_runs(text, capsys, tmp_path, launched):
    path = tmp_path / "README.md"
    path.write_text(text)
    for name in (path, tmp_path / "none.md"):
        status, said = verify(capsys, tmp_path, "--readme", str(name), "--run-missing", "--scale", "smoke")
        assert status == 2 and not launched and name.name in said.err and len(said.err.splitlines()) == 1
    assert path.read_text() == text
    with pytest.raises(ValueError, match=re.escape(BEGIN)):
        replaced(path, "")


def test_it_is_said_how_many_verdicts_may_err(capsys, tmp_path, launched, monkeypatch):
    rows, chance = ledger.rows("tian2021", "cpu", Store(tmp_path)), {"holds": 0.001, "fails": 0.02}
    seen = adjusted(row | {"p": chance.get(row["verdict"])} for row in rows)
    monkeypatch.setattr(ledger, "rows", lambda *_: seen)
    assert in_words(seen)[0] in verify(capsys, tmp_path)[1].out
    rows = json.loads(verify(capsys, tmp_path, "--json")[1].out)["claims"]
    assert [row["survives"] for row in rows] == [True, False, None, None]
    assert [row["p_adjusted"] for row in rows] == [pytest.approx(0.003), pytest.approx(0.03), None, None]
