"""Objectives one after the other: which it is when, what follows from the phases, and what is refused in a sentence."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopgrad.deep.config import Config, Method, change, check, from_json, key_text, to_json
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.measuring.units import Noise
from stopgrad.deep.method.objectives.decorrelation import Decorrelation
from stopgrad.deep.method.objectives.direction import Direction
from stopgrad.deep.method.objectives.infonce import InfoNCE
from stopgrad.deep.method.objectives.predictive import Predictive
from stopgrad.deep.method.objectives.schedule import Phase, Schedule, read_phase
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.seats import OBJECTIVES
from stopgrad.deep.storage.provenance import code
from stopgrad.deep.training.training import gradient
from stopgrad.deep.words.expectation import expectation

FIG4 = ("direction toward=centre@3", "direction toward=random@2", "direction toward=residual@3")


def scheduled(*phases, **fields):
    return change(Config(), objective="schedule", phases=phases, **fields)


# ---------------------------------------------------------------- a phase as text


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("predictive", Phase(Predictive(), None)),
        ("  direction   toward=random @ 390 ", Phase(Direction("random"), 390)),
        ("infonce temperature=0.07 stopped-keys=all@1", Phase(InfoNCE(0.07, "all"), 1)),
        ("infonce --temperature=1 stopped_keys=negatives", Phase(InfoNCE(1, "negatives"), None)),
        ("predictive symmetric_loss=false stop-gradient=none", Phase(Predictive("none", symmetric_loss=False), None)),
        ("decorrelation form=correlation embeddings=raw@007", Phase(Decorrelation("correlation", "raw"), 7)),
    ],
)
def test_a_phase_is_read(text, phase):
    assert read_phase(text) == phase


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ((), "--objective schedule needs --phases, like 'direction"),
        (("",), "--phases has '': --objective is ''; it must be one of predictive"),
        (("simsiam@3",), "--phases has 'simsiam@3': --objective is 'simsiam'; it must be one of"),
        (("predictive@0",), "after @ comes a number of steps, at least 1"),
        (("predictive@-3",), "after @ comes a number of steps"),
        (("predictive@2.5",), "after @ comes a number of steps"),
        (("predictive@",), "after @ comes a number of steps"),
        (("predictive@3@4",), "after @ comes a number of steps"),
        (("predictive loss",), "'loss' is not OPTION=VALUE"),
        (("predictive loss=",), "--loss is ''; it must be one of cosine"),
        (("predictive temperature=2",), "predictive has no option 'temperature'; it has stop_gradient, loss"),
        (("direction toward=up",), "--toward is 'up'; it must be one of centre"),
        (("infonce temperature=cold",), "--temperature is 'cold'; it must be a number"),
        (("infonce temperature=NaN",), "--temperature is nan; it must be above 0"),
        (("predictive symmetric_loss=yes",), "--symmetric-loss is 'yes'; it must be true or false"),
        (("predictive", "direction"), "--phases has 'predictive', without an end; every phase but the last needs one"),
        (("schedule",), "--phases has 'schedule': a phase is one objective, no schedule; give its phases one after"),
        (("schedule phases=predictive@3",), "a phase is one objective, no schedule"),
        (('schedule phases=["predictive"]',), "a phase is one objective, no schedule"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(phases, said):
    with pytest.raises(ValueError, match=said) as refused:
        check(scheduled(*phases))
    assert "\n" not in str(refused.value)


def test_each_phase_is_checked_as_an_objective_of_its_own():
    for phases, fields, said in (
        (("predictive@3", "predictive stop-gradient=none"), {"target": "ema"}, "needs a target that learns"),
        (("predictive isoloss=true",), {}, "--isoloss gives the predictor no gradient"),
        (("components keep=none@2", "triplet"), {"predictor": "identity"}, "--keep none is a part of what a predictor"),
        (("predictive@2", "triplet"), {"accumulation": 2}, "--objective schedule compares images of a batch"),
        (("triplet@2", "direction"), {"repeat": True}, "'direction', without an end; every phase needs one"),
    ):
        with pytest.raises(ValueError, match=said):
            check(scheduled(*phases, **fields))
    check(scheduled("predictive@2", "direction toward=random", accumulation=2))
    with pytest.raises(ValueError, match=r"--phases is \(3,\); it must be a list, each text"):
        check(scheduled(3))


# ---------------------------------------------------------------- which it is when


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 100), st.booleans(), st.booleans())
def test_the_phase_of_a_step_is_that_of_a_slow_count(lengths, step, repeat, open_ended):
    texts = [f"predictive@{n}" for n in lengths]
    if open_ended and not repeat:
        texts[-1] = "predictive"
    turns = [k + 1 for k, n in enumerate(lengths) for _ in range(n)]
    wanted = turns[step % len(turns)] if repeat else [*turns, *[len(lengths)] * 101][step]
    assert Schedule(tuple(texts), repeat).number(step) == wanted


def test_the_loss_is_that_of_the_steps_phase():
    vectors = [torch.randn(2, 6, 4, dtype=torch.float64) for _ in range(3)]
    schedule, index = Schedule(FIG4, repeat=True), torch.arange(6)
    for step in range(20):
        seen = Outputs(*vectors[:2], index, vectors[2], step=step)
        toward = ("centre", "random", "residual")[[0, 0, 0, 1, 1, 2, 2, 2][step % 8]]
        assert torch.equal(schedule(seen), Direction(toward)(seen))
        assert schedule.scalars(seen)["phase"] == 1 + ("centre", "random", "residual").index(toward)


def batches(steps, images=8):
    for step in range(steps):
        views = torch.randn(2, images, 7, generator=torch.Generator().manual_seed(step))
        index = torch.arange(images)
        yield Batch(tuple(views), index, torch.zeros_like(index), step)


def test_a_step_reaches_the_objective_also_in_parts():
    for parts in (1, 2):
        torch.manual_seed(0)
        method = Method.of(backbone="linear", objective="schedule", phases=("predictive@2", "direction toward=random"))
        siamese = Siamese(method, 7)
        found = [gradient(siamese, list(whole) if parts == 1 else [*whole, *whole]) for whole in zip(batches(4))]
        assert [one.step for one in found] == [0, 1, 2, 3]
        assert [float(one.scalars["phase"]) for one in found] == [1, 1, 2, 2]


def test_a_predictor_without_gradient_waits_and_then_learns():
    """Also beside weights of its group that have moved before, under the fused optimiser."""
    from stopgrad.deep.method.optimisation import make_optimiser

    torch.manual_seed(0)
    config = scheduled("direction toward=view@2", "predictive", backbone="linear", predictor="mlp")
    siamese = Siamese(config.method, 7).train()
    siamese.predictor.more = torch.nn.Linear(3, 3)  # of the predictor's group, and moved by another loss
    optimiser = make_optimiser(siamese, config.optimisation)
    moved = []
    for given_ in batches(4):
        before = [w.detach().clone() for w in siamese.predictor.network.parameters()]
        gradient(siamese, [given_])
        siamese.predictor.more(torch.ones(1, 3)).sum().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        moved.append(not all(map(torch.equal, before, siamese.predictor.network.parameters())))
    assert moved == [False, False, True, True]


# ---------------------------------------------------------------- what follows from the phases


def test_what_a_schedule_is_follows_from_its_phases():
    plain, whole = Schedule(("predictive@3", "direction toward=random")), Schedule(("predictive@3", "triplet"))
    assert (plain.whole_batch, whole.whole_batch, plain.views) == (False, True, 2)
    squared = Schedule(("predictive loss=squared@3", "predictive loss=squared stop-gradient=none"))
    assert (plain.theory, squared.theory, Schedule(("predictive", "components")).theory) == (None, "squared", "cosine")
    assert (
        Schedule(("predictive isoloss=true",)).isoloss
        and not Schedule(("predictive isoloss=true@1", "predictive")).isoloss
    )
    assert Schedule(("predictive@1", "components keep=none")).unbalanced() is None
    assert "through the target too" in squared.unbalanced() and "does not send" in plain.unbalanced()


def test_phases_must_see_the_same_views(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Three(Predictive):
        """Of three views."""

        views = 3

    monkeypatch.setitem(OBJECTIVES, "three", Three)
    assert Schedule(("three",)).views == 3
    with pytest.raises(ValueError, match="different numbers of views"):
        check(scheduled("three@2", "predictive"))


def test_a_class_that_is_entered_anew_is_the_one_that_counts(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Mine(Predictive):
        """Mine."""

    @dataclasses.dataclass(frozen=True)
    class Again(Predictive):
        """Mine, mended."""

    for kind in (Mine, Again):
        monkeypatch.setitem(OBJECTIVES, "mine", kind)
        assert type(read_phase("mine").objective) is kind


def test_the_code_of_phases_is_the_runs_code():
    names = code(scheduled("predictive@2", "decorrelation")).keys()
    assert {f"stopgrad.deep.method.objectives.{name}" for name in ("schedule", "predictive", "decorrelation")} <= names
    assert "stopgrad.deep.method.objectives.infonce" not in names
    assert "stopgrad.deep.method.objectives.decorrelation" not in code(Config())


def test_a_schedule_survives_as_text():
    config = check(scheduled(*FIG4, repeat=True))
    assert from_json(to_json(config)) == from_json(key_text(config)) == config and hash(config) == hash(config)
    assert key_text(config) != key_text(scheduled(*FIG4)) != key_text(scheduled(*FIG4[:2]))


def test_each_phase_says_what_it_expects():
    config = scheduled("predictive@3", "direction toward=centre@2", "predictive@3", "decorrelation", predictor="mlp")
    said = expectation(config, Noise(0.1, 1.0), 10)
    assert sum(s.startswith("In 'predictive@3': With stop-gradient and a predictor") for s in said) == 1
    assert any(s.startswith("In 'direction toward=centre@2': Every embedding is drawn") for s in said)
    assert any(s.startswith("In 'decorrelation': ") for s in said)
