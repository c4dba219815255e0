"""Every Python example of the README is carried out, and is as short as it says."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from checkouts import checkout, program
from figure_examples import made_up_runs

from stopgrad.experiments import ledger
from stopgrad.experiments.commands import results
from stopgrad.experiments.commands.verify_command import BEGIN, END, markdown, replaced
from stopgrad.experiments.papers import PAPERS, chosen, suite
from stopgrad.experiments.store.evidence import path_of
from stopgrad.experiments.store.store import Store

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def block(mark: str) -> str:
    """The one example that contains this."""
    [found] = [text for text in BLOCKS if mark in text]
    return found


def test_examples_are_short():
    assert len(BLOCKS) == 10
    for text in BLOCKS:
        assert sum(bool(line.strip()) for line in text.splitlines()) < 20


def test_the_ledger_is_what_the_command_prints_of_the_record(theory):
    """Without a record, line for line the same claims, places and minima."""
    nowhere = Store(theory)
    printed = markdown("cpu", {one.key: ledger.rows(one.key, "cpu", nowhere) for one in chosen(having="claims")})
    assert TEXT.count(BEGIN) == TEXT.count(END) == 1
    if path_of(suite("tian2021", "cpu")).exists():
        assert replaced(ROOT / "README.md", printed) == TEXT
    else:
        shown = TEXT.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
        [(numbers, table), (others, expected)] = [(text.partition("\n\n")[::2]) for text in (shown, printed)]
        assert re.sub(r"\s+|\d+", "", numbers) == re.sub(r"\s+|\d+", "", others)
        kept = [[[line.split(" | ")[k] for k in (0, 1, 4)] for line in t.splitlines()[2:]] for t in (table, expected)]
        assert kept[0] == kept[1] and len(kept[0]) >= 15


def test_the_table_of_scales_is_what_the_command_prints_of_the_record(tmp_path):
    [paper] = chosen(["tian2021"])
    printed = results.headlines(paper, ("cpu", "cifar"), Store(tmp_path / "nothing"))
    assert replaced(ROOT / "README.md", printed, results.BEGIN, results.END) == TEXT


def test_what_the_wings_offer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block("summary = train(").replace("help(", "callable("), names)
    assert names["summary"]["state"] == "finished" and (tmp_path / "out/short/summary.json").exists()
    assert capsys.readouterr().out.startswith(names["summary"]["diagnosis"])


def test_a_loop_is_watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block("Watch("), {})
    summary = json.loads((tmp_path / "out/mine/summary.json").read_text())
    assert summary["steps"] == 50 and summary["alignment"] and (tmp_path / "out/mine/run.png").exists()


def test_a_flow_and_a_predictor_of_the_theory():
    names: dict = {}
    exec(block("def noisy_mode_flow"), names)
    assert names["solution"].worst_error < 1e-6 and np.all(names["solution"].state.s > 0)
    exec(block("FlowProblem"), names)
    alive, collapsed = names["diagram"].fate.values == 0, names["diagram"].fate.values == 1
    assert alive.any() and collapsed.any() and np.isfinite(names["border"].boundary_p0).any()
    assert names["shares"].count.sum() == 100
    exec(block("saturating_spectrum"), names)
    switches = eval(block("saturating_spectrum").strip().splitlines()[-1].split("  #")[0], names)
    assert callable(switches.predictor)


def test_a_claim_is_in_the_ledger_and_computed(tmp_path):
    """In a process of its own, since a claim is added to a module before the ledger reads it."""
    lines = [
        "import stopgrad.experiments.tian2021.claims as claims",
        f"exec({block('CLAIMS +=')!r}, vars(claims))",
        "from stopgrad.experiments import ledger",
        "from stopgrad.experiments.claims.claim import evaluate",
        "from stopgrad.experiments.store.store import Store",
        "from stopgrad.experiments.papers import suite",
        "mine = next(c for c in ledger.claims_of('tian2021') if c.id == 'tian2021-directcopy')",
        f"row = evaluate(mine, suite('tian2021', 'cpu'), Store({str(tmp_path)!r}))",
        "assert row['verdict'] == 'not measured' and '0 of 3' in row['reason'], row",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_objective_is_one_file_and_a_line(tmp_path):
    """In a checkout of its own, as the text says."""
    place = checkout(tmp_path / "place", "linear_theory", "deep")
    (place / "deep" / "method" / "objectives" / "uniformity.py").write_text(block("class Uniformity"), encoding="utf-8")
    [line] = re.findall(r"`(\"uniformity\": [^`]*)`", TEXT)
    seats = place / "deep" / "seats.py"
    seats.write_text(seats.read_text(encoding="utf-8").replace("OBJECTIVES = {", f"OBJECTIVES = {{\n    {line},"))
    flags = "--objective uniformity --sharpness 3 --preset linear-gaussian --gaussian-samples 64 --batch-size 32"
    argv = ["-m", "deep", "train", *flags.split(), "--epochs", "1", "--probe", "none", "--json"]
    status, out, err = program(place, place, *argv)
    assert status == 0, err
    answer = json.loads(out)
    assert answer["config"]["method"]["sharpness"] == 3 and out.count("\n") == 1
    assert "step 1/2" in err  # what is no answer


@pytest.mark.parametrize("missing", [(), ("ema",)])
def test_a_figure_is_drawn_with_its_caption(missing):
    names: dict = {"__name__": "kept"}
    exec(block("def draw_kept"), names)
    mine = names["FIGURES"]["kept"]
    runs = made_up_runs(mine.compute.arms, missing=missing)
    data = mine.compute.compute(runs)
    assert data["baseline"].size == 3 and data["ema"].size == (0 if missing else 3)
    assert len(mine.draw(data).axes[0].lines) == 2 and mine.text.startswith("Modes of F")
    assert set(mine.claims) <= {claim.id for claim in PAPERS["tian2021"].claims}


def test_a_figure_in_a_room_is_in_the_list(tmp_path):
    """In a checkout of its own, as the text says: a file, and its name in the room's list."""
    place = checkout(tmp_path / "place", "linear_theory", "deep", "experiments", "figures")
    room = place / "figures" / "tian2021"
    (room / "kept.py").write_text(block("def draw_kept"), encoding="utf-8")
    listed = (room / "__init__.py").read_text(encoding="utf-8")
    (room / "__init__.py").write_text(listed.replace('"tables")', '"tables", "kept")'), encoding="utf-8")
    status, out, err = program(place, place, "-m", "figures", "list", "--json")
    assert status == 0 and json.loads(out)["kept"]["claims"] == ["tian2021-rescue-ema"], err


def test_a_quantity_is_measured_and_in_the_summary(tmp_path, monkeypatch, capsys):
    from stopgrad.deep.__main__ import door
    from stopgrad.deep.measuring.quantities import quantities

    made = ModuleType("made")
    exec(block("QUANTITIES = ("), vars(made))
    for one in made.QUANTITIES:
        monkeypatch.setitem(quantities.QUANTITIES, one.name, one)
    argv = "train --backbone linear --fraction 0.1 --image-size 8 --epochs 1 --batch-size 16 --probe none --quiet"
    assert door([*argv.split(), "--json", "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["last"]["norm_z"] > 0
