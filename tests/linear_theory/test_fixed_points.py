"""Fixed points, stability and critical weight decay against 80-digit arithmetic, autograd and the flow itself."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from stopgrad.linear_theory.exact.fixed_points import REGIMES, critical_eta, discriminant, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ema_mode_flow, mode_flow

THEORIES = [
    {"sigma2": s, "tau": t, "alpha_p": a, "x": x}
    for s, t, a, x in itertools.product((0.0, 1e-9, 0.1, 2.7), (1.0, 0.3, 0.01), (1.0, 6.5), (1.0, 0.37, 20.0))
]
BELOW = (1e-12, 3e-9, 1e-4, 0.04, 0.16, 0.5, 0.77, 0.99, 1 - 1e-4, 1 - 1e-6, 1 - 1.001e-7)
ABOVE = (1 + 1.001e-7, 1 + 1e-4, 1.3, 100.0)
CRITICAL = [
    ({"sigma2": 0.0}, 1 / 4),
    ({"sigma2": 0.5}, 1 / 6),
    ({"sigma2": 0.1}, 1 / 4.4),
    ({"sigma2": 0.0, "tau": 0.5}, 0.0625),
    ({"sigma2": 0.25, "tau": 0.3, "x": 1.1}, 0.0198),
    ({"sigma2": 0.1, "tau": 0.7, "x": 4.4}, 0.49),
]


def exact(record):
    """The float64 values as decimals, exactly."""
    return {name: Decimal(float(value)) for name, value in record.items()}


def quadratic_roots(b, c):
    """Roots of λ² + bλ + c in Decimal, real ones ascending; a complex pair as (real part, ± imaginary part)."""
    square = b * b - 4 * c
    if square < 0:
        return complex(float(-b / 2), -float((-square).sqrt() / 2)), complex(float(-b / 2), float((-square).sqrt() / 2))
    root = square.sqrt()
    return float((-b - root) / 2), float((-b + root) / 2)


def reference(eta, sigma2, tau, alpha_p, x, eta_p=None):
    """Eq. 11–12 set to zero and its Jacobian's characteristic polynomial, in 80 digits; None above η_c.

    {name: (p, s, eigenvalues)} with the exact condition of the eigenvalues' square root beside them.
    """
    with localcontext(prec=80):
        v = exact({"eta": eta, "sigma2": sigma2, "tau": tau, "alpha_p": alpha_p, "x": x})
        eta, tau, alpha_p, x = v["eta"], v["tau"], v["alpha_p"], v["x"]
        eta_p, a = eta if eta_p is None else Decimal(float(eta_p)), 1 + v["sigma2"]
        square = tau * tau - 4 * a * eta / x
        if square < 0:
            return None
        found = {}
        for name, sign in (("plus", 1), ("minus", -1)):
            p = (tau + sign * square.sqrt()) / (2 * a)  # roots of x p(τ − a p) = η
            s = eta_p * p / (alpha_p * (tau - a * p))  # p′ = 0
            trace = -alpha_p * a * s - eta_p  # s′ = 0 leaves no ∂s′/∂s
            determinant = -alpha_p * (tau - a * p) * 2 * s * x * (tau - 2 * a * p)
            condition = trace**2 / abs(trace**2 - 4 * determinant)
            found[name] = float(p), float(s), quadratic_roots(-trace, determinant), float(condition)
        return found


def ordered(pair):
    """Two eigenvalues in one order: real ones ascending, a complex pair by imaginary part."""
    return np.array(sorted(pair, key=lambda v: (v.imag, v.real)), dtype=complex)


def jacobian(p, s, h):
    """∂(p′, s′)/∂(p, s) by automatic differentiation."""
    state = torch.tensor([p, s], dtype=torch.float64)
    return torch.autograd.functional.jacobian(lambda y: torch.stack(mode_flow(Mode(y[0], y[1]), h)), state).numpy()


@pytest.mark.parametrize(
    ("h", "p_plus", "p_minus", "critical"),
    [
        (Hyperparameters(sigma2=0.0, eta=0.04), 0.958257569496, 0.041742430504, 1 / 4),
        (Hyperparameters(sigma2=0.0, eta=0.01), 0.989897948557, 0.010102051443, 1 / 4),
        (Hyperparameters(sigma2=0.5, eta=0.05), 0.612220008845, 0.054446657822, 1 / 6),
        (Hyperparameters(sigma2=0.0, eta=0.04, tau=0.5), 0.4, 0.1, 0.0625),
    ],
)
def test_golden_fixed_points(h, p_plus, p_minus, critical):
    """G1, with the identities p₊ + p₋ = τ/a and p₊ p₋ = η/a."""
    points = fixed_points(h)
    assert points.p_plus == pytest.approx(p_plus, abs=1e-12)
    assert points.p_minus == pytest.approx(p_minus, abs=1e-12)
    assert (points.s_plus, points.s_minus) == pytest.approx((p_plus**2, p_minus**2), abs=2e-12)
    assert points.critical_eta == pytest.approx(critical, rel=1e-15)
    assert points.p_plus + points.p_minus == pytest.approx(h.tau / h.a, rel=1e-15)
    assert points.p_plus * points.p_minus == pytest.approx(h.eta / h.a, rel=1e-14)
    assert points.regime == "bistable"


def test_golden_fixed_point_heights():
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=0.04))
    assert (points.s_plus, points.s_minus) == pytest.approx((0.918257569496, 0.001742430504), abs=1e-12)


@pytest.mark.parametrize("alpha_p", [0.1, 1.0, 7.0])
def test_golden_eigenvalues(alpha_p):
    """G2: −2η and −(τ p − 2η) whatever α_p is."""
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=0.04, alpha_p=alpha_p))
    np.testing.assert_allclose(points.eigenvalues_plus, [-0.878257569, -0.08], atol=1e-9)
    np.testing.assert_allclose(points.eigenvalues_minus, [-0.08, 0.038257570], atol=1e-9)
    np.testing.assert_allclose(points.eigenvalues_zero, [-0.08, -0.04], rtol=1e-15)


@pytest.mark.parametrize("ratio", [None, 0.2, 3.0])
def test_against_80_digits_on_a_grid(ratio):
    """Relative 1e-12 wherever |1 − η/η_c| ≥ 1e-7; with η_p ≠ η times the condition of the eigenvalues' own root."""
    for theory in THEORIES:
        eta = np.array([*BELOW, *ABOVE]) * critical_eta(Hyperparameters(**theory))
        eta_p = None if ratio is None else ratio * eta
        points = fixed_points(Hyperparameters(eta=eta, eta_p=eta_p, **theory))
        assert list(points.regime) == ["bistable"] * len(BELOW) + ["collapse_only"] * len(ABOVE)
        for i in range(len(eta)):
            want = reference(eta[i], **theory, eta_p=None if eta_p is None else eta_p[i])
            assert (want is None) == (i >= len(BELOW))
            for name in ("plus", "minus"):
                got = [getattr(points, f"{field}_{name}")[i] for field in ("p", "s", "eigenvalues")]
                if want is None:
                    assert np.isnan(np.hstack(got)).all()
                    continue
                p, s, eigenvalues, condition = want[name]
                np.testing.assert_allclose(got[:2], [p, s], rtol=1e-12, atol=0, err_msg=f"{name} {theory} {eta[i]}")
                slack = 1e-12 if ratio is None else 1e-12 * max(condition, 1.0)
                np.testing.assert_allclose(
                    ordered(got[2]), eigenvalues, rtol=slack, err_msg=f"{name} {theory} {eta[i]}"
                )


