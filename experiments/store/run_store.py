"""Finished work is kept: a folder of small .npz files, one for each unit of work, that a killed run finds again.

A unit's file is named by its configuration, and holds what computes in the modules that its code can reach and the
versions of the numerics (`tools.kept`): nothing rounded, nothing left out, no commit and no time. Every file appears
whole or not at all.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stopgrad.linear_theory.tools import kept
from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.origin import code

Arrays = dict[str, np.ndarray]


class Unit(NamedTuple):
    """A piece of work: `compute(advance)` returns arrays by name, and may call advance(fraction done) on the way."""

    label: str
    """Names the unit's file, and says what it is to somebody who waits for it."""
    config: dict
    """All that the result depends on besides code and versions; goes into JSON."""
    compute: Callable[[Callable[[float], None]], Arrays]


@dataclass(frozen=True)
class RunStore:
    """Units of work in `folder`, as computed by `modules` (or names of them), all that these reach, and `packages`."""

    folder: Path
    modules: tuple[ModuleType | str, ...]
    packages: tuple[str, ...] = ("numpy", "torch")

    @cached_property
    def origin(self) -> kept.Origin:
        """All that a unit's result depends on beside its config."""
        names = [module if isinstance(module, str) else module.__name__ for module in self.modules]
        return {k: v for name in names for k, v in code(name, (__name__,), self.packages).items()}

    def kept(self, unit: Unit) -> tuple[Arrays | None, str | None]:
        """(the unit's arrays, why they are not what would be computed now), as `tools.kept` has it."""
        return kept.kept(self._path(unit), self.origin, _read)

    def finish(self, units: Sequence[Unit], title: str) -> tuple[list[Arrays], int]:
        """(results of all units in order, how many had to be computed), with progress on standard error."""
        results, computed = [], 0
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task(title, total=len(units))
            for done, unit in enumerate(units):
                arrays, why = self.kept(unit)
                if why:
                    if arrays is not None:
                        progress.console.print(f"{unit.label} is computed again; {why}")
                    progress.update(bar, description=f"{title}: {unit.label}")
                    arrays = unit.compute(lambda part, done=done: progress.update(bar, completed=done + part))
                    self.folder.mkdir(parents=True, exist_ok=True)
                    _write(self._path(unit), arrays, self.origin)
                    computed += 1
                results.append(arrays)
                progress.update(bar, completed=done + 1, description=title)
        return results, computed

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.label}-{kept.key(unit.config)[:32]}.npz"


def _read(path: Path) -> tuple[Arrays, kept.Origin]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "origin"}, json.loads(str(file["origin"]))


def _write(path: Path, arrays: Arrays, origin: kept.Origin) -> None:
    replace_file(path, lambda draft: np.savez_compressed(draft, origin=json.dumps(origin), **arrays))
