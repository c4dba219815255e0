"""t(p) and p(t) on the parabola against partial fractions in 90 digits, written-out statuses, and SciPy's DOP853."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp, mpc, mpf
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.time_course import Passage, limit, position, time_between
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

THEORIES = [
    {"sigma2": 0.0, "tau": 1.0, "x": 1.0},
    {"sigma2": 0.1, "tau": 0.35, "x": 2.3},
    {"sigma2": 1.9, "tau": 0.8, "x": 0.4},
]
SHARES = [0, 1e-12, 1e-10, 1e-7, 1e-3, 0.16, 0.4999, 0.5001, 0.9, 1 - 1e-3, 1 - 1.001e-6]
SHARES_ABOVE = [1 + 1.001e-6, 1 + 1e-3, 1.4, 10.0, 100.0]
SIZES = [1e-8, 3e-4, 0.02, 0.5, 0.99, 1.6, 40.0, 1e7]  # of |p|, as they are
NEAR = 1.001e-6  # of p/p± − 1
ULP = 2.0**-52


def critical(sigma2, tau, x):
    """η_c = τ²x/(4a)."""
    return tau**2 * x / (4 * (1 + sigma2))


@functools.cache
def roots(eta, sigma2, tau, x):
    """p₋ and p₊ in 90 digits, complex above η_c."""
    with mp.workdps(90):
        a, tau = 1 + mpf(sigma2), mpf(tau)
        root = mp.sqrt(mpc(tau * tau - 4 * mpf(eta) * a / mpf(x)))
        return (tau - root) / (2 * a), (tau + root) / (2 * a)


@functools.cache
def primitive(p, eta, sigma2, tau, x):
    """∫ dp/(p[x p(τ − a p) − η]) by partial fractions; p′ = −a x p (p − p₋)(p − p₊). Imaginary parts differ between
    the intervals that fixed points divide, and cancel within one."""
    with mp.workdps(90):
        p, scale = mpf(p), -(1 + mpf(sigma2)) * mpf(x)
        low, high = roots(eta, sigma2, tau, x)
        if eta == 0:  # 1/(p²(p − h))
            total = (mp.log(p - high) - mp.log(p)) / high**2 + 1 / p / high
        elif low == high:  # 1/(p(p − h)²)
            total = (mp.log(p) - mp.log(p - high)) / high**2 - 1 / (p - high) / high
        else:
            total = mp.log(p) / (low * high)
            for other, root in ((high, low), (low, high)):
                total += mp.log(p - root) / (root * (root - other))
        return total / scale


def exact_time(start, end, eta, sigma2, tau, x):
    """The time of a passage that arrives, in 90 digits."""
    with mp.workdps(90):
        return mp.re(primitive(end, eta, sigma2, tau, x) - primitive(start, eta, sigma2, tau, x))


def relative_condition(start, end, **theory):
    """Largest relative change of the time when one input moves by one ulp; infinite where it then never arrives."""
    inputs = {"start": start, "end": end, **theory}
    time = exact_time(**inputs)
    worst = 0.0
    for name, toward in itertools.product(inputs, (-np.inf, np.inf)):
        if inputs[name] == 0:
            continue
        moved = inputs | {name: float(np.nextafter(inputs[name], toward))}
        if not reaches(**moved):
            return np.inf
        worst = max(worst, abs(float((exact_time(**moved) - time) / time)))
    return worst


def reaches(start, end, **theory):
    """Whether p′, in 90 digits, carries start to end without a fixed point on the way."""
    with mp.workdps(90):
        low, high = roots(**theory)
        fixed = [mpf(0)] if mp.im(low) != 0 else [mpf(0), mp.re(low), mp.re(high)]
        first, last = sorted((mpf(start), mpf(end)))
        if any(first <= r <= last for r in fixed):
            return False
        a, p = 1 + mpf(theory["sigma2"]), mpf(start)
        slope = p * (mpf(theory["x"]) * p * (mpf(theory["tau"]) - a * p) - mpf(theory["eta"]))
        return mp.sign(slope) == mp.sign(mpf(end) - p)


def pool(eta, sigma2, tau, x, near=NEAR):
    """Values of p in every interval between fixed points, and on both sides of each as near as `near`."""
    low, high = (complex(r) for r in roots(eta, sigma2, tau, x))
    values = [sign * v for v in SIZES for sign in (1, -1)]
    if low.imag == 0:
        values += [r.real * (1 + sign * near) for r in (low, high) for sign in (1, -1) if r.real]
        values += [0.3 * low.real, (low.real + high.real) / 2] if low.real else [0.3 * high.real]
        # keep away from the fixed points what happens to lie by them
        values = [v for v in values if all(abs(v / r.real - 1) >= 1e-6 for r in (low, high) if r.real)]
    return sorted(set(values))


@pytest.mark.parametrize("theory", THEORIES, ids=["plain", "small_tau", "large_sigma2"])
@pytest.mark.parametrize("shares", [SHARES, SHARES_ABOVE], ids=["below", "above"])
def test_time_against_90_digits_on_a_grid(theory, shares):
    """Relative 1e-9 wherever |η/η_c − 1| ≥ 1e-6 and |p/p± − 1| ≥ 1e-6, in one call over everything, both directions."""
    rows = [
        (start, end, share * critical(**theory))
        for share in shares
        for start, end in itertools.permutations(pool(share * critical(**theory), **theory), 2)
    ]
    start, end, eta = np.array(rows).T
    got = time_between(start, end, Hyperparameters(eta=eta, alpha_p=1.7, **theory))
    arrives = np.array([reaches(p, q, eta=e, **theory) for p, q, e in rows])
    assert arrives.sum() > 250 and (~arrives).sum() > 250
    np.testing.assert_array_equal(got.status == "reached", arrives)
    assert np.isinf(got.time[~arrives]).all()
    want = [float(exact_time(p, q, e, **theory)) for (p, q, e), there in zip(rows, arrives) if there]
    np.testing.assert_allclose(got.time[arrives], want, rtol=1e-9, atol=0)


@pytest.mark.parametrize("theory", THEORIES, ids=["plain", "small_tau", "large_sigma2"])
def test_nearer_than_a_millionth_the_condition_of_the_input_decides(theory):
    """1e-9 + 10κ·2⁻⁵², κ·2⁻⁵² the change for one ulp of an input: near η_c, near p±, and near both."""
    rng = np.random.default_rng(3)
    near = [0.3, 1e-7, 1e-9, 1e-11, 1e-13]
    rows = []
    for gap, share in itertools.product(near, [0.3, *(1 + sign * g for g in near[1:] for sign in (1, -1))]):
        eta = share * critical(**theory)
        values = (
            pool(eta, **theory, near=gap) if share < 1 else [-1.0, *theory["tau"] * (0.5 + np.array([-1, 1]) * gap)]
        )
        if share < 1:  # without the rule of a millionth, which `pool` keeps
            values += [complex(r).real * (1 + s * gap) for r in roots(eta, **theory) for s in (1, -1)]
        pairs = [(p, q) for p, q in itertools.permutations(sorted(set(values)), 2) if reaches(p, q, eta=eta, **theory)]
        rows += [(*pairs[k], eta) for k in rng.choice(len(pairs), min(6, len(pairs)), replace=False)]
    start, end, eta = np.array(rows).T
    got = time_between(start, end, Hyperparameters(eta=eta, **theory))
    tight = 0
    for k, (p, q, e) in enumerate(rows):
        change = relative_condition(p, q, eta=e, **theory)
        if np.isfinite(change):
            tight += change < 1e-3
            assert got.status[k] == "reached"
            want = float(exact_time(p, q, e, **theory))
            assert got.time[k] == pytest.approx(want, rel=1e-9 + 10 * change), (p, q, e)
    assert tight > 0.8 * len(rows)


shares = st.floats(0, 3).map(lambda share: share if share > 1e-20 else 0.0)  # 90 digits see no further


@given(st.floats(0, 3), st.floats(0.05, 1), st.floats(0.1, 10), shares, st.floats(-5, 5), st.floats(-5, 5))
def test_any_passage_against_90_digits(sigma2, tau, x, share, start, end):
    theory = {"sigma2": sigma2, "tau": tau, "x": x, "eta": share * critical(sigma2, tau, x)}
    assume(min(abs(start), abs(end)) > 1e-9 and start != end)
    arrives = reaches(start, end, **theory)
    got = time_between(start, end, Hyperparameters(**theory))
    if not arrives:
        assert got.status != "reached" and got.time == np.inf
        return
    assert got.status == "reached"
    change = relative_condition(start, end, **theory)
    assert got.time == pytest.approx(float(exact_time(start, end, **theory)), rel=1e-9 + 10 * min(change, 1e9))


def test_exactly_critical_against_90_digits():
    for tau, eta in ((1.0, 0.25), (0.5, 0.0625), (0.25, 0.015625)):
        h, merged = Hyperparameters(sigma2=0.0, tau=tau, eta=eta), tau / 2
        for start, end in [(10.0, 0.6), (1e7, 1.1), (0.49, 0.01), (0.999, 1e-8), (-3.0, -1e-8), (1.00001, 1.000001)]:
            start, end = start * merged, end * merged
            if start > merged >= end:
                continue
            want = float(exact_time(start, end, eta, 0.0, tau, 1.0))
            assert want > 0
            assert time_between(start, end, h).time == pytest.approx(want, rel=1e-9), (start, end)


@pytest.mark.parametrize(("eta", "want"), [(0.0, 20.944438979), (0.04, 48.194858536)])
def test_golden_times(eta, want):
    """G8, at two weight decays, and the same passage in other units: t scales as a/(xτ²), p as τ/a."""
    assert time_between(0.05, 0.5, Hyperparameters(sigma2=0.0, eta=eta)).time == pytest.approx(want, abs=1e-9)
    for sigma2, tau, x in ((0.1, 1.0, 1.0), (0.8, 0.6, 3.0)):
        a = 1 + sigma2
        h = Hyperparameters(sigma2=sigma2, tau=tau, x=x, eta=eta * x * tau**2 / a, alpha_p=4.0)
        got = time_between(0.05 * tau / a, 0.5 * tau / a, h)
        assert got.time == pytest.approx(want * a / (x * tau**2), rel=1e-10)


@pytest.mark.parametrize(("start", "end"), [(0.05, 0.5), (0.3, 0.999), (5.0, 1.01), (-2.0, -0.01)])
def test_without_decay_the_golden_formula(start, end):
    """G8: t = [ln(p/(1 − p)) − 1/p] at η = 0 and a = τ = 1."""
    values = [np.log(abs(p / (1 - p))) - 1 / p for p in (start, end)]
    got = time_between(start, end, Hyperparameters(sigma2=0.0, eta=0.0)).time
    assert got == pytest.approx(values[1] - values[0], rel=1e-12)


# R reached, A asymptotic, N never; rows: start, columns: end, both in rising order of p.
STATUSES = {
    "bistable": (
        [-2.0, -1.0, 0.0, 0.25, 0.75, "p_minus", 1.25, 1.75, "p_plus", 3.0, 1e7],
        """RRANNNNNNNN
           NRANNNNNNNN
           NNRNNNNNNNN
           NNARNNNNNNN
           NNARRNNNNNN
           NNNNNRNNNNN
           NNNNNNRRANN
           NNNNNNNRANN
           NNNNNNNNRNN
           NNNNNNNNARN
           NNNNNNNNARR""",
    ),
    "no_weight_decay": (
        [-2.0, -1.0, 0.0, 1e-8, 0.75, "p_plus", 3.0, 1e7],
        """RRANNNNN
           NRANNNNN
           NNRNNNNN
           NNNRRANN
           NNNNRANN
           NNNNNRNN
           NNNNNARN
           NNNNNARR""",
    ),
    "critical": (
        [-2.0, -1.0, 0.0, 0.25, 0.75, "p_plus", 1.25, 1e7],
        """RRANNNNN
           NRANNNNN
           NNRNNNNN
           NNARNNNN
           NNARRNNN
           NNNNNRNN
           NNNNNARN
           NNNNNARR""",
    ),
    "collapse_only": (
        [-2.0, -1.0, 0.0, 0.25, 0.5, 3.0, 1e7],
        """RRANNNN
           NRANNNN
           NNRNNNN
           NNARNNN
           NNARRNN
           NNARRRN
           NNARRRR""",
    ),
}
CASES = {  # exactly representable, so that starting on a fixed point is starting on it
    "bistable": ({"sigma2": 0.0, "tau": 1.0, "eta": 0.1875}, {"p_minus": 0.25, "p_plus": 0.75}),
    "no_weight_decay": ({"sigma2": 0.25, "tau": 0.5, "eta": 0.0}, {"p_plus": 0.4}),
    "critical": ({"sigma2": 0.0, "tau": 0.5, "eta": 0.125, "x": 2.0}, {"p_plus": 0.25}),
    "collapse_only": ({"sigma2": 0.0, "tau": 1.0, "eta": 0.26}, {}),
}


def ladder(regime):
    """The regime's hyperparameters, its rising values of p, and the statuses of every ordered pair."""
    theory, fixed = CASES[regime]
    values, letters = STATUSES[regime]
    unit = fixed.get("p_minus", fixed.get("p_plus", 1.0))
    p = [fixed[v] if isinstance(v, str) else v * unit for v in values]
    if regime == "bistable":  # between p₋ = 0.25 and p₊ = 0.75, and above
        p[6:] = [0.3, 0.6, 0.75, 0.9, 1e7]
    assert p == sorted(p)
    names = {"R": "reached", "A": "asymptotic", "N": "never"}
    return (
        Hyperparameters(**theory),
        np.array(p),
        np.array([[names[c] for c in row.strip()] for row in letters.split()]),
    )