def test_tiny_unstable_point_keeps_its_digits():
    for eta in np.geomspace(1e-25, 1e-3, 60):
        h = Hyperparameters(sigma2=0.3, eta=eta, tau=0.9, x=1.7)
        want = reference(eta, 0.3, 0.9, 1.0, 1.7)["minus"]
        assert fixed_points(h).p_minus == pytest.approx(want[0], rel=1e-14)
        assert fixed_points(h).s_minus == pytest.approx(want[1], rel=1e-14)


@given(
    st.floats(0, 5),
    st.floats(0.01, 1),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.floats(1e-12, 2),
    st.floats(0, 3),
)
def test_any_theory_against_80_digits(sigma2, tau, alpha_p, x, share, ratio):
    theory = {"sigma2": sigma2, "tau": tau, "alpha_p": alpha_p, "x": x}
    eta = share * tau**2 * x / (4 * (1 + sigma2))
    assume(abs(share - 1) > 1e-7)
    want = reference(eta, **theory)
    points = fixed_points(Hyperparameters(eta=eta, **theory))
    assert np.isnan(points.p_plus) == (want is None)
    if want is not None:
        got = points.p_plus, points.s_plus, points.p_minus, points.s_minus
        np.testing.assert_allclose(got, [*want["plus"][:2], *want["minus"][:2]], rtol=1e-12, atol=0)
        np.testing.assert_allclose(points.eigenvalues_plus, want["plus"][2], rtol=1e-12, atol=0)
        np.testing.assert_allclose(points.eigenvalues_minus, want["minus"][2], rtol=1e-12, atol=0)
    # a predictor decay of its own moves s, not p
    moved = fixed_points(Hyperparameters(eta=eta, eta_p=ratio * eta, **theory))
    np.testing.assert_array_equal(moved.p_plus, points.p_plus)
    np.testing.assert_allclose(moved.s_plus, ratio * points.s_plus, rtol=1e-12)


