"""The picture of a run: what is measured is drawn where it belongs, and what is missing is said."""

import ast
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import stopgrad.deep.words.picture
from stopgrad.deep.storage.table import Columns, Series, Table, read
from stopgrad.deep.words.picture import ALIGNED, LEADING, THRESHOLD, draw, figure

ROWS, D = 30, 24
STEP = np.arange(ROWS) * 10
RISING = np.linspace(0, 1, ROWS)


def scalars(**changes):
    values = {
        "loss": -RISING,
        "cosine_views": RISING,
        "rank_z": 10 + RISING,
        "rank_p": 5 + RISING,
        "std_z": 0.9 - 0.1 * RISING,
        "std_p": 0.8 - 0.1 * RISING,
        "trace_z": 4 * np.exp(-RISING),
        "trace_p": 2 * np.exp(-2 * RISING),
    }
    return values | changes


def arrays():
    modes = np.arange(D)
    return {
        "eigenvalues": 2.0 * np.exp(-0.3 * modes) * (1 + RISING[:, None]),
        "alignment": np.tanh(5 * RISING[:, None] / (1 + modes)),
    }


def table(numbers, spectra, rows=ROWS):
    """A run's table; arrays have their first `rows` rows."""
    return Columns(
        STEP[:rows],
        {name: value[:rows] for name, value in numbers.items()},
        {name: Series(STEP[:rows], values[:rows]) for name, values in spectra.items()},
    )


def panels(*args):
    found = figure(table(*args), "a run").axes
    assert len(found) == 4
    return found


def curves(axis):
    """The curves over the run by label; lines of reference have two points."""
    return {line.get_label(): line for line in axis.lines if len(line.get_xdata()) == ROWS}


def said(axis):
    return " ".join(text.get_text() for text in axis.texts)


def test_every_quantity_is_drawn_over_the_steps_in_its_panel():
    loss, spectrum, alignment, collapse = panels(scalars(), arrays())
    assert not any(said(axis) for axis in (loss, spectrum, alignment, collapse))
    assert (curves(loss)["loss"].get_ydata() == -RISING).all()
    assert (curves(loss)["loss"].get_xdata() == STEP).all()
    assert spectrum.get_yscale() == collapse.get_yscale() == "log"
    assert len(curves(spectrum)) == LEADING
    np.testing.assert_array_equal(curves(spectrum)["mode 4"].get_ydata(), arrays()["eigenvalues"][:, 3])
    assert curves(alignment).keys() == {"mode 1 (mean)", *(f"mode {j}" for j in range(2, ALIGNED + 1))}
    np.testing.assert_array_equal(curves(alignment)["mode 2"].get_ydata(), arrays()["alignment"][:, 1])
    assert [THRESHOLD, THRESHOLD] in [list(line.get_ydata()) for line in alignment.lines]
    assert sum(len(line.get_xdata()) == ROWS for line in collapse.lines) == 6
    np.testing.assert_allclose(curves(collapse)["trace / its start"].get_ydata(), np.exp(-RISING))


def test_the_other_modes_are_a_band_between_their_extremes():
    _, spectrum, _, _ = panels(scalars(), arrays())
    (band,) = spectrum.collections
    assert band.get_label() == f"modes {LEADING + 1}–{D}"
    x, y = band.get_paths()[0].vertices.T
    values = arrays()["eigenvalues"][:, LEADING:]
    at_start = y[x == 0]
    assert (at_start.min(), at_start.max()) == pytest.approx((values[0].min(), values[0].max()))
    few = {"eigenvalues": arrays()["eigenvalues"][:, :5]}
    assert not panels(scalars(), few)[1].collections


def test_neighbouring_modes_differ_in_colour():
    _, spectrum, alignment, _ = panels(scalars(), arrays())
    for axis in (spectrum, alignment):
        colours = [matplotlib.colors.to_rgb(line.get_color()) for line in axis.lines]
        assert len(set(colours)) >= len(curves(axis))


def test_a_predictor_without_a_matrix_is_said():
    loss, spectrum, alignment, collapse = panels(scalars(), {"eigenvalues": arrays()["eigenvalues"]})
    assert "not\na matrix" in said(alignment)
    assert said(loss) == said(spectrum) == said(collapse) == ""


@pytest.mark.parametrize("blank", [{}, {"loss": np.full(ROWS, np.nan)}])
def test_what_was_not_measured_is_said_in_every_panel(blank):
    assert all(said(axis) for axis in panels(blank, {}))


def test_no_rows_at_all_make_a_picture_that_says_so(tmp_path):
    draw(table({}, {}, 0), "nothing yet", tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 1000


def test_a_complete_collapse_stays_on_the_page():
    """Spectra and traces that fall to 0, and NaN where the run diverged."""
    dying = np.exp(-200 * RISING)
    dying[-3:] = 0
    found = arrays()
    found["eigenvalues"] = found["eigenvalues"] * dying[:, None]
    found["eigenvalues"][-1] = np.nan
    _, spectrum, _, collapse = panels(scalars(trace_z=4 * dying), found)
    for axis in (spectrum, collapse):
        low, high = axis.get_ylim()
        assert 0 < low < high < 1e12 * low
    first = curves(spectrum)["mode 1 (mean)"].get_ydata()
    assert np.isfinite(first[0])
    assert np.isnan(first[-1])
    assert said(panels(scalars(), {"eigenvalues": np.zeros((ROWS, D))})[1])


def test_one_measurement_is_a_point():
    loss, *_ = panels(scalars(), arrays(), 1)
    assert [line.get_marker() for line in loss.lines[:2]] == ["o", "o"]


def test_arrays_measured_more_rarely_than_scalars_keep_their_own_steps(tmp_path):
    with Table(tmp_path) as kept:
        for k, step in enumerate(STEP):
            rare = {name: values[k] for name, values in arrays().items()} if k % 10 == 0 else None
            kept.append(step, {"loss": -RISING[k]}, rare)
    _, spectrum, _, _ = figure(read(tmp_path), "a run").axes
    assert list(spectrum.lines[0].get_xdata()) == [0, 100, 200]


def test_the_same_data_give_the_same_whole_file_and_leave_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    for name in ("a", "b"):
        draw(table(scalars(), arrays()), "a run", tmp_path / "new" / f"{name}.png")
    assert dict(matplotlib.rcParams) == before
    first, second = (path.read_bytes() for path in sorted((tmp_path / "new").iterdir()))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert first.endswith(b"IEND\xaeB`\x82")


def test_pyplot_is_not_used():
    tree = ast.parse(Path(stopgrad.deep.words.picture.__file__).read_text())
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for alias in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert "Figure" in names
    assert not [name for name in names if "pyplot" in name]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        draw(table(scalars(), arrays()), "a run", tmp_path / "run.pdf")
