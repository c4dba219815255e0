"""A paper of one's own is one file and one line: it is run, verified, drawn and reported like the others."""

import json
import re
from pathlib import Path

from checkouts import checkout, program
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


def python(place, folder, *argv):
    """What a program says that is started in `folder` with the code of `place`."""
    status, out, err = program(place, folder, *argv)
    assert status == 0 and "Traceback" not in err, err
    return out


def test_the_file_is_short():
    paper, commands = EXAMPLE.read_text(encoding="utf-8").split('if __name__ == "__main__":')
    _, _, code = paper.split('"""', 2)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40
    assert len((paper + commands).splitlines()) <= 75


def test_from_runs_to_its_section_and_then_with_a_line_in_the_list(tmp_path):
    """One test, since the second half finds the runs of the first."""
    (tmp_path / "here").mkdir()
    said = python(ROOT, tmp_path / "here", EXAMPLE)
    assert "mine2026, smoke: 3 of 3 runs finished" in said and "A. Author 2026: 1 claim: 1 holds" in said
    assert min(Image.open(tmp_path / "here" / "out" / "figures" / "my-modes.png").size) > 200
    html = (tmp_path / "here" / "out" / "report.html").read_text(encoding="utf-8")
    assert html.index('id="page-of-mine2026"') < html.index('id="mine2026-modes"') < html.index('id="figure-my-modes"')
    assert "tian2021" not in html

    place = checkout(tmp_path / "checkout", "linear_theory", "deep", "experiments", "figures", "examples")
    listed = place / "experiments" / "papers.py"
    text, count = re.subn(r"(MODULES = \(\n)", rf"\g<1>{LINE}", listed.read_text(encoding="utf-8"))
    assert count == 1
    listed.write_text(text, encoding="utf-8")
    asked = "verify --scale smoke --paper mine2026 --json --runs", "list --json"
    (tmp_path / "both.py").write_text(BOTH, encoding="utf-8")
    said = python(place, place, tmp_path / "both.py", f"{asked[0]} {tmp_path / 'here' / 'runs'}", asked[1])
    ledger, everything = map(json.loads, said.splitlines())
    [row] = ledger["claims"]
    assert (row["id"], row["verdict"], row["n_seeds"], row["since"]) == ("mine2026-modes", "holds", 3, "2026-11-28")
    assert {"my-modes", "tian-fig3", "linear-digits-modes"} <= everything.keys()
