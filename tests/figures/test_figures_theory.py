"""The data of the computed pictures against theory: closed forms, golden facts, SciPy."""

import itertools

import numpy as np
import pytest
import xarray as xr
from figure_examples import small
from scipy.integrate import solve_ivp

from stopgrad.figures.theory import talks
from stopgrad.figures.tian2021 import networks as tian2021_networks
from stopgrad.figures.tian2021 import theory as tian2021
from stopgrad.linear_theory.exact.closed_loop import Amplitudes, closed_loop_flow
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, ScalarNetwork, mode_flow, scalar_network_flow
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum
from stopgrad.linear_theory.simulation.integrate import integrate


def test_fig3_field_fixed_points_and_separatrix():
    etas = (0.0, 0.01, 0.1, 1.0)
    d = tian2021.compute_fig3(etas, p=(-0.6, 1.4, 21), s=(0.0, 1.4, 15))
    p, s, eta = d.p, d.s, d.eta
    xr.testing.assert_allclose(d.dp, (s * (1 - 1.1 * p) - eta * p).transpose(*d.dp.dims), rtol=1e-13, atol=1e-13)
    xr.testing.assert_allclose(d.ds, (2 * s * (p * (1 - 1.1 * p) - eta)).transpose(*d.ds.dims), rtol=1e-13, atol=1e-13)
    root = np.sqrt(1 - 4.4 * np.array(etas[:3]))
    np.testing.assert_allclose(d.p_plus[:3], (1 + root) / 2.2, rtol=1e-12)
    np.testing.assert_allclose(d.p_minus[:3], (1 - root) / 2.2, rtol=1e-12, atol=1e-16)
    assert (
        np.isnan(d.p_plus[3]) and d.separatrix.sel(eta=1.0).isnull().all() | np.isinf(d.separatrix.sel(eta=1.0)).all()
    )


@pytest.mark.parametrize("eta", [0.01, 0.1])
def test_fig3_separatrix_divides_the_fates(eta):
    d = tian2021.compute_fig3((eta,), p=(-0.6, 1.4, 21), s=(0.0, 1.4, 3)).isel(eta=0)
    edge = d.separatrix.sel(curve=[-0.5, -0.2, 0.0], method="nearest")
    h = Hyperparameters(eta=eta)
    below, above = (
        integrate(mode_flow, Mode(edge.curve.values.copy(), factor * edge.values), h, t=12 / eta).state.s
        for factor in (0.99, 1.01)
    )
    assert np.all(below < 1e-4) and np.all(np.abs(above - float(d.s_plus)) < 1e-2)
    assert float(d.separatrix.interp(curve=d.p_minus)) == pytest.approx(float(d.s_minus), rel=0.02)


@pytest.mark.parametrize("sigma2", [0.0, 0.1, 0.5])
def test_fig4_zeros_and_their_stability(sigma2):
    d = tian2021.compute_fig4(h=Hyperparameters(sigma2=sigma2))
    assert d.critical_eta == pytest.approx(1 / (4 * (1 + sigma2)))
    assert d.stability.values[0, [0, 2]].tolist() == [0, 1]  # no weight decay: half-stable, stable
    assert d.stability.values[1].tolist() == [1, -1, 1]
    assert d.stability.values[2, 0] == 1 and np.isnan(d.zero.values[2, 1:]).all()
    roots = np.sort(np.roots([-(1 + sigma2), 1, -float(d.eta[1]), 0]))
    np.testing.assert_allclose(d.zero.values[1], roots, rtol=1e-10, atol=1e-12)


def test_fig5_agrees_with_the_scalar_network():
    """Golden fact G16: (p, s, τ) and (w_p, w, w_a) are one system."""
    d = tian2021.compute_fig5(t=(0, 30, 4))
    for row, curve in itertools.product(range(2), range(5)):
        one = d.isel(row=row, curve=curve)
        h = Hyperparameters(sigma2=0.1, eta=float(one.eta), beta=float(one.beta))
        reference = solve_ivp(
            lambda _, y, h=h: np.array(scalar_network_flow(ScalarNetwork(*y), h)),
            (0, 30), [0.1, 0.1, 0.0], method="DOP853", rtol=1e-11, atol=1e-13, t_eval=d.time.values,
        ).y  # fmt: skip
        np.testing.assert_allclose(one.p, reference[0], atol=1e-7)
        np.testing.assert_allclose(one.s, reference[1] ** 2, atol=1e-7)
        np.testing.assert_allclose(one.tau, reference[2] / reference[1], atol=1e-6)
    assert (d.tau.isel(time=0) == 0).all() and d.attrs["p0"] == 0.1


def test_fig5_ends_where_theory_says():
    """K → τp/2 at p₊ (G9) where the mode lives; τ → β/(β − η) where it dies."""
    d = tian2021.compute_fig5(etas=(0.01, 0.2), betas=(1.0, 4.0), t=(0, 150, 2)).isel(time=-1)
    p_plus = fixed_points(Hyperparameters(eta=0.01)).p_plus
    assert float(d.p[0, 0]) == pytest.approx(float(p_plus), abs=1e-5)
    assert float(d.K[0, 0]) == pytest.approx(float(p_plus) / 2, abs=1e-5)
    assert float(d.p[0, 1]) < 1e-6 and float(d.tau[0, 1]) == pytest.approx(2.0, abs=1e-5)


