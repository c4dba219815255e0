"""The ladder: rungs that differ by their ingredient, errors that are right, claims that can hold and fail."""

import functools
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.config import flat_config
from stopgrad.deep.measuring.units import Noise, units
from stopgrad.deep.presets import changes
from stopgrad.experiments.ladder.errors import LAWS, READINGS, Bracket, bracket, error
from stopgrad.experiments.ladder.rungs import ALPHA_P, COLLAPSES, CRITICAL, ISOLOSS, SCALE, TRAINED, arm_name, decays
from stopgrad.experiments.papers import PAPERS
from stopgrad.experiments.papers import suite as built
from stopgrad.experiments.suites.grid import SCALES

suite = functools.cache(built)
PAPER = PAPERS["ladder"]
SET = ("set-predictor", "isoloss")
WHOLE = ("cpu", "cifar", "gpu", "paper")
RATES = {"lr", "weight_decay", "predictor_lr", "predictor_weight_decay"}
STEPS = {"epochs", "monitor_every", "laws_every", "image_size", "knn_images"}
ADDED = {
    4: ("backbone", "width"),
    5: ("backbone", "width"),
    6: ("backbone", "width", *STEPS),
    7: ("projector_output_bn", "projector_layers", "projector_hidden"),
    8: ("loss",),
    9: ("predictor", "predictor_hidden", "momentum", "schedule"),
}
"""What each rung may differ in from the one before; in the first it does."""

# ---------------------------------------------------------------- the suite


@pytest.mark.parametrize("scale", WHOLE)
def test_each_rung_is_the_one_before_and_an_ingredient_more(scale):
    arms = suite("ladder", scale).arms
    for rung, ingredient in ADDED.items():
        before, now = (arms[arm_name(k, "baseline")].config for k in (rung - 1, rung))
        differing = set(changes(now, before)) - RATES
        of_parts = flat_config(now).keys() ^ flat_config(before).keys()  # options of a part that only one of them has
        assert differing and differing - of_parts <= {*ingredient, *STEPS}
        assert ingredient[0] in differing | of_parts


@pytest.mark.parametrize("scale", SCALES)
def test_every_arm_is_of_its_rung_in_units_of_the_flow(scale):
    at = SCALE[scale]
    for name, arm in suite("ladder", scale).arms.items():
        rung, _, setting = name.removeprefix("rung-").partition("/")
        h, own = units(arm.config, Noise(0.1, 1.0)), at.rungs[int(rung)]
        eta = own.critical * decays(int(rung))[setting] if setting.startswith("decay") else own.eta
        assert float(h.eta) == pytest.approx(eta) and h.eta_p is None and h.beta is None, name
        assert setting in ("no-predictor", *SET) or float(h.alpha_p) == pytest.approx(ALPHA_P)
        assert (setting in SET) != bool(arm.config.monitor.laws_every) and arm.seeds[:3] == (0, 1, 2)


@pytest.mark.parametrize("scale", WHOLE)
def test_what_is_looked_for_is_there_and_the_baselines_come_first(scale):
    found = suite("ladder", scale)
    settings = {k: {"baseline", *COLLAPSES, *decays(k), *(SET if k in ISOLOSS else ())} for k in TRAINED}
    assert {arm_name(k, name) for k, names in settings.items() for name in names} == set(found.arms)
    assert found.worth[0] == tuple(arm_name(k, "baseline") for k in TRAINED)
    assert sorted(name for group in found.worth for name in group) == sorted(found.arms)


def test_smaller_scales_are_parts_of_cpu_or_over_at_once():
    quick, cpu = suite("ladder", "quick").arms, suite("ladder", "cpu").arms
    assert all(arm.config == cpu[name].config for name, arm in quick.items())
    assert all(arm.config.optimisation.epochs == 2 for arm in suite("ladder", "smoke").arms.values())


# ---------------------------------------------------------------- errors

SAME = {"balance": 0.0, "half_time": 4.0, "modes": 3, "allowed": 3, "settles": 9.0, "fall": 0.5, "critical": 0.2}


def run(measured=(), forecast=(), tracking=(), eta=0.1, arm="a", seed=0):
    """A finished run with laws: all readings alike but for what is named."""
    told = {"eta": eta, "t_end": 20.0, "followed": 8.0}
    parts = {"measured": measured, "forecast": forecast, "tracking": tracking}
    told |= {name: SAME | dict(more) for name, more in parts.items()}
    summary = {"state": "finished", "laws": told, "steps": 9, "last": {}}
    return SimpleNamespace(key=f"{arm}-{seed}", config=None, summary=summary, recorded=None)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("law", LAWS)
def test_what_agrees_has_no_error(law, reading):
    assert error(run(), law, reading) == 0


