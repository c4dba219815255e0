"""The Siamese method against theory: gradients of the real modules against Lemma 1 (Tian et al. 2021), the expected
rates of Halvagal et al. 2023, and the golden facts on Zhang et al. 2022 (`zhang_g` and their number) on losses.
"""

import math

import numpy as np
import pytest
import torch
from methods import objective
from scipy.integrate import quad
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from stopgrad.deep.config import Config, Data, Method, Optimisation, check
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.networks import BiasLayer
from stopgrad.deep.method.objectives.predictive import cosine_loss, squared_loss
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.siamese import Siamese
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.samples import linear_siamese
from stopgrad.linear_theory.samples.views import exact_views, gaussian_views

D = 5
FLOW = Hyperparameters(eta=0.0, beta=0.0)


def linear_method(**fields):
    """One linear layer and a linear predictor, squared error: the theory's setting."""
    fields = {"backbone": "identity", "projector_layers": 1, "embedding_dim": D, "loss": "squared"} | fields
    return check(Config(data=Data(dataset="gaussian"), method=Method.of(**fields))).method


def linear(seed=0, n=D, **fields):
    torch.manual_seed(seed)
    return Siamese(linear_method(**fields), n).double()


def deep_mlp(seed=0, **fields):
    """A network with BatchNorm and ReLU: backbone linear, projector of two layers."""
    return linear(seed, 7, **{"backbone": "linear", "projector_layers": 2, "projector_hidden": 11} | fields)


def correlations(seed=0, n=D):
    g = torch.Generator().manual_seed(seed)
    A, B = torch.randn(2, n, n, dtype=torch.float64, generator=g)
    return Correlations((A @ A.mT / n).numpy(), (0.2 * B @ B.mT / n).numpy())


