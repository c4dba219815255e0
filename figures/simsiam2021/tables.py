"""The ablations of Chen & He 2021, each of their numbers beside what was measured here."""

from typing import TYPE_CHECKING

from stopgrad.experiments.simsiam2021.ablation import BARE, BARE_ARMS
from stopgrad.experiments.simsiam2021.paper import PAPER
from stopgrad.figures.machinery import style
from stopgrad.figures.shared.tables import draw_cells, pictures

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MEASURED = "trained here; beside Chen & He 2021 (arXiv 2011.10566)"
HEADS = {"affine-free output BatchNorm": "", "no output BatchNorm": "bare/"}
"""The projector's end, and what the name of an arm begins with."""
FAMILIES = HEADS | {"output BatchNorm with affine parameters": "affine-output-"}
AS_NAMED = {"here": ""}
"""Of tables whose cells name their arms whole: that of heads, and one that is of other things."""
BESIDE = {
    *(BARE + name for name in BARE_ARMS),
    *("affine-output-no-stop-gradient", "affine-output-moving-average"),
}
"""The arms that there are with another end of the projector."""
STATISTICS = ("m_o", "rank", "accuracy")


@style.styled
def draw_table(data: "xr.Dataset") -> "Figure":
    """Left: the paper's Top-1 accuracy of a linear classifier on ImageNet after 100 epochs, in per cent. Right, under
    the name of its arm of the suite: what runs of that setting measured here, with each end of the projector that the
    suite has at this scale: not the paper's numbers, but what collapses may be held against the paper. Circles: seeds.
    Diamonds and triangles: mean with the 95 % interval of Student's t; numbers: mean and half that interval.

    m_o: length of the mean of the unit embeddings; 1 is complete collapse, which an affine-free output BatchNorm makes
    impossible. Effective rank of the covariance around that mean: a low one is dimensional collapse; where m_o is near
    1 it is the rank of what noise is left. Accuracy is shown from the scale cifar on. 'At scale cifar': runs of that
    cell are planned there and not here; `python -m experiments run simsiam2021 --scale cifar` makes them. 'Not in the
    suite': nowhere; 'not measured': none has finished; 'not finite': all diverged.
    """
    return draw_cells(data)


TABLES = PAPER.read_tables()
FIGURES = {
    name: picture
    for table in TABLES
    for name, picture in pictures(
        *("simsiam", "simsiam2021", MEASURED, {table: TABLES[table]}),
        *(AS_NAMED if table in ("heads", "table4") else FAMILIES, STATISTICS, draw_table, BESIDE),
    ).items()
}
