"""Where modes of the cosine loss end, Bao's held norms, set predictors and recipes, against flows and networks."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from stopgrad.linear_theory.__main__ import COMMANDS
from stopgrad.linear_theory.exact.cosine_limit import cosine_limit, settled_turn
from stopgrad.linear_theory.exact.cosine_recipe import predict
from stopgrad.linear_theory.exact.set_loop import cosine_rest, powered_rank, rank_difference, squared_rest
from stopgrad.linear_theory.exact.sixth_order import REGIMES, STABLE, emergence, regime, sixth_order_rests
from stopgrad.linear_theory.exact.unit_map import TrainingRecipe
from stopgrad.linear_theory.flows.cosine import Views, sample_cosine_flow
from stopgrad.linear_theory.flows.cosine_modes import PairHyperparameters
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Network, Switches
from stopgrad.linear_theory.flows.mean import cosine_mode_flow
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.flows.set_loop import KINDS, Eigenvalues, LoopHyperparameters, Rivals, SetLoop
from stopgrad.linear_theory.flows.sixth_order import HeldNorms, Level, ShrinkingLevel, shrinking_flow, sixth_order_flow
from stopgrad.linear_theory.simulation.fate import ALIVE, UNDECIDED
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.sweeps.axes import Axis, make_axis
from stopgrad.linear_theory.sweeps.cosine_problem import COSINE_PROBLEMS
from stopgrad.linear_theory.sweeps.phase_diagram import phase_diagram
from stopgrad.linear_theory.tools.door import main

# ---------------------------------------------------------------- where modes end


def test_the_limit_is_where_the_flow_leads_dead_modes_included():
    """Five modes of five seeds, side by side."""
    drawn = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        p, s = rng.uniform(0.1, 1.2, 5), rng.uniform(0.05, 1, 5) ** 2
        p[0] *= rng.choice([-1, 1])
        drawn.append((p, s, np.full(1, rng.uniform(0.5, 2)), rng.uniform(0, 1, 5), rng.uniform(0.5, 2, 5)))
    p, s, alpha_p, sigma2, x = map(np.stack, zip(*drawn))
    h = Hyperparameters(0.0, 0.0, alpha_p=alpha_p).replace(sigma2=sigma2, x=x)
    assert ((p * s).sum(-1) > 0).all() and (p < 0).any()
    found = cosine_limit(Mode(p, s), h)
    edge = np.abs(found.level / h.a - np.sqrt(np.maximum(p * p - alpha_p * s / x, 0))).min(-1)
    balance = np.abs(s - x * p * p / alpha_p).min(-1)
    assert edge.min() > 0.02 and balance.min() > 0.01  # beside a border it takes for ever
    end = integrate(cosine_mode_flow, Mode(p, s), h, t=200.0, event_dims=1, tolerance=1e-6, compiled=False).state
    np.testing.assert_allclose(found.p, end.p, atol=1e-4)
    np.testing.assert_allclose(found.s, end.s, atol=1e-4)
    np.testing.assert_allclose((found.p**2).sum(-1), (p * p).sum(-1))
    assert ((found.s > 0) == found.lives).all() and not found.lives.all()


def test_a_heavy_predictor_loses_its_mode_on_the_real_network():
    """Gradient descent on a sample: with p² > s/x far above the others' level the mode dies, with a like s it lives."""
    generator = torch.Generator().manual_seed(0)
    n = 12
    first = torch.randn(4000, n, dtype=torch.float64, generator=generator)
    views = Views(first, first + 0.4 * torch.randn(4000, n, dtype=torch.float64, generator=generator))
    shares = []
    for heavy in (1.9, 0.55):
        p, w = np.r_[heavy, np.full(n - 1, 0.6)], np.r_[0.5, np.full(n - 1, 0.6)]
        state = Network(*(torch.as_tensor(np.diag(v)) for v in (p, w, w)))
        for _ in range(400):
            moves = sample_cosine_flow(state, views, Hyperparameters(eta=0.0))
            state = Network(*(v + 0.3 * dv for v, dv in zip(state, moves)))
        said = cosine_limit(Mode(p, w * w), Hyperparameters(sigma2=0.16, eta=0.0))
        shares.append((float(state.W[0].norm() / state.W[1].norm()), bool(said.lives[0])))
    assert shares[0][1] is False and shares[0][0] < 0.1
    assert shares[1][1] is True and shares[1][0] > 0.7


