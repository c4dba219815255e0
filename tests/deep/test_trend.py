"""A collapse that begins, among noise: what is said, and of what nothing is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.measuring.diagnosis import warnings
from stopgrad.deep.measuring.trend import NAMES, WINDOW, Trend


def rows(width, centre, noise=(0.3, 0.01), seed=0):
    """Measurements around these values, with noise as of 16 images a batch."""
    drawn = np.random.default_rng(seed).normal(size=(len(width), 2)) * noise
    return [dict(zip(NAMES, values)) for values in np.stack([width, centre], axis=1) + drawn]


def said(measured):
    """At which rows something is."""
    trend = Trend()
    return [k for k, row in enumerate(measured) if trend.look(row)]


STILL = 40
FALLING, RISING = (
    np.r_[np.full(STILL, 4.0), np.linspace(4, 2, 40)],
    np.r_[np.full(STILL, -0.04), np.linspace(0, 0.3, 40)],
)


@pytest.mark.parametrize("seed", range(10))
def test_a_collapse_is_seen_on_its_way(seed):
    found = said(rows(FALLING, RISING, seed=seed))
    assert STILL < found[0] < STILL + 30 and len(found) > 10


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("width", "centre"),
    [
        (np.full(300, 4.0), np.full(300, -0.04)),
        (FALLING, np.full(len(FALLING), -0.04)),  # fewer directions without a centre: learning rates fall
        (np.full(len(RISING), 4.0), RISING),  # a centre alone: a linear predictor's may be large
        (np.r_[np.geomspace(13, 3, 30), np.full(60, 3.0)], np.full(90, -0.04)),  # the first steps of a healthy run
        (np.linspace(4, 3.6, 80), np.linspace(-0.04, -0.02, 80)),  # a drift
    ],
)
def test_healthy_runs_are_left_in_peace(width, centre, seed):
    assert said(rows(width, centre, seed=seed)) == []


@given(st.floats(0.5, 50), st.integers(0, 20))
def test_the_size_of_the_participation_ratio_does_not_matter(unit, seed):
    measured = rows(FALLING, RISING, seed=seed)
    other = [row | {NAMES[0]: unit * row[NAMES[0]]} for row in measured]
    assert said(other) == said(measured)


def test_what_it_says():
    measured, trend = rows(FALLING, RISING), Trend()
    signs = [sign for k, row in enumerate(measured) for sign in warnings(row, measured[:k], trend)]
    assert {sign.kind for sign in signs} == {"directions fall away"}
    first = signs[0]
    assert first.values["participation_z_settled"] == pytest.approx(4, abs=0.4)
    assert "from the 4." in first.words() or "from the 3." in first.words()
    assert "while a centre grows (m_o² 0." in first.words()


def test_rows_without_the_statistics_are_passed_over():
    measured = rows(FALLING, RISING)
    gaps = [row for one in measured for row in (one, {"participation_z": 3.0}, {"m_o_squared_z": float("nan")})]
    assert said(gaps) == [3 * k for k in said(measured)]
    assert said(measured[: 2 * WINDOW]) == []
