"""From runs to verdicts: every branch, the interval against SciPy, and the runs that a row rests on."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stopgrad.deep.config import Config, Data, Method, Optimisation, change, check
from stopgrad.deep.measuring.units import time_of_run
from stopgrad.experiments.claims.claim import KEYS, Claim, Rule, decide, evaluate
from stopgrad.experiments.claims.interval import interval, p_value, plain, scaled
from stopgrad.experiments.claims.regime import acted, describe, in_theory
from stopgrad.experiments.store.evidence import DIGITS
from stopgrad.experiments.suites.grid import Arm, Suite
from stopgrad.linear_theory.tools.door import dumps
from stopgrad.linear_theory.tools.errors import BadInput

LINEAR = check(
    Config(
        data=Data(dataset="gaussian"),
        method=Method.of(backbone="identity", loss="squared"),
        optimisation=Optimisation(lr=0.02, lr_scaling="none", momentum=0.5, weight_decay=0.05),
    )
)


def changed(**fields):
    """LINEAR with options replaced."""
    return check(change(LINEAR, **fields))


EMA, NO_DECAY = changed(target="ema", ema_momentum=0.99), changed(weight_decay=0.0)
SEEDS = (0, 1, 2, 3, 4)
ARMS = {
    name: Arm(name, config, SEEDS, note)
    for name, config, note in (
        ("base", LINEAR, "the baseline"),
        ("ema", EMA, ""),
        ("no-decay", NO_DECAY, ""),
        ("still", changed(weight_decay=1e-4), ""),
    )
}
SUITE = Suite("tian2021", "cpu", ARMS)


@dataclasses.dataclass
class FakeRecord:
    key: str
    config: Config
    row: dict
    state: str = "finished"
    recorded: str | None = None

    @property
    def summary(self):
        return {"state": self.state}

    def last(self, name):
        return self.row.get(name, math.nan)


class FakeStore:
    """Runs of SUITE in memory; `x` of arm k and seed i is offset[k] + spread·i."""

    def __init__(self, spread=0.1, time=100.0, **offsets):
        self.runs = {}
        for arm, seed, config in SUITE.configs():
            row = {"x": offsets.get(arm.replace("-", "_"), 0.0) + spread * seed, "time": time}
            self.runs[config] = FakeRecord(f"{arm}/{seed}", config, row)

    def find(self, config):
        return self.runs.get(config)

    def without(self, *keys):
        self.runs = {config: run for config, run in self.runs.items() if run.key not in keys}
        return self


def less(runs):
    """The first arm's x less the second's."""
    first, second = runs.values()
    return first.last("x") - second.last("x")


def claim(value=less, arms=("base", "ema"), above=0.5, **fields):
    about = {"id": "tian2021-test", "paper": "tian2021", "place": "Table 0", "statement": "More is more."}
    return Claim(
        **about | fields, theory=lambda: "It should.", rule=Rule("difference of x", above, "x"), value=value, arms=arms
    )


def one(runs):
    [record] = runs.values()
    return record.last("x")


# ---------------------------------------------------------------- numbers


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=9))
def test_interval_is_students(values):
    expected = (
        stats.ttest_1samp(values, 0.0).confidence_interval(0.95) if np.ptp(values) > 1e-9 else (np.mean(values),) * 2
    )
    np.testing.assert_allclose(interval(values)[1:3], expected, rtol=1e-9, atol=1e-9)


def test_interval_covers_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    inside = [low <= 2 <= high for _, low, high, _ in (interval(rng.normal(2, 3, size=5)) for _ in range(3000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.1, 2, "holds"), (0, 0.9, "fails"), (0.9, 1.1, "inconclusive"), (1, 2, "inconclusive"), (0, 1, "inconclusive")],
)
def test_verdicts(low, high, verdict):
    assert decide(low, high, 1.0) == verdict
    assert decide(math.nan, high, 1.0) != "holds"
    assert decide(low, math.nan, 1.0) != "fails"


# ---------------------------------------------------------------- within a range


WITHIN = (-1.0, 1.0)
COSINE = Rule("a cosine", 0.9, within=WITHIN)


def of_values(rule, values):
    """The row of a claim with this rule that reads these values, a seed each."""
    values = [*values, *[None] * (len(SEEDS) - len(values))]
    store = FakeStore().without(*(f"base/{seed}" for seed in SEEDS if values[seed] is None))
    return evaluate(
        dataclasses.replace(claim(lambda runs: values[runs["base"].config.seed], ("base",)), rule=rule), SUITE, store
    )


def test_golden_log_odds():
    """Twice Fisher's z for a cosine; there and back; the ends are finite, and no further than a record can tell."""
    values = [-0.5, 0.0, 0.9, 0.999]
    np.testing.assert_allclose(scaled(values, WITHIN), 2 * np.arctanh(values), rtol=1e-13)
    np.testing.assert_allclose(scaled(0.8, (0.0, 1.0)), math.log(4), rtol=1e-14)
    np.testing.assert_allclose([plain(x, WITHIN) for x in scaled(values, WITHIN)], values, atol=1e-15)
    assert np.isfinite(scaled([-1.0, 1.0], WITHIN)).all() and plain(500, WITHIN) == 1.0 and plain(-500, WITHIN) == -1.0
    recorded = [float(f"{value:.{DIGITS}g}") for value in (0.999997, 1 + 1e-7)]
    assert recorded == [1.0, 1.0] and set(scaled([0.999997, 1.0], WITHIN)) == set(scaled(recorded, WITHIN))
    assert scaled([1.5, -2.0]).tolist() == [1.5, -2.0] and plain(1.5) == 1.5


