"""Phase diagrams: their labels, their cells against the exact theory, their border, and what they refuse."""

import numpy as np
import pytest

from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.discrete import largest_stable_lr
from stopgrad.linear_theory.exact.fixed_points import critical_eta, rest_points
from stopgrad.linear_theory.exact.time_course import limit
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, DIVERGED, UNDECIDED
from stopgrad.linear_theory.simulation.trajectory import trajectory
from stopgrad.linear_theory.sweeps.axes import make_axis, parse_axis
from stopgrad.linear_theory.sweeps.mode_problem import Descent, Problem, Start
from stopgrad.linear_theory.sweeps.phase_diagram import boundary, check, phase_diagram

H = Hyperparameters()
ETA = parse_axis("eta=0.01:0.29:6")
P0 = parse_axis("p0=0.055:0.95:5")


def test_cells_are_labelled_and_agree_with_the_closed_form():
    data = phase_diagram(ETA, P0, Problem(H))
    assert data.fate.dims == ("p0", "eta") and data.fate.dtype == np.int8
    assert data.fate.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert data.fate.attrs["flag_meanings"] == "alive collapsed undecided diverged"
    expected = limit(P0.values[:, None], H.replace(eta=ETA.values))
    assert (data.fate == np.where(expected > 0, ALIVE, COLLAPSED)).all()
    np.testing.assert_allclose(data.p, expected, atol=1e-12)
    np.testing.assert_allclose(data.s, expected**2, atol=1e-12)
    assert data.K_sign.dtype == np.int8 and set(np.unique(data.K_sign)) <= {-1, 0, 1}
    assert data.attrs["worst_error"] < 1e-5 and data.attrs["sigma2"] == 0.1 and "eta" not in data.attrs


def test_the_border_parts_the_simulated_fates():
    data, line = phase_diagram(ETA, P0, Problem(H)), boundary(ETA, P0, Problem(H))
    assert line.boundary_p0.attrs["kind"] == "analytic"
    eta, p0 = line.boundary_eta.values, line.boundary_p0.values
    below = np.isfinite(p0) & (eta < 0.99 * critical_eta(H))  # past it the border is the line η = η_c
    assert below.any()
    np.testing.assert_allclose(p0[below], rest_points(H.replace(eta=eta[below])).p_minus, atol=1e-3)
    for at, border in zip(eta[below], p0[below]):
        for column in data.fate.values[:, np.isclose(ETA.values, at)].T:
            decided = column != UNDECIDED
            assert ((column == ALIVE) == (P0.values > border))[decided].all()


def test_a_log_axis_of_s0_meets_the_separatrix():
    s0 = parse_axis("s0=1e-4:1e-1:5:log")
    assert s0.log and np.allclose(np.diff(np.log(s0.values)), np.log(1e3) / 4)
    p0 = make_axis("p0", -0.2, 0.02, 3)
    data = phase_diagram(p0, s0, Problem(H))
    assert data.s0.attrs["scale"] == "log"
    expected = s0.values[:, None] > critical_s0(p0.values, H)
    assert ((data.fate == ALIVE) == expected).values[data.fate.values != UNDECIDED].all()


def test_a_spectrum_is_counted_mode_by_mode():
    spectrum = [1.0, 0.5, 0.2]
    eta = make_axis("eta", 0.013, 0.2, 4)
    data = phase_diagram(eta, P0, Problem(H), spectrum)
    p0 = P0.values[:, None]
    count = sum(limit(p0, Hyperparameters(0.1 / x, eta.values, x=x)) > 0 for x in spectrum)
    assert (data.surviving_modes == count).all() and count.max() > count.min()


def test_until_t_end_it_is_the_trajectory():
    data = phase_diagram(ETA, P0, Problem(H, t_end=7.0))
    p0 = P0.values[:, None]
    exact = trajectory(Mode(p0, p0**2), H.replace(eta=ETA.values), 7.0).state
    np.testing.assert_allclose(data.p, exact.p, atol=1e-6)
    np.testing.assert_allclose(data.s, exact.s, atol=1e-6)


def test_descent_diverges_beyond_the_largest_stable_rate():
    rest = rest_points(H)
    largest = float(largest_stable_lr(H))
    lr = make_axis("lr", 0.2 * largest, 8 * largest, 3)
    start = Start(p0=float(rest.p_plus) * 1.01, s0=float(rest.s_plus))
    data = phase_diagram(lr, make_axis("momentum", 0.0, 0.1, 2), Problem(H, start, Descent(np.nan, steps=1500)))
    assert data.fate[0, 0] == ALIVE and data.fate[0, -1] in (COLLAPSED, UNDECIDED, DIVERGED)
    assert np.isnan(data.p.values[data.fate.values == DIVERGED]).all()
    assert data.attrs["method"] == "gradient descent"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eta", "not of the form"),
        ("eta=0:1", "not of the form"),
        ("eta=0:1:3:lin", "not of the form"),
        ("eta=a:1:3", "must be numbers"),
        ("eta=0:1:2.5", "whole number"),
        ("zeta=0:1:3", "unknown"),
        ("eta=1:0:3", "low must be below high"),
        ("eta=nan:1:3", "low must be below high"),
        ("eta=0:1:1", "at least 2"),
        ("eta=0:1:3:log", "start above 0"),
    ],
)
def test_axes_that_make_no_sense_are_refused(text, said):
    with pytest.raises(ValueError, match=said) as refused:
        parse_axis(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("x", "y", "problem", "said"),
    [
        ("eta=0:1:3", "eta=0:1:3", Problem(H), "both axes are eta"),
        ("momentum=0:0.9:3", "eta=0:1:3", Problem(H), "needs a learning rate"),
        ("lr=0.1:1:3", "eta=0:1:3", Problem(H, t_end=3.0), "t_end belongs to the flow"),
        ("eta=-1:1:3", "p0=0:1:3", Problem(H), "eta is -1"),
        ("tau=0.1:1:3", "p0=0:1:3", Problem(H.replace(beta=0.1)), "tau moves"),
        ("tau0=0:1:3", "p0=0:1:3", Problem(H), "give beta too"),
        ("s0=-1:1:3", "p0=0:1:3", Problem(H), "at least 0"),
        ("lr=0:1:3", "p0=0:1:3", Problem(H), "above 0"),
        ("eta=0:1:3", "sigma2=0:1:3", Problem(H, Start(np.nan)), "finite number"),
        ("eta=0:1:3", "sigma2=0:1:3", Problem(H, Start(s0=-1.0)), "at least 0"),
        ("eta=0:1:3", "p0=0:1:3", Problem(H, t_end=-1.0), "t_end is -1"),
        ("eta=0:1:3", "p0=0:1:3", Problem(H, budget=0.0), "budget is 0"),
    ],
)
def test_problems_that_make_no_sense_are_refused(x, y, problem, said):
    with pytest.raises(ValueError, match=said) as refused:
        check(parse_axis(x), parse_axis(y), problem)
    assert "\n" not in str(refused.value)
