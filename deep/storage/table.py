"""The append-only table of a run: scalars as lines of JSON, arrays as raw numbers beside them.

`metrics.jsonl` has one row a measurement, {"step": …, scalars …, "arrays": {FILE: length}}; a row's array is the next
row of the file NAME.f32 or NAME.f64 (little-endian), written before the line that speaks of it. So a process killed at
any point leaves whole rows and at most a tail that no line covers, which is cut off before more is appended; a run
resumed from a checkpoint leaves the same bytes as one never stopped, but for the scalars that are wall-clock times.
Files of these names and suffixes in the run's folder are the table's alone.
"""

import functools
import hashlib
import json
import math
import numbers
import operator
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.tools.files import prepare_file, replace_file

ROWS = "metrics.jsonl"
WALL_CLOCK = "seconds"
"""A scalar whose name begins so is a wall-clock time, the one thing that differs from run to run."""
_SUFFIX = {np.dtype("<f4"): ".f32", np.dtype("<f8"): ".f64"}
RAW = tuple(_SUFFIX.values())
"""Suffixes of a table's files beside ROWS."""
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_DTYPE = {suffix: dtype for dtype, suffix in _SUFFIX.items()}


class Series(NamedTuple):
    """An array as it was measured over time."""

    step: np.ndarray
    """(rows,) int64: the step of each row."""
    values: np.ndarray
    """(rows, n), float32 or float64."""


class Columns(NamedTuple):
    """A table as NumPy arrays."""

    step: np.ndarray
    """(rows,) int64, never falling."""
    scalars: dict[str, np.ndarray]
    """(rows,) float64 each; NaN where a row lacks the scalar or it was not finite."""
    arrays: dict[str, Series]
    """By name, with the rows that have it."""


class Table:
    """A run's table, opened to be appended to; what a killed process left half-written is cut off first.

    Its one writer must hold the run's lock. Closes its files at the end of a `with` block.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = {}
        self.cut(math.inf)

    def append(self, step: int, scalars: Mapping[str, float], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Add a row and hand it to the system: it survives the death of the process (of the machine, after `sync`).

        Scalars are numbers (a non-finite one is kept as null), arrays one-dimensional, of the same length in every
        row, and kept in float32 unless they are float64. Rows may share a step. Raises ValueError, with nothing
        written, for a step that falls, a name that cannot serve or an array of another shape.
        """
        if step < self._last:
            raise ValueError(f"a row of step {step} cannot follow one of step {self._last}; cut the table first")
        packed = {name: _packed(name, array) for name, array in (arrays or {}).items()}
        kinds = {name: _kind(name, array) for name, array in packed.items()}
        for name, kind in kinds.items():
            if self._kinds.get(name, kind) != kind:
                raise ValueError(f"array {name} is now {_words(kind)} and was {_words(self._kinds[name])}")
        taken = {"step", "arrays"} | self._kinds.keys() | kinds.keys()
        if not taken.isdisjoint(scalars):
            raise ValueError(f"a scalar cannot be called {min(taken & scalars.keys())!r}; the name is taken")
        row = {"step": int(step), **{name: _plain(value) for name, value in scalars.items()}}
        if kinds:
            row["arrays"] = dict(kinds.values())
        self._kinds |= kinds
        for name, array in packed.items():
            self._write(kinds[name][0], array.tobytes())
        self._write(ROWS, _ENCODE(row).encode() + b"\n")
        self._last = row["step"]

    def cut(self, step: float) -> None:
        """Drop the rows after `step`, and whatever is not a whole row; −1 empties the table."""
        self.close()
        kept = [row for row in _rows(self._folder) if row.step <= step]
        sizes = Counter({ROWS: kept[-1].end if kept else 0})
        for row in kept:
            sizes.update({name: n * _itemsize(name) for name, n in row.arrays.items()})
        for path in _data_files(self._folder):
            if path.stat().st_size > sizes[path.name] > 0:
                os.truncate(path, sizes[path.name])
            elif not sizes[path.name]:
                path.unlink()
        self._last = kept[-1].step if kept else 0
        self._kinds = {file[:-4]: (file, n) for row in kept for file, n in row.arrays.items()}

    def sync(self) -> None:
        """Have every row on the disk; to be called before the checkpoint that relies on them."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files; the next row opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _write(self, name: str, content: bytes) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("ab")
        self._files[name].write(content)
        self._files[name].flush()


def read(folder: Path) -> Columns:
    """The whole rows of the table in `folder`, also while it is being written; no rows where there is no table."""
    rows = list(_rows(folder))
    steps = np.array([row.step for row in rows], dtype=np.int64)
    names = dict.fromkeys(name for row in rows for name in row.scalars)
    absent = dict.fromkeys(names)
    scalars = {name: np.array([(absent | row.scalars)[name] for row in rows], dtype=np.float64) for name in names}
    return Columns(steps, scalars, _arrays(folder, rows))


def _arrays(folder: Path, rows: list["_Row"]) -> dict[str, Series]:
    steps, arrays = np.array([row.step for row in rows], dtype=np.int64), {}
    for name, n in {name: n for row in rows for name, n in row.arrays.items()}.items():
        series = steps[[name in row.arrays for row in rows]]
        content = np.fromfile(Path(folder) / name, dtype=_DTYPE[name[-4:]], count=len(series) * n)
        arrays[name[:-4]] = Series(series, content.reshape(-1, n))
    return arrays


def export_npz(folder: Path, path: Path) -> None:
    """Write the table as NumPy's .npz: step, each scalar, and for an array NAME its rows and their NAME.step.

    Raises ValueError, naming it, if `path` cannot be written.
    """
    columns = read(folder)
    entries = {"step": columns.step, **columns.scalars}
    for name, series in columns.arrays.items():
        entries |= {name: series.values, f"{name}.step": series.step}
    replace_file(prepare_file(Path(path), ".npz"), lambda draft: np.savez_compressed(draft, **entries))


def fingerprint(folder: Path) -> str:
    """A digest of all that the table holds, wall-clock times excepted: equal for two tables that agree bit by bit.

    A table that has not been touched since this process last looked is not read again.
    """
    files = [(path.name, path.stat()) for path in _data_files(folder)] if Path(folder).is_dir() else []
    stamps = tuple((name, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for name, of in files)
    fresh = any(abs(time.time() - of.st_ctime) < _FRESH for _, of in files)
    return (_fingerprint.__wrapped__ if fresh else _fingerprint)(Path(folder).absolute(), stamps)


_FRESH = 2.0
"""Seconds in which a file may change once more, and its times say nothing of it."""


@functools.lru_cache(maxsize=4096)
def _fingerprint(folder: Path, stamps: tuple) -> str:
    digest = hashlib.sha256()
    rows = list(_rows(folder))
    for row in rows:
        scalars = {name: value for name, value in row.scalars.items() if not name.startswith(WALL_CLOCK)}
        digest.update(json.dumps([row.step, scalars, row.arrays]).encode())
    for name, series in _arrays(folder, rows).items():
        if not name.startswith(WALL_CLOCK):
            digest.update(series.values.tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- rows


class _Row(NamedTuple):
    end: int
    """Bytes of the file up to the row's end."""
    step: int
    scalars: dict[str, float | int | None]
    arrays: dict[str, int]


