"""Heads: layers and biases as the switches say, the predictors' common protocol, and the symmetric one's gradient."""

import pytest
import torch
from methods import predictor
from torch import nn

from stopgrad.deep.config import Config, Method, check
from stopgrad.deep.method.networks import projector
from stopgrad.linear_theory.flows.matrices import symmetric_part
from stopgrad.linear_theory.predictors.rules import SET_RULES

PREDICTORS = ["mlp", "linear", "symmetric", "symmetric_mlp", "identity", "fixed", "bias", *SET_RULES]
D = 6


def method(**fields):
    return check(Config(method=Method.of(embedding_dim=D, projector_hidden=9, **fields))).method


def kinds(network):
    return [type(layer).__name__ for layer in network]


def optimiser_of(*modules, **options):
    weights = [w for m in modules for w in m.parameters() if w.requires_grad]
    return torch.optim.SGD(weights or [nn.Parameter(torch.zeros(1))], **{"lr": 0.1, "momentum": 0.9} | options)


# ---------------------------------------------------------------- projector


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("output", ["affine", "affine_free", "none"])
def test_projector_layers(layers, output):
    network = projector(method(projector_layers=layers, projector_output_bn=output), in_features=5)
    hidden = ["Linear", "BatchNorm1d", "ReLU"] * (layers - 1)
    assert kinds(network) == [*hidden, "Linear", *["BatchNorm1d"] * (output != "none")]
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [m.in_features for m in linears] == [5, 9, 9][:layers]
    assert network.last is linears[-1] and network.last.out_features == D
    assert all(m.bias is None for m in linears[:-1])
    if output != "none":
        assert network[-1].affine == (output == "affine")
    assert network(torch.rand(4, 5)).shape == (4, D)
    assert not any("last" in name for name in network.state_dict())


@pytest.mark.parametrize(
    ("output", "bias", "has_bias"),
    [("none", True, True), ("none", False, False), ("affine", True, False), ("affine_free", True, False)],
)
def test_a_bias_before_batchnorm_is_left_out(output, bias, has_bias):
    network = projector(
        Method.of(embedding_dim=D, projector_hidden=9, projector_output_bn=output, projector_bias=bias), 5
    )
    assert (network.last.bias is not None) == has_bias


def test_a_bias_before_batchnorm_would_change_nothing():
    network = projector(method(projector_output_bn="affine"), 5).double()
    x = torch.rand(8, 5, dtype=torch.float64)
    without = network(x)
    network.last.bias = nn.Parameter(torch.randn(D, dtype=torch.float64))
    torch.testing.assert_close(network(x), without, rtol=0, atol=1e-12)


def test_affine_free_embeddings_are_standardised():
    z = projector(method(projector_output_bn="affine_free"), 5).double()(torch.rand(200, 5, dtype=torch.float64))
    torch.testing.assert_close(z.mean(0), torch.zeros(D, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(D, dtype=torch.float64), rtol=2e-3, atol=0)


def test_linear_layers_start_uniform_within_one_over_root_k():
    torch.manual_seed(0)
    wide = Method.of(projector_hidden=400, embedding_dim=300, projector_bias=True, predictor="mlp", predictor_bias=True)
    first, *_, last = projector(wide, 100)
    pairs = [(first.weight, 100), (last.weight, 400), (last.bias, 400), (predictor(wide).network[0].weight, 300)]
    for weight, k in pairs:
        weight = weight.detach()
        assert 0.97 * k**-0.5 < weight.abs().max() <= k**-0.5
        assert weight.std().item() == pytest.approx((3 * k) ** -0.5, rel=0.1 if weight.ndim == 1 else 0.02)


# ---------------------------------------------------------------- the predictors' protocol


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PREDICTORS)
def test_protocol(name, training):
    torch.manual_seed(0)
    network = predictor(method(predictor=name)).double().train(training)
    z, target = torch.randn(2, 2, 8, D, dtype=torch.float64)
    p = network(z[0])
    assert p.shape == (8, D) and p.dtype == torch.float64
    assert network.after_step(z, target, optimiser_of(network)) is None
    W = network.matrix()
    assert (W is None) == (name in ("mlp", "symmetric_mlp", "identity", "fixed", "bias"))
    if W is not None:
        assert W.dtype == torch.float64 and not W.requires_grad
        torch.testing.assert_close(network(z[0]), z[0] @ W.T, rtol=0, atol=1e-12)
        W.zero_()  # a copy: it may be kept, or spoiled
        assert network.matrix().any()