@pytest.mark.parametrize("within", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("values", [(0.9945, 0.7993, 0.9855), (0.9953, 0.9533, 0.987)])
def test_one_outlying_seed_decides_the_same_on_either_processor(values, within):
    """Alignment of one ResNet with AVX-512 and with AVX2: on the plain scale the second held and the first did not."""
    rule = dataclasses.replace(COSINE, within=within)
    row = of_values(rule, values)
    low, high = row["ci"]
    assert row["verdict"] == "inconclusive" and within[0] <= low < 0.9 < high <= 1
    assert row["estimate"] == pytest.approx(plain(np.mean(scaled(values, within)), within)) and row["p"] > 0.025
    assert "log odds" in row["rule"] and row["values"] == list(values)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=5))
def test_an_interval_stays_within_the_range_and_decides_as_p_does(values):
    row = of_values(COSINE, values)
    assert -1 <= row["ci"][0] <= row["ci"][1] <= 1 and row["ci"][0] - 1e-9 <= row["estimate"] <= row["ci"][1] + 1e-9
    assert abs(row["p"] - 0.025) < 1e-9 or (row["p"] < 0.025) == (row["verdict"] != "inconclusive")


@pytest.mark.parametrize(("value", "verdict"), [(1.0, "holds"), (1 + 1e-7, "holds"), (-1.0, "fails"), (0.95, "holds")])
def test_seeds_that_agree_decide_at_the_ends_too(value, verdict):
    row = of_values(COSINE, [value] * 3)
    assert row["verdict"] == verdict and row["p"] < 1e-9
    np.testing.assert_allclose([row["estimate"], *row["ci"]], value, atol=1e-5)


def test_what_cannot_be_is_refused():
    row = of_values(COSINE, [0.99, 1.2, 0.98])
    assert row["verdict"] == "inconclusive" and "seed 1: ValueError: 1.2 is not between -1 and 1" in row["reason"]
    with pytest.raises(ValueError, match="minimum 1 is not between 0"):
        Rule("a share", 1.0, within=(0.0, 1.0))


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("base", "noisy", "verdict"), [(1.0, 0.0, "holds"), (0.2, 0.0, "fails"), (0.6, 1.0, "inconclusive")]
)
def test_a_row_and_its_verdict(base, noisy, verdict):
    """Differences are paired by seed: the spread over seeds, common to both arms, drops out."""
    store = FakeStore(spread=5.0, base=base)
    for config, run in store.runs.items():
        run.row["x"] += noisy * (-1) ** config.seed * run.key.startswith("base")
    row = evaluate(claim(), SUITE, store)
    assert tuple(row) == KEYS
    assert row["verdict"] == verdict
    values = [base + noisy * (-1) ** seed for seed in SEEDS]
    assert row["seeds"] == list(SEEDS) and row["n_seeds"] == 5
    np.testing.assert_allclose(row["values"], values)
    assert row["estimate"] == pytest.approx(np.mean(values))
    np.testing.assert_allclose(row["ci"], interval(values)[1:3])
    assert row["p"] == pytest.approx(p_value(values, 0.5)) and (row["p"] < 0.025) == (verdict != "inconclusive")
    assert row["p_adjusted"] is row["survives"] is None  # which one row cannot say
    assert row["run_ids"] == [f"{arm}/{seed}" for seed in SEEDS for arm in ("base", "ema")]
    assert json.loads(dumps(row)) == json.loads(dumps(row))
    assert "0.5 x" in row["rule"] and "0.5 x" in row["reason"] and row["reason"].endswith(".")


