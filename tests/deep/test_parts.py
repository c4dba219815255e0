"""What holds for every part there is: it builds, learns as it says, survives as text, and fits the other parts."""

import contextlib
import copy
import dataclasses
import doctest
import importlib
import json
import pickle
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch

from stopgrad.deep.config import (
    GROUPS,
    Config,
    Data,
    change,
    check,
    flat_config,
    from_json,
    key_text,
    to_json,
    views_wanted,
)
from stopgrad.deep.config import parts as parts_of_config
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.predictors.set import choices, set_by
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.parts import Part, canonical, flat, helps, options, override, seats_of
from stopgrad.deep.seats import OBJECTIVE, PREDICTOR, SEATS
from stopgrad.deep.training.training import gradient
from stopgrad.linear_theory.predictors.rules import SET_RULES, Rule
from stopgrad.linear_theory.tools.errors import BadInput

DEFAULTS = Path(__file__).parents[1] / "helpers" / "data" / "defaults.json"
TINY = change(
    Config(), width=1, projector_layers=1, embedding_dim=5, image_size=8, batch_size=12, lr=0.1, precision="float64"
)
CHOICES = [(seat.name, name) for seat in SEATS for name in seat.choices]
ALONE = {
    ("backbone", "identity"): {"dataset": "gaussian"},
    ("objective", "schedule"): {"phases": ("direction toward=random@1", "predictive@1", "infonce@2")},
}
"""What a choice needs beside it."""


def chosen(seat, name, **more):
    """A small config with this part, with what it needs and with other options."""
    return check(change(TINY, **{seat: name}, **ALONE.get((seat, name), {}), **more))


def variants(seat):
    """Every part of a seat with each choice that its options leave, one at a time, as far as it goes with the rest."""
    for name in seat.choices:
        for option in options(seat.kind(name)()):
            listed = typing.get_args(option.hint) if typing.get_origin(option.hint) is Literal else ()
            for value in (False, True) if option.hint is bool else listed:
                with contextlib.suppress(BadInput):
                    if value != option.value and chosen(seat.name, name, **{option.name: value}):
                        yield seat.name, name, {option.name: value, "backbone": "linear"}


def beside(seat):
    """What a choice is tried with: only backbones, and targets, which copy or move one, need one of many layers."""
    return {} if seat in ("backbone", "target") else {"backbone": "linear"}


VARIANTS = [*((*choice, beside(choice[0])) for choice in CHOICES), *variants(OBJECTIVE)]


def network(config):
    torch.manual_seed(0)
    features = 7 if config.data.dataset == "gaussian" else 3 * 8 * 8
    return Siamese(config.method, features).double().train()


def batch(config, images=12):
    shape = (7,) if config.data.dataset == "gaussian" else (3, 8, 8)
    draw = torch.Generator().manual_seed(1)
    return Batch.of(*torch.randn(views_wanted(config), images, *shape, generator=draw, dtype=torch.float64))


def share(given, images):
    """Some images of a batch."""
    return Batch(tuple(view[images] for view in given.views), given.index[images], given.visit[images])


@pytest.fixture(params=VARIANTS, ids=lambda v: " ".join([*v[:2], *(f"{k}={x}" for k, x in v[2].items())][:3]))
def config(request):
    seat, name, more = request.param
    return chosen(seat, name, **more)


# ---------------------------------------------------------------- conformance


def test_a_step_is_finite_and_its_gradient_arrives(config):
    siamese, given = network(config), batch(config)
    optimiser = make_optimiser(siamese, config.optimisation)
    for _ in range(3):
        outputs = gradient(siamese, [given])
        assert outputs.total.isfinite() and outputs.z.shape == outputs.p.shape == outputs.target.shape == (2, 12, 5)
        assert all(w.grad is not None and w.grad.isfinite().all() for w in siamese.online.parameters())
        assert siamese.online.projector.last.weight.grad.any()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        siamese.after_step(outputs, optimiser)
    assert all(w.isfinite().all() for w in siamese.parameters())


def test_every_weight_is_in_one_group(config):
    siamese = network(config)
    groups = siamese.groups()
    weights = [w for group in groups.values() for w in group]
    assert {id(w) for w in weights} == {id(w) for w in siamese.parameters() if w.requires_grad}
    assert len({id(w) for w in weights}) == len(weights)
    assert bool(groups["predictor"]) == config.method.predictor.learns


def test_a_network_goes_on_from_its_state(config):
    siamese, given = network(config), batch(config)
    optimiser = make_optimiser(siamese, config.optimisation)
    outputs = gradient(siamese, [given])
    optimiser.step()
    siamese.after_step(outputs, optimiser)
    again = network(config)
    again.load_state_dict(siamese.state_dict())
    a, b = siamese(given), again(given)
    assert torch.equal(a.loss, b.loss) and torch.equal(a.target, b.target) and torch.equal(a.p, b.p)


def test_a_batch_in_parts_is_one_batch_or_refused(config):
    if config.method.objective.whole_batch:
        with pytest.raises(ValueError, match="--accumulation"):
            check(change(config, accumulation=2))
        return
    whole, parted, given = network(config), network(config), batch(config)
    for siamese in (whole, parted):  # normalised by the part, a batch in parts is another
        siamese.eval()
    a = gradient(whole, [given])
    b = gradient(parted, [share(given, part) for part in (slice(0, 6), slice(6, 12))])
    torch.testing.assert_close(b.total, a.total, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(whole.parameters(), parted.parameters()):
        if mine.grad is not None:
            torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-9, atol=1e-12)


