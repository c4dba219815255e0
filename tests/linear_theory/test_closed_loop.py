"""Encoders whose predictor is set from the spectrum: closed forms judged by simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.closed_loop import (
    Amplitudes,
    SetPredictor,
    closed_loop_flow,
    cutoff_threshold,
    directpred_basin,
    directpred_limit,
    directpred_threshold,
    directset_limit,
    directset_threshold,
    growth_rate,
    isotropic_regression,
    optimal_regression_flow,
    selective_weight_decay,
)
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.modes import Mode, mode_flow, parabola_flow
from stopgrad.linear_theory.predictors.matrices import (
    directcopy,
    directpred,
    directpred_spectrum,
    directset,
    directset_spectrum,
)
from stopgrad.linear_theory.simulation.integrate import integrate

G1 = Hyperparameters(sigma2=0.0, eta=0.04)
GRID = [
    G1,
    Hyperparameters(sigma2=0.1, eta=0.04),
    Hyperparameters(sigma2=0.5, eta=0.02, tau=0.7),
    Hyperparameters(sigma2=1.0, eta=0.05, tau=0.9, x=1.5),
]
SEEN = ["views", "means"]


def beside(grid, dims=1):
    """The theories of a grid side by side, on an axis before so many of a state's."""
    values = [[getattr(h, name) for h in grid] for name in ("sigma2", "eta", "tau", "x")]
    sigma2, eta, tau, x = (np.reshape(v, (len(grid), *(1,) * dims)) for v in values)
    return Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, x=x)


def simulate(flow, state, *args, t):
    """SciPy from 0 to `t` (LSODA for the slow end of long runs), any NamedTuple of arrays: the state at the end."""
    sizes = np.cumsum([v.size for v in state])[:-1]

    def unpack(y):
        parts = np.split(y, sizes)
        return type(state)(*(part.reshape(v.shape) for part, v in zip(parts, state, strict=True)))

    def right_hand_side(_, y):
        return np.concatenate([v.ravel() for v in flow(unpack(y), *args)])

    y0 = np.concatenate([v.ravel() for v in state])
    method = "DOP853" if t <= 100 else "LSODA"
    return unpack(solve_ivp(right_hand_side, (0, t), y0, method, rtol=1e-9, atol=1e-14).y[:, -1])


def settle(r0, h, spectrum, seen, *parameters, t=3000.0):
    return simulate(closed_loop_flow, Amplitudes(np.asarray(r0, float)), h, spectrum, seen, *parameters, t=t).r


# ---------------------------------------------------------------- the flow itself


