"""The order of the images: a permutation for every epoch, shared out without changing it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.data.data_order import batches, epoch_order, split, steps_per_epoch


@st.composite
def runs(draw):
    """(seed, epoch, n, batch size, world, accumulation) that fit each other."""
    world, accumulation, share = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    batch = world * accumulation * share
    n = draw(st.integers(batch, 6 * batch))
    return draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, 10**6)), n, batch, world, accumulation


@given(runs())
def test_the_order_is_a_permutation_that_seed_and_epoch_decide(run):
    seed, epoch, n, *_ = run
    order = epoch_order(seed, epoch, n)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(order, epoch_order(seed, epoch, n))


def test_seeds_and_epochs_give_different_orders():
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_place_is_as_likely_for_every_image():
    """The mean of 400 orders of 20 images is 9.5 at every place, to four standard errors."""
    places = torch.stack([epoch_order(1, epoch, 20) for epoch in range(400)]).double()
    assert (places.mean(0) - 9.5).abs().max() < 4 * (399 / 12) ** 0.5 / 400**0.5


@given(runs())
def test_the_shares_of_all_processes_are_the_global_batch_in_order(run):
    seed, epoch, n, batch, world, accumulation = run
    order = epoch_order(seed, epoch, n)
    shares = [list(batches(seed, epoch, n, batch, rank, world, accumulation)) for rank in range(world)]
    assert {len(s) for s in shares} == {steps_per_epoch(n, batch)} == {n // batch}
    for step, ranks in enumerate(zip(*shares)):
        assert all(r.shape == (accumulation, batch // (accumulation * world)) for r in ranks)
        assert torch.equal(torch.cat(ranks, dim=1).flatten(), order[step * batch : (step + 1) * batch])


@given(runs(), st.integers(0, 8))
def test_a_resumed_epoch_goes_on_where_it_stopped(run, first):
    seed, epoch, n, batch, world, accumulation = run
    whole = list(batches(seed, epoch, n, batch, world - 1, world, accumulation))
    rest = list(batches(seed, epoch, n, batch, world - 1, world, accumulation, first_step=first))
    assert len(rest) == len(whole[first:])
    assert all(map(torch.equal, rest, whole[first:]))


def test_any_order_can_be_split():
    first, second = split(torch.tensor([5, 3, 1, 0, 9]), 2)
    assert first.tolist() == [[5, 3]] and second.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"batch_size": 11}, "--batch-size 11 exceeds the 10 training images"),
        ({"batch_size": 6, "world": 4}, "4 processes cannot share --batch-size 6 evenly; it must be a multiple of 4"),
        ({"batch_size": 6, "world": 2, "accumulation": 2}, r"in 2 parts \(--accumulation\) evenly"),
        ({"batch_size": 4, "rank": 2, "world": 2}, "rank is 2"),
        ({"batch_size": 4, "first_step": -1}, "first_step is -1"),
    ],
)
def test_what_cannot_be_shared_is_refused_at_the_call(arguments, words):
    with pytest.raises(ValueError, match=words):
        batches(0, 0, 10, **arguments)
