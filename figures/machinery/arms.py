"""Which arms of a suite each figure of trained networks shows; nothing here draws, so that a list of figures is quick.

The arms of a paper's tables stand with its numbers in `experiments/tian2021/tables.json`.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from stopgrad.figures.machinery.measures import FAMILIES

OVERVIEW = {
    "baseline": "stop-gradient and predictor",
    "no-stop-gradient": "no stop-gradient",
    "no-predictor": "no predictor",
    "decay-64": "too much weight decay",
}
"""Arms of the suite, drawn in this order; theory has the same four."""
FIG2 = {
    "ema": "not symmetrised",
    "symmetric-ema": "symmetrised",
    "cosine/ema": "not symmetrised, cosine loss",
    "cosine/symmetric-ema": "symmetrised, cosine loss",
}
"""The rows: arm of the suite, and what sets it apart; all have an EMA target."""
FIG6 = ("symmetric", "symmetric-alpha-2", "symmetric-alpha-4", "symmetric-alpha-8")
"""Symmetric predictor, no EMA."""
FIG6_REFERENCES = {"baseline": "not symmetric, no EMA", "symmetric-ema": "symmetric, EMA"}


def arms_fig6() -> tuple[str, ...]:
    """All arms that Figure 6 may show: of either loss."""
    return tuple(prefix + arm for prefix in FAMILIES.values() for arm in (*FIG6, *FIG6_REFERENCES))


def read_tables(path: Path) -> dict[str, dict]:
    """{name: table}, each with title, setting, source and cells of {row, column, paper: [mean, std], arm or null}."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return {name: {"source": content["source"], **table} for name, table in content["tables"].items()}


def rules_table(rules: Iterable[str], tables: Iterable[dict]) -> dict:
    """A table of our own: every predictor that is set, under its arm's name, beside one learned by gradient.

    The paper's number is that of the first cell in `tables` with the same arm; NaN where the paper has none.
    """
    cells = [cell for table in reversed([*tables]) for cell in reversed(table["cells"])]
    known = {cell["arm"]: cell["paper"] for cell in cells}
    lines = [("learned by gradient, EMA", "ema"), ("learned by gradient, no EMA", "baseline")]
    lines += [(f"set: {rule}", rule) for rule in rules]
    return {
        "title": "Every predictor that is set",
        "setting": "STL-10, ResNet-18, 100 epochs",
        "cells": [
            {"row": row, "column": "", "paper": known.get(arm, [math.nan] * 2), "arm": arm} for row, arm in lines
        ],
    }


def arms_of(tables: Iterable[dict]) -> tuple[str, ...]:
    """The arms that the tables' cells name, with either loss, each once."""
    named = dict.fromkeys(cell["arm"] for table in tables for cell in table["cells"] if cell["arm"])
    return tuple(prefix + arm for prefix in FAMILIES.values() for arm in named)
