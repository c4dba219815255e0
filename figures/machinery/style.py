"""One look for every picture: fonts, sizes, colours, labels, and how a picture and its caption reach the disk.

Colours are safe for the common colour-vision deficiencies: lines that stand for categories take the Okabe–Ito palette,
lines that stand for an ordered parameter take steps of viridis, fields take cividis, signed fields PuOr, and the four
fates of a trajectory have the same colour in every picture. Figures are made without pyplot, so nothing is global.
"""

import functools
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.names import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
}
FATES = {"alive": "#0072B2", "collapsed": "#E69F00", "undecided": "#D9D9D9", "diverged": "#3D3D3D"}
FIELD = "cividis"
SIGNED = "PuOr"
MISSING = "#D9D9D9"
FLOW = "#7D95AB"
STABLE = {"marker": "o", "linestyle": "none", "color": "black", "markersize": 7, "zorder": 5, "clip_on": False}
UNSTABLE = {**STABLE, "markerfacecolor": "white", "markeredgewidth": 1.6}
HALF_STABLE = {**STABLE, "fillstyle": "left", "markerfacecoloralt": "white", "markeredgewidth": 1.2}
DOOMED = {"color": FATES["collapsed"], "alpha": 0.35, "linewidth": 0}
STREAM = {"color": FLOW, "linewidth": 0.7, "density": 1.0, "arrowsize": 0.8, "zorder": 1}
RULE = {"color": "0.75", "linewidth": 0.8, "zorder": 0}
SEED = {"marker": "o", "linestyle": "none", "color": "0.45", "markerfacecolor": "none", "markersize": 4.5, "zorder": 3}
ESTIMATE = {"fmt": "D", "color": OKABE_ITO["vermillion"], "markersize": 5, "capsize": 3, "linewidth": 1.6, "zorder": 4}
PAPER = {**ESTIMATE, "fmt": "s", "color": OKABE_ITO["blue"]}
REMARK = {"color": "0.35", "fontsize": 9, "ha": "center", "va": "center"}

STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 12,
    "axes.prop_cycle": f"cycler(color={[*OKABE_ITO.values()]})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "image.cmap": FIELD,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}

LABELS = {
    "eta": r"weight decay $\eta$",
    "eta_p": r"predictor weight decay $\eta_p$",
    "sigma2": r"augmentation strength $\sigma^2$",
    "tau": r"target ratio $\tau$",
    "tau0": r"initial target ratio $\tau(0)$",
    "alpha_p": r"predictor rate $\alpha_p$",
    "beta": r"EMA rate $\beta$",
    "x": r"input variance $x$",
    "p": r"predictor eigenvalue $p$",
    "s": r"feature eigenvalue $s$",
    "p0": r"initial predictor eigenvalue $p_0$",
    "s0": r"initial feature eigenvalue $s_0$",
    "w": r"encoder weight $w$",
    "wp": r"predictor weight $w_p$",
    "wa": r"target weight $w_a$",
    "K": r"alignment rate $K$",
    "time": r"time $t$",
    "epsilon": r"DirectPred regularisation $\varepsilon$",
    "lr": "learning rate",
    "time_to_converge": "time to converge",
    "surviving_modes": "surviving modes",
    "K_sign": r"sign of $K$ along the way",
}
SYMBOLS = {name: text[text.index("$") :].split(" ")[0] for name, text in LABELS.items() if "$" in text}


def context():
    """What is created within takes our style, laid over matplotlib's as it was shipped; nothing outside changes."""
    from stopgrad.linear_theory.tools.drawing import SHIPPED, matplotlib

    return matplotlib.rc_context(SHIPPED | STYLE)


def styled(draw: Callable) -> Callable:
    """Decorator of every drawing function, whose module then need not import matplotlib before it draws."""

    @functools.wraps(draw)
    def drawn(*args, **named):
        with context():
            return draw(*args, **named)

    return drawn


def label(name: str, *, short: bool = False) -> str:
    """The axis label of a quantity, or with `short` its symbol alone; a name not in the table stands for itself."""
    return (SYMBOLS if short else LABELS).get(name, plain(name.replace("_", " ")))


def setting(name: str, value: float) -> str:
    """'symbol = value', for legends and titles."""
    return f"{label(name, short=True)} = {value:g}"


def ordered(count: int) -> list[tuple]:
    """Colours of `count` steps of one parameter: viridis from dark to light, without its palest end."""
    import matplotlib

    return [tuple(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.88, count))]


@styled
def new_figure(rows: int = 1, columns: int = 1, *, panel: tuple[float, float] = (3.4, 2.8), **subplots):
    """A figure of `rows` × `columns` panels, each `panel` inches wide and high; keywords go to `Figure.subplots`.

    Returns (figure, array of axes of shape (rows, columns)).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


@styled
def legend_below(figure: "Figure", **options) -> None:
    """One legend under all panels, with every label of any panel once."""
    pairs = [axis.get_legend_handles_labels() for axis in figure.axes]
    entries = {text: handle for handles, texts in pairs for handle, text in zip(handles, texts)}
    options = {"ncols": len(entries), "columnspacing": 1.6} | options
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", **options)


def say(axis, sentence: str) -> None:
    """Write why a panel is empty into its middle."""
    axis.text(0.5, 0.5, sentence, transform=axis.transAxes, **REMARK)


def reach(axis, way: str, limits: tuple[float | None, float | None]) -> None:
    """Let the axis `way` ("x" or "y") reach at least from the first to the second of `limits`; None: as it is."""
    seen = getattr(axis, f"get_{way}lim")()
    low, high = (
        one(shown, asked) if asked is not None else shown for one, shown, asked in zip((min, max), seen, limits)
    )
    room = 0.04 * (high - low)
    getattr(axis, f"set_{way}lim")(low - room, high + room)


def caption(name: str, text: str, *, source: str, parameters: Mapping, reproduce: str) -> str:
    """What stands beside a picture: what it shows, its source, every parameter, and the command that makes it."""
    lines = (f"{key} = {_value(value)}" for key, value in parameters.items())
    listed = "\n".join(
        textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        for line in lines
    )
    body = "\n\n".join(textwrap.fill(" ".join(part.split()), 100) for part in text.strip().split("\n\n"))
    return f"{name}\n\n{body}\n\nSource: {source}\nParameters:\n{listed}\nReproduce: {reproduce}\n"


def _value(value) -> str:
    if isinstance(value, str):
        return value
    values = np.ravel(value)
    shown = [f"{v:.6g}" if isinstance(v, (float, np.floating)) else str(v) for v in values]
    if len(shown) <= 8 or values.dtype.kind not in "iuf":  # names have no order to be cut short
        return ", ".join(shown)
    return f"{shown[0]} to {shown[-1]} ({len(shown)} values)"


def save(figure: "Figure", path: str | Path, text: str, *, pdf: bool = False) -> list[Path]:
    """Write `path` (.png), its caption `text` beside it (.txt) and on request a PDF; each appears whole or not at all.

    Returns the paths written. Raises ValueError for another suffix, OSError where the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise BadInput(f"a picture is written as NAME.png, not {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [path, path.with_suffix(".pdf")] if pdf else [path]
    for target in pictures:
        # No date and no version inside: the same data give the same bytes.
        blank = {"CreationDate": None} if target.suffix == ".pdf" else {"Software": None}
        with context():
            replace_file(target, lambda draft: figure.savefig(draft, metadata=blank))  # noqa: B023
    replace_file(
        path.with_suffix(".txt"), lambda draft: draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    )
    return [*pictures, path.with_suffix(".txt")]
