"""Many claims at once: p-values against SciPy and by hand, and what their number does to verdicts."""

import copy
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from stopgrad.experiments.claims.claim import decide, interval, p_value
from stopgrad.experiments.claims.multiplicity import LEVEL, adjusted, in_words


def row(p, verdict="holds"):
    return {"id": f"claim of {p}", "p": p, "p_adjusted": None, "survives": None, "verdict": verdict}


ROWS = [row(0.02, "fails"), row(None), row(0.5, "inconclusive"), row(0.001), row(None, "not measured")]


# ---------------------------------------------------------------- one claim


@pytest.mark.parametrize(("above", "side"), [(0.0, "greater"), (4.0, "less")])
def test_golden_p_value(above, side):
    """Mean 2, t = ±2√3 with 2 degrees of freedom, whose tail is ½ − t/(2√(2 + t²))."""
    found = p_value([1.0, 2.0, 3.0], above)
    assert found == pytest.approx(0.5 - np.sqrt(12) / (2 * np.sqrt(14)), rel=1e-12)
    assert p_value([1.0, 2.0, 3.0], above) == pytest.approx(
        stats.ttest_1samp([1, 2, 3], above, alternative=side).pvalue
    )


def test_p_value_of_seeds_that_agree():
    assert p_value([1.0, 1.0, 1.0], 0.5) == p_value([0.0, 0.0, 0.0], 0.5) == 0
    assert p_value([1.0, 1.0, 1.0], 1.0) == 0.5


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=9), st.floats(-10, 10))
def test_a_verdict_is_decided_where_p_is_below_the_level(values, above):
    p = p_value(values, above)
    assume(abs(p - LEVEL) > 1e-9)
    assert 0 <= p <= 0.5
    assert (p < LEVEL) == (decide(*interval(values)[1:3], above) != "inconclusive")


# ---------------------------------------------------------------- many


def test_golden_adjustment():
    """Of m = 3 p-values the k-th smallest is taken times m (1 + 1/2 + 1/3) / k = 5.5/k, not above a larger one's."""
    found = adjusted(ROWS)
    assert [one["p_adjusted"] for one in found] == [
        one and pytest.approx(one) for one in (0.02 * 5.5 / 2, None, 0.5 * 5.5 / 3, 0.001 * 5.5, None)
    ]
    assert [one["survives"] for one in found] == [False, None, None, True, None]
    assert [one["p_adjusted"] for one in adjusted([row(0.011), row(0.01)])] == [pytest.approx(0.011 * 1.5)] * 2


def test_nothing_else_of_a_row_is_touched():
    before = copy.deepcopy(ROWS)
    found = adjusted(iter(ROWS))
    assert before == ROWS
    assert [{**one, "p_adjusted": None, "survives": None} for one in found] == ROWS
    assert adjusted([]) == [] and adjusted([ROWS[1]]) == [ROWS[1]]


def test_few_survive_where_nothing_is_true():
    """1000 means that are their minimum: about 1 in 20 is decided, on either side, and none survives."""
    rng = np.random.default_rng(0)
    found = [p_value(values, 2.0) for values in rng.normal(2, 3, size=(1000, 5))]
    rows = adjusted(row(p, "holds" if p < LEVEL else "inconclusive") for p in found)
    assert np.mean([one["verdict"] == "holds" for one in rows]) == pytest.approx(2 * LEVEL, abs=0.02)
    assert not any(one["survives"] for one in rows)


def test_words_count_what_was_measured():
    """3 measured, 2 decided, 2.5 % of 3 expected to err, 1 survives."""
    [said] = in_words(adjusted(ROWS))
    assert re.findall(r"\d+(?:\.\d+)?", said) == ["3", "2", "95", "0.075", "1"]
    assert in_words([ROWS[1], ROWS[4]]) == in_words([]) == []
