"""SimSiam's ablations: arms differ in what they say, claims have arms, can hold and can fail, and quote rightly."""

import json
import re

import numpy as np
import pytest

from stopgrad.deep.presets import changes
from stopgrad.deep.presets.simsiam import SIMSIAM_CIFAR10, SIMSIAM_IMAGENET
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import evaluate
from stopgrad.experiments.papers import PAPERS, suite
from stopgrad.experiments.simsiam2021 import theory_claims
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.exact import centre

PAPER = PAPERS["simsiam2021"]
CLAIMS = [claim for claim in PAPER.claims if claim.arms]
THEORY = [claim for claim in PAPER.claims if not claim.arms]
TABLES = PAPER.read_tables()
LARGE = ("cifar", "gpu", "paper")

# ---------------------------------------------------------------- the suite

NOTHING = {"predictor_hidden", "predictor_bias", "predictor_lr", "predictor_schedule", "predictor"}
"""What may change with a predictor that does not learn."""
OWN = {
    "baseline": set(),
    "no-stop-gradient": {"stop_gradient"},
    "no-predictor": NOTHING,
    "fixed-predictor": NOTHING,
    "predictor-decayed": {"predictor_schedule"},
    "predictor-constant": {"predictor_schedule"},
    "affine-output": {"projector_output_bn"},
    "affine-output-no-stop-gradient": {"projector_output_bn", "stop_gradient"},
    "cross-entropy": {"loss"},
    "asymmetric": {"symmetric_loss"},
    "asymmetric-twice": {"symmetric_loss", "epochs"},
    "moving-average": {*NOTHING, "target"},
    "affine-output-moving-average": {*NOTHING, "target", "projector_output_bn"},
    "simclr": {*NOTHING, "objective"},
    "simclr-predictor": {"objective"},
    "simclr-predictor-stop-gradient": {"objective", "stopped_keys"},
    "alternation": {"target", "alternation"},
    "batch-over": {"batch_size"},
    "batch-times": {"batch_size", "warmup_epochs"},
    "dimension-over": {"embedding_dim", "predictor_hidden"},
}


@pytest.mark.parametrize("scale", SCALES)
def test_an_arm_differs_from_its_base_in_what_it_says(scale):
    arms = suite("simsiam2021", scale).arms
    for name, arm in arms.items():
        family, _, short = name.rpartition("/")
        base = arms.get(f"{family}/baseline" if family else "baseline")
        found = set(changes(arm.config, base.config))
        assert found <= OWN[re.sub(r"-(\d+|epoch)$", "", short)], name
        same = short == "baseline" or short.startswith("predictor-")  # one of these two is the base
        assert found or same, name
    if scale in LARGE:
        both = [arms[f"predictor-{name}"].config for name in ("decayed", "constant")]
        assert [c.optimisation.predictor_schedule for c in both] == ["same", "constant"]


def test_the_presets_are_the_baselines_and_bare_is_without_output_batchnorm():
    for scale, preset in (("gpu", SIMSIAM_CIFAR10), ("paper", SIMSIAM_IMAGENET)):
        assert suite("simsiam2021", scale).arms["baseline"].config == preset
    for scale in SCALES:
        for name, arm in suite("simsiam2021", scale).arms.items():
            expected = "none" if "/" in name else "affine" if name.startswith("affine") else "affine_free"
            assert arm.config.method.projector_output_bn == expected, name


def test_factors_are_those_of_the_papers_grid():
    arms = suite("simsiam2021", "paper").arms
    batches = [arms[name].config.optimisation.batch_size for name in _arms("batch-size")]
    dimensions = [arms[name].config.method for name in _arms("dimension")]
    assert batches == [64, 128, 256, 512, 1024, 2048, 4096]
    assert [arms[name].config.optimisation.warmup_epochs for name in _arms("batch-size")] == [0] * 4 + [10] * 3
    assert [m.embedding_dim for m in dimensions] == [256, 512, 1024, 2048]
    assert all(4 * m.predictor.hidden == m.embedding_dim for m in dimensions)
    assert [arms[f"alternation-{k}"].config.method.target.alternation for k in (10, 100, "epoch")] == [10, 100, 2502]


def _arms(table):
    return [cell["arm"] for cell in TABLES[table]["cells"]]


def test_the_cpu_grid_is_small_and_quick_leaves_it_to_others():
    cpu, quick = (suite("simsiam2021", scale) for scale in ("cpu", "quick"))
    assert len(cpu.configs()) <= 42 and not quick.arms  # its stop-gradient is Theorem 2's, which is measured there
    assert {"baseline", "no-stop-gradient"} <= set(suite("tian2021", "quick").arms)
    assert {arm.config.data.dataset for arm in cpu.arms.values()} == {"gaussian", "digits"}


# ---------------------------------------------------------------- claims about networks


class Made:
    """A finished run that was never trained: healthy, or collapsed to one direction."""

    def __init__(self, alive: bool):
        step, n = np.array([0, 100]), 8
        end = np.ones(n) if alive else np.r_[8.0, np.full(n - 1, 1e-4)]
        arrays = {"eigenvalues": Series(step, np.stack([np.ones(n), end]))}
        ends = {"trace_z": 8.0, "m_o_z": 0.1 if alive else 0.999, "std_z": 0.99 if alive else 0.04}
        self.scalars = {**ends, "loss": -0.7 if alive else -0.999}
        self.columns = Columns(step, {name: np.array([value] * 2) for name, value in self.scalars.items()}, arrays)
        self.summary = {"state": "finished", "probe": {"accuracy": 0.8 if alive else 0.1}}

    def first(self, name):
        return self.scalars[name]

    last = first


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_can_hold_and_can_fail(claim):
    good, dead = Made(True), Made(False)
    first_dies = {"stop-gradient", "stop-gradient-digits", "predictor", "stop-gradient-std", "stop-gradient-loss"}
    right, wrong = ((dead, good), (good, dead)) if _short(claim) in first_dies else ((good, dead), (dead, good))
    right, wrong = (claim.value(dict(zip(claim.arms, runs))) for runs in (right, wrong))
    assert right > claim.rule.above > wrong


