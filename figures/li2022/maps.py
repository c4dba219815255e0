"""Share of the data × size of the network, and the modes that the linear theory lets live on few images."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims import measures
from stopgrad.experiments.li2022 import modes
from stopgrad.figures.li2022.sources import CITED, MEASURED, claims_of
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs, value_of
from stopgrad.figures.machinery.measures import Statistic as Of
from stopgrad.figures.machinery.picture import FromRuns, Picture

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

WIDTHS = {"quarter-width/": "¼", "half-width/": "½", "": "1"}
SETTINGS = {**{f"fraction-{p}": f"{p} %" for p in (1, 5, 10, 20, 50)}, "baseline": "100 %"}
ARMS = tuple(width + setting for width in WIDTHS for setting in SETTINGS)


def _gap(run) -> float:
    seen = run.summary["generalisation"]
    return seen["test"]["loss"] - seen["train"]["loss"]


SHOWN = {
    "auc": Of("AUC", lambda run: run.evaluated("collapse_auc"), (None, None)),
    "used": Of("RankMe ÷ d", lambda run: run.evaluated("rankme") / run.evaluated("dim"), (None, None)),
    "knn": Of("kNN, %", measures.knn, (None, None)),
    "probe": Of("linear probe, %", measures.accuracy, (None, None)),
    "loss": Of("training loss", measures.end_loss, (None, None)),
    "gap": Of("validation − training loss", _gap, (None, None)),
}


def compute_map(runs: Runs) -> "xr.Dataset":
    """SHOWN at the end of each run, each (width, share, seed); `planned` (width, share)."""
    import xarray as xr

    def values(one):
        return [[[value_of(one, runs.of(w + s).get(seed)) for seed in runs.seeds] for s in SETTINGS] for w in WIDTHS]

    data = {name: (("width", "share", "seed"), np.array(values(one), dtype=float)) for name, one in SHOWN.items()}
    planned = [[w + s in runs.arms for s in SETTINGS] for w in WIDTHS]
    coords = {"width": list(WIDTHS.values()), "share": list(SETTINGS.values()), "seed": list(runs.seeds)}
    return xr.Dataset(data | {"planned": (("width", "share"), planned)}, coords)


@style.styled
def draw_map(data: "xr.Dataset") -> "Figure":
    """SimSiam by the share of the images that it sees, for as many steps, and the width of its ResNet-18, 1 being the
    scale's own: mean over seeds, and under it half the range from the least seed to the largest. AUC: area under the
    representations' cumulative spectrum, 1 for a line; RankMe over the dimension does not depend on it. Losses of the
    last panel are of new views, in eval mode, of unseen images and of those of the last epoch: where few images are
    learned by heart, they part. Left out are shares and widths that the suite lacks at this scale."""
    wanted = data.planned
    data = data.sel(width=wanted.any("share"), share=wanted.any("width"))
    rows, columns = data.sizes["width"], data.sizes["share"]
    figure, axes = style.new_figure(2, 3, panel=(max(3.0, 0.95 + 0.75 * columns), max(2.2, 1.0 + 0.7 * rows)))
    for axis, name in zip(axes.flat, SHOWN):
        mean = data[name].mean("seed").values if data.sizes["seed"] else np.full((rows, columns), np.nan)
        spread = (data[name].max("seed") - data[name].min("seed")).values / 2
        axis.set_title(SHOWN[name].words)
        axis.set_xticks(range(columns), data.share.values)
        axis.set_yticks(range(rows), data.width.values)
        axis.set(xlabel="share of the images", ylabel="width")
        axis.tick_params(length=0)
        if not np.isfinite(mean).any():
            style.say(axis, "not measured")
            continue
        low, high = np.nanmin(mean), np.nanmax(mean)
        axis.imshow(np.ma.masked_invalid(mean), cmap=style.FIELD, aspect="auto", vmin=low, vmax=max(high, low + 1e-9))
        for row, column in np.ndindex(mean.shape):
            if not np.isfinite(mean[row, column]):
                lacks = "not measured" if bool(data.planned[row, column]) else "not in\nthe suite"
                axis.text(column, row, lacks, ha="center", va="center", fontsize=7, color="0.5")
            else:
                dark = mean[row, column] < (low + high) / 2
                digits = 1 if high > 2 else 3
                said = f"{mean[row, column]:.{digits}f}\n± {spread[row, column]:.{digits}f}"
                look = {"ha": "center", "va": "center", "fontsize": 8.5, "color": "white" if dark else "black"}
                axis.text(column, row, said, **look)
    return figure


# ---------------------------------------------------- modes that live on few images

LINEAR = {
    "linear/baseline": "all points,\n$\\eta < \\eta_c$",
    "linear/few": "few points,\n$\\eta < \\eta_c$",
    "linear/narrow": "all points,\nW of rank 8",
    "linear/beyond": "all points,\n$\\eta > \\eta_c$",
    "linear/beyond-few": "few points,\n$\\eta > \\eta_c$",
}


def compute_modes(runs: Runs) -> "xr.Dataset":
    """`alive` and `allowed`, modes of F and of theory, (arm, seed); `spectrum` (arm, seed, mode) of F at the end."""
    import xarray as xr

    def count(read):
        there = [[runs.of(arm).get(seed) for seed in runs.seeds] for arm in LINEAR]
        return ("arm", "seed"), [[np.nan if run is None else read(run) for run in row] for row in there]

    return xr.Dataset(
        {"alive": count(modes.alive), "allowed": count(modes.allowed)},
        {"arm": list(LINEAR), "seed": list(runs.seeds)},
        {"least_eigenvalue": modes.ALIVE},
    )


@style.styled
def draw_modes(data: "xr.Dataset") -> "Figure":
    """How many modes of a linear network live at the end, and how many theory lets live: one with eigenvalues x of X
    and x' of X' has a fixed point besides collapse where eta < x^2/(4(x + x')), and W has no more modes than its
    rank. Inputs are Gaussian with X = I and X' = 0.1 I; X is that of the points that the run saw. Few: a fortieth of
    them, some 100 for 32 dimensions, seen for as many steps. Circles: seeds; bars: theory, mean over seeds.

    On few points X scatters and X' does not: at a weight decay that all modes of the population bear fewer live there,
    at one that none bears some do."""
    figure, axes = style.new_figure(1, 1, panel=(7.0, 3.6))
    axis = axes[0, 0]
    for k, arm in enumerate(data.arm.values):
        one = data.sel(arm=arm)
        if not np.isfinite(one.alive).any():
            axis.text(k, 1, "not measured", ha="center", color="0.5", fontsize=8)
            continue
        label = "theory, by the run's own X" if k == 0 else None
        axis.bar(k, float(one.allowed.mean()), 0.6, color="0.85", label=label)
        shift = np.linspace(-0.12, 0.12, max(2, one.sizes["seed"]))[: one.sizes["seed"]]
        look = style.SEED | {"color": style.OKABE_ITO["vermillion"], "markersize": 6, "clip_on": False}
        axis.plot(k + shift, one.alive, label="modes of F that live" if k == 0 else None, **look)
    axis.set_xticks(range(len(LINEAR)), list(LINEAR.values()), fontsize=8.5)
    axis.set(ylabel="modes", ylim=(0, 34))
    style.legend_below(figure)
    return figure


FIGURES = {
    "li-map": Picture(
        FromRuns("li2022", ARMS, compute_map, ends=True),
        draw_map,
        "Share of the data and size of the network",
        f"{MEASURED}, Figure 2",
        "li2022",
        claims=claims_of(
            "data data-five data-knn data-knn-five overfit known-images size size-quarter size-and-data modes-network"
        ),
    ),
    "li-modes": Picture(
        FromRuns("li2022", tuple(LINEAR), compute_modes, ends=True),
        draw_modes,
        "Modes that live on few images and on all",
        f"linear networks trained here, beside the linear theory; {CITED} have no such experiment",
        "li2022",
        claims=claims_of(
            "modes modes-few modes-narrow modes-beyond modes-beyond-few theory-few-images theory-few-images-fewer"
        ),
    ),
}
