"""Figure 2 of Chen & He 2021: loss and channel std over training, with and without what prevents a collapse."""

from typing import TYPE_CHECKING

from stopgrad.deep.measuring.quantities.quantities import QUANTITIES
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.shared.trajectories import draw_seeds, trajectories
from stopgrad.figures.simsiam2021.tables import HEADS, MEASURED

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARMS = {
    "baseline": ("SimSiam", "blue"),
    "no-stop-gradient": ("no stop-gradient", "vermillion"),
    "no-predictor": ("no predictor", "orange"),
    "fixed-predictor": ("predictor fixed at random", "green"),
}
"""Drawn in this order, of each family of heads."""
SHOWN = {"loss": (None, None), "std_z": (0, 1), "m_o_z": (0, 1), "rank_z": (1, None)}
"""A run's scalars, and what their axes show at least."""
LABELS = {name: QUANTITIES[name].label for name in SHOWN} | {"m_o_z": "$m_o$ of Z"}


def compute_fig2(runs: Runs) -> "xr.Dataset":
    """The scalars of SHOWN, each (arm, seed, step), of every family's arms; `planned` (arm,)."""
    return trajectories(runs, [prefix + arm for prefix in HEADS.values() for arm in ARMS], tuple(SHOWN))


@style.styled
def draw_fig2(data: "xr.Dataset") -> "Figure":
    """SimSiam over training, beside itself without stop-gradient, without predictor, and with a predictor that stays as
    it is drawn: loss, channel std times the root of d (1 for directions spread evenly, 0 for a single one), length of
    the mean of the unit embeddings, and effective rank around that mean. Above with an affine-free BatchNorm on the
    projector's output, as released, below without. Thin lines: seeds; strong ones: their mean.

    The paper shows loss and std (ImageNet, 100 epochs): without stop-gradient the loss is at its minimum of -1 at once
    and std at 0. Behind an affine-free BatchNorm that cannot be: what is lost there is the rank. Where m_o is near 1
    the effective rank is that of what noise is left.
    """
    figure, axes = style.new_figure(len(HEADS), len(SHOWN), panel=(3.2, 2.6), sharex=True, sharey="col")
    for line, (heads, prefix) in zip(axes, HEADS.items()):
        line[0].set_title(heads[0].upper() + heads[1:])
        for axis, name in zip(line, SHOWN):
            for arm, (label, colour) in ARMS.items():
                draw_seeds(axis, data[name].sel(arm=prefix + arm), label, style.OKABE_ITO[colour])
            if not axis.lines:
                style.say(axis, "not measured")
            axis.set_ylabel(LABELS[name])
    for axis, limits in zip(axes[-1], SHOWN.values()):  # shared by the column, so when all of it is drawn
        style.reach(axis, "y", limits)
        axis.set_xlabel("step")
    style.legend_below(figure)
    return figure


FIGURES = {
    "simsiam-fig2": Picture(
        FromRuns("simsiam2021", tuple(prefix + arm for prefix in HEADS.values() for arm in ARMS), compute_fig2),
        draw_fig2,
        "What SimSiam is without stop-gradient or predictor",
        f"{MEASURED}, Figure 2",
        "simsiam2021",
        claims=(
            "simsiam2021-stop-gradient",
            "simsiam2021-stop-gradient-std",
            "simsiam2021-stop-gradient-loss",
            "simsiam2021-stop-gradient-dimensions",
            "simsiam2021-predictor",
            "simsiam2021-predictor-dimensions",
            "simsiam2021-fixed-predictor-no-collapse",
            "simsiam2021-fixed-predictor-loss",
        ),
    ),
}