def pair(batch=12, n=7, seed=0):
    return tuple(torch.randn(2, batch, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def state(siamese, Wa=None):
    W = siamese.online.projector.last.weight.detach().clone()
    Wp = siamese.predictor.matrix()
    return Network(torch.eye(len(W), dtype=W.dtype) if Wp is None else Wp, W, W if Wa is None else Wa)


def slopes(siamese, views):
    """∂loss/∂(W_p, W), zero where nothing arrives."""
    siamese.zero_grad(set_to_none=True)
    siamese(Batch.of(*views)).loss.backward()
    W = siamese.online.projector.last.weight.grad
    Wp = next((w.grad for w in siamese.predictor.parameters()), None)
    return torch.zeros(len(W), len(W), dtype=W.dtype) if Wp is None else Wp, W


def all_slopes(siamese, loss):
    siamese.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([w.grad.flatten() for w in siamese.parameters() if w.grad is not None])


def close(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- Lemma 1, Eq. 6 and the wing below


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("predictor", ["linear", "identity"])
@pytest.mark.parametrize(
    ("target", "stop"), [("shared", "target"), ("ema", "target"), ("shared", "none"), ("shared", "mirrored")]
)
def test_expected_gradients_are_lemma_1(target, stop, predictor, symmetric):
    siamese = linear(target=target, stop_gradient=stop, predictor=predictor, symmetric_loss=symmetric)
    Wa = None
    if target == "ema":
        Wa = siamese.target.network.projector.last.weight
        Wa.copy_(torch.randn(D, D, dtype=torch.float64))  # as after some steps
    data = correlations()
    learns = predictor == "linear" and stop != "mirrored"
    switches = Switches(target, stop, "learned" if learns else "fixed")
    flow = network_flow(state(siamese, Wa), Correlations(*map(torch.as_tensor, data)), FLOW, switches)
    Wp, W = slopes(siamese, exact_views(data)(None, 0))
    assert close(Wp, -flow.Wp) and close(W, -flow.W)
    assert float(W.abs().max()) > 0.01 and bool(Wp.any()) == learns  # mirrored: nothing reaches the predictor


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("target", "stop"), [("shared", "target"), ("ema", "target"), ("shared", "none")])
def test_gradients_on_a_batch_are_those_of_the_linear_wing(target, stop, symmetric, scale):
    siamese = linear(1, target=target, stop_gradient=stop, symmetric_loss=symmetric, loss_scale=scale)
    views = gaussian_views(correlations(2))(torch.Generator().manual_seed(3), 9)
    other = linear_siamese.gradient(state(siamese), *views, FLOW, Switches(target, stop), symmetric)
    Wp, W = slopes(siamese, views)
    assert close(Wp, scale * other.Wp) and close(W, scale * other.W)


# ---------------------------------------------------------------- closed-form predictors: rates of Halvagal et al. 2023


def halvagal(lam, alpha, sigma, **fields):
    """W W^T with eigenvalues `lam`, W_p = U lam^alpha U^T, and dlam/dt of the expected one-sided gradient."""
    fields = {"predictor": "directset", "predictor_alpha": alpha, "symmetric_loss": False} | fields
    siamese, lam = linear(2, 3, embedding_dim=3, **fields), torch.tensor(lam, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    siamese.online.projector.last.weight.data = W = (U * lam.sqrt()) @ U.mT
    siamese.predictor.weight.copy_((U * lam**alpha) @ U.mT)
    clean = 3**0.5 * torch.eye(3, dtype=torch.float64).repeat(6, 1)  # E[x xᵀ] = I, and every noise with either sign
    noise = 3**0.5 * sigma * torch.eye(3, dtype=torch.float64).repeat_interleave(3, 0)
    _, slope = slopes(siamese, (clean, clean + torch.cat([noise, -noise])))
    return -(U.mT @ (slope @ W.mT + W @ slope.mT) @ U).diagonal(), lam


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_rates_of_euclidean_loss_and_isoloss(alpha):
    lam = (0.3, 0.9, 1.4)
    found, s = halvagal(lam, alpha, 0.5)
    assert close(found, 2 * s ** (1 + alpha) * (1 - s**alpha))
    found, s = halvagal(lam, alpha, 0.5, isoloss=True)
    assert close(found, 2 * s * (1 - s**alpha))


def test_rates_without_stop_gradient_and_without_predictor():
    found, s = halvagal((0.3, 0.9, 1.4), 1.0, 0.5, stop_gradient="none")
    assert close(found, -2 * s * ((s - 1) ** 2 + 0.25))
    siamese = linear(2, predictor="identity", symmetric_loss=False)
    clean, noise = math.sqrt(D) * torch.eye(D, dtype=torch.float64).repeat(2, 1), 0.3 * torch.eye(D).double()
    _, slope = slopes(siamese, (clean, clean + torch.cat([noise, -noise])))
    assert float(slope.abs().max()) < 1e-15  # zero in expectation


def test_rates_of_the_cosine_loss_keep_the_trace():
    """Modes (.3, .9, 1.4) with W_p = F: +.085, +.056, -.141, by sampling; the trace stays for every sample."""
    siamese = linear(3, 3, embedding_dim=3, predictor="directset", loss="cosine", symmetric_loss=False)
    lam = torch.tensor([0.3, 0.9, 1.4], dtype=torch.float64)
    W = torch.diag(lam.sqrt())
    siamese.online.projector.last.weight.data = W.clone()
    siamese.predictor.weight.copy_(torch.diag(lam))
    x, e = torch.randn(2, 400_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, slope = slopes(siamese, (x, x + 0.1 * e))
    rates = -2 * (slope @ W.mT).diagonal()
    assert abs(float(rates.sum())) < 1e-14
    assert rates.tolist() == pytest.approx([0.085, 0.056, -0.141], abs=2e-3)


# ---------------------------------------------------------------- IsoLoss


@pytest.mark.parametrize("loss", ["squared", "cosine"])
def test_isoloss_lets_the_gradient_at_the_prediction_act_on_the_embedding(loss):
    method = linear_method(loss=loss, isoloss=True, predictor="directset", symmetric_loss=False)
    z, p, t = (torch.randn(2, 6, D, dtype=torch.float64).requires_grad_() for _ in range(3))
    value = objective(method)(z, p, t)
    dz, dp, dt = torch.autograd.grad(value, (z, p, t), allow_unused=True, materialize_grads=True)
    plain = {"squared": squared_loss, "cosine": cosine_loss}[loss](p[0], t[1])
    assert value.item() == pytest.approx(plain.item(), rel=1e-12)
    assert close(dz[0], torch.autograd.grad(plain, p)[0][0])
    assert not dp.any() and not dt.any() and not dz[1].any()


def test_isoloss_of_the_cosine_is_halvagals():
    """-z.sg(T/|p|) + sg((p.T)/|p|³) ½‖W_p^½ z‖² (2212.04858): its second term has the gradient of -P(P.T)/|p|."""
    root = torch.diag(torch.rand(D, dtype=torch.float64))
    z, t = (torch.randn(6, D, dtype=torch.float64).requires_grad_() for _ in range(2))
    p, T, size = z @ root @ root, normalize(t.detach(), dim=1), (z @ root @ root).norm(dim=1).detach()
    pull = ((p * T).sum(1) / size**3).detach()
    theirs = (-(z * T).sum(1) / size + pull * (z @ root).square().sum(1) / 2).mean()
    method = linear_method(loss="cosine", isoloss=True, predictor="directset", symmetric_loss=False)
    ours = objective(method)(torch.stack([z, z]), torch.stack([p, p]), torch.stack([t, t]))
    assert close(torch.autograd.grad(ours, z)[0], torch.autograd.grad(theirs, z)[0])


# ---------------------------------------------------------------- cosine loss: facts 1 and 2, exact identities


def test_zhang_g1_gradient_of_the_cosine():
    p, z = torch.randn(1, D, dtype=torch.float64).requires_grad_(), torch.randn(1, D, dtype=torch.float64)
    loss = cosine_loss(p, z)
    (grad,) = torch.autograd.grad(loss, p)
    size, P, Z = p.detach().norm(), normalize(p.detach(), dim=1), normalize(z, dim=1)
    assert close(grad, -(Z - P * (P * Z).sum()) / size)
    assert abs(float((P * grad).sum())) < 1e-15
    assert float(grad.norm() * size) == pytest.approx(math.sin(math.acos(-loss.item())), rel=1e-12)
    longer = (3 * p.detach()).requires_grad_()
    assert close(torch.autograd.grad(cosine_loss(longer, 7 * z), longer)[0], grad / 3)
    stepped, sine = p.detach() - 0.3 * grad, grad.norm() * size  # fact 2: a step never shortens p
    assert close(stepped.square().sum(), size**2 + 0.09 * sine**2 / size**2)


@pytest.mark.parametrize("target", ["shared", "ema"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_zhang_g2_and_balance_for_the_cosine_loss(symmetric, target):
    """<W_p, dL> = <W, dL> = 0 and W_p^T dL/dW_p = dL/dW W^T for every sample; the norms after a step with decay."""
    siamese = linear(4, loss="cosine", symmetric_loss=symmetric, target=target)
    views, (Wp, W) = pair(n=D), state(siamese)[:2]
    dWp, dW = slopes(siamese, views)
    assert abs(float((Wp * dWp).sum())) < 1e-15 and abs(float((W * dW).sum())) < 1e-15
    assert close(Wp.mT @ dWp, dW @ W.mT, 1e-14) and float(dWp.norm()) > 0.1
    o = Optimisation(lr=0.2, weight_decay=0.05, momentum=0.9)
    make_optimiser(siamese, o).step()
    for before, slope, after in zip((Wp, W), (dWp, dW), state(siamese)):
        wanted = (1 - o.lr * o.weight_decay) ** 2 * before.square().sum() + o.lr**2 * slope.square().sum()
        assert close(after.square().sum(), wanted)


# ---------------------------------------------------------------- facts 10 and 11: components of the gradient


def test_zhang_g10_centre_and_residual_pull_against_each_other():
    siamese = deep_mlp(loss="cosine")
    Z = normalize(siamese.online(pair()[0]), dim=1)
    o = Z.mean(0).detach()
    r = Z.detach() - o
    centre = all_slopes(siamese, -(Z * o).sum(1).mean())
    Z = normalize(siamese.online(pair()[0]), dim=1)
    residual = all_slopes(siamese, -(Z * r).sum(1).mean())
    assert close(centre, -residual) and float(centre.norm()) > 1e-3


def test_zhang_g10_the_centre_of_free_embeddings_grows():
    free = torch.randn(20, D, dtype=torch.float64).requires_grad_()
    o = (Z := normalize(free, dim=1)).mean(0)
    loss = 20 * -(Z * o.detach()).sum(1).mean()  # each embedding at rate one
    flow = -torch.autograd.grad(loss, free, retain_graph=True)[0] * free.detach().norm(dim=1, keepdim=True) ** 2
    (up,) = torch.autograd.grad(o.square().sum(), free)
    rate = 2 * (o.square().sum() - (Z @ o).square().mean())
    assert close((up * flow).sum(), rate.detach()) and float(rate.detach()) > 0


def components(siamese, views):
    """Gradients with the targets Z_b, o_z + r_p, o_p + r_z and P_b for P_a, both views in turn (Table 4)."""
    found = {}
    for name in ("both", "o_e", "r_e", "none"):
        z = torch.stack([siamese.online(x) for x in views])
        P = normalize(torch.stack([siamese.predictor(v) for v in z]), dim=-1)
        Zb, Pb = normalize(z, dim=-1).detach().flip(0), P.detach().flip(0)
        o_z, o_p = Zb.mean(1, keepdim=True), Pb.mean(1, keepdim=True)
        target = {"both": Zb, "o_e": o_z + Pb - o_p, "r_e": o_p + Zb - o_z, "none": Pb}[name]
        found[name] = all_slopes(siamese, -(P * target).sum(-1).mean())
    return found


def test_zhang_g11_components_of_the_extra_gradient():
    siamese = deep_mlp(loss="cosine", predictor="mlp", predictor_hidden=4)
    found, real = components(siamese, pair()), all_slopes(siamese, siamese(Batch.of(*pair())).loss)
    assert close(found["both"], real)
    assert close(found["o_e"] + found["r_e"], found["both"] + found["none"])
    assert not close(found["o_e"], real, 1e-4) and not close(found["r_e"], real, 1e-4)


def test_zhang_g11_without_predictor_all_components_are_naive():
    siamese = deep_mlp(loss="cosine", predictor="identity")
    found, naive = components(siamese, pair()), all_slopes(siamese, siamese(Batch.of(*pair())).loss)
    assert all(close(v, naive) for v in found.values())


# ---------------------------------------------------------------- facts 12 to 15


@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0, 100.0])
def test_zhang_g12_infonce_decentres_and_decorrelates(tau):
    Z = normalize(torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5, dim=1)
    Za = normalize(torch.randn(1, 6, dtype=torch.float64), dim=1).requires_grad_()
    (grad,) = torch.autograd.grad(cross_entropy(Za @ Z.mT / tau, torch.zeros(1, dtype=torch.long)), Za)
    weights = (Za @ Z.mT / tau).softmax(1).detach()
    assert close(-grad, (Z[:1] - weights @ Z) / tau)
    o = Z.mean(0)
    C, residual = (Z - o).mT @ (Z - o) / len(Z), -weights @ (Z - o)
    if tau >= 10:
        first_order = -Za.detach() @ C / tau
        assert float((residual - first_order).norm() / first_order.norm()) < 0.6 / tau


@pytest.mark.parametrize(("m_o", "rho"), [(0.3, 0.5), (0.6, 0.5), (0.3, 0.8), (0.9, 0.5)])
def test_zhang_g13_the_bias_decentres(m_o, rho):
    """b* = (1/rho - 1) o_z and o_e = -eta o_p, eta = 1 - √(m_o² + rho²(1 - m_o²)): the real layer, fitted."""
    n, d = 500, 1500
    g = torch.Generator().manual_seed(0)
    shared, one, two = torch.randn(3, n, d, generator=g)
    parts = torch.stack([rho**0.5 * shared + (1 - rho) ** 0.5 * own for own in (one, two)])
    parts[..., 0] = 0
    parts = (1 - m_o**2) ** 0.5 * normalize(parts - parts.mean((0, 1)), dim=-1)
    o = torch.zeros(d)
    o[0] = m_o
    z, layer = parts + o, BiasLayer(d)
    descent = torch.optim.LBFGS(layer.parameters(), max_iter=25, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        loss = cosine_loss(layer(z), z.flip(0))
        loss.backward()
        return loss

    descent.step(closure)
    b = layer.bias.detach()
    assert float(b[0] / m_o) == pytest.approx(1 / rho - 1, rel=0.01)
    assert float(nn.functional.cosine_similarity(b, o, dim=0)) > 0.999
    o_p = normalize(layer(z).detach(), dim=-1).mean((0, 1))
    eta = 1 - math.sqrt(m_o**2 + rho**2 * (1 - m_o**2))
    assert float(1 - m_o / o_p[0]) == pytest.approx(eta, rel=0.02)  # o_e = o_z - o_p = -eta o_p


def test_zhang_g14_the_optimal_linear_predictor_whitens():
    s, noise = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64), 0.5
    siamese = linear(5, 3, embedding_dim=3)
    siamese.online.projector.last.weight.data = torch.eye(3, dtype=torch.float64)
    siamese.predictor.network.weight.data = torch.diag(s / (s + noise))
    views = exact_views(Correlations(torch.diag(s).numpy(), noise * torch.eye(3).numpy()))(None, 0)
    assert float(slopes(siamese, views)[0].abs().max()) < 1e-14  # Lemma 1's force vanishes there


@pytest.mark.parametrize(
    ("s", "noise", "shifts"),
    [
        ((4.0, 1.0, 0.25), 0.5, (-0.130, 0.012, 0.118)),
        ((3.0, 1.2, 0.8, 0.1), 1.0, None),
        ((2.0, 2.0, 2.0), 0.7, (0.0, 0.0, 0.0)),
    ],
)
def test_zhang_g14_its_residual_takes_from_strong_modes_and_gives_to_weak_ones(s, noise, shifts):
    """Of unit vectors the share of mode j, E[Z_j²], falls from P to Z where s_j is largest: r_e whitens."""
    s = torch.tensor(s, dtype=torch.float64)
    siamese = linear(5, len(s), embedding_dim=len(s))
    siamese.predictor.network.weight.data = torch.diag(s / (s + noise))
    draw = torch.randn(300_000, len(s), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = (s + noise).sqrt() * draw
    measured = [normalize(v.detach(), dim=1).square().mean(0) for v in (z, siamese.predictor(z))]
    expected = [share(s + noise), share(s**2 / (s + noise))]
    for mine, exact in zip(measured, expected):
        assert mine.numpy() == pytest.approx(exact, abs=3e-3) and exact.sum() == pytest.approx(1, rel=1e-8)
    shift = expected[0] - expected[1]
    assert list(np.diff(shift) >= -1e-12) == [True] * (len(s) - 1)  # the weaker the mode, the more it is given
    if shifts is None:
        assert shift[0] < -0.1 and shift[-1] > 0.1
    else:
        assert shift == pytest.approx(shifts, abs=1e-3)


def share(variances):
    """E[x_j²/‖x‖²] of x ~ N(0, diag(variances)): ∫ v_j/(1 + 2v_j t) Π_k (1 + 2v_k t)^(−1/2) dt over t > 0."""
    v = np.asarray(variances)

    def rate(t, a):
        return a / (1 + 2 * a * t) / np.sqrt(np.prod(1 + 2 * v * t))

    return np.array([quad(rate, 0, np.inf, args=(a,))[0] for a in v])


@pytest.mark.parametrize("loss", ["cosine", "squared"])
def test_zhang_g15_without_predictor_stop_gradient_halves(loss):
    both = (deep_mlp(loss=loss, predictor="identity", stop_gradient=stop) for stop in ("target", "none"))
    a, b = (all_slopes(s, s(Batch.of(*pair())).loss) for s in both)
    assert close(a, b / 2) and float(a.norm()) > 1e-3


# ---------------------------------------------------------------- the mechanics of a step


def test_views_go_through_one_by_one():
    """BatchNorm standardises each view by itself: shifting one view as a whole changes nothing in the other."""
    siamese = deep_mlp(predictor="mlp", predictor_hidden=4)
    first, second = pair()
    out, shifted = (siamese(Batch.of(first, x)) for x in (second, 5 * second + 3))
    assert close(out.z[0], shifted.z[0]) and close(out.p[0], shifted.p[0])
    assert close(out.z[0], siamese.online(first)) and close(out.p[0], siamese.predictor(out.z[0]))
    together = siamese.online(torch.cat([first, 5 * second + 3]))[: len(first)]
    assert not torch.allclose(together, out.z[0], atol=1e-2)


def test_each_view_predicts_the_other():
    both, one = (deep_mlp(symmetric_loss=symmetric, loss_scale=3.0) for symmetric in (True, False))
    views = Batch.of(*pair())
    z, p = both(views).z, both(views).p
    halves = [squared_loss(p[v], z[1 - v]).item() for v in (0, 1)]
    assert both(views).loss.item() == pytest.approx(3 * sum(halves) / 2, rel=1e-12)
    assert one(views).loss.item() == pytest.approx(3 * halves[0], rel=1e-12) and one(views).p.shape == p.shape


def test_the_ema_target_starts_as_a_copy_and_follows():
    siamese = deep_mlp(target="ema", ema_momentum=0.9)
    out = siamese(Batch.of(*pair()))
    assert torch.equal(out.target, out.z) and not out.target.requires_grad and out.z.requires_grad
    assert not any(w.requires_grad for w in siamese.target.network.parameters())
    out.loss.backward()
    optimiser = make_optimiser(siamese, Optimisation(lr=0.5))
    network = siamese.target.network
    before, buffers = ([v.clone() for v in kind()] for kind in (network.parameters, network.buffers))
    optimiser.step()
    siamese.online.projector[1].running_mean += 1  # as if the online network had seen other batches
    siamese.after_step(out, optimiser)
    for old, now, new in zip(before, network.parameters(), siamese.online.parameters()):
        assert close(now, 0.9 * old + 0.1 * new) and not torch.equal(old, new)
    assert all(map(torch.equal, network.buffers(), buffers))


def test_the_targets_batchnorm_sees_its_own_batches():
    siamese = deep_mlp(target="ema", ema_momentum=1.0)
    for w in siamese.online.parameters():
        w.data += 0.5
    out = siamese(Batch.of(*pair()))
    wanted = torch.stack([siamese.target.network(x) for x in pair()])  # normalised by their own statistics
    assert close(out.target, wanted) and not torch.allclose(out.target, out.z, atol=1e-2)
    online, target = siamese.online.projector[1], siamese.target.network.projector[1]
    assert int(online.num_batches_tracked) == 2 and int(target.num_batches_tracked) == 4
    assert not torch.allclose(online.running_mean, target.running_mean, atol=1e-3)


@pytest.mark.parametrize("loss", ["cosine", "squared"])
@pytest.mark.parametrize("predictor", ["mlp", "linear", "directpred"])
def test_half_precision_stays_in_the_backbone(predictor, loss):
    torch.manual_seed(0)
    method = linear_method(backbone="linear", projector_layers=2, predictor=predictor, loss=loss, target="ema")
    siamese, seen = Siamese(method, 7, half=torch.bfloat16), []
    siamese.online.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    out = siamese(Batch.of(*pair()).to(torch.float32))
    out.loss.backward()
    assert seen == [torch.bfloat16] * 2 and {v.dtype for v in (out.z, out.p, out.target, out.loss)} == {torch.float32}
    assert all(w.grad.dtype == torch.float32 for w in siamese.online.parameters())
    assert torch.allclose(objective(method)(out.z.double(), out.p.double(), out.target.double()).float(), out.loss)
