"""Fixed points along a parameter: roots of the flow, with the stability that a simulation shows."""

import numpy as np
import pytest
import xarray as xr

from stopgrad.linear_theory.exact.branches import BRANCHES, VERDICTS, branches, stability
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Aligned, Correlations, Network, network_flow, symmetrised_flow
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    ema_mode_flow,
    mode_flow,
    scalar_network_flow,
)

SWEEPS = [
    ("eta", np.linspace(0.002, 0.26, 11), Hyperparameters(), "mode"),
    ("eta", np.linspace(0.01, 0.4, 9), Hyperparameters(alpha_p=3.0, eta_p=0.02, x=1.7), "mode"),
    ("sigma2", np.linspace(0.0, 2.9, 9), Hyperparameters(eta=0.1, alpha_p=0.5), "mode"),
    ("tau", np.linspace(0.2, 1.0, 9), Hyperparameters(), "mode"),
    ("eta_p", np.geomspace(1e-3, 1.0, 7), Hyperparameters(), "mode"),
    ("alpha_p", np.geomspace(0.1, 10, 5), Hyperparameters(eta=0.1), "mode"),
    ("x", np.linspace(0.1, 2, 7), Hyperparameters(eta=0.1), "mode"),
    ("eta", np.linspace(0.01, 0.26, 8), Hyperparameters(beta=0.12), "ema"),
    ("beta", np.geomspace(0.01, 5, 8), Hyperparameters(alpha_p=2.0), "ema"),
    ("alpha_p", np.geomspace(0.1, 10, 5), Hyperparameters(eta=0.1, eta_p=0.03, beta=0.3), "ema"),
]
each_sweep = pytest.mark.parametrize("parameter, values, h, flow", SWEEPS)
FLOWS = {"mode": (mode_flow, Mode), "ema": (ema_mode_flow, EmaMode)}


def states(found, flow):
    function, record = FLOWS[flow]
    return function, record(*(found[name].values for name in record._fields))


def eigenvalues(found):
    return found.eigenvalues.sel(part="real").values + 1j * found.eigenvalues.sel(part="imaginary").values


def rk4(flow, state, h, dt, steps):
    """Classical Runge–Kutta with a step per element."""
    for _ in range(steps):
        k1 = flow(state, h)
        k2 = flow(type(state)(*(v + dt / 2 * k for v, k in zip(state, k1))), h)
        k3 = flow(type(state)(*(v + dt / 2 * k for v, k in zip(state, k2))), h)
        k4 = flow(type(state)(*(v + dt * k for v, k in zip(state, k3))), h)
        state = type(state)(*(v + dt / 6 * sum(k) for v, *k in zip(state, k1, k2, k2, k3, k3, k4)))
    return state


@each_sweep
def test_every_branch_point_is_a_root_of_the_flow(parameter, values, h, flow):
    found = branches(parameter, values, h, flow)
    function, state = states(found, flow)
    rates = np.stack(function(state, h.replace(**{parameter: values[:, None]})))
    present = found.stable.values != VERDICTS["absent"]
    assert np.abs(rates[:, present]).max() < 1e-15 * max(1, *(np.abs(v[present]).max() ** 3 for v in state)) * 10
    assert (np.isnan(rates).any(axis=0) == ~present).all()
    exists = np.asarray(h.replace(**{parameter: values}).eta) <= critical_eta(h.replace(**{parameter: values}))
    assert (present[:, 1:] == np.broadcast_to(exists, values.shape)[:, None]).all() and exists.any()


