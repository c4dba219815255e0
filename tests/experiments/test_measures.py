"""Statistics of a run, against closed forms on tables that are written here."""

import math
from pathlib import Path

import numpy as np
import pytest

from stopgrad.deep.presets.theory import LINEAR_GAUSSIAN
from stopgrad.deep.storage.table import Table
from stopgrad.experiments.claims import measures
from stopgrad.experiments.store.store import Record


def record(tmp_path: Path, rows, summary=None) -> Record:
    """A record whose table has these (scalars, arrays)."""
    with Table(tmp_path) as table:
        for step, (scalars, arrays) in enumerate(rows):
            table.append(step, scalars, {name: np.asarray(v, dtype=np.float32) for name, v in arrays.items()})
    trace = {"trace_z": float(np.sum(rows[0][1]["eigenvalues"]))} if "eigenvalues" in rows[0][1] else {}
    ends = {"first": trace | rows[0][0], "last": rows[-1][0]}
    return Record("0" * 16, tmp_path, LINEAR_GAUSSIAN, ends | (summary or {}))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_modes_of_n_equal_eigenvalues_are_n_whatever_their_size(tmp_path, n):
    eigenvalues = [3e-20] * n + [0.0] * (6 - n)
    found = record(tmp_path, [({}, {"eigenvalues": eigenvalues})])
    assert measures.modes(found) == pytest.approx(n)
    assert measures.log_modes(found) == pytest.approx(math.log(n))


def test_modes_of_unequal_eigenvalues_are_the_exponential_of_their_entropy(tmp_path):
    q = np.array([0.7, 0.2, 0.1])
    found = record(tmp_path, [({}, {"eigenvalues": 5 * q}), ({}, {"eigenvalues": 2 * q})])
    assert measures.modes(found) == pytest.approx(math.exp(-(q * np.log(q)).sum()), rel=1e-6)


def test_a_spectrum_that_is_no_number_has_no_modes(tmp_path):
    assert math.isnan(measures.modes(record(tmp_path, [({}, {"eigenvalues": [math.nan, 1.0]})])))


@pytest.mark.parametrize("left, count", [(0.0, 1), (1e-9, 1), (0.019, 1), (0.021, 4), (5.0, 4)])
def test_modes_that_died_together_are_not_counted(tmp_path, left, count):
    """A complete collapse in norm keeps the proportions of the spectrum, and has one mode all the same."""
    rows = [({}, {"eigenvalues": np.ones(4)}), ({}, {"eigenvalues": left * np.ones(4)})]
    assert measures.modes(record(tmp_path, rows)) == pytest.approx(count)


def test_a_run_that_measured_no_spectrum_gives_nan(tmp_path):
    found = record(tmp_path, [({"trace_z": 1.0}, {})])
    assert math.isnan(measures.modes(found)) and math.isnan(measures.alignment_beyond_first(found))
    assert math.isnan(found.lowest("target_correlation"))


@pytest.mark.parametrize("last, decades", [(1.0, 0.0), (1e-3, 3.0), (10.0, -1.0), (0.0, 30.0), (1e-40, 30.0)])
def test_decades_lost(tmp_path, last, decades):
    assert measures.lost_decades(record(tmp_path, [({"trace_z": 1.0}, {}), ({"trace_z": last}, {})])) == decades


def test_spread_is_what_is_not_the_mean_direction(tmp_path):
    assert measures.log_spread(record(tmp_path, [({"m_o_z": 0.6}, {})])) == pytest.approx(math.log(0.64))
    assert math.exp(measures.log_spread(record(tmp_path / "1", [({"m_o_z": 1.0}, {})]))) < 1e-11


def test_alignment_is_weighted_and_leaves_the_first_mode_out(tmp_path):
    rows = [
        ({}, {"eigenvalues": [9, 1, 1, 0], "alignment": [1, -1, 0, 0.5]}),
        ({}, {"eigenvalues": [9, 3, 1, 0], "alignment": [-1, 1, 0.2, -1]}),
    ]
    found = record(tmp_path, rows)
    assert measures.alignment_beyond_first(found) == pytest.approx((3 * 1 + 0.2) / 4)
    assert measures.alignment_beyond_first(found, 0) == pytest.approx(-0.5)


def test_falls_lows_means_and_digits(tmp_path):
    rows = [({"asymmetry": a, "trace_z": t, "balance_residual": b}, {}) for a, t, b in ((0.7, 2, 0), (0.2, 4, 1e-3))]
    found = record(tmp_path, rows, {"probe": {"accuracy": 0.25}})
    assert measures.fall(found, "asymmetry") == pytest.approx(0.5)
    assert found.lowest("asymmetry") == pytest.approx(0.2)
    assert measures.mean_growth(found) == pytest.approx(0.5)
    assert measures.digits_of(found, "balance_residual") == pytest.approx(3)
    assert measures.accuracy(found) == 25
    assert math.isnan(measures.accuracy(record(tmp_path / "1", rows)))