@pytest.mark.parametrize("regime", STATUSES)
def test_every_ordered_pair_has_its_status(regime):
    h, p, want = ladder(regime)
    got = time_between(p[:, None], p, h)
    assert isinstance(got, Passage) and got.time.shape == (len(p), len(p))
    np.testing.assert_array_equal(got.status, want)
    np.testing.assert_array_equal(np.isfinite(got.time), want == "reached")
    assert (np.diag(got.time) == 0).all()
    assert (got.time[(want == "reached") & ~np.eye(len(p), dtype=bool)] > 0).all()
    for i, j in np.ndindex(want.shape):
        alone = time_between(p[i], p[j], h)
        assert alone.time.shape == () and (alone.time, alone.status) == (got.time[i, j], want[i, j])


@pytest.mark.parametrize("regime", STATUSES)
def test_the_limit_is_where_the_asymptotic_end_is(regime):
    h, p, want = ladder(regime)
    for start, row, end in zip(p, want, limit(p, h)):
        named = p[row == "asymptotic"]
        assert end == pytest.approx(named[0] if len(named) else start, rel=1e-15, abs=0)


def test_infinite_times_add_up_and_finite_ones_too():
    h = Hyperparameters(eta=0.03, tau=0.9)
    a, b, c = 0.1, 0.3, 0.7
    assert time_between(a, c, h).time == pytest.approx(
        time_between(a, b, h).time + time_between(b, c, h).time, rel=1e-13
    )


