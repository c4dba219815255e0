"""Orders: what a run sees at a step, shared out without changing it, and no view twice."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.config import Config, change, check, key_text, to_json
from stopgrad.deep.data.orders.accumulate import Accumulate
from stopgrad.deep.data.orders.current import Current
from stopgrad.deep.data.orders.hybrid import Hybrid
from stopgrad.deep.data.orders.last import Last
from stopgrad.deep.data.orders.setting import Setting, check_shares, shares, steps_per_epoch
from stopgrad.deep.data.orders.shuffled import Shuffled
from stopgrad.deep.seats import ORDER

ORDERS = [
    *(ORDER.kind(name)() for name in ORDER.choices),
    Hybrid(single_pass=1.0),
    Hybrid(chunk_size=2, rounds=2, single_pass=0.7),
    Current(chunk_size=3),
    Accumulate(rounds=2),
    Last(chunk_size=2),
]


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


# ---------------------------------------------------------------- chunks, as the released code has them


def released(order, n, batch, epochs):
    """For every epoch (first place, place after the last, batches of a pass): read off `get_incremental_dataloader`.

    Written down in the paper's own terms, for an ordering that is given: epoch % E, floor divisions, slices that end at
    the last image, a permutation again and again until there are n // batch batches.
    """
    c, rounds = order.chunk_size, getattr(order, "rounds", 1)
    E = epochs // rounds
    for epoch in range(epochs):
        i = (epoch % E) // c
        ordering = list(range(n))
        if isinstance(order, Accumulate):
            seen = ordering[: n * (i + 1) * c // E]
        elif isinstance(order, Last):
            seen = ordering[n * (E - c) // E :]
        else:
            seen = ordering[n * i * c // E : n * (i + 1) * c // E]
        if isinstance(order, Hybrid) and epoch >= round(order.single_pass * epochs):
            seen = ordering
        yield seen


@st.composite
def chunked(draw):
    """(order, setting) of chunks that all have images, and batches where they must be whole."""
    epochs, batch = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from([Current, Accumulate, Last, Hybrid]))
    rounds = 1 if kind is Last else draw(st.integers(1, epochs))
    options = {"chunk_size": draw(st.integers(1, epochs // rounds)), "whole_batches": draw(st.booleans())}
    options |= {} if kind is Last else {"rounds": rounds}
    options |= {"single_pass": draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))} if kind is Hybrid else {}
    least = epochs * (batch if options["whole_batches"] else 1)
    n = draw(st.integers(max(least, batch), max(least, batch) + 25))
    return kind(**options), setting(draw(st.integers(0, 2**63 - 1)), n, batch, epochs)


@given(chunked())
def test_every_images_visits_are_those_of_an_independent_count(drawn):
    """Image by image, step by step: where its place may be seen, passes without a gap, and nothing but whole passes."""
    order, run = drawn
    place = run.shuffled().tolist()
    turns = Counter()  # of each image: passes that it has had a place in
    step = 0
    for epoch, seen in enumerate(released(order, run.images, run.batch_size, run.epochs)):
        usual = isinstance(order, Hybrid) and epoch >= round(order.single_pass * run.epochs)
        whole_only = order.whole_batches or usual
        length = len(seen) // run.batch_size * run.batch_size if whole_only else len(seen)
        left, number, had = [], -1, set()
        for _ in range(run.images // run.batch_size):
            index, visit = (rows.tolist() for rows in order.at(run, step))
            for image, at in zip(index, visit, strict=True):
                if not left:
                    left, number, had = list(range(length)), number + 1, set()
                left.pop()
                assert place[image] in seen and image not in had  # once a pass
                had.add(image)
                assert at == turns[image] + number
            step += 1
        turns.update({image: number + 1 for image in range(run.images) if place[image] in seen})
    assert step == run.steps


@given(chunked())
def test_a_pass_that_reaches_over_batches_leaves_no_image_of_the_stretch_out(drawn):
    order, run = drawn
    for epoch, seen in enumerate(released(order, run.images, run.batch_size, run.epochs)):
        usual = isinstance(order, Hybrid) and epoch >= round(order.single_pass * run.epochs)
        if order.whole_batches or usual or len(seen) > run.steps_per_epoch * run.batch_size:
            continue
        index, _ = whole(order, run, epoch * run.steps_per_epoch, (epoch + 1) * run.steps_per_epoch)
        assert set(run.shuffled()[index.flatten()].tolist()) == set(seen)


IMAGENET = Setting(0, torch.zeros(1).expand(1_281_167), 256, 100)


def test_imagenets_numbers():
    """As the released code has them with 100 epochs and batch 256: 500,400 steps whatever the order."""
    sizes = {last - first for first, last in Current().stretches(IMAGENET)}
    assert IMAGENET.steps == 500_400 and sizes == {12_811, 12_812}
    assert set(Last(chunk_size=20).stretches(IMAGENET)) == {(1_024_933, 1_281_167)}
    passes = [256 * 5004 / (last - first) for first, last in Current().stretches(IMAGENET)]
    assert min(passes) > 99.9 and max(passes) < 100.01


def test_in_cumulative_training_early_images_are_seen_most():
    """Views of an image in the first chunk 518.7, at the median 69.8, in the last 1.0 (Li et al. 2022's protocol)."""
    seen = [256 * 5004 / last for _, last in Accumulate().stretches(IMAGENET)]
    views = [sum(seen[chunk:]) for chunk in range(100)]
    assert (views[0], sum(views[49:51]) / 2, views[99]) == pytest.approx((518.7, 69.8, 1.0), abs=0.05)


def test_a_hybrid_begins_as_the_single_pass_whose_checkpoint_it_goes_on_from():
    run = setting(n=53, batch_size=8, epochs=10)
    mine, theirs = (whole(order, run, 0, 4 * run.steps_per_epoch) for order in (Hybrid(), Current()))
    assert all(map(torch.equal, mine, theirs))
    assert all(map(torch.equal, whole(Hybrid(single_pass=1.0), run), whole(Current(), run)))
    assert torch.equal(whole(Hybrid(single_pass=0.0), run)[0], whole(Shuffled(), run)[0])


def test_batches_are_whole_or_fill_up_from_the_next_pass():
    run = setting(n=50, batch_size=4, epochs=5)  # chunks of 10: two batches and a half
    for order, many in ((Current(), 10), (Current(whole_batches=True), 8)):
        first = whole(order, run, 0, run.steps_per_epoch)
        assert first[1].flatten().tolist() == [k // many for k in range(48)]


def test_rounds_come_back_to_the_same_chunks_with_other_views():
    run = setting(n=40, batch_size=5, epochs=5)
    index, visit = (rows.view(5, -1) for rows in whole(Current(rounds=2), run))  # E = 2, and one epoch is left over
    for epoch in (2, 4):
        assert set(index[epoch].tolist()) == set(index[0].tolist()) and not torch.equal(index[epoch], index[0])
        assert visit[epoch].min() == visit[epoch - 2].max() + 1
    assert not set(index[0].tolist()) & set(index[1].tolist())


def test_iid_is_another_name_of_the_usual_order():
    config = change(Config(), order="iid")
    assert config == Config() and key_text(config) == key_text(Config()) and to_json(config) == to_json(Config())
    assert ORDER.name_of(ORDER.kind("iid")()) == "shuffled"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "current", "chunk_size": 11}, "--chunk-size 11 exceeds the 10 epochs of a round"),
        ({"order": "accumulate", "chunk_size": 4, "rounds": 3}, "--chunk-size 4 exceeds the 3 epochs of a round"),
        ({"order": "hybrid", "rounds": 11}, "--rounds 11 exceeds --epochs 10"),
        ({"order": "last", "chunk_size": 0}, "--chunk-size is 0; it must be at least 1"),
        ({"order": "hybrid", "restart_lr": True, "schedule": "constant"}, "has no effect under --schedule constant"),
        ({"order": "hybrid", "restart_lr": True, "single_pass": 1.0}, "has no effect at epoch 10 of 10"),
        (
            {"order": "hybrid", "restart_lr": True, "warmup_epochs": 4.0},
            "it must lie inside of the run, after the warm",
        ),
        ({"order": "last", "rounds": 2}, "--rounds goes with --order hybrid, current, accumulate, not last"),
    ],
)
def test_impossible_chunks_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        check(change(change(Config(), epochs=10), **options))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Current(), "--epochs 23 exceeds the 10 training images; each chunk needs an image"),
        (Current(chunk_size=2), "--epochs 23 exceeds the 20 epochs that chunks of 10 training images fill"),
        (Current(chunk_size=5, whole_batches=True), "--whole-batches leaves no batch of 4 in 2 images"),
    ],
)
def test_a_chunk_of_too_few_images_is_refused_before_the_first_step(order, words):
    with pytest.raises(ValueError, match=words):
        order.at(setting(n=10, batch_size=4, epochs=23), 0)


def test_a_run_of_no_epoch_asks_for_nothing_impossible():
    for order in ORDERS:
        order.at(setting(epochs=0), 0)


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
