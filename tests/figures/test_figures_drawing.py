"""What is drawn, against the data: layout, lines, colours, labels, and phase diagrams."""

import itertools

import matplotlib
import numpy as np
import pytest
from figure_examples import DATA, RECORDED, SMALL, from_made_up, phase_data, small
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.text import Text

from stopgrad.figures.machinery import data, style
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.shared import phase
from stopgrad.figures.tian2021 import theory as tian2021


def _texts(figure):
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # what is laid out is where it would be drawn
    boxes = [
        (t.get_text(), t.get_window_extent(canvas.get_renderer()))
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip()
    ]
    return [(text, box) for text, box in boxes if box.width > 1], figure.bbox.expanded(1.002, 1.002)


@pytest.mark.parametrize("name", [*SMALL, *RECORDED])
def test_a_picture_survives_the_data_file_and_nothing_overlaps(name, tmp_path, monkeypatch):
    monkeypatch.setitem(style.STREAM, "density", 0.3)  # no text goes by them, and they take longest
    drawn = data.read(DATA / f"{name}.nc") if name in RECORDED else small(name)
    if name in SMALL:
        data.write(drawn, tmp_path / "small.nc")
        before, drawn = data.digest(drawn), data.read(tmp_path / "small.nc")
        assert data.digest(drawn) == before
    figure = FIGURES[name].draw(drawn)
    assert matplotlib.rcParams["axes.titlelocation"] != "left"  # the style stays inside the drawing
    for axis in figure.axes:
        assert axis.get_title(loc="left") or axis.get_ylabel()
    texts, canvas = _texts(figure)
    for text, box in texts:
        inside = canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
        assert inside or _is_hidden_tick(text), f"{text!r} leaves the picture"
    words = [(t, b) for t, b in texts if any(c.isalpha() for c in t) and "mathdefault" not in t]
    for (one, a), (other, b) in itertools.combinations(words, 2):
        assert not a.overlaps(b), f"{one!r} overlaps {other!r}"


@pytest.mark.parametrize("name", ["tian-fig4", "talk-ema-decay", "tian-table2"])
def test_a_picture_is_the_same_whatever_the_user_has_set(name, tmp_path):
    """As a matplotlibrc does: every setting here would change the picture."""
    theirs = {"savefig.bbox": "tight", "axes.grid": True, "font.size": 20, "text.color": "red", "axes.xmargin": 0.3}
    drawn = small(name) if name in SMALL else from_made_up(name)
    ours, under_theirs = tmp_path / "ours.png", tmp_path / "under_theirs.png"
    style.save(FIGURES[name].draw(drawn), ours, "")
    with matplotlib.rc_context(theirs):
        style.save(FIGURES[name].draw(drawn), under_theirs, "")
    assert ours.read_bytes() == under_theirs.read_bytes()


def _is_hidden_tick(text):
    """Tick labels outside the axis limits exist but are not drawn."""
    return "mathdefault" in text or text.replace("−", "-").lstrip("-").replace(".", "").isdigit()


def test_lines_hold_the_data():
    d = small("tian-fig5")
    figure = tian2021.draw_fig5(d)
    p_axis = figure.axes[1]
    drawn = [line.get_ydata() for line in p_axis.lines if len(line.get_xdata()) == d.sizes["time"]]
    np.testing.assert_array_equal(np.stack(drawn, axis=1), d.p.isel(row=0))
    legend = [t.get_text() for t in figure.axes[3].get_legend().get_texts()]
    assert legend == [style.setting("eta", e) for e in d.eta.values[0]]


def _as_seen(colour, deficiency):
    """CIE Lab of a colour as seen with a colour-vision deficiency (Machado, Oliveira & Fernandes 2009, severity 1)."""
    matrices = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrices[deficiency]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    ratio = np.array(to_xyz) @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", ["normal", "protan", "deutan", "tritan"])
def test_fates_and_steps_are_told_apart(deficiency):
    for one, other in itertools.combinations(style.FATES.values(), 2):
        assert np.linalg.norm(_as_seen(one, deficiency) - _as_seen(other, deficiency)) > 25
    lightness = [_as_seen(c, deficiency)[0] for c in style.ordered(5)]
    assert np.all(np.diff(lightness) > 8)


