"""A run's summary as a person reads it."""

import io

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
        return f"stopped at step {summary['step']}; go on with --out {summary['run']} --resume"
    first, last, knn = summary["first"], summary["last"], summary["knn"]
    table = Table(box=box.SIMPLE, title_justify="left", title=f"{summary['steps']} steps, {summary['seconds']:.0f} s")
    for name, justify in (("", "left"), ("first step", "right"), ("last step", "right")):
        table.add_column(name, justify=justify)
    for name, label in _ROWS.items():
        if name in last:
            table.add_row(label, _number(first.get(name)), _number(last[name]))
    for mode in range(1, 5):
        if summary["alignment"] and len(summary["alignment"]) > mode:
            start, end = (summary[key][mode] for key in ("alignment_at_start", "alignment"))
            table.add_row(f"alignment of mode {mode + 1}: cos(u, W_p u)", _number(start), _number(end))
    if knn["after"] is not None:
        table.add_row(f"kNN accuracy (raw pixels {knn['pixels']:.3f})", _number(knn["before"]), _number(knn["after"]))
    if summary["probe"]:
        table.add_row(f"linear probe, {summary['probe']['protocol']}", "", _number(summary["probe"]["accuracy"]))
    for name, found in (summary.get("references") or {}).items():
        if found:
            table.add_row(f"kNN accuracy of the {name} network", "", _number(found["knn"]))
    paper = Console(file=io.StringIO(), width=110)
    paper.print(table)
    return "\n".join(
        [
            *(line.rstrip() for line in paper.file.getvalue().rstrip().splitlines()),
            "",
            f"{summary['diagnosis']}: {summary['explanation']}",
            *(f"warning, {sentence}" for sentence in summary["warnings"]),
            f"picture: {summary['run']}/run.png",
        ]
    )


def _number(value) -> str:
    return "" if value is None else f"{value:.4g}"
