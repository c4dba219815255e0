"""Two gloo processes compute what one does on the global batch: statistics, gradients, buffers, a whole training."""

import copy
import os
import socket

import pytest
import torch
from torch import nn

from stopgrad.deep.processes.distributed import (
    SyncedBatchNorm,
    World,
    agree,
    all_reduce_mean,
    average_gradients,
    gathered_with_gradient,
    join,
    leave,
    synchronise,
)

SIZE = 2
CPU = torch.device("cpu")

# name: shape of the global batch, rows of process 0, arguments of BatchNorm, dtype
NORMALISATIONS = {
    "vectors": ((8, 5), 4, {}, torch.float64),
    "images": ((6, 4, 5, 3), 3, {}, torch.float64),
    "sequences": ((6, 4, 7), 3, {"eps": 1e-3}, torch.float64),
    "affine-free": ((8, 5), 4, {"affine": False}, torch.float64),
    "uneven": ((8, 5), 3, {"momentum": 0.3}, torch.float64),
    "one row": ((3, 5), 1, {}, torch.float64),
    "cumulative": ((8, 5), 4, {"momentum": None}, torch.float64),
    "untracked": ((8, 5), 4, {"track_running_stats": False}, torch.float64),
    "float32": ((32, 5), 16, {}, torch.float32),
}


def batch(name):
    """(x, weights of the outputs in the loss), of the global batch; each channel at its own mean and scale."""
    shape, _, _, dtype = NORMALISATIONS[name]
    generator = torch.Generator().manual_seed(len(name))
    x, weights = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    scale = torch.arange(1.0, shape[1] + 1, dtype=torch.float64).view(1, -1, *[1] * (len(shape) - 2))
    x = (x * scale + 10 * scale).to(dtype)
    return (x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x), weights.to(dtype)


def layer(name):
    shape, _, arguments, dtype = NORMALISATIONS[name]
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **arguments).to(dtype)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 2, shape[1]))
            norm.bias.copy_(torch.linspace(1, -1, shape[1]))
    return norm


def normalise(norm, x, weights):
    """Two training steps and an evaluation: every number a BatchNorm makes. Gradients are those of Σ weights · y²."""
    outputs = {}
    for step in range(2):
        x = (x + step).requires_grad_()
        y = norm(x)
        (weights * y**2).sum().backward()
        outputs |= {f"y{step}": y, f"x.grad{step}": x.grad}
        x = x.detach()
    average_gradients(norm.parameters())
    outputs |= {name: parameter.grad for name, parameter in norm.named_parameters()}
    outputs |= dict(norm.named_buffers())
    outputs["evaluated"] = norm.eval()(x) if norm.track_running_stats else y
    return {name: value.detach().clone() for name, value in outputs.items()}


class Net(nn.Module):
    """Convolution, both kinds of BatchNorm, projector and predictor."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(24, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5),
            nn.BatchNorm1d(5, affine=False),
        )  # fmt: skip
        self.predictor = nn.Linear(5, 5, bias=False)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("F", torch.zeros(5, 5))


def train(world, synchronised=True, steps=20, global_batch=16, parts=2):
    """SimSiam on noise in float64: two views, two accumulated parts a step, F averaged over processes and in time."""
    torch.manual_seed(0)
    net = Net().double()
    net = synchronise(net, world) if synchronised else net
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    images = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noise = torch.Generator().manual_seed(6)
    for step in range(steps):
        optimiser.zero_grad()
        views = images.roll(-step * global_batch, 0)[:global_batch] + 0.3 * torch.randn(
            2, global_batch, 3, 6, 6, generator=noise, dtype=torch.float64
        )
        for part in views.chunk(parts, dim=1):
            z1, z2 = (net.trunk(view.chunk(world.size)[world.rank]) for view in part)
            p1, p2 = net.predictor(z1), net.predictor(z2)
            similarity = nn.functional.cosine_similarity
            loss = -(similarity(p1, z2.detach()).mean() + similarity(p2, z1.detach()).mean()) / 2
            (loss / parts).backward()
            with torch.no_grad():
                net.F.mul_(0.7).add_(all_reduce_mean(z1.mT @ z1 / len(z1)), alpha=0.3)
        average_gradients(net.parameters())
        optimiser.step()
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def half_precision(world):
    x, weights = (part.bfloat16().chunk(world.size)[world.rank] for part in batch("float32"))
    x.requires_grad_()
    norm = synchronise(layer("float32"), world)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    (y * weights).sum().backward()
    return {"y": y.detach(), "x.grad": x.grad, **dict(norm.named_buffers())}


def far_from_zero(world):
    """Float32 with a mean of 10⁴ standard deviations, and the second process's mean away from the first's."""
    x = 1e4 + torch.randn(64, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[32:] += 2
    return synchronise(nn.BatchNorm1d(3), world)(x.chunk(world.size)[world.rank].float()).detach()


def refusal(world):
    try:
        synchronise(nn.BatchNorm1d(3), world)(torch.ones(1 - world.rank, 3))
    except ValueError as error:
        return str(error)


def contrast(world):
    """A loss in which every image meets every other, of whoever's share: its gradient at the network and the views."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    net, scale = synchronise(net, world), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    x = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = x.chunk(world.size, dim=1)[world.rank].requires_grad_()
    z = torch.stack([net(view) for view in x])
    first, second = gathered_with_gradient(z, dim=1)
    places = gathered_with_gradient(torch.arange(8).chunk(world.size)[world.rank], dim=0)
    loss = nn.functional.cross_entropy(scale * first @ second.mT, places)
    loss.backward()
    average_gradients([*net.parameters(), scale])
    found = {"loss": loss, "views": x.grad / world.size, "scale": scale.grad}
    return {k: v.detach() for k, v in (found | {n: w.grad for n, w in net.named_parameters()}).items()}


