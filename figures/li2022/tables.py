"""The results of Li, Efros & Pathak 2022, each of their numbers beside what was measured here."""

from typing import TYPE_CHECKING

from stopgrad.experiments.li2022.paper import PAPER
from stopgrad.figures.li2022.sources import MEASURED
from stopgrad.figures.machinery import style
from stopgrad.figures.shared.tables import draw_cells, pictures

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

AS_NAMED = {"here": ""}
"""A table's cells name their arms whole."""
STATISTICS = ("auc", "knn", "accuracy", "loss")


@style.styled
def draw_table(data: "xr.Dataset") -> "Figure":
    """Left: the paper's number, on ImageNet. Right, under the name of its arm of the suite: what runs of that setting
    measured here, on the data and for the length that the scale stands for: not the paper's numbers, but their order
    may be held against the paper's. Circles: seeds. Diamonds: mean with the 95 % interval of Student's t; numbers: mean
    and half that interval.

    AUC: area under the representations' cumulative spectrum; just above 1/2 without collapse, 1 for a line. Accuracy of
    the linear probe is shown from the scale cifar on. Training loss: mean over the last tenth of the measurements. 'Not
    in the suite': no run is planned for that cell at this scale; 'not measured': none has finished; 'not finite': all
    diverged.
    """
    return draw_cells(data)


FIGURES = pictures("li", "li2022", MEASURED, PAPER.read_tables(), AS_NAMED, STATISTICS, draw_table)