@each_sweep
def test_stability_is_what_a_small_disturbance_does(parameter, values, h, flow):
    found = branches(parameter, values, h, flow)
    function, state = states(found, flow)
    present = found.stable.values != VERDICTS["absent"]
    growth = eigenvalues(found).real[..., -1]
    fastest = np.abs(eigenvalues(found)).max(axis=-1)
    time = np.where(present, np.where(growth > 0, 12, 20) / np.abs(growth), 0.0)
    steps = int(np.nanmax(time * fastest)) + 10
    dt = time / steps

    rng = np.random.default_rng(0)
    state = type(state)(*(np.where(present, v, 0.0) for v in state))
    nudged = type(state)(*(v + 1e-9 * rng.uniform(0.2, 1, v.shape) for v in state))
    later = rk4(function, nudged, h.replace(**{parameter: values[:, None]}), dt, steps)
    distance = [np.sqrt(sum((a - b) ** 2 for a, b in zip(s, state))) for s in (nudged, later)]
    stable = found.stable.values == VERDICTS["stable"]
    assert (distance[1] < 0.1 * distance[0])[stable].all()
    assert (distance[1] > 10 * distance[0])[present & ~stable].all()
    assert set(found.stable.values[present]) == {0, 1}


@pytest.mark.parametrize("h", [Hyperparameters(), Hyperparameters(alpha_p=7.0, x=2.0, tau=0.7, sigma2=1.3)])
def test_eigenvalues_are_the_closed_forms(h):
    eta = np.linspace(0.01, 0.99, 23) * float(critical_eta(h))
    found = branches("eta", eta, h)
    for j, name in enumerate(BRANCHES[1:], 1):
        p = found.p.sel(branch=name).values
        exact = np.sort(np.stack([-2 * eta, -(h.x * h.tau * p - 2 * eta)], axis=-1), axis=-1)
        assert np.abs(eigenvalues(found)[:, j] - exact).max() < 1e-13
    assert np.allclose(eigenvalues(found)[:, 0], np.stack([-2 * eta, -eta], axis=-1), rtol=1e-14)
    unequal = branches("eta", eta, h.replace(eta_p=0.3))
    points = fixed_points(h.replace(eta=eta, eta_p=0.3))
    assert np.allclose(eigenvalues(unequal)[:, 2], points.eigenvalues_plus, rtol=1e-11)
    assert np.allclose(eigenvalues(unequal)[:, 1], points.eigenvalues_minus, rtol=1e-11)


def test_the_ema_target_of_a_collapsing_encoder_lags_at_a_ratio_above_one():
    h = Hyperparameters(beta=0.3)
    eta = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    found = branches("eta", eta, h, "ema")
    tau = found.tau.sel(branch="collapsed").values
    assert np.allclose(tau[:3], [1, 1.5, 3]) and np.isnan(tau[3:]).all()
    assert np.allclose(eigenvalues(found)[1, 0], [-0.2, -0.2, -0.1])
    # The same ratio from the weights themselves, long after they began to shrink.
    start = ScalarNetwork(np.full(2, 1e-4), np.full(2, 1e-4), np.full(2, 1e-4))
    later = rk4(scalar_network_flow, start, h.replace(eta=eta[1:3]), 0.1, 2500)
    assert np.allclose(later.wa / later.w, tau[1:3], rtol=1e-6)


def test_without_decay_and_at_the_fold_the_linearisation_does_not_decide():
    h = Hyperparameters()
    found = branches("eta", [0.0, float(critical_eta(h))], h)
    assert found.stable.values.tolist() == [[2, 2, 2], [1, 2, 2]]
    assert found.p.values[1, 1] == found.p.values[1, 2]


def test_the_jacobian_is_that_of_complex_steps_over_a_batch():
    rng = np.random.default_rng(1)
    shape = (4, 3)
    h = Hyperparameters(sigma2=rng.uniform(0, 1, shape), eta=rng.uniform(size=(3,)), beta=0.3, alpha_p=2.0)
    state = EmaMode(rng.normal(size=shape), rng.uniform(size=(4, 1)), 0.5)
    found = stability(ema_mode_flow, state, h)
    assert found.jacobian.shape == (4, 3, 3, 3) and found.eigenvalues.shape == (4, 3, 3)
    for j in range(3):
        stepped = EmaMode(*(v + 1e-30j * (i == j) for i, v in enumerate(state)))
        column = np.stack(np.broadcast_arrays(*ema_mode_flow(stepped, h)), axis=-1).imag / 1e-30
        assert np.allclose(found.jacobian[..., j], column, rtol=1e-13, atol=1e-14)


