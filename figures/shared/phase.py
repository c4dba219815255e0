"""A phase diagram, from a dataset of `linear_theory`'s sweeps to a picture.

The axes may be any two quantities: they are the two dimensions of the dataset's variables, the first one vertical.
The simulated fate is a field of colours; the boundary that theory (or a bisection) gives lies over it as a line, so
that a disagreement would be seen.
"""

import matplotlib
import matplotlib.patheffects as effects
import numpy as np
import xarray as xr
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from stopgrad.figures.machinery import style
from stopgrad.linear_theory.tools.errors import BadInput

_HOW = ("t_end", "budget", "tolerance", "worst_error", "seconds")
"""What says of a diagram how it was made, and not what of."""


@style.styled
def draw_phase(dataset: xr.Dataset, variable: str | None = None) -> Figure:
    """The fate with its boundary, and beside it `variable` (default: time_to_converge where present, else nothing).

    `dataset`: 2-D variables over the same two dimensions, whose coordinates are the axes' values; `fate` with CF
    attributes flag_values and flag_meanings; optionally boundary_<x> and boundary_<y> along a dimension `boundary`,
    one of them with the attribute kind = "analytic" or "numeric". NaN in a variable is drawn grey, NaN in a boundary
    interrupts the line. Raises ValueError for a dataset without 2-D variables and for a variable that it lacks.
    """
    fields = [name for name, values in dataset.data_vars.items() if values.ndim == 2]
    if not fields:
        raise BadInput("the file holds no phase diagram: no variable has two dimensions")
    if variable is not None and variable not in fields:
        raise BadInput(f"the phase diagram has no variable {variable!r}; it has {', '.join(sorted(fields))}")
    beside = variable or ("time_to_converge" if "time_to_converge" in fields else None)
    shown = [name for name in ("fate", beside) if name in fields] or fields[:1]
    shown = list(dict.fromkeys(shown))

    figure, axes = style.new_figure(1, len(shown), panel=(5.2, 4.5))
    for axis, name in zip(axes[0], shown):
        _draw_field(figure, axis, dataset[name])
        line = _draw_boundary(axis, dataset, dataset[name].dims)
        if name == "fate":
            _draw_fate_legend(axis, dataset[name], line)
    numbers = {k: v for k, v in dataset.attrs.items() if np.ndim(v) == 0 and not isinstance(v, str)}
    # Of a flow of one's own the settings have names of their own; how it was followed is not among them.
    settings = numbers.keys() - set(_HOW) if "flow" in dataset.attrs else {*style.SYMBOLS}
    held = [style.setting(k, v) for k, v in numbers.items() if k in settings]
    figure.suptitle(",  ".join(held), x=0.01, ha="left", fontsize=10.5)
    return figure


