"""Collapse as a person reads it: a table of metrics beside white noise's, and a verdict."""

import io
import os
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table


class Told(NamedTuple):
    """How a metric is told: its words, and what its ends mean."""

    words: str
    reads: str


METRICS = {
    "collapse_auc": Told("collapse AUC (Li et al. 2022)", "1 of rank 1"),
    "rankme": Told("RankMe (Garrido et al. 2023)", "of σ, 1 … d"),
    "variance_effective_rank": Told("effective rank (Roy & Vetterli 2007)", "of σ², 1 … d"),
    "participation_ratio": Told("participation ratio", "of σ², 1 … d"),
    "stable_rank": Told("stable rank, NESum", "Σσ²/σ₁², 1 … d"),
    "alpha_req": Told("α-ReQ (Agrawal et al. 2022)", "0 flat"),
    "lidar": Told("LiDAR (Thilak et al.)", "1 … d"),
    "channel_std": Told("channel std of directions (Chen & He 2021)", "0 one way"),
    "uniformity": Told("uniformity (Wang & Isola 2020)", "0 one way"),
    "alignment": Told("alignment of views (Wang & Isola 2020)", "0 alike"),
}
"""Rows of the tables, by function: a metric that was not measured is left out."""


def text(row: dict) -> str:
    """One measurement, as `row` of the command has it."""
    table = Table(box=box.SIMPLE)
    for name, justify in (("", "left"), ("measured", "right"), ("white noise", "right"), ("", "left")):
        table.add_column(name, justify=justify)
    for name, told in METRICS.items():
        if row[name] is not None:
            table.add_row(told.words, _number(row[name]), _number(row[f"{name}_white_noise"]), told.reads)
    said = f"{row['verdict']}. {row['sentence']}"
    return "\n".join([setting(row), *_printed(table), "", said, *row["notes"], MEANING])


_COUNTS = {
    "samples": "N",
    "dim": "d",
    "views": "views",
    "constant_channels": "constant dimensions",
    "numerical_rank": "singular values above rounding",
}
MEANING = "A verdict on spread, not on quality: hold it beside the loss, and compare runs of one method alone."


def compared(rows: Sequence[dict]) -> str:
    """Several measurements side by side, and which is most collapsed by each metric."""
    names = short([row["features"] for row in rows])
    table = Table(box=box.SIMPLE)
    table.add_column("", justify="left", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("most collapsed", justify="left", overflow="fold")
    for name, words in _COUNTS.items():
        if any(row[name] is not None for row in rows):
            table.add_row(words, *(_whole(row[name]) for row in rows), "")
    for name, told in METRICS.items():
        if any(row[name] is not None for row in rows):
            most = most_collapsed(name, rows)
            table.add_row(told.words, *(_number(row[name]) for row in rows), "" if most is None else names[most])
    shares = [row["rankme"] / row["rankme_white_noise"] for row in rows]
    least = min(range(len(rows)), key=lambda k: shares[k])
    table.add_row("RankMe over white noise's", *map("{:.0%}".format, shares), names[least] if len(rows) > 1 else "")
    common = [note for note in rows[0]["notes"] if all(note in row["notes"] for row in rows)]
    said = []
    for name, row in zip(names, rows):
        own = [note for note in row["notes"] if note not in common]
        said.append(f"{name}: {' '.join([row['verdict'] + '.', *own])}")
    if len({row["dim"] for row in rows}) > 1:
        common.append("Dimensions differ, and the AUC counts the nominal d: compare ranks instead.")
    if not all(comparable(name, rows) for name in METRICS):
        common.append("Sizes differ so far that white noise does too: only what is beside white noise's compares.")
    return "\n".join([setting(rows[0], sizes=False), *_printed(table), "", *said, *common, MEANING])


def short(names: Sequence[str]) -> list[str]:
    """Names without the folders, or the file, that they have in common.

    >>> short(["runs/a/z.npy", "runs/b/z.npy"]), short(["s.npz:one", "s.npz:other"])
    (['a/z.npy', 'b/z.npy'], ['one', 'other'])
    """
    shared = os.path.commonprefix(list(names))  # noqa: RUF071, cut to whole parts below
    cut = max(shared.rfind("/"), shared.rfind(":") if len(set(names)) > 1 else -1) + 1
    return [name[cut:] for name in names]


_RISING = {"collapse_auc", "alpha_req", "uniformity"}
"""Metrics that are the larger, the more collapsed; alignment tells of no collapse by itself."""


_ALIKE = 0.05
"""What white noise of one size may differ by from that of another, relative, for values of a metric to compare."""


def comparable(name: str, rows: Sequence[dict]) -> bool:
    """Whether the rows' sizes are so near each other that white noise, where it has the metric, has it alike."""
    noise = [row[f"{name}_white_noise"] for row in rows if row[f"{name}_white_noise"] is not None]
    return not noise or max(noise) - min(noise) <= max(_ALIKE * max(map(abs, noise)), 0.01)


def most_collapsed(name: str, rows: Sequence[dict]) -> int | None:
    """Which row is most collapsed by this metric; None where it does not tell, or does not compare."""
    known = [k for k, row in enumerate(rows) if row[name] is not None]
    if name == "alignment" or len(known) < 2 or not comparable(name, rows):
        return None
    return (max if name in _RISING else min)(known, key=lambda k: rows[k][name])


def setting(row: dict, sizes: bool = True) -> str:
    """What the numbers are of: space, centring, normalisation, preset, and N and d."""
    count = "N not known" if row["samples"] is None else f"N {row['samples']:,}"
    views = f", {row['views']} views" if (row["views"] or 1) > 1 else ""
    of_features = [
        "centred" if row["centred"] else "not centred",
        "rows normalised" if row["normalised"] else "rows not normalised",
    ]
    given = ["singular values as given"]
    how = [row["space"], *(given if row["channel_std"] is None else of_features), f"preset {row['convention']}"]
    own = [row["features"], f"{count}, d {row['dim']:,}{views}"]
    return "; ".join([*(own if sizes else []), *how])


def _number(value) -> str:
    return "" if value is None else f"{value + 0:.4g}"  # + 0: no minus before a zero


def _whole(value) -> str:
    return "" if value is None else f"{value:,}"


def _printed(table: Table) -> list[str]:
    paper = Console(file=io.StringIO(), force_terminal=False, width=max(110, 40 + 24 * len(table.columns)))
    paper.print(table)
    return [line.rstrip() for line in paper.file.getvalue().rstrip().splitlines()]
