"""What a user has set for other work, and what a machine does not offer, changes no number, picture or status."""

import contextlib
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
    """The picture's files as they are where nothing is set, as in this process."""
    with contextlib.chdir(tmp_path_factory.mktemp("plain")):
        exec(SAVED, {"__name__": "drawing"})
        return files(Path())


def saved(folder, **variables):
    done = python(folder, "-c", SAVED, **variables)
    assert done.returncode == 0, done.stderr
    return files(folder)


def files(folder):
    return [(folder / name).read_bytes() for name in ("picture.png", "picture.pdf")]


def test_a_figure_has_the_same_bytes_in_foreign_surroundings(folders, drawn):
    assert saved(folders[1], **FOREIGN) == drawn


@pytest.mark.parametrize("settings", [b"x \xff", b"axes.formatter.use_locale: True"])
def test_settings_with_which_matplotlib_cannot_be_imported_keep_no_picture_from_being_made(settings, folders, drawn):
    (folders[1] / "matplotlibrc").write_bytes(settings)
    assert saved(folders[1], LC_ALL="xx_XX.UTF-8") == drawn


# One process for each module and backend, forked once they have what they share: all that both need but matplotlib.
BACKENDS = """
import os, sys
from importlib import import_module
import numpy, PIL.Image, stopgrad.deep.config, stopgrad.linear_theory.tools.files

assert "matplotlib" not in sys.modules
for module in ("stopgrad.figures.machinery.style", "stopgrad.deep.words.picture"):
    for backend in ("pdf", "no-such-backend"):
        if not os.fork():
            os.environ["MPLBACKEND"] = backend
            import_module(module)
            print(module, os.environ.get("MPLBACKEND"), sys.modules["matplotlib"].rcParams["backend"], flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    """By module: the two backends in the environment and in matplotlib after it, where pdf and no such one is asked."""
    done = python(tmp_path_factory.mktemp("backends"), "-c", BACKENDS)
    found = {}
    for module, *pair in map(str.split, done.stdout.decode().splitlines()):
        found.setdefault(module, []).append(pair)
    return found


@pytest.mark.parametrize("module", ["stopgrad.figures.machinery.style", "stopgrad.deep.words.picture"])
def test_a_backend_is_the_users_where_it_can_be_had(module, backends):
    """It stays in the environment, for programs started from here, and in matplotlib, for what is drawn beside."""
    had, (chosen, used) = backends[module]
    assert had == ["pdf", "pdf"]
    assert chosen == "no-such-backend" != used


@pytest.mark.parametrize(
    ("argv", "encoding"),
    [
        ("linear_theory translate", "latin-1"),
        ("linear_theory phase --help", "utf-16"),
    ],
)
def test_a_door_answers_on_a_stream_of_any_encoding(argv, encoding, tmp_path):
    done = python(tmp_path, "-m", *argv.split(), PYTHONIOENCODING=encoding, MPLBACKEND=NOTEBOOK)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode(encoding)) > 100 and b"\x1b" not in done.stdout


# Programs one after another in one process, each as `python -m MODULE …` starts it.
DOORS = """
import runpy, sys
for argv in sys.argv[1:]:
    sys.argv = argv.split()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__")
    except SystemExit as left:
        assert not left.code, (argv, left.code)
    print(end="\\0")
"""


def test_every_door_answers_on_an_ascii_stream(tmp_path, theory):
    doors = (
        "linear_theory translate",
        "deep presets",
        f"experiments verify --runs {theory} --paper simsiam2021",
        "figures list",
    )
    done = python(tmp_path, "-c", DOORS, *doors, PYTHONIOENCODING="ascii", MPLBACKEND=NOTEBOOK)
    assert done.returncode == 0, done.stderr
    *answers, rest = done.stdout.decode("ascii").split("\0")
    assert rest == "" and len(answers) == len(doors)
    assert all(len(answer) > 100 for answer in answers) and b"\x1b" not in done.stdout


def test_json_is_the_same_on_every_stream(tmp_path):
    argv = ("-m", *["linear_theory", "translate", "--json"])
    assert python(tmp_path, *argv, PYTHONIOENCODING="ascii").stdout == python(tmp_path, *argv).stdout != b""


# Two processes, forked before either has a server: what one does about its folder is no help to the other.
SERVED = """
import os
from pathlib import Path
import torch
from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.deep.data.views import _load
from stopgrad.experiments.launch.launcher import Pool, launch
from stopgrad.experiments.store.store import Store

def loaded():
    parts = _load(torch.arange(6).view(2, 3), Data(workers=1), range(2), torch.device("cpu"))
    print(torch.cat(list(parts)).sum().item(), flush=True)

def pooled():
    config = Config(
        Data(dataset="gaussian", gaussian_dim=4, gaussian_samples=32),
        Method.of(backbone="identity", projector_hidden=8, embedding_dim=4),
        Optimisation(epochs=1, batch_size=16),
        Monitor(probe="none"),
    )
    print(launch([config], Store(Path("runs")), Pool(1, "cpu"), "one", ["run"])[0].state)

if __name__ == "__main__":
    if os.fork():
        os.wait()
        pooled()
    else:
        try:
            loaded()
        finally:
            os._exit(0)
"""


def test_a_temporary_folder_of_a_long_name_keeps_no_processes_apart(tmp_path):
    """A socket's name has 107 bytes at most, and clusters name $TMPDIR after user, job and node."""
    (tmp_path / "program.py").write_text(SERVED)
    (tmp_path / ("t" * 100)).mkdir()
    done = python(tmp_path, "program.py", TMPDIR=str(tmp_path / ("t" * 100)))
    assert done.stdout.decode().split() == ["15", "finished"], done.stderr


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


# Two processes, the first forked with a cache before anything is compiled; the second has none.
COMPILED = """
import os, sys
import numpy as np
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.flows.modes import Mode, mode_flow

def compiled(flow, h, t):
    integrate(flow, Mode(np.linspace(0.1, 0.9, 5), 0.2), h, t=t, compiled=True)

if not os.fork():
    try:
        os.environ["XDG_CACHE_HOME"] = sys.argv[1]
        compiled(lambda s, h: mode_flow(s, h), Hyperparameters(), 1.0)
    finally:
        os._exit(0)
os.wait()
compiled(lambda s, h: mode_flow(s, h), Hyperparameters(), 1.0)
for decay in (0.1, Hyperparameters().eta):
    compiled(mode_flow, Hyperparameters(eta=decay), 10.0)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with what a program without a cache left behind, and the cache of one that has it."""
    left, cache = tmp_path_factory.mktemp("left"), tmp_path_factory.mktemp("with") / "cache"
    nowhere = {"HOME": "/proc/nobody", "XDG_CACHE_HOME": "", "TMPDIR": str(left)}
    done = python(left, "-W", "error", "-c", COMPILED, str(cache), umask=0o027, **nowhere)
    assert done.returncode == 0, done.stderr
    return left, cache


def test_without_a_cache_programs_leave_nothing_behind(compiled):
    assert not list(compiled[0].iterdir())


def test_who_may_use_the_cache_may_use_its_programs(compiled):
    programs = list((compiled[1] / "stopgrad" / "kernels").iterdir())
    assert programs
    for program in programs:
        assert stat.S_IMODE(program.stat().st_mode) == 0o750
