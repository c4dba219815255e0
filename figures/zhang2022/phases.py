"""Figures 4, 5b and 6 of Zhang et al. 2022: what the centre and the residual do over steps, while objectives change.

Each `compute_figN` takes the finished runs of some arms of the suite; what has not been run is NaN in the data, and the
picture says so.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.zhang2022.ablation import COLLAPSE
from stopgrad.experiments.zhang2022.kinds import phases
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.shared.trajectories import trajectories
from stopgrad.figures.zhang2022.sources import (
    BN,
    FIG4_ENDS,
    FIG4_RANDOM,
    FIG5B_ENDS,
    FIG6_COVARIANCE,
    FIG6_DIMENSIONS,
    MEASURED,
    claims_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SHADES = {"centre": "0.86", "residual": "0.93", "SimSiam": "0.95", "collapsing loss": "0.86"}
"""Of a phase's ground; white where it has none."""
NARROW = 0.05
"""Of the axis: a phase that is narrower has no name above it."""


# ---------------------------------------------------------------- what the runs hold


def with_phases(data: "xr.Dataset", runs: Runs) -> "xr.Dataset":
    """`trajectories` with what the arms' configs say of their phases: `phase`, `start` and `end`, each (arm, part)."""
    found = [
        [(name_of(text), *steps) for text, *steps in phases(runs.arms[arm].config, _last(data.sel(arm=arm)))]
        if arm in runs.arms
        else []
        for arm in data.arm.values
    ]
    width = max(map(len, found))
    padded = [[*one, *[("", np.nan, np.nan)] * (width - len(one))] for one in found]
    kinds = {"phase": str, "start": float, "end": float}
    return data.assign(
        {
            name: (("arm", "part"), np.array([[part[k] for part in one] for one in padded], kind).reshape(-1, width))
            for k, (name, kind) in enumerate(kinds.items())
        }
    )


def _last(one: "xr.Dataset") -> int:
    """The last step that an arm has measured; of one without a run, that of the others."""
    series = [v.dropna("step", how="all").step.values for v in one.data_vars.values() if "step" in v.dims]
    return int(max(np.concatenate(series), default=max(one.step.values, default=0)))


def name_of(text: str) -> str:
    """What a picture calls a phase."""
    what = text.partition("@")[0]
    if what in ("predictive", COLLAPSE):
        return {"predictive": "SimSiam", COLLAPSE: "collapsing loss"}[what]
    return what.removeprefix("direction toward=") if what.startswith("direction") else "regulariser"


# ---------------------------------------------------------------- what the pictures share


def _draw_phases(axis, one: "xr.Dataset") -> None:
    """The grounds of an arm's phases, with their names above."""
    if not one.sizes["part"]:
        return
    reach = float(one.end.max())
    for name, start, end in zip(one.phase.values, one.start.values, one.end.values):
        if not name:
            continue
        axis.axvspan(start, end, color=SHADES.get(str(name), "white"), linewidth=0, zorder=-1)
        if end - start > NARROW * reach:
            axis.text((start + end) / 2, 1.01, name, ha="center", va="bottom", fontsize=8.5, color="0.3",
                      transform=axis.get_xaxis_transform())  # fmt: skip


def _draw_seeds(axis, values: "xr.DataArray", label: str, **look) -> bool:
    """Every seed as a thin line, their mean as a strong one. Returns whether there is any."""
    values = values.dropna("seed", how="all").dropna("step", how="all")
    if not values.sizes["seed"]:
        return False
    for seed in values.seed.values:
        axis.plot(values.step, values.sel(seed=seed), **(look | {"linewidth": 0.7, "alpha": 0.6}))
    axis.plot(values.step, values.mean("seed"), label=label, **look)
    return True


def _say_what_is_missing(axis, one: "xr.Dataset", arm: str) -> None:
    if not one.planned:
        style.say(axis, f"{arm}: not in the suite\nat this scale")
    else:
        style.say(axis, f"not measured:\nno run of {arm}")


# ---------------------------------------------------- Figure 4: the centre and the residual as gradients

FIG4 = {f"{prefix}directions": words for words, prefix in BN.items()}


def compute_fig4(runs: Runs) -> "xr.Dataset":
    """m_o_z and m_r_z (arm, seed, step) and phases (arm, part) of the arms whose loss draws in a direction.

    The first arm is there always, others where the suite has them.
    """
    first, *others = FIG4
    arms = [first, *(arm for arm in others if arm in runs.arms)]
    return with_phases(trajectories(runs, arms, ("m_o_z", "m_r_z")), runs)