@given(st.floats(0, 2), st.floats(0, 0.3), st.floats(0.1, 1), st.floats(0.1, 3), st.floats(0.01, 2), st.floats(-1, 2))
def test_growth_rate_is_half_the_rate_of_s_in_the_mode_flow(sigma2, eta, tau, x, s, p):
    h = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, x=x)
    assert mode_flow(Mode(p, s), h).s == pytest.approx(2 * s * growth_rate(p, h), rel=1e-12, abs=1e-15)
    flow = closed_loop_flow(Amplitudes(np.array([s**0.5])), h, lambda q: p + 0 * q)
    assert flow.r[0] == pytest.approx(s**0.5 * growth_rate(p, h), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("h", GRID)
def test_directpred_without_regularisation_is_the_parabola(h):
    """G17: with ε = 0, p = r obeys Eq. 16, so the basin is the parabola's."""
    r = np.linspace(0.01, 1, 50)
    flow = closed_loop_flow(Amplitudes(r), h, directpred_spectrum, "means", 0.0)
    np.testing.assert_allclose(flow.r, parabola_flow(r, h), atol=1e-14)
    points = fixed_points(h)
    assert directpred_basin(h, seen="means") == pytest.approx(points.p_minus, rel=1e-14)
    assert directpred_limit(h, seen="means") == pytest.approx(points.p_plus, rel=1e-14)


@pytest.mark.parametrize(
    ("function", "spectrum", "parameters"),
    [
        (directpred, directpred_spectrum, (0.1,)),
        (directpred, directpred_spectrum, (0.0, 0.03)),
        (directpred, directpred_spectrum, (0.1, 0.0, "spectral", 1e-4)),
        (directset, directset_spectrum, (0.5, 0.05)),
        (directset, directset_spectrum, (2.0,)),
        (directcopy, lambda s, eps, kind: directset_spectrum(s, 1.0, eps, kind), (0.3, "frobenius")),
    ],
)
def test_matrix_and_mode_forms_agree(function, spectrum, parameters):
    """Non-isotropic views with X and X′ diagonal in one basis, W aligned with it: each mode keeps to its direction."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    modes = Hyperparameters(sigma2=np.array([0.0, 0.1, 0.5, 2.0]), x=np.array([1.0, 2.0, 0.7, 0.5]), eta=0.03, tau=0.9)
    data = Correlations(V @ np.diag(modes.x) @ V.T, V @ np.diag(modes.x * modes.sigma2) @ V.T)
    r0 = np.array([0.3, 0.5, 0.4, 0.6])
    W = U @ np.diag(r0 / np.sqrt(modes.x)) @ V.T
    switches = Switches(target="proportional", predictor=SetPredictor(function, parameters))
    end = simulate(network_flow, Network(0 * W, W, W), data, Hyperparameters(eta=0.03, tau=0.9), switches, t=6.0)
    r = settle(r0, modes, spectrum, "views", *parameters, t=6.0)
    np.testing.assert_allclose(U.T @ end.W @ V, np.diag(r / np.sqrt(modes.x)), atol=2e-8)
    assert np.max(np.abs(r - r0)) > 0.05


@pytest.mark.parametrize("seen", SEEN)
def test_isotropic_data_moves_the_singular_values_of_any_encoder_as_modes(seen):
    h = Hyperparameters(sigma2=0.3, eta=0.03)
    W = 0.5 * np.random.default_rng(1).normal(size=(3, 5))
    data = Correlations(np.eye(5), 0.3 * np.eye(5))
    predictor = SetPredictor(directpred, (0.1,), inflation=h.a if seen == "means" else 1.0)
    start = Network(np.zeros((3, 3)), W, W)
    end = simulate(network_flow, start, data, h, Switches(predictor=predictor), t=5.0)
    r = settle(np.linalg.svd(W)[1], h, directpred_spectrum, seen, 0.1, t=5.0)
    np.testing.assert_allclose(np.linalg.svd(end.W)[1], r, atol=1e-8)


def test_batched_sweep_with_the_project_s_integrator():
    """ε and σ² vary over a batch in one compiled call; matrices too. SciPy is the judge."""
    eps = np.array([0.0, 0.05, 0.2])[:, None]
    h = Hyperparameters(sigma2=np.array([0.0, 0.1, 0.4])[:, None], eta=0.04)
    r0 = np.tile([0.8, 0.3, 0.02], (3, 1))
    run = integrate(
        closed_loop_flow, Amplitudes(r0), h, directpred_spectrum, "views", eps, t=5.0, tolerance=1e-9, event_dims=1
    )
    expected = settle(r0, h, directpred_spectrum, "views", eps, t=5.0)
    np.testing.assert_allclose(run.state.r, expected, atol=1e-7)

    W = 0.5 * np.random.default_rng(2).normal(size=(2, 3, 3))
    start, data = Network(np.zeros_like(W), W, W), Correlations(np.eye(3), 0.2 * np.eye(3))
    switches = Switches(predictor=SetPredictor(directset, (0.5,)))
    plain = Hyperparameters(sigma2=0.2, eta=0.04)
    run = integrate(network_flow, start, data, plain, switches, t=3.0, tolerance=1e-9, event_dims=2)
    expected = simulate(network_flow, start, data, plain, switches, t=3.0)
    np.testing.assert_allclose(run.state.W, expected.W, atol=1e-7)


def test_numpy_and_torch_flows_agree():
    r = np.random.default_rng(3).uniform(0.01, 1, size=(5, 4))
    for spectrum, parameters in [(directpred_spectrum, (0.1, 0.02)), (directset_spectrum, (0.7, 0.1, "frobenius"))]:
        flow = closed_loop_flow(Amplitudes(r), GRID[2], spectrum, "views", *parameters).r
        tensors = closed_loop_flow(Amplitudes(torch.as_tensor(r)), GRID[2], spectrum, "views", *parameters).r
        np.testing.assert_allclose(tensors, flow, atol=1e-15)


def test_set_predictors_compare_by_value():
    assert SetPredictor(directpred, (0.1,)) == SetPredictor(directpred, (0.1,)) != SetPredictor(directpred, (0.2,))
    assert hash(Switches(predictor=SetPredictor(directpred))) == hash(Switches(predictor=SetPredictor(directpred)))


# ---------------------------------------------------------------- the regression predictor


@pytest.mark.parametrize("h", GRID)
def test_the_optimal_regression_predictor_collapses_every_mode_at_the_weight_decay(h):
    """Table 1's predictor cancels the residual it would teach from: r = r(0) e^{−ηt}, mode and matrix form."""
    r0 = np.array([0.9, 0.2, 1e-3])
    end = simulate(optimal_regression_flow, Amplitudes(r0), h, t=20.0).r
    np.testing.assert_allclose(end, r0 * np.exp(-20 * h.eta), rtol=1e-8)
    W = np.random.default_rng(4).normal(size=(3, 3))
    data = Correlations(h.x * np.eye(3), h.x * h.sigma2 * np.eye(3))
    switches = Switches(target="proportional", predictor=SetPredictor(isotropic_regression, (h.tau, h.a)))
    run = simulate(network_flow, Network(0 * W, W, W), data, h, switches, t=20.0)
    np.testing.assert_allclose(run.W, W * np.exp(-20 * h.eta), atol=1e-8)


# ---------------------------------------------------------------- DirectPred's thresholds


def test_directpred_golden_values():
    """G17."""
    np.testing.assert_allclose(directpred_threshold(G1, relaxing=False), (0.041742430504, 0.958257569496), rtol=1e-11)
    lower, upper = directpred_threshold(G1)
    assert lower == pytest.approx(0.0496934, abs=5e-8) and upper == np.inf
    ends = settle([[1.0, 1e-5], [1.0, 1e-5]], G1, directpred_spectrum, "means", np.array([[0.046], [0.05]]), t=3e4)
    assert ends[0, 1] < 1e-10
    assert ends[1, 1] == pytest.approx(ends[1, 0], rel=1e-3) == pytest.approx(directpred_limit(G1, 0.05, "means"))


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.04, 0.0435, 0.94, 0.98])
def test_directpred_with_the_largest_eigenvalue_frozen(eps):
    """G17, frozen form: a vanishing mode under p = √q + ε grows just for p₋ < ε < p₊ = .0417 … .9583."""
    lower, upper = directpred_threshold(G1, relaxing=False)
    end = settle([1e-7], G1, lambda q: np.sqrt(q) + eps, "means", t=30.0)
    assert (end[0] > 1e-7) == (lower < eps < upper)


