"""Li et al. 2022: runs of equal length, arms that differ in what they say, claims that can hold and fail, numbers."""

import dataclasses
import functools
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stopgrad.deep.data.orders.setting import Setting, steps_per_epoch
from stopgrad.deep.presets import changes
from stopgrad.deep.presets.li2022 import LI2022_IMAGENET
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import evaluate
from stopgrad.experiments.li2022 import ablation, forecasts, modes, scatter, theory_claims
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.papers import suite as built
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.spectra import spectrum

suite = functools.cache(built)
PAPER = PAPERS["li2022"]
CLAIMS = [claim for claim in PAPER.claims if claim.arms]
THEORY = [claim for claim in PAPER.claims if not claim.arms]
TABLES = PAPER.read_tables()
LARGE = ("cifar", "gpu", "paper")
NETWORK = {"backbone", "width", "projector_hidden"}
DIRECT = {"target", "ema_momentum", "predictor", "predictor_hidden", "predictor_bias", "predictor_rho", "predictor_eps"}
OWN = {
    "": set(),
    "half-width": NETWORK,
    "quarter-width": NETWORK,
    "deep": NETWORK,
    "bottleneck": NETWORK,
    "bottleneck-same-output": NETWORK,
    "deep-bottleneck": NETWORK,
    "deep-basic": NETWORK,
    "narrow-embedding": {"embedding_dim", "predictor_hidden"},
    "byol": {"target", "ema_momentum"},
    "directpred": DIRECT,
    "directcopy": DIRECT,
}
ORDERED = {"order", "chunk_size", "single_pass", "restart_lr"}

# ---------------------------------------------------------------- the suite


def networks(scale):
    return {name: arm for name, arm in suite("li2022", scale).arms.items() if not name.startswith("linear/")}


WITH_NETWORKS = [scale for scale in SCALES if scale != "quick"]


@pytest.mark.parametrize("scale", WITH_NETWORKS)
def test_an_arm_differs_from_its_base_in_what_it_says(scale):
    arms = networks(scale)
    base = arms["baseline"].config
    for name, arm in arms.items():
        family, _, setting = name.rpartition("/")
        found = set(changes(arm.config, base))
        assert found <= OWN[family] | ORDERED, name
        assert bool(found & ORDERED) == (setting != "baseline") and bool(found - ORDERED) == bool(family), name


@pytest.mark.parametrize("scale", WITH_NETWORKS)
def test_all_networks_of_a_scale_take_the_same_number_of_steps_on_the_same_images(scale):
    same = {(a.config.optimisation.epochs, a.config.optimisation.batch_size, a.config.data.fraction,
             a.config.data.dataset, a.config.optimisation.lr) for a in networks(scale).values()}  # fmt: skip
    assert len(same) == 1 and len({arm.seeds for arm in networks(scale).values()}) == 1


def test_a_fraction_sees_its_share_and_a_single_pass_every_image_once_in_an_epoch_of_its_own():
    import torch

    arms, images = suite("li2022", "cifar").arms, 10_000
    o = arms["baseline"].config.optimisation
    setting = Setting(0, torch.zeros(images), o.batch_size, o.epochs)
    steps = steps_per_epoch(images, o.batch_size)

    def epochs(arm, these):
        order = arms[arm].config.data.order
        return [{i for s in range(e * steps, (e + 1) * steps) for i in order.at(setting, s)[0].tolist()} for e in these]

    for percent in (5, 10, 20, 50):
        first, last = epochs(f"fraction-{percent}", (0, o.epochs - 1))
        assert first == last
        assert len(first) == pytest.approx(images * percent / 100, rel=0.03)  # of a half one epoch leaves some out
    single = epochs("single-pass", range(3))
    assert all(len(one) == 500 for one in single) and not single[0] & single[1] | single[1] & single[2]
    hybrid = epochs("hybrid-40", (7, 8))
    assert len(hybrid[0]) == 500 and len(hybrid[1]) > 9_900
    assert [len(one) for one in epochs("cumulative", (0, 1))] == [500, 1000]


