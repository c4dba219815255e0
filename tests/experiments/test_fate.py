"""The forecast of a run's fate: what is drawn, what is fitted, how it is scored, and the command."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.config import change, check
from stopgrad.deep.measuring.units import Noise, units
from stopgrad.deep.presets.theory import LINEAR_GAUSSIAN
from stopgrad.deep.storage.table import Columns
from stopgrad.deep.training.beginning import expected, first_part
from stopgrad.deep.training.runs import Place, execute, joined
from stopgrad.experiments.__main__ import COMMANDS
from stopgrad.experiments.fate import foretell
from stopgrad.experiments.fate.claims import ARMS, CLAIMS
from stopgrad.experiments.fate.draws import CHOICES, DECAY, KNOWN, LONG, NEW, arm_name, config_of, drawn, words
from stopgrad.experiments.fate.foretell import (
    COLLAPSES,
    FALL,
    Model,
    collapsed,
    fit,
    fitted,
    foretold,
    parted,
    scored,
    when,
)
from stopgrad.experiments.papers import suite
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.tools.door import main

ALL = range(KNOWN + NEW)

# ---------------------------------------------------------------- draws


def test_a_draw_is_a_function_of_its_number_and_all_choices_are_drawn():
    found = [drawn(k) for k in ALL]
    assert found == [drawn(k) for k in ALL] and len({str(one) for one in found}) == len(found)
    for name, options in CHOICES.items():
        assert {one[name] for one in found} == set(options), name
    decay = np.array([one["eta_t"] for one in found])
    assert decay.min() >= DECAY[0] and decay.max() <= DECAY[1] and np.log(decay).std() > 1


@pytest.mark.parametrize("number", ALL)
def test_a_recipe_can_be_and_has_the_decay_that_was_drawn(number):
    found, config = drawn(number), check(config_of(number))
    h = units(config, Noise(0.1, 1.0))
    assert float(h.eta) * LONG == pytest.approx(found["eta_t"]) and h.eta_p is None
    assert found["predictor"] == "identity" or float(h.alpha_p) == pytest.approx(found["alpha_p"])
    assert config.monitor.laws_every == 1 and words(number)


def test_known_and_new_runs_are_apart_and_the_suite_is_left_to_its_record():
    for scale in SCALES:
        found = suite("fate", scale)
        assert {name.partition("/")[0] for name in found.arms} == {"known", "new"}
        assert set(found.aside) == (set(found.arms) if scale in ("quick", "cpu") else set())
    arms = suite("fate", "cpu").arms
    assert tuple(arms) == ARMS == tuple(arm_name(k) for k in ALL)
    assert sum(len(arm.seeds) for name, arm in arms.items() if name.startswith("new/")) >= 60
    assert len({arm.config for arm in arms.values()}) == len(arms)


# ---------------------------------------------------------------- made-up runs


def run(number, ends=None, size=0.0, modes=3, told=3, rank=2.0, loss=0.0, state="finished", dies=(None, None)):
    """A finished run of draw `number`: healthy, or collapsed where `ends` says so."""
    config = config_of(number)
    laws = {"measured": {"modes": modes, "dies": dies[0]}, "early": {"size": size, "modes": told, "dies": dies[1]}}
    summary = {"state": state, "diagnosis": COLLAPSES[0] if ends else "healthy", "laws": laws}
    scalars = {"rank_z": np.array([9.0, math.exp(rank)]), "loss": np.array([9.0, loss])}
    columns = Columns(np.array([0, 22]), scalars, {})
    return SimpleNamespace(key=f"{number}", config=config, summary=summary, columns=columns)


def runs(noise=0.0):
    """Of every arm a run that collapses where theory expects tr F to fall by more than e²; ranks know nothing."""
    rng = np.random.default_rng(4)
    found = {}
    for number in ALL:
        size = float(rng.uniform(-2, 8))
        modes = 0 if size > 2 else int(rng.integers(1, 15))
        ends = size + noise * rng.normal() > 2
        given = {"rank": rng.normal(), "loss": rng.normal(), "dies": (9.0, 9.0 * math.exp(rng.normal() / 9))}
        found[arm_name(number)] = run(number, ends, size, modes, max(0, modes + int(rng.integers(-1, 2))), **given)
    return found


# ---------------------------------------------------------------- models and scores


def test_a_run_that_diverged_has_no_fate():
    assert collapsed(run(0, True)) is True and collapsed(run(0)) is False
    assert collapsed(run(0, state="diverged")) is None
    known, new = parted({"known/00": run(0), "known/01": run(1, state="diverged"), "new/00": run(KNOWN)})
    assert [len(known), len(new)] == [1, 1]


def test_theory_that_knows_is_better_than_what_does_not():
    known, new = parted(runs())
    found = {name: scored(fitted(name, known), new) for name in foretell.MODELS}
    assert found["theory"].brier < 0.1 < min(found[name].brier for name in ("share", "rank", "loss"))
    assert found["theory"].modes < 0.5 * found["rank"].modes and found["theory"].right > 0.9
    assert abs(found["theory"].bias) < 0.15 and found["theory"].covered > 0.6
    values = {claim.id: claim.value(runs()) for claim in CLAIMS}
    assert all(value > claim.rule.above for claim, value in zip(CLAIMS, values.values())), values


def test_claims_fail_where_theory_knows_nothing():
    """Falls and modes are those of other runs: whatever is left of the advantage is chance."""
    mixed = runs()
    laws = [one.summary["laws"]["early"] for one in mixed.values()]
    for one, other in zip(mixed.values(), laws[7:] + laws[:7]):
        one.summary["laws"]["early"] = dict(other, dies=other["dies"] * 9)
    values = {claim.id.removeprefix("fate-"): (claim.value(mixed), claim.rule.above) for claim in CLAIMS}
    for name in ("brier-share", "brier-rank", "brier-loss", "modes", "when"):
        assert values[name][0] < values[name][1], name


def test_scores_of_a_coin():
    coin = Model("share", np.zeros(0), np.ones(0), 0.5, np.array([math.log(4)]), 0.1)
    new = [run(KNOWN + k, ends=k < 3, modes=3 if k < 9 else 15) for k in range(10)]
    found = scored(coin, new)
    assert (found.brier, found.bias, found.right) == pytest.approx((0.25, 0.2, 0.7))
    assert found.modes == pytest.approx(math.log(4) / 10) and found.covered == 0.9


def test_where_all_known_runs_end_alike_nothing_is_certain():
    for ends, expected_share in ((np.zeros(9), 1 / 11), (np.ones(9), 10 / 11)):
        model = fit("theory", np.random.default_rng(0).normal(size=(9, 3)), ends, np.full(9, 2.0))
        assert model.probability(np.zeros((2, 3))).tolist() == [pytest.approx(expected_share)] * 2
    with pytest.raises(ValueError, match="at least 8 are needed; `python -m experiments run fate --whole`"):
        fitted("theory", [run(k) for k in range(7)])


@given(st.floats(allow_nan=True), st.integers(0, 16), st.booleans())
def test_whatever_is_expected_the_model_reads_finite_numbers(size, modes, cosine):
    found = foretell.theory({"size": size, "modes": modes}, cosine)
    assert np.isfinite(found).all() and FALL[0] <= found[1] <= FALL[1]


def test_when_a_run_dies_is_compared_where_both_do():
    assert when(run(0, dies=(8.0, 2.0))) == pytest.approx(math.log(4))
    assert when(run(0, dies=(None, 2.0))) is None and when(run(0, dies=(2.0, None))) is None


def test_what_is_beyond_the_known_runs_is_said():
    model = fitted("theory", parted(runs())[0])
    early = {"size": 4.0, "modes": 0, "dies": 3.0, "times": [0.0, 2.0, 4.0], "steps": [0, 10, 20]}
    found = foretold(model, early, True, foretell.DIMENSIONS)
    assert found["collapse"] > 0.5 and found["kind"] == "in direction" and not found["beyond"]
    assert (found["dies_at_step"], found["steps"]) == (15, 20)
    assert 0 <= found["modes_interval"][0] <= found["modes"] <= found["modes_interval"][1] <= foretell.DIMENSIONS
    far = foretold(model, early | {"size": 99.0, "dies": math.inf}, False, 128)
    assert far["dies_at_step"] is None and len(far["beyond"]) == 2


# ---------------------------------------------------------------- the beginning of a run

SHORT = change(
    LINEAR_GAUSSIAN,
    **{"gaussian_samples": 256, "gaussian_dim": 8, "embedding_dim": 4, "lr_scaling": "none", "lr": 0.05},
    **{"backbone": "linear", "width": 6, "batch_size": 64, "epochs": 20, "weight_decay": 0.05, "probe": "none"},
    **{"laws_every": 1, "evaluate_every": 1000, "monitor_every": 100},
)


@pytest.mark.parametrize("more", [{}, {"schedule": "cosine", "momentum": 0.5, "predictor": "mlp"}])
def test_the_first_tenth_alone_lets_expect_what_the_whole_run_says_of_it(tmp_path, more):
    config = change(SHORT, **more)
    with joined("cpu") as world:
        early = expected(config, world)
        whole = execute(config, Place(tmp_path / "run", quiet=True, picture=False), world)["laws"]
    assert first_part(config) == 2 and early["steps"] == [4 * epoch for epoch in range(21)]
    assert early["times"][-1] == early["t_end"] == pytest.approx(whole["t_end"])
    for name in ("size", "modes", "half_time", "settles", "critical", "leading"):
        seen = math.inf if whole["early"][name] is None else whole["early"][name]
        assert early[name] == pytest.approx(seen, rel=1e-6), name


def test_what_cannot_begin_is_refused(tmp_path):
    with joined("cpu") as world:
        with pytest.raises(ValueError, match="at least 2"):
            expected(change(SHORT, epochs=1), world)
        with pytest.raises(ValueError, match="diverges within its first tenth"):
            expected(change(SHORT, lr=1e4), world)


# ---------------------------------------------------------------- the command


@pytest.fixture
def ask(monkeypatch, capsys):
    monkeypatch.setattr(foretell, "drawn_runs", lambda root: {f"{arm}, seed 0": one for arm, one in runs().items()})

    def command(*argv):
        status = main("experiments", "", COMMANDS, ["fate", *argv])
        out, err = capsys.readouterr()
        return status, out, err

    return command


RECIPE = ("gaussian_samples=256", "gaussian_dim=8", "embedding-dim=4", "epochs=10", "batch_size=64", "probe=none")


def test_a_fate_is_told_in_words_and_as_json(ask):
    status, out, _ = ask("--preset", "linear-gaussian", *RECIPE, "--json")
    found = json.loads(out)
    assert status == 0 and 0 < found["collapse"] < 1 and found["kind"] == "in norm"
    assert (found["epochs_trained"], found["epochs"], found["calibrated_with"]) == (1, 10, KNOWN)
    status, out, _ = ask("--preset", "linear-gaussian", *RECIPE)
    assert status == 0 and "% likely (in norm, if so)" in out and "told from 1 of 10 epochs" in out
    assert "numbers of modes extrapolate" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("predictor=directpred", "target=ema"), "knows no --predictor directpred"),
        (("weight_decay",), "'weight_decay' is not OPTION=VALUE"),
        (("colour=red",), "there is no option 'colour'"),
        (("lr=-1",), "--lr is -1"),
        (("start_from=elsewhere",), "a fate is told from random ones"),
        (("--preset", "none"), "there is no preset"),
    ],
)
def test_a_recipe_that_cannot_be_told_is_refused_in_a_sentence(ask, argv, said):
    status, out, err = ask(*argv)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1


def test_scores_are_told_with_every_run_they_rest_on(ask):
    status, out, _ = ask("--scores", "--json")
    found = json.loads(out)
    assert status == 0 and (found["known"], found["new"], len(found["runs"])) == (KNOWN, NEW, NEW)
    known, new = parted(runs())
    assert found["scores"]["theory"]["brier"] == pytest.approx(scored(fitted("theory", known), new).brier)
    for row, one in zip(found["runs"], new):
        assert row["collapsed"] == collapsed(one) and row["drawn"] == words(KNOWN + int(row["run"][4:6]))
    status, out, _ = ask("--scores")
    assert status == 0 and f"scored on {NEW}" in out and out.count("new/") == NEW
    assert ask("--scores", "lr=0.1")[0] == 2


def test_without_known_runs_nothing_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stopgrad.experiments.store.evidence.RESULTS", tmp_path)
    assert main("experiments", "", COMMANDS, ["fate", "--runs", str(tmp_path / "runs")]) == 2
    assert "at least 8 are needed" in capsys.readouterr().err
