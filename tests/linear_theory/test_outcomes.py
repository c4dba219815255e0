"""Sweeps of any flow: outcomes as the user defines them, on records of the user's; the modes' proofs as one of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from stopgrad.linear_theory.exact.basin import collapses
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ema_mode_flow, mode_flow
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, DIVERGED, UNDECIDED, simulate
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.outcomes import End, follow, mode_outcome, threshold
from stopgrad.linear_theory.sweeps.axes import Axis
from stopgrad.linear_theory.sweeps.basin_fraction import basin_fraction
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.sweeps.phase_diagram import boundary, phase_diagram


class Population(NamedTuple):
    n: Any


@dataclass(frozen=True)
class Ecology:
    """A record of the user's, which refuses what makes no sense."""

    growth: float = 1.0
    least: float = 0.2
    power: int = 1

    def __post_init__(self):
        if np.any(np.asarray(self.growth) < 0):
            raise ValueError("growth must be at least 0")


def allee_flow(state, h):
    """n′ = r n (n − A)(1 − n): dies out from below A, lives from above."""
    n = state.n
    return Population(h.growth * n**h.power * (n - h.least) * (1 - n))


def explosive_flow(state, h):
    """n′ = r n(n − A): finite-time blow-up from above A."""
    return Population(h.growth * state.n * (state.n - h.least))


LEAST = Axis("least", np.array([0.2, 0.4, 0.6, 0.8]))
N0 = Axis("n0", np.linspace(0.05, 0.95, 10))
LIVES = threshold("n", 0.01)


def test_a_diagram_of_a_flow_and_a_record_of_the_users():
    data = phase_diagram(LEAST, N0, FlowProblem(allee_flow, Population(0.5), Ecology(growth=2.0), LIVES))
    assert data.fate.dims == ("n0", "least") and data.fate.dtype == np.int8
    expected = np.where(N0.values[:, None] > LEAST.values, ALIVE, COLLAPSED)
    assert (data.fate == expected).all()
    np.testing.assert_allclose(data.n, expected == ALIVE, atol=1e-5)
    assert data.attrs["growth"] == 2.0 and "least" not in data.attrs and data.attrs["flow"] == "allee_flow"


def test_its_border_and_its_basin():
    problem = FlowProblem(allee_flow, Population(0.5), Ecology(), LIVES)
    line = boundary(LEAST, N0, problem)
    assert line.boundary_n0.attrs["kind"] == "numeric"
    np.testing.assert_allclose(line.boundary_n0, line.boundary_least, atol=0.1 / 10)
    found = basin_fraction(
        problem.fates, lambda rng, n: Population(rng.uniform(0, 1, n)), 400, Ecology(least=LEAST.values), labels=(0, 1)
    )
    assert (np.abs(found.fraction[:, ALIVE] - (1 - LEAST.values)) < 0.1).all()


def test_what_blows_up_has_diverged_and_what_still_moves_is_undecided():
    problem = FlowProblem(explosive_flow, Population(0.5), Ecology(), LIVES)
    data = phase_diagram(LEAST, N0, problem)
    assert (data.fate == np.where(N0.values[:, None] > LEAST.values, DIVERGED, COLLAPSED)).all()
    soon = FlowProblem(allee_flow, Population(0.5), Ecology(growth=1e-3), LIVES, t_end=1.0)
    assert (phase_diagram(LEAST, N0, soon).fate == UNDECIDED).all()


def test_a_tiny_state_that_grows_has_not_settled():
    """From 10⁻⁹ every speed is small; the mode lives all the same."""
    grown = follow(lambda y, h: Population(h.growth * y.n * (1 - y.n)), Population(1e-9), Ecology(), LIVES)
    assert grown.fate == ALIVE and grown.state.n == pytest.approx(1, abs=1e-5)
    shrunk = follow(lambda y, h: Population(-h.growth * y.n), Population(np.array([1e-9, 3.0])), Ecology(), LIVES)
    assert shrunk.fate.tolist() == [COLLAPSED, COLLAPSED]


