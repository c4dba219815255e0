"""Measures of alignment and Theorems 1–3, against the flows that they are about."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Aligned,
    Correlations,
    Network,
    Switches,
    network_flow,
    symmetrised_flow,
)
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.spectra.alignment import (
    alignment_operator,
    alignment_operator_mode,
    alignment_rate,
    asymmetry,
    balance_residual,
    collapse_rate_without_stop_gradient,
    commutator,
    commutator_norm,
    eigenvector_alignment,
    hessian_without_stop_gradient,
    kappa,
    misalignment,
    negative_window,
    parabola_minimum,
    stop_gradient_rate_bound,
    tau_thresholds,
)

GRID = [
    Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, alpha_p=alpha_p)
    for sigma2, eta, tau, alpha_p in [(0, 0.04, 1, 1), (0.1, 0.01, 0.8, 2), (0.5, 0.05, 1, 0.5), (1.0, 0.002, 0.5, 5)]
]


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def symmetric(seed, *shape):
    G = np.random.default_rng(seed).normal(size=shape)
    return (G + G.mT) / 2


def psd(seed, *shape):
    G = np.random.default_rng(seed).normal(size=shape)
    return G @ G.mT


def integrate(flow, state, *args, t):
    """DOP853 at rtol 1e-11 on the flattened matrices; `t` is an array of times, the leading axis of the result."""
    shapes, sizes = [v.shape for v in state], np.cumsum([v.size for v in state])[:-1]

    def unpack(y):
        return type(state)(*(part.reshape(shape) for part, shape in zip(np.split(y, sizes), shapes, strict=True)))

    def right_hand_side(_, y):
        return np.concatenate([v.ravel() for v in flow(unpack(y), *args)])

    y0 = np.concatenate([v.ravel() for v in state])
    run = solve_ivp(right_hand_side, (0, t[-1]), y0, "DOP853", t_eval=t, rtol=1e-11, atol=1e-14)
    return type(state)(*(np.stack(field) for field in zip(*map(unpack, run.y.T), strict=True)))


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_cosines_of_a_known_eigenbasis(convert):
    U = rotation(4, 0)
    F = U @ np.diag([0.1, 3.0, 1.0, 2.0]) @ U.T
    Wp = np.random.default_rng(1).normal(size=(3, 4, 4))
    values, cosine = eigenvector_alignment(convert(Wp), convert(np.tile(F, (3, 1, 1))))
    np.testing.assert_allclose(values, np.broadcast_to([3, 2, 1, 0.1], (3, 4)), atol=1e-14)
    for k in range(3):
        for j, column in enumerate([1, 3, 2, 0]):
            u = U[:, column]
            expected = u @ Wp[k] @ u / np.linalg.norm(Wp[k] @ u)
            assert float(cosine[k, j]) == pytest.approx(expected, abs=1e-12)


def test_cosine_has_the_sign_of_the_predictor_eigenvalue_and_zero_without_one():
    U = rotation(4, 2)
    F = U @ np.diag([4.0, 3, 2, 1]) @ U.T
    Wp = U @ np.diag([-0.7, 1e-6, 0.0, 2.0]) @ U.T
    np.testing.assert_allclose(eigenvector_alignment(Wp, F).cosine, [-1, 1, 0, 1], atol=1e-8)
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(eigenvector_alignment(scale * Wp, F).cosine, [-1, 1, 0, 1], atol=1e-8)
    np.testing.assert_array_equal(eigenvector_alignment(np.zeros((4, 4)), F).cosine, 0)
    np.testing.assert_array_equal(eigenvector_alignment(Wp, np.zeros((4, 4))).eigenvalues, 0)


@given(st.integers(0, 1000), st.floats(0, 1e-10))
def test_degenerate_clusters_do_not_depend_on_the_basis(seed, split):
    """G20: rotating the eigenvectors of a (nearly) degenerate eigenvalue must not change what is reported."""
    U, R = rotation(5, seed), np.eye(5)
    R[1:4, 1:4] = rotation(3, seed + 1)
    Wp = np.random.default_rng(seed + 2).normal(size=(5, 5))
    s = np.array([3, 1 + split, 1, 1 - split, 0.2])
    one = eigenvector_alignment(Wp, U @ np.diag(s) @ U.T)
    two = eigenvector_alignment(Wp, U @ R @ np.diag(s) @ R.T @ U.T)
    np.testing.assert_allclose(one.cosine, two.cosine, atol=1e-9)
    P = U[:, 1:4] @ U[:, 1:4].T
    np.testing.assert_allclose(one.cosine[1:4], np.trace(Wp @ P) / np.linalg.norm(Wp @ P) / np.sqrt(3), atol=1e-9)


def test_a_cluster_is_aligned_exactly_when_every_vector_in_it_is():
    U = rotation(4, 3)
    F = U @ np.diag([1.0, 1, 1, 0.5]) @ U.T
    assert eigenvector_alignment(U @ np.diag([2.0, 2, 2, 7]) @ U.T, F).cosine == pytest.approx(1, abs=1e-14)
    unequal = eigenvector_alignment(U @ np.diag([1.0, 2, 3, 7]) @ U.T, F).cosine
    np.testing.assert_allclose(unequal, [6 / np.sqrt(42)] * 3 + [1], atol=1e-14)
    apart = eigenvector_alignment(np.diag([1.0, 2.0]), np.diag([1.0, 1.001]), degeneracy=1e-2).cosine
    np.testing.assert_allclose(apart, 3 / np.sqrt(10), atol=1e-14)


def test_isotropic_end_state_is_degenerate_and_aligned():
    """G20: under `symmetrised_flow` all alive modes end at p₊, F ∝ I there; cosine and commutator stay well defined."""
    h = Hyperparameters(sigma2=0.1, eta=0.02)
    U = rotation(4, 4)
    start = Aligned(0.6 * np.eye(4) + 0.1 * symmetric(5, 4, 4), U @ np.diag([0.9, 0.7, 0.5, 0.3]) @ U.T)
    end = integrate(symmetrised_flow, start, h, t=np.array([0.0, 5.0, 500.0]))
    points = fixed_points(h)
    values, cosine = eigenvector_alignment(end.Wp, end.F)
    np.testing.assert_allclose(values[-1], points.s_plus, rtol=1e-8)
    np.testing.assert_allclose(cosine[-1], 1, atol=1e-8)
    assert np.all(cosine[0] < 1 - 1e-4) and misalignment(end.Wp, end.F)[-1] < 1e-8 < misalignment(*start)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_commutator_measures(convert):
    Wp, F = np.random.default_rng(6).normal(size=(2, 3, 4, 4))
    F = F @ F.mT
    L = np.stack([f @ w - w @ f for f, w in zip(F, Wp, strict=True)])
    np.testing.assert_allclose(commutator(convert(Wp), convert(F)), L, atol=1e-13)
    norms = [np.linalg.norm(M, axis=(-2, -1)) for M in (L, F, Wp)]
    np.testing.assert_allclose(commutator_norm(convert(Wp), convert(F)), norms[0], rtol=1e-13)
    relative = misalignment(convert(Wp), convert(F))
    np.testing.assert_allclose(relative, norms[0] / norms[1] / norms[2], rtol=1e-13)
    np.testing.assert_allclose(misalignment(convert(1e-190 * Wp), convert(1e200 * F)), relative, rtol=1e-13)
    assert float(misalignment(convert(0 * Wp), convert(F)).max()) == 0


def test_the_largest_misalignment_is_root_two():
    worst = misalignment(F=np.diag([1.0, -1]), Wp=np.array([[0.0, 1], [1, 0]]))
    assert worst == pytest.approx(np.sqrt(2), rel=1e-15)


def test_asymmetry():
    G = np.random.default_rng(7).normal(size=(400, 400))
    assert asymmetry(G, "absolute") == pytest.approx(np.sqrt(2), rel=0.01)  # the replication's 1.41 at initialisation
    assert asymmetry(G) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert asymmetry(G - G.T) == pytest.approx(1) and asymmetry(G + G.T) == 0
    skewed = np.array([[[1.0, 2], [0, 1]], [[0.0, 0], [0, 0]]])
    np.testing.assert_allclose(asymmetry(skewed, "absolute"), [1, 0])
    np.testing.assert_allclose(asymmetry(torch.as_tensor(skewed)), [np.sqrt(2) / np.sqrt(6), 0])
    with pytest.raises(ValueError, match="kind is 'l1'"):
        asymmetry(G, "l1")


@pytest.mark.parametrize("measure", [eigenvector_alignment, commutator_norm, misalignment])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_measures_refuse_bad_matrices(measure, convert):
    for Wp, F, words in [
        (np.eye(2), np.eye(3), "must agree"),
        (np.ones((2, 3)), np.eye(2), "Wp is .* square"),
        (np.full((2, 2), np.nan), np.eye(2), "Wp has entries"),
        (np.eye(2), np.full((2, 2), np.inf), "F has entries"),
        (np.eye(2, dtype=np.float16), np.eye(2), "float16"),
    ]:
        with pytest.raises(ValueError, match=words):
            measure(convert(Wp), convert(F))
    with pytest.raises(ValueError, match="eigenvalue of -1"):
        eigenvector_alignment(np.eye(2), -np.eye(2))


def test_balance_residual_sees_theorem_1_and_its_violation():
    rng = np.random.default_rng(8)
    data = Correlations(psd(9, 3, 3), psd(10, 3, 3))
    h = Hyperparameters(eta=0.05, alpha_p=2.0, beta=0.3)
    t = np.linspace(0, 3, 7)
    start = Network(*(0.3 * rng.normal(size=shape) for shape in [(2, 2), (2, 3), (2, 3)]))
    learned = integrate(network_flow, start, data, h, Switches(target="ema"), t=t)
    assert balance_residual(learned, start, t, h).max() < 1e-9
    symmetrised = integrate(network_flow, start, data, h, Switches(target="ema", predictor="symmetrised"), t=t)
    assert balance_residual(symmetrised, start, t, h)[-1] > 1e-2
    as_tensors = [Network(*map(torch.as_tensor, state)) for state in (learned, start)]
    assert float(balance_residual(*as_tensors, t, h).max()) < 1e-9
    nothing = Network(*(0 * v for v in start))
    assert balance_residual(nothing, nothing, 1.0, h) == 0


# ---------------------------------------------------------------- Theorem 3


@pytest.mark.parametrize("h", [*GRID, Hyperparameters(eta=0.03, eta_p=0.2)])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_commutator_equation(h, convert):
    """G11: L′ = −LK − KL on random symmetric W_p and PSD F, with decay of the predictor apart as well."""
    Wp, F = convert(0.4 * symmetric(11, 6, 4, 4)), convert(0.2 * psd(12, 6, 4, 4))
    d = symmetrised_flow(Aligned(Wp, F), h)
    L, K = commutator(Wp, F), alignment_operator(Wp, F, h)
    L_prime = commutator(Wp, d.F) + commutator(d.Wp, F)
    np.testing.assert_allclose(L_prime, -L @ K - K @ L, atol=1e-14)


def test_commutator_equation_symbolically():
    names = "sigma2 eta tau alpha_p eta_p"
    h = Hyperparameters(**dict(zip(names.split(), sympy.symbols(names), strict=True)))
    p, q, r, u, v, w = sympy.symbols("p q r u v w")
    Wp, F = np.array([[p, q], [q, r]], dtype=object), np.array([[u, v], [v, w]], dtype=object)
    d = symmetrised_flow(Aligned(Wp, F), h)
    L, K = commutator(Wp, F), alignment_operator(Wp, F, h)
    residual = commutator(Wp, d.F) + commutator(d.Wp, F) + L @ K + K @ L
    assert all(sympy.expand(entry) == 0 for entry in residual.ravel())


def test_k_above_zero_is_sufficient_but_not_necessary():
    """G11: ‖L‖ ≤ e^{−2λ₀t}‖L(0)‖ where λ_min(K) ≥ λ₀; it also vanishes on a run along which λ_min(K) goes negative."""
    t = np.linspace(0, 300, 301)
    lowest = []
    for eta in (0.15, 0.03):
        h = Hyperparameters(sigma2=0.0, eta=eta)
        start = Aligned(0.5 * np.eye(3) + 0.1 * symmetric(13, 3, 3), 0.2 * np.eye(3) + 0.05 * psd(14, 3, 3))
        run = integrate(symmetrised_flow, start, h, t=t)
        rate, norm = alignment_rate(run.Wp, run.F, h), commutator_norm(run.Wp, run.F)
        lowest.append(rate.min())
        if rate.min() > 0:
            assert np.all(norm <= norm[0] * np.exp(-2 * rate.min() * t) * (1 + 1e-9) + 1e-13)
        assert norm[-1] < 1e-9 < 1e-4 < norm[0]
    assert lowest[0] > 0 > lowest[1]


@pytest.mark.parametrize("h", GRID)
def test_k_of_a_mode_is_k_on_a_shared_eigenbasis_and_the_margin_of_eq_17(h):
    p, s = np.random.default_rng(15).uniform(0, 1, size=(2, 5))
    U = rotation(5, 16)
    K = alignment_operator(U @ np.diag(p) @ U.T, U @ np.diag(s) @ U.T, h)
    np.testing.assert_allclose(U.T @ K @ U, np.diag(alignment_operator_mode(Mode(p, s), h)), atol=1e-14)
    assert alignment_rate(U @ np.diag(p) @ U.T, U @ np.diag(s) @ U.T, h) == pytest.approx(
        alignment_operator_mode(Mode(p, s), h).min(), abs=1e-14
    )
    delta = mode_flow(Mode(p, s), h).s / (2 * s)
    margin = (h.alpha_p * h.a * s + h.eta) / 2 - delta
    np.testing.assert_allclose(alignment_operator_mode(Mode(p, s), h), margin, atol=1e-15)


def test_negative_window_golden_values():
    """G9."""
    h = Hyperparameters(sigma2=0.0, eta=0.04)
    np.testing.assert_allclose(negative_window(h), (1 / 15, 3 / 5), rtol=1e-14)
    assert parabola_minimum(h) == pytest.approx(-0.32 / 3, rel=1e-14)
    np.testing.assert_allclose(negative_window(h.replace(eta=0.0)), (0, 2 / 3), atol=1e-16)
    lower, _ = negative_window(h.replace(eta=1e-14))
    assert lower == pytest.approx(1.5e-14 * (1 + 2.25e-14), rel=1e-15)  # no cancellation
    assert np.all(np.isnan(negative_window(h.replace(eta=0.12))))


@pytest.mark.parametrize("h", GRID)
def test_negative_window_is_where_k_is_negative_on_the_parabola(h):
    p = np.linspace(0, 1, 2001)
    K = alignment_operator_mode(Mode(p, p * p / h.alpha_p), h)
    lower, upper = negative_window(h)
    np.testing.assert_array_equal(K < 0, (p > lower) & (p < upper))
    np.testing.assert_allclose(K, 1.5 * (h.a * p**2 + h.eta) - h.tau * p, atol=1e-15)
    assert K.min() == pytest.approx(parabola_minimum(h), abs=1e-6) and K.min() >= parabola_minimum(h) - 1e-16
    points = fixed_points(h)
    for p in (points.p_plus, points.p_minus):  # K = τp/2 at both
        assert alignment_operator_mode(Mode(p, p * p / h.alpha_p), h) == pytest.approx(h.tau * p / 2, rel=1e-12)


@given(st.floats(0, 2), st.floats(1e-4, 0.5), st.floats(0.05, 1))
def test_kappa_separates_the_three_regimes(sigma2, eta, tau):
    """G10: collapse above κ = 1, K > 0 on the whole parabola above 4/9, a window below; the same as thresholds in τ."""
    h = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau)
    k, (collapse, aligned) = kappa(h), tau_thresholds(h)
    if min(abs(k - 1), abs(k - 4 / 9)) < 1e-9:
        return
    assert np.isnan(fixed_points(h).p_plus) == (k > 1) == (tau < collapse)
    assert np.isnan(negative_window(h)[0]) == (k > 4 / 9) == (tau < aligned) == (parabola_minimum(h) > 0)


def test_kappa_golden_values():
    """G10."""
    h = Hyperparameters(sigma2=0.0, eta=0.04)
    assert kappa(h) == pytest.approx(0.16)
    np.testing.assert_allclose(tau_thresholds(h), (0.4, 0.6))
    assert kappa(h.replace(eta=1 / 9)) == pytest.approx(4 / 9)


@pytest.mark.parametrize("h", GRID)
@pytest.mark.parametrize("p", [0.02, 0.1, 0.25, 0.5, 0.9])
def test_commutator_of_two_nearby_modes_moves_at_2k_and_its_scale_free_form_at_tau_p(h, p):
    """G12: d ln‖L‖/dt = −2K and d ln(‖L‖/(‖F‖‖W_p‖))/dt = −τp for nearly equal modes on the parabola."""
    K = alignment_operator_mode(Mode(p, p * p / h.alpha_p), h)
    tilt = rotation(2, 17)
    Wp = p * (np.eye(2) + 1e-6 * np.diag([1.0, -1.0]))
    F = p * p / h.alpha_p * (np.eye(2) + 1e-6 * tilt @ np.diag([1.0, -1.0]) @ tilt.T)
    d = symmetrised_flow(Aligned(Wp, F), h)
    L, dL = commutator(Wp, F), commutator(Wp, d.F) + commutator(d.Wp, F)

    def rate(M, dM):
        return np.sum(M * dM) / np.sum(M * M)

    assert rate(L, dL) == pytest.approx(-2 * K, rel=5e-4, abs=1e-6)
    assert rate(L, dL) - rate(F, d.F) - rate(Wp, d.Wp) == pytest.approx(-h.tau * p, rel=5e-4)


def test_the_absolute_commutator_grows_where_k_is_negative_while_the_scale_free_one_shrinks():
    """G12 along a run that crosses the window: ∫−2K and ∫−τp over the path of p give both norms."""
    h = Hyperparameters(sigma2=0.1, eta=0.01)
    p0, tilt = 0.1, rotation(2, 18)
    start = Aligned(
        p0 * (np.eye(2) + 1e-7 * np.diag([1.0, -1.0])),
        p0**2 * (np.eye(2) + 1e-7 * tilt @ np.diag([1.0, -1.0]) @ tilt.T),
    )
    t = np.linspace(0, 20, 2001)
    run = integrate(symmetrised_flow, start, h, t=t)
    p = np.trace(run.Wp, axis1=-2, axis2=-1) / 2
    K = alignment_operator_mode(Mode(p, p * p), h)

    def integral(f):
        return np.sum((f[1:] + f[:-1]) / 2 * np.diff(t))

    norm, relative = commutator_norm(run.Wp, run.F), misalignment(run.Wp, run.F)
    assert K.min() < 0 and norm.max() > 2 * norm[0]
    assert np.log(norm[-1] / norm[0]) == pytest.approx(-2 * integral(K), rel=1e-3)
    assert np.log(relative[-1] / relative[0]) == pytest.approx(-h.tau * integral(p), rel=1e-3)


# ---------------------------------------------------------------- Theorem 2


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_hessian_is_the_flow_without_stop_gradient(convert):
    rng = np.random.default_rng(19)
    h = Hyperparameters(eta=0.07)
    W, Wp = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 3))
    data = Correlations(psd(20, 2, 4, 4), psd(21, 2, 4, 4))
    flow = network_flow(Network(Wp, W, W), data, h, Switches(stop_gradient="none"))
    H = np.asarray(hessian_without_stop_gradient(convert(Wp), Correlations(*map(convert, data)), h))
    for k in range(2):
        np.testing.assert_allclose(-H[k] @ W[k].ravel(order="F"), flow.W[k].ravel(order="F"), atol=1e-12)


def test_rate_bound_golden_value():
    assert stop_gradient_rate_bound(Hyperparameters(sigma2=0.1, eta=0.0)) == pytest.approx(0.190909, abs=5e-7)


@given(st.floats(0, 2), st.floats(0, 0.5), st.floats(0.2, 3), st.integers(0, 100))
def test_rate_bound_is_attained_and_never_beaten(sigma2, eta, x, seed):
    """G13: λ_min(H) ≥ x(a − 1/a) + η for every W_p, with equality at W_p = I/a."""
    h = Hyperparameters(sigma2=sigma2, eta=eta, x=x)
    data = Correlations(x * np.eye(2), x * sigma2 * np.eye(2))
    bound = stop_gradient_rate_bound(h)
    Wp = np.random.default_rng(seed).normal(size=(8, 2, 2))
    assert np.all(collapse_rate_without_stop_gradient(Wp, data, h) >= bound - 1e-12)
    assert collapse_rate_without_stop_gradient(np.eye(2) / h.a, data, h) == pytest.approx(bound, abs=1e-12)


@pytest.mark.parametrize(("sigma2", "eta"), [(0.1, 0.0), (0.5, 0.02), (0.02, 0.1)])
def test_without_stop_gradient_the_encoder_shrinks_at_the_bound(sigma2, eta):
    """G13, integrated: ‖W(t)‖ ≤ e^{−λ₀t}‖W(0)‖ with a learned predictor, = for the predictor held at I/a."""
    h = Hyperparameters(sigma2=sigma2, eta=eta)
    data = Correlations(np.eye(3), sigma2 * np.eye(3))
    t = np.linspace(0, 20, 21)
    bound = np.exp(-stop_gradient_rate_bound(h) * t)
    for seed, scale in [(22, 0.3), (23, 1.0), (24, 3.0)]:
        rng = np.random.default_rng(seed)
        start = Network(rng.normal(size=(2, 2)), scale * rng.normal(size=(2, 3)), np.zeros((2, 3)))
        run = integrate(network_flow, start, data, h, Switches(stop_gradient="none"), t=t)
        size = np.linalg.norm(run.W, axis=(-2, -1))
        assert np.all(size <= bound * size[0] * (1 + 1e-8) + 1e-12)
    held = start._replace(Wp=np.eye(2) / h.a)
    run = integrate(network_flow, held, data, h, Switches(stop_gradient="none", predictor="fixed"), t=t)
    np.testing.assert_allclose(np.linalg.norm(run.W, axis=(-2, -1)), bound * size[0], rtol=1e-8)


def test_without_predictor_even_stop_gradient_ends_in_collapse():
    """G13: W(t) = W(0) e^{−(X′ + ηI)t} for W_p = I, any X; directions with x′ = η = 0 stay (the remark's exception)."""
    U = rotation(3, 25)
    for eta in (0.05, 0.0):
        h = Hyperparameters(eta=eta)
        data = Correlations(psd(26, 3, 3), U @ np.diag([0.5, 0.1, 0.0]) @ U.T)
        start = Network(np.eye(2), np.random.default_rng(27).normal(size=(2, 3)), np.zeros((2, 3)))
        t = np.array([0.0, 1.0, 7.0])
        run = integrate(network_flow, start, data, h, Switches(predictor="fixed"), t=t)
        for time, W in zip(t, run.W, strict=True):
            np.testing.assert_allclose(W, start.W @ expm(-(data.Xp + eta * np.eye(3)) * time), atol=1e-8)
