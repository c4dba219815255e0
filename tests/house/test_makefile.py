"""What `make reproduce` does with the exit status of each step."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stopgrad.experiments.commands.suite_command import SOME_FAILED

ROOT = Path(__file__).parents[2]
STEP = """#!/bin/sh
echo "$@" >> steps
case "$*" in *"experiments run"*) exit {status};; esac
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize(
    ("status", "goes_on"),
    [(0, True), (SOME_FAILED, True), (1, False), (2, False), (130, False), (143, False)],
)
def test_reproduce_goes_on_where_some_runs_failed_and_after_nothing_else(status, goes_on, tmp_path):
    """1 is what Python leaves a traceback with: then nothing may be drawn as if the suite had been carried out."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed"):  # in this order: nothing is installed
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text(STEP.format(status=status))
    python.chmod(0o755)
    done = subprocess.run(["make", f"RUN={python}", "reproduce"], cwd=tmp_path, capture_output=True, check=False)
    steps = (tmp_path / "steps").read_text()
    assert "experiments run" in steps
    assert ("figures report" in steps) == goes_on == (done.returncode == 0)
