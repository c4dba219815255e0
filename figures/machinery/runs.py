"""Figures whose data are runs of a suite: which runs they take, and where these are kept."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from stopgrad.experiments import papers
from stopgrad.experiments.store import evidence, store
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.figures.machinery.data import origin
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns
from stopgrad.linear_theory.tools.origin import digest

if TYPE_CHECKING:
    import xarray as xr


def gather(source: FromRuns, scale: str, root: Path) -> Runs:
    """The finished runs under `root` that the figure is of. Raises ValueError for a scale that there is not."""
    suite = papers.suite(source.suite, scale)
    arms = {name: suite.arms[name] for name in source.arms if name in suite.arms}
    kept = evidence.backed(store.Store(root), suite)
    found = {
        name: {seed: kept.find(dataclasses.replace(arm.config, seed=seed)) for seed in arm.seeds}
        for name, arm in arms.items()
    }
    records = {
        name: {seed: run for seed, run in runs.items() if run and (run.whole or source.ends)}
        for name, runs in found.items()
    }
    return Runs(source.suite, scale, arms, records)


def not_planned(source, scale: str) -> str | None:
    """That no run could ever be of a figure, for want of its arms at this scale, in words, and what would make some;
    None where one could.

    `source`: its `compute`, of any kind. Raises ValueError for a scale that there is not.
    """
    if not isinstance(source, FromRuns) or not papers.suite(source.suite, scale).arms.keys().isdisjoint(source.arms):
        return None
    there = papers.planned_elsewhere(source.suite, scale)
    other = min((there[arm] for arm in source.arms if arm in there), key=SCALES.index, default=None)
    command = f"; at scale {other} it is: {papers.command(source.suite, other, source.arms)}" if other else ""
    return f"not in the suite {source.suite} at scale {scale}{command}"


def compute_from(source: FromRuns, runs: Runs) -> "xr.Dataset":
    """The figure's data, with suite, scale and the runs that they come from as attributes."""
    used = [" ".join([arm, *(run.key for run in found.values())]) for arm, found in runs.records.items() if found]
    done = {name: (len(runs.of(name)), len(arm.seeds)) for name, arm in runs.arms.items()}
    missing = [f"{name} ({have} of {asked})" for name, (have, asked) in done.items() if have < asked]
    about = {"run_ids": "; ".join(used), "not_measured": ", ".join(missing) or "nothing"}
    return source.compute(runs).assign_attrs({"suite": runs.suite, "scale": runs.scale, **about, **_recorded(runs)})


def _recorded(runs: Runs) -> dict[str, str]:
    """{"recorded": where and with what those were computed of which a record alone is left}, if any."""
    said = dict.fromkeys(run.recorded for found in runs.records.values() for run in found.values() if run.recorded)
    return {"recorded": "; ".join(said)} if said else {}


def origin_of(source: FromRuns, runs: Runs) -> dict[str, str]:
    """What decides the data: the code and arguments of `compute`, the scale with its arms and seeds, and every run."""
    arms = {name: list(arm.seeds) for name, arm in runs.arms.items()}
    asked = {"scale": runs.scale, "arms": digest(f"{arms}")}
    return origin(source.compute) | asked | _recorded(runs) | {f"run {name}": key for name, key in runs.ids().items()}
