"""The main job on real images: what Lemma 1 predicts for scikit-learn's digits against what a trained network does.

Every function takes the data that `python -m experiments linear-digits` leaves in `linear_digits.nc`.
"""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.picture import Picture, Recorded
from stopgrad.figures.tian2021.sources import THEOREM_2

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LEADING = 3
COLOURS = [style.OKABE_ITO[name] for name in ("blue", "vermillion", "green")]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
DECADES = 100  # modes that span more are drawn on a logarithmic axis
EVERY = 5  # observations to a marker


@style.styled
def draw_modes(data: "xr.Dataset") -> "Figure":
    """The leading eigenvalues of F = W X W^T while a linear Siamese network is trained by SGD on augmented images.
    Lines: Lemma 1, integrated with the X and X' measured under these augmentations; nothing is fitted. Markers:
    the network, one shape a seed. One panel each for the four ways to have or not have stop-gradient and predictor;
    logarithmic axes where a mode spans more than two decades.

    The gap is the worst over all times, the leading three modes and all seeds, relative to the mode at that moment
    and (in brackets) to its largest value."""
    from matplotlib.ticker import NullFormatter

    figure, axes = style.new_figure(2, 2, panel=(4.1, 3.0), sharex=True)
    for axis, one in zip(axes.flat, _each(data, "variant")):
        _draw_against(axis, one.s_flow, one.s_sgd)
        leading = one.s_flow.isel(mode=slice(LEADING))
        lowest, highest = float(leading.min()), float(leading.max())
        if highest > DECADES * lowest:
            axis.set(yscale="log", ylim=(0.2 * lowest, 1.5 * highest))
            axis.yaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set(ylim=(0, 1.25 * highest))
        axis.set(xlim=_whole(data.time))
        axis.set_title(_sentence(one))
        corner = {"y": 0.05, "va": "bottom"} if axis.get_yscale() == "log" else {"y": 0.97, "va": "top"}
        axis.text(0.03, s=_gap(one), **corner, transform=axis.transAxes, fontsize=8.5, linespacing=1.4)
    for axis in axes[:, 0]:
        axis.set_ylabel(r"eigenvalue $s_j$ of $W X W^\top$")
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    _legend(figure, data)
    return figure


@style.styled
def draw_alignment(data: "xr.Dataset") -> "Figure":
    """cos(u_j, W_p u_j) of the leading eigenvectors u_j of F over time, for the two networks that have a predictor.
    Lines: Lemma 1. Markers: the network trained by SGD, one shape a seed. The predictor starts neither symmetric
    nor aligned with F; at 1 the eigenvector of F is one of the predictor as well."""
    learned = [one for one in _each(data, "variant") if "no predictor" not in str(one.variant.values)]
    figure, axes = style.new_figure(1, len(learned), panel=(4.1, 3.2), sharex=True, sharey=True)
    for axis, one in zip(axes.flat, learned):
        axis.axhline(1, **style.RULE)
        _draw_against(axis, one.alignment_flow, one.alignment_sgd)
        axis.set(xlim=_whole(data.time), xlabel=style.label("time"))
        axis.set_title(_sentence(one))
    axes[0, 0].set_ylabel(r"alignment $\cos(u_j,\, W_p u_j)$")
    _legend(figure, data)
    return figure


@style.styled
def draw_images(data: "xr.Dataset") -> "Figure":
    """The network with stop-gradient and predictor after training, first seed. Above: how an image changes with a
    mode (Lemma 1 and SGD on one scale of colour), and the leading right singular vectors of W, the filters through
    which it looks. Below: digits, two views of each, the mean over all views, and what a linear regression recovers
    of that mean from the leading modes of the first view. Shifts and noise differ between the views; the modes keep
    what the views share."""
    from matplotlib.figure import Figure

    first, digits, shown = data.isel(seed=0), data.sizes["example"], data.sizes["shown"]
    figure = Figure(figsize=(8.2, 8.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3.0, 5.6))

    rows = {
        "mode,\nLemma 1": first.pattern_flow,
        "mode,\nSGD": first.pattern_sgd,
        "filter,\nSGD": first.filter_sgd,
    }
    axes = above.subplots(len(rows), shown, squeeze=False)
    limit = {name: float(np.abs(rows[name]).max()) for name in rows}
    limit["mode,\nSGD"] = limit["mode,\nLemma 1"]  # prediction and measurement on one scale
    for line, (name, images) in zip(axes, rows.items()):
        for axis, image in zip(line, images):
            drawn = axis.imshow(image, cmap=style.SIGNED, vmin=-limit[name], vmax=limit[name])
        _name_row(line, name)
        if name != "mode,\nLemma 1":
            both = [*axes[0], *line] if name == "mode,\nSGD" else [*line]
            unit = "ink per std of the mode" if name == "mode,\nSGD" else "weight,\nunit norm"
            above.colorbar(drawn, ax=both, label=unit, fraction=0.05, pad=0.01)
    s = data.s_sgd.isel(variant=0, seed=0, time=-1)
    for j, axis in enumerate(axes[0]):
        axis.set_title(f"$s_{j + 1}$ = {float(s[j]):.2g}", fontsize=9, loc="center")

    rows = {
        "digit": data.digit,
        "view 1": data.view.isel(side=0),
        "view 2": data.view.isel(side=1),
        "mean of all views": data.average,
        **{f"view 1 through\n{_modes(int(kept))}": data.reconstruction.sel(kept=kept) for kept in data.kept.values},
    }
    axes = below.subplots(len(rows), digits, squeeze=False)
    for line, (name, images) in zip(axes, rows.items()):
        for axis, image in zip(line, images):
            drawn = axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        _name_row(line, name)
    below.colorbar(drawn, ax=axes, label="ink", fraction=0.02, pad=0.01, extend="both")
    return figure


