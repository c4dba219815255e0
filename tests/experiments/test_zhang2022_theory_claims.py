"""Claims of Zhang et al. 2022 that theory decides: what they find, other routes to it, and that each can fail."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import approx_fprime

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import KEYS, evaluate
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.zhang2022 import theory_clouds as clouds
from stopgrad.experiments.zhang2022 import theory_flows as flows
from stopgrad.experiments.zhang2022 import theory_gradients as gradients
from stopgrad.experiments.zhang2022.theory_claims import CLAIMS
from stopgrad.linear_theory.exact import centre, contrast, mean_mode
from stopgrad.linear_theory.tools.lengths import directions

PAPER = Paper(key="zhang2022", citation="Zhang et al. 2022", claims=CLAIMS)
BY_NAME = {claim.id.removeprefix("zhang2022-theory-"): claim for claim in PAPER.claims}


def forget():
    for module in (clouds, flows, gradients):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@pytest.fixture
def fresh():
    """Nothing remembered from before a perturbation, nor afterwards."""
    forget()
    yield
    forget()


def verdict(name):
    return evaluate(dataclasses.replace(BY_NAME[name], theory=lambda: ""), None, None)["verdict"]


# ---------------------------------------------------------------- what they find


def test_corrected_claims_hold_and_stated_slips_fail(theory):
    kept = ledger.theory_rows("zhang2022", Store(theory))
    rows = {name: kept[claim.id] for name, claim in BY_NAME.items()}
    for name, row in rows.items():
        assert tuple(row) == KEYS
        assert row["verdict"] == ("fails" if name.endswith("-as-stated") else "holds"), (name, row["reason"])
        assert row["theory"].endswith(".") and any(character.isdigit() for character in row["theory"]), name
        assert row["setting"] and row["scale"] == "theory" and row["since"] == "2026-11-29"
    assert all(claim.rule.why and not claim.arms for claim in PAPER.claims)
    assert sum(claim.as_stated is not None for claim in PAPER.claims) == 8


# ---------------------------------------------------------------- the same by other routes


@pytest.mark.parametrize(("m", "rho"), [(0.3, 0.5), (0.7, 0.25)])
def test_clouds_are_what_they_are_said_to_be(m, rho):
    one, other, eoa = clouds.views(m, rho)
    for z in (one, other):
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1)
        assert clouds.m_o(z) == pytest.approx(m, abs=0.01)
    residual = one - one.mean(0), other - other.mean(0)
    assert np.sum(residual[0] * residual[1]) / np.sum(residual[0] ** 2) == pytest.approx(rho, abs=0.01)
    assert clouds.eoa_centre(m, rho) == pytest.approx(1 / np.linalg.norm(eoa, axis=1).mean() - 1)
    assert clouds.extra_centre(eoa, other, other) == pytest.approx(clouds.eoa_centre(m, rho), abs=0.02)


def test_the_best_bias_is_no_worse_than_any_other():
    one, other, _ = clouds.views(0.6, 0.4)
    best, loss = clouds.optimal_bias(0.6, 0.4), lambda b: -np.mean(np.sum(directions(one + b) * other, -1))
    for step in 0.05 * np.random.default_rng(20).standard_normal((20, len(best))):
        assert loss(best) < loss(best + step)
    assert best[0] == pytest.approx(0.9, rel=0.05)  # (1/0.4 − 1) · 0.6


@given(st.floats(0.1, 1.5), st.floats(0.2, 5), st.integers(0, 1000))
def test_the_angle_that_two_zeros_imply(angle, ratio, seed):
    """Of two vectors with this angle and ratio of lengths, by the zeros of Figure 5a's two cosines."""
    a, b = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 2)))[0].T
    o_z, o_p = a, ratio * (np.cos(angle) * a + np.sin(angle) * b)
    zeros = (o_z - o_p) @ o_p / (o_p @ o_p), (o_p - o_z) @ o_z / (o_z @ o_z)
    assert clouds.turned(*zeros) == pytest.approx(np.degrees(angle), rel=1e-6)
    assert clouds.enlarged(*zeros) == pytest.approx(ratio)


@given(st.floats(0, 0.9), st.floats(0.05, 1))
def test_rho_of_a_measured_eta(m, rho):
    assert clouds.rho_of(centre.decentring(m, rho), m) == pytest.approx(rho, abs=1e-6)


def test_what_the_adversary_climbs():
    z = np.random.default_rng(21).standard_normal((5, 3))
    value, slope = clouds._minus_m_o(z.ravel(), z.shape)
    r = [[(v - column.mean()) / column.std() for v in column] for column in z.T]
    rows = [np.array(row) / np.linalg.norm(row) for row in zip(*r, strict=True)]
    assert value == pytest.approx(-np.linalg.norm(sum(rows) / 5))
    differences = approx_fprime(z.ravel(), lambda flat: clouds._minus_m_o(flat, z.shape)[0], 1e-7)
    np.testing.assert_allclose(slope, differences, atol=1e-5)