def test_labels():
    assert style.label("eta") == r"weight decay $\eta$"
    assert style.label("eta", short=True) == r"$\eta$"
    assert style.label("my_new_axis") == "my new axis"
    assert style.setting("alpha_p", 2.0) == r"$\alpha_p$ = 2"
    assert all(text.count("$") % 2 == 0 for text in (*style.LABELS.values(), *style.SYMBOLS.values()))


# ----------------------------------------------------------------------------------------------- phase diagrams


def test_phase_draws_fate_boundary_and_variable():
    d = phase_data()
    figure = phase.draw_phase(d)
    left, right = figure.axes[:2]
    mesh = next(c for c in left.collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.reshape(mesh.get_array(), d.fate.shape), d.fate)
    for value, word in enumerate(("alive", "collapsed", "undecided")):
        assert to_hex(mesh.cmap(mesh.norm(value))).upper() == style.FATES[word]
    (line,) = left.lines
    np.testing.assert_array_equal(line.get_ydata(), d.boundary_p0)
    legend = [t.get_text() for t in left.get_legend().get_texts()]
    assert legend[-1] == "boundary (analytic)" and legend[0].startswith("alive") and len(legend) == 4
    assert left.get_xlabel() == style.label("eta") and left.get_ylabel() == style.label("p0")
    assert isinstance(next(c for c in right.collections if isinstance(c, QuadMesh)).norm, LogNorm)
    assert r"$\sigma^2$ = 0.1" in figure.get_suptitle() and r"$\eta$" not in figure.get_suptitle()


def test_phase_axes_logarithmic_linear_and_foreign():
    assert phase.draw_phase(phase_data(log=True)).axes[0].get_yscale() == "log"
    assert phase.draw_phase(phase_data()).axes[0].get_yscale() == "linear"
    d = phase_data(log=True)
    d["p0"].attrs["scale"] = "linear"
    assert phase.draw_phase(d).axes[0].get_yscale() == "linear"
    d = phase_data(kind="numeric").rename(eta="label_noise", boundary_eta="boundary_label_noise")
    axis = phase.draw_phase(d).axes[0]
    assert axis.get_xlabel() == "label noise" and axis.lines[0].get_linestyle() == "--"


def test_phase_cells_sit_on_their_values():
    for log in (False, True):
        coordinate = phase_data(log=log).p0
        edges, v = phase._edges(coordinate), coordinate.values
        assert np.all((edges[:-1] < v) & (v < edges[1:]))
        middle = np.sqrt(edges[:-1] * edges[1:]) if log else (edges[:-1] + edges[1:]) / 2
        np.testing.assert_allclose(middle, v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("variable", "log"),
    [("p", False), ("surviving_modes", False), ("K_sign", False), ("time_to_converge", False), ("p", True)],
)
def test_phase_any_variable(variable, log):
    d = phase_data(log=log)
    figure = phase.draw_phase(d, variable)
    mesh = next(c for c in figure.axes[1].collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.ma.filled(np.reshape(mesh.get_array(), d.fate.shape), np.nan), d[variable])
    assert style.label(variable) in [axis.get_ylabel() for axis in figure.axes]
    FigureCanvasAgg(figure).draw()


def test_phase_is_tolerant_of_what_is_absent():
    d = phase_data()
    assert len(phase.draw_phase(d[["fate"]]).axes) == 1
    only_p = phase.draw_phase(d[["p"]])
    FigureCanvasAgg(only_p).draw()
    assert only_p.axes[0].get_xlabel() == style.label("eta")
    blank = d.assign(time_to_converge=d.time_to_converge * np.nan)
    FigureCanvasAgg(phase.draw_phase(blank)).draw()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: (d[["boundary_p0"]], None), "no variable has two dimensions"),
        (lambda d: (d, "nonsense"), "no variable 'nonsense'"),
        (lambda d: (d.assign(fate=d.fate.assign_attrs(flag_meanings="alive")), None), "equally long"),
        (lambda d: (d.isel(eta=[0]), None), "at least two values"),
    ],
)
def test_phase_refuses(change, words):
    with pytest.raises(ValueError, match=words):
        phase.draw_phase(*change(phase_data()))
