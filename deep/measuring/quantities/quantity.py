"""A quantity: one function of what there is to measure, with its words."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Drawn(NamedTuple):
    """How a run's picture shows a quantity: over the steps, in one of its panels."""

    panel: Literal["a", "b", "c", "d"]
    """a: the loss and cosines; b: a spectrum; c: an alignment; d: what collapse would show, on a logarithmic axis."""
    colour: str = "black"
    dashed: bool = False
    """As its twin of the embeddings is drawn, whose entry in the legend serves for both."""
    relative: bool = False
    """Over its first value."""


@dataclass(frozen=True)
class Quantity:
    """A number, or a row of numbers, of a run: monitor, live view, summary, picture, comparison and docs read it.

    >>> from stopgrad.deep.measuring.quantities.quantity import Quantity
    >>> Quantity("norm_z", lambda seen: seen.z.norm(dim=-1).mean(), "mean norm of Z").text(0.51234)
    '0.5123'
    """

    name: str
    """Its column in the run's table, by which figures and claims ask for it."""
    of: Callable[[Any], Any]
    """From `seen.Seen` (at an evaluation: `evaluation.Represented`) to a 0-d tensor or a number, or a 1-d tensor of the
    same length each time. It is called without gradients and outside of autocast."""
    words: str
    """What it is, as a summary's row: 'effective rank of Z, centred'."""
    about: str = ""
    """More of it: definition, range, what it tells."""
    source: str = ""
    unit: str = ""
    """Empty for what has none."""
    needs: tuple[str, ...] = ()
    """Attributes of what was seen without which it does not apply: where one is None or False, it is not measured."""
    at: Literal["step", "evaluation"] = "step"
    """Of a training batch, each `--monitor-every` steps, or of the representations, each `--evaluate-every` epochs."""
    shown: tuple[Literal["live", "summary"], ...] = ("live", "summary")
    """Where people see it: the line that moves while a run trains; the summary, and runs beside each other."""
    short: str = ""
    """Its name in the live view; by default `name`."""
    math: str = ""
    """Its label in figures, in mathtext; by default `words`."""
    form: str = ".4g"
    """How a number is written for people."""
    entries: tuple[int, int] = (0, 4)
    """Of a row of numbers, the first that is written for people, and the first after it that is not."""
    drawn: Drawn | None = None
    """Where it stands in the run's picture."""
    recorded: tuple[Literal["first", "lowest", "mean", "last"], ...] = ("first",)
    """What the record of a run, which outlives its folder, keeps of it: of a number beside its last value, of a row of
    numbers "last" or nothing."""

    def applies(self, seen) -> bool:
        """Whether there is all that it needs."""
        return not any(getattr(seen, name) is None or getattr(seen, name) is False for name in self.needs)

    @property
    def label(self) -> str:
        """Its label in figures."""
        return self.math or self.words

    def text(self, value) -> str:
        """A value as people read it; nothing where there is none."""
        if value is None:
            return ""
        if hasattr(value, "__len__"):
            return " ".join(
                "–" if v is None or math.isnan(v) else f"{v:{self.form}}" for v in value[slice(*self.entries)]
            )
        return f"{value:{self.form}}"