def test_extra_gradients_one_anchor_after_the_other():
    Z_a, Z_b = gradients._anchors(), gradients._keys()
    for tau in (0.2, 3.0):
        expected = []
        for anchor in Z_a:
            weights = [np.exp(anchor @ key / tau) for key in Z_b]
            expected.append(-sum(w * key for w, key in zip(weights, Z_b, strict=True)) / sum(weights))
        np.testing.assert_allclose(gradients.extra_gradients(tau), expected, atol=1e-12)


def test_the_regulariser_line_by_line():
    """Algorithm 6 with loops, its gradient on raw embeddings, and its descent from a collapse."""
    z = gradients.cloud(0.2, n=9, d=4, seed=22)
    r, loss = z - z.mean(0), 0.0
    C = r.T @ r / 8
    for i in range(4):
        loss += sum(C[i, j] ** 2 for j in range(4) if j != i) / 4
    penalty = gradients._penalty("covariance", "raw")
    assert gradients._value(penalty, z) == pytest.approx(loss)
    slope = gradients.gradients(penalty, z)[0]
    np.testing.assert_allclose(slope, 4 / (8 * 4) * r @ (C - np.diag(np.diag(C))), atol=1e-14)

    z, velocity, before = gradients.cloud(0.1), 0.0, gradients.m_r(gradients.cloud(0.1))
    for _ in range(40):  # by hand: what is along Z of the gradient at Z = z/‖z‖ turns nothing
        size = np.linalg.norm(z, axis=1, keepdims=True)
        r = z / size - (z / size).mean(0)
        C = r.T @ r / 63
        at_Z = 4 / (63 * 16) * r @ (C - np.diag(np.diag(C)))
        velocity = 0.9 * velocity + (at_Z - z * np.sum(z * at_Z, 1, keepdims=True) / size**2) / size
        z = z - 0.05 * 64 * velocity
    assert gradients.undoing("covariance") == pytest.approx(np.log(gradients.m_r(z) / before), rel=1e-6)


def naive(x, xp, t):
    """w_j(t)² of the cosine loss without predictor from 1, by SciPy: w_j′ = w_j [x_j − κ(x_j + x_j′)]/Σ(x + x′)w²."""

    def slope(_, w):
        return w * mean_mode.naive_rates(x, xp, w) / np.sum((x + xp) * w * w)

    return solve_ivp(slope, (0, t), np.ones(len(x)), "LSODA", rtol=1e-8, atol=1e-12).y[:, -1] ** 2


def test_ends_without_predictor_by_scipy():
    w = naive(flows.VARIANCES + 9 * np.eye(6)[0], np.full(6, 0.3), 400.0)
    values = (flows.VARIANCES + 0.3) * w
    m_o, ratio = flows.matrices("none")
    assert m_o == pytest.approx(np.sqrt(9 * w[0] / (9 * w[0] + values.sum())), rel=1e-3)
    assert ratio == pytest.approx(values.sum() ** 2 / np.sum(values**2), rel=1e-3)

    w = naive(np.append(1.44, np.ones(32)), np.full(33, 0.6), 5000.0)
    energy = 1.44 * w[0] + 1.6 * w[1:].sum() + 0.6 * w[0]
    assert flows.centre_ends("cosine-none")[1, 2] == pytest.approx(np.sqrt(1.44 * w[0] / energy), rel=1e-3)


def test_whitening_is_the_same_in_many_dimensions(monkeypatch, fresh):
    """Where modes are many, lengths do not vary, and sampled modes come to the closed form."""
    monkeypatch.setattr(clouds, "STRENGTHS", np.geomspace(4.0, 0.1, 200))
    assert clouds.whitening_agreement()[1] > 0.1
    sampled, closed = clouds.whitening()
    assert np.corrcoef(sampled, closed)[0, 1] > 0.995


# ---------------------------------------------------------------- they can fail


def always(value):
    return lambda *_, **__: value


def scaled(function, factor):
    return lambda *args, **options: factor * function(*args, **options)


def still(state, *_):
    return type(state)(*(0 * v for v in state))


def toward(name):
    return lambda _: Direction(name)


def form(name):
    return lambda _, embeddings="normalised": Decorrelation(name, embeddings)


def centred(name):
    return lambda Z_a, Z_b, tau, centre: measured_alignment(Z_a, Z_b, tau, centre=name)


def views(change):
    """Views whose images' expectation is another: change(view, expectation)."""

    def changed(m, rho):
        one, other, eoa = sampled_views(m, rho)
        return one, other, change(other, eoa)

    return changed