def test_the_presets_are_the_baselines_and_shares_are_whole_epochs():
    paper, gpu = (suite("li2022", scale).arms for scale in ("paper", "gpu"))
    assert set(changes(paper["baseline"].config, LI2022_IMAGENET)) == {"generalisation"}
    for arms in (paper, gpu):
        sizes = {p: arms[f"fraction-{p}"].config.data.order.chunk_size for p in ablation.PERCENT}
        assert sizes == {1: 1, 5: 5, 10: 10, 20: 20, 50: 50}
    same, wide = (paper[f"{name}/baseline"].config.method for name in ("bottleneck-same-output", "bottleneck"))
    assert (same.backbone.width, same.projector_hidden, wide.projector_hidden) == (16, 512, 2048)


def test_groups_are_in_order_of_worth_and_large_enough():
    cifar = suite("li2022", "cifar")
    first, orders = cifar.worth[0], cifar.worth[1]
    fractions = [name for name in first if not name.startswith("linear/")]
    assert len(fractions) == 15 and len(orders) == 9
    assert {name.rpartition("/")[2] for name in orders} == {"single-pass", "cumulative", "hybrid-40"}
    assert set(forecasts.LARGE) == {*fractions, *(name for name in orders if not name.startswith("half-width/"))}
    assert 3 * len(forecasts.LARGE) >= 60
    widths = {arm.config.method.backbone.width for name, arm in cifar.arms.items() if name in fractions}
    assert widths == {4, 8, 16}


def test_cpu_is_small_and_quick_is_a_part_of_it():
    cpu, quick = (suite("li2022", scale) for scale in ("cpu", "quick"))
    assert len(networks("cpu")) * 3 <= 36 and len(quick.configs()) < len(cpu.configs()) / 2
    assert all(cpu.arms[name] == arm for name, arm in quick.arms.items())
    headlines = [claim for claim in CLAIMS if claim.headline and "quick" in claim.scales and claim.arms]
    assert {arm for claim in headlines for arm in claim.arms} == set(quick.arms)


# ---------------------------------------------------------------- claims about networks


class Made:
    """A finished run that was never trained: good or bad in every respect, by so much."""

    def __init__(self, good: float, count: int = 20):
        step = np.array([0, 100])
        self.config = suite("li2022", "cpu").arms["baseline"].config
        self.numbers = {"collapse_auc": 0.9 - 0.3 * good, "rankme": 10 + 40 * good, "dim": 64.0}
        eigenvalues = Series(step, np.tile((np.arange(32) < count).astype(float), (2, 1)))
        loss = -0.5 - 0.1 * good + 0.1 * math.sin(40 * good)  # not a multiple of AUC
        self.columns = Columns(step, {"loss": np.array([0.0, loss])}, {"eigenvalues": eigenvalues})
        accuracy = 0.9 - 0.8 * self.numbers["collapse_auc"] + 0.3 * loss
        test = {"loss": -0.2}
        train = {"loss": -0.2 - 0.5 * good, "sigma2": 2.0 - good, "signal": [1.0] * 8, "noise": [0.1] * 8}
        self.summary = {
            "state": "finished",
            "probe": {"accuracy": accuracy},
            "knn": {"after": 0.3 + 0.4 * good},
            "generalisation": {"train": train, "test": test},
        }
        self.last_rank = 8 * good + 0.5

    def evaluated(self, name):
        return self.numbers[name]

    def last(self, name):
        return {"rank_z": self.last_rank, "time": 100.0}[name]


BAD_FIRST = {"data", "data-five", "known-images", "single-pass", "hybrid", "block", "size-and-data"}
"""Claims that a first arm is the worse one."""


