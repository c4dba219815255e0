"""One run of a suite: what a launcher is given, how it is carried out, and what it came to."""

import math
import signal
import time
import traceback
from pathlib import Path
from typing import Literal, NamedTuple

from deep.checkpoint import Busy
from deep.config import Config
from deep.distributed import World
from deep.runs import Place, execute, whole_summary

State = Literal["finished", "diverged", "failed", "stopped", "busy"]


class Task(NamedTuple):
    """A run to be carried out."""

    key: str
    config: Config
    folder: Path
    label: str
    """What it is to somebody who waits for it."""


class Outcome(NamedTuple):
    """What became of a run."""

    key: str
    state: State
    """busy: another living process has it; `launch` looks at such a run again and never returns this state."""
    reason: str | None
    """Why it failed or stopped, in one sentence."""
    seconds: float
    """Wall-clock time spent on it now; that of a run found finished is what it once took."""
    fresh: bool
    """Whether it was computed now."""
    signal: int = 0
    """The signal that told it to stop."""


def carry_out(task: Task, world: World) -> Outcome:
    """Carry out a run or go on with it; whatever it raises is its outcome's reason."""
    began, fresh = time.monotonic(), False
    try:
        fresh = whole_summary(task.folder) is None
        result = execute(task.config, Place(folder=task.folder, resume=True, quiet=True, picture=False), world)
    except Busy as error:
        return Outcome(task.key, "busy", str(error), 0.0, False)
    except Exception as error:  # of any kind: the other runs go on
        return Outcome(task.key, "failed", sentence(error), time.monotonic() - began, True)
    seconds = time.monotonic() - began
    if result["state"] == "stopped":
        return stopped(task, result["signal"])._replace(seconds=seconds)
    return Outcome(task.key, result["state"], None, seconds, fresh)


def found(key: str, summary: dict) -> Outcome:
    """The outcome of a run that was finished before."""
    seconds = summary.get("seconds")
    return Outcome(key, summary["state"], None, math.nan if seconds is None else seconds, False)


def stopped(task: Task, number: int) -> Outcome:
    """The outcome of a run that was not begun, or not finished, because of a signal."""
    return Outcome(task.key, "stopped", f"told to stop by {signal.Signals(number).name}", 0.0, False, number)


def failed(task: Task, reason: str) -> Outcome:
    """The outcome of a run that could not be brought to its end."""
    return Outcome(task.key, "failed", reason, 0.0, True)


def sentence(error: Exception) -> str:
    """What went wrong, on one line; for an error that was not meant for the user also its kind and place."""
    words = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError)) and words:
        return words
    places = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{place}"
