"""Configs: every impossible record is one sentence that names the flag, and a record survives as text."""

import contextlib
import json
import math
import typing
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from methods import each_choice, predictor

from stopgrad.deep.config import GROUPS, Config, Data, Method, change, check, flat_config, from_json, to_json
from stopgrad.deep.method.backbones.resnet import ResNet50
from stopgrad.deep.method.predictors.linear import Linear
from stopgrad.deep.method.predictors.mlp import Fixed
from stopgrad.deep.parts import flat, options, override, seats_of
from stopgrad.deep.presets import DEFAULT, PRESETS, preset, refuse_idle
from stopgrad.deep.seats import PREDICTOR, PREDICTORS
from stopgrad.linear_theory.predictors.rules import SET_RULES


def changed(base=DEFAULT, **fields):
    """`base` with options replaced, unchecked."""
    return change(base, **fields)


def complaint(**fields):
    with pytest.raises(ValueError) as error:
        check(changed(**fields))
    return str(error.value)


def is_sentence(text, flag):
    return flag in text and "\n" not in text and len(text) < 200


# ---------------------------------------------------------------- values out of range or of a wrong type


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("fraction", (0.0, 1.1, -1.0)),
        ("image_size", (7, 0)),
        ("workers", (-1,)),
        *((name, (-0.1, 1.1)) for name in ("flip", "jitter_probability", "grayscale", "blur")),
        ("gaussian_dim", (1, 0)),
        ("gaussian_decay", (-1.0,)),
        ("gaussian_sigma2", (-0.1,)),
        ("gaussian_samples", (1,)),
        *((name, (0, -3)) for name in ("width", "projector_hidden", "predictor_hidden", "predictor_freq")),
        ("projector_layers", (0, 4)),
        ("embedding_dim", (1,)),
        ("predictor_eps", (-0.1,)),
        ("predictor_rho", (1.0, -0.1)),
        ("predictor_alpha", (0.0,)),
        ("loss_scale", (0.0, -1.0)),
        ("ema_momentum", (1.2, -0.1)),
        ("epochs", (-1,)),
        ("batch_size", (1, 0)),
        ("lr", (0.0, -0.1)),
        ("momentum", (1.0, -0.1)),
        ("weight_decay", (-1e-4,)),
        ("predictor_lr", (0.0,)),
        ("predictor_weight_decay", (-1.0,)),
        ("warmup_epochs", (-1.0,)),
        *((name, (0,)) for name in ("accumulation", "monitor_every", "evaluate_every")),
        ("knn_images", (1,)),
        ("seed", (-1, 2**63, 10**100)),
    ],
)
def test_values_out_of_range(field, bad):
    for value in bad:
        assert is_sentence(complaint(**chosen(field), **{field: value}), "--" + field.replace("_", "-"))


def chosen(field):
    """Parts that have the option."""
    seats = [seat for record in GROUPS.values() for seat in seats_of(record)]
    return {seat.name: seat.with_option(field)[0] for seat in seats if seat.with_option(field)}


NUMBERS = sorted(
    {
        option.name: None
        for record in GROUPS.values()
        for choice in each_choice(type(record))
        for option in options(choice)
        if float in (option.hint, *typing.get_args(option.hint))
    }
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", NUMBERS)
def test_no_number_is_nan_or_infinite(field, value):
    default = flat_config(changed(**chosen(field)))[field]
    for bad in [value] if not isinstance(default, tuple) else [(*default[:-1], value), (value, *default[1:])]:
        assert is_sentence(complaint(**chosen(field), **{field: bad}), "--" + field.replace("_", "-"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "mnist"),
        ("predictor", "attention"),
        ("loss", None),
        ("download", 1),
        ("data_folder", 3),
        ("epochs", 2.0),
        ("epochs", True),
        ("lr", "0.1"),
        ("lr", True),
        ("image_size", 32.0),
        ("seed", "0"),
        ("crop_scale", (0.2,)),
        ("crop_scale", 0.2),
        ("jitter", (0.4, 0.4, 0.4, "0.1")),
        ("references", ("random", "best")),
        ("references", "random"),
    ],
)
def test_values_of_a_wrong_type(field, value):
    assert is_sentence(complaint(**{field: value}), "--" + field.replace("_", "-"))