def flow(_, p, h):
    return p * (h.x * p * (h.tau - (1 + h.sigma2) * p) - h.eta)


@pytest.mark.parametrize("theory", THEORIES, ids=["plain", "small_tau", "large_sigma2"])
@pytest.mark.parametrize("share", [0.0, 1e-8, 0.16, 0.7, 1.0, 1.001, 3.0])
def test_position_against_dop853_on_a_grid(theory, share):
    h = Hyperparameters(eta=share * critical(**theory), **theory)
    times = np.array([0.0, 1e-3, 0.1, 2.0, 17.0, 90.0])
    starts = np.array([-4.0, -0.3, -1e-4, 0.0, 1e-4, 0.03, 0.2, 0.4, 0.9, 3.0])
    want = solve_ivp(flow, (0, 90), starts, "DOP853", times, args=(h,), rtol=1e-12, atol=1e-15).y
    np.testing.assert_allclose(position(starts[:, None], times, h), want, rtol=1e-8, atol=1e-12)


@given(st.floats(0, 3), st.floats(0.05, 1), st.floats(0.1, 10), st.floats(0, 3), st.floats(-5, 5), st.floats(1e-6, 1e3))
def test_position_inverts_the_time(sigma2, tau, x, share, start, t):
    h = Hyperparameters(sigma2=sigma2, tau=tau, x=x, eta=share * critical(sigma2, tau, x))
    assume(abs(start) > 1e-9)
    end, goal = float(position(start, t, h)), float(limit(start, h))
    assert min(start, goal) <= end <= max(start, goal)
    if abs(end - goal) < 1e-5 * abs(goal) or abs(end - start) < 1e-5 * abs(start) or abs(end) < 1e-290:
        return  # too near either end for p, in 16 digits, to tell the time in 9
    arrival = time_between(start, end, h)
    assert arrival.status == "reached"
    assert arrival.time == pytest.approx(t, rel=1e-9)