@pytest.mark.parametrize("h", GRID)
def test_frozen_window_is_exact_for_the_released_code_at_every_instant(h):
    """It divides by max s, so a vanishing mode sees p = ε at any size of the leading one."""
    lower, upper = directpred_threshold(h, relaxing=False)
    for size in (0.1, 1.0, 3.0):
        for eps in np.concatenate([np.array([0.98, 1.02]) * lower, np.array([0.98, 1.02]) * upper]):
            r = np.array([size, 1e-9])
            rate = closed_loop_flow(Amplitudes(r), h, directpred_spectrum, "views", eps, 0.0, "spectral", 1e-4).r / r
            assert (rate[1] > 0) == (lower < eps < upper)


@pytest.mark.parametrize("seen", SEEN)
def test_relaxing_threshold_judged_by_simulation(seen):
    """G17, Eq. 18 proper, at any σ², τ, x: 6 % below it a small mode dies, above it lives, however large ε."""
    h = beside(GRID)
    lower, upper = directpred_threshold(h)
    eps = lower * np.array([0.94, 1.06, 3.0, 100.0])
    start = np.stack([np.broadcast_to(directpred_limit(h, 0.0, seen), eps.shape), np.full(eps.shape, 1e-5)], axis=-1)
    end = settle(start, beside(GRID, 2), directpred_spectrum, seen, eps[..., None], t=np.max(200 / (h.eta * h.tau)))
    leading = directpred_limit(h, eps, seen)
    np.testing.assert_allclose(end[..., 0], leading, rtol=1e-6)
    assert (end[:, 0, 1] < 1e-6).all()
    np.testing.assert_allclose(end[:, 1:, 1], leading[:, 1:], rtol=1e-4)
    assert (upper == np.inf).all()


@pytest.mark.parametrize("seen", SEEN)
def test_relaxing_threshold_of_a_different_mode(seen):
    """A mode of its own x and σ² under a stronger leading mode: both ends of the window, judged by simulation."""
    top, weak = Hyperparameters(sigma2=0.0, eta=0.03), Hyperparameters(sigma2=1.0, eta=0.03, x=0.8)
    lower, upper = directpred_threshold(weak, top)
    assert np.isfinite(upper)
    both = Hyperparameters(sigma2=np.array([0.0, 1.0]), eta=0.03, x=np.array([1.0, 0.8]))
    for eps in (0.94 * lower, 1.06 * lower, 0.94 * upper, 1.06 * upper):
        settled = settle([directpred_limit(top, eps, seen), 1e-9], both, directpred_spectrum, seen, eps, t=40.0)
        assert (settled[1] > 1e-9) == (lower < eps < upper)
        assert settled[0] == pytest.approx(directpred_limit(top, eps, seen), rel=1e-8)
    strong = directpred_threshold(top, weak)  # a mode that grows at no ε too large, if the leading one is the weaker
    assert strong[0] < np.inf and strong[1] == np.inf