def test_golden_fact_15():
    """Fig. 10 (λ_s = 1, λ_d = 1/2): the tied non-collapsed point, with one neutral direction along w_p against w."""
    h = Hyperparameters(sigma2=1.0, x=0.5, eta=0.0, beta=1.0)
    found = stability(scalar_network_flow, ScalarNetwork(0.5, 0.5, 0.5), h)
    assert np.allclose(found.eigenvalues, [(-3 - 5**0.5) / 4, (-3 + 5**0.5) / 4, 0], atol=1e-14)
    assert found.verdict == VERDICTS["marginal"]


@pytest.mark.parametrize("eta", [0.03, 0.1, 0.2])
def test_matrix_flows_have_a_stability_too(eta):
    """Symmetrised flow at W_p = p I, F = s I: every mode's eigenvalues, and zeros along skew W_p, which it ignores."""
    h = Hyperparameters(eta=eta)
    points = fixed_points(h)
    identity = np.eye(3)
    for p, s, modes, verdict in (
        (points.p_plus, points.s_plus, points.eigenvalues_plus, VERDICTS["marginal"]),
        (points.p_minus, points.s_minus, points.eigenvalues_minus, VERDICTS["unstable"]),
    ):
        found = stability(symmetrised_flow, Aligned(p * identity, s * identity), h, event_dims=2)
        assert found.jacobian.shape == (18, 18) and found.verdict == verdict
        growing = found.eigenvalues.real[found.eigenvalues.real > 1e-9]
        assert np.allclose(growing, modes[modes > 0].repeat(6))
        assert np.abs(found.eigenvalues[:, None] - modes).min(axis=0).max() < 1e-7
    data = Correlations(identity, 0.1 * identity)
    batch = np.zeros((2, 3, 3))
    found = stability(network_flow, Network(batch, batch, batch), data, h, event_dims=2)
    assert found.verdict.tolist() == [2, 2]  # the target's weights are not part of the dynamics of a shared target
    assert np.allclose(np.unique(found.eigenvalues.real.round(12)), [-eta, 0])


def test_the_dataset_says_what_it_holds_and_survives_netcdf(tmp_path):
    found = branches("eta", [0.04, 0.1], Hyperparameters(beta=0.5), "ema")
    assert found.p.dims == found.stable.dims == ("eta", "branch") and found.stable.dtype == np.int8
    assert found.sizes == {"eta": 2, "branch": 3, "eigenvalue": 3, "part": 2}
    assert found.stable.attrs["flag_meanings"] == "unstable stable marginal absent"
    assert found.stable.attrs["flag_values"].tolist() == [0, 1, 2, -1]
    assert found.attrs == {"flow": "ema_mode_flow", "sigma2": 0.1, "alpha_p": 1.0, "beta": 0.5, "x": 1.0}
    found.to_netcdf(tmp_path / "branches.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "branches.nc", engine="scipy") as again:
        xr.testing.assert_allclose(again.drop_vars(("branch", "part")), found.drop_vars(("branch", "part")))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("gamma", [0.1], Hyperparameters()), "the mode flow has sigma2, eta, tau"),
        (("beta", [0.1], Hyperparameters()), "parameter is 'beta'"),
        (("tau", [0.1], Hyperparameters(beta=1.0), "ema"), "parameter is 'tau'"),
        (("eta", [0.1], Hyperparameters(), "ema"), "beta must be above 0"),
        (("beta", [0.0, 0.1], Hyperparameters(), "ema"), "beta must be above 0"),
        (("eta", [0.1, np.nan], Hyperparameters()), "eta is nan"),
        (("eta", [[0.1]], Hyperparameters()), "list"),
        (("eta", [], Hyperparameters()), "list"),
        (("eta", [0.1], Hyperparameters(sigma2=np.ones(2))), "sigma2 is an array"),
        (("eta", [0.1], Hyperparameters(), "wave"), "flow is 'wave'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        branches(*arguments)