@pytest.mark.parametrize("group", [{"data": Data(crop_scale=[0.2, 1.0])}, {"method": Method(predictor="linear")}])
def test_a_record_that_a_script_made_of_wrong_types(group):
    with pytest.raises(ValueError, match=r"--crop-scale is|--predictor is 'linear'"):
        check(replace(DEFAULT, **group))


# ---------------------------------------------------------------- contradictions

FREE_OF_PREDICTOR = ("identity", "fixed", *SET_RULES)
GAUSSIAN = {"dataset": "gaussian", "backbone": "identity"}


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"crop_scale": (0.5, 0.2)}, "--crop-scale"),
        ({"crop_scale": (0.0, 1.0)}, "--crop-scale"),
        ({"crop_scale": (0.2, 1.5)}, "--crop-scale"),
        ({"blur_sigma": (2.0, 0.1)}, "--blur-sigma"),
        ({"jitter": (-0.1, 0.4, 0.4, 0.1)}, "--jitter"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "--jitter"),
        ({"dataset": "imagefolder"}, "--data-folder"),
        ({"dataset": "gaussian"}, "--backbone"),
        ({**GAUSSIAN, "storage": "stream"}, "--storage"),
        ({"laws_every": 1, "predictor": "directpred", "target": "ema"}, "--laws-every"),
        *(({"predictor": p, "isoloss": True}, "--isoloss") for p in ("mlp", "linear", "symmetric", "identity", "bias")),
        ({"predictor": "directset", "isoloss": True, "predictor_freq": 2}, "--predictor-freq"),
        ({"predictor": "directset", "isoloss": True, "stop_gradient": "none"}, "--isoloss"),
        ({"target": "ema", "stop_gradient": "none"}, "--stop-gradient"),
        ({"target": "ema", "stop_gradient": "mirrored"}, "--stop-gradient"),
        ({"projector_bias": True, "projector_output_bn": "affine"}, "--projector-bias"),
        ({"projector_bias": True, "projector_output_bn": "affine_free"}, "--projector-bias"),
        ({"accumulation": 3}, "--accumulation"),
        ({"accumulation": 128}, "--accumulation"),
        ({"epochs": 2, "warmup_epochs": 3.0}, "--warmup-epochs"),
    ],
)
def test_contradictions(fields, flag):
    assert is_sentence(complaint(**fields), flag)


@pytest.mark.parametrize(
    "fields",
    [
        {"predictor": "directset", "isoloss": True, "loss": "squared", "target": "ema"},
        {"predictor": "directpred", "predictor_freq": 5, "predictor_lr": 0.5, "predictor_weight_decay": 0.0},
        {"predictor": "directpred", "predictor_cutoff": -0.1},
        {"predictor": "mlp", "predictor_bias": True, "predictor_lr": 0.5},
        {"projector_bias": True},
        {"epochs": 0},
        {**GAUSSIAN, "projector_layers": 1},
        {**GAUSSIAN, "backbone": "linear"},
        {"dataset": "imagefolder", "data_folder": "images", "storage": "stream"},
        {"target": "ema", "ema_momentum": 1, "lr": 1, "weight_decay": 0},
    ],
)
def test_what_is_possible(fields):
    assert check(changed(**fields)) == changed(**fields)


@pytest.mark.parametrize("name", PREDICTOR.choices)
@pytest.mark.parametrize("freq", [1, 2])
def test_a_predictor_learns_just_if_it_has_parameters_to_train(name, freq):
    fields = {"predictor_freq": freq} if name in SET_RULES else {}
    method = changed(predictor=name, **fields).method
    assert method.predictor.learns == any(w.requires_grad for w in predictor(method).parameters())


# ---------------------------------------------------------------- options of parts


