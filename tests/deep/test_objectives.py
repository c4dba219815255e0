"""The objectives of Zhang et al. 2022 and SimSiam's cross-entropy, against the golden facts on the paper (`zhang_g` and
their number) and against slow readings of the formulas.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from variants import B, D, batch, close, draw, network, slopes, trained

from stopgrad.deep.method.objectives.components import Components
from stopgrad.deep.method.objectives.decorrelation import Decorrelation
from stopgrad.deep.method.objectives.direction import Direction
from stopgrad.deep.method.objectives.infonce import InfoNCE, infonce_loss
from stopgrad.deep.method.objectives.predictive import Predictive, cross_entropy_loss
from stopgrad.deep.method.objectives.triplet import Triplet
from stopgrad.deep.method.objectives.vectors import centre, other_images, random_directions, residual
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.training.training import gradient


def outputs(step=0, leaf="p", **vectors):
    """Embeddings, predictions and targets of their own, of which one is to be differentiated."""
    made = {name: vectors.get(name, draw(2, B, D, seed=k)) for k, name in enumerate(("z", "p", "target"))}
    made[leaf] = made[leaf].clone().requires_grad_()
    return Outputs(**made, index=torch.arange(B), step=step)


# ---------------------------------------------------------------- G1, G2: a loss of directions


OF_DIRECTIONS = {
    "p": [
        *map(Components, ("both", "centre", "residual", "none")),
        *map(Triplet, ("both", "centre", "residual")),
        *(InfoNCE(0.3, stopped) for stopped in ("none", "negatives", "all")),
        Predictive(),
    ],
    "z": [
        *map(Direction, ("centre", "residual", "random", "view")),
        *map(Decorrelation, ("covariance", "correlation")),
    ],
}
CASES = [pytest.param(leaf, one, id=repr(one)) for leaf, some in OF_DIRECTIONS.items() for one in some]


@pytest.mark.parametrize(("leaf", "objective"), CASES)
def test_zhang_g1_a_gradient_is_perpendicular_and_of_degree_minus_one(leaf, objective):
    seen = outputs(leaf=leaf)
    v = getattr(seen, leaf)
    (slope,) = torch.autograd.grad(objective(seen), v)
    assert float((v * slope).detach().sum(-1).abs().max()) < 1e-16 < float(slope.norm())
    longer = outputs(leaf=leaf, **{leaf: 3 * v.detach()})
    (again,) = torch.autograd.grad(objective(longer), getattr(longer, leaf))
    assert close(again, slope / 3)


@pytest.mark.parametrize(("leaf", "objective"), CASES)
def test_zhang_g2_a_step_never_shortens(leaf, objective):
    seen = outputs(leaf=leaf)
    v = getattr(seen, leaf)
    (slope,) = torch.autograd.grad(objective(seen), v)
    after = (v - 0.7 * slope).square().sum(-1)
    assert close(after, v.square().sum(-1) + 0.49 * slope.square().sum(-1))


# ---------------------------------------------------------------- G10: centre and residual


@pytest.mark.parametrize("seed", range(3))
def test_zhang_g10_centre_and_residual_pull_exactly_against_each_other(seed):
    (_, o), (_, r) = (trained(objective="direction", toward=k, seed=seed) for k in ("centre", "residual"))
    assert close(o, -r) and float(o.norm()) > 1e-3


def test_zhang_g10_what_they_are_drawn_to():
    Z = normalize(draw(2, B, D), dim=-1)
    o = torch.stack([sum(view) / B for view in Z])[:, None]
    assert close(centre(Z), o) and close(residual(Z), Z - o) and float(residual(Z).mean(1).abs().max()) < 1e-16
    seen = outputs(z=7 * Z)
    for toward, goal in {"centre": o, "residual": Z - o, "view": Z.flip(0)}.items():
        assert close(Direction(toward)(seen), -(Z * goal).sum(-1).mean())


@pytest.mark.parametrize(("toward", "rises"), [("centre", True), ("residual", False), ("view", True)])
def test_zhang_fig4_the_centre_grows_or_goes(toward, rises):
    """A network under one loss: m_o goes where Conjecture 1 says."""
    siamese = network(objective="direction", toward=toward)
    optimiser = torch.optim.SGD(siamese.online.parameters(), lr=1.0)
    sizes = []
    for step in range(40):
        found = gradient(siamese, [batch(step)])
        sizes.append(float(centre(normalize(found.z, dim=-1)).norm(dim=-1).mean()))
        optimiser.step()
        optimiser.zero_grad()
    assert sizes[-1] > sizes[0] + 0.2 if rises else sizes[-1] < sizes[0] - 0.2
    assert np.all(np.diff(sizes) > 0) == rises


def test_a_naive_siamese_network_is_drawn_to_the_other_view():
    naive = trained(predictor="identity")
    assert all(map(close, trained(objective="direction", toward="view", predictor="identity"), naive))


def test_the_random_direction_is_the_steps_and_the_images():
    index = torch.tensor([5, 3, 3, 10**6])
    u = random_directions(7, index, 6)
    assert u.dtype == torch.float64 and close(u.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(u[1], u[2]) and torch.equal(random_directions(7, index[:1], 6), u[:1])
    assert not torch.equal(random_directions(8, index, 6), u)
    many = torch.cat([random_directions(step, torch.arange(500), 6) for step in range(20)])
    assert float(many.mean(0).norm()) < 4 / math.sqrt(len(many))  # E = 1/√n of it
    assert close(many.mT @ many / len(many), torch.eye(6, dtype=torch.float64) / 6, 0.01)
    seen = outputs(step=7, leaf="z")
    Z = normalize(seen.z, dim=-1)
    assert close(Direction("random")(seen), -(Z * random_directions(7, torch.arange(B), D)).sum(-1).mean())


# ---------------------------------------------------------------- G11: components of the extra gradient


def test_zhang_g11_both_components_are_simsiam_to_the_bit():
    for target in ("shared", "ema"):
        for mine, theirs in zip(trained(objective="components", keep="both", target=target), trained(target=target)):
            assert torch.equal(mine, theirs)


def test_zhang_g11_targets_of_the_components():
    seen = outputs()
    P, Z = normalize(seen.p, dim=-1), normalize(seen.target, dim=-1)
    found = {}
    for keep in ("both", "centre", "residual", "none"):
        total, goals = 0, []
        for a, b in ((0, 1), (1, 0)):
            o_z, o_p = sum(Z[b]) / B, sum(P[b]) / B
            for i in range(B):
                goal = {
                    "both": Z[b, i],
                    "centre": o_z + (P[b, i] - o_p),
                    "residual": o_p + (Z[b, i] - o_z),
                    "none": P[b, i],
                }[keep].detach()
                total = total - P[a, i] @ goal / (2 * B)
                goals.append(goal.norm())
        loss = Components(keep)(seen)
        found[keep] = torch.autograd.grad(loss, seen.p)[0]
        assert close(loss, total) and close(found[keep], torch.autograd.grad(total, seen.p, retain_graph=True)[0])
        lengths = torch.stack(goals)
        assert close(lengths, torch.ones_like(lengths)) == (keep in ("both", "none"))  # not normalised again
    assert close(found["centre"] + found["residual"], found["both"] + found["none"])
    assert not close(found["centre"], found["residual"], 1e-3)


def test_zhang_g11_without_predictor_all_components_are_naive():
    naive = trained(predictor="identity")
    for keep in ("both", "centre", "residual", "none"):
        assert all(map(close, trained(objective="components", keep=keep, predictor="identity"), naive))


def test_zhang_g11_a_triplets_centre_is_taken_off_the_target():
    seen = outputs()
    P, Z = normalize(seen.p, dim=-1), normalize(seen.target, dim=-1)
    assert close(Triplet("centre")(seen), -(P * residual(Z.flip(0))).sum(-1).mean())


# ---------------------------------------------------------------- the triplet


@pytest.mark.parametrize("keep", ["both", "centre", "residual"])
def test_zhang_table_3_what_a_triplet_draws_to(keep):
    seen = outputs(step=11)
    P, Z, n = normalize(seen.p, dim=-1), normalize(seen.target, dim=-1), other_images(11, B).tolist()
    total = 0
    for a, b in ((0, 1), (1, 0)):
        o = sum(Z[b]) / B
        for i in range(B):
            total = total - P[a, i] @ (Z[b, i] - {"both": Z[b, n[i]], "centre": o, "residual": Z[b, n[i]] - o}[keep])
    assert close(Triplet(keep)(seen), total / (2 * B))


def test_a_triplets_components_add_up():
    """Z_b − Z_n = (Z_b − o_z) + (Z_b − r_n) − Z_b."""
    both, o, r = (trained(batch(3), objective="triplet", keep=k)[1] for k in ("both", "centre", "residual"))
    assert close(both, o + r - trained(batch(3))[1]) and not close(o, r, 1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 60))
def test_the_negative_is_another_image_and_the_steps(step, n):
    other = other_images(step, n)
    assert other.dtype == torch.int64 and (other >= 0).all() and (other < n).all() and (other != torch.arange(n)).all()
    assert torch.equal(other, other_images(step, n))


def test_every_other_image_is_a_negative_as_often():
    counts, steps = torch.zeros(3, 3), 300
    for step in range(steps):
        counts[torch.arange(3), other_images(step, 3)] += 1
    share = counts / steps - (1 - torch.eye(3)) / 2
    assert float(share.abs().max()) < 4 * math.sqrt(1 / 4 / steps)


# ---------------------------------------------------------------- G12: InfoNCE


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_infonce_is_torchs_cross_entropy(tau):
    siamese = network(objective="infonce", temperature=tau)
    found = siamese(batch())
    P, Z = normalize(found.p, dim=-1), normalize(found.z, dim=-1)
    wanted = sum(cross_entropy(P[a] @ Z[1 - a].mT / tau, torch.arange(B)) for a in (0, 1)) / 2
    assert close(found.loss, wanted) and close(slopes(siamese, found.loss), slopes(siamese, wanted))


def pushed(tau, n=40, d=6):
    """The extra gradient of InfoNCE at one Z_a, from autograd, with the keys and what they are made of."""
    Z = normalize(draw(n, d) + 0.4, dim=-1)
    queries = normalize(draw(n, d, seed=1), dim=-1).requires_grad_()
    (slope,) = torch.autograd.grad(infonce_loss(queries, Z, Z, tau), queries)
    extra = -tau * n * slope - Z  # −τ∂L/∂Z_a = Z_b + G_e
    weights = (queries @ Z.mT / tau).softmax(-1).detach()
    return queries.detach(), Z, extra, weights


@pytest.mark.parametrize("tau", [0.05, 0.5, 5.0, 50.0])
def test_zhang_g12_infonces_centre_is_minus_o_at_every_temperature(tau):
    _, Z, extra, weights = pushed(tau)
    assert close(extra, -Z.mean(0) - weights @ (Z - Z.mean(0)), 1e-11)


def test_zhang_g12_infonces_residual_is_decorrelation_to_first_order():
    found = {}
    for tau in (20.0, 200.0, 2000.0):
        Za, Z, extra, _ = pushed(tau)
        r = Z - Z.mean(0)
        r_e, first = extra + Z.mean(0), -Za @ (r.mT @ r / len(r)) / tau
        found[tau] = float(((r_e - first).norm(dim=1) / first.norm(dim=1)).max())
    assert found[20.0] < 0.1 and found[2000.0] < 1e-3
    assert found[200.0] / found[2000.0] == pytest.approx(10, rel=0.05)  # the next order is 1/τ²


def test_zhang_g12_the_residuals_share_falls_with_the_temperature():
    shares = []
    for tau in (0.05, 0.1, 0.3, 1.0, 3.0):
        _, Z, extra, _ = pushed(tau)
        shares.append(float((extra + Z.mean(0)).norm(dim=1).mean() / Z.mean(0).norm()))
    assert shares == sorted(shares, reverse=True) and shares[0] > 10 * shares[-1]


def test_which_keys_pass_a_gradient():
    """The target's gradient: of all keys, of the positive alone, of none. That of predictions is always the same."""
    tau, found, own = 0.3, {}, {}
    for keys in ("none", "negatives", "all"):
        seen = outputs(leaf="target", p=draw(2, B, D, seed=1).requires_grad_())
        loss = InfoNCE(tau, keys)(seen)
        own[keys], found[keys] = torch.autograd.grad(loss, (seen.p, seen.target), materialize_grads=True)
    assert close(own["none"], own["negatives"]) and close(own["none"], own["all"]) and not found["all"].any()
    P, Z = normalize(seen.p.detach(), dim=-1), normalize(seen.target.detach(), dim=-1).requires_grad_()
    weights = (P @ Z.flip(0).mT / tau).softmax(-1).diagonal(dim1=-2, dim2=-1).detach()
    matching = -((1 - weights) * (P * Z.flip(0)).sum(-1)).sum() / (tau * 2 * B)
    (slope,) = torch.autograd.grad(matching, Z)
    Z = Z.detach()
    slope = slope - Z * (Z * slope).sum(-1, keepdim=True)
    assert close(found["negatives"], slope / seen.target.detach().norm(dim=-1, keepdim=True))
    assert not close(found["none"], found["negatives"], 1e-3)