@given(st.floats(0, 2), st.floats(0.05, 1), st.floats(0.2, 3), st.floats(0.01, 0.999))
def test_relaxing_threshold_in_closed_form(sigma2, tau, x, fraction):
    h = Hyperparameters(sigma2=sigma2, tau=tau, x=x)
    h = h.replace(eta=fraction * critical_eta(h))
    lower, _ = directpred_threshold(h)
    points = fixed_points(h)
    assert lower == pytest.approx(h.a**2 * points.p_minus / (tau**2 - 4 * h.eta * h.a / x), rel=1e-9)
    q = h.a * directpred_limit(h, lower) ** 2  # at the threshold the vanishing mode sits exactly at p₋
    assert lower * q == pytest.approx(points.p_minus, rel=1e-9)
    assert np.sqrt(q) + lower * q == pytest.approx(points.p_plus, rel=1e-9)


def test_thresholds_know_neither_alpha_p_nor_the_predictor_s_weight_decay():
    other = G1.replace(alpha_p=7.0, eta_p=0.5)
    assert directpred_threshold(other) == directpred_threshold(G1)
    assert directset_limit(other, 2.0) == directset_limit(G1, 2.0)
    undecayed = Hyperparameters(sigma2=0.0, eta=0.0, eta_p=0.5)  # a learned predictor would have no fixed point
    assert directpred_threshold(undecayed, relaxing=False) == (0, 1)


def test_thresholds_at_the_edges_of_weight_decay():
    h = Hyperparameters(sigma2=0.0, eta=np.array([0.0, 0.2499, 0.3]))
    lower, upper = directpred_threshold(h)
    assert lower[0] == 0 and 1e3 < lower[1] < np.inf and np.isnan(lower[2]) and np.isnan(upper[2])
    assert np.isnan(directpred_limit(h)[2]) and np.isnan(directset_limit(h)[2]) and np.isnan(directset_threshold(h)[2])
    never = directpred_threshold(G1, Hyperparameters(sigma2=30.0, eta=0.001))  # the leading mode settles below p₋
    assert never == (np.inf, np.inf)
    with pytest.raises(ValueError, match="eta is -1"):
        directpred_threshold(G1.replace(eta=-1.0))
    with pytest.raises(ValueError, match="seen is 'pixels'"):
        directset_limit(G1, seen="pixels")


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seen", SEEN)
def test_basin_and_limit_of_the_leading_mode(eps, seen):
    basin = directpred_basin(beside(GRID), eps, seen) * np.array([0.98, 1.02])
    below, above = settle(basin[..., None], beside(GRID, 2), directpred_spectrum, seen, eps)[..., 0].T
    assert (below < 1e-6).all()
    np.testing.assert_allclose(above, directpred_limit(beside(GRID, 0), eps, seen), rtol=1e-7)


@pytest.mark.parametrize("cutoff", [0.05, -1e-4])
@pytest.mark.parametrize("seen", SEEN)
def test_cutoff_kills_every_mode_below_it_at_the_weight_decay(cutoff, seen):
    """G17: with p = √max(q − c, 0), s < c dies at exactly 2η; the basin is q > c + p₋² (c of either sign)."""
    h, flat = beside(GRID), beside(GRID, 0)
    threshold = cutoff_threshold(h, cutoff, seen)
    r0 = threshold * np.array([0.97, 1.03])
    dead, alive = settle(r0, h, directpred_spectrum, seen, 0.0, cutoff).T
    inflation = flat.a if seen == "views" else 1.0
    assert (dead**2 * inflation < max(cutoff, 0) + 1e-6).all() and (alive > threshold[:, 0]).all()
    np.testing.assert_allclose(inflation * alive**2, fixed_points(flat).p_plus ** 2 + cutoff, rtol=1e-7)
    if cutoff > 0:
        small = np.broadcast_to(0.9 * np.sqrt(cutoff / inflation), flat.eta.shape)
        end = settle(small[:, None], h, directpred_spectrum, seen, 0.0, cutoff, t=10.0)[:, 0]
        np.testing.assert_allclose((end / small) ** 2, np.exp(-20 * flat.eta), rtol=1e-7)