@pytest.mark.parametrize("name", PREDICTORS)
def test_heads_leave_autocast(name):
    torch.manual_seed(0)
    head, network = projector(method(), 5), predictor(method(predictor=name))
    x = torch.rand(8, 5)
    wanted = network(head(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = head(x)
        p = network(z)
        assert network(z.bfloat16()).dtype == torch.float32
        network.after_step(torch.stack([z, z]).detach(), torch.stack([z, z]).detach(), optimiser_of(network))
    assert z.dtype == p.dtype == torch.float32
    assert torch.equal(p, wanted)
    assert network.matrix() is None or network.matrix().dtype == torch.float32


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_gradient_reaches_the_embedding(name):
    z = torch.randn(8, D, requires_grad=True)
    (predictor(method(predictor=name))(z) * torch.randn(8, D)).sum().backward()
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize("bias", [True, False])
def test_biases_of_learned_predictors(bias):
    assert (predictor(method(predictor="linear", predictor_bias=bias)).network.bias is not None) == bias
    mlp = predictor(method(predictor="mlp", predictor_bias=bias)).network
    assert kinds(mlp) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert mlp[0].bias is None and (mlp[-1].bias is not None) == bias
    assert (mlp[0].out_features, mlp[-1].out_features) == (32, D)


def test_identity_and_bias_at_the_start():
    z = torch.randn(8, D)
    assert torch.equal(predictor(method(predictor="identity"))(z), z)
    bias = predictor(method(predictor="bias"))
    torch.testing.assert_close(bias(z), z / z.norm(dim=1, keepdim=True))
    with torch.no_grad():
        next(bias.parameters()).copy_(torch.arange(D))
    torch.testing.assert_close(bias(z), z / z.norm(dim=1, keepdim=True) + torch.arange(D))


def test_the_fixed_predictor_stays():
    fixed = predictor(method(predictor="fixed"))
    before = [w.clone() for w in fixed.parameters()]
    z = torch.randn(8, D, requires_grad=True)
    optimiser = torch.optim.SGD([z, *fixed.parameters()], lr=1.0, weight_decay=0.1)
    fixed(z).square().sum().backward()
    optimiser.step()
    assert before and all(torch.equal(a, b) for a, b in zip(before, fixed.parameters()))
    assert not [w for w in fixed.parameters() if w.requires_grad]


# ---------------------------------------------------------------- symmetric


def test_symmetrising_descends_the_symmetric_part_of_the_gradient():
    """With momentum, weight decay and another learned weight below, 30 steps, against a projected gradient by hand."""
    torch.manual_seed(0)
    lr, momentum, decay = 0.05, 0.9, 0.02
    network = predictor(method(predictor="symmetric")).double()
    encoder = nn.Linear(4, D, bias=False).double()
    W, E = network.matrix(), encoder.weight.detach().clone()
    vW, vE = torch.zeros_like(W), torch.zeros_like(E)
    optimiser = optimiser_of(network, encoder, lr=lr, momentum=momentum, weight_decay=decay)
    for _ in range(30):
        x, y = torch.randn(2, 16, 4, dtype=torch.float64)
        optimiser.zero_grad()
        (network(encoder(x)) - encoder(y).detach()).square().sum(1).mean().backward()
        optimiser.step()
        network.after_step(torch.stack([x, y]), torch.stack([y, x]), optimiser)
        assert torch.equal(network.matrix(), network.matrix().T)

        residual = x @ E.T @ W.T - y @ E.T
        gW, gE = 2 / 16 * residual.T @ (x @ E.T), 2 / 16 * W.T @ residual.T @ x
        vW, vE = momentum * vW + symmetric_part(gW) + decay * W, momentum * vE + gE + decay * E
        W, E = W - lr * vW, E - lr * vE
    torch.testing.assert_close(network.matrix(), W, rtol=0, atol=1e-13)
    torch.testing.assert_close(encoder.weight.detach(), E, rtol=0, atol=1e-13)


def test_the_symmetric_predictor_starts_symmetric_and_full():
    torch.manual_seed(0)
    W = predictor(method(predictor="symmetric")).matrix()
    torch.manual_seed(0)
    assert torch.equal(W, symmetric_part(predictor(method(predictor="linear")).matrix()))


def test_tied_layers_descend_the_gradient_of_the_one_matrix():
    """Two layers W and Wᵀ: SGD with momentum and decay on the mean of both gradients, as on half the whole gradient."""
    torch.manual_seed(0)
    momentum, decay, rate = 0.9, 0.03, 0.2
    tied = predictor(method(predictor="symmetric_mlp", predictor_hidden=4)).double()
    first, last = tied.network[0].weight, tied.network[-1].weight
    assert first.shape == (4, D) and torch.equal(first, last.mT)
    tied.network[1].requires_grad_(False)
    optimiser = optimiser_of(tied, lr=rate, momentum=momentum, weight_decay=decay)
    W, v = first.detach().clone().requires_grad_(), 0.0
    for _ in range(4):
        z = torch.rand(7, D, dtype=torch.float64)
        tied(z).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        tied.after_step(z, z, optimiser)
        hidden = nn.functional.batch_norm(z @ W.mT, None, None, training=True).relu()
        (gradient,) = torch.autograd.grad((hidden @ W).square().sum(), W)
        v = momentum * v + gradient / 2 + decay * W.detach()
        W = (W.detach() - rate * v).requires_grad_()
        torch.testing.assert_close(first, W, rtol=1e-12, atol=1e-12)
        assert torch.equal(first, last.mT)
