"""Eigenvalues of a ResNet's embeddings with a predictor that is set, and IsoLoss (Halvagal et al. 2023)."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.deep.measuring.quantities.quantities import QUANTITIES
from stopgrad.experiments.ladder.claims import CLAIMS
from stopgrad.experiments.ladder.rungs import ISOLOSS, arm_name
from stopgrad.experiments.store.series import over_steps
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.shared.trajectories import draw_seeds, trajectories

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SOURCE = "trained here; beside Halvagal, Laborieux & Zenke 2023 (arXiv 2212.04858)"
WORDS = {"set-predictor": ("set predictor", "vermillion"), "isoloss": ("set predictor, IsoLoss", "blue")}
ARMS = tuple(arm_name(rung, setting) for rung in ISOLOSS for setting in WORDS)
LEAST = 1e-3
"""Eigenvalues below this are not drawn."""


def compute_isoloss(runs: Runs) -> "xr.Dataset":
    """`rank_z` (arm, seed, step), and `eigenvalues` (arm, step, mode) of F of the first seed that there is; NaN where
    there is none."""
    import xarray as xr

    of_arms = [over_steps(there[min(there)].columns, ("eigenvalues",)) if (there := runs.of(a)) else None for a in ARMS]
    nothing = next((xr.full_like(one, np.nan) for one in of_arms if one is not None), None)
    over = trajectories(runs, ARMS, ("rank_z",))
    if nothing is None:
        return over.assign(eigenvalues=(("arm", "step", "mode"), np.zeros((len(ARMS), over.sizes["step"], 0))))
    first = xr.concat([nothing if one is None else one for one in of_arms], "arm", join="outer")
    return xr.merge([over, first.drop_duplicates("step").assign_coords(arm=[*ARMS])], join="outer")


@style.styled
def draw_isoloss(data: "xr.Dataset") -> "Figure":
    """Eigenvalues of the embeddings' correlation while a ResNet learns with a predictor that is set, W_p = sqrt(lambda)
    in the eigenbasis of F, and effective rank of Z (thin lines: seeds). Above under squared error, below under the
    cosine loss; left the loss's own gradient, which reaches z through the predictor and so moves a mode by sqrt(lambda)
    of its error, middle IsoLoss, which passes it by. Small modes starve under the first and grow under the second,
    under either loss, as Halvagal et al. derive for a linear layer."""
    figure, axes = style.new_figure(2, 3, panel=(3.6, 2.7), sharex=True)
    for line, (rung, loss) in zip(axes, ISOLOSS.items()):
        for axis, (setting, (words, colour)) in zip(line, WORDS.items()):
            arm = arm_name(rung, setting)
            values = data["eigenvalues"].sel(arm=arm).dropna("step", how="all")
            axis.set(ylabel=r"eigenvalues of $F$", title=f"{words}, {loss} loss")
            if values.size:
                axis.plot(values.step, values.transpose("step", "mode"), color=style.OKABE_ITO[colour], linewidth=0.7)
                axis.set(yscale="log", ylim=(LEAST, None))
            else:
                style.say(axis, "not measured")
            draw_seeds(line[2], data["rank_z"].sel(arm=arm), words, style.OKABE_ITO[colour])
        if not line[2].lines:
            style.say(line[2], "not measured")
        line[2].set(ylabel=QUANTITIES["rank_z"].label, title=f"effective rank, {loss} loss")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    style.legend_below(figure)
    return figure


FIGURES = {
    "ladder-isoloss": Picture(
        FromRuns("ladder", ARMS, compute_isoloss),
        draw_isoloss,
        "Which modes a set predictor starves, on ResNets",
        SOURCE,
        "ladder",
        claims=tuple(f"ladder-{claim.id}" for claim in CLAIMS if "isoloss" in claim.id),
    ),
}
