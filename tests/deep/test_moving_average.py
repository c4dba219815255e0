"""A moving average for each image as target: SimSiam's recursion, wherever it starts and whoever sees the image."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import batch, close, siamese

from stopgrad.deep.method.objectives.vectors import random_directions
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.targets import networks as target_networks
from stopgrad.deep.method.targets.networks import MovingAverageTarget


class Slow:
    """SimSiam's recursion, an image at a time."""

    def __init__(self, momentum):
        self.m, self.eta = momentum, {}

    def target(self, index, z):
        rows = [[self.eta.get(i, z[v, k]) for k, i in enumerate(index.tolist())] for v in range(len(z))]
        return torch.stack([torch.stack(row) for row in rows])

    def after_step(self, index, z):
        places = {}
        for k, i in enumerate(index.tolist()):
            places.setdefault(i, []).append(z[:, k].mean(0))
        for i, found in places.items():
            new = sum(found) / len(found)
            self.eta[i] = self.m * self.eta[i] + (1 - self.m) * new if i in self.eta else new


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.8]))
def test_the_moving_average_is_the_slow_recursion(seed, momentum):
    """Images that come again, that are new, and that occur several times in a step."""
    draw = torch.Generator().manual_seed(seed)
    network = siamese(target="moving_average", average_momentum=momentum, predictor="identity")
    slow = Slow(momentum)
    for _ in range(4):
        index = torch.randint(0, 9, (6,), generator=draw)
        given = replace(batch(images=6, seed=seed), index=index)
        found = network(given)
        z = found.z.detach()
        assert close(found.target, slow.target(index, z)) and not found.target.requires_grad
        network.target.after_step(network.online, found.detached())
        slow.after_step(index, z)
        with torch.no_grad():
            network.online.projector.last.weight.mul_(1.5)
    for i, row in enumerate(network.target.means):
        assert close(row, slow.eta[i]) if i in slow.eta else row.isnan().all()


@given(st.integers(0, 10**6))
def test_an_average_that_starts_at_random_is_the_slow_recursion_from_unit_vectors(seed):
    """The same vector for an image whenever it is first seen, and in whatever company; no two images share one."""
    network = siamese(target="moving_average", average_start="random", predictor="identity")
    start = random_directions(0, torch.arange(9), 4).to(torch.float64)
    slow = Slow(0.8)
    slow.eta = dict(enumerate(start))
    draw = torch.Generator().manual_seed(seed)
    for _ in range(3):
        given = replace(batch(images=6, seed=seed), index=torch.randint(0, 9, (6,), generator=draw))
        found = network(given)
        z = found.z.detach()
        assert z.shape[-1] == 4 and close(found.target, slow.target(given.index, z))
        network.target.after_step(network.online, found.detached())
        slow.after_step(given.index, z)
    assert close(start.norm(dim=1), torch.ones(9).double()) and (start @ start.T).fill_diagonal_(0).abs().max() < 1


def test_averages_come_back_from_a_state_of_any_size():
    one, other = MovingAverageTarget(3, 0.8).double(), MovingAverageTarget(3, 0.8)
    one.means = torch.tensor([[1.0, 2, 3], [torch.nan] * 3]).double()
    other.load_state_dict(one.state_dict())
    assert other.means.dtype == torch.float32 and torch.equal(other.means.isnan(), one.means.isnan())
    assert torch.equal(other.means[0].double(), one.means[0])


def test_every_process_has_the_averages_of_all_images(monkeypatch):
    """Of two processes each hands in its half of a batch, in which one image is in both."""
    index, z = torch.tensor([0, 4, 2, 4, 7, 1]), torch.randn(2, 6, 3)
    whole = Outputs(z, z, index)
    halves = [whole.map(lambda value, dim, rank=rank: value.chunk(2, dim)[rank]) for rank in (0, 1)]
    targets = [MovingAverageTarget(3, 0.8) for _ in range(3)]
    for _ in range(2):
        targets[2].after_step(None, whole)
        for rank, half in enumerate(halves):
            asked = iter([(half.z.mean(0), z.mean(0)), (half.index, index)])

            def gathered(mine, dim, asked=asked):
                expected, all_of_them = next(asked)
                assert torch.equal(mine, expected)
                return all_of_them

            monkeypatch.setattr(target_networks, "gathered", gathered)
            targets[rank].after_step(None, half)
        monkeypatch.undo()
    for target in targets[:2]:
        torch.testing.assert_close(target.means, targets[2].means, rtol=0, atol=0, equal_nan=True)
    assert len(targets[0].means) == 8