def _draw_field(figure, axis, values: xr.DataArray):
    y, x = values.dims
    mesh = axis.pcolormesh(*(_edges(values[d]) for d in (x, y)), values, rasterized=True, **_paint(values.name, values))
    for name, dimension in (("x", x), ("y", y)):
        if _is_log(values[dimension]):
            axis.set(**{f"{name}scale": "log"})
    axis.set(xlabel=style.label(x), ylabel=style.label(y))
    axis.spines[["top", "right"]].set_visible(True)
    if values.name != "fate":
        bar = figure.colorbar(mesh, ax=axis, label=style.label(values.name), pad=0.02)
        bar.outline.set_visible(False)
        if isinstance(mesh.norm, LogNorm):
            for which in ("major", "minor"):  # 20, 50, 100 rather than powers of ten
                getattr(bar.ax.yaxis, f"set_{which}_formatter")(LogFormatter(minor_thresholds=(2, 0.5)))
        if isinstance(mesh.norm, BoundaryNorm):
            steps = np.unique(values.values[np.isfinite(values.values)])
            bar.set_ticks(steps[:: 1 + len(steps) // 12], minor=False)
            bar.ax.minorticks_off()


def _draw_boundary(axis, dataset: xr.Dataset, dims):
    y, x = (dataset.get(f"boundary_{d}") for d in dims)
    if x is None or y is None:
        return None
    kind = x.attrs.get("kind") or y.attrs.get("kind") or "numeric"
    limits = axis.get_xlim(), axis.get_ylim()
    halo = [effects.Stroke(linewidth=4, foreground="white"), effects.Normal()]
    (line,) = axis.plot(
        x, y, color="black", linestyle="-" if kind == "analytic" else "--", linewidth=1.6, path_effects=halo
    )
    axis.set(xlim=limits[0], ylim=limits[1])
    return Line2D([], [], color="black", linestyle=line.get_linestyle(), label=f"boundary ({kind})")


def _draw_fate_legend(axis, fate: xr.DataArray, line):
    values, counts = np.unique(fate, return_counts=True)
    share = dict(zip(values.tolist(), counts / fate.size))
    patches = [
        Patch(facecolor=style.FATES.get(word, style.MISSING), label=f"{word} ({_percent(share[value])})")
        for value, word in _flags(fate).items()
        if value in share
    ]
    handles = [*patches, *([line] if line else [])]
    axis.legend(
        handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, columnspacing=1.4
    )


def _percent(share: float) -> str:
    """A share in per cent that never rounds a rare fate to 0 %, nor a common one to 100 %."""
    return "< 0.1 %" if share < 1e-3 else "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _flags(fate: xr.DataArray) -> dict[int, str]:
    """{value: meaning} by the CF attributes. Raises ValueError where they are missing or of different lengths."""
    values, words = np.ravel(fate.attrs.get("flag_values", [])), str(fate.attrs.get("flag_meanings", "")).split()
    if not len(values) or len(values) != len(words):
        raise BadInput("the variable fate needs the attributes flag_values and flag_meanings, equally long")
    return {int(v): w for v, w in zip(values, words)}


def _paint(name: str, values: xr.DataArray) -> dict:
    """Colour map and norm of a variable: fates and counts in steps, times on a log scale, signed fields about zero."""
    if name == "fate":
        flags = dict(sorted(_flags(values).items()))
        colours = [style.FATES.get(word, style.MISSING) for word in flags.values()]
        return _steps(np.array(list(flags)), ListedColormap(colours))
    finite = values.values[np.isfinite(values.values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    field = matplotlib.colormaps[style.FIELD].with_extremes(bad=style.MISSING)
    signed = matplotlib.colormaps[style.SIGNED].resampled(256).with_extremes(bad=style.MISSING)
    if name == "time_to_converge" and (finite > 0).any():
        return {"cmap": field, "norm": LogNorm(finite[finite > 0].min(), high)}
    steps = np.unique(finite)
    if 1 < len(steps) <= 64 and np.array_equal(steps, np.round(steps)):
        colours = (signed if low < 0 else field)(np.linspace(0.1 if low < 0 else 0, 0.9 if low < 0 else 1, len(steps)))
        return _steps(steps, ListedColormap(colours).with_extremes(bad=style.MISSING))
    if low < 0 < high:
        reach = max(-low, high)
        return {"cmap": signed, "norm": TwoSlopeNorm(0, -reach, reach)}
    return {"cmap": field, "norm": Normalize(low, high)}


def _steps(values: np.ndarray, cmap: ListedColormap) -> dict:
    """One colour a value, whatever the distances between the values."""
    middles = (values[1:] + values[:-1]) / 2
    return {"cmap": cmap, "norm": BoundaryNorm([values[0] - 0.5, *middles, values[-1] + 0.5], cmap.N)}


def _is_log(coordinate: xr.DataArray) -> bool:
    """Whether an axis is spaced by a constant ratio: by its attribute `scale`, or by its values."""
    if "scale" in coordinate.attrs:
        return coordinate.attrs["scale"] == "log"
    v = coordinate.values
    if len(v) < 3 or np.any(v <= 0):
        return False
    return np.ptp(np.diff(np.log(v))) < 1e-6 * abs(np.log(v[-1] / v[0])) / (len(v) - 1)


def _edges(coordinate: xr.DataArray) -> np.ndarray:
    """Cell edges half-way between the values: in the logarithm where the axis is logarithmic."""
    log = _is_log(coordinate)
    v = np.log(coordinate.values) if log else coordinate.values.astype(float)
    if len(v) < 2 or not (np.all(np.diff(v) > 0) or np.all(np.diff(v) < 0)):
        raise BadInput(f"the axis {coordinate.name} needs at least two values in ascending or descending order")
    middles = (v[1:] + v[:-1]) / 2
    edges = np.concatenate([[2 * v[0] - middles[0]], middles, [2 * v[-1] - middles[-1]]])
    return np.exp(edges) if log else edges
