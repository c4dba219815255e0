"""Boundaries as intervals: against closed forms, simulated separatrices, and fields of labels known in advance."""

import numpy as np
import pytest

from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.sweeps.boundary import UNDECIDED, refine, trace_boundary


def survives(p, s, h, t=400.0, steps=1000):
    """Does the simulated mode end beyond p₋? RK4 in NumPy."""
    state, dt = (np.asarray(p, float), np.asarray(s, float)), t / steps
    for _ in range(steps):
        k1 = mode_flow(Mode(*state), h)
        k2 = mode_flow(Mode(*(v + dt / 2 * k for v, k in zip(state, k1))), h)
        k3 = mode_flow(Mode(*(v + dt / 2 * k for v, k in zip(state, k2))), h)
        k4 = mode_flow(Mode(*(v + dt * k for v, k in zip(state, k3))), h)
        state = [v + dt / 6 * (a + 2 * b + 2 * c + d) for v, a, b, c, d in zip(state, k1, k2, k3, k4)]
    return state[0] > h.tau / (2 * h.a)


def test_the_critical_weight_decay_lies_in_every_interval():
    sigma2 = np.linspace(0, 1, 41)
    found = trace_boundary(
        lambda x, y: ~np.isnan(fixed_points(Hyperparameters(sigma2=x, eta=y)).p_plus), sigma2, np.linspace(0.01, 0.4, 9)
    )
    exact = critical_eta(Hyperparameters(sigma2=sigma2))
    assert (found.x == sigma2).all() and (found.status == "found").all()
    assert ((found.lower <= exact) & (exact <= found.upper)).all()
    assert (found.upper - found.lower <= 1e-6).all() and (found.before == 1).all() and (found.after == 0).all()
    assert found.evaluations < 41 * (9 + 17)


def test_the_simulated_separatrix_is_golden_fact_3():
    p0 = np.array([0.0, 0.02, 0.06, 0.1])
    h = Hyperparameters(sigma2=0.0, eta=0.04)
    found = trace_boundary(lambda p, s: survives(p, s, h), p0, np.geomspace(1e-5, 0.1, 6), width=1e-5, log=True)
    golden = np.array([0.0041872340, 0.0028063113, 0.0011299224, 0.00039826247])
    assert found.x.tolist() == p0.tolist()
    assert (found.upper / found.lower - 1 <= 1e-5).all()
    # The simulation decides only up to its own length and step: allow it one more interval on either side.
    assert ((found.lower * (1 - 1e-5) <= golden) & (golden <= found.upper * (1 + 1e-5))).all()


def test_every_crossing_is_found_and_its_direction_told():
    """The window p₋ < ε < p₊ of DirectPred with a frozen top mode (golden fact 17) has two edges, above η_c none."""
    eta = np.array([0.01, 0.04, 0.2, 0.3])
    found = trace_boundary(lambda eta, eps: eps * (1 - eps) > eta, eta, np.linspace(0.001, 1.2, 24))
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=eta[:3]))
    exact = np.stack([points.p_minus, points.p_plus], axis=1).ravel()
    assert found.status.tolist() == ["found"] * 6 + ["none"]
    assert np.abs(found.middle[:6] - exact).max() <= 1e-6
    assert found.after.tolist() == [1, 0] * 3 + [0]
    assert (found.lower[-1], found.upper[-1]) == (0.001, 1.2)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_question_of_the_users_own(k):
    """The top k modes survive: η below the k-th largest critical η_j = τ²x_j/(4a_j)."""
    x, noise = np.array([3.0, 1.0, 0.4, 0.1]), np.array([0.5, 0.1, 0.3, 0.2])

    def critical(strength):
        return x / (4 * (1 + strength[..., None] * noise / x))

    def top_survive(strength, eta):
        return (eta[..., None] < critical(strength)).sum(axis=-1) >= k

    strength = np.linspace(0, 5, 30)
    found = trace_boundary(top_survive, strength, np.geomspace(1e-3, 2, 10), width=1e-9, log=True)
    exact = np.sort(critical(strength), axis=-1)[:, -k]
    assert (found.status == "found").all()
    assert np.abs(found.middle / exact - 1).max() <= 1e-9


@pytest.mark.parametrize("third", [np.nan, UNDECIDED, 7])
def test_an_undecided_zone_is_an_interval_with_both_its_edges(third):
    def label(x, y):
        return np.where(np.abs(y - x) < 0.03, third, (y > x).astype(float))

    x = np.array([0.0, 0.01, 0.3, 0.5, 1.0, 2.0])
    found = trace_boundary(label, x, np.linspace(0, 1, 11), width=1e-8, undecided=7)
    assert found.status.tolist() == ["undecided"] * 5 + ["none"]
    assert np.allclose(found.lower, [0, 0, 0.27, 0.47, 0.97, 0], atol=1e-8)
    assert np.allclose(found.upper, [0.03, 0.04, 0.33, 0.53, 1, 1], atol=1e-8)
    assert found.before.tolist() == [-1, -1, 0, 0, 0, 0] and found.after.tolist() == [1, 1, 1, 1, -1, 0]


