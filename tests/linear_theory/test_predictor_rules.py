"""The list of predictors that are set: what reads it, and the README's recipe for one more, carried out."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import checkout, program

from stopgrad.deep.config import change
from stopgrad.deep.measuring.units import Noise
from stopgrad.deep.method.predictors.set import OPTIONS as FIELDS
from stopgrad.deep.method.predictors.set import set_by
from stopgrad.deep.presets import PRESETS
from stopgrad.deep.words.expectation import expectation
from stopgrad.linear_theory.exact.closed_loop import directpred_threshold, directset_threshold
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.predictors.rules import OPTIONS, SET_RULES, Rule, reading

ROOT = Path(__file__).parents[2]


def python(place, *arguments):
    """Status and all that is said of a program on the code in `place`."""
    status, out, err = program(place, place, *arguments)
    return status, out + err


# ---------------------------------------------------------------- the recipe of the README


def recipe():
    """The README's example of a new rule: the one Python block that enters something in SET_RULES."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if "SET_RULES[" in block)
    return block


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the packages with the recipe at the end of the one file that it names."""
    copy = tmp_path_factory.mktemp("extended")
    checkout(copy, "linear_theory", "deep")
    with (copy / "linear_theory" / "predictors" / "rules.py").open("a") as file:
        file.write("\n\n" + recipe())
    return copy


def test_the_recipe_is_short():
    assert len(recipe().splitlines()) < 20


def test_the_new_rule_is_in_help_refusals_and_list(extended):
    status, help_ = python(extended, "-m", "deep", "train", "--help")
    words = " ".join(help_.replace("│", " ").split())
    assert status == 0 and "optimal,saturating}" in words.replace(", ", ",") and "saturating: p = s/(1 + s)" in words
    refused = "-m", "deep", "train", "--predictor", "saturating", "--predictor-cutoff", ".1"
    status, said = python(extended, *refused)
    assert status == 2 and "--predictor-cutoff goes with --predictor directpred, not saturating" in said
    listing = "from stopgrad.linear_theory.predictors.rules import SET_RULES; print(*SET_RULES)"
    (extended / "listing.py").write_text(listing)
    assert python(extended, "listing.py") == (0, " ".join([*SET_RULES, "saturating"]) + "\n")


def test_the_new_rule_trains(extended):
    """ρ = 0, and steps so small that the embedding stands still: W_p is s/(1 + s) + ε of the F that is measured."""
    flags = "--preset linear-gaussian --gaussian-samples 64 --batch-size 64 --epochs 3 --evaluate-every 100 --lr 1e-9"
    flags += " --gaussian-sigma2 0 --monitor-every 1 --predictor saturating --predictor-eps .25 --predictor-rho 0"
    flags += " --probe none"
    status, said = python(extended, "-m", "deep", "train", *flags.split(), "--out", "run")
    assert status == 0, said
    assert "The predictor is set from the embeddings (saturating)" in " ".join(said.split())
    from stopgrad.deep.storage.table import read

    arrays = read(extended / "run").arrays
    s, p = (arrays[name].values[-1] for name in ("eigenvalues", "predictor_spectrum"))
    np.testing.assert_allclose(p, s / (1 + s) + 0.25, rtol=1e-4)


# ---------------------------------------------------------------- what reads the list


def test_listing_the_rules_loads_no_torch():
    code = "import sys, stopgrad.deep.commands; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "False\n"), said.stderr


def test_a_rule_gets_the_options_that_it_reads(monkeypatch):
    def rule(F, cross, alpha, eps):
        return alpha * F + eps * cross

    monkeypatch.setitem(SET_RULES, "mixed", Rule(rule, "αF + ε cross", ("alpha", "eps"), "own and cross"))
    assert "mixed" in reading("eps") and "mixed" not in reading("normalisation")
    network = set_by("mixed", alpha=2.0, eps=0.5).build(3).double()
    z, target = torch.randn(2, 2, 7, 3, dtype=torch.float64)
    network.after_step(z, target, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]))
    f, other = z.flatten(0, 1).numpy(), target.flip(0).flatten(0, 1).numpy()
    np.testing.assert_allclose(network.matrix(), (2 * f.T @ f + 0.5 * other.T @ f) / 14, atol=1e-13)


def test_a_rule_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="cannot read 'epsilon'; there are eps, cutoff"):
        Rule(lambda F, epsilon: F, "", options=("epsilon",))
    with pytest.raises(ValueError, match="moments is 'all'"):
        Rule(lambda F: F, "", moments="all")
    assert FIELDS.keys() == set(OPTIONS)


def test_what_is_said_of_weak_modes_is_the_closed_loops_threshold():
    h = Hyperparameters(sigma2=0.2, eta=0.03)
    points = fixed_points(h)
    said = SET_RULES["directpred"].weak_mode_grows(float(points.p_minus), float(points.p_plus))
    assert said.endswith(f"= {float(directpred_threshold(h)[0]):.3g}")
    said = SET_RULES["directset"].weak_mode_grows(float(points.p_minus), float(points.p_plus))
    lower, upper = (float(part.split()[0]) for part in said.split("= ")[1:])
    assert directset_threshold(h, eps=0.99 * lower) > 0 == directset_threshold(h, eps=1.01 * lower)
    assert upper == pytest.approx(float(points.p_plus), rel=5e-3)


def test_nothing_is_claimed_of_a_rule_that_nothing_is_known_of(monkeypatch):
    base = PRESETS["linear-gaussian"]
    config = change(base, predictor="directcopy", predictor_normalisation="none")
    told = expectation(config, Noise(0.1, 1.0), 10)
    monkeypatch.setitem(SET_RULES, "directcopy", Rule(lambda F: F, "F"))
    untold = expectation(change(base, predictor="directcopy"), Noise(0.1, 1.0), 10)
    assert any("weak mode" in s for s in told) and not any("weak mode" in s or "ε" in s for s in untold[1:])
    assert set(untold) < set(told)
