"""`python -m experiments run SUITE`: all runs of a suite, on whatever there is to run them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from stopgrad.deep.commands import read_seeds
from stopgrad.experiments.launch.launcher import choose, launch
from stopgrad.experiments.launch.one_run import Outcome, to_fetch
from stopgrad.experiments.launch.progress import clock
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.store.store import ROOT, Store
from stopgrad.experiments.suites.grid import Suite
from stopgrad.experiments.suites.suites import suite as named
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput

SOME_FAILED = 3
"""Exit status where a run failed, all the rest being told: not 1, which is what Python leaves a traceback with."""


@dataclass(frozen=True)
class RunSuite(Command):
    """Carry out a suite: finished runs are found, unfinished ones resumed, those of other processes left to them."""

    suite: tyro.conf.Positional[str]
    """Its name."""
    scale: str = "cpu"
    """smoke, quick, cpu, cifar, gpu or paper: what the runs are made of."""
    arms: tuple[str, ...] = ()
    """Only these arms."""
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
        chosen = select(named(self.suite, self.scale), self.arms, self.seeds)
        entries = chosen.configs()
        labels = [f"{arm}, seed {seed}" for arm, seed, _ in entries]
        launcher = choose(self.launcher, self.workers, self.slurm, self.device)
        configs, title = [config for *_, config in entries], f"{self.suite}, {self.scale}"
        outcomes = launch(configs, Store(self.runs), launcher, title, labels, self.minutes)
        found, seconds = summed_up([entry[:2] for entry in entries], outcomes), time.monotonic() - began
        if self.minutes is not None and seconds >= 60 * self.minutes:
            found["signal"] = 0  # to stop then is what was asked for
        return {"suite": self.suite, "scale": self.scale} | found | {"seconds": seconds}

    def text(self, result: dict) -> str:
        """What is finished and what is not, and why."""
        fresh = f", {result['fresh']} of them now" if result["fresh"] else ""
        lines = [
            f"{result['suite']}, {result['scale']}: {result['finished']} of {result['total']} runs finished{fresh}, "
            f"in {clock(result['seconds'])}"
        ]
        lines += [f"diverged: {run['arm']}, seed {run['seed']}" for run in result["diverged"]]
        if result["failed"]:
            lines.append(f"{len(result['failed'])} failed, for the reasons above")
            lines += fetching(result)
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
    found = [to_fetch(run["reason"] or "") for run in result["failed"]]
    return [f"to fetch the data: {command}" for command in dict.fromkeys(found) if command]


def select(suite: Suite, arms: Sequence[str], seeds: str | None) -> Suite:
    """The suite with these arms and seeds alone; all where none are named.

    Raises ValueError for an arm that it has not, and for seeds that cannot be read.
    """
    for arm in arms:
        if arm not in suite.arms:
            raise BadInput(f"{suite.name} has no arm {arm!r}; there are {', '.join(suite.arms)}")
    chosen = {name: arm for name, arm in suite.arms.items() if not arms or name in arms}
    if seeds is not None:
        chosen = {name: replace(arm, seeds=tuple(read_seeds(seeds))) for name, arm in chosen.items()}
    return replace(suite, arms=chosen)


def summed_up(names: Sequence[tuple[str, int]], outcomes: Sequence[Outcome]) -> dict:
    """What became of the runs whose (arm, seed) are `names`; a run that serves several arms counts once."""
    by_key = {outcome.key: (name, outcome) for name, outcome in reversed(list(zip(names, outcomes)))}
    runs = [by_key[key] for key in dict.fromkeys(outcome.key for outcome in outcomes)]
    states = Counter(outcome.state for _, outcome in runs)

    def listed(state: str) -> list[dict]:
        return [
            {"arm": arm, "seed": seed, "key": outcome.key, "reason": outcome.reason}
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
