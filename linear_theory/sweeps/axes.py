"""The axes of a sweep: what is varied, over which values."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

THEORY = tuple(f.name for f in fields(Hyperparameters))
START = ("p0", "s0", "tau0")
DESCENT = ("lr", "momentum")
AXES = (*THEORY, *START, *DESCENT)


@dataclass(frozen=True)
class Axis:
    """One axis: the name of a hyperparameter or initial condition, its values, and whether they are spaced in log.

    >>> Axis("eta", [0.0, 0.1, 0.3]).values.tolist()
    [0.0, 0.1, 0.3]
    """

    name: str
    values: np.ndarray
    log: bool = False

    def __post_init__(self):
        object.__setattr__(self, "values", as_float64(self.values, "values"))


def parse_axis(text: str, names: Sequence[str] = AXES) -> Axis:
    """`name=low:high:points` or `name=low:high:points:log`, name being one of `names`. Raises ValueError with one
    sentence."""
    name, _, span = text.partition("=")
    parts = span.split(":")
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
        raise BadInput(f"axis {text!r} is not of the form name=low:high:points or name=low:high:points:log")
    try:
        low, high, points = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError:
        raise BadInput(f"axis {text!r}: low and high must be numbers and points a whole number") from None
    name = name.strip().replace("-", "_")
    if name not in names:
        raise BadInput(f"axis {name!r} is unknown; choose one of {', '.join(names)}")
    return make_axis(name, low, high, points, log=len(parts) == 4)


def make_axis(name: str, low: float, high: float, points: int, log: bool = False) -> Axis:
    """An axis of evenly (or, with log, geometrically) spaced values. Raises ValueError with one sentence.

    >>> make_axis("eta", 0.01, 1, 3, log=True).values
    array([0.01, 0.1 , 1.  ])
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise BadInput(f"axis {name}: low must be below high and both finite, not {low:g} and {high:g}")
    if points < 2:
        raise BadInput(f"axis {name} has {points} point; it needs at least 2")
    if log and low <= 0:
        raise BadInput(f"axis {name}: a log axis must start above 0, not at {low:g}")
    return Axis(name, np.geomspace(low, high, points) if log else np.linspace(low, high, points), log)