@pytest.mark.parametrize("share", [1e-6, 0.05, 0.4, 0.9, 0.999, 1.2])
@pytest.mark.parametrize("ratio", [None, 0.05, 0.8, 1.5, 4.0, 60.0])
def test_eigenvalues_are_those_of_the_differentiated_flow(share, ratio):
    for theory in THEORIES[::5]:
        eta = share * critical_eta(Hyperparameters(**theory))
        h = Hyperparameters(eta=eta, eta_p=None if ratio is None else ratio * eta, **theory)
        points = fixed_points(h)
        states = {"zero": (0.0, 0.0)}
        if share < 1:
            states |= {"plus": (points.p_plus, points.s_plus), "minus": (points.p_minus, points.s_minus)}
        for name, (p, s) in states.items():
            matrix = jacobian(float(p), float(s), h)
            want, got = (ordered(v) for v in (np.linalg.eigvals(matrix), getattr(points, f"eigenvalues_{name}")))
            scale = np.abs(want).max()
            # a nearly double root moves by the square root of an ulp
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10 * scale, err_msg=f"{name} {h}")
            np.testing.assert_allclose(
                mode_flow(Mode(p, s), h), 0, atol=1e-13 * max(scale * p, scale * s, 1e-3 * scale)
            )
            if name == "plus":
                assert (want.real < 0).all()
            if name == "minus":
                assert want[0].real < 0 < want[1].real


def test_a_fast_decaying_encoder_makes_a_focus():
    """η_p < η turns p₊ into a focus: the eigenvalues are then a complex pair, beside real ones in the same batch."""
    h = Hyperparameters(sigma2=0.0, eta=0.1, eta_p=np.array([0.02, 0.1, 0.3]))
    points = fixed_points(h)
    assert np.iscomplexobj(points.eigenvalues_plus) and not np.iscomplexobj(points.eigenvalues_minus)
    pair = ordered(points.eigenvalues_plus[0])
    assert pair[1].imag > 0 > pair[0].real
    want = reference(0.1, 0.0, 1.0, 1.0, 1.0, eta_p=0.02)["plus"][2]
    np.testing.assert_allclose(pair, want, rtol=1e-12)
    assert (points.eigenvalues_plus[1:].imag == 0).all()


@pytest.mark.parametrize(("theory", "eta"), CRITICAL)
def test_exactly_critical(theory, eta):
    h = Hyperparameters(eta=eta, alpha_p=2.0, **theory)
    assert critical_eta(h) == pytest.approx(eta, rel=1e-15)
    points, merged = fixed_points(h), h.tau / (2 * h.a)
    assert points.regime == "critical" and discriminant(h) == 0
    assert (points.p_plus, points.p_minus) == pytest.approx((merged, merged), rel=1e-15)
    assert (points.s_plus, points.s_minus) == pytest.approx((h.x * merged**2 / 2,) * 2, rel=1e-14)
    for eigenvalues in (points.eigenvalues_plus, points.eigenvalues_minus):
        np.testing.assert_allclose(eigenvalues, [-2 * eta, 0], rtol=1e-14, atol=0)
    for ulps, regime in ((-12, "bistable"), (12, "collapse_only")):
        assert fixed_points(h.replace(eta=eta * (1 + ulps * 2**-52))).regime == regime


@given(st.floats(0, 10), st.floats(1e-3, 1), st.floats(1e-3, 1e3))
def test_the_critical_decay_it_states_is_critical(sigma2, tau, x):
    h = Hyperparameters(sigma2=sigma2, tau=tau, x=x)
    with localcontext(prec=60):
        v = exact({"sigma2": sigma2, "tau": tau, "x": x})
        want = float(v["tau"] ** 2 * v["x"] / (4 * (1 + v["sigma2"])))
    assert critical_eta(h) == pytest.approx(want, rel=1e-15)
    assert fixed_points(h.replace(eta=want)).regime == "critical"


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.3, 1 - 1e-7, 1 - 1e-10, 1 - 1e-13, 1 + 1e-13, 1 + 1e-10, 1 + 1e-7, 9.0])
def test_discriminant_is_right_to_rounding(share):
    """However near η_c: the given float64 values are taken as exact."""
    for theory in THEORIES:
        h = Hyperparameters(eta=share * critical_eta(Hyperparameters(**theory)), **theory)
        with localcontext(prec=60):
            v = exact({"eta": h.eta, **theory})
            want = float(v["tau"] ** 2 - 4 * v["eta"] * (1 + v["sigma2"]) / v["x"])
        assert discriminant(h) == pytest.approx(want, rel=1e-14, abs=0)


