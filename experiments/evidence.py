"""Evidence outlives code: a row for each finished run of a suite, small enough to be kept in the repository.

`experiments/results/STUDY-SCALE.json` holds what claims, tables and descriptions read of a run, and what it was
computed by and on. It is read where the store has nothing for a config; whatever rests on it says so. A row serves the
config that it was computed with and no other, fields aside that say where and how images lie.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from deep.config import Config, Data, from_json, to_json
from deep.table import Columns, Series
from experiments.grid import Suite
from experiments.store import Record, Store
from linear_theory.files import prepare_file, replace_file

RESULTS = Path(__file__).with_name("results")
ARRAYS = ("eigenvalues", "alignment")
"""Over the modes of F, at the last measurement."""
SERIES = ("trace_z", "target_correlation")
"""Over the run's measurements."""
FIRST = ("trace_z", "asymmetry", "predictor_negative", "rank_z")
"""Of the first measurement; of the last, every scalar."""
ORIGIN = ("hardware", "instructions", "device", "threads", "processes", "python", "torch", "numpy", "fingerprint")
DIGITS = 5


def path_of(suite: Suite, folder: Path | None = None) -> Path:
    """Where the record of a suite is kept."""
    return (folder or RESULTS) / f"{suite.name}-{suite.scale}.json"


def identity(config: Config) -> str:
    """What decides a run's numbers: its config as text, but for the fields that say where and how images lie."""
    plain = Data()
    where = {name: getattr(plain, name) for name in ("data_folder", "download", "storage", "workers")}
    return to_json(replace(config, data=replace(config.data, **where)))


@dataclass(frozen=True)
class RecordedRun:
    """A run of which the record is left: what an `experiments.store.Record` has, as far as claims and tables read it.

    Its `columns` have the first row of arrays as NaN, which were not kept, and of scalars those of `SERIES` alone.
    """

    key: str
    config: Config
    summary: dict
    arrays: dict[str, list]
    series: dict[str, list]
    origin: dict

    @cached_property
    def columns(self) -> Columns:
        """What is left of the measurements."""
        ends = np.array([0, self.summary["steps"]])
        last = {name: np.array(values, dtype=float) for name, values in self.arrays.items()}
        arrays = {name: Series(ends, np.stack([np.full_like(v, np.nan), v])) for name, v in last.items()}
        return Columns(ends, {name: np.array(v, dtype=float) for name, v in self.series.items()}, arrays)

    def first(self, name: str) -> float:
        """A scalar of the first row; NaN where it was not kept."""
        return _number(self.summary["first"].get(name))

    def last(self, name: str) -> float:
        """A scalar of the last row; NaN where it has none of this name."""
        return _number(self.summary["last"].get(name))

    @property
    def recorded(self) -> str:
        """'recorded on NVIDIA H200 (…), torch 2.11.0, code 0123456789abcdef; CIFAR-10's images: …'."""
        o = self.origin
        images = f", from {o['data']['source']}" if o.get("data", {}).get("source") else ""
        on = f"recorded on {o['hardware']} ({o['instructions']}){images}"
        return f"{on}; torch {o['torch']}, code {o['fingerprint'][:16]}"


@dataclass(frozen=True)
class Backed:
    """A store, and behind it the record of a suite."""

    store: Store
    runs: dict[str, RecordedRun]
    """By `identity`."""

    def find(self, config: Config) -> Record | RecordedRun | None:
        """The store's run; else the recorded one; else None."""
        return self.store.find(config) or self.runs.get(identity(config))


def backed(store: Store, suite: Suite, folder: Path | None = None) -> Backed:
    """`store` with the record of `suite` behind it. Raises ValueError where that is damaged."""
    return Backed(store, {identity(run.config): run for run in read(path_of(suite, folder))})


# ---------------------------------------------------------------- the file