def test_thresholds_on_a_function_of_the_state_and_without_settling():
    state, slope = Mode(np.array([1.0, 2.0]), np.array([0.5, 0.0])), Mode(np.full(2, 0.1), np.zeros(2))
    assert threshold(lambda y: y.p * y.s, 0.1)(End(state, slope, 1.0), None).tolist() == [UNDECIDED, UNDECIDED]
    now = threshold(lambda y: y.p * y.s, 0.1, slow=np.inf)
    assert now(End(state, slope, 1.0), None).tolist() == [ALIVE, COLLAPSED]
    with pytest.raises(ValueError, match="no field 'q'"):
        threshold("q", 0.1)(End(state, slope, 1.0), None)


def test_the_proofs_of_modes_are_an_outcome_and_the_default():
    rng = np.random.default_rng(0)
    start, h = Mode(rng.uniform(-0.3, 1, 60), rng.uniform(0, 0.3, 60)), Hyperparameters(eta=rng.uniform(0.01, 0.2, 60))
    found, modes = follow(mode_flow, start, h, mode_outcome), simulate(start, h)
    assert (found.fate == modes.fate).all() and ((found.fate == COLLAPSED) == collapses(start, h)).all()
    data = phase_diagram(
        Axis("eta", [0.02, 0.1]), Axis("p0", [0.05, 0.5]), FlowProblem(mode_flow, Mode(0, 0.01), h=Hyperparameters())
    )
    assert set(np.unique(data.fate)) <= {ALIVE, COLLAPSED}
    ema = EmaMode(np.array([0.01, 0.5]), 0.2, 0.0)
    moving = Hyperparameters(beta=0.5)
    assert (follow(ema_mode_flow, ema, moving, mode_outcome).fate == simulate(ema, moving).fate).all()


class Pair(NamedTuple):
    v: Any


def test_systems_of_several_numbers():
    def flow(state, h):  # each entry as its own population
        return Pair(h.growth * state.v * (state.v - h.least) * (1 - state.v))

    outcome = threshold(lambda y: y.v.max(axis=-1), 0.01)
    problem = FlowProblem(flow, Pair(np.array([0.1, 0.5])), Ecology(), outcome, event_dims=1)
    data = phase_diagram(LEAST, Axis("growth", [1.0, 3.0]), problem)
    assert (data.fate == np.where(LEAST.values < 0.5, ALIVE, COLLAPSED)).all() and data.v.dims[:2] == data.fate.dims


def test_integrate_takes_records_of_the_users():
    h = Ecology(growth=np.array([0.5, 1.0]), least=0.0, power=0)
    found = integrate(allee_flow, Population(0.5), h, t=1.0)
    one = integrate(lambda y: Population(y.n * (1 - y.n)), Population(0.5), t=1.0)
    assert found.state.n[1] == pytest.approx(float(one.state.n), abs=1e-9)


@pytest.mark.parametrize(
    ("x", "changes", "said"),
    [
        ("mass", {}, "mass"),
        ("n0", {}, "both axes"),
        ("least", {"outcome": None}, "outcome"),
        ("least", {"t_end": -1.0}, "t_end"),
        ("least", {"budget": 0.0}, "budget"),
        ("least", {"start": Population(np.nan)}, "initial n"),
        ("growth", {"values": [-1.0, 1.0]}, "growth"),
    ],
)
def test_what_makes_no_sense_is_refused(x, changes, said):
    values = changes.pop("values", [0.1, 0.2])
    given = {"flow": allee_flow, "start": Population(0.5), "h": Ecology(), "outcome": LIVES} | changes
    with pytest.raises(ValueError, match=said) as refused:
        phase_diagram(Axis(x, values), Axis("growth", [1.0, 2.0]) if "start" in changes else N0, FlowProblem(**given))
    assert "\n" not in str(refused.value)


def test_an_outcome_of_the_wrong_kind_is_refused():
    for wrong in (lambda end, h: end.state.n, lambda end, h: np.array([7])):
        with pytest.raises(ValueError, match="outcome"):
            follow(allee_flow, Population(0.5), Ecology(), wrong)