def _short(claim):
    return claim.id.removeprefix("simsiam2021-")


def test_at_least_eight_are_measured_at_cpu_and_no_accuracy_is_asked_of_small_runs():
    assert sum("cpu" in claim.scales for claim in CLAIMS) >= 8
    assert all(set(claim.scales) <= set(LARGE) for claim in CLAIMS if "accuracy" in claim.id)


def test_what_a_claim_rests_on():
    rests = {_short(claim): [ledger.rests_on(claim, scale) for scale in ("cpu", "cifar")] for claim in PAPER.claims}
    assert rests["stop-gradient"] == ["mlp", "resnet"] and rests["theory-half-gradient"] == ["theory", "theory"]
    assert rests["stop-gradient-digits"] == ["resnet", "resnet"]
    assert ledger.rests_on(PAPERS["tian2021"].claims[-1], "cpu") == "resnet"


# ---------------------------------------------------------------- the paper's numbers


def test_tables_have_the_papers_numbers_and_arms_that_there_are():
    sizes = {"stop-gradient": 2, "predictor": 4, "batch-size": 7, "heads": 5, "similarity": 2, "symmetrisation": 3,
             "alternation": 4, "expectation": 2, "dimension": 4, "contrastive": 5, "table4": 20}  # fmt: skip
    assert {name: len(table["cells"]) for name, table in TABLES.items()} == sizes
    ids = {claim.id for claim in PAPER.claims}
    for name, table in TABLES.items():
        assert table["title"] and table["setting"] and "2011.10566" in table["source"] and set(table["claims"]) <= ids
        places = [(cell["row"], cell["column"]) for cell in table["cells"]]
        assert len(set(places)) == len(places)
        for scale in LARGE:
            assert {arm for arm in _arms(name) if arm} <= set(suite("simsiam2021", scale).arms)
    drawn = {claim for table in TABLES.values() for claim in table["claims"]}
    assert drawn == ids


QUOTED = re.compile(r"\d+\.\d")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_numbers_in_a_statement_are_those_of_the_table_it_belongs_to(claim):
    cells = [cell for table in TABLES.values() if claim.id in table["claims"] for cell in table["cells"]]
    known = {f"{value:.1f}" for cell in cells for value in cell["paper"] if value is not None}
    by_arm = {cell["arm"]: f"{cell['paper'][0]:.1f}" for cell in cells if cell["arm"]}
    quoted = set(QUOTED.findall(claim.statement))
    assert quoted <= known
    if "accuracy" in claim.id:
        assert {by_arm[arm] for arm in claim.arms if arm in by_arm} <= quoted | {"67.7"}


def test_what_the_paper_does_not_print_is_no_number_and_is_drawn_without():
    from matplotlib.text import Text

    from stopgrad.figures.machinery.measures import Runs
    from stopgrad.figures.shared import tables

    json.dumps(TABLES, allow_nan=False)
    families = {"output BatchNorm": "", "none": "bare/"}
    made = tables.pictures("simsiam", "simsiam2021", PAPER.cited, TABLES, families)
    assert made["simsiam-table4"].title.startswith("Table 4: ") and made["simsiam-heads"].title.startswith("BatchNorm")
    arms = suite("simsiam2021", "cpu").arms
    for name in ("stop-gradient", "heads"):
        d = tables.compute_table(Runs("simsiam2021", "cpu", arms, {}), TABLES[name], families)
        figure = tables.draw_table(d.assign_attrs(scale="cpu"))
        shown = [text.get_text() for text in figure.findobj(Text)]
        assert not any("nan" in text for text in shown) and list(d.loss.values) == list(families)
        if name == "stop-gradient":
            assert {"67.70 ± 0.10", "0.1"} <= set(shown) and bool(d.part.all())


# ---------------------------------------------------------------- claims that theory alone decides


@pytest.mark.parametrize("claim", THEORY, ids=lambda claim: claim.id)
def test_theory_holds(claim):
    row = evaluate(claim, None, None)
    assert row["verdict"] == "holds" and row["setting"] and re.search(r"\d", row["theory"])


def test_theory_can_fail(monkeypatch):
    verdicts = {}
    for name, attribute, other in (
        ("half-gradient", "half_gradient", lambda: tuple(reversed(theory_claims.half_gradient.__wrapped__()))),
        ("std-blind", "lost_std", lambda: theory_claims.lost_std.__wrapped__(k=2)),
        ("std-bounded", "room_below_one", lambda: theory_claims.room_below_one.__wrapped__(steps=1)),
    ):
        with monkeypatch.context() as patched:
            if name == "std-bounded":
                patched.setattr(centre, "largest_m_o", lambda n: 1 - 3 / n)
            value = other()
            patched.setattr(theory_claims, attribute, lambda *_, value=value: value)
            [claim] = [claim for claim in THEORY if claim.id.endswith(name)]
            verdicts[name] = evaluate(claim, None, None)["verdict"]
    assert set(verdicts.values()) == {"fails"}
