"""Bringing a picture up to date, and telling whether it is: from its source to its data file to the picture.

Beside NAME.png stand its caption, NAME.txt, and NAME.json, which says what the picture was made from: digests of its
data file and of the code that drew it. It is current while all of these are what they would be now.
"""

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import xarray as xr

from stopgrad.experiments.papers import command
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.figures.machinery import data, runs, style
from stopgrad.figures.machinery.picture import FromRuns, Picture, Recorded, Released
from stopgrad.figures.machinery.places import Places
from stopgrad.linear_theory.tools import origin
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file, replace_file


class Found(NamedTuple):
    """A picture's data, now."""

    path: Path
    """Of the file that holds them."""
    dataset: xr.Dataset | None
    """None where there is none."""
    why: str | None
    """What makes the dataset stale, or keeps it from being there; None where it is as it would be made now."""
    renew: Callable[[], xr.Dataset] | None
    """Computes and writes it; None where that is for an experiment to do."""


# ---------------------------------------------------------------- from the source to the data


def find_data(name: str, one: Picture, places: Places) -> Found:
    """The data of the picture `name` as they are now; nothing is computed."""
    path = places.out / "data" / f"{name}.nc"
    match one.compute:
        case Recorded() as source:
            path = places.results / source.path
            there = path.is_file()
            return Found(path, source.read(path) if there else None, None if there else "its data are not there", None)
        case Released() as source:
            there = places.released and source.read(places.released)
            if there is None:
                return Found(path, data.kept(path, {})[0], f"it needs {source.words}", None)
            compute, now = lambda: there, data.origin(source.read) | {"released": data.digest(there)}
        case FromRuns() as source:
            taken = runs.gather(source, places.scale, places.runs)
            if not taken.arms:
                return Found(path, None, runs.not_planned(one.compute, places.scale), None)
            if not taken.ids():
                return Found(path, data.kept(path, {})[0], f"there is no run of it at scale {places.scale}", None)
            compute, now = partial(runs.compute_from, source, taken), runs.origin_of(source, taken)
        case compute:
            now = data.origin(compute)
    return Found(path, *data.kept(path, now), lambda: data.cached(path, compute, now)[0])


def how(name: str, one: Picture, places: Places) -> str:
    """How to get data that only an experiment can make, or why none can, in a sentence."""
    without = runs.not_planned(one.compute, places.scale)
    if without:
        return f"{name}: {without}"
    if isinstance(one.compute, Released):
        return f"{name} needs {one.compute.words}"
    return f"{name} needs an experiment's data; make them with `{made_by(one, places)}`"


def made_by(one: Picture, places: Places) -> str | None:
    """The command of the experiment behind a picture; None where there is none."""
    match one.compute:
        case Recorded() as source:
            return source.made_by
        case FromRuns() as source:
            return command(source.suite, places.scale, source.arms)
    return None


# ---------------------------------------------------------------- from the data to the picture


def bring(name: str, one: Picture, places: Places, pdf: bool, say: Callable[[str], None]) -> Path | None:
    """Bring the picture up to date under `places.out`; returns its path, or None where its experiment has not run."""
    found, target = find_data(name, one, places), places.out / f"{name}.png"
    if found.why and not found.renew:
        return None
    prepare_file(target, ".png")  # before anything is computed that could then not be written
    dataset = found.dataset
    if found.why:
        done = "collected from runs" if isinstance(one.compute, FromRuns) else "computed"
        say(f"{name}: {done}, because {found.why}")
        dataset = found.renew()
    text = caption(name, one, dataset, places)
    record = record_of(one, found.path, places)
    wanted = [target, *([target.with_suffix(".pdf")] if pdf else [])]
    if not all(path.is_file() for path in wanted) or _changes(_record(target), record, target, text):
        style.save(one.draw(dataset), target, text, pdf=pdf)
        whole = record | {"picture": _digest(target)}
        replace_file(target.with_suffix(".json"), lambda draft: draft.write_text(json.dumps(whole, indent=1)))
    return target


class Brought(NamedTuple):
    """What became of a picture, as a process tells another."""

    path: Path | None
    """As `bring` returns it; None where it raised something, too."""
    said: list[str]
    """On the way; last the traceback of what was raised, unless that is a sentence for the user."""
    error: Exception | None = None