def _each(data: "xr.Dataset", name: str) -> list["xr.Dataset"]:
    return [data.isel({name: i}) for i in range(data.sizes[name])]


def _draw_against(axis, flow: "xr.DataArray", sgd: "xr.DataArray") -> None:
    for j, colour in enumerate(COLOURS):
        for seed in range(flow.sizes["seed"]):
            one = {"mode": j, "seed": seed}
            axis.plot(flow.time, flow.isel(one), color=colour, linewidth=1.3)
            points = sgd.isel(one).isel(time=slice(None, None, EVERY))
            marker = MARKERS[seed % len(MARKERS)]
            axis.plot(points.time, points, marker, color=colour, markersize=4, markerfacecolor="white")


def _whole(time: "xr.DataArray") -> tuple[float, float]:
    """Limits that leave room for the markers at both ends."""
    end = float(time[-1])
    return -0.015 * end, 1.015 * end


def _legend(figure: "Figure", data: "xr.Dataset") -> None:
    from matplotlib.lines import Line2D

    modes = {f"mode {j + 1}": Line2D([], [], color=colour, linewidth=3) for j, colour in enumerate(COLOURS)}
    hollow = {"linestyle": "none", "color": "0.25", "markerfacecolor": "white", "markersize": 5}
    seeds = {
        f"SGD, seed {int(seed)}": Line2D([], [], marker=MARKERS[i % len(MARKERS)], **hollow)
        for i, seed in enumerate(data.seed.values)
    }
    entries = modes | {"Lemma 1": Line2D([], [], color="0.25", linewidth=1.3)} | seeds
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 7), columnspacing=1.4
    )


def _sentence(one: "xr.Dataset") -> str:
    text = str(one.variant.values)
    return text[0].upper() + text[1:]


def _gap(one: "xr.Dataset") -> str:
    """The agreement, worst of all times, leading modes and seeds."""
    if int(one.diverged.sum()):
        return "SGD diverged"
    now, peak = (100 * float(one[name].max()) for name in ("relative_gap", "gap_over_peak"))
    return f"largest gap to Lemma 1: {now:.1f} %\n({peak:.1f} % of the mode's peak)"


def _modes(count: int) -> str:
    return f"{count} mode" + "s" * (count > 1)


def _name_row(axes, name: str) -> None:
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        axis.spines[:].set(linewidth=0.4, color="0.6")
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6, fontsize=9)


DATA = Recorded("linear_digits/linear_digits.nc", "python -m experiments linear-digits")
SOURCE = "scikit-learn's digits; Lemma 1 of Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
FIGURES = {
    "linear-digits-modes": Picture(
        DATA,
        draw_modes,
        "Lemma 1 against a linear network trained on digits",
        SOURCE,
        "linear-digits",
        claims=THEOREM_2,
    ),
    "linear-digits-alignment": Picture(
        DATA,
        draw_alignment,
        "Does the predictor align on digits?",
        SOURCE,
        "linear-digits",
        claims=(
            "tian2021-theory-alignment",
            "tian2021-theory-alignment-sufficient",
            "tian2021-theory-alignment-sufficient-as-stated",
            "tian2021-alignment-linear-network",
            "tian2021-alignment-resnet",
        ),
    ),
    "linear-digits-images": Picture(
        DATA,
        draw_images,
        "What the leading modes see",
        SOURCE,
        "linear-digits",
    ),
}
