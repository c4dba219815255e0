"""What a figure is: where its data come from, how it is drawn, whose it is and which claims it shows."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stopgrad.figures.machinery import data
from stopgrad.figures.machinery.measures import Runs

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Recorded:
    """Data that an experiment leaves in a file: `path` under the results' folder, and the command that makes it."""

    path: str
    made_by: str
    read: Callable[[Path], "xr.Dataset"] = data.read


@dataclass(frozen=True)
class Released:
    """Data that others have released, which lie in a folder of the user's (`Places.data`)."""

    words: str
    """What they are and whence to get them, for a sentence that begins 'it needs'."""
    read: Callable[[Path], "xr.Dataset | None"]
    """From the folder; None where they are not in it."""


@dataclass(frozen=True)
class FromRuns:
    """Data computed from the finished runs of some arms of a paper's suite."""

    suite: str
    """The paper's key."""
    arms: tuple[str, ...]
    """All that `compute` may look at; arms that the suite lacks at a scale count as not measured."""
    compute: Callable[[Runs], "xr.Dataset"]
    ends: bool = False
    """Whether it looks at the beginnings and ends of runs alone, which a recorded run has even where its series were
    not kept."""


@dataclass(frozen=True)
class Picture:
    """A figure. Its caption is the docstring of the function that draws it."""

    compute: Callable[[], "xr.Dataset"] | Recorded | Released | FromRuns
    draw: Callable[["xr.Dataset"], "Figure"]
    title: str
    source: str
    """Where in a paper it is, or what it is beside."""
    paper: str
    """The key of the paper or study that it belongs to."""
    claims: tuple[str, ...] = ()
    """Ids of the claims that it shows, of whatever paper: "KEY-NAME" each."""

    @property
    def text(self) -> str:
        """The caption."""
        return inspect.getdoc(bare(self.draw)) or ""


def bare(function: Callable) -> Callable:
    """A function without the arguments that functools.partial has given it."""
    return bare(function.func) if isinstance(function, functools.partial) else function