def brought(name: str, one: Picture, places: Places, pdf: bool) -> Brought:
    """What `bring` does, with what is raised as a value: one picture that fails takes no other with it."""
    said = []
    try:
        return Brought(bring(name, one, places, pdf, said.append), said)
    except (BadInput, OSError) as error:
        return Brought(None, said, error)
    except Exception as error:
        return Brought(None, [*said, traceback.format_exc()], RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def caption(name: str, one: Picture, dataset: xr.Dataset, places: Places) -> str:
    """What stands beside the picture."""
    shown = {**dataset.attrs, **{k: dataset[k].values for k in dataset.coords if k in dataset.dims}}
    shown.pop("origin", None)  # digests of the code, for the machine
    before = made_by(one, places)
    scale = f" --scale {places.scale}" if isinstance(one.compute, FromRuns) else ""
    return style.caption(
        f"{name}: {one.title}",
        one.text,
        source=one.source,
        parameters=shown,
        reproduce=f"{before + '; ' if before else ''}python -m figures make {name}{scale}",
    )


def record_of(one: Picture, source: Path, places: Places) -> dict:
    """What a picture drawn now would be made from."""
    return {
        "scale": places.scale if isinstance(one.compute, FromRuns) else None,
        "data": _digest(source),
        "drawing": drawing(one.draw) | {"matplotlib": version("matplotlib")},
    }


def drawing(draw: Callable, root: Path = origin.ROOT) -> dict[str, str]:
    """{module: digest} of what `draw` can reach in its own file and in figures, what draws included; and its name."""
    module, called = origin.call(draw)
    code = origin.modules(module, root=root, pictures=True)
    return {
        "function": called,
        **{name: found for name, found in code.items() if name == module or name.startswith(origin.PICTURES)},
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _record(picture: Path) -> dict | None:
    """What stands in NAME.json; None where nothing does that could be read, or something else."""
    try:
        record = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
        whole = isinstance(record["drawing"], dict) and record["scale"] in (None, *SCALES)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return record if whole else None


# ---------------------------------------------------------------- whether the picture is what it would be now


State = Literal["current", "stale", "no data", "not in the suite"]


class Verdict(NamedTuple):
    """What `examine` has found of one picture."""

    state: State
    why: str | None
    """What made it stale, or what its data wait for."""


def examine(name: str, one: Picture, places: Places) -> Verdict:
    """Whether the picture under `places.out` is current; nothing is drawn or written."""
    target = places.out / f"{name}.png"
    record = _record(target)
    places = replace(places, scale=(record or {}).get("scale") or places.scale)
    found = find_data(name, one, places)
    if not target.is_file():
        if runs.not_planned(one.compute, places.scale):
            return Verdict("not in the suite", found.why)
        if found.why and not found.renew:
            before = made_by(one, places)
            return Verdict("no data", f"{found.why}; make them with `{before}`" if before else found.why)
        return Verdict("stale", "it was never made")
    if found.dataset is None:
        return Verdict("stale", found.why)
    text, now = caption(name, one, found.dataset, places), record_of(one, found.path, places)
    why = "; ".join(filter(None, [found.why, *_changes(record, now, target, text)]))
    return Verdict("stale" if why else "current", why or None)


def settled(name: str, one: Picture, places: Places, pdf: bool = False) -> Brought | None:
    """What `brought` would return at once, the picture being current or its data not to be had; None where it may not.

    Quick: runs are looked for only where they have made a picture before. What cannot be read is for `brought` to tell.
    """
    try:
        if runs.not_planned(one.compute, places.scale):
            return Brought(None, [])
        if isinstance(one.compute, Recorded | Released):
            found = find_data(name, one, places)
            if found.why and not found.renew:
                return Brought(None, [])
        target = places.out / f"{name}.png"
        record = _record(target)
        there = record and record["scale"] in (None, places.scale) and (not pdf or target.with_suffix(".pdf").is_file())
        return Brought(target, []) if there and examine(name, one, places).state == "current" else None
    except Exception:
        return None


def _changes(record: dict | None, now: dict, picture: Path, text: str) -> list[str]:
    """What is no longer as it was when the picture was made, its caption included, which would be `text` now."""
    if not record:
        return ["it does not say what it was made from"]
    words = {"scale": "it is of another scale", "data": "it is older than its data"}
    changed = [sentence for key, sentence in words.items() if record.get(key) != now[key]]
    code = origin.difference(record["drawing"], now["drawing"])
    foreign = record.get("picture") != _digest(picture)
    return [
        *changed,
        *_caption_changes(picture.with_suffix(".txt"), text),
        *([f"drawing code: {code}"] if code else []),
        *(["the file itself changed"] if foreign else []),
    ]


def _caption_changes(path: Path, text: str) -> list[str]:
    try:
        return [] if path.read_text(encoding="utf-8", errors="replace") == text else ["its caption changed"]
    except OSError:
        return ["its caption is not there"]
