"""The house itself: imports point downwards, every public function is documented, every golden fact has a test."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WINGS = ("linear_theory", "deep", "experiments", "figures")  # each may import from those before it
ABOVE = {wing: set(WINGS[k + 1 :]) for k, wing in enumerate(WINGS)}
GOLDEN = {str(k) for k in range(1, 21)}
OVERRIDES = {"Command": {"run", "text", "status"}, "Module": {"forward"}}  # methods that the base class documents once


def sources(wing):
    return sorted((ROOT / wing).rglob("*.py"))


@cache
def names(path):
    """What the file imports, read once for all tests."""
    return frozenset(imported(ast.parse(path.read_text())))


def package(module):
    return module.removeprefix("stopgrad.").split(".")[0]


def imported(tree):
    """Wing, or else top-level package, of every import at any depth, `import_module("…")` included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (package(alias.name) for alias in names)
            case ast.ImportFrom(module="stopgrad", names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield package(module)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield package(module)


def public_definitions(body, documented=frozenset()):
    """Classes and functions a user can reach by name, methods included, save those documented by a base class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            yield from public_definitions(node.body, set().union(*(OVERRIDES.get(base, set()) for base in bases)))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from [node] if not node.name.startswith("_") and node.name not in documented else []


@pytest.mark.parametrize(
    "line",
    [
        "import stopgrad.figures",
        "from stopgrad import figures",
        "import numpy, stopgrad.figures.machinery.style as style",
        "from figures import style",
        "def f():\n    from stopgrad.figures.machinery.style import save",
        "if True:\n    class C:\n        import figures",
        "import importlib\nimportlib.import_module('stopgrad.figures.machinery.style')",
    ],
)
def test_an_upward_import_would_be_seen(line):
    assert "figures" in set(imported(ast.parse(line)))


@pytest.mark.parametrize("wing", WINGS)
def test_imports_point_downwards(wing):
    files = sources(wing)
    assert files
    upward = {f"{path.relative_to(ROOT)} imports {name}" for path in files for name in names(path) & ABOVE[wing]}
    assert not upward


def test_every_module_has_one_name():
    """`stopgrad.deep…` and never `deep…`, under which it would be loaded once more."""
    for wing in (*WINGS, "tests"):
        for path in sources(wing):
            named = re.findall(rf"^\s*(?:from|import) ({'|'.join(WINGS)})\b", path.read_text(), flags=re.MULTILINE)
            assert not named, path


# Each door by a process of its own, forked once they have what others wrote and all of them load.
DOORS = f"""
import collections, numpy, os, runpy, sys, typing

def twice(wing):
    try:
        runpy.run_module(wing, run_name="__main__", alter_sys=True)
    except SystemExit:
        pass
    files = {{(getattr(m, "__file__", None), id(m)) for n, m in list(sys.modules.items()) if n != "__main__"}}
    count = collections.Counter(file for file, _ in files if file)
    return [file for file, n in count.items() if n > 1 and "-packages" not in file]

sys.argv = ["-m", "--help"]
for wing in {WINGS}:
    if not os.fork():
        print(wing, twice(wing), file=sys.stderr)
        print(end="\\0", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def doors():
    """By wing: what its door says when asked for help, and the files that it has loaded under two names."""
    done = subprocess.run([sys.executable, "-c", DOORS], cwd=ROOT, capture_output=True, text=True)
    found = (line.split(" ", 1) for line in done.stderr.splitlines())
    return {wing: (said, files) for (wing, files), said in zip(found, done.stdout.split("\0"))}


@pytest.mark.parametrize("wing", WINGS)
def test_a_door_loads_no_file_under_two_names(wing, doors):
    said, files = doors[wing]
    assert files == "[]" and "usage" in said


def modules_of(tree):
    """Modules of the project that a file imports when it runs: not those that only a type checker reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)


def room_of(name):
    """(wing, room) of a file in a room, (wing, file) of one that stands in none."""
    return tuple(name.split("."))[:2]


def test_no_two_rooms_need_each_other():
    """Nor any circle of them; a file that stands in no room is a room of its own."""
    needs = {}
    for wing in WINGS:
        for path in sources(wing):
            here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
            named = (name.removeprefix("stopgrad.") for name in modules_of(ast.parse(path.read_text())))
            rooms = {room_of(name) for name in named if name.split(".")[0] in WINGS}
            needs.setdefault(here, set()).update(room for room in rooms - {here} if len(room) == 2 == len(here))
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def test_no_file_is_long():
    """Four hundred lines are what a reader holds in mind."""
    files = [path for wing in (*WINGS, "examples") for path in sources(wing)]
    assert not {str(path): n for path in files if (n := len(path.read_text().splitlines())) > 400}


def test_no_wing_imports_the_tests():
    for wing in WINGS:
        for path in sources(wing):
            assert not {"tests", "conftest", "pytest", "hypothesis"} & names(path), path


@pytest.mark.parametrize(
    "path", sources("linear_theory") + sources("deep"), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_modules_and_public_functions_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not [node.name for node in public_definitions(tree.body) if not ast.get_docstring(node)]


def test_every_golden_fact_is_named_by_a_test():
    files = [path for path in sources("tests") if path.name.startswith("test_") and path != Path(__file__)]
    labels = re.compile(r"\b(?:G|test_golden_fact_)(\d+)\b")
    named = set().union(*(labels.findall(path.read_text()) for path in files))
    assert not GOLDEN - named, f"no test names golden facts {sorted(GOLDEN - named, key=int)}"
