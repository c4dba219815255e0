"""A paper's table as a picture: each of its numbers beside what the runs of the same setting measured.

The paper's numbers, the arm of the suite that stands for each, and the claims that a table shows, are data in JSON.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.papers import planned_elsewhere
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import FAMILIES, STATISTICS, USUAL, Runs, statistics_at, value_of
from stopgrad.figures.machinery.picture import FromRuns, Picture

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LINE = 0.29  # inches
ACCURACY = "Top-1 accuracy, %"
OFFSET = 0.18  # lines, between the seeds and their mean
MARKS = (
    style.ESTIMATE,
    style.ESTIMATE | {"fmt": "^", "color": style.OKABE_ITO["green"]},
    style.ESTIMATE | {"fmt": "v", "color": style.OKABE_ITO["purple"]},
)
"""Of a table's families of arms, in their order."""


def compute_table(
    runs: Runs, table: dict, families: Mapping[str, str] = FAMILIES, statistics: tuple[str, ...] = USUAL
) -> "xr.Dataset":
    """`paper` and `spread` (cell,), `value` (loss, statistic, cell, seed), `finished` (loss, cell, seed).

    A value is NaN where its run is missing, or finished without it (a run that diverged); `part` (loss, cell) says
    whether the suite has such an arm at this scale, `elsewhere` (loss, cell) at which other one it has. Of `statistics`
    those count that mean something at it. A cell's arm stands for one of each of `families`, {words: what its arms'
    names begin with}; `loss` has their words.
    """
    import xarray as xr

    cells, kinds, seeds = table["cells"], statistics_at(runs.scale, statistics), runs.seeds
    there = planned_elsewhere(runs.suite, runs.scale)
    arms = [[f"{prefix}{cell['arm']}" if cell["arm"] else "" for cell in cells] for prefix in families.values()]
    found = [[[runs.of(arm).get(seed) for seed in seeds] for arm in family] for family in arms]
    values = [[[[value_of(s, r) for r in cell] for cell in family] for s in kinds.values()] for family in found]
    shape = (len(families), len(kinds), len(cells), len(seeds))
    paper, spread = np.array([cell["paper"] for cell in cells], dtype=float).T
    finished = np.array([[[r is not None for r in cell] for cell in family] for family in found], dtype=bool)
    return xr.Dataset(
        {
            "paper": ("cell", paper),
            "spread": ("cell", spread),
            "value": (("loss", "statistic", "cell", "seed"), np.reshape(values, shape).astype(float)),
            "finished": (("loss", "cell", "seed"), finished.reshape(shape[0], *shape[2:])),
            "part": (("loss", "cell"), [[arm in runs.arms for arm in family] for family in arms]),
            "elsewhere": (("loss", "cell"), [[there.get(arm, "") for arm in family] for family in arms]),
        },
        {
            "row": ("cell", [cell["row"] for cell in cells]),
            "column": ("cell", [cell["column"] for cell in cells]),
            "arm": ("cell", arms[0]),
            "loss": list(families),
            "statistic": list(kinds),
            "seed": list(seeds),
        },
        attrs={"setting": table["setting"], "what": table.get("what", ACCURACY)},
    )


@style.styled
def draw_table(data: "xr.Dataset") -> "Figure":
    """Left: the paper's Top-1 accuracy of a linear classifier, in per cent, with the standard deviation over its runs
    where it prints one. Right, under the name of its arm of the suite: what runs of that setting measured here, on the
    data and for the length that the scale stands for: not the paper's numbers, but their order may be held against the
    paper's. Circles: seeds. Diamonds: mean with the 95 % interval of Student's t; numbers: mean and half that interval.

    Modes of F: exp of the entropy of the normalised eigenvalues of F = E[z z^T], the embeddings' mean direction
    included; 1 is complete collapse in direction, a fall is dimensional collapse. Trace of F: the embeddings' squared
    norm, where the squared error collapses; the loss of the papers does not see it. Accuracy is shown from the scale
    cifar on. 'At scale X': runs of that cell are planned there and not here, and `python -m experiments run` makes
    them; 'not in the suite': nowhere; 'not measured': none has finished; 'not finite': all diverged.
    """
    return draw_cells(data)


def draw_cells(data: "xr.Dataset") -> "Figure":
    """What `compute_table` gives as a figure, for a drawing function that says in its caption what is shown."""
    from matplotlib.figure import Figure

    count, panels = data.sizes["cell"], 1 + data.sizes["statistic"]
    height = LINE * (0.3 + 0.7 * max(1, int(data.part.sum("loss").max())))
    figure = Figure(figsize=(3.8 + 3.4 * panels, 1.65 + height * count), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08)
    axes = figure.subplots(1, panels)
    _draw_paper(axes[0], data)
    for axis, name in zip(axes[1:], data.statistic.values):
        for k in range(count):
            _draw_cell(axis, k, data.isel(cell=k).sel(statistic=name))
        axis.set_title(f"Here: {STATISTICS[name].words}", fontsize=9.5)
        axis.set_xlabel(f"{data.attrs['scale']} scale, {data.sizes['seed']} seeds asked for", fontsize=9)
        style.reach(axis, "x", STATISTICS[name].limits)
    _draw_lines(axes, data)
    axes[1].set_yticks(range(count), data.arm.values, fontsize=8)
    style.legend_below(figure)
    return figure


def _draw_lines(axes, data: "xr.Dataset") -> None:
    """The order from above, a rule between the paper's rows, and their names."""
    names = [", ".join(filter(None, map(str, pair))) for pair in zip(data.row.values, data.column.values)]
    for axis in axes:
        axis.set_ylim(data.sizes["cell"] - 0.5, -0.5)
        axis.spines["left"].set_visible(False)
        axis.set_yticks([])
        axis.tick_params(axis="y", length=0)
        for k in np.flatnonzero(data.row.values[1:] != data.row.values[:-1]):
            axis.axhline(k + 0.5, **style.RULE)
    axes[0].set_yticks(range(len(names)), names)


