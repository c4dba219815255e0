"""What a result was computed by: which edits count, and which recompute nothing."""

import dataclasses
import functools
import importlib
import linecache
import shutil

import pytest

from stopgrad.deep.config import Config
from stopgrad.deep.storage import provenance
from stopgrad.deep.storage.provenance import code, fingerprint
from stopgrad.deep.storage.run_folder import key
from stopgrad.experiments.suites.grid import change
from stopgrad.linear_theory.tools import origin
from stopgrad.linear_theory.tools.origin import ROOT, difference, modules

FILES = {
    "deep/__init__.py": "",
    "deep/run.py": '"""A run."""\nfrom stopgrad.deep import net, view\n'
    "from stopgrad.linear_theory.low import f\nimport numpy\nf(net)\n",
    "deep/net.py": "class N:\n    'old words'\n    size: int = 8\n    '''of what'''\n    def draw_x(self): return 1\n",
    "deep/view.py": "import stopgrad.deep.picture\n",
    "deep/picture.py": "COLOUR = 1\n",
    "deep/other.py": "x = 1\n",
    "linear_theory/low.py": "def f(net):\n"
    "    import stopgrad.linear_theory.late\n    return stopgrad.linear_theory.late.g()\n",
    "linear_theory/late.py": "def g():\n    return __import__('stopgrad.linear_theory.latest')\n",
    "linear_theory/latest.py": "from . import sibling\nfrom .sibling import x\n",
    "linear_theory/sibling.py": "x = 1\n",
    "figures/fig.py": "from stopgrad.deep.net import N\ndef compute():\n    return 1\ndef _draw_it(d):\n    return 1\n",
}
REACHED = [
    f"stopgrad.{name}"
    for name in (
        *("deep.net", "deep.run", "linear_theory.late", "linear_theory.latest"),
        *("linear_theory.low", "linear_theory.sibling"),
    )
]


def _path(name):
    return f"{name if '/' in name else name.replace('__', '/')}.py"


