"""A run's summary as a person reads it."""

import io
import shlex

from rich import box
from rich.console import Console
from rich.table import Table

from stopgrad.deep.measuring.quantities.quantities import QUANTITIES, shown

UNCLASSED = "The data have no classes: there is no kNN accuracy and no linear probe."


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
    arrays = summary.get("arrays", {})
    then = first | {name: found["first"] for name, found in arrays.items()}
    now = (summary.get("representation") or {}) | last | {name: found["last"] for name, found in arrays.items()}
    for one in shown("summary"):
        if one.text(now.get(one.name)):
            table.add_row(one.words, one.text(then.get(one.name)), one.text(now[one.name]))
    if knn["before"] is not None:
        words = QUANTITIES["knn"].words
        table.add_row(f"{words} (raw pixels {knn['pixels']:.3f})", _number(knn["before"]), _number(knn["after"]))
    if summary["probe"]:
        table.add_row(f"linear probe, {summary['probe']['protocol']}", "", _number(summary["probe"]["accuracy"]))
    for name, found in (summary.get("references") or {}).items():
        if found:
            table.add_row(f"{QUANTITIES['knn'].words} of the {name} network", "", _number(found["knn"]))
    paper = Console(file=io.StringIO(), force_terminal=False, width=110)
    paper.print(table)
    return "\n".join(
        [
            *(line.rstrip() for line in paper.file.getvalue().rstrip().splitlines()),
            "",
            ": ".join(filter(None, (summary["diagnosis"], summary["explanation"]))),
            *laws_text(summary.get("laws")),
            *([UNCLASSED] if _unclassed(summary.get("representation")) else []),
            *(f"warning, {sentence}" for sentence in summary["warnings"]),
            *([f"picture: {summary['run']}/run.png"] if summary.get("picture", True) else []),
        ]
    )


# Of each law its words, and whether a time that never comes is meant by None.
_LAWS = {
    "balance": ("residual of the balance (Theorem 1)", ""),
    "half_time": ("time in which the misalignment of W_p and F halves", "not yet"),
    "modes": ("modes that live at the end", ""),
    "settles": ("time from which tr F stays within a tenth of its end", "not yet"),
    "fall": ("rate at which tr F falls", ""),
    "critical": ("weight decay η beyond which no mode lives", ""),
}


def laws_text(laws: dict | None) -> list[str]:
    """The last layer beside Lemma 1, law by law, in a table; none where the run was not held against it."""
    if not laws:
        return []
    table = Table(box=box.SIMPLE, title_justify="left", title=_LAWS_TITLE.format(laws["eta"], laws["t_end"]))
    for name, justify in (("", "left"), ("measured", "right"), ("forecast", "right"), ("tracking", "right")):
        table.add_column(name, justify=justify)
    for name, (words, never) in _LAWS.items():
        values = [laws[reading][name] for reading in ("measured", "forecast", "tracking")]
        cells = ["" if name == "critical" else never if v is None else _number(v) for v in values[:1]]
        table.add_row(words, *cells, *(never if v is None else _number(v) for v in values[1:]))
    paper = Console(file=io.StringIO(), force_terminal=False, width=110)
    paper.print(table)
    return ["", *(line.rstrip() for line in paper.file.getvalue().rstrip().splitlines()), _READINGS]


_LAWS_TITLE = "Lemma 1 of the projector's last layer (η = {:.3g}, t = {:.4g})"
_READINGS = (
    "forecast: by X and X′ of what it reads before training; tracking: by X and X′ as measured all along; times are "
    "the theory's.\nWhat stands behind the layer, as BatchNorm or a predictor's bias, is in neither."
)


def evaluation_text(found: dict) -> str:
    """A new evaluation of a run, one `name: value` a line; the spectrum itself is for --json."""
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    lines = [f"{name}: {value if isinstance(value, str) else _number(value)}" for name, value in numbers.items()]
    if found["probe"]:
        lines.append(f"linear probe, {found['probe']['protocol']}: {_number(found['probe']['accuracy'])}")
    for name, scores in found["references"].items():
        lines += [f"{key} of the {name} network: {_number(value)}" for key, value in (scores or {}).items()]
    lines += [UNCLASSED] if _unclassed(found) else []
    return "\n".join(lines)


def _unclassed(evaluation: dict | None) -> bool:
    """Whether representations were evaluated, and could not be by classes."""
    return bool(evaluation) and evaluation.get("knn") is None


def _number(value) -> str:
    return "" if value is None else f"{value:.4g}"
