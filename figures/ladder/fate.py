"""The forecast of a run's fate, scored on runs that it was not told."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.fate.claims import ARMS, CLAIMS
from stopgrad.experiments.fate.foretell import MODELS, collapsed, fitted, parted, scored, values
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.linear_theory.sweeps.basin_fraction import wilson_interval

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SOURCE = "trained here; by Lemma 1 of Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
SCORES = {
    "brier": "Brier score",
    "modes": "error of ln(modes + 1)",
    "right": "share of fates told right",
    "bias": "mean probability less share",
}
BINS = np.linspace(0, 1, 6)
COLOURS = {"theory": "blue", "share": "black", "rank": "orange", "loss": "green"}


def compute_fate(runs: Runs) -> "xr.Dataset":
    """SCORES (model, seed); of each new run (seed, run) `probability`, `collapsed`, modes that `lived`, and as
    `told` by theory. NaN where runs are missing."""
    import xarray as xr

    fresh = [arm for arm in ARMS if arm.startswith("new/")]
    shape = (len(runs.seeds), len(fresh))
    of_runs = {name: np.full(shape, np.nan) for name in ("probability", "collapsed", "lived", "told")}
    scores = {name: np.full((len(MODELS), len(runs.seeds)), np.nan) for name in SCORES}
    for j, seed in enumerate(runs.seeds):
        there = {arm: run for arm in ARMS if (run := runs.of(arm).get(seed)) and collapsed(run) is not None}
        known, new = parted(there)
        if len(known) < 8 or not new:
            continue
        for i, name in enumerate(MODELS):
            model = fitted(name, known)
            found = scored(model, new)
            for score in SCORES:
                scores[score][i, j] = getattr(found, score)
            if name == "theory":
                at = [fresh.index(arm) for arm in there if arm.startswith("new/")]
                asked = np.array([values(run, name) for run in new])
                of_runs["probability"][j, at] = found.probabilities
                of_runs["collapsed"][j, at] = [collapsed(run) for run in new]
                of_runs["lived"][j, at] = [run.summary["laws"]["measured"]["modes"] for run in new]
                of_runs["told"][j, at] = np.expm1(model.log_modes(asked))
    coords = {"model": [*MODELS], "seed": [*runs.seeds], "run": fresh}
    of_models = {name: (("model", "seed"), found) for name, found in scores.items()}
    return xr.Dataset(of_models | {name: (("seed", "run"), found) for name, found in of_runs.items()}, coords)


@style.styled
def draw_fate(data: "xr.Dataset") -> "Figure":
    """Whether a run collapses, told from its first tenth, for drawn recipes (weight decay, EMA, alpha_p, predictor,
    stopped gradients, augmentation, network, loss) that the forecast was not calibrated with. Left: share of runs that
    collapsed over the probability that was told, in fifths, with Wilson 95 % intervals; the number of runs beside each.
    Middle: Brier score (0 is best) and error of the number of modes, of the theory and of what needs none; points are
    seeds. Right: modes that lived at the end over modes as told; filled: collapsed."""
    figure, axes = style.new_figure(1, 4, panel=(3.0, 2.9))
    reliability, brier, modes, scatter = axes[0]
    told, ended = (data[name].values.ravel() for name in ("probability", "collapsed"))
    there = np.isfinite(told)
    reliability.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    for low, high in itertools.pairwise(BINS):
        inside = there & (told >= low) & ((told < high) | (high == 1))
        if inside.any():
            _share(reliability, told[inside].mean(), ended[inside])
    reliability.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability told", ylabel="share that collapsed")
    for axis, name in ((brier, "brier"), (modes, "modes")):
        for k, model in enumerate(data["model"].values):
            points = data[name].sel(model=model).dropna("seed").values
            colour = style.OKABE_ITO.get(COLOURS[str(model)], "black")
            axis.bar(k, points.mean() if len(points) else 0, color=colour, alpha=0.35, width=0.7)
            axis.plot([k] * len(points), points, **{**style.SEED, "color": colour})
        axis.set_xticks(range(len(MODELS)), [*MODELS])
        axis.set(ylabel=SCORES[name])
    x, y = (data[name].values.ravel() for name in ("told", "lived"))
    for of, fill in ((ended == 1, style.OKABE_ITO["vermillion"]), (ended == 0, "none")):
        scatter.plot(x[of] + 1, y[of] + 1, "o", markersize=3, color=style.OKABE_ITO["vermillion"], markerfacecolor=fill)
    scatter.plot([1, 20], [1, 20], color="0.7", linewidth=0.8)
    scatter.set(xscale="log", yscale="log", xlabel="modes told + 1", ylabel="modes that lived + 1")
    if not there.any():
        style.say(reliability, "not measured")
    return figure


def _share(axis, at: float, ended: np.ndarray) -> None:
    """A share with its Wilson interval, and of how many."""
    n, share = len(ended), float(ended.mean())
    low, high = wilson_interval(int(ended.sum()), n)
    colour = style.OKABE_ITO["blue"]
    axis.plot([at, at], [low, high], color=colour, linewidth=1.2)
    axis.plot([at], [share], "o", color=colour, markersize=4)
    axis.annotate(f"{n}", (at, share), textcoords="offset points", xytext=(5, -3), fontsize=7)


FIGURES = {
    "fate": Picture(
        FromRuns("fate", ARMS, compute_fate),
        draw_fate,
        "Is a run's fate told by its first tenth?",
        SOURCE,
        "fate",
        claims=tuple(f"fate-{claim.id}" for claim in CLAIMS),
    ),
}
