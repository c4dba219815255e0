"""The ablations of Chen & He 2021, each of their numbers beside what was measured here."""

from typing import TYPE_CHECKING

from stopgrad.experiments.simsiam2021.paper import PAPER
from stopgrad.figures.machinery import style
from stopgrad.figures.shared.tables import draw_cells, pictures

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MEASURED = "trained here; beside Chen & He 2021 (arXiv 2011.10566)"
HEADS = {"affine-free output BatchNorm": "", "no output BatchNorm": "bare/"}
"""The projector's end, and what the name of an arm begins with."""
AS_NAMED = {"here": ""}
"""A table's cells name their arms whole."""
STATISTICS = ("m_o", "rank", "accuracy")


@style.styled
def draw_table(data: "xr.Dataset") -> "Figure":
    """Left: the paper's Top-1 accuracy of a linear classifier on ImageNet after 100 epochs, in per cent. Right, under
    the name of its arm of the suite: what runs of that setting measured here: not the paper's numbers, but what
    collapses may be held against the paper. Circles: seeds. Diamonds: mean with the 95 % interval of Student's t;
    numbers: mean and half that interval.

    m_o: length of the mean of the unit embeddings; 1 is complete collapse, which an affine-free output BatchNorm makes
    impossible. Effective rank of the covariance around that mean: a low one is dimensional collapse; where m_o is near
    1 it is the rank of what noise is left. Accuracy is shown from the scale cifar on. 'At scale cifar': runs of that
    cell are planned there and not here; `python -m experiments run simsiam2021 --scale cifar` makes them. 'Not in the
    suite': nowhere; 'not measured': none has finished; 'not finite': all diverged.
    """
    return draw_cells(data)


FIGURES = pictures("simsiam", "simsiam2021", MEASURED, PAPER.read_tables(), AS_NAMED, STATISTICS, draw_table)
