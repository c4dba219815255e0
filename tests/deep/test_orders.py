"""Orders: what a run sees at a step, shared out without changing it, and no view twice."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.data.orders.hybrid import Hybrid
from stopgrad.deep.data.orders.setting import Setting, check_shares, shares, steps_per_epoch
from stopgrad.deep.data.orders.shuffled import Shuffled
from stopgrad.deep.seats import ORDER

ORDERS = [*(ORDER.kind(name)() for name in ORDER.choices), Hybrid(single_pass=1.0)]


def setting(seed=0, n=50, batch_size=8, epochs=10):
    return Setting(seed, torch.arange(n) % 3, batch_size, epochs)


def whole(order, run, first_step=0, last_step=None):
    """(indices, visits) of the run, int64 (steps, batch size) each."""
    steps = range(first_step, run.steps if last_step is None else last_step)
    return [torch.stack(rows) for rows in zip(*(order.at(run, step) for step in steps))]


@st.composite
def runs(draw):
    """(setting, world, accumulation) that fit each other."""
    world, accumulation, share = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    batch = world * accumulation * share
    n, epochs = draw(st.integers(max(batch, 4), 6 * batch + 4)), draw(st.integers(1, 4))
    return setting(draw(st.integers(0, 2**63 - 1)), n, batch, epochs), world, accumulation


# ---------------------------------------------------------------- what holds for every order


@pytest.mark.parametrize("order", ORDERS, ids=repr)
@given(runs())
def test_a_step_is_a_batch_of_images_that_exist_and_no_visit_occurs_twice(order, drawn):
    run, *_ = drawn
    index, visit = whole(order, run)
    assert index.dtype == visit.dtype == torch.int64
    assert index.shape == visit.shape == (run.steps, run.batch_size)
    assert index.min() >= 0 and index.max() < run.images and visit.min() >= 0
    seen = Counter(zip(index.flatten().tolist(), visit.flatten().tolist()))
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("order", ORDERS, ids=repr)
@given(runs())
def test_the_shares_of_all_processes_are_the_whole_step_in_order(order, drawn):
    run, world, accumulation = drawn
    shared = [list(shares(order, run, rank, world, accumulation)) for rank in range(world)]
    assert {len(parts) for parts in shared} == {run.steps * accumulation}
    for k, step in enumerate(zip(*(zip(*[iter(parts)] * accumulation) for parts in shared))):
        assert {part.step for rank in step for part in rank} == {k}
        together = [rank[part] for part in range(accumulation) for rank in step]
        index, visit = order.at(run, k)
        assert torch.equal(torch.cat([part.index for part in together]), index)
        assert torch.equal(torch.cat([part.visit for part in together]), visit)
        assert {part.views for part in together} == {()}


@pytest.mark.parametrize("order", ORDERS, ids=repr)
@given(runs(), st.integers(0, 8))
def test_a_resumed_run_goes_on_where_it_stopped(order, drawn, first):
    run, world, accumulation = drawn
    every = list(shares(order, run, world - 1, world, accumulation))[first * accumulation :]
    rest = list(shares(order, run, world - 1, world, accumulation, first_step=first))
    assert len(rest) == len(every)
    for a, b in zip(rest, every):
        assert a.step == b.step and torch.equal(a.index, b.index) and torch.equal(a.visit, b.visit)


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_seeds_give_different_orders(order):
    assert len({tuple(whole(order, setting(seed))[0].flatten().tolist()) for seed in range(5)}) == 5


# ---------------------------------------------------------------- shuffled


def epoch_of(run, epoch):
    return [v.flatten() for v in whole(Shuffled(), run, *(run.steps_per_epoch * (epoch + k) for k in (0, 1)))]


@given(runs())
def test_an_epoch_is_the_beginning_of_a_permutation_and_a_visit(drawn):
    run, *_ = drawn
    for epoch in range(run.epochs):
        index, visit = epoch_of(run, epoch)
        assert len(set(index.tolist())) == len(index) == run.images // run.batch_size * run.batch_size
        assert set(visit.tolist()) == {epoch}


def test_the_order_keeps_its_numbers():
    """As recorded when an order was a permutation for each epoch."""
    index, _ = whole(Shuffled(), setting(seed=3, n=10, batch_size=4, epochs=2))
    assert index.flatten().tolist() == RECORDED


RECORDED = [9, 5, 0, 2, 3, 7, 8, 4, 5, 1, 3, 6, 8, 7, 2, 0]


def test_epochs_give_different_orders():
    assert len({tuple(epoch_of(setting(), epoch)[0].tolist()) for epoch in range(5)}) == 5


def test_every_place_is_as_likely_for_every_image():
    """The mean of 400 orders of 20 images is 9.5 at every place, to four standard errors."""
    places = whole(Shuffled(), setting(1, 20, 20, 400))[0].double()
    assert (places.mean(0) - 9.5).abs().max() < 4 * (399 / 12) ** 0.5 / 400**0.5


# ---------------------------------------------------------------- hybrid


def test_a_single_pass_then_all_images():
    """Li, Efros & Pathak 2022: with 10 epochs, 4 chunks of a tenth, each repeated for an epoch's steps; then epochs."""
    run = setting(n=50, batch_size=8, epochs=10)
    index, visit = (v.view(10, -1) for v in whole(Hybrid(), run))
    chunks = [set(row.tolist()) for row in index[:4]]
    assert [len(chunk) for chunk in chunks] == [5] * 4
    assert len(set.union(*chunks)) == 20
    assert visit[0].tolist() == [k // 5 for k in range(48)]  # seen again and again
    for epoch in range(4, 10):
        assert torch.equal(index[epoch], epoch_of(run, epoch)[0])
        earlier = {k: epoch - 4 + (10 if any(k in chunk for chunk in chunks) else 0) for k in range(50)}
        assert visit[epoch].tolist() == [earlier[k] for k in index[epoch].tolist()]


def test_a_chunk_is_shuffled_anew_at_each_pass():
    passes = whole(Hybrid(), setting())[0].view(10, -1)[0][:45].view(9, 5)
    assert len({tuple(row.tolist()) for row in passes}) > 5


def test_chunks_share_out_all_images_where_the_run_is_one_pass():
    index = whole(Hybrid(single_pass=1.0), setting(n=53, batch_size=8, epochs=10))[0].view(10, -1)
    chunks = [set(row.tolist()) for row in index]
    assert sorted(map(len, chunks)) == [5] * 7 + [6] * 3 and len(set.union(*chunks)) == 53


def test_a_chunk_must_hold_an_image():
    with pytest.raises(ValueError, match="--epochs 11 exceeds the 10 training images"):
        Hybrid().at(setting(n=10, batch_size=2, epochs=11), 0)


# ---------------------------------------------------------------- refusals


def test_a_batch_must_not_exceed_the_images():
    assert steps_per_epoch(10, 4) == 2
    with pytest.raises(ValueError, match="--batch-size 11 exceeds the 10 training images"):
        steps_per_epoch(10, 11)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((6, 4), "4 processes cannot share --batch-size 6 evenly; it must be a multiple of 4"),
        ((6, 2, 2), r"in 2 parts \(--accumulation\) evenly"),
    ],
)
def test_what_cannot_be_shared_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        check_shares(*arguments)
