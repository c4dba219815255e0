"""What a wing offers by name: it is there, documented, its example holds, and it loads no more than it needs."""

import doctest
import inspect
import subprocess
import sys
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WINGS = ("stopgrad.linear_theory", "stopgrad.deep")
NAMES = [f"{wing}.{name}" for wing in WINGS for name in import_module(wing).__all__]
RECORDS = {"stopgrad.deep"}  # whose records of options and constants document themselves, field by field
NEED_TORCH = {"integrate"}


def of(name):
    wing, _, short = name.rpartition(".")
    return getattr(import_module(wing), short)


def is_option(name, value):
    return name.rpartition(".")[0] in RECORDS and (is_dataclass(value) or not callable(value))


@pytest.mark.parametrize("name", NAMES)
def test_an_offered_name_is_there_and_its_example_holds(name):
    value = of(name)
    if is_option(name, value) or name == "stopgrad.deep.build":
        return
    found = doctest.DocTest([], {}, name, None, None, None)
    found.examples = doctest.DocTestParser().get_examples(inspect.getdoc(value))
    found.globs = dict(vars(sys.modules[value.__module__]))
    assert found.examples, f"{name} has no example"
    said = []
    doctest.DocTestRunner(verbose=False).run(found, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_lists_what_it_offers_and_refuses_the_rest(wing):
    module = import_module(wing)
    assert set(module.__all__) <= set(dir(module)) and len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_names_that_need_no_torch_load_none():
    code = (
        "import sys, stopgrad.linear_theory as theory, stopgrad.deep\n"
        "print(sorted({'numpy', 'torch'} & set(sys.modules)))\n"
        f"[getattr(theory, name) for name in theory.__all__ if name not in {NEED_TORCH}]\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\nFalse\n", done.stdout + done.stderr