def test_what_has_no_limit_is_refused_or_not_a_number():
    assert np.isnan(cosine_limit(Mode([-0.5, -0.4], [0.2, 0.3]), Hyperparameters()).p).all()
    for h, said in (
        (Hyperparameters(beta=0.1), "EMA"),
        (Hyperparameters(eta_p=0.1), "eta_p differs"),
        (Hyperparameters(sigma2=-1), "sigma2"),
    ):
        with pytest.raises(ValueError, match=said):
            cosine_limit(Mode([0.5], [0.2]), h)
    with pytest.raises(ValueError, match=r"s is -0\.1"):
        cosine_limit(Mode([0.5], [-0.1]), Hyperparameters())


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_layer_under_noise_settles_to_the_turn_that_is_said(momentum):
    """SGD with coupled decay on a loss of a direction alone, with fresh targets: the angle forgets all the rest."""
    lr, decay = 0.3, 0.02
    generator = torch.Generator().manual_seed(1)
    w, turns = torch.randn(40, dtype=torch.float64, generator=generator).requires_grad_(), []
    optimiser = torch.optim.SGD([w], lr=lr, momentum=momentum, weight_decay=decay)
    for step in range(1500):
        before = w.detach().clone()
        optimiser.zero_grad()
        target = torch.randn(40, dtype=torch.float64, generator=generator)
        (-torch.cosine_similarity(w, target, dim=0)).backward()
        optimiser.step()
        if step > 500:
            turns.append(1 - torch.cosine_similarity(before, w.detach(), dim=0).item())
    angle = math.sqrt(2 * np.mean(turns))
    assert angle == pytest.approx(float(settled_turn(lr, decay, momentum)), rel=0.03)


# ---------------------------------------------------------------- held norms


def sixth_twin(p, h):
    """Bao's mode, term by term, in norms of weights: N² = N_Ψ²/a and so on."""
    a = 1 + h.sigma2
    n_phi, n_psi = h.n_phi / math.sqrt(a), h.n_psi / math.sqrt(a)
    trace = h.agreement * a * n_phi * n_psi
    return (p**2 - (trace * p**3 + 2 * p**6) / n_psi**2) / (a * n_phi * n_psi) - h.eta * p


held = st.builds(
    HeldNorms,
    sigma2=st.floats(0, 2),
    eta=st.floats(1e-3, 0.3),
    n_phi=st.floats(0.3, 9),
    n_psi=st.floats(0.3, 9),
    agreement=st.floats(0, 1),
)


@given(held, st.floats(-1.5, 1.5))
@settings(max_examples=25, deadline=None)
def test_the_sixth_order_equals_its_scalar_reading_and_its_rests(h, p):
    scale = 1e-11 * (1 + abs(p)) ** 6 * (1 + 1 / h.n_psi**3 / h.n_phi)
    assert sixth_order_flow(Level(p), h).p == pytest.approx(sixth_twin(p, h), rel=1e-10, abs=scale)
    found = sixth_order_rests(h)
    for rest in (found.p_negative, found.p_minus, found.p_plus):
        if np.isfinite(rest):
            left, right = (sixth_order_flow(Level(rest + side * (1e-9 + 1e-6 * abs(rest))), h).p for side in (-1, 1))
            assert left * right <= 0 or rest == 0
    assert np.isnan(found.p_minus) == (h.eta > found.critical_eta)
    assert found.p_negative <= 0 <= np.nan_to_num(found.p_minus) <= np.nan_to_num(found.p_plus)


