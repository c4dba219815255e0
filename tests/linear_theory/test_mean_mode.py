"""When the centre dies and when it wins: closed forms against the flows, outcomes of sweeps, and their commands."""

import json
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.__main__ import COMMANDS
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.exact.mean_mode import (
    can_live,
    centre_border,
    least_augmented,
    least_variance,
    naive_rates,
    settled_centre,
    settled_shares,
)
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.mean import Centre, MeanHyperparameters, cosine_centre_flow, cosine_mode_flow
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, UNDECIDED
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.outcomes import End
from stopgrad.linear_theory.sweeps.axes import Axis
from stopgrad.linear_theory.sweeps.centre_problem import (
    BOTH,
    CENTRE_ALONE,
    CENTRE_PROBLEMS,
    NOTHING,
    RESIDUAL_ALONE,
    centre_length,
    cosine_outcome,
    mean_share,
    survivors,
)
from stopgrad.linear_theory.sweeps.phase_diagram import phase_diagram
from stopgrad.linear_theory.tools.door import main


def fate_at(problem, t, **changes):
    """Where the flow of a problem is at time t, and its hyperparameters; without a compiler's minute."""
    h = problem.h.replace(**changes)
    return integrate(problem.flow, problem.start, h, t=t, tolerance=1e-7, compiled=False).state, h


# ---------------------------------------------------------------- squared loss


@given(st.floats(0.01, 0.6), st.floats(0, 3), st.floats(0.2, 1), st.floats(0.3, 3))
def test_the_least_variance_is_where_its_critical_weight_decay_is_the_given_one(eta, sigma2, tau, x):
    h = MeanHyperparameters(sigma2, eta, tau, x=x)
    least = least_variance(h)
    assert critical_eta(h.as_mode(least)) == pytest.approx(eta, rel=1e-10)
    border = centre_border(h.replace(x_mean=0.1))
    assert border**2 + 0.1 == pytest.approx(max(least, 0.1), rel=1e-10)


@pytest.mark.parametrize("bias", [False, True])
def test_the_squared_loss_keeps_the_modes_that_can_live(bias):
    """Over ‖μ‖ and σ² all four outcomes: nothing, the centre alone, residual modes alone, both."""
    problem = CENTRE_PROBLEMS["squared-linear-bias" if bias else "squared-linear"]
    mu, sigma2 = np.array([[0.3], [0.9], [2.0]]), np.array([0.1, 1.4, 6.0])
    h = problem.h.replace(mu=mu, sigma2=sigma2, x_mean=0.6 * bias, eta=0.08, alpha_b=5.0 * bias)
    start = Centre(0.5, 1.5, 0.0, 0.5, 1.5)
    end = integrate(problem.flow, start, h, t=200.0, tolerance=1e-4, compiled=False).state
    centre, residual = can_live(h, bias)
    expected = np.broadcast_to(centre * CENTRE_ALONE + residual * RESIDUAL_ALONE, (3, 3))
    assert set(np.unique(expected)) == ({NOTHING, RESIDUAL_ALONE, BOTH} if bias else set(range(4)))
    assert (survivors(end, h, relative=False) == expected).all()
    if not bias:  # both modes rest at the fixed points of Tian et al.
        p_plus = np.broadcast_to(fixed_points(h.mean_mode()).p_plus, (3, 3))
        np.testing.assert_allclose(end.p[expected % 2 == 1], p_plus[expected % 2 == 1], atol=1e-4)


@pytest.mark.parametrize("name", ["squared-none", "squared-bias"])
def test_without_a_predictor_s_matrix_the_squared_loss_keeps_nothing_and_turns_nothing(name):
    """W′ = −W(X′ + η): a bias has nothing to do, b* = 0, and directions stay where all augmentation is alike."""
    problem = CENTRE_PROBLEMS[name]
    before = centre_length(problem.start, problem.h.replace(mu=3.0, sigma2=0.7))
    end, h = fate_at(problem, 12.0, mu=3.0, sigma2=0.7)
    assert end.w == pytest.approx(problem.start.w * math.exp(-12 * (0.7 + h.eta)), rel=1e-4)
    assert end.b == 0 and centre_length(end, h) == pytest.approx(before, rel=1e-5)


# ---------------------------------------------------------------- cosine loss


@pytest.mark.parametrize("sigma2", [0.1, 1.5])
def test_without_predictor_the_least_augmented_mode_wins(sigma2):
    """The centre from ‖μ‖² + x_μ = x on, whatever the augmentation: complete collapse, m_o → 1 as x′/‖μ‖² → 0."""
    problem = CENTRE_PROBLEMS["cosine-none"]
    for mu, x_mean, wins in ((0.8, 0.2, False), (1.0, 0.2, True), (6.0, 0.0, True)):
        end, h = fate_at(problem, 3e4, mu=mu, x_mean=x_mean, sigma2=sigma2)
        assert (mean_share(end, h) > 0.99) == wins and (mean_share(end, h) < 0.01) == (not wins)
        assert bool(least_augmented([h.mean_variance, h.x], h.xp) == 0) == wins
    assert centre_length(end, h) == pytest.approx(math.sqrt(36 / (36 + sigma2)), rel=2e-3)