def read(path: Path) -> list[RecordedRun]:
    """The runs of a record; none where there is no file. Raises ValueError where it cannot be read."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        return [_run(row, whole) for row in whole["runs"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a record of runs ({error}); restore it, or remove it") from None


def record(suite: Suite, store: Store, path: Path | None = None) -> dict[str, int]:
    """Write the record of `suite` from what `store` holds; older rows are kept for runs that it holds not.

    Returns how many rows were written anew, and how many kept. Rows of no config of the suite go. Raises ValueError
    where the record cannot be read or written, or would hold nothing.
    """
    path = path or path_of(suite)
    old = {identity(run.config): run for run in read(path)}
    rows, fresh = {}, 0
    for arm, seed, config in suite.configs():
        name = identity(config)
        if name in rows:
            continue
        found = store.find(config)
        run = _of(found) if found else old.get(name)
        if run:
            rows[name] = (arm, seed, run)
            fresh += found is not None
    if not rows:
        raise ValueError(f"no run of {suite.name} at scale {suite.scale} is finished; there is nothing to record")
    text = _text(suite, list(rows.values()))
    replace_file(prepare_file(path, ".json"), lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
    return {"recorded": fresh, "kept": len(rows) - fresh}


def _of(found: Record) -> RecordedRun:
    """What is kept of a run."""
    summary, columns = found.summary, found.columns
    kept = {name: summary.get(name) for name in ("state", "diagnosis", "steps", "seconds", "knn", "references")}
    kept["probe"] = {"accuracy": summary["probe"]["accuracy"]} if summary.get("probe") else None
    kept["first"] = {name: summary["first"][name] for name in FIRST if name in summary["first"]}
    kept["last"] = {name: value for name, value in summary["last"].items() if name not in ("step", "epoch", "seconds")}
    arrays = {name: columns.arrays[name].values[-1] for name in ARRAYS if name in columns.arrays}
    series = {name: columns.scalars[name] for name in SERIES if name in columns.scalars}
    origin = {name: summary["provenance"].get(name) for name in ORIGIN} | {"data": summary.get("data", {})}
    return RecordedRun(found.key, found.config, kept, _lists(arrays), _lists(series), origin)


def _lists(arrays: dict) -> dict[str, list]:
    return {name: np.asarray(values, dtype=float).tolist() for name, values in arrays.items()}


def _text(suite: Suite, runs: Sequence[tuple[str, int, RecordedRun]]) -> str:
    """The file: a row a line; what all configs share, and each origin, is written once."""
    configs = [json.loads(identity(run.config)) for *_, run in runs]
    origins: list[dict] = []
    shared = _shared(configs)
    lines = []
    for (arm, seed, run), config in zip(runs, configs, strict=True):
        if run.origin not in origins:
            origins.append(run.origin)
        own = {name: value for name, value in _flat(config).items() if name not in shared}
        about = {"arm": arm, "seed": seed, "key": run.key, "origin": origins.index(run.origin), "config": own}
        lines.append(_line(about | _rounded({**run.summary, "arrays": run.arrays, "series": run.series})))
    head = {"suite": suite.name, "scale": suite.scale, "origins": origins, "config": shared}
    body = ",\n".join(lines)
    return f'{_line(head)[:-1]},\n"runs": [\n{body}\n]}}\n'


def _run(row: dict, whole: dict) -> RecordedRun:
    groups: dict = {}
    for name, value in (whole["config"] | row["config"]).items():
        group, _, field = name.rpartition(".")
        (groups.setdefault(group, {}) if group else groups)[field] = value
    rest = {name: row[name] for name in row if name not in ("arm", "origin", "config", "key", "arrays", "series")}
    return RecordedRun(
        row["key"], from_json(json.dumps(groups)), rest, row["arrays"], row["series"], whole["origins"][row["origin"]]
    )


def _flat(config: dict) -> dict:
    """{'method.width': 16, …}."""
    flat = {}
    for name, value in config.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _shared(configs: Iterable[dict]) -> dict:
    """The fields in which all configs agree."""
    first, *others = map(_flat, configs)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


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
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _number(value) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