def _draw_paper(axis, data: "xr.Dataset") -> None:
    axis.set_title(f"Paper: {data.attrs.get('what', ACCURACY)}", fontsize=9.5)
    axis.set_xlabel(f"{data.attrs['setting']}{': mean ± std' * bool(data.spread.notnull().any())}", fontsize=9)
    for k, (mean, spread) in enumerate(zip(data.paper.values, data.spread.values)):
        if math.isnan(mean):
            continue
        printed = not math.isnan(spread)
        axis.errorbar(mean, k, xerr=spread if printed else None, **style.PAPER)
        _draw_number(axis, k, f"{mean:.2f} ± {spread:.2f}" if printed else f"{mean:g}")


def _draw_cell(axis, line: int, cell: "xr.Dataset") -> None:
    """A cell's runs in its line; those of several families each in a part of it."""
    losses = [loss for loss in cell.loss.values if cell.part.sel(loss=loss)]
    if not losses:
        _draw_number(axis, line, lacking(cell))
    marks, count = dict(zip(cell.loss.values, MARKS)), len(losses)
    for k, loss in enumerate(losses):
        at = line + 0.92 * ((k + 0.5) / count - 0.5)
        _draw_runs(axis, at, cell.sel(loss=loss), OFFSET / count, marks[loss])


def lacking(cell: "xr.Dataset") -> str:
    """What is said of a cell that the suite has no arm for: at which other scale it has one."""
    others = [str(scale) for scale in np.atleast_1d(cell.elsewhere.values) if scale]
    return f"at scale {others[0]}" if others else "not in the suite"


def _draw_runs(axis, at: float, one: "xr.Dataset", offset: float, mark: dict) -> None:
    """Seeds, and under them their mean with its interval."""
    found = interval(one.value)
    mean, count = found.mean, found.count
    finished, loss = int(one.finished.sum()), str(one.loss.item())
    if count == 0:
        return _draw_number(axis, at, "not finite" if finished else "not measured")
    seeds = one.value.values[np.isfinite(one.value)]
    axis.plot(seeds, np.full(count, at - offset), label="one seed", **style.SEED)
    axis.errorbar(mean, at + offset, xerr=found.error, label=f"{loss}: mean, 95 % interval", **mark)
    lost = f", {finished - count} not finite" if finished > count else ""
    some = f" (n = {count}{lost})" if count < one.sizes["seed"] else ""
    _draw_number(axis, at, plus_minus(mean, (found.high - found.low) / 2) + some)


def plus_minus(mean: float, half: float) -> str:
    """'0.881 ± 0.033': two digits of what is uncertain; the mean alone where `half` is none."""
    if not half > 0:
        return f"{mean:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:.{decimals}f} ± {half:.{decimals}f}"


def _draw_number(axis, line: int, text: str) -> None:
    """The number itself, right of its panel."""
    grey = {} if text[0].isdigit() or text[0] == "-" else {"color": "0.5"}
    axis.text(1.02, line, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8, **grey)


# ---------------------------------------------------------------- from a file of tables to pictures


def pictures(
    prefix: str,
    paper: str,
    source: str,
    tables: dict[str, dict],
    families: Mapping[str, str] = FAMILIES,
    statistics: tuple[str, ...] = USUAL,
    draw: Callable[["xr.Dataset"], "Figure"] = draw_table,
    beside: Collection[str] | None = None,
) -> dict[str, Picture]:
    """A picture PREFIX-NAME of each of a paper's tables; `source` cites the paper, `claims` of a table are its ids.
    `families` are those of its suite's arms, three at most, and `statistics` what is measured of a run, as
    `compute_table` takes them; `draw` calls `draw_cells` and says what is shown. `beside`: the arms there are of the
    families after the first; None: all.

    Table N of the paper is called "tableN"; one without a number has a name of its own, and in `place` where it stands.
    """
    return {
        f"{prefix}-{name}": of_table(
            paper,
            {key: value for key, value in table.items() if key not in ("claims", "place")},
            table["title"] if "place" in table else f"{_place(name, table)}: {table['title']}",
            f"{source}, {_place(name, table)}",
            tuple(table.get("claims", ())),
            families,
            statistics,
            draw,
            beside,
        )
        for name, table in tables.items()
    }


def _place(name: str, table: dict) -> str:
    return table.get("place") or f"Table {name.removeprefix('table')}"


def of_table(
    paper: str,
    table: dict,
    title: str,
    source: str,
    claims: tuple[str, ...] = (),
    families: Mapping[str, str] = FAMILIES,
    statistics: tuple[str, ...] = USUAL,
    draw: Callable[["xr.Dataset"], "Figure"] = draw_table,
    beside: Collection[str] | None = None,
) -> Picture:
    """The picture of one table."""
    compute = functools.partial(compute_table, table=table, families=dict(families), statistics=statistics)
    arms = arms_of([table], families)
    if beside is not None:
        first = arms_of([table], dict([*families.items()][:1]))
        arms = tuple(arm for arm in arms if arm in first or arm in beside)
    return Picture(FromRuns(paper, arms, compute, ends=True), draw, title, source, paper, claims)


def arms_of(tables: Iterable[dict], families: Mapping[str, str] = FAMILIES) -> tuple[str, ...]:
    """The arms that the tables' cells name, of each family, each once."""
    named = dict.fromkeys(cell["arm"] for table in tables for cell in table["cells"] if cell["arm"])
    return tuple(prefix + arm for prefix in families.values() for arm in named)
