"""The ledger: ids, twins of claims that err, and that every claim can be asked at every scale."""

import dataclasses
import datetime
import hashlib

import pytest

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.ledger import Remembered, claims_of
from stopgrad.experiments.papers import PAPERS, SCALES, chosen, suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import Store
from stopgrad.linear_theory.tools.door import dumps


def claim(id="a", **fields):
    values = {"place": "Eq. 1", "statement": "So it is.", "rule": Rule("a number", 0.0)}
    return Claim(id=id, theory=lambda: "As it must.", **{"value": lambda: 1.0, **values, **fields})


def test_an_unknown_paper_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no paper 'nobody2020'; there are tian2021"):
        claims_of("nobody2020")


def test_there_are_at_least_twenty_claims_of_tian2021_and_a_place_for_each():
    claims = claims_of("tian2021")
    assert len(claims) >= 20
    assert len({c.id for c in claims}) == len(claims)
    for c in claims:
        assert c.id.startswith("tian2021-") and c.paper == "tian2021"
        assert c.place and c.statement.endswith(".") and c.rule.statistic
        assert set(c.scales) <= set(SCALES)
        assert c.arms or c.setting


RULES = {
    ("tian2021", "2026-11-22"): "803713fe6236097b",
    ("tian2021", "2026-11-28"): "92900025d32eb976",
    ("tian2021", "2026-11-29"): "eee08b6615c45f18",
    ("zhang2022", "2026-11-29"): "22bbcdffde73a08a",
    ("li2022", "2026-11-29"): "49015dfd8df441a4",
    ("simsiam2021", "2026-11-29"): "ca3d147ea73883b7",
    ("ladder", "2026-11-29"): "018c3a099cad931e",
    ("fate", "2026-11-29"): "09da9dcf968c4b02",
}


def test_every_rule_has_its_day_and_one_that_changes_takes_another():
    """A digest of what decides, a paper and a day: whoever changes or adds a rule gives its day, and mends this."""
    rules: dict = {}
    for paper in PAPERS.values():
        for c in paper.claims:
            assert datetime.date.fromisoformat(c.rule.since), c.id
            rules.setdefault((paper.key, c.rule.since), []).append((c.id, c.arms, c.rule.above, c.rule.within, c.needs))
    assert {key: hashlib.sha256(repr(sorted(found)).encode()).hexdigest()[:16] for key, found in rules.items()} == RULES


@pytest.mark.parametrize("paper", [paper.key for paper in chosen(having="suite")])
def test_every_arm_that_a_claim_reads_is_in_the_suite_at_one_of_its_scales(paper):
    arms = {scale: set(suite(paper, scale).arms) for scale in SCALES}
    nowhere = {c.id: c.arms for c in PAPERS[paper].claims if not any(set(c.arms) <= arms[scale] for scale in c.scales)}
    assert not nowhere


def test_rows_without_a_run(tmp_path, monkeypatch):
    """Every network claim gives a row from an empty store, at every scale, and none passes; theory needs no store."""
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    networks = tuple(c for c in PAPERS["tian2021"].claims if c.arms)
    mine = dataclasses.replace(PAPERS["tian2021"], claims=(*networks, claim("z")))
    monkeypatch.setitem(PAPERS, "tian2021", mine)
    for scale in SCALES:
        rows = ledger.rows("tian2021", scale, Store(tmp_path / "runs"))
        assert [row["id"] for row in rows] == [*(c.id for c in networks), "tian2021-z"]
        assert {row["verdict"] for row in rows[:-1]} <= {"not measured"}
        assert rows[-1]["verdict"] == "holds"
        assert all(row["theory"] and row["scale"] == scale for row in rows[:-1])
    assert not (tmp_path / "runs").exists()


def test_a_run_is_read_once():
    asked = []

    @dataclasses.dataclass
    class Counting:
        def find(self, config):
            asked.append(config)
            return f"record of {config}"

    remembered = Remembered(Counting())
    assert [remembered.find(c) for c in "aba"] == ["record of a", "record of b", "record of a"]
    assert asked == ["a", "b"]


# ---------------------------------------------------------------- rows of theory are kept


def counted(monkeypatch):
    """A ledger of one claim that theory alone decides, and the list of times it was computed."""
    times = []

    def value():
        times.append(1)
        return 2.0

    one = Claim(
        id="one",
        place="here",
        statement="two is above one",
        theory=lambda: "two",
        rule=Rule("a number", above=1.0),
        value=value,
    )
    monkeypatch.setitem(PAPERS, "p", Paper(key="p", citation="P", claims=(one,)))
    return times


def test_rows_of_theory_are_computed_once_and_again_by_other_code(tmp_path, monkeypatch):
    times, store = counted(monkeypatch), Store(tmp_path)
    first = ledger.theory_rows("p", store)
    assert first["p-one"]["verdict"] == "holds" and first["p-one"]["estimate"] == 2.0
    assert ledger.theory_rows("p", store) == first and len(times) == 1
    monkeypatch.setattr(ledger, "code", lambda name: {"module": "other"})
    assert ledger.theory_rows("p", store) == first and len(times) == 2


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"origin": 3}'])
def test_a_damaged_file_of_rows_is_computed_again(tmp_path, monkeypatch, damage):
    times, store = counted(monkeypatch), Store(tmp_path)
    ledger.theory_rows("p", store)
    (tmp_path / ".theory-p.json").write_text(damage)
    assert ledger.theory_rows("p", store)["p-one"]["verdict"] == "holds" and len(times) == 2


def test_a_store_that_is_not_there_is_not_made(tmp_path, monkeypatch):
    counted(monkeypatch)
    assert ledger.theory_rows("p", Store(tmp_path / "none"))["p-one"]["verdict"] == "holds"
    assert not (tmp_path / "none").exists()


def test_several_processes_keep_the_rows_of_theory_that_one_computes(theory, tmp_path):
    papers, store = ["simsiam2021", "li2022"], Store(tmp_path)
    ledger.keep_theory(papers, store, 1)
    assert not any(tmp_path.iterdir())  # of one process whoever asks for them is as quick
    ledger.keep_theory(papers, store, 2)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(path.name for path in files) == [".theory-li2022.json", ".theory-simsiam2021.json"]
    for paper in papers:
        assert dumps(ledger.theory_rows(paper, store)) == dumps(ledger.theory_rows(paper, Store(theory)))
    ledger.keep_theory(papers, store, 2)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
