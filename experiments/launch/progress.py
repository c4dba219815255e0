"""Progress over a whole suite on standard error: a bar on a terminal, a line now and then elsewhere."""

import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stopgrad.experiments.launch.one_run import Outcome

EVERY = 15.0
"""Seconds between two lines where nothing moves."""
_SHOWN = 2
"""Running runs that are named."""


class Board:
    """What a person sees of a suite of `total` runs. Used as a context; at its end failed runs are named."""

    def __init__(self, title: str, total: int):
        self.console = Console(stderr=True)
        self.title, self.total = title, total
        self.done = self.fresh = 0
        self.states: Counter[str] = Counter()
        self.running: dict[str, str] = {}
        self.failures: list[tuple[str, str]] = []
        self.started, self.said = time.monotonic(), -EVERY
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
        )
        moving = self.console.is_terminal
        self.bar = Progress(*columns, TimeElapsedColumn(), console=self.console) if moving else None
        self.task: TaskID | None = None

    def __enter__(self):
        if self.bar:
            self.bar.__enter__()
            self.task = self.bar.add_task(self.title, total=self.total, now="")
        return self

    def __exit__(self, *error):
        nothing = error[0] is not None and not self.states  # an error before any run ended says all there is to say
        if self.bar:
            self.bar.live.transient = nothing
            self.bar.__exit__(*error)
        elif not nothing:
            self._say(self.line())
        for label, reason in self.failures:
            self._say(f"failed: {label}: {reason}")

    def found(self) -> None:
        """A run was there already, or another process has finished it."""
        self.done += 1
        if self.bar or self.running:  # of what was found at the outset the first line of the rest tells
            self._show()

    def began(self, key: str, label: str) -> None:
        """A run is being carried out."""
        if not (self.fresh or self.running):
            self.started = time.monotonic()
        self.running[key] = label
        self._show()

    def left_to_others(self, key: str) -> None:
        """Another process turned out to have the run."""
        self.running.pop(key, None)
        self._show()

    def ended(self, label: str, outcome: Outcome) -> None:
        """A run has come to an outcome."""
        self.running.pop(outcome.key, None)
        self.states[outcome.state] += 1
        self.done += outcome.state in ("finished", "diverged")
        if outcome.fresh and outcome.state in ("finished", "diverged"):
            self.fresh += 1
        if outcome.state == "failed":
            self.failures.append((label, outcome.reason or "for an unknown reason"))
        self._show()

    def seconds_left(self) -> float | None:
        """At the pace since the first run began, one under way counting as half done; None before one is computed."""
        if not self.fresh or not self.running:
            return None
        half = len(self.running) / 2
        left = self.total - self.done - len(self.failures) - half
        return (time.monotonic() - self.started) * left / (self.fresh + half)

    def line(self) -> str:
        """The state of the suite in one line."""
        return f"{self.title}: {self.done}/{self.total} finished{self._now()}"

    def _now(self) -> str:
        parts = [f"{len(self.running)} running"] if self.running else []
        parts += [f"{self.states[state]} {state}" for state in ("failed", "diverged", "stopped") if self.states[state]]
        left = self.seconds_left()
        parts += [f"about {clock(left)} left"] if left is not None else []
        return "".join(f", {part}" for part in parts)

    def _show(self) -> None:
        if self.bar:
            names = [label for label, _ in zip(self.running.values(), range(_SHOWN))]
            more = [f"and {len(self.running) - _SHOWN} more"] if len(self.running) > _SHOWN else []
            now = self._now().removeprefix(", ") + "".join(f" · {name}" for name in [*names, *more])
            self.bar.update(self.task, completed=self.done + len(self.failures), now=now)
        elif time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            self._say(self.line())

    def _say(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False, emoji=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """'40 s', '3 min', '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
