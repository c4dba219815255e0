"""The critical weight decay, predicted and looked for by training on either side of it."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.ladder.claims import CLAIMS
from stopgrad.experiments.ladder.errors import bracket, foretold
from stopgrad.experiments.ladder.rungs import CRITICAL, INGREDIENTS, arm_name, decays
from stopgrad.figures.ladder.laws import SOURCE
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARMS = tuple(arm_name(rung, name) for rung in CRITICAL for name in decays(rung))
SEEN = {"measured": ("networks", "black", "s"), "tracking": ("flow, X(t) as measured", "blue", "o")}


def compute_critical(runs: Runs) -> "xr.Dataset":
    """`low`, `high` (reading, rung, seed): weight decays η between which the last mode dies, 0 and inf where all or
    none lived; `predicted` (rung, seed): the largest τ²x_j/(4(1 + σ_j²)) before training. NaN where a run lacks."""
    import xarray as xr

    shape = (len(SEEN), len(CRITICAL), len(runs.seeds))
    low, high, predicted = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape[1:], np.nan)
    for k, rung in enumerate(CRITICAL):
        for j, seed in enumerate(runs.seeds):
            arms = {arm_name(rung, name): name for name in decays(rung)}
            own = {arm: runs.of(arm).get(seed) for arm in arms}
            if not all(run and run.summary.get("laws") for run in own.values()):
                continue
            etas = {name: own[arm].summary["laws"]["eta"] for arm, name in arms.items()}
            predicted[k, j] = foretold(own, rung, etas)
            for i, reading in enumerate(SEEN):
                low[i, k, j], high[i, k, j] = bracket(own, rung, etas, reading)
    coords = {"reading": [*SEEN], "rung": [*CRITICAL], "seed": [*runs.seeds]}
    of = ("reading", "rung", "seed")
    return xr.Dataset({"low": (of, low), "high": (of, high), "predicted": (of[1:], predicted)}, coords)


@style.styled
def draw_critical(data: "xr.Dataset") -> "Figure":
    """Weight decay beyond which no mode lives, over the one predicted before training: the largest
    tau^2 x_j/(4(1 + sigma_j^2)) of what the projector's last layer reads. A bar reaches from the largest decay at which
    a mode of the network lived at the end of its training to the least at which none did; a triangle says that none of
    those tried was on the other side. Blue: the same of the matrix flow with X and X' as measured all along. Where
    nothing before the layer learns, the closed form is right. Where weight decay also shrinks what the layer reads, far
    less decay kills, and how little depends on how long one trains; the flow that is told X(t) knows it."""
    figure, axes = style.new_figure(1, 1, panel=(6.4, 3.2))
    axis, seeds = axes[0, 0], data.sizes["seed"]
    axis.axhline(1.0, color="0.6", linewidth=0.8)
    for k in range(data.sizes["rung"]):
        for j in range(seeds):
            for i, reading in enumerate(data["reading"].values):
                words, colour, mark = SEEN[str(reading)]
                low, high = (float(data[name][i, k, j] / data["predicted"][k, j]) for name in ("low", "high"))
                if np.isnan(low):
                    continue
                x = k + (j - (seeds - 1) / 2) * 0.2 + (i - 0.5) * 0.07
                colour = style.OKABE_ITO.get(colour, colour)
                ends = [v for v in (low, high) if 0 < v < np.inf]
                axis.plot([x] * len(ends), ends, color=colour, linewidth=1.6, solid_capstyle="butt")
                sign = mark if len(ends) == 2 else "v" if low == 0 else "^"
                axis.plot(
                    [x], [np.sqrt(np.prod(ends)) if len(ends) == 2 else ends[0]], sign, color=colour, markersize=4
                )
    for words, colour, mark in SEEN.values():
        axis.plot([], [], mark, color=style.OKABE_ITO.get(colour, colour), markersize=4, label=words)
    if np.isnan(data["predicted"].values).all():
        style.say(axis, "not measured")
    axis.set(yscale="log", ylabel="critical η, found ÷ predicted", xlim=(-0.5, len(CRITICAL) - 0.5))
    axis.set_xticks(range(len(CRITICAL)), [f"rung {rung}\n{INGREDIENTS[rung]}" for rung in CRITICAL])
    style.legend_below(figure)
    return figure


FIGURES = {
    "ladder-critical": Picture(
        FromRuns("ladder", ARMS, compute_critical, ends=True),
        draw_critical,
        "The critical weight decay, predicted and found",
        SOURCE,
        "ladder",
        claims=tuple(f"ladder-{claim.id}" for claim in CLAIMS if "critical" in claim.id),
    ),
}
