"""A paper is a record, one line in a list: what commands take of it, and that machinery knows none by name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from stopgrad.experiments import ledger, papers
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.papers import PAPERS, chosen, suite
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import SCALES, Suite

ROOT = Path(__file__).parents[2]
MACHINERY = ("experiments/suites", "experiments/claims", "experiments/store", "experiments/launch",
             "experiments/commands", "figures/machinery", "figures/report", "figures/shared")  # fmt: skip


def claim(id="a", **fields):
    about = {"place": "Eq. 1", "statement": "So it is.", "rule": Rule("a number", 0.0), "value": lambda: 1.0}
    return Claim(id=id, theory=lambda: "As it must.", **about | fields)


def paper(*claims, key="p", **fields):
    return Paper(key=key, citation="A. Author 2026", since="2026-01-01", claims=claims, **fields)


def test_a_paper_gives_its_claims_its_name_and_the_day_of_its_rules():
    mine = paper(claim(), claim("b", rule=Rule("a number", 0.0, since="2026-02-02")))
    assert [(c.id, c.paper, c.rule.since) for c in mine.claims] == [
        ("p-a", "p", "2026-01-01"),
        ("p-b", "p", "2026-02-02"),
    ]
    assert replace(mine, title="T").claims == mine.claims
    with pytest.raises(ValueError, match="p-a is a claim of p and not of q"):
        paper(*mine.claims, key="q")


def test_an_id_names_one_claim():
    with pytest.raises(ValueError, match="2 claims are called p-a"):
        paper(claim("a"), claim("b"), claim("a"))


def test_a_correction_and_what_was_stated_stand_side_by_side():
    paper(claim("a", as_stated="It is not."), claim("a-as-stated"))
    with pytest.raises(ValueError, match="must be a claim p-a-as-stated"):
        paper(claim("a", as_stated="It is not."))
    with pytest.raises(ValueError, match="p-a-as-stated needs a claim p-a that says"):
        paper(claim("a"), claim("a-as-stated"))


def test_claims_of_networks_need_a_suite():
    with pytest.raises(ValueError, match="p-a reads runs, and p has no suite"):
        paper(claim(arms=("one",), value=lambda runs: 1.0))


def test_papers_are_chosen_by_name_all_by_default():
    assert [one.key for one in chosen()] == list(PAPERS) and chosen(["tian2021"]) == [PAPERS["tian2021"]]
    assert all(key == one.key and one.citation for key, one in PAPERS.items())
    with pytest.raises(ValueError, match="no paper 'nobody2020'; there are tian2021"):
        chosen(["tian2021", "nobody2020"])
    assert all(one.suite for one in chosen(having="suite")) and len(chosen(having="suite")) < len(PAPERS)
    with pytest.raises(ValueError, match="linear-digits has no suite; there are those of tian2021"):
        chosen(["linear-digits"], having="suite")


def test_a_suite_is_called_as_its_paper(monkeypatch):
    monkeypatch.setitem(papers.PAPERS, "p", paper(suite=lambda scale: Suite("p", scale, {})))
    assert suite("p", "smoke").scale == "smoke"
    with pytest.raises(ValueError, match="no scale 'huge'"):
        suite("p", "huge")


@pytest.mark.parametrize("key", [one.key for one in chosen(having="suite")])
def test_every_claim_has_its_arms_where_it_can_be_measured_and_says_what_it_must(key, theory):
    arms, decided = {scale: suite(key, scale).arms.keys() for scale in SCALES}, ledger.theory_rows(key, Store(theory))
    for one in PAPERS[key].claims:
        said = one.theory() if one.arms else decided[one.id]["theory"]
        assert said.strip().endswith((".", ")")), one.id
        for scale in set(one.scales) - {"quick"} if one.arms else ():  # quick has the arms of some claims alone
            assert arms[scale] >= set(one.arms), (one.id, scale)


@pytest.mark.parametrize("key", [one.key for one in chosen(having="suite")])
def test_what_a_paper_has_portrayed_is_in_its_suite(key):
    assert set(PAPERS[key].portrayed) <= suite(key, "cpu").arms.keys()


def test_machinery_knows_no_paper_by_name():
    for room in MACHINERY:
        for path in (ROOT / room).rglob("*.py"):
            known = [
                line for line in path.read_text().splitlines() if re.search(r"tian2021|linear.digits|Ganguli", line)
            ]
            assert not known, f"{path}: {known}"
