"""`python -m experiments runs …`: what is in the store, run beside run, and how to clear it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stopgrad.deep.config import Config, flat_config
from stopgrad.deep.measuring.quantities.quantities import shown
from stopgrad.deep.presets import changes
from stopgrad.deep.storage.table import read
from stopgrad.experiments.store.store import ROOT, Entry, Store
from stopgrad.linear_theory.tools.door import Command, Group
from stopgrad.linear_theory.tools.errors import BadInput

SHORTEST = 4  # characters of a key that may stand for it


@dataclass(frozen=True)
class List(Command):
    """Every run in the store: what it is, what became of it, and whether this code would compute the same."""

    state: Literal["finished", "diverged", "running", "unfinished"] | None = None
    """Only runs in this state."""
    stale: bool = False
    """Only runs that other code, or other versions of its numerics, have computed."""
    dataset: str | None = None
    """Only runs on this set."""
    predictor: str | None = None
    """Only runs with this predictor."""
    runs: Path = ROOT
    """Folder of the store."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        entries = [entry for entry in Store(self.runs).entries() if self._wanted(entry)]
        return {"root": str(self.runs), "runs": [row(entry) for entry in entries]}

    def _wanted(self, entry: Entry) -> bool:
        config = entry.config
        return (
            self.state in (None, entry.state)
            and (entry.stale or not self.stale)
            and (self.dataset is None or (config is not None and config.data.dataset == self.dataset))
            and (self.predictor is None or (config is not None and str(config.method.predictor) == self.predictor))
        )

    def text(self, result: dict) -> str:
        """A table, one line a run."""
        if not result["runs"]:
            return f"no such runs in {result['root']}"
        head = ("key", "state", "code", "dataset", "predictor", "seed", "seconds", "diagnosis", "beside the default")
        lines = [
            (
                r["key"],
                r["state"],
                {None: "", True: "this", False: "other"}[r["current_code"]],
                r["dataset"] or "?",
                r["predictor"] or "?",
                _shown(r["seed"]),
                "" if r["seconds"] is None else f"{r['seconds']:.1f}",
                r["diagnosis"] or "",
                "a config that cannot be read" if r["dataset"] is None else in_words(r["changes"]),
            )
            for r in result["runs"]
        ]
        return table(head, lines)


@dataclass(frozen=True)
class Show(Command):
    """What became of a run, in words, and where it is."""

    key: tyro.conf.Positional[str]
    """Its key, or as much of the beginning as belongs to no other."""
    runs: Path = ROOT
    """Folder of the store."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        store = Store(self.runs)
        entry = chosen(store, [self.key])[0]
        if entry.summary is None:
            steps = read(entry.folder).step
            return row(entry) | {"step": int(steps[-1]) if len(steps) else None, "writer": entry.writer}
        record = entry.record
        stale = record.why() if record else "its config cannot be read by this code"
        return entry.summary | row(entry) | {"why_stale": stale}

    def text(self, result: dict) -> str:
        """What the run is, its summary as `python -m deep summary` says it, and its folder."""
        from stopgrad.deep.words.report import text

        about = f"{result['dataset']}, {result['predictor']} predictor, seed {result['seed']}"
        lines = [
            f"{result['key']}: {about}" if result["dataset"] else result["key"],
            f"beside the default: {in_words(result['changes']) or 'nothing'}",
        ]
        if "provenance" in result:
            lines += [
                f"code: {'that of now' if result['current_code'] else result['why_stale']}",
                f"computed on {result['provenance'].get('hardware', 'an unknown machine')}",
                text(result),
            ]
        else:
            measured = "nothing measured yet" if result["step"] is None else f"last measured at step {result['step']}"
            lines.append(f"{result['state']}{' by ' + result['writer'] if result['writer'] else ''}; {measured}")
        return "\n".join([*lines, f"folder: {result['folder']}"])


@dataclass(frozen=True)
class Compare(Command):
    """The settings in which finished runs differ, and their numbers side by side."""

    keys: tyro.conf.Positional[tuple[str, ...]]
    """Two keys or more, or their beginnings."""
    runs: Path = ROOT
    """Folder of the store."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        entries = chosen(Store(self.runs), self.keys)
        if len({entry.key for entry in entries}) < 2:
            raise BadInput("give at least two different keys to compare")
        for entry in entries:
            if entry.record is None:
                raise BadInput(f"the run {entry.key} is {entry.state}; only finished runs can be compared")
        settings = [leaves(entry.config) for entry in entries]
        there = dict.fromkeys(name for s in settings for name in s)
        # of an option that not all have, as it goes with a part, whether those agree that have it
        differ = [name for name in there if len({str(s[name]) for s in settings if name in s}) > 1]
        names = [one.name for one in shown("summary") if any(one.name in entry.summary["last"] for entry in entries)]
        return {
            "settings": {name: [s.get(name, "-") for s in settings] for name in differ},
            "outcome": {
                "state": [entry.state for entry in entries],
                "diagnosis": [entry.summary.get("diagnosis") for entry in entries],
                "code": ["other" if entry.stale else "this" for entry in entries],
                "seconds": [entry.summary["seconds"] for entry in entries],
                **{name: [entry.record.last(name) for entry in entries] for name in names},
                "knn": [(entry.summary.get("knn") or {}).get("after") for entry in entries],
                "probe": [(entry.summary.get("probe") or {}).get("accuracy") for entry in entries],
            },
            "keys": [entry.key for entry in entries],
        }

    def text(self, result: dict) -> str:
        """A column a run: first what differs, then what came out, as last measured."""
        settings = [(f"--{name.replace('_', '-')}", *map(_shown, v)) for name, v in result["settings"].items()]
        numbers = [(name, *map(_shown, v)) for name, v in result["outcome"].items() if any(map(_shown, v))]
        return table(("", *result["keys"]), [*(settings or [("the same settings",)]), ("",), *numbers])