@pytest.fixture
def of(tmp_path):
    """The digests of a small project after edits of it."""

    def digests(name="stopgrad.deep.run", silent=("stopgrad.deep.view",), **edits):
        root = tmp_path / str(len(list(tmp_path.iterdir())))  # a file is read once in a process
        for path, text in (FILES | {_path(k): v for k, v in edits.items()}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return modules(name, silent, root)

    return digests


def test_all_that_can_be_reached_counts_and_nothing_else(of):
    assert list(of()) == REACHED
    assert list(of(silent=())) == sorted([*REACHED, "stopgrad.deep.view", "stopgrad.deep.picture"])
    assert of(silent=("stopgrad.deep.view*",)) == of()


@pytest.mark.parametrize(
    "edit",
    [
        {"deep__other": "x = 2\n"},
        {"deep/__init__": "from stopgrad.deep import other\n"},  # what a wing exports
        {"deep__view": "import stopgrad.deep.other\n"},
        {"deep__picture": "COLOUR = 2\n"},
        {"deep__run": FILES["deep/run.py"].replace("A run.", "A better description.") + "\n\n# a remark\n"},
        {"deep__net": FILES["deep/net.py"].replace("old words", "new words").replace("of what", "pixels")},
        {"linear_theory__sibling": "x   =   1  # as before\n"},
        {"figures__fig": "import stopgrad.deep.other\n"},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_what_changes_no_number_does_not_count(of, edit):
    assert of(**edit) == of()


@pytest.mark.parametrize(
    "edit",
    [
        {"deep__run": FILES["deep/run.py"] + "f(2)\n"},
        {"deep__net": FILES["deep/net.py"].replace("int = 8", "int = 16")},
        {"deep__net": FILES["deep/net.py"].replace("return 1", "return 2")},  # draws random crops, not pictures
        {"deep__net": FILES["deep/net.py"].replace("class", "@final\nclass")},
        {"linear_theory__sibling": "x = 2\n"},
    ],
    ids=str,
)
def test_what_computes_counts(of, edit):
    name = next(iter(edit)).replace("__", ".").removesuffix("/.init.")
    assert difference(of(), of(**edit)) == f"stopgrad.{name} changed"


OFFERS = (
    "from stopgrad.linear_theory.tools.exports import exports\na, b, c = exports('w', {'late': 'g', 'low': 'f %s'})\n"
)


@pytest.mark.parametrize("line", ["from stopgrad.deep import g", "import stopgrad.deep", "from stopgrad.deep import *"])
def test_what_is_reached_through_an_offered_name_counts_and_further_names_do_not(of, line):
    """A wing's table leads to the file; offering one name more makes nothing stale."""
    late = {"deep__late": "def g(): return 1\n", "deep__user": f"{line}\n", "deep/__init__": OFFERS % ""}
    before = of("stopgrad.deep.user", **late)
    assert "stopgrad.deep.late" in before
    assert not difference(before, of("stopgrad.deep.user", **late | {"deep/__init__": OFFERS % "h"}))
    edited = of("stopgrad.deep.user", **late | {"deep__late": "def g(): return 2\n"})
    assert difference(before, edited) == "stopgrad.deep.late changed"


def test_functions_that_draw_do_not_count_in_the_wing_that_draws(of):
    edited = FILES["figures/fig.py"].replace("(d):\n    return 1", "(d):\n    return 2")
    assert edited != FILES["figures/fig.py"]
    before = of("stopgrad.figures.fig")
    assert list(before) == ["stopgrad.deep.net", "stopgrad.figures.fig"]
    assert of("stopgrad.figures.fig", figures__fig=edited) == before
    assert (
        of("stopgrad.figures.fig", figures__fig=edited.replace("compute():\n    return 1", "compute():\n    return 2"))
        != before
    )


def test_a_file_edited_while_the_work_goes_on_is_not_the_code_that_does_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.py").write_text("x = 1\n")
    before = modules("stopgrad.deep.run", root=tmp_path)
    (tmp_path / "deep" / "run.py").write_text("x = 2\n")
    assert modules("stopgrad.deep.run", root=tmp_path) == before


def test_the_difference_is_said_in_words():
    assert difference({"a": "1", "b": "2"}, {"b": "2", "a": "1"}) is None
    assert difference({"a": "1", "b": "2", "c": "3"}, {"a": "2", "b": "2", "d": "3"}) == "a, c, d changed"
    assert difference({}, {"torch": "2.9"}) == "torch changed"


def test_versions_count_where_they_are_named(monkeypatch):
    monkeypatch.setattr(origin, "version", lambda package: f"{package} 1")
    assert origin.code("stopgrad.linear_theory.spectra.spectrum", packages=("scipy",))["scipy"] == "scipy 1"
    assert origin.code("stopgrad.linear_theory.spectra.spectrum").keys() >= {
        "numpy",
        "scipy",
        "torch",
        "stopgrad.linear_theory.spectra.spectrum",
    }


# ---------------------------------------------------------------- the code of a run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """`code` of configs in a copy of the project in which some files were edited, or written: (path, old, new)."""

    @functools.cache
    def copy(edits):
        root = tmp_path_factory.mktemp("project")
        for wing in ("deep", "linear_theory"):
            shutil.copytree(ROOT / wing, root / wing, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "README.md", root)
        for path, old, new in edits:
            text = (root / path).read_text() if (root / path).exists() else ""
            assert old in text
            (root / path).write_text(text.replace(old, new, 1))
        return root

    return lambda *edits, kinds=(): provenance._code(frozenset(kinds), copy(edits))


def test_the_code_of_a_run_is_all_that_computes_it():
    names = code(Config()).keys()
    assert names >= {
        *("torch", "torchvision", "scikit-learn", "stopgrad.deep.training.runs", "stopgrad.deep.method.siamese"),
        *("stopgrad.deep.data.augmentation", "stopgrad.deep.measuring.monitor"),
        *("stopgrad.linear_theory.predictors.matrices", "stopgrad.linear_theory.spectra.alignment"),
    }
    silent = ("words", "presets", "config", "parts", "seats", "commands", "storage.lock")
    silent = (*(f"deep.{name}" for name in silent), "linear_theory.tools.door", "experiments", "figures")
    silent = tuple(f"stopgrad.{name}" for name in silent)
    assert not [name for name in names if name.startswith(silent)]
    assert len(fingerprint(Config())) == 64


def test_edits_that_recompute_no_run(project):
    """All in one copy: what any of them changed would be named."""
    after = project(
        ("README.md", "", "# A new first line\n"),
        ("deep/method/siamese.py", '"""The Siamese method', '"""The method'),
        ("deep/data/views.py", '"""', '"""In other words: '),
        ("deep/config.py", "    flip: ", "    upside_down: float = 0.0\n    flip: "),
        ("deep/seats.py", "PREDICTORS = {", 'PREDICTORS = {\n    "mine": f"{_METHOD}.predictors.mine:Mine",'),
        ("deep/method/predictors/mine.py", "", "class Mine: ...\n"),
        ("deep/config.py", "    grayscale: ", "    sepia: float = 0.0\n    grayscale: "),  # an option that comes later
        ("deep/seats.py", "ORDERS = {", 'ORDERS = {"mine": "my_script:Mine",'),
        ("deep/training/training.py", "\n\n\n", "\n\n\n# a remark\n"),
        ("deep/commands.py", "import re", "import os, re"),
        ("deep/presets/default.py", "epochs=40", "epochs=41"),
        ("deep/words/live.py", "import time", "import os, time"),
        ("deep/words/expectation.py", "return ", "return 1 * "),
        ("deep/storage/lock.py", "return ", "return 1 * "),
    )
    assert not difference(code(), after) and after == code()


def test_edits_that_recompute_every_run(project):
    after = project(
        ("deep/data/augmentation.py", "def draw_crops(", "def draw_crops(*_, "),
        ("linear_theory/predictors/matrices.py", "return ", "return 1 * "),
        ("deep/measuring/diagnosis.py", "return ", "return 1 * "),
    )
    changed = ("deep.data.augmentation", "deep.measuring.diagnosis", "linear_theory.predictors.matrices")
    assert difference(code(), after) == f"{', '.join(f'stopgrad.{name}' for name in changed)} changed"


def part(module, name="Part"):
    """A part's class, as the file of a module would define it."""
    return dataclasses.make_dataclass(name, [], frozen=True, namespace={"__module__": module})


USERS = {
    "deep/method/predictors/mlp.py": {"mlp", "fixed"},
    "deep/method/predictors/identity.py": {"identity"},
    "deep/method/predictors/set.py": {"directpred", "directcopy"},
    "linear_theory/predictors/rules.py": {"directpred", "directcopy"},
    "deep/method/networks.py": {"mlp", "fixed", "linear", "identity", "directpred", "directcopy"},
}


@pytest.mark.parametrize("name", ["mlp", "fixed", "linear", "identity", "directpred", "directcopy"])
def test_editing_a_part_recomputes_exactly_its_users(project, name):
    """All in one copy: a run's code says by which of them it is another."""
    config = change(Config(), predictor=name)
    edits = [(path, "\n\n\n", "\n\n\nEDITED = True\n") for path in USERS]
    before, after = code(config), project(*edits, kinds=provenance._kinds(config))
    used = {f"stopgrad.{path[:-3].replace('/', '.')}" for path, users in USERS.items() if name in users}
    assert {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)} == used


def test_editing_a_part_of_ones_own_recomputes_its_users(project):
    ours, others = part("stopgrad.deep.method.mine"), part("stopgrad.linear_theory.exact.basin")
    mine = [(("deep/method/mine.py", "", f"class Part:\n    rate = {rate}\n"),) for rate in (1, 2)]
    before, after = (project(*edit, kinds=[ours]) for edit in mine)
    assert difference(code(), before) == "stopgrad.deep.method.mine changed"
    assert difference(before, after) == "stopgrad.deep.method.mine changed"
    without = [project(*edit, kinds=[others]) for edit in mine]
    assert without[0] == without[1] != code()


def test_a_config_reaches_the_parts_that_it_holds_at_any_depth():
    def holding(kind):
        inner = dataclasses.make_dataclass("Method", [("predictor", object, kind())], frozen=True)
        return dataclasses.make_dataclass("Record", [("method", object, inner())], frozen=True)()

    used = code(holding(part("stopgrad.linear_theory.exact.branches")))
    assert "stopgrad.linear_theory.exact.branches" in used and "stopgrad.linear_theory.exact.branches" not in code()


def test_a_part_of_a_script_counts_by_the_scripts_text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_script.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    x: int = 1\n"
    )
    mine = importlib.import_module("my_script").Mine
    assert origin.of_class(mine).keys() == {"my_script.Mine"}
    before = origin.of_class(mine)
    (tmp_path / "my_script.py").write_text("# edited\n" + (tmp_path / "my_script.py").read_text())
    linecache.checkcache()
    assert origin.of_class(mine) != before
    assert origin.of_class(type("Typed", (), {"__module__": "__prompt__"})).keys() == {"__prompt__.Typed"}


def test_the_key_follows_config_and_code(monkeypatch):
    before = key(Config())
    assert key(Config(seed=1)) != before == key(Config())
    monkeypatch.setattr("stopgrad.deep.storage.run_folder.code", lambda config: {"a": "b"})
    assert key(Config()) != before
