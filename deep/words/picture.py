"""One picture of a run: its loss, the spectrum of F, the predictor's alignment with it, and what collapse would show.

Colours that stand for a mode's index are steps of viridis, those that stand for a quantity are Okabe and Ito's; both
can be told apart with the common colour-vision deficiencies.
"""

from pathlib import Path

from stopgrad.linear_theory.tools.drawing import SHIPPED  # isort: skip (before matplotlib)
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stopgrad.deep.measuring.quantities.quantities import QUANTITIES
from stopgrad.deep.measuring.quantities.quantity import Quantity
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

LEADING = 16
"""Modes of F drawn one by one; the others are a band."""
ALIGNED = 8
"""Modes whose alignment is drawn."""
THRESHOLD = 0.9
"""Alignment that counts as reached."""

COLOURS = {"blue": "#0072B2", "vermillion": "#D55E00", "green": "#009E73"}
GREY = "#BDBDBD"
STYLE = SHIPPED | {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
}
_RANGE = 1e-10  # how far below its largest value a logarithmic axis goes at most


def draw(table: Columns, title: str, path: Path) -> None:
    """Write `figure` to `path` (.png), whole or not at all.

    Raises ValueError for a path that cannot be written.
    """
    path = prepare_file(Path(path), ".png")
    save(figure(table, title), path)


def save(drawn: Figure, path: Path) -> None:
    """Write a figure as .png, whole or not at all."""
    with matplotlib.rc_context(STYLE):
        # no version inside: the same data give the same bytes
        replace_file(path, lambda draft: drawn.savefig(draft, dpi=140, metadata={"Software": None}))


def figure(table: Columns, title: str) -> Figure:
    """The picture of a run's table, four panels, made without pyplot; scalars and arrays by `monitor`'s names.

    What is missing, or nowhere finite, its panel says.
    """
    with matplotlib.rc_context(STYLE):
        whole = Figure(figsize=(12.5, 7.6), layout="constrained")
        FigureCanvasAgg(whole)
        whole.suptitle(title, x=0.01, ha="left", fontsize=12)
        axes = whole.subplots(2, 2, sharex=True)
        _loss(axes[0, 0], table)
        _spectrum(axes[0, 1], _array(table, "b"))
        _alignment(axes[1, 0], _array(table, "c"))
        _collapse(axes[1, 1], table)
        for axis in axes[1]:
            axis.set_xlabel("step")
    return whole


# ---------------------------------------------------------------- panels


def _loss(axis, table: Columns) -> None:
    axis.set_title("a  Loss, and cosine of the two views' embeddings")
    for one in _drawn_in("a"):
        _curve(axis, table, one)
    if axis.lines:
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.legend(loc="best")
    else:
        _say(axis, "No loss was recorded.")


def _spectrum(axis, found: Series | None) -> None:
    axis.set_title(r"b  Eigenvalues of $F = E[zz^\top]$")
    found = _positive(found)
    if found is None:
        return _say(axis, "No spectrum of F was recorded\nin which a value is above 0.")
    modes = found.values.shape[1]
    if modes > LEADING:
        floor = np.nanmax(found.values) * _RANGE
        rest = np.nan_to_num(found.values[:, LEADING:], nan=floor)
        label = f"modes {LEADING + 1}–{modes}" if modes > LEADING + 1 else f"mode {modes}"
        low, high = rest.min(axis=1), rest.max(axis=1)
        axis.fill_between(found.step, low, high, where=high > floor, color=GREY, alpha=0.5, linewidth=0.6, label=label)
    _modes(axis, found, min(modes, LEADING), shown=(1, 2, 4, 8, 16))
    _log(axis, found.values)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _alignment(axis, found: Series | None) -> None:
    axis.set_title(r"c  Alignment $\cos(u_j, W_p u_j)$, $u_j$ the eigenvectors of $F$")
    if found is None or not np.isfinite(found.values).any():
        return _say(axis, "No alignment: the predictor is not\na matrix, or none was measured.")
    axis.axhline(THRESHOLD, color="black", linewidth=1, linestyle=(0, (5, 3)), zorder=1, label=f"{THRESHOLD:g}")
    _modes(axis, found, min(found.values.shape[1], ALIGNED), shown=range(1, ALIGNED + 1))
    lowest = np.nanmin(found.values[:, :ALIGNED])
    axis.set_ylim(-1.05 if lowest < -0.1 else -0.15, 1.05)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _collapse(axis, table: Columns) -> None:
    axis.set_title("d  Embeddings Z (solid) and predictions P (dashed)")
    drawn = [values for one in _drawn_in("d") for values in _curve(axis, table, one)]
    finite = [v[np.isfinite(v) & (v > 0)] for v in drawn]
    if not any(map(len, finite)):
        return _say(axis, "No rank, std or trace was recorded.")
    axis.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    _log(axis, np.concatenate(finite))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