# ---------------------------------------------------------------- G15: without a predictor


@pytest.mark.parametrize("loss", ["cosine", "squared"])
def test_zhang_g15_without_predictor_stop_gradient_halves(loss):
    a, b = (trained(loss=loss, predictor="identity", stop_gradient=stop, seed=4)[1] for stop in ("target", "none"))
    assert close(a, b / 2) and float(a.norm()) > 1e-3


# ---------------------------------------------------------------- G16: de-correlation


def test_alg_6_as_printed():
    z, d = 3 * draw(2, B, D) + 1, D
    for embeddings, given_ in (("raw", z), ("normalised", normalize(z, dim=-1))):
        for form, matrix in (("covariance", np.cov), ("correlation", np.corrcoef)):
            wanted = []
            for view in given_.numpy():
                C = matrix(view, rowvar=False)
                wanted.append(sum(C[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d)
            found = Decorrelation(form, embeddings)(outputs(z=z))
            assert float(found) == pytest.approx(sum(wanted) / 2, rel=1e-12)


def test_zhang_g16_a_collapse_minimises_covariances_and_not_correlations():
    sizes = (1.0, 1e-2, 1e-4)
    o = draw(1, 1, D, seed=5)
    found = {
        form: [float(Decorrelation(form)(outputs(z=o + size * draw(2, B, D)))) for size in sizes]
        for form in ("covariance", "correlation")
    }
    assert found["covariance"][0] > 1e3 * found["covariance"][1] > 1e6 * found["covariance"][2]
    assert min(found["correlation"]) > 0.3 * max(found["correlation"]) > 0.1
    alike = outputs(leaf="z", z=o.expand(2, B, D))
    for form in found:  # nothing to hold on to, and no division by 0
        loss = Decorrelation(form)(alike)
        (slope,) = torch.autograd.grad(loss, alike.z)
        assert float(loss.detach()) < 1e-25 and not slope.isnan().any()


def test_correlations_do_not_see_how_large_a_channel_is():
    z, scale = draw(2, B, D), torch.tensor([1.0, 10, 1e-3, 5, 2])
    a, b = (float(Decorrelation("correlation", "raw")(outputs(z=v))) for v in (z, z * scale + 3))
    assert a == pytest.approx(b, rel=1e-9)


# ---------------------------------------------------------------- SimSiam's cross-entropy


def test_simsiam_cross_entropy_is_torchs():
    p, t = 2 * draw(B, D), 2 * draw(B, D, seed=1)
    assert close(cross_entropy_loss(p, t), cross_entropy(p, t.softmax(-1)))
    found = network(loss="cross_entropy")(batch())
    wanted = sum(cross_entropy(found.p[a], found.z[1 - a].detach().softmax(-1)) for a in (0, 1)) / 2
    assert close(found.loss, wanted)
    assert Predictive(loss="cross_entropy").theory is None and Predictive(loss="squared").theory == "squared"