def test_fig7_agrees_with_scipy_on_every_point():
    n, runs, gammas, etas, lr = 3, 2, (0.99, 0.999), (0.0, 0.1), 0.01
    d = tian2021_networks.compute_fig7(gammas, etas, lr=lr, n=n, runs=runs, seed=5, t=(0, 8, 3))
    draws = np.random.default_rng(5).normal(size=(2, runs, n, n))
    for reading, (eta, g, run) in itertools.product(range(2), itertools.product(range(2), range(2), range(runs))):
        sigma2, deviation = ((0.03**2, n**-0.5), (0.1, 0.03))[reading]
        Wp, W = deviation * draws[:, run]

        def lemma1(_, y, sigma2=sigma2, eta=etas[eta], beta=(1 - gammas[g]) / lr):
            Wp, W, Wa = y.reshape(3, n, n)
            R = Wa - (1 + sigma2) * Wp @ W
            return np.concatenate([m.ravel() for m in (R @ W.T - eta * Wp, Wp.T @ R - eta * W, beta * (W - Wa))])

        start = np.concatenate([Wp.ravel(), W.ravel(), 0 * W.ravel()])
        y = solve_ivp(lemma1, (0, 8), start, method="DOP853", rtol=1e-10, atol=1e-12, t_eval=d.time.values).y
        W, Wa = y.reshape(3, -1, len(d.time))[1:]
        cosine = (W * Wa).sum(0) / np.sqrt((W * W).sum(0) * (Wa * Wa).sum(0))
        here = d.correlation.isel(reading=reading, eta=eta, gamma=g, run=run)
        np.testing.assert_allclose(here, cosine, atol=2e-4)
    assert 0 not in d.time and "beta" in d.attrs


def test_fig8_every_surviving_direction_ends_at_p_plus():
    """The end state is symmetric with eigenvalues 0 and p₊ only, so ‖W_p‖² is a whole number of p₊²."""
    d = tian2021_networks.compute_fig8(taus=(0.2, 0.7, 1.0), etas=(0.05,), n=3, runs=2, t=(0, 300, 4)).isel(eta=0)
    h = Hyperparameters(eta=0.05, tau=np.array([0.7, 1.0]))
    alive = (d.symmetric.isel(time=-1, tau=[1, 2]).values / fixed_points(h).p_plus[:, None]) ** 2
    np.testing.assert_allclose(alive, np.round(alive), atol=1e-4)
    assert np.all(d.symmetric.isel(time=-1, tau=0) < 1e-6)  # τ = 0.2 < 2√(ηa): collapse
    assert np.all(d.skew.isel(time=-1) < 1e-4) and np.all(d.skew.diff("time") <= 1e-12)


def test_fig9_scale_free_misalignment_sees_what_the_norm_does_not():
    d = tian2021_networks.compute_fig9(n=4, runs=2, t=(0, 100, 21))
    assert float(d.relative.max()) <= np.sqrt(2)
    collapsed = d.sel(eta=0.05, tau=0.2).isel(time=-1)
    assert np.all(collapsed.absolute < 1e-6) and np.all(collapsed.relative > 1e-2)
    growing = d.sel(eta=0.001, tau=1.0)
    assert np.all(growing.absolute.max("time") > 2 * growing.absolute.isel(time=0))
    assert np.all(growing.relative.isel(time=-1) < 1e-3 * growing.relative.isel(time=0))


@pytest.mark.parametrize(
    "name, centre, expected",
    [("tied", 0.5, np.array([-3 - 5**0.5, -3 + 5**0.5]) / 4), ("absent", 0.0, -1 + np.array([-1, 1]) * 0.5**0.5)],
)
def test_fig10_linearisations(name, centre, expected):
    """Golden fact G15, from central differences of the drawn field."""
    step = 1e-4
    d = tian2021.compute_fig10(span=(centre - step, centre + step, 3))
    field = np.stack([d[f"{name}_dx"].values, d[f"{name}_dy"].values])
    jacobian = np.stack([(field[:, 1, 2] - field[:, 1, 0]), (field[:, 2, 1] - field[:, 0, 1])], axis=1) / (2 * step)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(jacobian)), expected, atol=1e-6)
    assert np.abs(field[:, 1, 1]).max() < 1e-14


def test_fig10_shading_is_what_happens():
    """Tied: w ≤ 0 collapses and w > 0 reaches (½, ½); the shaded half-plane and the dot say so."""
    d = tian2021.compute_fig10(span=(-1.5, 1.5, 4))
    w, wa = (np.ravel(v) for v in np.meshgrid([-1.5, -0.4, 0.2, 1.5], [-1.5, 0.3, 1.5]))
    h = Hyperparameters(sigma2=1.0, eta=0.0, beta=1.0, x=0.5)
    end = integrate(scalar_network_flow, ScalarNetwork(w, w, wa), h, t=120.0).state
    assert d.alive == pytest.approx(0.5)
    np.testing.assert_allclose(end.w[w > 0], 0.5, atol=1e-6)
    assert np.all(np.abs(end.w[w < 0]) < 0.02) and np.all(end.w[w < 0] <= 0)


