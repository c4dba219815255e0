"""The house itself: imports point downwards, every public function is documented, every golden fact has a test."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WINGS = ("linear_theory", "deep", "experiments", "figures")  # each may import from those before it
ABOVE = {wing: set(WINGS[k + 1 :]) for k, wing in enumerate(WINGS)}
GOLDEN = {str(k) for k in range(1, 21)}
OVERRIDES = {"Command": {"run", "text", "status"}, "Module": {"forward"}}  # methods that the base class documents once


def sources(wing):
    return sorted((ROOT / wing).rglob("*.py"))


def imported(tree):
    """Top-level package of every import at any depth, `import_module("…")` included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module.split(".")[0]


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
        "import figures",
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
    upward = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in set(imported(ast.parse(path.read_text()))) & ABOVE[wing]
    }
    assert not upward


def test_no_wing_imports_the_tests():
    for wing in WINGS:
        for path in sources(wing):
            assert not {"tests", "conftest", "pytest", "hypothesis"} & set(imported(ast.parse(path.read_text()))), path


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
