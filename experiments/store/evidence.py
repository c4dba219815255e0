"""Evidence outlives code: a row for each finished run of a suite, small enough to be kept in the repository.

`experiments/results/STUDY-SCALE.json` holds what claims, tables and descriptions read of a run, and what it was
computed by and on; STUDY-SCALE.nc beside it what figures draw over its steps. It is read where the store has nothing
for a config; whatever rests on it says so. A row serves the config that it was computed with and no other, fields aside
that say where and how images lie.
"""

import functools
import json
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from stopgrad.deep.config import Config, Data, from_json, to_json
from stopgrad.deep.measuring.quantities.quantities import at_evaluation, recorded
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments.store import series
from stopgrad.experiments.store.store import Record, Store, number
from stopgrad.experiments.suites.grid import Suite
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

RESULTS = Path(__file__).parents[1] / "results"
KEPT = ("state", "diagnosis", "steps", "seconds", "knn", "probe", "references", "last")
"""Of a run's summary; of the probe the accuracy alone."""
AT_END = ("representation", "generalisation", "laws")
"""Of the summary of a run that was evaluated so: the quantities of its last evaluation, and what new views gave."""
SCALARS = ("first", "lowest", "mean")
"""Of the first measurement, and over all of them, what the list of quantities says; of the last, every scalar."""
ORIGIN = (
    *("date", "hardware", "instructions", "device", "threads", "processes"),
    *("python", "torch", "numpy", "fingerprint", "images"),
)
DIGITS = 5
_TOLD = ("step", "epoch", "seconds")
_WHERE = {name: getattr(Data(), name) for name in ("data_folder", "download", "storage", "workers")}


def path_of(suite: Suite) -> Path:
    """Where the record of a suite is kept."""
    return RESULTS / f"{suite.name}-{suite.scale}.json"


def identity(config: Config) -> str:
    """What decides a run's numbers: its config as text, but for the fields that say where and how images lie."""
    return to_json(replace(config, data=replace(config.data, **_WHERE)))


@dataclass(frozen=True)
class RecordedRun(Record):
    """A run of which a row is left, in the file `folder`: its summary and columns as far as they were kept."""

    kept: Columns | None = None
    """Its series, where they were kept as well."""
    evaluated_over: Columns | None = None
    """The same of its evaluations."""

    @property
    def whole(self) -> bool:
        """Whether its series are there."""
        return self.kept is not None

    @cached_property
    def columns(self) -> Columns:
        """Its series, which end in the arrays as the row has them; without series these alone, and no scalars."""
        ends, end = self.summary["arrays"], np.array([self.summary["steps"]])
        if self.kept is None:
            return Columns(end, {}, {name: Series(end, np.array([values], float)) for name, values in ends.items()})
        arrays = {
            name: Series(step, np.vstack([values[:-1], np.array(ends.get(name, values[-1]), float)]))
            for name, (step, values) in self.kept.arrays.items()
        }
        return self.kept._replace(arrays=arrays)

    @cached_property
    def evaluations(self) -> Columns:
        """Its evaluations between epochs, as far as they were kept."""
        return self.evaluated_over or Columns(np.zeros(0, dtype=int), {}, {})

    def lowest(self, name: str) -> float:
        """The smallest value of a scalar over the run; NaN where it was not kept."""
        return number(self.summary["lowest"].get(name))

    def mean(self, name: str) -> float:
        """A scalar's mean over the run; NaN where it was not kept."""
        return number(self.summary["mean"].get(name))

    @cached_property
    def recorded(self) -> str:
        """'recorded on NVIDIA H200 (compute capability 9.0), torch 2.11.0, code 0123456789abcdef'."""
        origin = self.summary["provenance"]
        images = f" from {origin['images']}" if origin["images"] else ""
        about = f"{origin['hardware']} ({origin['instructions']}){images}, torch {origin['torch']}"
        return f"recorded on {about}, code {origin['fingerprint'][:16]}"


@dataclass(frozen=True)
class Recorded:
    """The record of a suite, asked as a store is."""

    runs: dict[str, RecordedRun]
    """By `identity`."""

    def find(self, config: Config) -> RecordedRun | None:
        """The recorded run of this config, or None."""
        return self.runs.get(identity(config))


@dataclass(frozen=True)
class Backed:
    """A store, and behind it the record of a suite."""

    store: Store
    record: Recorded

    def find(self, config: Config) -> Record | None:
        """The store's run; else the recorded one; else None."""
        return self.store.find(config) or self.record.find(config)


def backed(store: Store, suite: Suite) -> Backed:
    """`store` with the record of `suite` behind it. Raises ValueError where that cannot be read."""
    return Backed(store, Recorded(_read(*_file(path_of(suite)))))


# ---------------------------------------------------------------- the file


def read(path: Path) -> list[RecordedRun]:
    """The runs of a record; none where there is no file. Raises ValueError where it cannot be read.

    Pictures and claims ask one after the other: a file is read once, and again when it is another.
    """
    return list(_read(*_file(path)).values())


def _file(path: Path) -> tuple:
    """The path, and all that tells its files from others that stand in their place later."""
    return path, os.path.abspath(path), *map(_which, (path, path.with_suffix(".nc")))


