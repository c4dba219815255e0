"""The ladder: how far each law is kept, an ingredient at a time (the figure that joins theory and networks)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.ladder.claims import CLAIMS
from stopgrad.experiments.ladder.errors import LAWS, READINGS, Law, error
from stopgrad.experiments.ladder.rungs import INGREDIENTS, TRAINED, arm_name
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SOURCE = "trained here; beside Tian, Chen & Ganguli 2021 (arXiv 2102.06810), Lemma 1 and Theorems 1 to 3"
ARMS = tuple(arm_name(rung, setting) for rung in TRAINED for setting in {law.setting: None for law in LAWS.values()})
WHY = {
    "balance": "BatchNorm behind the layer breaks it, a cosine loss does not",
    "alignment": "held X misses how the layers before turn the input",
    "modes": "held X misses that weight decay shrinks what the layer reads",
    "settling": "held X misses that weight decay shrinks what the layer reads",
    "no-stop-gradient": "BatchNorm behind the layer does not let the norm die",
    "no-predictor": "BatchNorm behind the layer does not let the norm die",
}
COLOURS = {"forecast": "orange", "tracking": "blue"}


def compute_ladder(runs: Runs) -> "xr.Dataset":
    """`error` (law, reading, rung, seed): ln(measured/predicted); NaN where not measured, or nothing to compare.
    `reach` (law, reading): `reached`."""
    import xarray as xr

    found = np.full((len(LAWS), len(READINGS), len(TRAINED), len(runs.seeds)), np.nan)
    for i, (name, law) in enumerate(LAWS.items()):
        for j, reading in enumerate(READINGS):
            for k, rung in enumerate(TRAINED):
                for seed, run in runs.of(arm_name(rung, law.setting)).items():
                    if run.summary.get("laws"):
                        found[i, j, k, runs.seeds.index(seed)] = error(run, name, reading)
    coords = {"law": [*LAWS], "reading": [*READINGS], "rung": [*TRAINED], "seed": [*runs.seeds]}
    reach = []
    for i, law in enumerate(LAWS.values()):
        asked = _asked(runs, law)
        reach.append([reached([of[mine] for of, mine in zip(rungs, asked)], law.band) for rungs in found[i]])
    return xr.Dataset({"error": (tuple(coords), found), "reach": (("law", "reading"), reach)}, coords)


def _asked(runs: Runs, law: Law) -> list[list[bool]]:
    """Of each rung which of all seeds are those of the law's arm."""
    arms = [runs.arms.get(arm_name(rung, law.setting)) for rung in TRAINED]
    return [[arm is not None and seed in arm.seeds for seed in runs.seeds] for arm in arms]


def reached(errors: Sequence[np.ndarray], band: float) -> int:
    """The highest rung up to which a law holds on each, by the rule of its claim, 0 where none; `errors` of each rung's
    seeds."""
    highest = 0
    for rung, of_seeds in zip(TRAINED, errors):
        low = interval([-abs(float(v)) for v in of_seeds]).low
        if not np.isfinite(of_seeds).all() or not low > -band:
            break
        highest = rung
    return highest


@style.styled
def draw_ladder(data: "xr.Dataset") -> "Figure":
    """Error of Lemma 1's laws rung by rung, each rung the one before and an ingredient more: logarithm of what was
    measured over what the matrix flow gives from the network's own start, with X and X' of what the projector's
    last layer reads taken once, before training, and held (forecast), or as measured all along (tracking). Rungs 0
    and 1 are theory alone. Points: seeds; bars: 95 % t-interval of the mean; grey: the band within which a law is
    said to hold. Times that do not come within the run count as its length, and rates below a hundredth of the
    predicted, or of the other sign, as a hundredth: such points are bounds. Of the balance ln(1 + largest residual)
    of Theorem 1, which knows no X and is the same in both readings. Modes: ln of those that live plus one."""
    figure, axes = style.new_figure(2, 3, panel=(4.3, 3.1), sharex=True)
    for axis, (name, law) in zip(axes.flat, LAWS.items()):
        axis.axhspan(-law.band, law.band, color="0.9", zorder=0)
        axis.axhline(0, color="0.6", linewidth=0.8)
        for shift, reading in ((-0.13, "forecast"), (0.13, "tracking")):
            colour = style.OKABE_ITO[COLOURS[reading]]
            values = data["error"].sel(law=name, reading=reading).transpose("rung", "seed").values
            _points(axis, np.asarray(TRAINED) + shift, values, colour, f"{reading}: {READINGS[reading]}")
        if not np.isfinite(data["error"].sel(law=name).values).any():
            style.say(axis, "not measured")
        reach = [int(data["reach"].sel(law=name, reading=reading)) for reading in READINGS]
        held = ", ".join(f"{to or 'none'} ({reading})" for to, reading in zip(reach, READINGS))
        axis.set_title(f"{law.words}\nholds up to rung: {held};\n{WHY[name]}", fontsize=7.5)
        axis.set(xlim=(1.5, 9.5), ylabel="ln(1 + residual)" if name == "balance" else "ln(measured ÷ predicted)")
        names = [f"{rung}: {INGREDIENTS[rung]}" for rung in TRAINED]
        axis.set_xticks(TRAINED, names, rotation=35, ha="right", rotation_mode="anchor", fontsize=7.5)
    style.legend_below(figure)
    return figure


def _points(axis, at: np.ndarray, values: np.ndarray, colour, label: str) -> None:
    """Seeds (rung, seed) as points, their mean with its interval as a bar."""
    for x, of_seeds in zip(at, values):
        known = [float(v) for v in of_seeds if np.isfinite(v)]
        axis.plot([x] * len(known), known, "o", markersize=2.5, color=colour, alpha=0.5)
        mean, low, high, count = interval(known, None)
        if count >= 2:
            axis.plot([x, x], [low, high], color=colour, linewidth=1.2)
        if count:
            axis.plot([x], [mean], "_", markersize=8, color=colour)
    axis.plot([], [], color=colour, label=label)


FIGURES = {
    "ladder": Picture(
        FromRuns("ladder", ARMS, compute_ladder, ends=True),
        draw_ladder,
        "How far each law carries",
        SOURCE,
        "ladder",
        claims=tuple(f"ladder-{claim.id}" for claim in CLAIMS if "critical" not in claim.id),
    ),
}
