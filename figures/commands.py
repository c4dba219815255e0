"""What `python -m figures` can be asked: to list, make and check pictures, and to draw a phase diagram.

What draws is imported where it is called, so that no help text and no list waits for it.
"""

import io
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from stopgrad.experiments.papers import chosen
from stopgrad.figures.machinery.picture import FromRuns, Picture, Recorded, Released
from stopgrad.figures.machinery.places import Places
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.processes import number_of_workers, parallel


@dataclass(frozen=True)
class List(Command):
    """Name every figure."""

    paper: tuple[str, ...] = ()
    """Only those of these papers."""
    json: bool = False

    def run(self) -> dict:
        return {
            name: {"title": one.title, "source": one.source, "paper": one.paper, "claims": one.claims}
            for name, one in of_papers(self.paper).items()
        }

    def text(self, result: dict) -> str:
        width = max(map(len, result), default=0)
        return "\n".join(f"{name:{width}}  {row['title']}  [{row['source']}]" for name, row in result.items())


@dataclass(frozen=True)
class Make(Command):
    """Make one figure."""

    name: tyro.conf.Positional[str]
    """A name that `list` prints."""
    places: Places = Places()
    pdf: bool = False
    """Write a PDF beside the PNG."""
    json: bool = False

    def run(self) -> dict:
        from stopgrad.figures.machinery import made

        if self.name not in FIGURES:
            raise BadInput(f"there is no figure {self.name!r}; the figures are {', '.join(FIGURES)}")
        self.places.check()
        path = made.bring(self.name, FIGURES[self.name], self.places, self.pdf, _say)
        if path is None:
            raise BadInput(made.how(self.name, FIGURES[self.name], self.places))
        return {self.name: str(path)}


@dataclass(frozen=True)
class All(Command):
    """Make every figure whose data can be computed or have been recorded."""

    places: Places = Places()
    paper: tuple[str, ...] = ()
    """Only those of these papers."""
    pdf: bool = False
    """Write a PDF beside each PNG."""
    workers: int | None = None
    """Worker processes of one thread each; None: as many as there are cores."""
    json: bool = False

    def run(self) -> dict:
        from stopgrad.figures.machinery import made

        self.places.check()
        figures, errors = of_papers(self.paper), []
        bring = {"places": self.places, "pdf": self.pdf}
        # What is settled is told here: a worker would first have to load all that draws.
        settled = {name: found for name, one in figures.items() if (found := made.settled(name, one, **bring))}
        done = {name: found.path and str(found.path) for name, found in settled.items()}
        left = {name: one for name, one in figures.items() if name not in done}
        for name, (path, said, error), say in _each(partial(made.brought, **bring), left, self.workers):
            for message in said:
                say(message)
            done[name] = path if path is None else str(path)
            errors += [error] if error else []
        for error in sorted(errors, key=lambda error: isinstance(error, BadInput | OSError)):
            raise error  # when all others are made; a programmer's mistake before a user's
        return {name: done[name] for name in figures}

    def text(self, result: dict) -> str:
        from stopgrad.figures.machinery import made

        absent = {name: made.how(name, FIGURES[name], self.places) for name, path in result.items() if not path}
        return "\n".join(absent.get(name) or f"{name}: {path}" for name, path in result.items())


@dataclass(frozen=True)
class Check(Command):
    """Say which pictures are stale and why.

    Exit status 1 where there is one. Nothing is drawn or written; `all` brings everything up to date.
    """

    places: Places = Places()
    paper: tuple[str, ...] = ()
    """Only those of these papers."""
    json: bool = False

    def run(self) -> dict:
        from stopgrad.figures.machinery import made

        self.places.check()
        figures = of_papers(self.paper)
        found = {name: made.examine(name, one, self.places)._asdict() for name, one in figures.items()}
        count = Counter(one["state"] for one in found.values())
        return {"figures": found, "count": {state: count[state] for state in get_args(made.State)}}

    def text(self, result: dict) -> str:
        table = Table(box=box.SIMPLE)
        for name in ("figure", "state", "why"):
            table.add_column(name, overflow="fold")
        for name, one in result["figures"].items():
            table.add_row(name, one["state"], one["why"] or "")
        paper = Console(file=io.StringIO(), force_terminal=False, width=120)
        paper.print(table)
        counted = ", ".join(f"{n} {state}" for state, n in result["count"].items() if n)
        return "\n".join([*(line.rstrip() for line in paper.file.getvalue().strip("\n").splitlines()), counted])

    def status(self, result: dict) -> int:
        return int(result["count"]["stale"] > 0)


@dataclass(frozen=True)
class Phase(Command):
    """Draw a phase diagram that `python -m linear_theory phase` has written."""

    file: tyro.conf.Positional[Path]
    """The NetCDF file."""
    out: Annotated[Path, tyro.conf.arg(metavar="PICTURE.png")]
    """The picture; its caption is written beside it."""
    variable: str | None = None
    """What the second panel shows; by default the time to converge, where the file has it."""
    pdf: bool = False
    """Write a PDF beside the PNG."""
    json: bool = False

    def run(self) -> dict:
        from stopgrad.figures.machinery import data, style
        from stopgrad.figures.shared import phase

        dataset = data.read(self.file)
        shown = ["--variable", self.variable] if self.variable else []
        text = style.caption(
            f"Phase diagram of {self.file.name}",
            "Left: the fate of every point of the grid. Line: the boundary, analytic or numeric as the legend says."
            " Right, where drawn: the variable named at its colour bar; grey where it has no value.",
            source="linear_theory, simulated",
            parameters={
                **dataset.attrs,
                **{name: dataset[name].values for name in dataset.dims if name in dataset.coords},
            },
            reproduce=shlex.join(["python", "-m", "figures", "phase", str(self.file), "--out", str(self.out), *shown]),
        )
        paths = style.save(phase.draw_phase(dataset, self.variable), self.out, text, pdf=self.pdf)
        return {self.file.stem: str(paths[0])}


def _each(
    compute: Callable, figures: dict[str, Picture], workers: int | None
) -> Iterator[tuple[str, Any, Callable[[str], None]]]:
    """(name, compute(name, picture), what prints above the progress) of each figure, as they come."""
    workers, names = number_of_workers(workers), list(figures)
    if workers > 1:
        # The dearest first: those whose data are computed and not collected, and of them the last, which is among the
        # dearest and would else be computed when there is nothing left beside it.
        names.reverse()
        names.sort(key=lambda name: isinstance(figures[name].compute, Recorded | Released | FromRuns))
    left = dict.fromkeys(names)
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(names))
        progress.update(task, description=", ".join(names[:workers]))
        items = [(name, figures[name]) for name in names]
        for k, result in parallel(compute, items, workers, preload=("stopgrad.figures.machinery.made",)):
            yield names[k], result, progress.console.print
            del left[names[k]]
            progress.update(task, advance=1, description=", ".join(list(left)[:workers]))  # begun in this order


def of_papers(keys: tuple[str, ...]) -> dict[str, Picture]:
    """The figures of these papers, or of all. Raises ValueError for a paper that there is not."""
    named = {paper.key for paper in chosen(keys)}
    return {name: one for name, one in FIGURES.items() if not keys or one.paper in named}


def _say(message: str) -> None:
    print(message, file=sys.stderr)