@functools.lru_cache(maxsize=16)
def _read(path: Path, *which) -> dict[str, RecordedRun]:
    """The runs by `identity`."""
    kept, evaluated = (series.read(path.with_suffix(".nc"), group) for group in (None, series.EVALUATIONS))
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        runs = [_run(row, whole, path, kept.get(row["key"]), evaluated.get(row["key"])) for row in whole["runs"]]
        return {identity(run.config): run for run in runs}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read as a record of runs ({error}); restore it, or remove it") from None


def _which(path: Path) -> tuple[int, ...] | None:
    """What tells this file from one that stands in its place later; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def record(suite: Suite, store: Store) -> Path | None:
    """Write the record of `suite` from what `store` holds, and keep its rows of other runs of the suite; its path.

    None where it would hold nothing. Raises ValueError where the record cannot be read or written.
    """
    path, behind = path_of(suite), backed(store, suite)
    runs: dict[str, tuple[str, int, Record]] = {}
    for arm, seed, config in suite.configs():
        if found := behind.find(config):
            runs.setdefault(identity(config), (arm, seed, found))  # one row, however many arms it serves
    if not runs:
        return None
    text = _text(suite, sorted(runs.values(), key=lambda run: run[:2]))
    whole = {run.key: run.columns for *_, run in runs.values() if run.whole}
    if whole:
        evaluated = {run.key: run.evaluations for *_, run in runs.values() if len(run.evaluations.step)}
        series.write(path.with_suffix(".nc"), whole, evaluated)
    replace_file(prepare_file(path, ".json"), lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
    return path


def _text(suite: Suite, runs: list[tuple[str, int, Record]]) -> str:
    """The file: a row a line; what all configs share, what each arm does, each origin and each name is written once."""
    configs = {arm: json.loads(identity(run.config)) for arm, _, run in runs}
    first, *others = configs.values()
    shared = {
        group: {k: value for k, value in fields.items() if all(other[group].get(k, ...) == value for other in others)}
        for group, fields in first.items()
        if group != "seed"
    }
    arms = {
        arm: {group: {k: v for k, v in config[group].items() if k not in shared[group]} for group in shared}
        for arm, config in configs.items()
    }
    origins = sorted({_line(_origin(run)) for *_, run in runs})
    rows = [
        {"arm": arm, "seed": seed, "key": run.key, "origin": origins.index(_line(_origin(run)))} | _rounded(_kept(run))
        for arm, seed, run in runs
    ]
    names = sorted({name for row in rows for name in row["last"]})
    rows = [row | {"last": [row["last"].get(name) for name in names]} for row in rows]
    head = {"suite": suite.name, "scale": suite.scale, "config": shared, "arms": arms, "last": names}
    head = _line(head | {"representation": _evaluated()})[:-1]
    return '{},\n"origins": [\n{}\n],\n"runs": [\n{}\n]}}\n'.format(
        head, ",\n".join(origins), ",\n".join(map(_line, rows))
    )


def _kept(run: Record) -> dict:
    """What a row says of a run."""
    summary, read = run.summary, {"first": run.first, "lowest": run.lowest, "mean": run.mean}
    kept = {name: summary.get(name) for name in KEPT}
    kept["probe"] = summary.get("probe") and {"accuracy": summary["probe"]["accuracy"]}
    kept["last"] = {name: v for name, v in summary["last"].items() if name not in _TOLD and v is not None}
    kept |= {what: {name: read[what](name) for name in recorded(what)} for what in SCALARS}
    if summary.get("representation"):
        kept["representation"] = [run.evaluated(name) for name in _evaluated()]
    kept |= {name: summary[name] for name in AT_END[1:] if summary.get(name)}
    arrays = run.columns.arrays
    return kept | {"arrays": {name: arrays[name].values[-1].tolist() for name in recorded("last") if name in arrays}}


def _evaluated() -> list[str]:
    """Of an evaluation of the representations what a row has: its quantities, and how many dimensions they have."""
    return [*at_evaluation(), "dim"]


def _origin(run: Record) -> dict:
    """What a run was computed by and on."""
    known = {"images": run.summary.get("data", {}).get("source")} | run.summary["provenance"]
    return {name: known.get(name) for name in ORIGIN}


def _run(row: dict, whole: dict, path: Path, kept: Columns | None, evaluated: Columns | None) -> RecordedRun:
    """A run as its row has it, read at once, so that what is damaged is found here."""
    own = whole["arms"][row["arm"]]
    config = {group: shared | own[group] for group, shared in whole["config"].items()}
    summary = {name: row[name] for name in (*KEPT, *SCALARS, "arrays")} | {name: row.get(name) for name in AT_END}
    summary["last"] = {name: v for name, v in zip(whole["last"], row["last"], strict=True) if v is not None}
    if summary["representation"]:
        summary["representation"] = dict(zip(whole["representation"], summary["representation"], strict=True))
    summary["provenance"] = whole["origins"][row["origin"]]
    config = from_json(json.dumps(config | {"seed": row["seed"]}))
    run = RecordedRun(row["key"], path, config, summary, kept, evaluated)
    _ = run.columns, run.recorded, run.first(""), run.last(""), run.lowest(""), run.mean(""), run.evaluated("")
    return run


def _rounded(value):
    """Numbers to `DIGITS` figures, what is not finite as None."""
    match value:
        case dict():
            return {name: _rounded(v) for name, v in value.items()}
        case list():
            return [_rounded(v) for v in value]
        case float():
            return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _line(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