def test_an_undecided_zone_between_scan_points_is_found_too():
    def label(x, y):
        return np.where(np.abs(y - 0.55) < 1e-3, np.nan, y > 0.55)

    found = trace_boundary(label, [0.0], np.linspace(0, 1, 11), width=1e-9)
    assert found.status.tolist() == ["undecided"]
    assert np.allclose([found.lower[0], found.upper[0]], [0.549, 0.551], atol=1e-9)


def test_nothing_decided_is_said_so():
    found = trace_boundary(lambda x, y: np.where(x > 0, np.nan, y > 0.5), [0.0, 1.0], np.linspace(0, 1, 4))
    assert found.status.tolist() == ["found", "undecided"]
    assert (found.lower[1], found.upper[1], found.before[1], found.after[1]) == (0, 1, -1, -1)


def test_several_fates_each_have_their_edge():
    found = trace_boundary(lambda x, y: np.digitize(y, [0.21, 0.22, 0.8]), [0.0], [0.0, 0.5, 1.0], width=1e-9)
    assert np.allclose(found.middle, [0.21, 0.22, 0.8], atol=1e-9)
    assert list(zip(found.before, found.after)) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"y": [0.0]}, "at least 2"),
        ({"y": [0.0, np.nan]}, "no NaN"),
        ({"y": [1.0, 0.0]}, "increase"),
        ({"y": [0.0, 1.0], "log": True}, "above 0"),
        ({"width": 0.0}, "float64"),
        ({"width": np.nan}, "float64"),
        ({"predicate": lambda x, y: np.array([True])}, "shape"),
        ({"predicate": lambda x, y: np.full(x.shape, -3)}, "at least 0"),
    ],
)
def test_bad_input_is_one_sentence(changes, words):
    arguments = {"predicate": lambda x, y: y > x, "x": [0.5], "y": [0.0, 1.0]} | changes
    with pytest.raises(ValueError, match=words):
        trace_boundary(**arguments)


def circle(x, y):
    return (x**2 + y**2 < 0.5).astype(int) + (x + y > 1.5)


def test_refined_cells_tile_the_plane_and_follow_the_boundary():
    edges = np.linspace(0, 1, 6), np.linspace(0, 1, 5)
    cells = refine(circle, *edges, levels=5)
    area = (cells.x1 - cells.x0) * (cells.y1 - cells.y0)
    assert area.sum() == pytest.approx(1, abs=1e-12)
    # No two overlap: each of many points lies in the interior of one cell.
    points = np.random.default_rng(0).uniform(size=(2, 500))
    x, y = points[..., None]
    inside = (cells.x0 < x) & (x < cells.x1) & (cells.y0 < y) & (y < cells.y1)
    assert (inside.sum(axis=1) == 1).all()
    # Uniform cells bear the label of every point in them; the others are as small as allowed and hold a boundary.
    cell = inside.argmax(axis=1)
    sure = cells.uniform[cell]
    assert (cells.label[cell] == circle(*points))[sure].all() and sure.mean() > 0.9
    assert (cells.level[~cells.uniform] == 5).all()
    corners = [circle(x, y) for x in (cells.x0, cells.x1) for y in (cells.y0, cells.y1)]
    assert (np.ptp(corners, axis=0) == 0).tolist() == cells.uniform.tolist()


def test_a_corner_is_evaluated_once_and_most_are_spared():
    seen = []

    def label(x, y):
        seen.extend(zip(x, y))
        return circle(x, y)

    cells = refine(label, np.linspace(0, 1, 5), np.linspace(0, 1, 5), levels=6)
    assert len(seen) == len(set(seen)) == cells.evaluations
    assert cells.full_grid == 257**2
    assert cells.spared == 1 - cells.evaluations / 257**2 > 0.9


def test_the_floor_stops_the_refinement():
    cells = refine(circle, [0, 1], [0, 1], levels=10, floor=(1 / 16, 1 / 100))
    assert (cells.x1 - cells.x0).min() == 1 / 16
    assert cells.full_grid == 17**2
    assert refine(circle, [0, 1], [0, 1], levels=0).full_grid == 4


@pytest.mark.parametrize(
    "changes, words", [({"levels": -1}, "levels"), ({"floor": -1.0}, "floor"), ({"x_edges": [1, 0]}, "increase")]
)
def test_bad_refinement_is_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        refine(**{"label": circle, "x_edges": [0, 1], "y_edges": [0, 1], "levels": 2} | changes)
