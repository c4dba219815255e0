"""The whole product, as its users call it: a suite is carried out, held against the claims, drawn and reported."""

import json
import re
import shutil

from PIL import Image

import stopgrad.experiments.__main__ as experiments
import stopgrad.figures.__main__ as figures
from stopgrad.experiments.papers import PAPERS
from stopgrad.figures.machinery.picture import FromRuns, Recorded, Released
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.linear_theory.tools.door import main

WINGS = {"experiments": experiments.COMMANDS, "figures": figures.COMMANDS}
PAPER = "li2022"
"""Of all papers that with pictures of every kind whose own computed ones are quick."""
ARMS = ("baseline", "single-pass", "half-width/baseline", "linear/baseline")
"""Some of each family, each with the scale's three seeds."""


def test_from_runs_to_the_report(tmp_path, theory, monkeypatch, capsys):
    """One test, so that workers which share the suite do not do it all again."""
    monkeypatch.chdir(tmp_path)

    def ask(command, *flags):
        wing, *words = command.split()
        status = main(wing, "", WINGS[wing], [*words, *flags, "--json"])
        out, err = capsys.readouterr()
        assert status == 0 and "Traceback" not in err, err
        return json.loads(out)

    smoke = ("--scale", "smoke")
    every_run_is_finished(ask(f"experiments run {PAPER} --launcher inprocess", *smoke, "--arms", *ARMS))
    for known in theory.glob(".theory-*"):
        shutil.copy(known, "runs")
    ledger = ask("experiments verify", *smoke)
    every_claim_is_answered({row["id"]: row for row in ledger["claims"]})
    of_it = ("--paper", PAPER)  # pictures of all papers are drawn by tests of their own
    made = ask("figures all --workers 1", *smoke, *of_it)
    assert made.keys() == ask("figures list", *of_it).keys() < FIGURES.keys() == ask("figures list").keys()
    every_picture_that_can_be_made_is_there(made, tmp_path / "out" / "figures")
    report = ask("figures report", *smoke)
    html = (tmp_path / report["report"]).read_text(encoding="utf-8")
    shown = re.findall(r'<article class="claim [^>]*data-claim="([^"]+)"', html)
    assert sorted(shown) == sorted(row["id"] for row in ledger["claims"])
    assert json.loads((tmp_path / report["ledger"]).read_text(encoding="utf-8")) == ledger
    pictures = [name for name, path in made.items() if path]
    assert sorted(report["figures"]) == sorted(pictures) and html.count('src="data:image/png') == len(pictures)


def every_run_is_finished(result):
    assert result["finished"] == result["fresh"] == result["total"] == 3 * len(ARMS)
    assert not result["failed"] and not result["diverged"]


def every_claim_is_answered(rows):
    """By theory, with a number; what is claimed of networks waits for runs that have learned something."""
    assert rows.keys() == {claim.id for paper in PAPERS.values() for claim in paper.claims}
    for claim in PAPERS["tian2021"].claims:
        row, there = rows[claim.id], not claim.arms or "smoke" in claim.scales
        assert (row["verdict"] != "not measured") == there == (row["estimate"] is not None), row


def every_picture_that_can_be_made_is_there(made, folder):
    """Those of the theory, and those of runs that are there."""
    for name, one in ((name, FIGURES[name]) for name in made):
        can_be = not isinstance(one.compute, Recorded | Released)
        if isinstance(one.compute, FromRuns):
            can_be = one.compute.suite == PAPER and not set(ARMS).isdisjoint(one.compute.arms)
        assert (made[name] is not None) == can_be == (folder / f"{name}.png").is_file(), name
        if can_be:
            assert min(Image.open(folder / f"{name}.png").size) > 200
            assert (folder / f"{name}.txt").read_text(encoding="utf-8").startswith(f"{name}: ")