@dataclass(frozen=True)
class Remove(Command):
    """Delete runs; without --yes only say which would go."""

    keys: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY ...]")] = ()
    """Their keys, or as much of the beginning as belongs to no other."""
    stale: bool = False
    """All finished runs that other code, or other versions of its numerics, have computed."""
    unfinished: bool = False
    """All runs that were begun and never finished, and that no process is at work on."""
    yes: bool = False
    """Delete them."""
    runs: Path = ROOT
    """Folder of the store."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        if not (self.keys or self.stale or self.unfinished):
            raise BadInput("name the runs to delete: keys, --stale or --unfinished")
        store = Store(self.runs)
        entries = {entry.key: entry for entry in chosen(store, self.keys)}
        for entry in store.entries():
            if (self.stale and entry.stale) or (self.unfinished and entry.state == "unfinished"):
                entries[entry.key] = entry
        busy = [entry for entry in entries.values() if entry.writer]
        if busy:
            raise BadInput(f"the run {busy[0].key} is being written by {busy[0].writer}; let it finish or leave it")
        rows = [row(entry) for entry in entries.values()]
        if self.yes:
            for name in entries:
                store.remove(name)
        return {"root": str(self.runs), "removed": self.yes, "runs": rows}

    def text(self, result: dict) -> str:
        """What has gone, or would go."""
        said = "removed" if result["removed"] else "would be removed; add --yes to do it"
        if not result["runs"]:
            return f"nothing to remove in {result['root']}"
        rows = [(r["key"], r["state"], r["dataset"] or "?", r["predictor"] or "?") for r in result["runs"]]
        return f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} {said}:\n" + table((), rows)


RUNS = Group(
    "Look into the store of runs: list, show, compare, rm.",
    {"list": List, "show": Show, "compare": Compare, "rm": Remove},
)


# ---------------------------------------------------------------- parts


def chosen(store: Store, keys: Sequence[str]) -> list[Entry]:
    """The runs that keys, or beginnings of keys, stand for. Raises ValueError where one stands for none or several."""
    entries = list(store.entries()) if keys else []

    def one(key: str) -> Entry:
        exact = [entry for entry in entries if entry.key == key]
        found = exact or [entry for entry in entries if entry.key.startswith(key)]
        if not found or (len(key) < SHORTEST and not exact):
            short = f"; give at least {SHORTEST} characters of its key" if len(key) < SHORTEST else ""
            raise BadInput(f"there is no run {key!r} in {store.root}{short}")
        if len(found) > 1:
            raise BadInput(f"{key!r} may be {' or '.join(entry.key for entry in found[:3])}; give more of the key")
        return found[0]

    return [one(key) for key in keys]


def row(entry: Entry) -> dict:
    """A run in one line, as values."""
    config, summary = entry.config, entry.summary or {}
    return {
        "key": entry.key,
        "state": entry.state,
        "dataset": config.data.dataset if config else None,
        "predictor": str(config.method.predictor) if config else None,
        "seed": config.seed if config else None,
        "changes": changes(config) if config else {},
        "diagnosis": summary.get("diagnosis"),
        "seconds": summary.get("seconds"),
        "current_code": None if entry.stale is None else not entry.stale,
        "folder": str(entry.folder),
    }


def leaves(config: Config) -> dict:
    """Every field of a config, the groups' among them, by name."""
    return flat_config(config) | {"seed": config.seed}


def in_words(fields: dict) -> str:
    """Settings as `name value` pairs; dataset and predictor have columns of their own."""
    return ", ".join(
        f"{name.replace('_', '-')} {'none' if value is None else _shown(value)}"
        for name, value in fields.items()
        if name not in ("dataset", "predictor")
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces."""
    rows = [head, *lines] if head else lines
    columns = max(map(len, rows))
    widths = [max(len(row[k]) for row in rows if k < len(row)) for k in range(columns)]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows)


def _shown(value) -> str:
    """A value as a person reads it; nothing where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)