# ---------------------------------------------------------------- parts


def _drawn_in(panel: str) -> list[Quantity]:
    return [one for one in QUANTITIES.values() if one.drawn and one.drawn.panel == panel]


def _array(table: Columns, panel: str) -> Series | None:
    """The first row of numbers that is drawn in a panel and was measured."""
    return next((table.arrays[one.name] for one in _drawn_in(panel) if one.name in table.arrays), None)


def _curve(axis, table: Columns, one: Quantity) -> list[np.ndarray]:
    """Draw a number over the steps; what was drawn."""
    values, look = table.scalars.get(one.name), one.drawn
    label = None if look.dashed else one.label + " / its start" * look.relative
    return _line(
        axis,
        table.step,
        _relative(values) if look.relative else values,
        color=COLOURS.get(look.colour, look.colour),
        linestyle=(0, (4, 2)) if look.dashed else "-",
        label=label,
    )


def _positive(found: Series | None) -> Series | None:
    """The spectrum with what is not above 0, or below its largest value's rounding, as NaN; None if that is all."""
    if found is None:
        return None
    finite = np.where(np.isfinite(found.values) & (found.values > 0), found.values, 0)
    if not finite.any():
        return None
    return Series(found.step, np.where(finite > finite.max() * _RANGE, finite, np.nan))


def _modes(axis, found: Series, count: int, shown) -> None:
    """The first `count` modes from dark to light, the very first set apart: F is not centred, so it is the mean's."""
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, count))
    for j, colour in enumerate(colours):
        text = f"mode {j + 1}" if j + 1 in shown else None
        options = {"color": "black", "linestyle": ":", "label": "mode 1 (mean)"} if j == 0 else {}
        _line(axis, found.step, found.values[:, j], **({"color": colour, "label": text} | options))


def _line(axis, step, values, **options) -> list[np.ndarray]:
    """Draw values over steps, a single one as a point; nothing where none is finite. Returns what was drawn."""
    if values is None or not np.isfinite(values).any():
        return []
    values = np.where(np.isfinite(values), values, np.nan)
    marker = "o" if np.isfinite(values).sum() == 1 else None
    axis.plot(step, values, marker=marker, **options)
    return [values]


def _relative(values):
    """Values over the first that is finite and above 0; None where there is none."""
    if values is None:
        return None
    values = np.asarray(values, dtype=float)
    good = values[np.isfinite(values) & (values > 0)]
    return values / good[0] if len(good) else None


def _log(axis, values) -> None:
    """A logarithmic axis that reaches at most ten decades below the largest value."""
    positive = values[np.isfinite(values) & (values > 0)]
    high = positive.max()
    low = max(positive.min(), high * _RANGE)
    axis.set_yscale("log")
    axis.set_ylim(low / 1.6, high * 1.6)


def _say(axis, sentence: str) -> None:
    axis.text(0.5, 0.5, sentence, transform=axis.transAxes, ha="center", va="center", color="0.35")
    axis.set_yticks([])