@style.styled
def draw_fig4(data: "xr.Dataset") -> "Figure":
    """One network whose loss is switched: drawn to the embeddings' centre o_z, to a random direction, to each one's
    residual r, to a random direction, and again. m_o: length of the centre of the unit embeddings; m_r: mean length of
    the residuals. Thin lines: seeds; thick ones: their mean. Squares: where the paper's phases end (CIFAR-100,
    ResNet-18, 390 steps each); bar: its random phases end in this range of m_o, by what came before. The gradients of
    the two components are exactly opposite; the control between them tells what any push does."""
    figure, axes = style.new_figure(data.sizes["arm"], 1, panel=(8.6, 3.0), sharex=True)
    for axis, arm in zip(axes[:, 0], data.arm.values):
        one = data.sel(arm=arm)
        drawn = [
            _draw_seeds(axis, one[name], words, color=style.OKABE_ITO[colour])
            for name, words, colour in (("m_o_z", "$m_o$", "blue"), ("m_r_z", "$m_r$", "vermillion"))
        ]
        axis.set_ylim(-0.04, 1.06)
        axis.set_ylabel(r"$m_o$, $m_r$ of Z")
        if not all(drawn):
            _say_what_is_missing(axis, one, str(arm))
            continue
        _draw_phases(axis, one)
        _draw_ends(axis, one)
        axis.set_xlim(0, float(data.step.max()))
        axis.set_title(FIG4[str(arm)], fontsize=9.5, pad=18)
    axes[-1, 0].set_xlabel("step")
    style.legend_below(figure)
    return figure


def _draw_ends(axis, one: "xr.Dataset") -> None:
    """The paper's, at the ends of phases that are as long as the first."""
    whole = one.end - one.start >= one.end[0] - one.start[0]
    for name, end in zip(one.phase.values[whole], one.end.values[whole]):
        for value, colour, words in zip(FIG4_ENDS.get(str(name), ()), ("blue", "vermillion"), ("m_o", "m_r")):
            axis.plot(end, value, "s", color=style.OKABE_ITO[colour], markeredgecolor="black", markersize=6, zorder=5,
                      label=f"the paper's ${words}$", clip_on=False)  # fmt: skip
        if name == "random":
            axis.plot([end, end], FIG4_RANDOM, color="black", linewidth=3, alpha=0.55, solid_capstyle="butt", zorder=4,
                      label="the paper's $m_o$, random")  # fmt: skip


# ---------------------------------------------------- Figure 5b: which regulariser undoes a collapse

REGULARISERS = {
    "undo-covariance": ("covariance", {"color": style.OKABE_ITO["blue"]}),
    "undo-covariance-raw": ("covariance, raw Z", {"color": style.OKABE_ITO["sky"], "linestyle": "--"}),
    "undo-correlation": ("correlation", {"color": style.OKABE_ITO["vermillion"]}),
    "undo-correlation-raw": ("correlation, raw Z", {"color": style.OKABE_ITO["orange"], "linestyle": "--"}),
}
FIG5B = {
    prefix: {prefix + ("long-" if prefix == "affine/" else "") + arm: look for arm, look in REGULARISERS.items()}
    for prefix in BN.values()
}
"""The arms of each panel. Behind affine parameters a collapse takes a longer run."""
FIG5B_ARMS = tuple(arm for arms in FIG5B.values() for arm in arms)


def compute_fig5b(runs: Runs) -> "xr.Dataset":
    """m_r_z (arm, seed, step) and phases (arm, part) of every arm that undoes a collapse; NaN where none was run."""
    return with_phases(trajectories(runs, FIG5B_ARMS, ("m_r_z",)), runs)


@style.styled
def draw_fig5b(data: "xr.Dataset") -> "Figure":
    """SimSiam, then a loss that draws each view to the other, which collapses, then a regulariser alone: the sum of
    squared covariances between channels (the paper's Algorithm 6), or of correlations (its text), of unit embeddings or
    of raw ones, as far as the suite has them at this scale. m_r: mean length of the residuals of the unit embeddings, 0
    where all point one way. A panel for each end of the projector. Thin lines: seeds; thick ones: their mean. Squares:
    the paper's m_r at the end of the collapse, and some ten steps later (CIFAR-100, ResNet-18).

    Covariances are small where all embeddings are alike, so that a collapse minimises their penalty; correlations are
    not, and their gradient grows as the spread falls. Behind an affine-free BatchNorm there is no spread to regain, and
    what a penalty changes is the rank, which m_r does not see; with affine parameters a collapse takes longer runs."""
    figure, axes = style.new_figure(1, len(BN), panel=(4.3, 3.3), sharey=True)
    for axis, (words, prefix) in zip(axes[0], BN.items()):
        shown = data.sel(arm=list(FIG5B[prefix]))
        lacking = []
        for arm, (text, look) in FIG5B[prefix].items():
            one = shown.sel(arm=arm)
            if not _draw_seeds(axis, one.m_r_z, text, **look) and one.planned:
                lacking.append(arm)
        planned = shown.isel(arm=np.flatnonzero(shown.planned.values))
        if not planned.sizes["arm"]:
            style.say(axis, "not in the suite\nat this scale")
        elif len(lacking) == planned.sizes["arm"]:
            style.say(axis, "not measured")
        elif lacking:
            axis.text(0.03, 0.03, f"not measured: {', '.join(lacking)}", transform=axis.transAxes, fontsize=8)
        if planned.sizes["arm"]:
            one = planned.isel(arm=0)
            _draw_phases(axis, one)
            _draw_collapse(axis, one)
            axis.set_xlim(0, float(planned.end.max()))
        axis.set_title(words[0].upper() + words[1:], pad=18)
        axis.set_xlabel("step")
    axes[0, 0].set(ylim=(-0.03, 1.05), ylabel="$m_r$ of Z")
    style.legend_below(figure)
    return figure


