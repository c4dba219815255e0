"""A run's summary as a person reads it."""

import io
import shlex

from rich import box
from rich.console import Console
from rich.table import Table

_ROWS = {
    "loss": "loss",
    "cosine_prediction": "cos(prediction, target)",
    "rank_z": "effective rank of Z, centred",
    "rank_p": "effective rank of P, centred",
    "std_z": "channel std × √d of Z",
    "std_p": "channel std × √d of P",
    "m_o_z": "m_o of Z",
    "trace_z": "trace of F",
    "misalignment": "‖[F, W_p]‖/(‖F‖‖W_p‖)",
    "asymmetry": "asymmetry of W_p",
    "balance_residual": "balance residual (Theorem 1)",
}


def text(summary: dict) -> str:
    """The summary in words and a table."""
    if summary["state"] == "stopped":
        folder = shlex.quote(summary["run"])
        return f"stopped at step {summary['step']}; the same command with --out {folder} --resume goes on"
    if "last" not in summary:  # of a process that only helped
        return ""
    first, last, knn = summary["first"], summary["last"], summary["knn"]
    table = Table(box=box.SIMPLE, title_justify="left", title=f"{summary['steps']} steps, {summary['seconds']:.0f} s")
    for name, justify in (("", "left"), ("at first", "right"), ("at last", "right")):
        table.add_column(name, justify=justify)
    for name, label in _ROWS.items():
        if name in last:
            table.add_row(label, _number(first.get(name)), _number(last[name]))
    for mode in range(1, 5):
        if summary["alignment"] and len(summary["alignment"]) > mode:
            start, end = (summary[key][mode] for key in ("alignment_at_start", "alignment"))
            table.add_row(f"alignment of mode {mode + 1}: cos(u, W_p u)", _number(start), _number(end))
    if knn["before"] is not None:
        table.add_row(f"kNN accuracy (raw pixels {knn['pixels']:.3f})", _number(knn["before"]), _number(knn["after"]))
    if summary["probe"]:
        table.add_row(f"linear probe, {summary['probe']['protocol']}", "", _number(summary["probe"]["accuracy"]))
    for name, found in (summary.get("references") or {}).items():
        if found:
            table.add_row(f"kNN accuracy of the {name} network", "", _number(found["knn"]))
    paper = Console(file=io.StringIO(), force_terminal=False, width=110)
    paper.print(table)
    return "\n".join(
        [
            *(line.rstrip() for line in paper.file.getvalue().rstrip().splitlines()),
            "",
            ": ".join(filter(None, (summary["diagnosis"], summary["explanation"]))),
            *(f"warning, {sentence}" for sentence in summary["warnings"]),
            *([f"picture: {summary['run']}/run.png"] if summary.get("picture", True) else []),
        ]
    )


def evaluation_text(found: dict) -> str:
    """A new evaluation of a run, one `name: value` a line; the spectrum itself is for --json."""
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    lines = [f"{name}: {value if isinstance(value, str) else _number(value)}" for name, value in numbers.items()]
    if found["probe"]:
        lines.append(f"linear probe, {found['probe']['protocol']}: {_number(found['probe']['accuracy'])}")
    for name, scores in found["references"].items():
        lines += [f"{key} of the {name} network: {_number(value)}" for key, value in (scores or {}).items()]
    return "\n".join(lines)


def _number(value) -> str:
    return "" if value is None else f"{value:.4g}"