def test_fates_at_held_norms_are_the_regimes():
    norms, p = make_axis("n_phi", 1.0, 10.0, 7), make_axis("p0", 0.02, 0.6, 9)
    problem = COSINE_PROBLEMS["sixth-order"]
    diagram = phase_diagram(norms, p, problem)
    expected = regime(p.values[:, None], problem.h.replace(n_phi=norms.values[None, :]))
    assert ((diagram.fate.values == ALIVE) == (expected == STABLE)).all()
    assert {*np.unique(expected)} == {0, 1, 2} and len(REGIMES) == 3


def test_shrinking_norms_bring_a_stable_rest_when_said_and_every_mode_lives_in_direction():
    h = HeldNorms(eta=0.05, n_phi=8.0, n_psi=4.0)
    assert REGIMES[int(regime(0.1, h))] == "collapse"
    t = float(emergence(h))

    def at(time):
        left = math.exp(-h.eta * time)
        return sixth_order_rests(h.replace(n_phi=8 * left, n_psi=4 * left**2)).critical_eta

    assert t > 1 and at(0.99 * t) < h.eta < at(1.01 * t)
    end = solve_ivp(
        lambda _, y: np.array(shrinking_flow(ShrinkingLevel(*y), h)),
        (0, 90),
        (0.1, 1.0),
        "LSODA",
        rtol=1e-9,
        atol=1e-13,
    ).y[:, -1]
    assert end[0] / end[1] == pytest.approx(float(sixth_order_rests(h.replace(eta=0.0)).p_plus), rel=1e-3)
    fixed = integrate(sixth_order_flow, Level(0.1), h, t=90.0, compiled=False).state.p
    assert fixed / 0.1 < 0.05  # where norms are held it dies


def test_bad_norms_are_refused():
    for field, value in (("n_phi", 0), ("n_psi", -1), ("eta", -0.1), ("agreement", np.nan)):
        with pytest.raises(ValueError, match=f"^{field} "):
            HeldNorms(**{field: value}).validate()


# ---------------------------------------------------------------- set predictors