@pytest.mark.parametrize("theory", THEORIES[::4])
def test_no_weight_decay(theory):
    h = Hyperparameters(eta=0.0, **theory)
    points, p_star = fixed_points(h), h.tau / h.a
    assert points.regime == "no_weight_decay"
    assert (points.p_minus, points.s_minus) == (0, 0)
    assert points.p_plus == pytest.approx(p_star, rel=1e-15)
    assert points.s_plus == pytest.approx(h.x * p_star**2 / h.alpha_p, rel=1e-14)
    np.testing.assert_allclose(points.eigenvalues_plus, [-h.x * h.tau * p_star, 0], rtol=1e-14, atol=0)
    for name in ("minus", "zero"):
        eigenvalues = getattr(points, f"eigenvalues_{name}")
        assert not np.any(eigenvalues) and not np.any(np.signbit(eigenvalues))
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvals(jacobian(float(points.p_plus), float(points.s_plus), h)).real),
        points.eigenvalues_plus,
        rtol=1e-12,
        atol=1e-14 * h.x,
    )


def test_predictor_decay_alone_leaves_only_the_collapsed_point():
    points = fixed_points(Hyperparameters(eta=0.0, eta_p=0.03))
    assert np.isnan([points.p_plus, points.s_plus, points.p_minus, points.s_minus]).all()
    np.testing.assert_array_equal(points.eigenvalues_zero, [-0.03, 0])


def test_above_critical_only_the_collapsed_point_is_left():
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=0.26, eta_p=0.9))
    assert points.regime == "collapse_only"
    for name in ("p_plus", "s_plus", "p_minus", "s_minus", "eigenvalues_plus", "eigenvalues_minus"):
        assert np.isnan(getattr(points, name)).all()
    np.testing.assert_allclose(points.eigenvalues_zero, [-0.9, -0.52], rtol=1e-15)


@given(st.floats(0, 3), st.floats(0.01, 0.99), st.floats(0.1, 10), st.floats(0.1, 10))
def test_an_ema_rests_at_the_fixed_points_of_tau_one(sigma2, share, x, beta):
    h = Hyperparameters(sigma2=sigma2, x=x, beta=beta)
    h = h.replace(eta=share * critical_eta(h))
    points = fixed_points(h)
    for p, s in ((points.p_plus, points.s_plus), (points.p_minus, points.s_minus)):
        np.testing.assert_allclose(ema_mode_flow(EmaMode(p, s, 1.0), h), 0, atol=1e-13 * x * max(1.0, x))


def test_broadcasts():
    etas, taus = np.array([0.0, 0.04, 0.25, 0.3]), np.array([[1.0], [0.5], [0.4]])
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=etas, tau=taus, alpha_p=np.ones((2, 1, 1))))
    assert points.p_plus.shape == points.regime.shape == points.critical_eta.shape == (2, 3, 4)
    assert points.eigenvalues_zero.shape == points.eigenvalues_plus.shape == (2, 3, 4, 2)
    assert set(points.regime.ravel()) == set(REGIMES)
    for (i, tau), (j, eta) in itertools.product(enumerate(taus[:, 0]), enumerate(etas)):
        lone = fixed_points(Hyperparameters(sigma2=0.0, eta=eta, tau=tau))
        assert lone.p_plus.shape == () and lone.eigenvalues_plus.shape == (2,)
        for name in ("p_plus", "s_minus", "regime", "eigenvalues_minus"):
            np.testing.assert_array_equal(getattr(points, name)[1, i, j], getattr(lone, name))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eta", -0.01),
        ("eta", np.nan),
        ("sigma2", -0.1),
        ("tau", 0.0),
        ("tau", 1.1),
        ("alpha_p", 0.0),
        ("eta_p", np.inf),
    ],
)
def test_refuses_hyperparameters_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"^{field} is .*; it must be"):
        fixed_points(Hyperparameters(**{field: value}))
