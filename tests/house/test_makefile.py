"""`make reproduce`: what it calls, and that it fails where that fails."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """#!/bin/sh
echo "$OMP_NUM_THREADS thread: $@" >> calls
exit {status}
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize("status", [0, 1, 2, 130, 143])
def test_reproduce_is_one_program_of_one_thread_that_may_fail(status, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed"):  # in this order: nothing is installed
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text(PROGRAM.format(status=status))
    python.chmod(0o755)
    command = ["make", f"RUN={python}", "reproduce", "SCALE=quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (tmp_path / "calls").read_text() == "1 thread: -m figures reproduce --scale quick\n"
    assert (done.returncode == 0) == (status == 0)
