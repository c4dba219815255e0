"""The tables of Tian, Chen & Ganguli 2021, and one of our own, of every predictor that is set."""

import math
from collections.abc import Iterable

from stopgrad.experiments.tian2021.paper import PAPER
from stopgrad.figures.shared.tables import of_table, pictures
from stopgrad.figures.tian2021.sources import MEASURED
from stopgrad.linear_theory.predictors.rules import SET_RULES

TABLES = PAPER.read_tables()


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


RULES = rules_table(SET_RULES, TABLES.values())
_BESIDE = f"{MEASURED} (where it has a number), and whatever rule was added here"
FIGURES = {
    **pictures("tian", "tian2021", MEASURED, TABLES),
    "set-predictors": of_table(
        "tian2021",
        RULES,
        RULES["title"],
        _BESIDE,
        ("tian2021-directpred-spectrum",),
    ),
}
