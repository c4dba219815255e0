"""`python -m experiments estimate PAPER …`: how long suites will take on this machine, from their own first runs.

For each kind of run as many as there are workers are carried out at once, as the suite itself would, so that cores that
share their caches, and whatever else the machine does, are in the measurement. They are kept: nothing is done twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from stopgrad.deep.config import Config
from stopgrad.experiments.commands.suite_command import names_of, select
from stopgrad.experiments.launch.progress import clock
from stopgrad.experiments.suites.suites import suite as named
from stopgrad.linear_theory.tools.door import Command

OTHER_WORK, AT_LEAST = 18, 75.0
"""What `make reproduce` does beside the runs: in runs of the dearest kind, and in seconds where these are tiny; both as
measured on two cores with AVX-512."""


@dataclass(frozen=True)
class Estimate(Command):
    """Say how long suites will take on this machine: their first runs are carried out, timed and kept."""

    suite: tyro.conf.Positional[tuple[str, ...]] = ()
    """Papers whose suites are meant; all by default."""
    paper: tuple[str, ...] = ()
    """The same, as in other commands."""
    scale: str = "cpu"
    """smoke, quick, cpu, cifar, gpu or paper: what the runs are made of."""
    workers: int | None = None
    """Worker processes of one thread each; None: as many as there are cores."""
    runs: Path = Path("runs")
    """Folder of the store."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """Carry out the first runs of each kind. Raises ValueError for an unknown suite or scale."""
        from stopgrad.experiments.launch.launcher import choose, launch
        from stopgrad.experiments.store.store import Store

        store, launcher = Store(self.runs), choose("auto", self.workers)
        workers = getattr(launcher, "workers", 1)
        names = names_of(*self.suite, *self.paper)
        entries = select([named(name, self.scale) for name in names], (), None)
        left = [(f"{arm}, seed {seed}", config) for arm, seed, config in entries if store.find(config) is None]
        about = {"suites": names, "scale": self.scale, "runs": len(entries), "left": len(left), "workers": workers}
        pace = []  # seconds of wall-clock time that one more run of each kind takes
        seconds = 0.0
        for runs in by_kind(left):
            labels, configs = zip(*runs[:workers])
            outcomes = launch(configs, store, launcher, "the first runs, timed", labels)
            if signal := max(outcome.signal for outcome in outcomes):
                return about | {"seconds": None, "signal": signal}
            pace.append(sum(outcome.seconds for outcome in outcomes) / len(outcomes) / workers)
            seconds += pace[-1] * (len(runs) - len(configs))
        other = max(OTHER_WORK * max(pace), AT_LEAST) if pace else 0.0
        return about | {"seconds": seconds + other, "signal": 0}

    def text(self, result: dict) -> str:
        """One sentence."""
        if not result["left"]:
            return f"All {result['runs']} runs are finished; what is left takes a fraction of a minute."
        if result["signal"]:
            return "stopped; what the first runs have done is kept"
        at_once = f"{result['workers']} at a time" if result["workers"] > 1 else "one after the other"
        return (
            f"About {clock(result['seconds'])} on this machine, as busy as it is now: {result['left']} runs, "
            f"{at_once}, then linear network, pictures and report."
        )

    def status(self, result: dict) -> int:
        """0; 128 + the signal where one told it to stop."""
        return 128 + result["signal"] if result["signal"] else 0


def by_kind(runs: Sequence[tuple[str, Config]]) -> list[list[tuple[str, Config]]]:
    """`runs`, (label, config) each, in groups that cost about the same: one network on one set of data, as long."""
    groups: dict[tuple, list] = {}
    for label, config in runs:
        kind = (config.data, config.method.backbone, config.optimisation.epochs)
        groups.setdefault(kind, []).append((label, config))
    return list(groups.values())