def _rows(folder: Path) -> Iterator[_Row]:
    """The rows of a table up to the first that is not whole, the arrays it speaks of included."""
    path = Path(folder) / ROWS
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is half a row, or nothing
    left = {file.name: file.stat().st_size for file in _data_files(folder)}
    end = 0
    for k, line in enumerate(lines, 1):
        end += len(line) + 1
        try:
            row = json.loads(line)
            step, arrays = operator.index(row.pop("step")), row.pop("arrays", {})
            for name, n in arrays.items():
                left[name] -= n * _itemsize(name)
        except (ValueError, KeyError, TypeError, AttributeError):
            left = {"": -1}
        if min(left.values()) < 0:
            warnings.warn(f"{path}, line {k}, is damaged; rows from there on are left out", stacklevel=2)
            return
        yield _Row(end, step, row, arrays)


def _data_files(folder: Path) -> list[Path]:
    """The table's files, the rows first: cut in this order, no line ever speaks of an array that is gone."""
    files = [path for path in Path(folder).iterdir() if path.name == ROWS or path.suffix in _DTYPE]
    return sorted(files, key=lambda path: (path.name != ROWS, path.name))


def _itemsize(name: str) -> int:
    return _DTYPE[name[-4:]].itemsize


def _plain(value) -> float | int | None:
    """A number as JSON has it. Exact: float32 is widened, and JSON's text of a float64 reads back as the same bits."""
    if not isinstance(value, float) and isinstance(value, numbers.Integral):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else None


def _packed(name: str, array) -> np.ndarray:
    """The array as it stands in its file."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} cannot name an array; use letters, digits and underscores, as in a variable's name")
    array = np.asarray(array)
    array = array.astype("<f8" if array.dtype == np.float64 else "<f4", copy=False)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"array {name} has shape {array.shape}; it must be one-dimensional and not empty")
    return array


def _kind(name: str, array: np.ndarray) -> tuple[str, int]:
    """An array's file and length, which no later row may change."""
    return name + _SUFFIX[array.dtype], len(array)


def _words(kind: tuple[str, int]) -> str:
    return f"{kind[0]} of length {kind[1]}"
