"""What a user has set for other work, and what a machine does not offer, changes no number, picture or status."""

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stopgrad.deep.__main__ import door
from stopgrad.linear_theory.tools.files import cache_folder, passing_folder

ROOT = Path(__file__).parents[2]
TINY = shlex.split(
    "deep train --backbone linear --projector-hidden 16 --embedding-dim 8 --fraction .1 --image-size 8 --batch-size 32 "
    "--epochs 1 --probe none --device cpu --out run"
)
PERSONAL = "savefig.bbox: tight\naxes.grid: True\nfont.size: 20\nfigure.facecolor: black\nimage.lut: 8\n"
NOTEBOOK = "module://matplotlib_inline.backend_inline"
FOREIGN = {
    "MPLBACKEND": "no-such-backend",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "HOME": "/proc/nobody",  # nothing can be made there, whoever asks
    "TMPDIR": "/proc/nowhere",
    "FORCE_COLOR": "1",
    "XDG_CACHE_HOME": "",
}


def python(folder, *argv, umask=-1, **variables):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=environment, umask=umask, capture_output=True, timeout=300, check=False
    )


@pytest.fixture
def folders(tmp_path):
    """A plain folder, and one with a matplotlibrc of somebody's taste."""
    for name in ("plain", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "foreign" / "matplotlibrc").write_text(PERSONAL)
    return tmp_path / "plain", tmp_path / "foreign"


def test_a_run_is_the_same_in_foreign_surroundings(folders, monkeypatch, capsys):
    plain, foreign = folders
    monkeypatch.chdir(plain)
    assert door(TINY[1:]) == 0
    expected, found = capsys.readouterr().out, python(foreign, "-m", *TINY, umask=0o077, **FOREIGN)
    assert found.returncode == 0, found.stderr
    assert (foreign / "run" / "run.png").read_bytes() == (plain / "run" / "run.png").read_bytes()
    one, other = (json.loads((folder / "run" / "summary.json").read_text()) for folder in folders)
    assert one["spectrum"] == other["spectrum"] and one["knn"] == other["knn"]
    lines = expected.splitlines()[1:]  # but for the seconds
    assert any("√" in line for line in lines)
    assert found.stdout.decode("ascii").splitlines()[1:] == [line.encode("ascii", "replace").decode() for line in lines]
    assert b"Traceback" not in found.stderr


SAVED = """
from stopgrad.figures.machinery.style import SIGNED, new_figure, save, styled
import matplotlib

@styled
def draw():
    figure, [[axis]] = new_figure()
    axis.imshow([[-1, -0.3], [0.2, 1]], cmap=matplotlib.colormaps[SIGNED].resampled(256))
    axis.set(title="a title", xlabel="x")
    return figure

save(draw(), "picture.png", "words", pdf=True)
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The picture's files as they are where nothing is set."""
    return saved(tmp_path_factory.mktemp("plain"))


def saved(folder, **variables):
    done = python(folder, "-c", SAVED, **variables)
    assert done.returncode == 0, done.stderr
    return [(folder / name).read_bytes() for name in ("picture.png", "picture.pdf")]


def test_a_figure_has_the_same_bytes_in_foreign_surroundings(folders, drawn):
    assert saved(folders[1], **FOREIGN) == drawn


@pytest.mark.parametrize("settings", [b"x \xff", b"axes.formatter.use_locale: True"])
def test_settings_with_which_matplotlib_cannot_be_imported_keep_no_picture_from_being_made(settings, folders, drawn):
    (folders[1] / "matplotlibrc").write_bytes(settings)
    assert saved(folders[1], LC_ALL="xx_XX.UTF-8") == drawn


@pytest.mark.parametrize("module", ["stopgrad.figures.machinery.style", "stopgrad.deep.words.picture"])
def test_a_backend_is_the_users_where_it_can_be_had(module, tmp_path):
    """It stays in the environment, for programs started from here, and in matplotlib, for what is drawn beside."""
    said = f"import {module}, os, matplotlib as m; print(os.environ.get('MPLBACKEND'), m.rcParams['backend'])"
    assert python(tmp_path, "-c", said, MPLBACKEND="pdf").stdout == b"pdf pdf\n"
    chosen, used = python(tmp_path, "-c", said, MPLBACKEND="no-such-backend").stdout.split()
    assert chosen == b"no-such-backend" != used


