"""`python -m experiments run PAPER …`: all runs of the papers' suites, on whatever there is to run them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from stopgrad.deep.commands import read_seeds
from stopgrad.deep.config import Config
from stopgrad.experiments.launch.launcher import choose, launch
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.launch.progress import clock
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.papers import chosen
from stopgrad.experiments.papers import suite as named
from stopgrad.experiments.store.store import ROOT, Store
from stopgrad.experiments.suites.grid import Suite
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput

SOME_FAILED = 3
"""Exit status where a run failed, all the rest being told: not 1, which is what Python leaves a traceback with."""


@dataclass(frozen=True)
class RunSuite(Command):
    """Carry out suites: finished runs are found, unfinished ones resumed, those of other processes left to them."""

    suite: tyro.conf.Positional[tuple[str, ...]] = ()
    """Papers whose suites to carry out; all by default."""
    paper: tuple[str, ...] = ()
    """The same, as in other commands."""
    scale: str = "cpu"
    """smoke, quick, cpu, cifar, gpu or paper: what the runs are made of."""
    arms: tuple[str, ...] = ()
    """Only these arms."""
    whole: bool = False
    """Also the arms of side questions, for which else the record answers."""
    seeds: str | None = None
    """Only these seeds: 0-2, or 0,2,5; None: the suite's own."""
    launcher: Literal["auto", "inprocess", "pool", "slurm"] = "auto"
    """auto: worker processes on a CPU, one run after the other with an accelerator."""
    workers: int | None = None
    """Worker processes of one thread each, which share an accelerator if they use one; None: as many as cores."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the runs are computed on."""
    minutes: float | None = None
    """Stop after so long, for the same command to go on later; None: when all is done."""
    runs: Path = ROOT
    """Folder of the store."""
    slurm: Slurm = Slurm()
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """Carry out what is not finished. Raises ValueError for an unknown suite, scale or arm."""
        if self.launcher != "slurm" and self.slurm != Slurm():
            raise BadInput("flags of Slurm jobs need --launcher slurm")
        began = time.monotonic()
        names = names_of(*self.suite, *self.paper)
        suites = [named(name, self.scale) for name in names]
        entries = select(suites, self.arms, self.seeds, self.whole)
        labels = [f"{arm}, seed {seed}" for arm, seed, _ in entries]
        launcher = choose(self.launcher, self.workers, self.slurm, self.device)
        configs, title = [config for *_, config in entries], f"{', '.join(names)}, {self.scale}"
        outcomes = launch(configs, Store(self.runs), launcher, title, labels, self.minutes)
        found, seconds = summed_up([entry[:2] for entry in entries], outcomes), time.monotonic() - began
        if self.minutes is not None and seconds >= 60 * self.minutes:
            found["signal"] = 0  # to stop then is what was asked for
        done = {arm for arm, *_ in entries}
        aside = [] if self.arms else [arm for suite in suites for arm in suite.aside if arm not in done]
        return {"suites": names, "scale": self.scale} | found | {"aside": aside, "seconds": seconds}

    def text(self, result: dict) -> str:
        """What is finished and what is not, and why."""
        fresh = f", {result['fresh']} of them now" if result["fresh"] else ""
        lines = [
            f"{', '.join(result['suites'])}, {result['scale']}: {result['finished']} of {result['total']} runs "
            f"finished{fresh}, in {clock(result['seconds'])}"
        ]
        lines += [f"diverged: {run['arm']}, seed {run['seed']}" for run in result["diverged"]]
        if result["failed"]:
            lines.append(f"{len(result['failed'])} failed, for the reasons above")
            lines += fetching(result)
        if result["aside"]:
            lines.append(f"left to their record, unless with --whole: {', '.join(result['aside'])}")
        if result["stopped"]:
            lines.append(f"{result['stopped']} stopped; the same command goes on with them")
        return "\n".join(lines)

    def status(self, result: dict) -> int:
        """0; 3 where a run failed; 128 + the signal where one told it to stop."""
        return exit_status(result)


def exit_status(result: dict) -> int:
    """That of `summed_up`: 0; 3 where a run failed; 128 + the signal where one told it to stop."""
    if result["signal"]:
        return 128 + result["signal"]
    return SOME_FAILED if result["failed"] else 0


def fetching(result: dict) -> list[str]:
    """How to fetch the data for want of which runs of `summed_up` failed, each set once."""
    found = dict.fromkeys(run["fetch"] for run in result["failed"] if run["fetch"])
    return [f"to fetch the data: {command}" for command in found]


def names_of(*papers: str) -> list[str]:
    """The suites that are meant: those of these papers, each once, or all. Raises ValueError for one without."""
    return [paper.key for paper in chosen(papers, having="suite")]


def select(
    suites: Sequence[Suite], arms: Sequence[str], seeds: str | None, whole: bool = False
) -> list[tuple[str, int, Config]]:
    """(arm, seed, config) of the suites' runs, suite by suite, with these arms and seeds alone, or with all.

    Without names, arms of side questions are there only if `whole`.

    Raises ValueError for an arm that no suite has, and for seeds that cannot be read.
    """
    there = dict.fromkeys(arm for suite in suites for arm in suite.arms)
    for arm in arms:
        if arm not in there:
            names = ", ".join(suite.name for suite in suites)
            raise BadInput(f"there is no arm {arm!r} in {names}; there are {', '.join(there)}")
    found = []
    for suite in suites:
        wanted = arms or [name for name in suite.arms if whole or name not in suite.aside]
        kept = {name: arm for name, arm in suite.arms.items() if name in wanted}
        if seeds is not None:
            kept = {name: replace(arm, seeds=tuple(read_seeds(seeds))) for name, arm in kept.items()}
        found += replace(suite, arms=kept).configs()
    return found


def summed_up(names: Sequence[tuple[str, int]], outcomes: Sequence[Outcome]) -> dict:
    """What became of the runs whose (arm, seed) are `names`; a run that serves several arms counts once."""
    by_key = {outcome.key: (name, outcome) for name, outcome in reversed(list(zip(names, outcomes)))}
    runs = [by_key[key] for key in dict.fromkeys(outcome.key for outcome in outcomes)]
    states = Counter(outcome.state for _, outcome in runs)

    def listed(state: str) -> list[dict]:
        return [
            {"arm": arm, "seed": seed, "key": outcome.key, "reason": outcome.reason, "fetch": outcome.fetch}
            for (arm, seed), outcome in runs
            if outcome.state == state
        ]

    return {
        "total": len(runs),
        "finished": states["finished"] + states["diverged"],
        "fresh": sum(outcome.fresh for _, outcome in runs if outcome.state in ("finished", "diverged")),
        "failed": listed("failed"),
        "diverged": listed("diverged"),
        "stopped": states["stopped"],
        "signal": max((outcome.signal for _, outcome in runs), default=0),
    }
