"""The claims about networks: each points the right way, can hold and can fail, and stands on the arms it says."""

import math

import numpy as np
import pytest

from stopgrad.deep.measuring.units import Noise, recipe_of, units
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments.papers import PAPERS, suite
from stopgrad.experiments.tian2021.claims import LINEAR, SQUARED
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.exact.unit_map import to_theory

CPU = suite("tian2021", "cpu")
CLAIMS = [claim for claim in PAPERS["tian2021"].claims if claim.arms]


class Made:
    """A finished run that was never trained: alive (spread over 8 modes, aligned) or collapsed in every sense."""

    def __init__(self, alive: bool):
        step, n = np.array([0, 100]), 8
        end = np.ones(n) if alive else np.r_[1e-6, np.full(n - 1, 1e-9)]
        cosine = np.ones(n) if alive else np.zeros(n)
        arrays = {
            "eigenvalues": Series(step, np.stack([np.ones(n), end])),
            "alignment": Series(step, np.stack([np.zeros(n), cosine])),
        }
        ends = {
            "trace_z": (8.0, float(end.sum())),
            "m_o_z": (0.1, 0.1 if alive else 0.999),
            "asymmetry": (0.7, 0.1 if alive else 0.7),
            "predictor_negative": (0.5, 0.0 if alive else 0.5),
            "balance_residual": (0.0, 1e-3 if alive else 1.0),
            "target_correlation": (1.0, 0.98 if alive else 0.2),
        }
        self.scalars = {name: np.array(v) for name, v in ends.items()}
        self.columns = Columns(step, self.scalars, arrays)
        self.summary = {"state": "finished", "probe": {"accuracy": 0.8 if alive else 0.1}}

    def first(self, name):
        return float(self.scalars[name][0])

    def last(self, name):
        return float(self.scalars[name][-1])

    def lowest(self, name):
        return float(self.scalars[name].min())

    def mean(self, name):
        return float(self.scalars[name].mean())


GOOD, DEAD = Made(True), Made(False)
FIRST_SHOULD_DIE = [claim for claim in CLAIMS if claim.id.split("-", 1)[1].startswith(("theorem2", "observation5"))]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_can_hold_and_can_fail(claim):
    right, wrong = ((DEAD, GOOD), (GOOD, DEAD)) if claim in FIRST_SHOULD_DIE else ((GOOD, DEAD), (DEAD, GOOD))
    if claim.id.endswith("observation9-linear"):
        right = (Made(True), Made(True))
        right[0].scalars["trace_z"] = np.array([8.0, 16.0])
    right, wrong = (claim.value(dict(zip(claim.arms, runs))) for runs in (right, wrong))
    assert right > claim.rule.above > wrong


def test_at_least_twenty_claims_are_measured_at_cpu_and_ten_of_them_on_resnets():
    measured = [claim for claim in CLAIMS if "cpu" in claim.scales]
    on_resnets = [claim for claim in measured if not any(arm.startswith("linear/") for arm in claim.arms)]
    assert len(measured) >= 20 and len(on_resnets) >= 10


def test_minimum_effects_are_three_and_no_accuracy_is_asked_of_small_runs():
    for claim in CLAIMS:
        if "accuracy" in claim.id:
            assert not {"smoke", "quick", "cpu"} & set(claim.scales)
        elif claim.rule.unit == "nats":
            assert claim.rule.above in (0.1, -0.1, math.log(2))


def test_what_is_a_cosine_is_averaged_as_one():
    bounded = {claim.id.removeprefix("tian2021-"): claim.rule.within for claim in CLAIMS if claim.rule.within}
    assert set(bounded.values()) == {(-1, 1)} and "target-proportional" in bounded and len(bounded) == 6
    assert all(name.startswith("alignment-") for name in bounded.keys() - {"target-proportional"})


@pytest.mark.parametrize(
    ("arm", "base", "least"), [("linear/beyond-critical-decay", LINEAR, 1), ("decay-64", SQUARED, 7)]
)
def test_too_much_decay_is_beyond_critical(arm, base, least):
    h, _ = to_theory(recipe_of(CPU.arms[arm].config))
    assert h.eta > least * float(critical_eta(units(base, Noise(0.1, 1.0))))


def test_the_papers_numbers_are_those_of_its_tables():
    from stopgrad.figures.tian2021.tables import TABLES

    def paper(table, arm):
        return {cell["arm"]: cell["paper"][0] for cell in reversed(TABLES[table]["cells"])}[arm]

    quoted = {
        "accuracy-symmetric": ("table3", "baseline", "symmetric"),
        "accuracy-weight-decay": ("table2", "no-decay-ema", "ema"),
        "accuracy-optimal": ("table1", "optimal-ema", "ema"),
        "accuracy-directpred": ("table8", "directpred", "ema"),
        "accuracy-epsilon": ("table6", "directpred", "directpred-eps-0.5"),
        "accuracy-sign-of-c": ("table7", "directpred-c-0.1", "directpred-c+0.1"),
        "accuracy-freq": ("table8", "directpred-freq-5", "directpred"),
    }
    for name, (table, *arms) in quoted.items():
        [claim] = [claim for claim in CLAIMS if claim.id == f"tian2021-{name}"]
        assert {arm.removeprefix("cosine/") for arm in claim.arms} == set(arms)
        for arm in arms:
            assert f"{paper(table, arm) + 1e-9:.1f}" in claim.statement, (name, arm)
