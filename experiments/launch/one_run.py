"""One run of a suite: what a launcher is given, how it is carried out, and what it came to."""

import math
import signal
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from stopgrad.deep.config import Config
from stopgrad.deep.storage.lock import Busy
from stopgrad.deep.storage.run_folder import CONFIG, ERROR
from stopgrad.linear_theory.tools.errors import Missing, sentence_of
from stopgrad.linear_theory.tools.files import replace_file

if TYPE_CHECKING:
    from stopgrad.deep.training.distributed import World

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
    fetch: str = ""
    """The command that fetches the data for want of which it failed."""


def carry_out(task: Task, world: "World") -> Outcome:
    """Carry out a run or go on with it; whatever it raises is its outcome's reason.

    The traceback of an error that no user made is kept in the run's folder.
    """
    from stopgrad.deep.training.runs import Place, execute

    began, before = time.monotonic(), _stamp(task.folder)
    try:
        result = execute(task.config, Place(folder=task.folder, resume=True, quiet=True, picture=False), world)
    except Busy as error:
        return Outcome(task.key, "busy", str(error), 0.0, False)
    except Exception as error:  # of any kind: the other runs go on
        reason = sentence_of(error) or f"{sentence(error)}; its traceback is in {_kept(error, task.folder)}"
        fetch = ""
        if isinstance(error, Missing):  # of its remedies those are flags that only training has
            fetch = f"python -m deep train --dataset {task.config.data.dataset} --download --epochs 0"
            reason = f"{error.what}; fetch it with {fetch}"
        return Outcome(task.key, "failed", reason, time.monotonic() - began, True, fetch=fetch)
    seconds = time.monotonic() - began
    if result["state"] == "stopped":
        return stopped(task, result["signal"])._replace(seconds=seconds)
    return Outcome(task.key, result["state"], None, seconds, _stamp(task.folder) != before)


def _kept(error: Exception, folder: Path) -> Path:
    """Where the error's traceback is written: into the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(traceback.format_exception(error))
    replace_file(folder / ERROR, lambda draft: draft.write_text(text, encoding="utf-8", errors="backslashreplace"))
    return folder / ERROR


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes as a run is computed, and not as it is found finished, be it by who waited for its lock."""
    try:
        status = (folder / CONFIG).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


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
    """An error that no user made, on one line: its kind, what it says, and its place."""
    words = " ".join(str(error).split())
    places = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{place}"