@pytest.mark.parametrize(
    ("argv", "encoding"),
    [
        ("linear_theory translate", "ascii"),
        ("linear_theory translate", "latin-1"),
        ("linear_theory phase --help", "utf-16"),
        ("deep presets", "ascii"),
        ("experiments verify --paper simsiam2021", "ascii"),
        ("figures list", "ascii"),
    ],
)
def test_every_door_answers_on_a_stream_of_any_encoding(argv, encoding, tmp_path, theory):
    argv = argv.replace("verify", f"verify --runs {theory}")
    done = python(tmp_path, "-m", *argv.split(), PYTHONIOENCODING=encoding, MPLBACKEND=NOTEBOOK)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode(encoding)) > 100 and b"\x1b" not in done.stdout


def test_json_is_the_same_on_every_stream(tmp_path):
    argv = ("-m", *["linear_theory", "translate", "--json"])
    assert python(tmp_path, *argv, PYTHONIOENCODING="ascii").stdout == python(tmp_path, *argv).stdout != b""


LOADED = """
import torch
from stopgrad.deep.config import Data
from stopgrad.deep.data.views import _load
print(torch.cat(list(_load(torch.arange(6).view(2, 3), Data(workers=1), range(2), torch.device("cpu")))).sum().item())
"""
POOLED = """
import sys
from pathlib import Path
from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.experiments.launch.launcher import Pool, launch
from stopgrad.experiments.store.store import Store

if __name__ == "__main__":
    config = Config(
        Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
        Method.of(backbone="identity", projector_hidden=8, embedding_dim=4),
        Optimisation(epochs=1, batch_size=16),
        Monitor(probe="none"),
    )
    print(launch([config], Store(Path("runs")), Pool(1, "cpu"), "one", ["run"])[0].state)
"""


@pytest.mark.parametrize(("program", "answer"), [(LOADED, "15"), (POOLED, "finished")])
def test_a_temporary_folder_of_a_long_name_keeps_no_processes_apart(program, answer, tmp_path):
    """A socket's name has 107 bytes at most, and clusters name $TMPDIR after user, job and node."""
    (tmp_path / "program.py").write_text(program)
    (tmp_path / ("t" * 100)).mkdir()
    done = python(tmp_path, "program.py", TMPDIR=str(tmp_path / ("t" * 100)))
    assert done.stdout.decode().split() == [answer], done.stderr


# ---------------------------------------------------------------- caches


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "stopgrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "stopgrad"


def test_without_a_home_there_is_a_folder_for_as_long_as_the_process_lives(monkeypatch, tmp_path):
    def nobody(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    assert cache_folder() == passing_folder()
    program = (
        "from stopgrad.linear_theory.tools.files import passing_folder as f\n"
        "assert f() == f(); (f() / 'x').touch(); print(f())"
    )
    made = Path(python(tmp_path, "-c", program, TMPDIR=str(tmp_path)).stdout.decode().strip())
    assert made.parent == tmp_path and not made.exists()


COMPILED_ONCE = """
import numpy as np
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
integrate(lambda s, h: mode_flow(s, h), Mode(np.linspace(0.1, 0.9, 5), 0.2), Hyperparameters(), t=1.0, compiled=True)
"""
COMPILED = f"""
{COMPILED_ONCE}
for decay in (0.1, Hyperparameters().eta):
    integrate(mode_flow, Mode(np.linspace(0.1, 0.9, 5), 0.2), Hyperparameters(eta=decay), t=10.0, compiled=True)
"""


def test_without_a_cache_programs_leave_nothing_behind(tmp_path):
    done = python(tmp_path, "-W", "error", "-c", COMPILED, HOME="/proc/nobody", XDG_CACHE_HOME="", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_who_may_use_the_cache_may_use_its_programs(tmp_path):
    done = python(tmp_path, "-c", COMPILED_ONCE, umask=0o027, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    programs = list((tmp_path / "cache" / "stopgrad" / "kernels").iterdir())
    assert programs
    for program in programs:
        assert stat.S_IMODE(program.stat().st_mode) == 0o750
