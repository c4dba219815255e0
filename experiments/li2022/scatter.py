"""The paper's own forecast: its scatter of measured and forecast accuracies (Figure 4), as data."""

import functools
import json
from pathlib import Path

import numpy as np


@functools.cache
def read() -> dict:
    """`source`, `axes`, `printed` (coefficients, R², Pearson) and `points` {network: [[measured, forecast], …]}."""
    return json.loads(Path(__file__).with_name("scatter.json").read_text(encoding="utf-8"))


def points(*networks: str) -> np.ndarray:
    """(n, 2), measured and forecast in per cent, of these networks, or of all."""
    found = read()["points"]
    return np.array([point for name in networks or found for point in found[name]])


def pearson(*networks: str) -> float:
    """Pearson's correlation of what was measured and what was forecast."""
    return float(np.corrcoef(points(*networks).T)[0, 1])


def explained(*networks: str) -> float:
    """R²: what the forecast leaves of the accuracies' variance, taken from 1."""
    measured, forecast = points(*networks).T
    return float(1 - ((measured - forecast) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())


def split() -> float:
    """The widest gap between neighbouring accuracies, in points: where the scatter falls into two clouds."""
    return float(np.diff(np.sort(points()[:, 0])).max())


def within() -> float:
    """Pearson's correlation below that gap, of the models that are alike."""
    low = points()[points()[:, 0] < 40]
    return float(np.corrcoef(low.T)[0, 1])
