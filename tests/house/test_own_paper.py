"""A paper of one's own is one file and one line: it is run, verified, drawn and reported like the others."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "paper.py"
LINE = '    "examples.paper",\n'
BOTH = """
import sys
from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.figures.__main__ import COMMANDS as PICTURES
from stopgrad.linear_theory.tools.door import main
main("experiments", "", COMMANDS, sys.argv[1].split())
main("figures", "", PICTURES, sys.argv[2].split())
"""


def python(checkout, folder, *argv):
    """What a fresh process says that is started in `folder` with the code of `checkout`."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, *map(str, argv)]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_the_file_is_short():
    paper, commands = EXAMPLE.read_text(encoding="utf-8").split('if __name__ == "__main__":')
    _, _, code = paper.split('"""', 2)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40
    assert len((paper + commands).splitlines()) <= 75


def test_from_runs_to_its_section_and_then_with_a_line_in_the_list(tmp_path):
    """One test, since the second half finds the runs of the first."""
    said = python(ROOT, tmp_path, EXAMPLE)
    assert "mine2026, smoke: 3 of 3 runs finished" in said and "A. Author 2026: 1 claim: 1 holds" in said
    assert min(Image.open(tmp_path / "out" / "figures" / "my-modes.png").size) > 200
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.index('id="page-of-mine2026"') < html.index('id="mine2026-modes"') < html.index('id="figure-my-modes"')
    assert "tian2021" not in html

    checkout = tmp_path / "checkout"
    for name in ("stopgrad", "linear_theory", "deep", "experiments", "figures", "examples"):
        shutil.copytree(ROOT / name, checkout / name)
    listed = checkout / "experiments" / "papers.py"
    text, count = re.subn(r"(MODULES = \(\n)", rf"\g<1>{LINE}", listed.read_text(encoding="utf-8"))
    assert count == 1
    listed.write_text(text, encoding="utf-8")
    asked = "verify --scale smoke --paper mine2026 --json --runs", "list --json"
    said = python(checkout, checkout, "-c", BOTH, f"{asked[0]} {tmp_path / 'runs'}", asked[1])
    ledger, everything = map(json.loads, said.splitlines())
    [row] = ledger["claims"]
    assert (row["id"], row["verdict"], row["n_seeds"], row["since"]) == ("mine2026-modes", "holds", 3, "2026-11-28")
    assert {"my-modes", "tian-fig3", "linear-digits-modes"} <= everything.keys()