@pytest.mark.parametrize(
    ("law", "measured", "tracking", "expected"),
    [
        ("balance", {"balance": 0.5}, {}, math.log(1.5)),
        ("balance", {"balance": 0.5}, {"balance": 3.0}, math.log(1.5)),
        ("alignment", {"half_time": 8.0}, {}, math.log(2)),
        ("alignment", {"half_time": None}, {}, math.log(5)),
        ("alignment", {}, {"half_time": None}, -math.log(5)),
        ("alignment", {"half_time": None}, {"half_time": None}, math.nan),
        ("modes", {"modes": 0}, {}, -math.log(4)),
        ("modes", {"modes": 7}, {}, math.log(2)),
        ("modes", {}, {"modes": None}, math.nan),
        ("settling", {"settles": 0.0}, {"settles": 0.01}, 0.0),
        ("settling", {"settles": 0.0}, {"settles": 0.2}, -math.log(10)),
        ("no-predictor", {"fall": 1.0}, {}, math.log(2)),
        ("no-predictor", {"fall": -1.0}, {}, math.log(0.01)),
        ("no-stop-gradient", {}, {"fall": -1.0}, math.nan),
    ],
)
def test_errors_are_logarithms_of_ratios(law, measured, tracking, expected):
    found = error(run(measured, tracking=tracking), law, "tracking")
    assert found == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.booleans(), min_size=2, max_size=6))
def test_a_bracket_holds_the_decay_beyond_which_nothing_lives(lived):
    names = {f"decay-{k}": float(2**k) for k in range(len(lived))}
    runs = {arm_name(5, name): run({"modes": int(lives)}) for name, lives in zip(names, lived)}
    found = bracket(runs, 5, names, "measured")
    etas = [*names.values()]
    last = max((k for k, lives in enumerate(lived) if lives), default=None)
    assert found.low == (0 if last is None else etas[last])
    assert found.high == (etas[0] if last is None else etas[last + 1] if last + 1 < len(etas) else math.inf)
    assert found.low <= found.middle <= found.high or found.low == 0


def test_the_middle_of_a_bracket_is_its_end_where_it_has_but_one():
    assert Bracket(1.0, 4.0).middle == 2.0
    assert Bracket(0.0, 4.0).middle == 4.0 and Bracket(1.0, math.inf).middle == 1.0


# ---------------------------------------------------------------- claims


def test_every_claim_of_a_law_can_hold_and_fail():
    claims = [claim for claim in PAPER.claims if "critical" not in claim.id and "isoloss" not in claim.id]
    assert len(claims) == len(LAWS) * len(TRAINED) + 2 * len(TRAINED)
    far = {"balance": 9.0, "half_time": 0.1, "modes": 40, "settles": 0.1, "fall": 40.0}
    for claim in claims:
        value = claim.value({arm: run() for arm in claim.arms})
        assert value == 0 > claim.rule.above
        assert claim.value({arm: run(far) for arm in claim.arms}) < claim.rule.above
        assert claim.theory()


@pytest.mark.parametrize("rung", CRITICAL)
def test_the_critical_decay_is_compared_with_the_closed_form_and_with_the_tracked_flow(rung):
    closed, tracked = (
        next(c for c in PAPER.claims if c.id == f"ladder-critical-{rung}{end}") for end in ("-forecast", "")
    )
    factors = decays(rung)
    dies = [*factors.values()][2]  # of the network, between the second and the third

    def runs(told: float, flow: float) -> dict:
        return {
            arm_name(rung, name): run({"modes": int(f < dies)}, {"critical": told}, {"modes": int(f < flow)}, f)
            for name, f in factors.items()
        }

    middle = math.sqrt([*factors.values()][1] * dies)
    assert closed.value(runs(middle, 1e9)) == pytest.approx(0) and closed.value(runs(3 * middle, dies)) < -1
    assert tracked.value(runs(1e9, dies)) == pytest.approx(0)
    assert tracked.value(runs(1e9, 0.0)) < 0


@pytest.mark.parametrize("rung", ISOLOSS)
def test_isoloss_is_held_against_the_same_predictor_without_it(rung):
    arms, [claim] = suite("ladder", "cpu").arms, [c for c in PAPER.claims if c.id == f"ladder-isoloss-{rung}"]
    iso, plain = (arms[arm].config for arm in claim.arms)
    assert changes(iso, plain) == {"isoloss": True} and not plain.method.predictor.learns

    def value(of_iso: float, of_plain: float) -> float:
        ranks = dict(zip(claim.arms, (of_iso, of_plain)))
        return claim.value({arm: SimpleNamespace(last=lambda name, r=rank: r) for arm, rank in ranks.items()})

    assert value(12.0, 6.0) == pytest.approx(math.log(2)) and math.log(2) > claim.rule.above > value(6.0, 6.0)
    starved, kept = (float(word.rstrip(",")) for word in claim.theory().split(": ")[1].split() if word[0] in "+-")
    assert starved < 0 < kept