def everything(rank, folder, port):
    """What one of the two processes does; its results go to a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = join("cpu")
    results = {"world": (world.rank, world.size, str(world.device), world.backend, world.writes)}
    for name, (shape, rows, _, _) in NORMALISATIONS.items():
        share = slice(0, rows) if rank == 0 else slice(rows, shape[0])
        x, weights = batch(name)
        results[name] = normalise(synchronise(layer(name), world), x[share], weights[share])
    transposed = torch.arange(6.0).view(2, 3).T.requires_grad_()
    mean = all_reduce_mean(transposed * (rank + 1))
    results |= {
        "mean": mean,
        "mean is constant": not mean.requires_grad,
        "integer": all_reduce_mean(torch.tensor(rank)),
    }
    results["agreed"] = [agree(False), agree(rank == 1), agree(True), agree(False)]
    results |= {"trained": train(world), "unsynchronised": train(world, synchronised=False)}
    results |= {"contrast": contrast(world)}
    results |= {"half": half_precision(world), "far": far_from_zero(world), "refusal": refusal(world)}
    torch.save(results, f"{folder}/{rank}.pt")
    leave()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The results of both processes, by rank."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.start_processes(everything, (folder, port), nprocs=SIZE, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


def joined(results, key):
    return torch.cat([result[key] for result in results])


def assert_near(found, expected, tolerance, what):
    scale = expected.abs().max().clamp(min=1e-300)
    assert found.dtype == expected.dtype, what
    assert (found - expected).abs().max() <= tolerance * scale, what


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_synced_batch_norm_is_batch_norm_on_the_concatenated_batch(together, name):
    both = [result[name] for result in together]
    expected = normalise(layer(name), *batch(name))
    tolerance = 1e-12 if NORMALISATIONS[name][3] == torch.float64 else 1e-5
    for key, value in expected.items():
        if key in ("y0", "y1", "x.grad0", "x.grad1", "evaluated"):
            assert_near(joined(both, key), value, tolerance, key)
        elif key in ("weight", "bias"):  # the processes' losses are sums here, and gradients were averaged
            assert_near(SIZE * both[0][key], value, tolerance, key)
        else:
            assert_near(both[0][key], value, tolerance, key)
            assert torch.equal(both[0][key], both[1][key])


def test_two_processes_train_as_one_does(together):
    """The bar: float64, 20 steps, 10⁻⁸ relative on weights and F; running buffers too."""
    alone = train(World(0, 1, CPU, None))
    start = train(World(0, 1, CPU, None), steps=0)
    both = [result["trained"] for result in together]
    for name, expected in alone.items():
        assert_near(both[0][name], expected, 1e-8, name)
        assert torch.equal(both[0][name], both[1][name]), name
    assert (alone["predictor.weight"] - start["predictor.weight"]).norm() > 0.1 * start["predictor.weight"].norm()
    assert torch.linalg.eigvalsh(alone["F"])[0] > 0


def test_without_synchronised_normalisation_they_would_not(together):
    alone = train(World(0, 1, CPU, None))
    for name in ("trunk.0.weight", "predictor.weight", "F"):
        assert (together[0]["unsynchronised"][name] - alone[name]).abs().max() > 1e-4 * alone[name].abs().max()


def test_a_loss_over_all_processes_images_has_the_gradient_of_one(together):
    """Gathered with gradient, each process computes the whole loss; then gradients are averaged as ever."""
    alone, both = contrast(World(0, 1, CPU, None)), [result["contrast"] for result in together]
    torch.testing.assert_close(torch.cat([found.pop("views") for found in both], dim=1), alone.pop("views"))
    for name, expected in alone.items():
        assert_near(both[0][name], expected, 1e-12, name)
        assert torch.equal(both[0][name], both[1][name]), name
        assert expected.abs().max() > 1e-3


def test_half_precision_is_normalised_in_float32(together):
    both = [result["half"] for result in together]
    x, weights = (part.bfloat16().float() for part in batch("float32"))
    norm = layer("float32")
    y = norm(x.requires_grad_())
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    ulp = 2.0**-7
    torch.testing.assert_close(joined(both, "y"), y.bfloat16(), rtol=ulp, atol=1e-6)
    assert_near(joined(both, "x.grad"), gradient.bfloat16(), 2 * ulp, "gradient")
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(both[0][name], buffer, rtol=1e-6, atol=0)


def test_a_mean_far_from_zero_cancels_nothing(together):
    x = 1e4 + torch.randn(64, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[32:] += 2
    expected = nn.BatchNorm1d(3).double()(x.float().double()).detach()
    found = torch.cat([result["far"] for result in together]).double()
    assert (found - expected).abs().max() < 2e-3  # float32 holds 10⁴ to 10⁻³; sums of squares would lose all


def test_world_means_and_votes(together):
    assert [result["world"] for result in together] == [(0, 2, "cpu", "gloo", True), (1, 2, "cpu", "gloo", False)]
    for result in together:
        assert torch.equal(result["mean"], 1.5 * torch.arange(6.0).view(2, 3).T)
        assert result["mean is constant"]
        assert result["integer"].item() == 0.5
        assert result["agreed"] == [False, True, True, False]
        assert "more than one value per channel" in result["refusal"]


# ---------------------------------------------------------------- one process


def test_alone_nothing_changes():
    world = World(0, 1, CPU, None)
    x = torch.ones(3, requires_grad=True)
    assert torch.equal(all_reduce_mean(x), x)
    assert not all_reduce_mean(x).requires_grad
    assert agree(True)
    assert not agree(False)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert [type(part) for part in synchronise(net, world)] == [nn.Linear, nn.BatchNorm1d]
    norm = SyncedBatchNorm(4)
    x = torch.randn(6, 4)
    assert torch.equal(norm(x), nn.BatchNorm1d(4)(x))


@pytest.mark.parametrize(("backend", "kind"), [("gloo", SyncedBatchNorm), ("nccl", nn.SyncBatchNorm)])
def test_converting_keeps_parameters_buffers_keys_and_optimisers(backend, kind):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm1d(5, affine=False)))
    before, parameters = copy.deepcopy(net.state_dict()), list(net.parameters())
    converted = synchronise(net, World(0, 2, CPU, backend))
    assert [type(part) for part in (converted[1], converted[2][0])] == [kind, kind]
    assert list(converted.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in converted.state_dict().items())
    assert [id(p) for p in converted.parameters()] == [id(p) for p in parameters]
    assert type(synchronise(nn.BatchNorm1d(3), World(0, 2, CPU, backend))) is kind


def test_joining_without_torchrun_is_a_world_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert join("cpu") == World(0, 1, CPU, None)
    assert join().device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert join("cpu").writes
    leave()


@pytest.mark.parametrize(
    ("variables", "device", "sentence"),
    [
        ({"RANK": "0"}, "cpu", "contradict"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "cpu", "contradict"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "cpu", "RANK is 'one'"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "cpu", "MASTER_ADDR"),
        ({}, "gpu", "--device is 'gpu'"),
        ({}, "cuda:99", "--device cuda:99 needs CUDA device 99"),
    ],
)
def test_an_impossible_world_is_one_sentence(monkeypatch, variables, device, sentence):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=sentence) as refused:
        join(device)
    assert "\n" not in str(refused.value)
