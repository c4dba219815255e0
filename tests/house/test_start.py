"""Starting is quick: help, a list or a closed form does not wait for what trains, simulates or draws."""

import os
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from stopgrad.figures.machinery.registry import FIGURES

ROOT = Path(__file__).parents[2]
HEAVY = ["torch", "torchvision", "scipy", "sympy", "xarray", "pandas", "matplotlib", "sklearn"]
"""Libraries that take longer to import than Python, NumPy and the parser of arguments together."""
WINGS = ("linear_theory", "deep", "experiments", "figures")

# Every command of a wing, those of groups too, in one process: each answers --help, and nothing heavy is imported.
WALK = """
import sys
from importlib import import_module
from stopgrad.linear_theory.tools.door import Group, main

def walk(program, commands, before=()):
    for name, command in [(None, None), *commands.items()]:
        argv = [*before, *([name] if name else []), "--help"]
        if isinstance(command, Group):
            walk(program, command.commands, (*before, name))
        assert main(program, "", top, argv) == 0
        loaded = set(sys.argv[2:]) & set(sys.modules)
        assert not loaded, f"{program} {' '.join(argv)} loads {loaded}"
        print("\\0", *argv)

wing = import_module(f"{sys.argv[1]}.__main__")
top = wing.commands([]) if sys.argv[1] == "deep" else wing.COMMANDS
walk(sys.argv[1], top)
"""


def python(*argv):
    """A fresh process's standard output; an assertion with what it said where it fails."""
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(module, *argv):
    """Which of HEAVY `python -m MODULE …` has imported when it leaves."""
    code = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print(*sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = {[module, *argv]}\nrunpy.run_module({module!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr
    return done.stderr.split()


@pytest.mark.parametrize("wing", WINGS)
def test_no_help_text_needs_a_heavy_library(wing):
    said = python("-c", WALK, wing, *HEAVY)
    asked = [line for line in said.splitlines() if line.startswith("\0")]
    assert len(asked) >= 5 and said.count("usage: ") >= len(asked)
    assert loaded_by(wing, "--help") == []


@pytest.mark.parametrize(
    "command",
    [
        "linear_theory fixed-points --eta 0.1 --json",
        "linear_theory time --p-end 0.4 --json",
        "linear_theory translate",
        "linear_theory translate --ema-momentum 0.99 --predictor-lr 0.5 --predictor-weight-decay 1e-3",
        "deep presets",
        "experiments list",
        "experiments runs list --runs nowhere",
        "figures list",
    ],
)
def test_no_closed_form_and_no_list_needs_a_heavy_library(command):
    assert loaded_by(*command.split()) == []


@pytest.mark.parametrize(
    "module",
    [
        "stopgrad.deep.config",
        "stopgrad.deep.presets",
        "stopgrad.deep.words.expectation",
        "stopgrad.experiments.papers",
        "stopgrad.experiments.ledger",
        "stopgrad.experiments.store.store",
        "stopgrad.figures.machinery.registry",
        "stopgrad.linear_theory.commands.one_mode",
        "stopgrad.linear_theory.predictors.matrices",
        "stopgrad.linear_theory.spectra.spectrum",
        "stopgrad.linear_theory.spectra.alignment",
        "stopgrad.linear_theory.exact.closed_loop",
    ],
)
def test_what_is_known_without_computing_is_imported_without_a_heavy_library(module):
    said = python("-c", f"import sys, {module}; print(sorted(set({HEAVY}) & set(sys.modules)))")
    assert said == "[]\n"


@pytest.mark.parametrize("wing", WINGS)
def test_importing_a_wing_changes_nothing(wing):
    code = (
        "import os, signal, sys, threading\n"
        "state = lambda: (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM),"
        " threading.active_count(), sys.path[:])\n"
        f"before = state()\nimport {wing}, {wing}.__main__\nassert state() == before\n"
    )
    assert python("-c", code) == ""


def test_threads_of_a_fused_kernel_sleep_early_unless_the_user_says_otherwise():
    code = (
        "import os\nfrom stopgrad.linear_theory.__main__ import COMMANDS\n"
        "from stopgrad.linear_theory.tools.door import main\n"
        "main('linear_theory', '', COMMANDS, ['fixed-points', '--json'])\nprint(os.environ['GOMP_SPINCOUNT'])\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for environment, count in ((clean, "20000"), (clean | {"GOMP_SPINCOUNT": "7"}, "7")):
        said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert said.stdout.splitlines()[-1] == count, said.stderr


def test_every_function_that_a_figure_names_is_there():
    """Named in the registry, where a slip of the pen would be found out only by who draws the figure."""
    for name, one in FIGURES.items():
        for function in (getattr(one.compute, "compute", one.compute), one.draw):
            while isinstance(function, partial):
                function = function.func
            if callable(function):
                assert callable(getattr(import_module(function.__module__), function.__qualname__)), name