def loop_twin(kind, loss, lam, h):
    """λ′ by hand: amplitudes r of W, mode by mode."""
    a, b, al = 1 + h.sigma2, 1 + h.sigma2_target, h.exponent
    p = [1.0 if kind in ("no-predictor", "neither", "target") else v**al for v in lam]
    t = [v**al if kind == "target" else 1.0 for v in lam]
    agreed = math.fsum(q * u * v for q, u, v in zip(p, t, lam))
    G, N = (math.fsum(c * q * q * v for q, v in zip(qs, lam)) for c, qs in ((a, p), (b, t)))
    kappa, kappa_t, c = (agreed / G, agreed / N, math.sqrt(G * N)) if loss == "cosine" else (1.0, 1.0, 1.0)
    rates = []
    for q, u in zip(p, t):
        rate = (u - kappa * a * q) * (1 if kind == "isoloss" else q) / c
        if kind in ("no-stop-gradient", "neither"):
            rate += (q * u - kappa_t * b * u * u) / c
        rates.append(rate - h.eta)
    return [2 * v * rate for v, rate in zip(lam, rates)]


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_set_loops_equal_their_scalar_reading(seed):
    rng = np.random.default_rng(seed)
    h = LoopHyperparameters(rng.uniform(-1.5, 1.5), rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, 0.2), 4.0)
    lam = rng.uniform(0.1, 2, 5)
    for kind, loss in itertools.product(KINDS, ("squared", "cosine")):
        expected = loop_twin(kind, loss, lam, h)
        np.testing.assert_allclose(SetLoop(loss, kind)(Eigenvalues(lam), h).s, expected, rtol=1e-10, atol=1e-12)
        alike = np.r_[lam[0], np.full(4, lam[1])]
        pair = SetLoop(loss, kind)(Rivals(lam[0], lam[1]), h)
        np.testing.assert_allclose(pair, loop_twin(kind, loss, alike, h)[:2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["predictor", "no-stop-gradient", "no-predictor", "neither", "isoloss", "target"])
def test_the_cosine_loops_are_the_gradient_on_a_network(kind):
    """On many views of 40 dimensions: finite-width rates to 4 % of the largest, sampling included; wide ones not."""
    n, lam = 40, np.linspace(0.6, 1.4, 40)
    rng = np.random.default_rng(4)
    x1 = rng.normal(size=(60_000, n))
    x2 = x1 + 0.5 * rng.normal(size=x1.shape)
    h = LoopHyperparameters(exponent=-0.5 if kind == "target" else 1.0, sigma2=0.0, sigma2_target=0.25)
    W, power = np.diag(np.sqrt(lam)), np.diag(lam**h.exponent)
    one = np.eye(n)
    Wp = power if kind in ("predictor", "no-stop-gradient", "isoloss") else one
    target = (power if kind == "target" else one) @ W
    stop = "none" if kind in ("no-stop-gradient", "neither") else "target"
    state = Network(Wp, W, target)
    switches = Switches("ema" if stop == "target" else "shared", stop, "fixed")
    moves = sample_cosine_flow(state, Views(x1, x2), Hyperparameters(eta=0.0, beta=0.0), switches).W.diagonal()
    if kind == "isoloss":
        moves = moves / lam**h.exponent  # the predictor's factor is gone
    measured = 2 * np.sqrt(lam) * moves
    finite = SetLoop("cosine", kind, finite=True)(Eigenvalues(lam), h).s
    scale = np.abs(measured).max()
    if kind in ("no-predictor", "neither"):
        assert scale < 0.05 and np.abs(finite).max() < 0.05  # next to nothing moves
        return
    wide = SetLoop("cosine", kind)(Eigenvalues(lam), h).s
    gaps = [np.abs(measured - said).max() / scale for said in (finite, wide)]
    # Without stop-gradient both forces nearly cancel.
    assert gaps[0] < (0.1 if stop == "none" else 0.04) and gaps[1] > 1.5 * gaps[0], gaps


@pytest.mark.parametrize(
    ("kind", "exponent"), [("predictor", 1.0), ("predictor", 0.5), ("isoloss", 1.0), ("target", -0.5)]
)
def test_cosine_rests_are_where_the_flow_leads(kind, exponent):
    rng = np.random.default_rng(6)
    h, start = LoopHyperparameters(exponent, sigma2=rng.uniform(0, 0.5, 5)), Eigenvalues(rng.uniform(0.3, 1.5, 5))
    end = integrate(SetLoop("cosine", kind), start, h, t=300.0, event_dims=1, tolerance=1e-8, compiled=False).state.s
    np.testing.assert_allclose(end, cosine_rest(start, h, kind), rtol=1e-5)


@pytest.mark.parametrize(("kind", "eta"), [("predictor", 0.0), ("predictor", 0.1), ("isoloss", 0.1), ("target", 0.1)])
def test_squared_rests_are_zeros_of_the_flow(kind, eta):
    h = LoopHyperparameters(-1.0 if kind == "target" else 1.5, 0.2, 0.1, eta)
    flow, rest = SetLoop("squared", kind), float(squared_rest(h, kind))
    assert brentq(lambda v: float(flow(Eigenvalues(np.array([v])), h).s[0]), 0.7 * rest, 1.3 * rest) == pytest.approx(
        rest
    )
    below, above = (flow(Eigenvalues(np.array([f * rest])), h).s[0] for f in (0.95, 1.05))
    assert below > 0 > above
    assert squared_rest(h, "no-stop-gradient") == 0 == squared_rest(h.replace(eta=0.3, exponent=1.0), "predictor")


def test_without_stop_gradient_the_cosine_loses_dimensions_and_isoloss_keeps_up_weak_modes():
    lam = np.linspace(0.2, 1.5, 8)
    h, start = LoopHyperparameters(), Eigenvalues(lam)
    ends = {
        kind: integrate(SetLoop("cosine", kind), start, h, t=60.0, event_dims=1, tolerance=1e-7, compiled=False).state.s
        for kind in ("predictor", "no-stop-gradient", "isoloss")
    }
    rank = {kind: float(powered_rank(np.sqrt(np.maximum(s, 0)), 0)) for kind, s in ends.items()}
    assert rank["no-stop-gradient"] < 5 < powered_rank(np.sqrt(lam), 0) < rank["predictor"] <= rank["isoloss"] + 1e-9
    weak = Eigenvalues(np.r_[1e-4, np.ones(7)])
    rates = [SetLoop("cosine", kind)(weak, h).s[0] / 1e-4 for kind in ("predictor", "isoloss")]
    assert rates[1] > 1e3 * rates[0] > 0


def test_rank_difference_falls_with_the_power_and_raises_the_rank():
    sigma = np.geomspace(1, 0.1, 20)
    ranks = [float(powered_rank(sigma, power)) for power in np.linspace(-1, 2, 7)]
    assert ranks[0] == pytest.approx(20) and (np.diff(ranks) < 0).all()
    rng = np.random.default_rng(0)
    for _ in range(20):
        s, noise = rng.uniform(0.1, 3, 6), rng.uniform(0.1, 2)
        p = s / (s + noise)
        assert rank_difference(np.sqrt(s), p) >= 0 >= rank_difference(np.sqrt(s), 1 / p)


# ---------------------------------------------------------------- commands and sentences


def test_a_diagram_of_the_pair_is_what_the_closed_form_says():
    x, y = make_axis("p0", -0.4, 4.0, 12), make_axis("s0", 0.002, 4.0, 9, log=True)
    found = phase_diagram(x, y, COSINE_PROBLEMS["cosine-modes"]).fate.values
    P, S = np.meshgrid(x.values, y.values)
    p, s = (np.concatenate([v[..., None], np.ones((*P.shape, 63))], -1) for v in (P, S))
    expected = cosine_limit(Mode(p, s), Hyperparameters(eta=0.0)).lives[..., 0]
    decided = found != UNDECIDED
    assert decided.mean() > 0.98 and ((found == ALIVE) == expected)[decided].all() and 0.1 < expected.mean() < 0.9


@pytest.mark.parametrize("name", COSINE_PROBLEMS)
def test_every_flow_has_a_diagram_a_border_and_a_basin(name, tmp_path, capsys):
    field = "p0" if name in ("cosine-modes", "cosine-modes-finite", "sixth-order") else "s0"
    other = "n_phi=2:6:2" if name == "sixth-order" else "sigma2=0.1:0.4:2"
    flags = ("--x", other, "--y", f"{field}=0.05:0.6:3", "--flow", name)
    for argv in (
        ("phase", *flags, "--budget", "50", "--out", tmp_path / "one.nc"),
        ("boundary", *flags, "--width", "0.1"),
        ("basin-fraction", "--along", other, "--n", "5", "--flow", name, "--p-low", "0.1", "--s-low", "0.1"),
    ):
        status = main("linear_theory", "test", COMMANDS, [*map(str, argv), "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        json.loads(out)
    with xr.open_dataset(tmp_path / "one.nc") as data:
        assert data.attrs["flow"] and data.fate.shape == (3, 2)


def test_what_does_not_fit_is_refused_in_a_sentence(capsys):
    for argv, said in (
        (["phase", "--flow", "cosine-modes", "--set", "others=0"], "others is 0; it must be finite and at least 1"),
        (["phase", "--flow", "cosine-modes", "--set", "beta=1"], "beta"),
        (["phase", "--flow", "sixth-order", "--set", "n_phi=0"], "n_phi is 0"),
        (["phase", "--flow", "set-cosine-isoloss", "--set", "sigma2=-1"], "sigma2 is -1"),
        (["phase", "--flow", "set-cosine"], "it must be one of mode, squared-none"),
    ):
        assert main("linear_theory", "test", COMMANDS, argv) == 2
        assert said in capsys.readouterr().err
    for wrong in (("cubic", "predictor"), ("cosine", "mirror")):
        with pytest.raises(ValueError, match="must be one of"):
            SetLoop(*wrong)
    with pytest.raises(ValueError, match="x_rest is 0"):
        PairHyperparameters(x_rest=0).validate()
    with pytest.raises(ValueError, match="exponent is -1"):
        cosine_rest(Eigenvalues([1.0]), LoopHyperparameters(-1.0))
    with pytest.raises(ValueError, match="is 0; what is 0 stays so"):
        cosine_rest(Eigenvalues([0.0]), LoopHyperparameters())


def test_a_cosine_recipe_is_told_of_norms_and_directions():
    def told(**fields):
        return {one.kind: one for one in predict(TrainingRecipe(loss="cosine", **fields), 0.25, 4000)}

    plain = told(weight_decay=1e-3)
    assert plain["directions"].values["theta"] == pytest.approx((math.exp(4) - 1) / 2e-3)
    assert (
        plain["norm"].values["left"] == pytest.approx(math.exp(-2))
        and "no weight decay is critical" in plain["norm"].words()
    )
    assert plain["turn"].values["angle"] == pytest.approx(float(settled_turn(0.05, 1e-3, 0.9)))
    assert "indicative" not in " ".join(one.words() for one in plain.values())
    assert told(weight_decay=0.0)["norm"].case == "kept" and "turn" not in told(weight_decay=0.0)
    fast, slow = told(predictor_lr=0.2), told(predictor_weight_decay=0.0)
    assert (fast["predictor"].case, slow["predictor"].case) == ("leads", "lags")
    assert fast["predictor"].values["end"] == pytest.approx(4 * math.exp(2 * 3e-4 * 2000))
    assert told(ema_momentum=0.99)["target"].case == "start_forgotten"
    for decay, style in itertools.product((0.0, 1e-4, 0.1, 9.0), ("coupled", "decoupled", "decoupled_plain")):
        for fields in ({}, {"predictor_lr": 1.0}, {"predictor_weight_decay": 0.0}, {"ema_momentum": 1.0}):
            words = [one.words() for one in told(weight_decay=decay, decay_style=style, **fields).values()]
            assert all(w.endswith(".") and "nan" not in w and " inf" not in w for w in words)
    with pytest.raises(ValueError, match="steps is 0"):
        predict(TrainingRecipe(loss="cosine"), 0.1, 0)
    squared = predict(TrainingRecipe(), 0.25, 4000)
    assert [one.kind for one in squared][:2] == ["time", "outcome"]


def test_translate_answers_for_a_cosine_loss(capsys):
    assert main("linear_theory", "test", COMMANDS, ["translate", "--loss", "cosine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["time_without_decay"] > found["time"] and "critical_eta" not in found and len(found["sentences"]) == 6
    assert main("linear_theory", "test", COMMANDS, ["translate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["critical_eta"] > 0


def test_axes_of_a_pair_are_its_own():
    assert {"p0", "s0", "q0", "r0", "others", "sigma2_rest"} <= set(COSINE_PROBLEMS["cosine-modes"].axes)
    found = phase_diagram(Axis("others", [1.0, 63.0]), Axis("p0", [0.5, 3.0]), COSINE_PROBLEMS["cosine-modes"])
    assert (found.fate.sel(p0=3.0) == 1).all() and (found.fate.sel(p0=0.5) == ALIVE).all()
