"""Every file of examples/ is short, and runs."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest

from stopgrad.deep.__main__ import door
from stopgrad.deep.training.watch import CollapseWarning
from stopgrad.figures.shared.phase import draw_phase

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def your_flow(main, tmp_path, said):
    diagram = main["main"].__globals__["diagram"] = functools.cache(main["diagram"])
    main["main"](str(tmp_path / "flow.png"), 6)
    assert (tmp_path / "flow.png").stat().st_size > 10_000 and "of 36 cells" in said()
    data = diagram(6)
    title = draw_phase(data.assign_attrs(kappa=3.0, flow="flow")).get_suptitle()
    assert "kappa = 3" in title and "tolerance" not in title and "seconds" not in title
    alive = data.fate.values == 0
    assert 0 < alive.mean() < 1 and np.isin(data.fate, (0, 1)).all()
    assert (np.diff(alive.astype(int), axis=1) <= 0).all(), "a faster decay saves no start"
    p, h = 1 / 2.2, main["Knobs"](kappa=0.0)
    assert main["flow"](main["Mode"](p, 1.0), h).p == pytest.approx(1 - 1.1 * p - h.eta * p, abs=1e-15)


def simsiam_by_hand(main, tmp_path, said):
    main["main"].__globals__["BATCH"] = 16  # a quarter, with which as much is seen
    assert main["main"](60) != main["main"](60, stop_gradient=False) == "complete collapse (direction)"
    assert said().count("step 59: loss -0.9") == 2


def watch(main, tmp_path, said):
    with pytest.warns(CollapseWarning, match="embeddings gather in one direction"):
        found = main["main"](folder=str(tmp_path / "watched"))
    assert found["diagnosis"] == "complete collapse (direction)" and found["last"]["loss"] < -0.9
    assert all(sign["step"] > 200 for sign in found["signs"]), "its predictor is there until then"
    assert door(["summary", str(tmp_path / "watched")]) == 0 and "complete collapse in direction" in said()


CHECKS = {"simsiam_by_hand": simsiam_by_hand, "watch": watch, "your_flow": your_flow}
ELSEWHERE = {"uniformity": "tests/deep/test_new_parts.py", "paper": "tests/house/test_own_paper.py"}
"""Examples that a file of their own tests."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(path, tmp_path, capsys, monkeypatch):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 75
    if path.stem in ELSEWHERE:
        assert path.name in (path.parents[1] / ELSEWHERE[path.stem]).read_text(encoding="utf-8")
        return
    monkeypatch.chdir(tmp_path)
    CHECKS[path.stem](runpy.run_path(str(path)), tmp_path, lambda: capsys.readouterr().out)