def test_fewer_than_three_seeds_are_no_measurement():
    store = FakeStore(base=1.0).without("base/0", "ema/3")
    row = evaluate(claim(), SUITE, store)
    assert (row["verdict"], row["seeds"]) == ("holds", [1, 2, 4])
    row = evaluate(claim(), SUITE, store.without("ema/1"))
    assert (row["verdict"], row["n_seeds"], row["estimate"], row["ci"]) == ("not measured", 2, None, None)
    assert "2 of 5" in row["reason"]
    row = evaluate(claim(), SUITE, FakeStore().without(*(f"ema/{seed}" for seed in SEEDS)))
    assert (row["verdict"], row["run_ids"], row["values"]) == ("not measured", [], [])


def test_a_scale_or_an_arm_that_is_not_there_is_no_measurement():
    row = evaluate(claim(scales=("gpu", "paper")), SUITE, FakeStore(base=1.0))
    assert row["verdict"] == "not measured" and "gpu, paper" in row["reason"] and row["run_ids"] == []
    row = evaluate(claim(arms=("base", "absent")), SUITE, FakeStore(base=1.0))
    assert row["verdict"] == "not measured" and "no absent at scale cpu" in row["reason"]


def wrong(runs):
    raise KeyError("no such column")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (lambda runs: math.nan if runs["ema"].config.seed == 2 else 1.0, "seed 2: no finite number"),
        (lambda runs: math.inf if runs["ema"].config.seed == 2 else 1.0, "seed 2: no finite number"),
        (wrong, "KeyError"),
        (lambda runs: 1 / (runs["ema"].config.seed - 3), "seed 3: ZeroDivisionError"),
    ],
)
def test_a_seed_without_a_number_lets_nothing_hold(value, word):
    row = evaluate(claim(value), SUITE, FakeStore())
    assert row["verdict"] == "inconclusive" and word in row["reason"] and row["n_seeds"] == 5 and row["p"] is None
    json.loads(dumps(row))


def test_a_diverged_run_has_no_number_whatever_its_last_row_says():
    store = FakeStore()
    key = next(k for k, record in store.runs.items() if record.config.seed == 2)
    store.runs[key] = dataclasses.replace(store.runs[key], state="diverged")
    row = evaluate(claim(lambda runs: 1.0), SUITE, store)
    assert row["verdict"] == "inconclusive" and "diverged" in row["reason"] and row["n_seeds"] == 5
    assert evaluate(claim(of_whole_runs), SUITE, store) == row


def of_whole_runs(runs):
    """What only a run that was carried out to its end can be asked: of another's summary it finds None."""
    return 1.0 + 0 * len(None if any(run.state == "diverged" for run in runs.values()) else "laws")


def test_removing_a_run_changes_exactly_the_claims_that_list_it():
    claims = [
        claim(id="pair"),
        claim(one, ("base",), id="base"),
        claim(one, ("ema",), id="ema", needs=("beta_t",)),
        claim(one, ("no-decay",), id="no-decay"),
        claim(id="few", arms=("base", "no-decay")),
        claim(one, ("ema",), id="elsewhere", scales=("gpu",)),
        claim(lambda: 1.0, (), id="theory"),
    ]
    missing = ("no-decay/0", "no-decay/1", "no-decay/2")
    before = [evaluate(c, SUITE, FakeStore(base=1.0, ema=2.0).without(*missing)) for c in claims]
    for key in ("base/0", "base/4", "ema/1", "no-decay/3"):
        after = [evaluate(c, SUITE, FakeStore(base=1.0, ema=2.0).without(*missing, key)) for c in claims]
        touched = [old["id"] for old, new in zip(before, after, strict=True) if old != new]
        assert touched == [old["id"] for old in before if key in old["run_ids"]] != []
        for old, new in zip(before, after, strict=True):
            assert new["n_seeds"] == old["n_seeds"] - (key in old["run_ids"])


def test_all_of_a_claims_runs_are_of_one_store():
    """A user's runs of some arms are not paired with a record's of others; whoever has more seeds serves."""
    own, record = FakeStore(base=1.0, ema=0.0), FakeStore(base=9.0, ema=5.0)
    for run in record.runs.values():
        run.key = f"recorded {run.key}"
    whole = evaluate(claim(), SUITE, own, record)
    assert whole == evaluate(claim(), SUITE, own) and whole["estimate"] == pytest.approx(1.0)
    own.without("ema/3")
    row = evaluate(claim(), SUITE, own, record)
    assert row == evaluate(claim(), SUITE, record) and row["estimate"] == pytest.approx(4.0)
    assert all(key.startswith("recorded") for key in row["run_ids"])
    assert evaluate(claim(one, ("base",)), SUITE, own, record)["run_ids"] == [f"base/{seed}" for seed in SEEDS]
    record.without("recorded base/0")  # as many seeds in both
    assert evaluate(claim(), SUITE, own, record)["estimate"] == pytest.approx(1.0)
    assert evaluate(claim(), SUITE, FakeStore().without(*whole["run_ids"]), record)["n_seeds"] == 4