def _short(claim):
    return claim.id.removeprefix("li2022-")


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "forecast" not in c.id], ids=lambda c: c.id)
def test_a_claim_can_hold_and_can_fail(claim, monkeypatch):
    monkeypatch.setattr(modes, "allowed", lambda run: 20)
    good, bad = Made(1.0), Made(0.0, count=3)
    if len(claim.arms) == 4:
        right = dict(zip(claim.arms, (bad, good, good, good)))
        wrong = dict(zip(claim.arms, (good, bad, good, good)))
    else:
        pairs = ((bad, good), (good, bad)) if _short(claim) in BAD_FIRST else ((good, bad), (bad, good))
        right, wrong = (dict(zip(claim.arms, runs)) for runs in pairs)
    assert claim.value(right) > claim.rule.above > claim.value(wrong)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "forecast" in c.id], ids=lambda c: c.id)
def test_a_forecast_can_hold_and_can_fail(claim):
    spread = np.linspace(0, 1, len(claim.arms))
    made = {arm: Made(float(good)) for arm, good in zip(claim.arms, spread)}
    assert claim.value(made) > claim.rule.above  # the probe is AUC and loss, exactly
    for k, run in enumerate(made.values()):
        run.summary["probe"]["accuracy"] = 0.5 + 0.1 * (k % 2) + 0.001 * k  # of neither
        run.numbers["rankme"] = 30 - 10 * (k % 2)
    if "rankme" in claim.id or claim.id.endswith(("forecast", "forecast-large")):
        assert claim.value(made) < claim.rule.above


def test_there_are_claims_enough_and_they_rest_on_what_they_say():
    assert len(PAPER.claims) >= 16 and sum("cpu" in claim.scales for claim in CLAIMS) >= 16
    assert all(set(claim.scales) <= set(LARGE) for claim in CLAIMS if "accuracy" in claim.id)
    rests = {_short(claim): ledger.rests_on(claim, "cpu") for claim in PAPER.claims}
    assert (rests["modes"], rests["data"], rests["theory-flat"]) == ("linear", "resnet", "theory")


# ---------------------------------------------------------------- the paper's numbers


def test_tables_have_the_papers_numbers_and_arms_that_there_are():
    assert {name: len(table["cells"]) for name, table in TABLES.items()} == {
        "orders-table": 16,
        "fractions": 12,
        "losses": 6,
    }
    ids = {claim.id for claim in PAPER.claims}
    for name, table in TABLES.items():
        assert table["title"] and table["setting"] and "2209.15007" in table["source"] and set(table["claims"]) <= ids
        places = [(cell["row"], cell["column"]) for cell in table["cells"]]
        assert len(set(places)) == len(places), name
        for scale in ("gpu", "paper"):
            assert {cell["arm"] for cell in table["cells"] if cell["arm"]} <= set(suite("li2022", scale).arms)
    by_arm = {cell["arm"]: cell["paper"][0] for cell in TABLES["orders-table"]["cells"]}
    assert by_arm["hybrid-40"] - by_arm["baseline"] == pytest.approx(18.3)
    json.dumps(TABLES, allow_nan=False)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "accuracy" in c.id], ids=lambda claim: claim.id)
def test_accuracies_in_a_statement_are_those_of_their_arms(claim):
    by_arm = {cell["arm"]: cell["paper"][0] for cell in TABLES["orders-table"]["cells"] if cell["arm"]}
    quoted = set(map(float, re.findall(r"\d+\.\d", claim.statement)))
    assert quoted <= {by_arm.get(arm) for arm in claim.arms}


def test_the_scatter_correlates_as_its_paper_says():
    points = scatter.points()
    assert len(points) == 21 and len(scatter.points("ResNet-18")) == 11
    assert scatter.pearson() == pytest.approx(stats.pearsonr(*points.T)[0]) and 0.97 < scatter.pearson() < 0.98
    assert scatter.explained() == pytest.approx(0.95, abs=0.005)
    assert scatter.split() == pytest.approx(44.6 - 34.3) and scatter.within() < scatter.pearson()


