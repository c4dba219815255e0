"""Tables 1 to 4 of Zhang et al. 2022, each of their numbers beside what was measured here."""

from typing import TYPE_CHECKING

from stopgrad.experiments.zhang2022.paper import PAPER
from stopgrad.figures.machinery import style
from stopgrad.figures.shared.tables import draw_cells, pictures
from stopgrad.figures.zhang2022.sources import BN, MEASURED

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

TABLES = PAPER.read_tables()
STATISTICS = ("m_o", "rank", "accuracy")


@style.styled
def draw_table(data: "xr.Dataset") -> "Figure":
    """Left: the paper's Top-1 accuracy in per cent, of one run; 1 is chance, which the paper calls a collapse. Right,
    under the name of its arm of the suite: what runs of that setting measured here, with each end of the projector that
    the suite has at this scale: not the paper's numbers, but what collapses may be held against the paper. Circles:
    seeds. Diamonds and triangles: mean with the 95 % interval of Student's t; numbers: mean and half that interval.

    m_o: length of the mean of the unit embeddings; 1 is complete collapse. Effective rank of the covariance around that
    mean: a low one is dimensional collapse; where m_o is near 1 it is the rank of what noise is left. Behind an
    affine-free BatchNorm m_o cannot come near 1. Accuracy is shown from the scale cifar on. 'At scale cifar': runs of
    that cell are planned there and not here; `python -m experiments run zhang2022 --scale cifar` makes them. 'Not in
    the suite': nowhere; 'not measured': none has finished; 'not finite': all diverged.
    """
    return draw_cells(data)


FIGURES = pictures("zhang", "zhang2022", MEASURED, TABLES, BN, STATISTICS, draw_table)
