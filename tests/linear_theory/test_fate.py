"""Simulated fates against the exact theory: closed forms, the separatrix, and long integrations by SciPy."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.basin import critical_s0, outcome_without_decay
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points, rest_points
from stopgrad.linear_theory.exact.time_course import limit, time_between
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ScalarNetwork, mode_flow, scalar_network_flow, scales
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, NEAR, UNDECIDED, at_time, simulate
from stopgrad.linear_theory.spectra.alignment import alignment_operator_mode

H = Hyperparameters()
# Units of every kind, bistable and beyond η_c.
UNITS = [H, Hyperparameters(0.0, 0.01), Hyperparameters(0.5, 0.05, 0.6, 3.0, x=2.0), Hyperparameters(0.2, 0.3, 0.9)]


def on_parabola(p, h):
    return Mode(p, h.x / h.alpha_p * np.square(p))


def dop853(flow, start, h, t, times=None):
    kind = type(start)
    path = solve_ivp(
        lambda _, y: flow(kind(*y.tolist()), h),
        (0, t),
        list(map(float, start)),
        "DOP853",
        t_eval=times,
        rtol=1e-10,
        atol=1e-13,
    )
    assert path.success
    return kind(*path.y)


@pytest.mark.parametrize("h", UNITS)
def test_fate_on_the_parabola_is_that_of_the_closed_form(h):
    p0 = np.linspace(-0.5, 1.5, 41) * scales(h).p + 1e-3
    found = simulate(on_parabola(p0, h), h)
    expected = limit(p0, h)
    assert (found.fate == np.where(expected > 0, ALIVE, COLLAPSED)).all()
    np.testing.assert_allclose(found.p, expected, atol=1e-12)
    np.testing.assert_allclose(found.s, h.x / h.alpha_p * expected**2, atol=1e-12)
    assert (found.error < 1e-5).all()


@pytest.mark.parametrize("h", [H, *UNITS[2:], H.replace(eta_p=0.1)])
def test_fate_off_the_parabola_is_the_side_of_the_separatrix(h):
    unit = scales(h)
    p0 = (np.linspace(-0.6, 0.9, 16) * unit.p)[:, None]
    border = critical_s0(p0, h)
    typical = np.where(np.isfinite(border), border, unit.s)
    s0 = np.concatenate([typical * (1 + d) for d in (-0.9, -0.05, 0.05, 2.0)], axis=1)
    found = simulate(Mode(p0, s0), h)
    assert found.fate.shape == s0.shape
    decided = found.fate != UNDECIDED
    assert decided.mean() > 0.99
    assert ((found.fate == ALIVE) == (s0 > border))[decided].all()
    rest = rest_points(h.map(np.asarray))
    alive = found.fate == ALIVE
    assert (found.p[~alive & decided] == 0).all() and (found.s[~alive & decided] == 0).all()
    assert np.allclose(found.p[alive], rest.p_plus) and np.allclose(found.s[alive], rest.s_plus)


def test_only_the_promised_bands_are_undecided():
    h = H.replace(eta=np.unique([*np.linspace(0, 0.3, 7), *(critical_eta(H) * np.array([0.98, 0.989, 1.011, 1.02]))]))
    rest = fixed_points(h)
    offsets = np.array([-1.5e-3, -1.01e-3, 0.0, 1.01e-3, 1.5e-3])[:, None]
    p_minus = np.nan_to_num(rest.p_minus, nan=0.3)
    grid = np.broadcast_to(np.linspace(0.01, 1, 7)[:, None], (7, h.eta.size))
    p0 = np.concatenate([grid, np.maximum(p_minus + offsets, 1e-3)])
    found = simulate(on_parabola(p0, h), h)
    band = (np.abs(p0 - rest.p_minus) < 1e-3) | (np.abs(1 - h.eta / critical_eta(h)) < 1e-2)
    undecided = found.fate == UNDECIDED
    assert not (undecided & ~band).any()
    assert undecided.any()  # the row on p₋ itself
    on_it = np.abs(p0 - rest.p_minus) < 1e-9
    assert ((found.fate == ALIVE) == (limit(p0, h) > 0))[~undecided & ~on_it].all()


def test_nothing_is_decided_with_hardly_any_budget():
    found = simulate(on_parabola(rest_points(H).p_minus * np.array([1 - 1e-9, 1 + 1e-9]), H), H, budget=1e-3)
    assert (found.fate == UNDECIDED).all() and np.isnan(found.time_to_converge).all()


@pytest.mark.parametrize("h", UNITS[:3])
def test_time_to_converge_on_the_parabola_is_the_exact_time(h):
    unit, rest = scales(h), rest_points(h)
    p0 = np.array([0.2, 0.4, 0.6, 0.7]) * unit.p
    p0 = p0[np.abs(p0 / rest.p_minus - 1) > 0.05]
    above = p0 > rest.p_minus
    near = np.where(above, rest.p_plus - NEAR * unit.p, NEAR * unit.p)
    found = simulate(on_parabola(p0, h), h)
    exact = time_between(p0, near, h)
    assert above.any() and (exact.status == "reached").all()
    np.testing.assert_allclose(found.time_to_converge, exact.time, rtol=0.05)


def test_a_collapse_on_the_parabola_takes_the_exact_time():
    h = H.replace(eta=0.1)
    p0 = np.array([0.02, 0.05, 0.1])  # p₋ = 0.1145
    found = simulate(on_parabola(p0, h), h)
    unit = scales(h)
    np.testing.assert_allclose(found.time_to_converge, time_between(p0, NEAR * unit.p, h).time, rtol=0.05)


def test_a_start_at_its_limit_has_converged_at_once():
    rest = rest_points(H)
    found = simulate(Mode(np.array([rest.p_plus, 0.0]), np.array([rest.s_plus, 0.0])), H)
    assert found.fate.tolist() == [ALIVE, COLLAPSED]
    assert found.time_to_converge.tolist() == [0, 0]


@pytest.mark.parametrize("h", [H, H.replace(alpha_p=4.0), H.replace(tau=0.5, eta=0.02)])
def test_even_a_negative_start_survives_with_enough_s(h):
    p0 = np.array([-0.05, -0.3, -1.0]) * scales(h).p
    border = critical_s0(p0, h)
    assert (simulate(Mode(p0, 1.05 * border), h).fate == ALIVE).all()
    assert (simulate(Mode(p0, 0.95 * border), h).fate == COLLAPSED).all()
    assert (simulate(on_parabola(p0, h), h).fate == COLLAPSED).all()


@pytest.mark.parametrize("h", [Hyperparameters(0.0, 0.0), Hyperparameters(0.3, 0.0, 0.8, 2.0, x=1.5)])
def test_without_decay_the_outcome_is_the_closed_form(h):
    # Golden fact G7 in scaled units: among them survivors whose balance c is negative, and a collapse to p ≠ 0.
    unit = scales(h)
    p = np.array([0.2, 0.2, -0.2, 1.5, 1.5, -0.2, 0.5, 1.2]) * unit.p
    s = np.array([0.01, 0.05, 0.03, 1.26, 1.2, 0.1, 0.2, 0.0]) * unit.s
    start = Mode(p, s)
    expected = outcome_without_decay(start, h)
    found = simulate(start, h)
    assert (found.fate == np.where(expected.s > 0, ALIVE, COLLAPSED)).all()
    assert found.fate.tolist() == [ALIVE, ALIVE, COLLAPSED, ALIVE, COLLAPSED, ALIVE, ALIVE, COLLAPSED]
    np.testing.assert_allclose(found.p, expected.p, atol=1e-12)
    np.testing.assert_allclose(found.s, expected.s, atol=1e-12)
    assert (s - h.x / h.alpha_p * p**2)[found.fate == ALIVE].min() < 0


def test_predictor_decay_alone_lets_s_grow_for_ever():
    h = H.replace(eta=0.0, eta_p=np.array([0.02, 0.2]))
    found = simulate(Mode(0.2, 0.1), h)
    assert (found.fate == ALIVE).all()
    for k, eta_p in enumerate(h.eta_p):
        one = h.replace(eta_p=eta_p)
        late, later = (dop853(mode_flow, Mode(0.2, 0.1), one, t) for t in (50, 100))
        assert later.s[-1] > late.s[-1] > 1 and found.s[k] > 0


def test_encoder_decay_alone_always_ends_in_collapse_or_is_undecided():
    # Without η_p nothing holds p back, and p(τ − ap) → 0: growth stops, decay goes on.
    h = H.replace(eta=0.04, eta_p=0.0)
    found = simulate(Mode(np.array([0.1, 0.5, 0.9]), np.array([0.1, 0.5, 0.9])), h)
    assert not (found.fate == ALIVE).any()
    late = dop853(mode_flow, Mode(0.5, 0.5), h, 2000)
    assert late.s[-1] < 1e-6


EMA_P, EMA_S = np.meshgrid([-0.2, 0.1, 0.4, 0.9], [0.02, 0.3], indexing="ij")


@pytest.mark.parametrize("beta", [0.02, 0.4])
@pytest.mark.parametrize("eta", [0.02, 0.12])
def test_fate_with_a_moving_target_is_that_of_a_long_integration(beta, eta):
    h = H.replace(eta=eta, beta=beta)
    start = EmaMode(EMA_P, EMA_S, 0.0)
    found = simulate(start, h)
    assert (found.fate != UNDECIDED).all()
    rest = rest_points(h)
    for index in np.ndindex(EMA_P.shape):
        # In the weights: from p < 0, w passes through 0 and τ = w_a/w through infinity.
        end = dop853(scalar_network_flow, ScalarNetwork(EMA_P[index], np.sqrt(EMA_S[index] / h.x), 0.0), h, 1200)
        end = Mode(end.wp, h.x * end.w**2)
        alive = end.s[-1] > rest.s_minus
        assert found.fate[index] == (ALIVE if alive else COLLAPSED)
        assert found.p[index] == pytest.approx(end.p[-1], abs=1e-4)  # a target this slow is still on its way
        assert found.s[index] == pytest.approx(end.s[-1], abs=1e-4)
    assert np.isnan(found.lowest_K).all()


@pytest.mark.parametrize("h", [H, H.replace(eta=0.0), H.replace(eta=0.3), H.replace(eta_p=0.1)])
@pytest.mark.parametrize("p0", [-0.3, 0.0, 0.5, 1.4])
def test_a_mode_without_features_collapses(h, p0):
    found = simulate(Mode(p0, 0.0), h)
    assert found.fate == COLLAPSED and found.s == 0
    assert found.p == pytest.approx(p0 if h.predictor_decay == 0 else 0.0, abs=1e-12)


def test_a_mode_without_features_collapses_with_a_moving_target_too():
    found = simulate(EmaMode(np.array([0.5, -0.9]), 0.0, 0.0), H.replace(beta=0.3))
    assert (found.fate == COLLAPSED).all() and (found.p == 0).all() and (found.s == 0).all()


@pytest.mark.parametrize("h", [H, H.replace(sigma2=0.4, tau=0.8, x=1.3, alpha_p=2.0), H.replace(eta=0.15)])
def test_lowest_K_is_that_of_a_dense_path(h):
    unit = scales(h)
    for p0, s0 in [(0.1, 0.2), (0.6, 0.05), (0.9, 1.0), (0.3, 0.6)]:
        start = Mode(p0 * unit.p, s0 * unit.s)
        t_end = 30 * unit.time
        found = at_time(start, h, t_end)
        dense = dop853(mode_flow, start, h, t_end, np.linspace(0, t_end, 17))
        assert found.lowest_K == pytest.approx(alignment_operator_mode(dense, h).min(), abs=1e-6)
        # Over the windows of `simulate` the output times are others: never below the dense minimum, and near it.
        finer = alignment_operator_mode(dop853(mode_flow, start, h, 400 * unit.time, None), h)
        lowest = simulate(start, h).lowest_K
        assert lowest >= finer.min() - 5e-3 and lowest <= float(alignment_operator_mode(start, h)) + 1e-12


def test_at_time_is_the_state_then_and_a_fate_only_where_certain():
    p0 = np.array([-0.2, 0.03, 0.1, 0.9])
    found = at_time(on_parabola(p0, H), H, 20.0)
    for k, p in enumerate(p0):
        end = dop853(mode_flow, on_parabola(p, H), H, 20.0)
        assert found.p[k] == pytest.approx(end.p[-1], abs=1e-7)
        assert found.s[k] == pytest.approx(end.s[-1], abs=1e-7)
    assert found.fate.tolist() == [COLLAPSED, UNDECIDED, ALIVE, ALIVE]
    start = at_time(on_parabola(p0, H), H, 0.0)
    np.testing.assert_allclose(start.p, p0, atol=1e-15)


def test_progress_rises_to_one():
    seen = []
    simulate(on_parabola(np.linspace(0.05, 1, 20), H), H, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1


def test_batches_do_not_change_fates(monkeypatch):
    start, h = on_parabola(np.linspace(-0.2, 1, 30), H), H.replace(eta=np.linspace(0, 0.3, 30))
    whole = simulate(start, h)
    monkeypatch.setattr("stopgrad.linear_theory.simulation.fate._BATCH", 7)
    monkeypatch.setattr("stopgrad.linear_theory.simulation.fate._CHUNK", 3)
    parts = simulate(start, h)
    for a, b in zip(vars(whole).values(), vars(parts).values()):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize(
    ("start", "h", "said"),
    [
        (Mode(np.nan, 0.1), H, "initial p"),
        (Mode(0.1, -1e-3), H, "initial s is -0.001"),
        (Mode(0.1, 0.1), H.replace(tau=1.5), "tau is 1.5"),
        (Mode(0.1, 0.1), H.replace(beta=0.1), "beta"),
        (Mode(0.1, 0.1), H.replace(eta=np.nan), "eta is nan"),
    ],
)
def test_bad_starts_and_hyperparameters_are_refused(start, h, said):
    with pytest.raises(ValueError, match=said):
        simulate(start, h)
    with pytest.raises(ValueError, match=said):
        at_time(start, h, 1.0)
