"""The training benchmark's rows as tables, with what they were measured on below them."""

import io

from rich import box
from rich.console import Console
from rich.table import Table

from stopgrad.experiments.benchmarks.rounds import QUIET
from stopgrad.experiments.benchmarks.ssl_engines import MONITOR_EVERY


def text(result: dict) -> str:
    """All rows of `experiments.benchmarks.training`: engine to row."""
    paper = Console(file=io.StringIO(), force_terminal=False, width=200)
    measured = {name: row for name, row in result.items() if "skipped" not in row}
    side = {name: row for name, row in measured.items() if "widths" in row}
    alone = {name: row for name, row in measured.items() if "widths" not in row}
    for width in dict.fromkeys(width for row in side.values() for width in row["widths"]):
        paper.print(_side_table(side, width), end="\n\n")
    if alone:
        paper.print(_epoch_table(alone), end="\n\n")
    skipped = [f"{name}: skipped: {row['skipped']}" for name, row in result.items() if name not in measured]
    footnotes = _footnotes(measured) if measured else []
    paper.print("\n".join(skipped + footnotes), soft_wrap=True, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in paper.file.getvalue().splitlines())


def _verdict(bar, met, sign: str, unit: str) -> str:
    return "" if bar is None else f"{sign} {bar:g}{unit}{ {True: ' met', False: ' missed', None: ''}[met] }"


def _side_table(result: dict, width: str) -> Table:
    table = Table(title=f"SimSiam, ResNet-18, width {width}, CPU", title_justify="left", box=box.MARKDOWN)
    table.add_column("engine", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for column in ("samples/s", "step alone", "views/s alone", "TFLOP/s", "ours is faster", "bar", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, engine in result.items():
        row = engine["widths"][width]
        ratio, aim = row["stopgrad_times_faster"], row["aim"]
        table.add_row(
            name,
            row["setting"],
            f"{row['samples_per_second']:,.1f}",
            f"{row['step_samples_per_second']:,.1f}",
            f"{row['augmentation_views_per_second']:,.0f}",
            f"{row['tflop_per_second']:.3f}",
            "" if ratio is None else f"{ratio:.3g}×",
            _verdict(row["bar"], row["bar_met"], "≥", "×"),
            "" if aim is None else f"{aim:g}×",
        )
    return table


def _epoch_table(result: dict) -> Table:
    table = Table(title="SimSiam, ResNet-18, whole epochs", title_justify="left", box=box.MARKDOWN)
    table.add_column("engine", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for column in ("s an epoch", "samples/s", "GFLOP a sample", "TFLOP/s", "MFU", "bar", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in result.items():
        table.add_row(
            name,
            row["setting"],
            f"{row['epoch_seconds']:.3g}",
            f"{row['samples_per_second']:,.0f}",
            f"{row['gflop_a_sample']:.3f}",
            f"{row['tflop_per_second']:.3g}",
            "" if row["mfu"] is None else f"{row['mfu']:.1%}",
            _verdict(row["bar"], row["bar_met"], "≤", " s"),
            "" if row["aim"] is None else f"{row['aim']:g} s",
        )
    return table


def _footnotes(measured: dict[str, dict]) -> list[str]:
    rows = list(measured.values())
    versions = {name: version for row in rows for name, version in row["versions"].items()}
    place = rows[0]["machine"]
    notes = [
        f"{place['cpu']}, {place['cpus']} CPUs, {place['torch_threads']} torch threads, {place['system']}, "
        f"Python {place['python']}, " + ", ".join(f"{name} {version}" for name, version in versions.items())
    ]
    for width, row in next((row["widths"] for row in rows if "widths" in row), {}).items():
        loads = row["other_load"]
        highest = max(loads)
        load = "is not known here" if highest != highest else f"was at most {highest:.0%} of the machine in any of them"
        caution = "" if row["quiet"] else f"; above {QUIET:.0%} or unknown, these times are not to be trusted"
        notes.append(
            f"width {width}: {len(loads)} interleaved rounds kept of {row['rounds_attempted']}; "
            f"other load {load}{caution}"
        )
    notes += [
        f"{name} at width {width}: views take {row['augmentation_share']:.1%} of a step, the monitor "
        f"{row['monitor_share']:.1%} (a measurement every {MONITOR_EVERY} steps)"
        f"{_verdict(row['monitor_bar'] and 100 * row['monitor_bar'], row['monitor_bar_met'], ', bar ≤', ' %:')}"
        for name, engine in measured.items()
        for width, row in engine.get("widths", {}).items()
        if row["monitor_share"] is not None
    ]
    if any(name.startswith("lightly") for name in measured):
        notes.append(
            "lightly: SimSiamTransform(32, gaussian_blur=0), LightlyDataset, DataLoader and the model of its cifar10 "
            "benchmark in a plain loop; with the same arithmetic it has our precision, memory layout and allocator"
        )
    notes += [f"epochs on {row['device']}" for row in rows if row.get("device")][:1]
    return notes
