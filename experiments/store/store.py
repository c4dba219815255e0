"""The store of runs: a folder with a folder for each run, named by its key, and nothing beside them to go stale.

A run is a `deep.config.Config`, its key a hash of the config, the code that computes and the versions of its numerics
(`run_folder.key`). `summary.json`, written last and whole, is what makes a run finished, as long as its tables are
as it left them; a diverged run is finished too.
Everything here is read from these folders each time, so any of them may be deleted, copied or brought from elsewhere.
"""

import functools
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from stopgrad.deep.config import Config, from_json, to_json
from stopgrad.deep.storage import lock, run_folder, table
from stopgrad.deep.storage.provenance import code, fingerprint
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import refuse_broken_link
from stopgrad.linear_theory.tools.origin import difference

ROOT = Path("runs")
State = Literal["finished", "unfinished", "absent", "stale"]
_REMOVED = ".removed-"


def key(config: Config) -> str:
    """The name of a run: 16 hexadecimal digits that follow from config, code and versions."""
    return run_folder.key(config)


@dataclass(frozen=True)
class Record:
    """A finished run, read from its folder."""

    key: str
    folder: Path
    config: Config
    summary: dict

    @cached_property
    def columns(self) -> table.Columns:
        """What was measured while it trained."""
        return table.read(self.folder)

    @cached_property
    def evaluations(self) -> table.Columns:
        """What was evaluated between epochs: kNN accuracy and the representation's spectrum."""
        return table.read(self.folder / "evaluations")

    def last(self, name: str) -> float:
        """A scalar of the last row; NaN where it has none of this name."""
        return number(self.summary["last"].get(name))

    def first(self, name: str) -> float:
        """A scalar of the first row; NaN where it has none of this name."""
        return number(self.summary["first"].get(name))

    def lowest(self, name: str) -> float:
        """The smallest value of a scalar over the run; NaN where it was not taken."""
        values = self.columns.scalars.get(name, np.zeros(0))
        values = values[~np.isnan(values)]
        return float(values.min()) if len(values) else math.nan

    def mean(self, name: str) -> float:
        """A scalar's mean over the run; NaN where it was not taken, or once was no number."""
        values = self.columns.scalars.get(name, np.zeros(0))
        return float(values.mean()) if len(values) else math.nan

    def evaluated(self, name: str) -> float:
        """A number of the last evaluation of the representations; NaN where there is none of this name."""
        return number((self.summary.get("representation") or {}).get(name))

    @property
    def whole(self) -> bool:
        """Whether `columns` has every measurement, and not the last alone."""
        return True

    @property
    def recorded(self) -> str | None:
        """Where and with what it was computed, in words, if all that is left of it is a record."""
        return None

    @property
    def current(self) -> bool:
        """Whether the code of this process, and the versions of its numerics, would compute the same."""
        return self.summary["provenance"]["fingerprint"] == fingerprint(self.config)

    def why(self) -> str | None:
        """What has changed since it was computed: 'a, b changed'; None where nothing has."""
        if self.current:
            return None
        return difference(self.summary["provenance"].get("code") or {}, code(self.config)) or "the code changed"


@dataclass(frozen=True)
class Entry:
    """A folder of the store, whatever became of the run in it."""

    key: str
    folder: Path
    config: Config | None
    """None where this program cannot read the record, say for a field that it no longer has."""
    summary: dict | None
    """None where the run is not finished."""
    writer: str | None
    """Who is at work on it, in words."""

    @property
    def state(self) -> str:
        """finished, diverged, running or unfinished."""
        return self.summary["state"] if self.summary else "running" if self.writer else "unfinished"

    @property
    def record(self) -> Record | None:
        """The finished run; None where it is not, or its config cannot be read."""
        if self.summary is None or self.config is None:
            return None
        return Record(self.key, self.folder, self.config, self.summary)

    @property
    def stale(self) -> bool | None:
        """Whether other code computed it; None where it is not finished."""
        return None if self.summary is None else not (self.record and self.record.current)


