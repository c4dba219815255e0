"""The page that holds scales against each other: everything on it comes from runs that are there."""

import re
from dataclasses import replace

import pytest
from figure_examples import made_up_runs

from stopgrad.deep.config import change
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.commands.results import Results
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.store import evidence
from stopgrad.experiments.tian2021.paper import PAPER
from stopgrad.linear_theory.tools.door import main

ARMS = ("cosine/baseline", "cosine/symmetric", "cosine/ema")


class Made:
    """A record of made-up runs of some arms of a suite."""

    def __init__(self, suite, accuracy):
        made = made_up_runs([name for name in ARMS if name in suite.arms], scale=suite.scale)
        self.runs = {}
        for arm, seeds in made.records.items():
            for seed, run in seeds.items():
                config = change(suite.arms[arm].config, seed=seed)
                probe = {"accuracy": accuracy[arm] + seed / 1000}
                origin = {"hardware": "a processor", "instructions": "AVX2", "torch": "2.14.0"}
                extra = {"probe": probe, "provenance": origin, "seconds": 300.0, "knn": {"after": 0.4}}
                if arm == "cosine/baseline":
                    extra["references"] = {"pixels": {"knn": 0.3, "probe": 0.31}}
                run.config, run.summary, run.recorded = config, run.summary | extra, None
                self.runs[config] = run

    def find(self, config):
        return self.runs.get(config)


@pytest.fixture
def made(monkeypatch):
    accuracy = {"cosine/baseline": 0.43, "cosine/symmetric": 0.45, "cosine/ema": 0.4}
    monkeypatch.setattr(evidence, "backed", lambda store, suite: evidence.Backed(store, Made(suite, accuracy)))
    monkeypatch.setattr("stopgrad.experiments.ledger.backed", evidence.backed)
    claims = [claim for claim in PAPER.claims if claim.arms and set(claim.arms) <= set(ARMS)]
    monkeypatch.setitem(PAPERS, "tian2021", replace(PAPER, claims=tuple(claims)))


def test_the_page_has_every_claim_that_was_measured_and_every_cell(made, tmp_path):
    path = tmp_path / "results.md"
    assert main("experiments", "", {"results": Results, "o": Results}, ["results", "--out", str(path)]) == 0
    page = path.read_text(encoding="utf-8")
    for table in PAPER.read_tables().values():
        for cell in table["cells"]:
            assert "{} | {} | {:.2f} ± {:.2f}".format(cell["row"], cell["column"], *cell["paper"]) in page
    assert "| 1 layer, no EMA | no bias, regular | 72.85 ± 0.16 |" in page and "| 43.1 ± 0.2 (3) |" in page
    [line] = re.findall(r"^\| Without EMA a symmetric predictor is far less accurate.*$", page, re.M)
    assert line.endswith("| 5 points |  | – | -2.00 (-2.00 … -2.00) | fails |")
    assert "## Where what was measured differs" in page and "At cifar it fails." in " ".join(page.split())
    assert "A linear probe on raw pixels has 31.0 % (kNN 30.0 %), on the run beside them" in " ".join(page.split())


def test_refusals_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(PAPERS, "dry", Paper(key="dry", citation="d", claims=()))
    for flags, words in (
        (["--scales", "cpu"], "two scales"),
        (["--scales", "cpu", "nope"], "no scale 'nope'"),
        (["--paper", "dry"], "has no suite"),
    ):
        assert main("experiments", "", {"results": Results, "o": Results}, ["results", *flags]) == 2
        assert words in capsys.readouterr().err


def test_the_readme_shows_what_the_largest_scale_has_measured(made, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("Before.\n<!-- scales -->\nold\n<!-- /scales -->\nAfter.\n", encoding="utf-8")
    assert main("experiments", "", {"results": Results, "o": Results}, ["results", "--readme", str(readme)]) == 0
    before, *table, after = readme.read_text(encoding="utf-8").splitlines()
    assert (before, after) == ("Before.", "After.") and capsys.readouterr().out == f"written: {readme}\n"
    assert sum("| 43.1 ± 0.2 (3) |" in line for line in table) == 1  # one line for an arm that stands in many tables
    [line] = [line for line in table if line.startswith("| Table 3: 1 layer, no EMA | no bias, symmetric |")]
    assert "36.62 ± 1.85" in line and "45.1 ± 0.2 (3)" in line
    assert len(table) == 2 + 2 + len(ARMS)
