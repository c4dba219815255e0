"""Finished work is kept: a folder of small .npz files, one for each unit of work, that a killed run finds again.

A unit's key is its configuration, what computes in the modules that its code can reach, and the versions of the
numerics (`tools.origin`): nothing rounded, nothing left out, no commit and no time. Every file appears whole or
not at all.
"""

import hashlib
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

from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.origin import code, difference
from stopgrad.linear_theory.tools.processes import parallel

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

    def origin(self, config: dict) -> dict[str, str]:
        """All that a unit's result depends on, one entry for each thing that may change."""
        return {f"setting {name}": json.dumps(value, sort_keys=True) for name, value in config.items()} | self._code

    @cached_property
    def _code(self) -> dict[str, str]:
        found = {k: v for name in self._names for k, v in code(name, (__name__,), self.packages).items()}
        return {f"{'version of' if k in self.packages else 'module'} {k}": v for k, v in found.items()}

    @property
    def _names(self) -> list[str]:
        return [module if isinstance(module, str) else module.__name__ for module in self.modules]

    def kept(self, unit: Unit) -> Arrays | None:
        """The unit's arrays, or None where it was never finished under this very origin."""
        path = self._path(unit)
        if not path.exists():
            return None
        with np.load(path) as file:
            return {name: file[name] for name in file.files if name != "origin"}

    def keep(self, unit: Unit, arrays: Arrays) -> None:
        """Write the unit's arrays. Raises OSError where the folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        origin = json.dumps(self.origin(unit.config))
        replace_file(self._path(unit), lambda draft: np.savez_compressed(draft, origin=origin, **arrays))

    def why(self, unit: Unit) -> str | None:
        """'a, b changed' since the nearest result kept under the same label; None where there is none, or this one."""
        origin, differences = self.origin(unit.config), []
        for path in self.folder.glob(f"{unit.label}-{'?' * 32}.npz"):
            with np.load(path) as file:
                differences.append(difference(json.loads(str(file["origin"])), origin) or "")
        return min(differences, key=len, default=None) or None

    def finish(self, units: Sequence[Unit], title: str, workers: int = 1) -> tuple[list[Arrays], int]:
        """(results of all units in order, how many had to be computed), with progress on standard error.

        What several workers compute goes through pickle, and its progress is told unit by unit.
        """
        results = [self.kept(unit) for unit in units]
        missing = [k for k, arrays in enumerate(results) if arrays is None]
        done = len(units) - len(missing)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task(title, total=len(units), completed=done)
            for k in missing:
                if changed := self.why(units[k]):
                    progress.console.print(f"{units[k].label} is computed again; {changed}")

            def here(unit: Unit) -> Arrays:
                progress.update(bar, description=f"{title}: {unit.label}")
                return unit.compute(lambda part: progress.update(bar, completed=done + part))

            compute, items = here if workers == 1 else _compute, [(units[k],) for k in missing]
            for place, arrays in parallel(compute, items, workers, self._names):
                self.keep(units[missing[place]], arrays)
                results[missing[place]] = arrays
                done += 1
                progress.update(bar, completed=done, description=title)
        return results, len(missing)

    def _path(self, unit: Unit) -> Path:
        key = _digest(json.dumps(self.origin(unit.config), sort_keys=True))[:32]
        return self.folder / f"{unit.label}-{key}.npz"


def _compute(unit: Unit) -> Arrays:
    return unit.compute(lambda part: None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