def test_naive_rates_are_the_flow_s_and_a_settled_bias_takes_the_mean_out_of_them():
    h = MeanHyperparameters(0.6, 0.0, alpha_p=0.0, mu=5.0, x_mean=0.3, directions=30.0)
    state = Centre(1.0, 0.8, 0.0, 1.0, 1.2)
    w = np.r_[state.w, np.full(30, state.v)]
    for settled in (False, True):
        x = np.r_[h.x_mean if settled else h.mean_variance, np.ones(30)]
        rates = naive_rates(x, 0.6, w)
        if settled:
            rho = np.sum(x * w * w) / np.sum((x + 0.6) * w * w)
            state = state._replace(b=(1 / rho - 1) * centre_length(state, h))
        flow = cosine_centre_flow(state, h)
        c = (flow.v / state.v) / rates[1]
        assert c > 0 and flow.w / state.w == pytest.approx(c * rates[0], rel=1e-9)
        assert np.sum(rates * w * w) == pytest.approx(0, abs=1e-9)
    assert flow.b == pytest.approx(0, abs=1e-12)


def test_a_bias_alone_saves_from_the_centre_and_not_the_rank():
    """It stops the centre's growth, which then dies beside residual modes; of these the one augmented least wins."""
    naive, _ = fate_at(CENTRE_PROBLEMS["cosine-none"], 2e3, mu=6.0, sigma2=0.5)
    saved, h = fate_at(CENTRE_PROBLEMS["cosine-bias"], 2e3, mu=6.0, sigma2=0.5)
    assert centre_length(naive, h) > 0.97 and centre_length(saved, h) < 0.2
    middle, _ = fate_at(CENTRE_PROBLEMS["cosine-bias"], 40.0, mu=6.0, sigma2=0.5)
    assert abs(middle.w - 1) < 0.2  # held where it is while the naive one has won
    assert middle.b == pytest.approx(0.5 * centre_length(middle, h), rel=0.05)  # b* = (1/ρ − 1) o_z, ρ = 1/1.5

    x, w = np.array([0.0, 1.0, 0.9]), np.ones(3)  # beside a settled bias; W by its rates
    for _ in range(4000):
        w = w * np.exp(0.05 * naive_rates(x, 0.5, w))
    share = (x + 0.5) * w * w / np.sum((x + 0.5) * w * w)
    assert share[1] > 0.99


def test_a_learned_predictor_keeps_every_mode_at_the_square_of_its_shrinkage():
    """e_j ∝ (x_j + x_j′)[x_j/(x_j + x_j′)]²: de-centring and de-correlation are one rule, the mean a mode of it."""
    x, xp = np.array([16.0, 2.0, 1.0, 1.0, 0.5]), np.array([0.5, 0.5, 0.1, 1.0, 0.5])
    h = Hyperparameters(sigma2=xp / x, eta=0.0, x=x)
    end = integrate(cosine_mode_flow, Mode(np.ones(5), x), h, t=1500.0, event_dims=1, tolerance=1e-8, compiled=False)
    p, s = end.state
    np.testing.assert_allclose(p * h.a / (p[0] * h.a[0]), 1, rtol=1e-5)
    energy = h.a * s
    np.testing.assert_allclose(energy / energy.sum(), settled_shares(x, xp), rtol=1e-4)
    data = (x + xp) / np.sum(x + xp)
    gain = energy / energy.sum() / data
    np.testing.assert_allclose(gain / gain[0], ((x / (x + xp)) / (x[0] / (x[0] + xp[0]))) ** 2, rtol=1e-4)


def test_m_o_of_the_settled_network():
    problem = CENTRE_PROBLEMS["cosine-linear"]
    mu, sigma2 = np.array([[1.0], [4.0], [9.0]]), np.array([0.2, 1.0])
    h = problem.h.replace(mu=mu, sigma2=sigma2, x_mean=0.5)
    end = integrate(problem.flow, problem.start, h, t=1e3, tolerance=1e-7, compiled=False).state
    np.testing.assert_allclose(centre_length(end, h), settled_centre(h), rtol=1e-4)
    assert (survivors(end, h, relative=True)[1:] == BOTH).all()