def larger(_, eoa):
    return np.concatenate([eoa[:, :1], 2 * eoa[:, 1:]], axis=1)


Direction, Decorrelation, cosine_loss = gradients.Direction, gradients.Decorrelation, gradients.cosine_loss
measured_alignment, sampled_views = contrast.measured_alignment, clouds.views
UNBALANCED, BALANCED = ({"corrected": (0.5, second), "printed": (0.5, second)} for second in (1.0, 0.5))
PERTURBATIONS = {
    "split": (clouds, "directions", lambda z: z),
    "chance": (centre, "chance_m_o_squared", lambda n: n**-0.5),
    "start": (centre, "initial_m_o", always(0.5)),
    "start-output-batchnorm": (clouds, "_standardised", lambda z: z),
    "batchnorm-bound": (centre, "largest_m_o", lambda n: 1 - 3 / n),
    "batchnorm-bound-reached": (centre, "largest_m_o", lambda n: 1 - 3 / n),
    "std-blind": (clouds, "sampled_std", lambda k: np.sqrt(k / 64)),
    "opposite": (gradients, "Direction", toward("view")),
    "drawn-to-centre": (gradients, "Direction", toward("residual")),
    "radial": (gradients, "cosine_loss", lambda p, target: (p - target).square().sum()),
    "norm-grows": (gradients, "cosine_loss", lambda p, target: 1.01 * cosine_loss(p, target)),
    "algorithm5": (gradients, "WEIGHTS", UNBALANCED),
    "bias": (centre, "optimal_bias", lambda rho: 1 / rho),
    "eta": (centre, "decentring", lambda m_o, rho: 1 - rho),
    "figure5a-turned": (clouds, "FIGURE5A", (-0.44, 0.78)),
    "eoa": (clouds, "views", views(lambda other, eoa: other)),
    "mirror": (clouds, "predicted", lambda m, rho, kind: clouds.views(m, rho)[1]),
    "whitening": (clouds, "NOISE", 1e-6),
    "one-shrinkage": (mean_mode, "settled_shares", lambda x, xp: x / (x + xp) / np.sum(x / (x + xp))),
    "centre-fate": (mean_mode, "least_variance", always(0.5)),
    "centre-wins": (mean_mode, "least_augmented", lambda x, xp: np.argmax(xp / x, -1)),
    "bias-saves": (flows, "_problem", lambda _, problem=flows._problem: problem("cosine-none")),
    "bias-rank": (flows, "cosine_network_flow", still),
    "settled-centre": (mean_mode, "settled_centre", scaled(mean_mode.settled_centre, 1.01)),
    "infonce-centre": (gradients, "infonce_loss", scaled(gradients.infonce_loss, 1.01)),
    "infonce-residual": (centre, "infonce_residual", scaled(centre.infonce_residual, 1.1)),
    "figure5c-fall": (contrast, "measured_alignment", centred("keys")),
    "figure5c-centre": (contrast, "measured_alignment", centred("both")),
    "algorithm6": (gradients, "Decorrelation", form("correlation")),
    "decorrelation-gradient": (gradients, "Decorrelation", form("covariance")),
    "covariance-shrinks": (gradients, "Decorrelation", form("correlation")),
    "correlation-keeps": (gradients, "Decorrelation", form("covariance")),
    "undoing": (gradients, "Decorrelation", form("covariance")),
}


def test_every_claim_that_holds_is_perturbed_below():
    assert set(PERTURBATIONS) == {name for name in BY_NAME if not name.endswith("-as-stated")}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_claim_fails_where_the_theory_is_perturbed(name, fresh, monkeypatch):
    monkeypatch.setattr(*PERTURBATIONS[name])
    assert verdict(name) == "fails"


STATED = {
    "std-blind": PERTURBATIONS["std-blind"],
    "algorithm5": (gradients, "WEIGHTS", BALANCED),
    "eta": (clouds, "CENTRES", ((0.1, 0.5),)),
    "eoa": (clouds, "views", views(larger)),
    "bias-rank": PERTURBATIONS["bias-rank"],
    "figure5c-centre": PERTURBATIONS["figure5c-centre"],
    "algorithm6": PERTURBATIONS["algorithm6"],
    "undoing": (gradients, "Decorrelation", form("correlation")),
}


def test_every_slip_is_made_true_below():
    assert set(STATED) == {name.removesuffix("-as-stated") for name in BY_NAME if name.endswith("-as-stated")}


@pytest.mark.parametrize("name", STATED)
def test_what_is_stated_wrongly_would_hold_in_a_world_where_it_is_true(name, fresh, monkeypatch):
    monkeypatch.setattr(*STATED[name])
    assert verdict(f"{name}-as-stated") == "holds"