def test_position_at_both_ends_of_time():
    h = Hyperparameters(sigma2=0.0, eta=0.1875)
    starts = np.array([-1.0, 0.0, 0.1, 0.25, 0.5, 0.75, 2.0])
    np.testing.assert_array_equal(position(starts, 0.0, h), starts)
    # so late that p has left the floats on its way to 0
    np.testing.assert_allclose(position(starts, 1e5, h), [0, 0, 0, 0.25, 0.75, 0.75, 0.75], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(limit(starts, h), [0, 0, 0, 0.25, 0.75, 0.75, 0.75])


def test_everything_broadcasts():
    h = Hyperparameters(sigma2=np.array([0.0, 0.4]), eta=np.array([[0.0], [0.02], [0.5]]), alpha_p=np.ones((4, 1, 1)))
    starts, ends = np.array(0.3), np.array([[[0.31]], [[0.2]], [[0.3]], [[-1.0]]])
    got = time_between(starts, ends, h)
    assert got.time.shape == got.status.shape == position(starts, 2.0, h).shape == limit(starts, h).shape == (4, 3, 2)
    for i, j, k in np.ndindex(4, 3, 2):
        lone = Hyperparameters(sigma2=h.sigma2[k], eta=h.eta[j, 0])
        alone = time_between(0.3, ends[i, 0, 0], lone)
        assert (alone.time, alone.status) == (pytest.approx(got.time[i, j, k], rel=1e-13), got.status[i, j, k])
        assert position(starts, 2.0, h)[i, j, k] == pytest.approx(position(0.3, 2.0, lone), rel=1e-12)


REFUSED = [
    ({"eta": -0.1}, "eta is -0.1"),
    ({"eta": np.nan}, "eta is nan"),
    ({"sigma2": -1e-3}, "sigma2 is -0.001"),
    ({"tau": 0.0}, "tau is 0;"),
    ({"tau": 1.01}, "tau is 1.01"),
    ({"beta": 0.4}, "beta is given"),
    ({"eta": 0.04, "eta_p": 0.05}, "eta_p differs from eta"),
]


@pytest.mark.parametrize(("theory", "sentence"), REFUSED)
@pytest.mark.parametrize(
    "ask", [lambda h: limit(0.2, h), lambda h: time_between(0.2, 0.3, h), lambda h: position(0.2, 1.0, h)]
)
def test_refuses_what_the_parabola_does_not_cover(ask, theory, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(Hyperparameters(**theory))


@pytest.mark.parametrize("bad", [np.nan, [0.1, np.nan], np.inf, [[0.1], [-np.inf]]])
def test_refuses_what_is_no_finite_number(bad):
    h = Hyperparameters()
    for ask in (
        lambda: limit(bad, h),
        lambda: time_between(bad, 0.5, h),
        lambda: time_between(0.1, bad, h),
        lambda: position(bad, 1.0, h),
        lambda: position(0.1, bad, h),
    ):
        with pytest.raises(ValueError, match="NaN or infinite"):
            ask()


def test_refuses_times_before_the_start():
    with pytest.raises(ValueError, match=r"^t is -0.5; it must be at least 0$"):
        position(0.1, [1.0, -0.5], Hyperparameters())


def test_an_equal_predictor_decay_is_no_difference():
    h = Hyperparameters(eta=0.03)
    assert time_between(0.2, 0.5, h.replace(eta_p=0.03)) == time_between(0.2, 0.5, h)