# ---------------------------------------------------------------- regime and setting


def test_out_of_regime_is_inconclusive():
    """η = 0.05 acts for t > 20; η = 0 is a setting of its own, and a claim of which no arm decays has no regime."""
    both = {"arms": ("base", "no-decay"), "needs": ("eta_t",)}
    assert evaluate(claim(**both), SUITE, FakeStore(base=1.0, time=21.0))["verdict"] == "holds"
    row = evaluate(claim(**both), SUITE, FakeStore(base=1.0, time=19.0))
    assert row["verdict"] == "inconclusive" and "ηt = 0.95 in base" in row["reason"]
    assert row["estimate"] == pytest.approx(1.0) and row["ci"] is not None and row["p"] is None
    assert evaluate(claim(), SUITE, FakeStore(base=1.0, time=1.0))["verdict"] == "holds"
    row = evaluate(claim(one, ("no-decay",), needs=("eta_t",)), SUITE, FakeStore(no_decay=1.0))
    assert row["verdict"] == "inconclusive" and "no run" in row["reason"]
    row = evaluate(claim(one, ("base",), needs=("beta_t",)), SUITE, FakeStore(base=1.0))
    assert row["verdict"] == "inconclusive" and "the EMA at all" in row["reason"]
    row = evaluate(claim(arms=("base", "still"), needs=("eta_t",)), SUITE, FakeStore(base=9.0))
    assert "in still" in row["reason"]
    row = evaluate(claim(one, ("base",), needs=("eta_t",)), SUITE, FakeStore(base=1.0, time=math.nan))
    assert row["verdict"] == "inconclusive"


def test_what_has_acted():
    """lr 0.02, momentum ½: a step takes 0.04; coupled decay is η itself; β = 0.01/0.04."""
    t = time_of_run(changed(schedule="constant"), 32)
    assert t == pytest.approx(0.04 * 32 * LINEAR.optimisation.epochs)
    found = acted(EMA, t)
    assert found.eta_t[0] == pytest.approx(0.05 * t) and found.beta_t == [pytest.approx(0.25 * t)]
    split = acted(changed(weight_decay=0.0, predictor_weight_decay=0.03), 10.0)
    assert split.eta_t == [pytest.approx(0.3)] and split.beta_t == []
    assert acted(NO_DECAY, 10.0) == ([], [])
    assert len(acted(changed(predictor="directpred"), 10.0).eta_t) == 1


def test_setting_says_both_forms():
    said = describe(ARMS["ema"], [FakeRecord("k", EMA, {"time": 80.0})])
    name, theory, recipe = said
    assert name == "ema" and describe(ARMS["base"])[0] == "base (the baseline)"
    assert all(words in theory for words in ("η = 0.05", "ηt = 4", "β = 0.25", "βt = 20", "α_p = 1"))
    assert all(words in recipe for words in ("lr 0.02", "EMA momentum 0.99", "weight decay 0.05", "squared loss"))
    assert "ηt" not in describe(ARMS["base"])[1]
    assert "α_p = 4" in in_theory(changed(predictor_lr=0.08), None)
    assert "0.22 η_c" in in_theory(LINEAR, None)  # η_c = 1/(4 · 1.1)
    assert "α_p" not in in_theory(changed(predictor="identity"), None)
    assert "η_p = 0.03" in in_theory(changed(predictor_weight_decay=0.03), None)


# ---------------------------------------------------------------- theory alone


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.6, "holds"), (0.4, "fails"), (0.5, "inconclusive"), (math.nan, "inconclusive")]
)
def test_a_claim_of_theory_alone(value, verdict):
    row = evaluate(claim(lambda: value, (), setting="on a grid"), None, None)
    assert tuple(row) == KEYS
    assert (row["verdict"], row["scale"], row["n_seeds"], row["setting"]) == (verdict, "theory", 0, "on a grid")
    assert row["p"] is row["p_adjusted"] is row["survives"] is None
    assert row["seeds"] == row["values"] == row["run_ids"] == []
    assert row["ci"] == (None if math.isnan(value) else [value, value]) and row["reason"].endswith(".")


def test_a_theory_that_cannot_be_computed_names_its_claim():
    def theory():
        raise BadInput("beta is given")

    with pytest.raises(ValueError, match=r"tian2021-test cannot .* beta is given"):
        evaluate(dataclasses.replace(claim(lambda: 1.0, ()), theory=theory), None, None)