@dataclass(frozen=True)
class Store:
    """The runs under `root`, which need not exist yet.

    Every method raises ValueError with one sentence where `root` is there and cannot be read.
    """

    root: Path = ROOT

    def folder(self, config: Config) -> Path:
        """Where the run belongs."""
        return Path(self.root) / key(config)

    def find(self, config: Config) -> Record | None:
        """The run if it is finished, whole, and computed by this code; else None."""
        entry = self._entry(self.folder(config))
        record = entry and entry.record
        return record if record and record.current and to_json(record.config) == to_json(config) else None

    def state(self, config: Config) -> State:
        """finished; unfinished (begun by this code); stale (finished by other code alone); else absent."""
        return self.states([config])[0]

    def states(self, configs: Sequence[Config]) -> list[State]:
        """`state` of many configs, for which the store is looked through once."""
        begun = [self._begun(config) for config in configs]
        others = self._by_config() if None in begun else {}
        return [state or ("stale" if to_json(config) in others else "absent") for state, config in zip(begun, configs)]

    def why(self, config: Config) -> str | None:
        """What changed since the nearest stale result of this config: 'a, b changed'; None where there is none."""
        stale = [record for record in self._by_config().get(to_json(config), ()) if not record.current]
        return min((record.why() for record in stale), key=len, default=None)

    def records(self) -> Iterator[Record]:
        """Every finished run, computed by any code; folders that cannot be read are passed over."""
        return (entry.record for entry in self.entries() if entry.record)

    def entries(self) -> Iterator[Entry]:
        """Every folder that holds a run, in whatever state, by name."""
        try:
            refuse_broken_link(Path(self.root))
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        except OSError as error:
            raise BadInput(f"{self.root} cannot be read as a store of runs: {error.strerror}") from None
        for name in names:
            if not name.startswith(".") and (entry := self._entry(Path(self.root) / name)):
                yield entry

    def remove(self, key: str) -> None:
        """Delete a run. Raises ValueError where there is none of this key or another process is writing it."""
        folder = Path(self.root) / key
        if folder.parent != Path(self.root) or key.startswith(".") or self._entry(folder) is None:
            raise BadInput(f"there is no run {key} in {self.root}")
        gone = folder.with_name(f"{_REMOVED}{key}-{os.getpid()}")
        with lock.hold(folder):
            folder.rename(gone)  # at once, so that half a folder is never taken for a run
            shutil.rmtree(gone, ignore_errors=True)
        for left in Path(self.root).glob(f"{_REMOVED}*"):  # by a process that was killed here
            shutil.rmtree(left, ignore_errors=True)

    def _begun(self, config: Config) -> Literal["finished", "unfinished"] | None:
        if self.find(config):
            return "finished"
        return "unfinished" if self._entry(self.folder(config)) else None

    def _by_config(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for record in self.records():
            found.setdefault(to_json(record.config), []).append(record)
        return found

    def _entry(self, folder: Path) -> Entry | None:
        """What `folder` holds; None where that is no run."""
        if Path(self.root).exists() and not Path(self.root).is_dir():
            raise BadInput(f"{self.root} is a file; a store of runs is a folder")
        try:
            refuse_broken_link(folder)
            summary = run_folder.whole_summary(folder)
            text = _text(folder / run_folder.CONFIG)
            if summary is None and text is None:
                return None
            text = json.dumps(summary["config"]) if summary else text
            return Entry(folder.name, folder, _config(text), summary, None if summary else lock.writer(folder))
        except OSError as error:
            raise BadInput(f"{folder} cannot be read: {error.strerror}") from None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _config(text: str) -> Config | None:
    try:
        return _read_config(text)
    except (ValueError, TypeError):
        return None


_read_config = functools.lru_cache(maxsize=2**13)(from_json)


def number(value) -> float:
    """What stands in JSON as a float; NaN where it is no number."""
    return float(value) if isinstance(value, int | float) else math.nan