RELEASED = Path(os.environ.get("STOPGRAD_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_what_is_kept_of_the_released_spectra_is_what_they_give():
    path = RELEASED / "li2022_imagenet_singular_values.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the folder that STOPGRAD_DATA names; it is Li et al.'s, not ours")
    kept = theory_claims.released()
    with np.load(path) as spectra:
        for k, percent in enumerate(kept["percent"]):
            sigma = spectra[f"resnet18_{percent:03}percent"]
            for name in kept.keys() - {"source", "percent"}:
                assert getattr(spectrum, name)(sigma) == pytest.approx(kept[name][k], rel=1e-5), (name, percent)


# ---------------------------------------------------------------- theory


@pytest.mark.parametrize("claim", THEORY, ids=lambda claim: claim.id)
def test_theory_holds_but_for_the_scatter_without_its_upper_cloud(claim):
    row = evaluate(claim, None, None)
    assert row["verdict"] == ("fails" if claim.id.endswith("scatter-within") else "holds")
    assert row["setting"] and re.search(r"\d|1 %", row["theory"])


def test_theory_can_fail(monkeypatch):
    verdicts = {}
    for name, module, attribute, other in (
        ("power-law", theory_claims, "power_laws", lambda: (3.0, 3.0)),
        ("padding", theory_claims, "padded", lambda: (0.0, 16.0, 16.0)),
        ("chain", theory_claims, "chain", lambda: -0.1),
        ("few-images", modes, "on_few", lambda *_: 0),
        ("scatter", scatter, "pearson", lambda *_: 0.9),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, attribute, other)
            [claim] = [claim for claim in THEORY if claim.id.endswith(f"theory-{name}")]
            claim = dataclasses.replace(claim, value=other if name in ("chain", "scatter") else claim.value)
            verdicts[name] = evaluate(claim, None, None)["verdict"]
    assert set(verdicts.values()) == {"fails"}


@given(st.lists(st.just(0.0) | st.floats(1e-3, 4), min_size=1, max_size=20), st.floats(0, 2), st.floats(1e-3, 1))
def test_modes_that_live_one_by_one(x, noise, eta):
    slow = sum(v > 0 and eta < v / (4 * (1 + noise / v)) for v in x)
    near = any(v > 0 and math.isclose(eta, v / (4 * (1 + noise / v)), rel_tol=1e-9) for v in x)
    assert near or modes.living(x, [noise] * len(x), eta) == slow


def test_on_few_images_some_modes_are_stronger_and_some_weaker_than_on_many():
    draws = np.random.default_rng(7).standard_normal((40, 102, 32))
    x = np.linalg.eigvalsh(draws.transpose(0, 2, 1) @ draws / 102)
    for eta in (0.15, 0.3):
        drawn = np.mean([modes.living(one, np.full(32, 0.1), eta) for one in x])
        assert modes.on_few(102, 32, 0.1, eta) == pytest.approx(drawn, abs=1.0)
    assert modes.on_few(10**6, 32, 0.1, 0.15) == 32 and modes.on_few(10**6, 32, 0.1, 0.3) == 0


def test_a_linear_run_is_held_against_the_points_that_it_saw(monkeypatch):
    arms = suite("li2022", "cpu").arms

    class Run:
        def __init__(self, arm, count):
            self.config = dataclasses.replace(arms[arm].config, seed=1000)
            values = np.where(np.arange(32) < count, 0.02, 1e-4)[None]
            self.columns = Columns(np.array([9]), {}, {"eigenvalues": Series(np.array([9]), values)})

    few, every, narrow = Run("linear/few", 22), Run("linear/baseline", 20), Run("linear/narrow", 8)
    assert len(modes.images_seen(few.config)) in (102, 103) and len(modes.images_seen(every.config)) == 4096
    assert 15 < modes.allowed(few) < 27 and modes.allowed(every) == 32 and modes.allowed(narrow) == 8
    assert modes.agreement(narrow) == 0 and modes.agreement(every) == pytest.approx(-math.log(33 / 21))
    assert modes.allowed(Run("linear/beyond", 0)) == 0 < modes.allowed(Run("linear/beyond-few", 0))
