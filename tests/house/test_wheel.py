"""The wheel: `stopgrad` alone at its top level, whole, and at home anywhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("stopgrad", "linear_theory", "deep", "experiments", "figures")
BACKEND = pytest.mark.skipif(not find_spec("setuptools"), reason="no build backend is installed")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder into which a wheel, built of a copy of the sources, was unpacked; nothing is downloaded."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    how = f"from setuptools.build_meta import build_wheel; build_wheel({str(made)!r})"  # as pip asks for it
    done = subprocess.run([sys.executable, "-c", how], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = made.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(made / "site")
    return made / "site"


@BACKEND
def test_it_holds_stopgrad_alone_and_all_of_it(unpacked):
    assert [path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")] == ["stopgrad"]
    sources = {Path(*(() if part == "stopgrad" else ("stopgrad",)), path.relative_to(ROOT))
               for part in PARTS for path in (ROOT / part).rglob("*")
               if path.suffix in (".py", ".json", ".html", ".css", ".js")}  # fmt: skip
    assert not [str(path) for path in sources if not (unpacked / path).is_file()]


@BACKEND
def test_it_works_from_an_empty_folder(unpacked, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(unpacked)}
    told = [sys.executable, "-m", "stopgrad.deep", "--help"]
    done = subprocess.run(told, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "train" in done.stdout, done.stderr
    code = (
        "import stopgrad.linear_theory as theory; print(theory.__file__, theory.critical_eta(theory.Hyperparameters()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    file, number = done.stdout.split()
    assert (
        Path(file).is_relative_to(unpacked) and float(number) == pytest.approx(1 / 4.4) and not any(tmp_path.iterdir())
    )