@pytest.mark.parametrize("p0, sigma2", [(0.15, 0.0), (0.15, 1.9), (0.45, 0.0), (0.45, 3.0), (1.4, 0.5)])
def test_border_eta_is_where_p0_meets_p_minus(p0, sigma2):
    h = Hyperparameters(sigma2=sigma2, tau=0.9, x=1.3)
    border = talks.border_eta(p0, h)
    below, above = (fixed_points(h.replace(eta=border * factor)).p_minus for factor in (1 - 1e-6, 1 + 1e-6))
    assert below < p0 and not p0 > above  # NaN above the critical weight decay


def test_talk_decay_augmentation_fates_are_those_of_theory():
    d = small("talk-decay-augmentation")
    p_minus = fixed_points(Hyperparameters(eta=d.eta.values[:, None], sigma2=d.sigma2.values)).p_minus
    decided = (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[decided], (d.attrs["p0"] > p_minus)[decided])
    line = np.interp(d.sigma2, d.boundary_sigma2, d.boundary_eta)
    np.testing.assert_array_equal((d.fate == 0).values[decided], (d.eta.values[:, None] < line)[decided])
    assert decided.mean() > 0.99 and 0.2 < float((d.fate == 0).mean()) < 0.8
    tangent = d.boundary_eta == d.critical_eta
    assert tangent.any() and (d.boundary_eta <= d.critical_eta).all() and not tangent.all()


def test_talk_ema_border_divides_the_fates_of_the_scalar_network():
    d = small("talk-ema-decay")
    line = np.interp(np.log(d.beta), np.log(d.boundary_beta), d.boundary_eta)
    below = d.eta.values[:, None] - line
    clear = (np.abs(below) > d.attrs["boundary_width"]) & (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[clear], (below < 0)[clear])
    assert clear.mean() > 0.9 and np.all(np.diff(d.boundary_eta) > 0)
    assert float(d.boundary_eta.max()) < d.attrs["fixed_target"] and "tau" not in d.attrs
    for k, side in itertools.product((0, 4, 8), (-1, 1)):
        eta, beta = float(d.boundary_eta[k]) + side * d.attrs["boundary_width"], float(d.boundary_beta[k])
        h = Hyperparameters(eta=eta, beta=beta)
        end = solve_ivp(
            lambda _, y, h=h: np.array(scalar_network_flow(ScalarNetwork(*y), h)),
            (0, 1500), [0.3, 0.3, 0.0], method="DOP853", rtol=1e-9, atol=1e-12,
        ).y[:, -1]  # fmt: skip
        assert end[0] == pytest.approx(0.0 if side > 0 else float(fixed_points(h.replace(beta=None)).p_plus), abs=1e-3)


def test_talk_directpred_pairs_are_what_all_modes_together_give():
    d, h = small("talk-directpred-spectrum"), Hyperparameters()
    modes, start = h.replace(x=np.append(1.0, d.x.values)), np.append(d.leading_r0, np.full(d.x.size, d.r0))
    epsilon = d.epsilon.values[:, None]
    whole = integrate(
        closed_loop_flow, Amplitudes(start), modes, directpred_spectrum, "views", epsilon, t=d.t, event_dims=1
    )
    np.testing.assert_allclose(d.s, whole.state.r[:, 1:] ** 2, atol=1e-6)


def test_talk_directpred_fates_limits_and_line():
    """The settled leading mode from a quadratic, and what grows beside it from the sign of x p(1 − a p) − η at ε q."""
    d, h = small("talk-directpred-spectrum"), Hyperparameters()
    p_top = float(fixed_points(h).p_plus)

    def growth(epsilon, x):
        root = np.array([np.roots([e, 1, -p_top]).max() for e in np.ravel(epsilon)]).reshape(np.shape(epsilon))
        p = epsilon * root**2
        return p, x * p * (1 - h.a * p) - h.eta

    p, rate = growth(d.epsilon.values[:, None], d.x.values)
    decided = (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[decided], (rate > 0)[decided])
    assert decided.mean() > 0.9 and np.all(np.abs(rate)[~decided] < 0.004)
    edge = np.isfinite(d.boundary_epsilon.values)
    np.testing.assert_allclose(growth(d.boundary_epsilon.values[edge], d.boundary_x.values[edge])[1], 0, atol=1e-9)
    own = np.broadcast_to(fixed_points(h.replace(x=d.x.values)).p_plus, rate.shape)
    settled = rate > 0.03
    np.testing.assert_allclose(d.s.values[settled], ((own - p)[settled] ** 2) / h.a, rtol=1e-4, atol=1e-6)
