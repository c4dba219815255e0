"""`python -m figures reproduce`: everything that the papers' studies are, from the first run to the report.

Steps are imported where they begin, so that no help text waits for them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stopgrad.experiments.store.store import ROOT
from stopgrad.figures.machinery.places import Places
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.processes import number_of_workers, start_server

MINUTES = ("smoke", "quick", "cpu")
"""Scales whose first runs are over soon enough to tell from them how long the others take."""
QUICK = {"seeds": 1, "views": 256}
"""Of the linear network on the digits, where the rest takes as little; so few views double X's error, to 1.4 %."""


@dataclass(frozen=True)
class Reproduce(Command):
    """Carry out every study, draw every figure and write the report, in one process; what is finished stays as it is.

    First says how long it will take. Where some runs fail they are named, and what the others show is told all the
    same; anything else that goes wrong in a step ends it there.
    """

    scale: str = "cpu"
    """smoke, quick, cpu, cifar, gpu or paper: what the suites' runs are made of."""
    workers: int | None = None
    """Worker processes of one thread each; None: as many as there are cores."""
    runs: Path = ROOT
    """Folder of the run store."""
    out: Path = Path("out")
    """Folder for the pictures, the report and what the experiments leave."""
    json: bool = False

    def steps(self) -> Iterator[tuple[str, Command]]:
        """The commands that it stands for, by name, in their order."""
        from stopgrad.experiments.commands.estimate import Estimate
        from stopgrad.experiments.commands.suite_command import RunSuite
        from stopgrad.experiments.linear_digits.command import LinearDigits
        from stopgrad.figures.commands import All
        from stopgrad.figures.report.report import Report

        of_runs = {"scale": self.scale, "workers": self.workers, "runs": self.runs}
        if self.scale in MINUTES:
            yield "estimate", Estimate(**of_runs)
        least = QUICK if self.scale in ("smoke", "quick") else {}
        yield "linear-digits", LinearDigits(**least, out=self.out / "linear_digits", workers=self.workers)
        yield "run", RunSuite(**of_runs)
        yield "figures", All(self.places, workers=self.workers)
        report = {"figures": self.places.out, "out": self.out / "report.html", "workers": self.workers}
        yield "report", Report(self.scale, runs=self.runs, **report)

    @property
    def places(self) -> Places:
        """Where the pictures are made."""
        return Places(self.out / "figures", self.out, self.runs, scale=self.scale)

    def run(self) -> dict:
        """Carry out the steps; what each has to say is printed as it ends. Raises ValueError as they do."""
        from stopgrad.experiments.commands.suite_command import SOME_FAILED

        self.places.check()  # before a step is carried out to find that the next refuses
        if number_of_workers(self.workers) > 1:  # on another core, while this process imports what it needs itself
            start_server("stopgrad.experiments.preloaded", "stopgrad.figures.machinery.made")
        told = {"scale": self.scale, "seconds": {}, "some_failed": False, "status": 0}
        for name, step in self.steps():
            began = time.perf_counter()
            result = step.run()
            told["seconds"][name] = time.perf_counter() - began
            print(step.text(result), flush=True)
            status = step.status(result)
            if status not in (0, SOME_FAILED):
                return told | {"status": status}
            told["some_failed"] |= status == SOME_FAILED
        return told | {"report": f"{(self.out / 'report.html').absolute()}", "figures": f"{self.places.out}"}

    def text(self, result: dict) -> str:
        """Where the report and the pictures are."""
        if result["status"]:
            return f"ended at the step {list(result['seconds'])[-1]}; the same command goes on from there"
        return f"The report is {result['report']}; its pictures are in {result['figures']}, with captions (.txt)."

    def status(self, result: dict) -> int:
        """0, also where some runs failed; else that of the step that ended it."""
        return result["status"]
