"""Modes of non-isotropic data, and appendix D's fixed points, symmetries and linearisations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import eigh

from stopgrad.linear_theory.exact.branches import stability
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.exact.nonisotropic import (
    Online,
    additive_scrambling,
    fixed_point_without_decay,
    mode_hyperparameters,
    multiplicative_scrambling,
    predictorless_flow,
    settled_predictor,
    shared_modes,
    surviving_modes,
    tied_flow,
    transformed,
)
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Correlations,
    Network,
    Switches,
    network_flow,
    online_force,
    predictor_flow,
)
from stopgrad.linear_theory.flows.modes import Mode, ScalarNetwork, mode_flow, scalar_network_flow

FREE = Hyperparameters(eta=0.0, alpha_p=1.7, beta=0.6)
FIG10 = Hyperparameters(sigma2=1.0, eta=0.0, beta=1.0, x=0.5)  # λ_s = 1, λ_d = 1/2


def rotation(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def shared(x, xp, rng):
    """Correlations with eigenvalues x and xp along one random basis."""
    V = rotation(rng, len(x))
    return Correlations(V @ np.diag(x) @ V.T, V @ np.diag(xp) @ V.T), V


def random_data(rng, n, batch=()):
    factors = rng.standard_normal((2, *batch, n, n))
    return Correlations(*(factors @ factors.mT / n))


@pytest.mark.parametrize(
    ("x", "xp"),
    [
        ([3.0, 2.0, 1.0, 0.5], [0.1, 0.3, 0.2, 0.4]),
        ([2.0, 2.0, 2.0, 1.0], [0.1, 0.5, 0.9, 0.5]),  # degenerate in X
        ([3.0, 2.0, 1.0, 0.5], [0.2, 0.2, 0.2, 0.2]),  # and in X′
        ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        ([2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]),
    ],
)
def test_shared_modes_recover_the_eigenvalue_pairs(x, xp):
    data, _ = shared(np.array(x), np.array(xp), np.random.default_rng(1))
    modes = shared_modes(data)
    assert np.all(np.diff(modes.x) <= 1e-12)
    pairs = sorted(zip(modes.x.round(10) + 0.0, modes.xp.round(10) + 0.0))
    np.testing.assert_allclose(pairs, sorted(zip(x, xp)), rtol=0, atol=1e-10)
    V = modes.vectors
    np.testing.assert_allclose(V.T @ V, np.eye(4), rtol=0, atol=1e-13)
    np.testing.assert_allclose(V @ np.diag(modes.x) @ V.T, data.X, rtol=0, atol=1e-12)
    np.testing.assert_allclose(V @ np.diag(modes.xp) @ V.T, data.Xp, rtol=0, atol=1e-12)


def test_modes_broadcast_over_a_batch():
    rng = np.random.default_rng(2)
    problems = [shared(rng.uniform(0.5, 2, 3), rng.uniform(0, 1, 3), rng)[0] for _ in range(4)]
    batch = Correlations(*map(np.stack, zip(*problems)))
    h = Hyperparameters(eta=np.array([0.0, 0.02, 0.1, 0.3]))
    together = mode_hyperparameters(batch, h, leading=2)
    assert together.x.shape == together.sigma2.shape == (4, 2) and together.eta.shape == (4, 1)
    for k, problem in enumerate(problems):
        alone = mode_hyperparameters(problem, h.replace(eta=h.eta[k]))
        np.testing.assert_allclose(together.x[k], alone.x[:2], rtol=1e-13)
        np.testing.assert_allclose(together.sigma2[k], alone.sigma2[:2], rtol=1e-12)
        np.testing.assert_array_equal(surviving_modes(together)[k], np.sum(h.eta[k] < critical_eta(alone)[:2]))


@pytest.mark.parametrize("eta", [0.0, 0.01])
@pytest.mark.parametrize("tau", [1.0, 0.6])
def test_modes_follow_the_matrix_flow(eta, tau):
    """W_p and W diagonal in the shared basis: Lemma 1 with X, X′ is one mode flow for each (x_j, x′_j)."""
    rng = np.random.default_rng(3)
    x, xp = np.array([1.5, 0.9, 0.4]), np.array([0.1, 0.6, 0.2])
    data, V = shared(x, xp, rng)
    h = Hyperparameters(eta=eta, tau=tau, alpha_p=1.4)
    p, w = np.array([0.3, 0.5, 0.2]), np.array([0.5, 0.4, 0.8])

    def matrix(_, y):
        Wp, W = y[:9].reshape(3, 3), y[9:].reshape(3, 3)
        flow = network_flow(Network(Wp, W, np.zeros((3, 3))), data, h, Switches(target="proportional"))
        return np.concatenate([flow.Wp.ravel(), flow.W.ravel()])

    modes = mode_hyperparameters(data, h)
    order = np.argsort(-x)

    def decoupled(_, y):
        return np.concatenate(mode_flow(Mode(y[:3], y[3:]), modes))

    options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-13}
    start = np.concatenate([np.diag(p).ravel(), (np.diag(w) @ V.T).ravel()])
    y = solve_ivp(matrix, (0, 15), start, **options).y[:, -1]
    Wp, W = y[:9].reshape(3, 3), y[9:].reshape(3, 3)
    z = solve_ivp(decoupled, (0, 15), np.concatenate([p[order], (x * w * w)[order]]), **options).y[:, -1]
    np.testing.assert_allclose(np.diag(Wp)[order], z[:3], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.diag(W @ data.X @ W.T)[order], z[3:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(Wp - np.diag(np.diag(Wp)), 0, atol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_the_modes_that_can_survive_do(tau):
    """On every point of a grid of η: a mode has its fixed point p₊ exactly where η < η_j = τ²x_j/(4a_j)."""
    x, xp = np.array([2.0, 1.0, 1.0, 0.3]), np.array([0.2, 0.1, 0.9, 0.3])
    data, _ = shared(x, xp, np.random.default_rng(4))
    eta = np.linspace(0.001, 0.6, 41)
    modes = mode_hyperparameters(data, Hyperparameters(eta=eta[:, None], tau=tau).replace(eta=0.0))
    h = modes.replace(eta=eta[:, None])
    limits = np.sort(tau**2 * x**2 / (4 * (x + xp)))[::-1]
    expected = np.sum(eta[:, None] < limits, axis=-1)
    assert set(expected) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(surviving_modes(h), expected)
    at = fixed_points(h)
    alive = np.isfinite(at.p_plus)
    np.testing.assert_array_equal(alive.sum(axis=-1), expected)
    p, s = np.where(alive, at.p_plus, 0.5), np.where(alive, at.s_plus, 0.5)
    flow = mode_flow(Mode(p, s), h)
    np.testing.assert_allclose(np.where(alive, flow.s, 0), 0, atol=1e-14)
    assert np.all(flow.s[~alive] < 0)


@pytest.mark.parametrize("features", [1, 3, 5])
@pytest.mark.parametrize("target", ["shared", "ema"])
def test_appendix_d_fixed_points_stand_still(features, target):
    """Any X, X′ (not commuting) and a batch of them: the residual force vanishes, and so does all of Lemma 1."""
    data = random_data(np.random.default_rng(5), 5, batch=(3,))
    network = fixed_point_without_decay(data, features)
    assert network.W.shape == (3, features, 5) and network.Wp.shape == (3, features, features)
    for rate in network_flow(network, data, FREE, Switches(target=target)):
        np.testing.assert_allclose(rate, 0, atol=1e-13)
    total = data.X + data.Xp
    np.testing.assert_allclose(
        network.W @ total @ network.W.mT, np.eye(features)[None] * np.ones((3, 1, 1)), atol=1e-12
    )
    for k in range(3):
        ratios = eigh(data.X[k], total[k], eigvals_only=True)[::-1][:features]  # an independent generalised solver
        np.testing.assert_allclose(np.diag(network.Wp[k]), ratios, rtol=1e-11)
        left = network.W[k] @ data.X[k] @ np.linalg.inv(total[k])
        np.testing.assert_allclose(network.Wp[k] @ network.W[k], left, rtol=0, atol=1e-11)


def test_appendix_d_predictor_is_one_over_a_for_shared_modes():
    x, xp = np.array([2.0, 1.0, 0.5]), np.array([0.1, 0.5, 0.05])
    data, _ = shared(x, xp, np.random.default_rng(6))
    h = mode_hyperparameters(data, FREE)
    network = fixed_point_without_decay(data, 3)
    np.testing.assert_allclose(np.diag(network.Wp), np.sort(1 / h.a)[::-1], rtol=1e-12)
    np.testing.assert_allclose(np.sort(fixed_points(h.replace(beta=None)).p_plus), np.sort(1 / h.a), rtol=1e-12)


@given(st.integers(0, 10_000))
def test_symmetry_maps_fixed_points_to_fixed_points(seed):
    rng = np.random.default_rng(seed)
    data = random_data(rng, 4)
    network = fixed_point_without_decay(data, 3)
    S = rotation(rng, 3) @ np.diag(rng.uniform(0.5, 2, 3)) @ rotation(rng, 3)
    mapped = transformed(network, S)
    assert np.abs(mapped.Wp - network.Wp).max() > 1e-6
    np.testing.assert_allclose(online_force(mapped.Wp, mapped.W, mapped.Wa, data), 0, atol=1e-10)
    for rate in network_flow(mapped, data, FREE, Switches(target="ema")):
        np.testing.assert_allclose(rate, 0, atol=1e-10)
    spectrum = np.sort(np.linalg.eigvals(mapped.Wp).real)
    np.testing.assert_allclose(spectrum, np.sort(np.diag(network.Wp)), rtol=0, atol=1e-7)


def test_symmetry_needs_no_decay():
    data = random_data(np.random.default_rng(7), 4)
    flow = network_flow(fixed_point_without_decay(data, 3), data, FREE.replace(eta=0.1))
    assert np.abs(flow.W).max() > 1e-2


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_multiplicative_scrambling_makes_the_predictor_a_projector(kept):
    rng = np.random.default_rng(8)
    V = rotation(rng, 4)
    inputs = V @ np.diag([2.0, 1.0, 0.7, 0.2]) @ V.T
    P = V[:, :kept] @ V[:, :kept].T
    data = multiplicative_scrambling(inputs, P)
    np.testing.assert_allclose(data.X @ np.linalg.inv(data.X + data.Xp), P, rtol=0, atol=1e-12)
    network = fixed_point_without_decay(data, 4)
    expected = [1.0] * kept + [0.0] * (4 - kept)
    np.testing.assert_allclose(np.diag(network.Wp), expected, rtol=0, atol=1e-12)
    modes = shared_modes(data)
    np.testing.assert_allclose(modes.x, [*np.array([2.0, 1.0, 0.7, 0.2])[:kept], *[0] * (4 - kept)], rtol=0, atol=1e-12)
    np.testing.assert_allclose(modes.x * modes.xp, 0, atol=1e-12)
    # A kept mode has the eigenvalue 1, so it needs no predictor to survive.
    leading = fixed_point_without_decay(data, kept)
    flow = network_flow(leading._replace(Wp=np.eye(kept)), data, FREE, Switches(predictor="fixed"))
    np.testing.assert_allclose(flow.W, 0, atol=1e-12)


def test_additive_scrambling_shrinks_every_mode():
    rng = np.random.default_rng(9)
    data = additive_scrambling(random_data(rng, 4).X, random_data(rng, 4).Xp + 0.1 * np.eye(4))
    network = fixed_point_without_decay(data, 4)
    ratios = np.linalg.eigvals(data.X @ np.linalg.inv(data.X + data.Xp)).real
    np.testing.assert_allclose(np.diag(network.Wp), np.sort(ratios)[::-1], rtol=0, atol=1e-12)
    assert np.all(ratios < 1)
    # No eigenvalue is 1: without a predictor nothing but W = 0 is fixed.
    flow = network_flow(network._replace(Wp=np.eye(4)), data, FREE, Switches(predictor="fixed"))
    np.testing.assert_allclose(flow.W, -network.W @ data.Xp, rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(data.Xp)[0] > 0


@given(st.integers(0, 10_000), st.sampled_from([None, 0.0, 0.3]), st.floats(0.1, 1))
def test_settled_predictor_stops_the_predictors_flow(seed, eta_p, tau):
    """G14: Eq. 62 vanishes there, and it is symmetric with the eigenvalues τf/(af + η_p/α_p)."""
    rng = np.random.default_rng(seed)
    F = random_data(rng, 4, batch=(2,)).X + 0.01 * np.eye(4)
    h = Hyperparameters(sigma2=0.4, eta=0.05, tau=tau, alpha_p=np.array([0.5, 2.0])[:, None, None], eta_p=eta_p)
    Wp = settled_predictor(F, h)
    np.testing.assert_allclose(predictor_flow(Wp, F, h), 0, atol=1e-12)
    np.testing.assert_allclose(Wp, Wp.mT, rtol=0, atol=1e-12)
    f = np.linalg.eigvalsh(F)
    expected = tau * f / (1.4 * f + (0.05 if eta_p is None else eta_p) / np.array([[0.5], [2.0]]))
    np.testing.assert_allclose(np.linalg.eigvalsh(Wp), np.sort(expected), rtol=0, atol=1e-10)


def test_settled_predictor_of_a_rank_deficient_F():
    """With weight decay the null space is forgotten; without, W_p is not unique there."""
    F = np.diag([1.0, 0.5, 0.0])
    np.testing.assert_allclose(np.diag(settled_predictor(F, Hyperparameters()))[2], 0, atol=1e-15)
    with pytest.raises(ValueError, match="F is singular and there is no weight decay, so W_p is not unique"):
        settled_predictor(F, FREE)


def eigenvalues(flow, state, h=FIG10):
    return stability(flow, state, h).eigenvalues


def test_fig_10_linearisations():
    """G15: tied predictor alive (−3 ± √5)/4, at the origin {−1, 0}; no predictor −1 ± √½."""
    root = 5**0.5
    np.testing.assert_allclose(eigenvalues(tied_flow, Online(0.5, 0.5)), [(-3 - root) / 4, (-3 + root) / 4], rtol=1e-12)
    np.testing.assert_allclose(eigenvalues(tied_flow, Online(0.0, 0.0)), [-1, 0], atol=1e-15)
    free = eigenvalues(predictorless_flow, Online(0.0, 0.0))
    np.testing.assert_allclose(free, [-1 - 0.5**0.5, -1 + 0.5**0.5], rtol=1e-12)
    assert tied_flow(Online(0.5, 0.5), FIG10) == (0, 0)


@pytest.mark.parametrize(("ld", "ls", "beta"), [(0.5, 1.0, 1.0), (0.9, 1.0, 0.2), (0.3, 1.4, 3.0)])
def test_linearisations_for_other_spectra(ld, ls, beta):
    """Tied, alive at w = w_a = λ_d/λ_s: [[−2k, k], [β, −β]] with k = λ_d²/λ_s; without predictor at the origin:
    [[−λ_s, λ_d], [β, −β]], stable as λ_d < λ_s."""
    h = FIG10.replace(x=ld, sigma2=ls / ld - 1, beta=beta)
    w, k = ld / ls, ld * ld / ls
    np.testing.assert_allclose(
        stability(tied_flow, Online(w, w), h).jacobian, [[-2 * k, k], [beta, -beta]], rtol=1e-12, atol=1e-14
    )
    free = stability(predictorless_flow, Online(0.0, 0.0), h)
    np.testing.assert_allclose(free.jacobian, [[-ls, ld], [beta, -beta]], rtol=1e-12)
    assert np.all(free.eigenvalues.real < 0)


def test_tied_origin_is_unstable_at_second_order():
    """Fig. 10, middle: a small positive start along w = w_a escapes to λ_d/λ_s; without predictor it decays."""
    options = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-12}
    ends = [
        solve_ivp(lambda _, y, flow=flow: flow(Online(*y), FIG10), (0, 400), (0.02, 0.02), **options).y[:, -1]
        for flow in (tied_flow, predictorless_flow)
    ]
    np.testing.assert_allclose(ends[0], 0.5, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ends[1], 0.0, atol=1e-8)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 2))
def test_tied_weights_are_invariant(w, wa, beta):
    """w_p = w stays so for α_p = 1; not for α_p ≠ 1."""
    h = FIG10.replace(beta=beta, eta=0.1)
    flow = scalar_network_flow(ScalarNetwork(w, w, wa), h)
    assert flow.wp == pytest.approx(flow.w, rel=1e-13, abs=1e-14)
    assert tied_flow(Online(w, wa), h) == (flow.w, flow.wa)
    other = scalar_network_flow(ScalarNetwork(w, w, wa), h.replace(alpha_p=2.0))
    assert other.wp - other.w == pytest.approx(flow.w + 0.1 * w, rel=1e-12, abs=1e-13)


EYE = np.eye(3)
BAD_CORRELATIONS = [
    ((np.diag([1.0, 1.0, -0.1]), EYE), "X has a negative eigenvalue; a correlation matrix is positive semi-definite"),
    ((EYE, np.triu(np.ones((3, 3)))), "X′ is not symmetric; a correlation matrix equals its transpose"),
    ((EYE, np.diag([1.0, np.nan, 1.0])), "X′ holds NaN or infinity; it must be finite"),
    ((np.ones(3), EYE), r"X has shape \(3,\); it must be \(…, n, n\)"),
    ((np.ones((2, 3)), EYE), r"X has shape \(2, 3\); it must be"),
    ((np.eye(2), EYE), r"X is \(2, 2\) and X′ is \(3, 3\); they must have one shape"),
]


@pytest.mark.parametrize(("matrices", "message"), BAD_CORRELATIONS)
@pytest.mark.parametrize(
    "function", [shared_modes, lambda d: fixed_point_without_decay(d, 1), lambda d: additive_scrambling(*d)]
)
def test_bad_correlations_are_refused(matrices, message, function):
    with pytest.raises(ValueError, match=message):
        function(Correlations(*matrices))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shared_modes(random_data(np.random.default_rng(0), 3)), "X and X′ do not commute"),
        (lambda: mode_hyperparameters(Correlations(np.diag([1.0, 2.0, 0.0]), EYE), FREE), "X has 2 eigenvalues above"),
        (lambda: fixed_point_without_decay(Correlations(np.diag([1.0, 0, 0]), 0 * EYE), 1), "X \\+ X′ is singular"),
        (lambda: fixed_point_without_decay(Correlations(EYE, EYE), 4), "features is 4; it must be between 1 and"),
        (lambda: fixed_point_without_decay(Correlations(EYE, EYE), 0), "features is 0; it must be between 1 and"),
        (lambda: multiplicative_scrambling(EYE, 0.5 * EYE), "kept is not a projector; its square must be itself"),
        (
            lambda: multiplicative_scrambling(np.diag([1.0, 2.0]), np.full((2, 2), 0.5)),
            "kept does not commute with inputs",
        ),
        (lambda: settled_predictor(-EYE, Hyperparameters()), "F has a negative eigenvalue"),
        (lambda: transformed(fixed_point_without_decay(Correlations(EYE, EYE), 2), np.ones((2, 2))), "Singular"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_leading_modes_of_singular_data():
    h = mode_hyperparameters(Correlations(np.diag([1.0, 2.0, 0.0]), EYE), FREE, leading=2)
    np.testing.assert_allclose(h.x, [2, 1])
    np.testing.assert_allclose(h.sigma2, [0.5, 1])
