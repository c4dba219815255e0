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
HEAVY += ["jinja2", "PIL", "filelock"]
"""Libraries that take long to import, and are needed by what computes, draws or writes alone."""
WINGS = ("linear_theory", "deep", "experiments", "figures")

CLOSED = [
    "linear_theory fixed-points --eta 0.1 --json",
    "linear_theory time --p-end 0.4 --json",
    "linear_theory translate",
    "linear_theory translate --ema-momentum 0.99 --predictor-lr 0.5 --predictor-weight-decay 1e-3",
    "deep presets",
    "experiments list",
    "experiments runs list --runs nowhere",
    "figures list",
]
KNOWN = [
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
]

# Every command of every wing, those of groups too, in one process: each answers --help, and nothing heavy is imported.
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
        loaded = set(HEAVY) & set(sys.modules)
        assert not loaded, f"{program} {' '.join(argv)} loads {loaded}"
        print("\\0", *argv)

for name in WINGS:
    wing = import_module(f"{name}.__main__")
    top = wing.commands([]) if name == "deep" else wing.COMMANDS
    walk(name, top)
    print(end="\1")
"""

# Programs one after another in one process, as `python -m MODULE …` starts each. Nothing heavy is there after all of
# them only if none needs it; each says what it finds, so that the first to need it is named.
PROGRAMS = """
import atexit, runpy, sys

def loaded():
    return sorted(set(HEAVY) & set(sys.modules))

atexit.register(lambda: print("at exit", loaded(), file=sys.stderr))
for argv in ASKED:
    sys.argv = argv.split()
    status = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__")
    except SystemExit as left:
        status = left.code
    print("\\0", end="")
    print("\\0", argv, "\\1", status or 0, "\\1", *loaded(), end="", file=sys.stderr)
print("\\0", file=sys.stderr, end="")
"""


def python(*argv):
    """A fresh process's standard output; an assertion with what it said where it fails."""
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs():
    """By program: what it prints, its status, and which of HEAVY are imported when it leaves."""
    asked = [*CLOSED, *(f"{wing} --help" for wing in WINGS)]
    code = f"HEAVY, ASKED = {HEAVY}, {asked}\n{PROGRAMS}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.endswith("at exit []\n"), done.stderr
    found = (part.split("\1") for part in done.stderr.split("\0") if "\1" in part)
    return {
        argv.strip(): (printed, status.strip(), heavy.split())
        for (argv, status, heavy), printed in zip(found, done.stdout.split("\0"))
    }


@pytest.fixture(scope="module")
def helps():
    """By wing: the help texts of all its commands."""
    return dict(zip(WINGS, python("-c", f"HEAVY, WINGS = {HEAVY}, {WINGS}\n{WALK}").split("\1")))


@pytest.mark.parametrize("wing", WINGS)
def test_no_help_text_needs_a_heavy_library(wing, programs, helps):
    said = helps[wing]
    asked = [line for line in said.splitlines() if line.startswith("\0")]
    assert len(asked) >= 5 and said.count("usage: ") >= len(asked)
    printed, *found = programs[f"{wing} --help"]
    assert "usage: " in printed and found == ["0", []]


@pytest.mark.parametrize("command", CLOSED)
def test_no_closed_form_and_no_list_needs_a_heavy_library(command, programs):
    printed, *found = programs[command]
    assert printed.strip() and found == ["0", []]


@pytest.fixture(scope="module")
def imports():
    """By module: which of HEAVY are imported after it; in one process, as none may be there after all of them."""
    code = f"import sys\nfrom importlib import import_module\nfor name in {KNOWN}:\n    import_module(name)\n"
    said = python("-c", f"{code}    print(name, *sorted(set({HEAVY}) & set(sys.modules)))")
    found = {name: heavy for name, *heavy in map(str.split, said.splitlines())}
    assert [*found] == KNOWN, said
    return found


@pytest.mark.parametrize("module", KNOWN)
def test_what_is_known_without_computing_is_imported_without_a_heavy_library(module, imports):
    assert imports[module] == []


@pytest.fixture(scope="module")
def changes():
    """By wing: what of the process importing it changes."""
    code = (
        "import os, signal, sys, threading\nfrom importlib import import_module\n"
        "state = lambda: dict(environ=dict(os.environ), cwd=os.getcwd(), sigterm=signal.getsignal(signal.SIGTERM),"
        " threads=threading.active_count(), path=sys.path[:])\n"
        f"for wing in {WINGS}:\n"
        "    before = state()\n    import_module(wing)\n    import_module(f'{wing}.__main__')\n    after = state()\n"
        "    print(wing, *(name for name in after if after[name] != before[name]))\n"
    )
    said = python("-c", code)
    found = {wing: changed for wing, *changed in map(str.split, said.splitlines())}
    assert (*found,) == WINGS, said
    return found


@pytest.mark.parametrize("wing", WINGS)
def test_importing_a_wing_changes_nothing(wing, changes):
    assert changes[wing] == []


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