def _draw_collapse(axis, one: "xr.Dataset") -> None:
    """The paper's m_r around the beginning of the regulariser."""
    for start in one.start.values[one.phase.values == "regulariser"]:
        axis.plot([start, start + 10], FIG5B_ENDS, "s", color="black", markersize=5.5, zorder=5, label="the paper")


# ---------------------------------------------------- Figure 6: correlations while a network learns

FIG6 = {
    "simsiam": ("SimSiam", "blue"),
    "keep-centre": (r"$r_e$ removed", "vermillion"),
    "infonce-0.1": (r"InfoNCE, $\tau$ = 0.1", "green"),
}
OVER_STEPS = ("covariance_z", "correlation_z", "rank_z")


def compute_fig6(runs: Runs) -> "xr.Dataset":
    """covariance_z × d, correlation_z and rank_z (arm, seed, step) of `FIG6`; `dimensions` (arm,) is d.

    Of directions the covariances' mean square over d is at most 1/d, where all lie on a line: times d it is a share.
    """
    data = trajectories(runs, FIG6, OVER_STEPS)
    width = [runs.arms[arm].config.method.embedding_dim if arm in runs.arms else np.nan for arm in FIG6]
    dimensions = data.arm.copy(data=np.array(width, dtype=float))
    return data.assign(covariance_z=data.covariance_z * dimensions, dimensions=dimensions)


@style.styled
def draw_fig6(data: "xr.Dataset") -> "Figure":
    """What is correlated among the channels of the unit embeddings while a network learns. Left: the sum of squared
    covariances of different channels (d times the measure of the paper's Algorithm 6), which is at most 1, on a line;
    middle: the mean square of their correlation coefficients, which a collapse of all into one point does not bring to
    0; right: the effective rank. Thin lines: seeds; thick ones: their mean. Squares at the right edge: the paper's
    covariances after 200 epochs, times its 256 dimensions (its InfoNCE's temperature is not known). Without the
    residual of its extra gradient SimSiam collapses in dimension, which m_r does not see."""
    figure, axes = style.new_figure(1, len(OVER_STEPS), panel=(4.1, 3.2), sharex=True)
    words = (r"covariance of Z, $\times\, d$", "correlation of Z", "effective rank of Z")
    for axis, name, text in zip(axes[0], OVER_STEPS, words):
        lacking = [
            arm
            for arm, (label, colour) in FIG6.items()
            if not _draw_seeds(axis, data[name].sel(arm=arm), label, color=style.OKABE_ITO[colour])
        ]
        if lacking:
            axis.text(0.03, 0.03, "not measured: " + ", ".join(lacking), transform=axis.transAxes, fontsize=8)
        axis.set(xlabel="step")
        axis.set_title(text)
    _draw_covariances(axes[0, 0], data)
    for axis in axes[0, 1:]:
        axis.set_ylim(0, None)
    style.legend_below(figure)
    return figure


def _draw_covariances(axis, data: "xr.Dataset") -> None:
    axis.set_yscale("log")
    if not data.sizes["step"]:
        return
    for arm, (_, colour) in FIG6.items():
        value = FIG6_COVARIANCE[arm] * FIG6_DIMENSIONS
        axis.plot(data.step.max() * 1.04, value, "s", color=style.OKABE_ITO[colour], markeredgecolor="black")
    axis.plot([], [], "s", color="0.6", markeredgecolor="black", label="the paper, at the end")


def _picture(arms: Mapping | tuple, compute, draw, title: str, place: str, claims: tuple[str, ...]) -> Picture:
    return Picture(
        FromRuns("zhang2022", tuple(arms), compute), draw, title, f"{MEASURED}, {place}", "zhang2022", claims
    )


FIGURES = {
    "zhang-fig4": _picture(
        FIG4,
        compute_fig4,
        draw_fig4,
        "The centre raises m_o, the residual lowers it",
        "Figure 4",
        claims_of(
            "gradient-centre gradient-residual theory-opposite theory-drawn-to-centre theory-split theory-chance"
        ),
    ),
    "zhang-fig5b": _picture(
        FIG5B_ARMS,
        compute_fig5b,
        draw_fig5b,
        "Which regulariser undoes a collapse, and behind which BatchNorm",
        "Figure 5b",
        claims_of(
            "undo-covariance undo-correlation undo-covariance-affine undo-covariance-raw-affine "
            "undo-correlation-affine lost-bn undo-covariance-bn undo-covariance-raw-bn undo-correlation-bn "
            "theory-algorithm6 theory-algorithm6-as-stated theory-decorrelation-gradient theory-covariance-shrinks "
            "theory-correlation-keeps theory-undoing theory-undoing-as-stated"
        ),
    ),
    "zhang-fig6": _picture(
        FIG6,
        compute_fig6,
        draw_fig6,
        "The residual of the extra gradient de-correlates",
        "Figure 6",
        claims_of("residual-removed components-centre theory-whitening theory-std-blind theory-std-blind-as-stated"),
    ),
}
