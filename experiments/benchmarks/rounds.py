"""Timing that others on the machine cannot bend: interleaved rounds, rejected where someone else was busy.

Engines take turns (A B C A B C …), so that a change in the machine's speed meets all of them, and two engines are
compared within a round. A round during which other processes had more than `QUIET` of the machine is repeated.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

QUIET = 0.10
"""The largest share of all CPU time that others may take in a round."""
ATTEMPTS = 3
"""Rounds tried for each round wanted."""
PATIENCE = 5.0
"""Seconds to wait before a round for a quiet moment."""
BUDGET = 180.0
"""Seconds after which no further round begins: on a busy machine a multi-threaded call can take 100 times as long."""
PAUSE = 0.02
"""Seconds between engines, in which the last one's worker threads stop spinning."""
PROC = Path("/proc")
PROC_STAT = PROC / "stat"
TICKS_A_SECOND = 100
"""USER_HZ, the unit of /proc/stat on every Linux."""


@dataclass(frozen=True)
class Rounds:
    """The rounds kept: what was measured of each engine, one value a round, and the share of the machine others had."""

    seconds: dict[str, list]
    """Seconds a call; or whatever the `timer` of `interleaved` returned."""
    other_load: list[float]
    attempted: int

    @property
    def quiet(self) -> bool:
        """Whether all rounds kept are known to have been quiet."""
        return all(load <= QUIET for load in self.other_load)


def _cpu_seconds() -> tuple[float, float]:
    """CPU time of the whole machine since its start: (busy, busy and idle), in clock ticks (Linux, proc(5))."""
    first_line = PROC_STAT.read_text().split("\n", 1)[0]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, first_line.split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _descendants_cpu_seconds() -> float:
    """CPU time of this process's children and their children, living and waited for (Linux; elsewhere the latter).

    A child's time moves from its own line to its parent's when the parent has waited for it, so none is lost.
    """
    ended = os.times()
    seconds = ended.children_user + ended.children_system
    found = {}  # parent → its living children, each with its ticks
    for path in PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()  # the name before it may hold anything
        except OSError:  # it has just ended
            continue
        found.setdefault(int(fields[1]), []).append((int(path.parent.name), sum(map(int, fields[11:15]))))
    generation = found.get(os.getpid(), [])
    while generation:
        seconds += sum(ticks for _, ticks in generation) / TICKS_A_SECOND
        generation = [child for process, _ in generation for child in found.get(process, [])]
    return seconds


class OtherLoad:
    """The share of the machine's CPU time that went to others since this object was made.

    Others are the processes that neither are this one nor descend from it.
    """

    def __init__(self):
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        own = time.process_time() + _descendants_cpu_seconds()
        try:
            return *_cpu_seconds(), own
        except (OSError, ValueError):
            return float("nan"), float("nan"), own

    def read(self) -> float:
        """From 0 to 1; NaN where the system does not tell."""
        busy, total, own = (now - start for now, start in zip(self._now(), self._start))
        return total if total != total else min(1.0, max(0.0, busy - own * TICKS_A_SECOND) / max(total, 1))


def seconds_a_call(run: Callable[[], object], at_least: float) -> float:
    """Median seconds of one call, called again until `at_least` seconds are spent."""
    times: list[float] = []
    while not times or sum(times) < at_least:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait_until_quiet() -> None:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        meter = OtherLoad()
        time.sleep(0.3)
        if not meter.read() > QUIET:
            return


def interleaved(
    runs: dict[str, Callable[[], object]],
    rounds: int,
    at_least: float = 0.25,
    progress: Callable[[Iterable, str], Iterable] = lambda attempts, words: attempts,
    timer: Callable[[Callable], object] | None = None,
    budget: float | None = None,
) -> Rounds:
    """Time `runs` in turns until `rounds` rounds were quiet, `ATTEMPTS` times as many were tried or `budget` is spent.

    Where too few were quiet, the quietest are kept: see `Rounds.quiet`. `progress` wraps the iteration, as rich's
    `track` does. `timer` makes the measurement of a run in a round; by default `seconds_a_call` for `at_least` seconds.
    `budget`: as `BUDGET`, which it is by default.
    """
    timer = timer or partial(seconds_a_call, at_least=at_least)
    last_start = time.monotonic() + (BUDGET if budget is None else budget)
    measured: list[tuple[float, dict]] = []
    for _ in progress(range(ATTEMPTS * rounds), f"timing until {rounds} rounds were quiet"):
        _wait_until_quiet()
        meter, seconds = OtherLoad(), {}
        for name, run in runs.items():
            time.sleep(PAUSE)
            seconds[name] = timer(run)
        measured.append((meter.read(), seconds))
        if sum(not load > QUIET for load, _ in measured) == rounds or time.monotonic() > last_start:
            break
    kept = sorted(measured, key=lambda one: one[0])[:rounds]
    return Rounds(
        {name: [seconds[name] for _, seconds in kept] for name in runs}, [load for load, _ in kept], len(measured)
    )