def test_a_slow_predictor_that_starts_large_loses_the_residual():
    """Where W_p outweighs W, p has not fallen to 1/(κa) by the time that W has lost a mode: the centre wins."""
    problem = CENTRE_PROBLEMS["cosine-linear"]
    h = problem.h.replace(mu=6.0, sigma2=1.5)
    start, shares = problem.start._replace(w=0.5, v=0.5), []
    for alpha_p in (1.0, 0.01):
        end = integrate(problem.flow, start, h.replace(alpha_p=alpha_p), t=1e3, tolerance=1e-6, compiled=False).state
        shares.append(float(mean_share(end, h)))
    assert shares[0] < 0.9 and shares[1] > 0.999


# ---------------------------------------------------------------- outcomes and commands


def test_outcomes_of_the_cosine_loss():
    h = MeanHyperparameters(mu=3.0, directions=10.0)
    state = Centre(*np.ones((5, 5)))._replace(w=np.array([1.0, 50.0, 0.01, 0.01, 1.0]))
    slope = Centre(*np.zeros((5, 5)))._replace(w=np.array([0.0, 1.0, -1e-3, 1e-3, 1e-2]))
    found = cosine_outcome(End(state, slope, np.ones(5)), h)
    assert found.tolist() == [ALIVE, COLLAPSED, ALIVE, UNDECIDED, UNDECIDED]
    assert survivors(state, h, relative=True).tolist() == [BOTH, CENTRE_ALONE, RESIDUAL_ALONE, RESIDUAL_ALONE, BOTH]


def test_a_diagram_says_who_survives():
    mu, noise = Axis("mu", [0.8, 1.2, 3.0]), Axis("sigma2", [0.3, 1.2])
    diagram = phase_diagram(mu, noise, CENTRE_PROBLEMS["cosine-none"])
    assert (diagram.fate.values == [[ALIVE, COLLAPSED, COLLAPSED]] * 2).all()
    assert (diagram.survivors.values == [[RESIDUAL_ALONE, CENTRE_ALONE, CENTRE_ALONE]] * 2).all()
    assert (diagram.m_o.sel(mu=3.0) > 0.9).all() and diagram.attrs["flow"] == "cosine_centre_flow"


def call(capsys, *argv):
    status = main("linear_theory", "test", COMMANDS, [str(v) for v in argv])
    return status, *capsys.readouterr()


def test_the_commands_on_a_mode_take_flows_of_the_centre(capsys, tmp_path):
    file, flow = tmp_path / "centre.nc", ("--flow", "cosine-none", "--set", "x_mean=0.19")
    status, out, err = call(
        capsys, "phase", *flow, "--x", "mu=0.5:1.5:3", "--y", "sigma2=0.2:1:2", "--out", file, "--json"
    )
    assert status == 0, err
    assert json.loads(out)["collapsed"] == 4 and json.loads(out)["alive"] == 2
    with xr.open_dataset(file) as data:
        assert {"m_o", "survivors", "boundary_mu"} <= set(data) and data.attrs["x_mean"] == 0.19
    status, out, err = call(
        capsys, "boundary", *flow, "--x", "sigma2=0.3:0.9:2", "--y", "mu=0.5:1.5:3", "--width", "0.1", "--json"
    )
    assert status == 0, err
    for crossing in json.loads(out)["crossings"]:  # ‖μ‖² + x_μ = x
        assert crossing["lower"] <= 0.9 <= crossing["upper"]
    status, out, err = call(
        capsys, "basin-fraction", "--flow", "cosine-none", "--along", "mu=0.5:2:2", "--n", "20", "--json"
    )
    assert status == 0, err
    assert json.loads(out)["alive"]["fraction"] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["phase", "--flow", "cosine"], "flow is 'cosine'; it must be one of mode, squared-none"),
        (["phase", "--flow", "cosine-none", "--eta", 0.1], "a hyperparameter's flag belongs to --flow mode"),
        (["phase", "--flow", "cosine-none", "--s0", 0.1], "--s0 belongs to --flow mode"),
        (["phase", "--set", "mu=1"], "--set belongs to another --flow"),
        (["phase", "--flow", "cosine-none", "--x", "beta2=0:1:3"], "axis 'beta2' is unknown"),
        (["boundary", "--flow", "cosine-none", "--exact"], "--exact belongs to --flow mode"),
        (["boundary", "--flow", "cosine-none", "--set", "nu=1"], "'nu' is unknown; choose one of sigma2"),
        (["boundary", "--flow", "cosine-none", "--set", "mu=much"], "is not of the form NAME=NUMBER"),
        (["boundary", "--flow", "cosine-none", "--set", "mu=-1"], "mu is -1; it must be finite and at least 0"),
        (["phase", "--flow", "cosine-none", "--x", "mu=-1:1:3", "--y", "sigma2=0:1:3"], "mu is -1"),
        (["basin-fraction", "--flow", "cosine-none", "--along", "p0=0:1:3"], "axis 'p0' is unknown"),
    ],
)
def test_what_does_not_fit_a_flow_is_refused_in_a_sentence(capsys, tmp_path, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *argv)
    assert status == 2 and out == ""
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