@pytest.mark.parametrize(
    ("fields", "flag", "needs"),
    [
        ({"predictor": "directpred", "predictor_hidden": 512}, "--predictor-hidden", "mlp"),
        ({"predictor_hidden": 64}, "--predictor-hidden", "mlp"),
        ({"predictor": "mlp", "predictor_eps": 0.3}, "--predictor-eps", "directpred"),
        ({"predictor": "optimal", "predictor_eps": 0.0}, "--predictor-eps", "directpred"),
        ({"predictor": "mlp", "predictor_rho": 0.5}, "--predictor-rho", "optimal"),
        ({"predictor_normalisation": "none"}, "--predictor-normalisation", "directset"),
        *(({"predictor": p, "predictor_bias": True}, "--predictor-bias", "linear") for p in FREE_OF_PREDICTOR),
        *(
            ({"predictor": p, "predictor_freq": 5}, "--predictor-freq", "optimal")
            for p in ("mlp", "linear", "identity")
        ),
        ({"predictor": "directcopy", "predictor_cutoff": -0.1}, "--predictor-cutoff", "directpred"),
        ({"predictor": "directpred", "predictor_alpha": 0.5}, "--predictor-alpha", "directset"),
        ({"ema_momentum": 0.99}, "--ema-momentum", "--target ema"),
        ({"backbone": "identity", "width": 64}, "--width", "linear"),
        ({"backbone": "linear", "stem": "cifar"}, "--stem", "resnet18"),
    ],
)
def test_an_option_of_a_part_that_is_not_chosen_says_which_has_it(fields, flag, needs):
    with pytest.raises(ValueError) as error:
        changed(**fields)
    assert is_sentence(str(error.value), flag) and needs in str(error.value)


def test_another_part_keeps_the_options_that_both_have():
    simsiam = PRESETS["simsiam-cifar10"]
    assert changed(simsiam, predictor="linear").method.predictor == Linear(bias=True)
    assert changed(simsiam, predictor="fixed").method.predictor == Fixed(hidden=512)
    assert changed(simsiam, backbone="resnet50").method.backbone == ResNet50(width=64)
    assert changed(simsiam, predictor=Linear(), backbone=ResNet50()).method.predictor == Linear()


def test_an_option_that_cannot_be_hashed_is_written_all_the_same(monkeypatch):
    @dataclass(frozen=True)
    class Weighted(Linear):
        """A part of somebody's own."""

        weights: dict = field(default_factory=lambda: {"a": 1.0})

    monkeypatch.setitem(PREDICTORS, "weighted", Weighted)
    config = changed(predictor=Weighted(weights={"b": 2.0}))
    assert json.loads(to_json(config))["method"]["predictor_weights"] == {"b": 2.0}
    assert from_json(to_json(config)) == config != changed(predictor="weighted")


# ---------------------------------------------------------------- flags that would do nothing


