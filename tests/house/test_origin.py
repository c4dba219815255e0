"""What a result was computed by: which edits count, and which recompute nothing."""

import shutil

import pytest

from stopgrad.deep.storage import provenance
from stopgrad.deep.storage.provenance import code, fingerprint
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
        *("deep", "deep.net", "deep.run", "linear_theory.late", "linear_theory.latest"),
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


@pytest.mark.parametrize(
    "edit",
    [
        {"deep__other": "x = 2\n"},
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
        {"deep/__init__": "import os\n"},
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
    assert list(before) == ["stopgrad.deep", "stopgrad.deep.net", "stopgrad.figures.fig"]
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


@pytest.fixture
def project(tmp_path):
    """`code()` of a copy of the project in which one file was edited."""

    def edited(path="deep/config.py", old="", new=""):
        for wing in ("deep", "linear_theory"):
            shutil.copytree(ROOT / wing, tmp_path / wing, ignore=shutil.ignore_patterns("__pycache__"))
        text = (ROOT / path).read_text()
        assert old in text
        (tmp_path / path).write_text(text.replace(old, new, 1))
        return origin.code("stopgrad.deep.training.runs", provenance._SILENT, provenance.NUMERICS, root=tmp_path)

    return edited


def test_the_code_of_a_run_is_all_that_computes_it():
    names = code().keys()
    assert names >= {
        "torch",
        "torchvision",
        "stopgrad.deep.training.runs",
        "stopgrad.deep.method.siamese",
        "stopgrad.deep.data.augmentation",
        "stopgrad.deep.config",
    }
    assert names >= {
        "stopgrad.deep.measuring.monitor",
        "stopgrad.linear_theory.predictors.matrices",
        "stopgrad.linear_theory.spectra.alignment",
        "scikit-learn",
    }
    assert not names & {
        "stopgrad.deep.commands",
        "stopgrad.deep.words.report",
        "stopgrad.deep.words.live",
        "stopgrad.deep.words.picture",
        "stopgrad.linear_theory.tools.door",
    }
    assert not [name for name in names if name.startswith(("experiments", "figures"))]
    assert len(fingerprint()) == 64


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("README.md", "", "# A new first line\n"),
        ("deep/method/siamese.py", '"""The Siamese method', '"""The method'),
        ("deep/config.py", '"""Probability of a horizontal flip."""', '"""How often a view is mirrored."""'),
        ("deep/training/training.py", "\n\n\n", "\n\n\n# a remark\n"),
        ("deep/commands.py", "import re", "import os, re"),
        ("deep/presets.py", "epochs=40", "epochs=41"),
        ("deep/words/live.py", "import time", "import os, time"),
    ],
)
def test_edits_that_recompute_no_run(project, path, old, new):
    assert project(path, old, new) == code()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("deep/config.py", "flip: float = 0.5", "flip: float = 0.6"),
        ("deep/data/augmentation.py", "def draw_crops(", "def draw_crops(*_, "),
        ("linear_theory/predictors/matrices.py", "return ", "return 1 * "),
        ("deep/measuring/diagnosis.py", "return ", "return 1 * "),
    ],
)
def test_edits_that_recompute_every_run(project, path, old, new):
    assert difference(code(), project(path, old, new)) == f"stopgrad.{path[:-3].replace('/', '.')} changed"
