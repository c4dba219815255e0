"""Shares of fates among random initial conditions, where the basin is known exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.sweeps.basin_fraction import basin_fraction, wilson_interval

CURVE = Hyperparameters(sigma2=0.1, eta=np.linspace(0.005, 0.3, 25))


def on_parabola(rng, n):
    p = rng.uniform(0, 1, n)
    return Mode(p, p**2)


def alive(state, h):
    """On the parabola a mode is alive from p₋ on, and never above η_c."""
    return (state.p > np.nan_to_num(fixed_points(h).p_minus, nan=np.inf)).astype(int)


def exact_share(curve):
    return 1 - np.nan_to_num(fixed_points(curve).p_minus, nan=1.0)


@given(st.integers(1, 5000), st.data(), st.floats(0.5, 0.999))
def test_wilson_interval_is_scipys(n, data, confidence):
    counts = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=3))
    lower, upper = wilson_interval(counts, n, confidence)
    for k, low, high in zip(counts, lower, upper):
        reference = binomtest(k, n).proportion_ci(confidence, method="wilson")
        assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-13)


def test_fractions_hold_the_exact_share_as_often_as_stated():
    """95 % intervals over 25 points × 40 independent repetitions: 0.95 ± 4 standard errors, and not always."""
    held = []
    for seed in range(40):
        found = basin_fraction(alive, on_parabola, 300, CURVE, seed=seed, common=False, labels=(0, 1))
        inside = (found.lower[:, 1] <= exact_share(CURVE)) & (exact_share(CURVE) <= found.upper[:, 1])
        held.append(inside[CURVE.eta < 0.22])
    held = np.array(held)
    assert abs(held.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / held.size)


def test_common_random_numbers_make_the_curve_monotone():
    common = basin_fraction(alive, on_parabola, 200, CURVE, seed=3, labels=(0, 1))
    own = basin_fraction(alive, on_parabola, 200, CURVE, seed=3, common=False, labels=(0, 1))
    assert (np.diff(common.count[:, 1]) <= 0).all()
    assert (np.diff(own.count[:, 1]) > 0).any()
    assert (common.count.sum(axis=1) == 200).all() and (common.fraction == common.count / 200).all()


def test_above_the_critical_weight_decay_no_start_is_alive():
    found = basin_fraction(alive, on_parabola, 100, CURVE, labels=(0, 1))
    beyond = CURVE.eta > 1 / 4.4
    assert beyond.sum() > 3 and (found.count[beyond] == [100, 0]).all()
    assert (found.lower[beyond, 1] == 0).all() and (found.upper[beyond, 1] > 0).all()


def test_a_simulated_fate_gives_the_same_fractions():
    def simulated(state, h):
        p, s = (np.broadcast_to(v, np.broadcast_shapes(v.shape, h.eta.shape)) for v in state)
        for _ in range(1500):  # midpoint rule
            half = mode_flow(Mode(p, s), h)
            rate = mode_flow(Mode(p + 0.1 * half.p, s + 0.1 * half.s), h)
            p, s = p + 0.2 * rate.p, s + 0.2 * rate.s
        return (p > 1 / (2 * h.a)).astype(int)

    curve = CURVE.replace(eta=np.array([0.02, 0.05, 0.1, 0.2, 0.25]))
    assert (
        basin_fraction(simulated, on_parabola, 150, curve, labels=(0, 1)).count
        == basin_fraction(alive, on_parabola, 150, curve, labels=(0, 1)).count
    ).all()


def test_the_seed_decides_and_the_chunks_do_not():
    whole = basin_fraction(alive, on_parabola, 64, CURVE, seed=1, common=False)
    parts = basin_fraction(alive, on_parabola, 64, CURVE, seed=1, common=False, points_per_call=130)
    other = basin_fraction(alive, on_parabola, 64, CURVE, seed=2, common=False)
    assert (whole.count == parts.count).all() and (whole.count != other.count).any()
    assert (whole.n, whole.seed, whole.common, whole.curve) == (64, 1, False, CURVE)


def test_one_point_and_fixed_fields():
    def fixed_s(rng, n):
        return Mode(rng.normal(size=n), 0.01)

    found = basin_fraction(
        lambda state, h: np.sign(state.p).astype(int) * (state.s > 0), fixed_s, 50, Hyperparameters()
    )
    assert found.labels.tolist() == [-1, 1] and found.count.shape == (1, 2)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"n": 0}, "at least 1 sample"),
        ({"confidence": 1.0}, "confidence"),
        ({"labels": (0,)}, "label 1"),
        ({"curve": Hyperparameters(eta=-0.1)}, "eta is -0.1"),
        ({"curve": Hyperparameters(eta=np.ones(3), sigma2=np.ones(2))}, "one length"),
        ({"curve": Hyperparameters(eta=np.ones((3, 2)))}, "one length"),
        ({"sample": lambda rng, n: Mode(rng.uniform(size=n + 1), 0.1)}, "field of shape"),
        ({"fate": lambda state, h: state.p}, "integer labels"),
        ({"fate": lambda state, h: np.ones(3, int)}, "integer labels"),
    ],
)
def test_bad_input_is_one_sentence(changes, words):
    arguments = {"fate": alive, "sample": on_parabola, "n": 10, "curve": CURVE} | changes
    with pytest.raises(ValueError, match=words):
        basin_fraction(**arguments)


@pytest.mark.parametrize(
    "count, n, words", [(1, 0, "n must"), (3, 2, "count must"), (-1, 2, "count must"), (np.nan, 2, "count")]
)
def test_wilson_refuses(count, n, words):
    with pytest.raises(ValueError, match=words):
        wilson_interval(count, n)