@pytest.mark.parametrize(
    ("fields", "flag", "needs"),
    [
        ({"projector_layers": 1, "projector_hidden": 64}, "--projector-hidden 64", "--projector-layers"),
        ({"gaussian_sigma2": 0.2}, "--gaussian-sigma2 0.2", "gaussian"),
        *(({"predictor": p, "predictor_lr": 0.1}, "--predictor-lr", "learns") for p in FREE_OF_PREDICTOR),
        *(({"predictor": p, "predictor_weight_decay": 0.0}, "--predictor-weight", "learns") for p in FREE_OF_PREDICTOR),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(fields, flag, needs):
    config = check(changed(**fields))  # the record itself is possible
    with pytest.raises(ValueError) as error:
        refuse_idle(config, DEFAULT)
    assert is_sentence(str(error.value), flag) and needs in str(error.value)


@pytest.mark.parametrize(
    ("base", "fields"),
    [
        (DEFAULT, {"predictor": "identity"}),
        (PRESETS["simsiam-cifar10"], {"predictor": "identity"}),
        (PRESETS["simsiam-cifar10"], {"predictor": "directpred"}),
        (PRESETS["simsiam-cifar10"], {"backbone": "linear"}),
        (PRESETS["byol-stl10-tian"], {"target": "shared"}),
        (PRESETS["linear-gaussian"], {"gaussian_sigma2": 0.3, "predictor": "directset", "predictor_eps": 0.0}),
        *((config, {}) for config in PRESETS.values()),
    ],
)
def test_a_recipe_goes_with_other_switches(base, fields):
    config = changed(base, **fields)
    assert refuse_idle(check(config), base) == config


# ---------------------------------------------------------------- records as text


def values(hint):
    """Anything of a field's type, valid or not."""
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        return st.lists(values(kinds[0])).map(tuple) if kinds[-1] is ... else st.tuples(*map(values, kinds))
    if typing.get_args(hint):
        return st.one_of(*map(values, typing.get_args(hint)))
    numbers = st.floats(0, 1) | st.integers(0, 3) | st.floats(allow_nan=False, allow_infinity=False)
    known = {float: numbers, int: st.integers(0, 2**63 - 1), bool: st.booleans(), str: st.text(), type(None): st.none()}
    return known[hint]


@st.composite
def configs(draw):
    """Possible records: a preset, and those of a few drawn options that leave it possible."""
    config = draw(st.sampled_from(list(PRESETS.values())))
    for number in draw(st.lists(st.integers(0, 999), max_size=12)):
        there = [option for group in GROUPS for option in options(getattr(config, group))]
        option = there[number % len(there)]
        with contextlib.suppress(ValueError):
            config = check(changed(config, **{option.name: draw(values(option.hint))}))
    return replace(config, seed=draw(st.integers(0, 2**63 - 1)))


@given(configs())
def test_a_record_survives_as_text(config):
    text = to_json(config)
    assert from_json(text) == config and to_json(from_json(text)) == text
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text


@given(configs(), configs())
def test_texts_are_equal_just_where_records_are(one, other):
    assert (to_json(one) == to_json(other)) == (one == other)
    assert to_json(one) == to_json(from_json(json.dumps(json.loads(to_json(one)), indent=2)))


def test_equal_numbers_are_written_alike():
    whole = changed(lr=1, weight_decay=0, crop_scale=(1, 1), warmup_epochs=-0.0, gaussian_sigma2=-0.0)
    same = changed(lr=1.0, weight_decay=0.0, crop_scale=(1.0, 1.0), gaussian_sigma2=0.0)
    assert whole == same and to_json(whole) == to_json(same)
    plain = {group: flat(getattr(DEFAULT, group)) for group in GROUPS} | {"seed": 0}
    assert json.loads(to_json(DEFAULT)) == json.loads(json.dumps(plain))
    assert from_json("{}") == Config()  # what is missing is the default
    assert from_json('{"method":{"loss":"squared"},"seed":3}') == changed(Config(), loss="squared", seed=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "JSON object"),
        ("{", "JSON"),
        ('{"model":{}}', "'model'"),
        ('{"method":{"momentum_ema":0.9}}', "'momentum_ema'"),
        ('{"method":0.9}', "method is 0.9"),
        ('{"method":[]}', "method is"),
        ('{"optimisation":{"lr":NaN}}', "--lr"),
        ('{"optimisation":{"lr":"fast"}}', "--lr"),
        ('{"optimisation":{"epochs":1.5}}', "--epochs"),
        ('{"data":{"jitter":[0.4,0.4]}}', "--jitter"),
        ('{"data":{"jitter":{"hue":0.1}}}', "--jitter"),
        ('{"method":{"target":"ema","ema_momentum":1.2}}', "--ema-momentum"),
        ('{"method":{"predictor":"attention"}}', "--predictor is 'attention'"),
        ('{"method":{"predictor":null}}', "--predictor is None"),
        ('{"method":{"backbone":["resnet18"]}}', "--backbone is"),
        ('{"seed":null}', "--seed"),
    ],
)
def test_texts_that_are_no_record(text, words):
    with pytest.raises(ValueError) as error:
        from_json(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_overrides_of_unknown_fields_are_refused():
    assert override(Data(), {"crop_scale": [0.1, 0.9]}) == Data(crop_scale=(0.1, 0.9))
    with pytest.raises(ValueError, match="no field 'crop' in Data"):
        override(Data(), {"crop": 0.1})
    with pytest.raises(ValueError, match=r"no preset 'simsiam'; there are default, simsiam-cifar10"):
        preset("simsiam")
