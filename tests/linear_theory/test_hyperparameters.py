"""The record of hyperparameters: what it derives, what it accepts, and what it refuses and how."""

import dataclasses
import re

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

FIELDS = tuple(f.name for f in dataclasses.fields(Hyperparameters))
POSITIVE = ("alpha_p", "x")
BAD = [
    *((name, value) for name in FIELDS for value in (np.nan, np.inf, -np.inf, -1e-300, -1.0)),
    *((name, 0.0) for name in (*POSITIVE, "tau")),
    ("tau", np.nextafter(1, 2)),
    ("tau", 1.5),
]


def test_defaults():
    h = Hyperparameters()
    assert (h.sigma2, h.eta, h.tau, h.alpha_p, h.x) == (0.1, 0.04, 1.0, 1.0, 1.0)
    assert h.beta is None and h.eta_p is None
    assert h.a == 1.1 and h.predictor_decay == 0.04


def test_is_frozen_and_replace_copies():
    h = Hyperparameters()
    with pytest.raises(dataclasses.FrozenInstanceError):
        h.eta = 0.1
    changed = h.replace(eta=0.2, beta=0.4)
    assert (changed.eta, changed.beta, h.eta, h.beta) == (0.2, 0.4, 0.04, None)
    assert changed.replace(eta=h.eta, beta=None) == h
    with pytest.raises(TypeError):
        h.replace(weight_decay=0.1)


@given(st.floats(0, 10), st.floats(0, 5), st.none() | st.floats(0, 5))
def test_predictor_decay_is_the_encoders_unless_given(sigma2, eta, eta_p):
    h = Hyperparameters(sigma2=sigma2, eta=eta, eta_p=eta_p)
    assert h.a == 1 + sigma2
    assert h.predictor_decay == (eta if eta_p is None else eta_p)


def test_zero_predictor_decay_is_not_absence():
    assert Hyperparameters(eta=0.3, eta_p=0.0).predictor_decay == 0.0


def test_map_skips_what_is_absent():
    h = Hyperparameters(sigma2=0.2, eta=0.3, tau=0.4, alpha_p=0.5, x=0.6)
    doubled = h.map(lambda v: 2 * v)
    assert doubled == Hyperparameters(sigma2=0.4, eta=0.6, tau=0.8, alpha_p=1.0, x=1.2)
    assert h.replace(beta=0.1, eta_p=0.7).map(lambda v: -v).eta_p == -0.7


def test_carries_symbols_and_tensors():
    sigma2, eta = sp.symbols("sigma2 eta")
    assert Hyperparameters(sigma2=sigma2, eta=eta).a == 1 + sigma2
    tensor = torch.tensor([0.0, 0.5], dtype=torch.float64)
    assert torch.equal(Hyperparameters(sigma2=tensor).a, tensor + 1)


def test_validate_gives_float64_arrays_and_changes_nothing():
    h = Hyperparameters(sigma2=1, eta=[0, 1], tau=np.float32(0.5), beta=0, eta_p=(0.1, 0.2))
    checked = h.validate()
    for name in FIELDS:
        value = getattr(checked, name)
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, np.asarray(getattr(h, name)))
    assert Hyperparameters().validate().beta is None


@pytest.mark.parametrize(
    "edge",
    [{"sigma2": 0.0}, {"eta": 0.0}, {"tau": 1.0}, {"tau": 1e-300}, {"alpha_p": 1e-300}, {"beta": 0.0}, {"eta_p": 0.0}],
)
def test_edges_of_the_ranges_are_accepted(edge):
    (name, value), *_ = edge.items()
    assert getattr(Hyperparameters(**edge).validate(), name) == value


@pytest.mark.parametrize(("name", "value"), BAD)
def test_validate_refuses_in_one_sentence_that_names_the_field(name, value):
    for given_value in (value, np.array([[0.5, value], [0.5, 0.5]])):
        with pytest.raises(ValueError, match=rf"^{name} is {re.escape(f'{value:g}')}; it must be [^\n]+$"):
            Hyperparameters(**{name: given_value}).validate()