# ---------------------------------------------------------------- DirectSet


def test_directset_golden_values():
    """G18."""
    alpha = np.array([0.5, 1.0, 2.0])
    h = Hyperparameters(sigma2=0.0, eta=0.24)
    np.testing.assert_allclose(directset_limit(h, alpha), [0.6, 0.7745966692, 0.8801117368], rtol=1e-9)
    np.testing.assert_allclose(directset_threshold(h, alpha), [0.4, 0.6324555, 0.7952707], atol=5e-8)
    assert directset_limit(G1) == pytest.approx(0.9789063129, abs=1e-10)


@pytest.mark.parametrize(("alpha", "eps"), [(0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 0.02), (0.5, 0.01)])
@pytest.mark.parametrize("seen", SEEN)
def test_directset_limit_and_threshold_judged_by_simulation(alpha, eps, seen):
    h = beside([*GRID, Hyperparameters(sigma2=0.0, eta=0.24)])
    threshold = directset_threshold(h, alpha, eps, seen)
    below, above = settle(threshold * np.array([0.97, 1.03]), h, directset_spectrum, seen, alpha, eps).T
    assert (below < 1e-3 * threshold[:, 0]).all()
    np.testing.assert_allclose(above, directset_limit(h, alpha, eps, seen)[:, 0], rtol=1e-6)


def test_a_large_eps_saves_every_mode_or_kills_every_mode():
    points = fixed_points(G1)
    assert directset_threshold(G1, 1.0, 0.1) == 0 and directset_limit(G1, 1.0, 0.1) > 0
    assert settle([1e-8], G1, directset_spectrum, "views", 1.0, 0.1)[0] == pytest.approx(
        np.sqrt(points.p_plus - 0.1), rel=1e-7
    )
    assert directset_limit(G1, 1.0, 1.0) == 0
    assert settle([0.5], G1, directset_spectrum, "views", 1.0, 1.0)[0] < 1e-10


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("tau", "sigma2"), [(1.0, 0.5), (0.8, 1.0)])
def test_weight_decay_keeps_the_signal_and_discards_the_nuisance(alpha, tau, sigma2):
    """G18: three regimes of η for a signal (a = 1) and a nuisance (a = 1 + σ²), W(0) = δI above both thresholds."""
    signal, nuisance = (Hyperparameters(sigma2=v, tau=tau) for v in (0.0, sigma2))
    lower, upper = selective_weight_decay(signal, nuisance)
    np.testing.assert_allclose((lower, upper), (tau**2 / 4 / (1 + sigma2), tau**2 / 4))
    both = Hyperparameters(sigma2=np.array([0.0, sigma2]), tau=tau)
    for eta, survivors in [(0.9 * lower, 2), ((lower + upper) / 2, 1), (1.1 * upper, 0)]:
        h = both.replace(eta=eta)
        end = settle([1.0, 1.0], h, directset_spectrum, "views", alpha)
        assert np.sum(end > 1e-6) == survivors
        np.testing.assert_allclose(end, np.nan_to_num(directset_limit(h, alpha)), atol=1e-6)
    # Below the first η the nuisance needs a start above its own threshold.
    h = both.replace(eta=0.9 * lower)
    weak = directset_threshold(h, alpha) * np.array([1.05, 0.95])
    np.testing.assert_array_equal(settle(weak, h, directset_spectrum, "views", alpha) > 1e-6, [True, False])
    # Exchanged, there is no such η.
    assert np.all(np.isnan(selective_weight_decay(nuisance, signal)))


def test_directset_projects_the_encoder_on_the_signal():
    """G18 in matrices: W(0) = δI, X = I, X′ = σ² on the nuisance subspace: W → limit × projector on the signal."""
    P_B = np.diag([0.0, 0, 0, 1, 1])
    h = Hyperparameters(eta=0.2)
    data = Correlations(np.eye(5), 1.0 * P_B)
    W = np.eye(5)
    switches = Switches(predictor=SetPredictor(directset, (0.5,)))
    end = simulate(network_flow, Network(0 * W, W, W), data, h, switches, t=400.0)
    limit = directset_limit(Hyperparameters(sigma2=0.0, eta=0.2), 0.5)
    np.testing.assert_allclose(end.W, limit * (np.eye(5) - P_B), atol=1e-6)