def test_a_config_survives_as_text_as_copy_and_in_a_pickle(config):
    assert from_json(to_json(config)) == from_json(key_text(config)) == config
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert hash(pickle.loads(pickle.dumps(config))) == hash(config)
    for part in parts_of_config(config):
        assert dataclasses.is_dataclass(part) and isinstance(part, Part) and str(part) in flat_config(config).values()


def test_a_part_is_explained():
    for seat in SEATS:
        for name in seat.choices:
            kind = seat.kind(name)
            assert kind.__doc__ and all(helps(kind).values()), name


WITH_EXAMPLE = {
    "objective": ("components", "direction", "infonce", "triplet", "decorrelation", "schedule"),
    "target": ("alternating", "symmetric", "inverse", "fresh_views", "moving_average"),
    "predictor": ("bias",),
    "backbone": ("mlp",),
}


def test_examples_of_parts_hold():
    kinds = {(seat.name, name): seat.kind(name) for seat in SEATS for name in seat.choices}
    for seat, names in WITH_EXAMPLE.items():
        assert all(">>> " in kinds[seat, name].__doc__ for name in names), seat
    modules = {kind.__module__ for kind in kinds.values()}
    modules |= {"stopgrad.deep.parts", "stopgrad.deep.config", "stopgrad.deep.method.objectives.vectors"}
    for module in sorted(modules):
        assert not doctest.testmod(importlib.import_module(module)).failed, module


# ---------------------------------------------------------------- what is no part, or has no place


@dataclass(frozen=True)
class Mine(PREDICTOR.kind("linear")):
    """Mine."""

    bias: bool = True
    """Another default."""


def test_a_script_enters_a_part_of_its_own(monkeypatch):
    config = dataclasses.replace(TINY, method=dataclasses.replace(TINY.method, predictor=Mine()))
    with pytest.raises(ValueError, match="Mine is in no table as --predictor; enter it in PREDICTORS"):
        check(config)
    monkeypatch.setitem(PREDICTOR.table, "mine", Mine)
    assert from_json(to_json(check(config))) == config == change(TINY, predictor="mine", predictor_bias=True)
    assert change(TINY, predictor="mine").method.predictor.bias is False  # as that of the predictor before


def test_two_parts_must_not_share_a_flag(monkeypatch):
    @dataclass(frozen=True)
    class Wide(SEATS[2].kind("shared")):
        width: int = 3

    monkeypatch.setitem(SEATS[2].table, "wide", Wide)
    with pytest.raises(ValueError, match="two parts have an option --width"):
        check(change(TINY, target="wide"))


def test_a_rule_entered_later_is_a_predictor_with_the_options_that_it_reads(monkeypatch):
    monkeypatch.setitem(SET_RULES, "halved", Rule(lambda F, eps: F / 2 + eps, "F/2 + ε", ("eps",)))
    assert flat(override(TINY.method, {"predictor": "halved"})).keys() >= {"predictor_eps", "predictor_rho"}
    assert "cutoff" not in {f.name for f in dataclasses.fields(choices()["halved"])}
    assert check(change(TINY, predictor=set_by("halved", eps=0.5))).method.predictor.eps == 0.5


# ---------------------------------------------------------------- keys


def with_one_more(kind, name, default):
    """A class as `kind` will be with an option more."""
    return dataclasses.make_dataclass(kind.__name__, [(name, float, default)], bases=(kind,), frozen=True)


@pytest.mark.parametrize("seat", SEATS, ids=lambda seat: seat.name)
def test_an_option_that_comes_later_changes_no_key(seat, monkeypatch):
    for name in seat.choices:
        before, kind = key_text(chosen(seat.name, name)), seat.kind(name)
        with monkeypatch.context() as later:
            later.setitem(seat.table, name, with_one_more(kind, "added_later", 0.5))
            every = type(seat).choices.fget
            later.setattr(type(seat), "choices", property(lambda self, every=every: {**every(self), **self.table}))
            config = chosen(seat.name, name)
            assert flat_config(config)[f"{seat.prefix}added_later"] == 0.5 and key_text(config) == before
            assert key_text(change(config, **{f"{seat.prefix}added_later": 1.0})) != before


def test_a_field_that_comes_later_changes_no_key():
    more = with_one_more(Data, "sepia", 0.0)
    assert canonical(more(flip=0.1), defaults=False) == canonical(Data(flip=0.1), defaults=False)
    assert canonical(more(sepia=0.1), defaults=False) != canonical(Data(), defaults=False)


def test_defaults_never_change():
    """What a key leaves out must stay what it was. A new option is entered in the file; an old one stays as it is."""
    now = {group: flat(record) for group, record in GROUPS.items()}
    for seat, name in [(one, name) for one in SEATS for name in one.choices]:
        fields = seat.options_of(seat.kind(name))
        now[f"{seat.name} {name}"] = {option: field.default for option, field in fields.items()}
    assert json.loads(json.dumps(now)) == json.loads(DEFAULTS.read_text())


def test_everything_that_differs_from_the_default_is_in_the_key():
    for group, default in GROUPS.items():
        for option in options(default):
            other = {bool: not option.value, float: 0.25, int: 31}.get(option.hint)
            if other is not None:
                changed = override(default, {option.name: other})
                assert key_text(dataclasses.replace(Config(), **{group: changed})) != key_text(Config()), option.name
    assert key_text(Config(seed=1)) != key_text(Config())
    assert not seats_of(Config)
