"""A list of configs carried out: here, in worker processes, or on a cluster; finished runs are found, never repeated.

The store is the only memory. Whoever calls `launch` again with the same configs, after whatever has happened, goes on
where it was; and where two do so at once they share the work, since a run is its folder's and the folder has a lock.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stopgrad.deep.config import Config
from stopgrad.deep.processes.stopping import REQUEST, Stop, Told, signals_raise
from stopgrad.deep.storage.lock import writer
from stopgrad.experiments.launch.one_run import Outcome, Task, carry_out, found, stopped
from stopgrad.experiments.launch.progress import Board
from stopgrad.experiments.launch.slurm import Slurm
from stopgrad.experiments.launch.worker_pool import Pool
from stopgrad.experiments.store.store import Store
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file
from stopgrad.linear_theory.tools.processes import cores

LOOK_AGAIN = 0.5
"""Seconds between two looks at a run that another process has."""


@dataclass(frozen=True)
class InProcess:
    """One run after the other in this process, which has the accelerator to itself."""

    device: str = "auto"

    def outcomes(self, tasks: Sequence[Task], stop: Stop) -> Iterator[tuple[int, Outcome | None]]:
        """(place in `tasks`, outcome) as they come, and (place, None) as a run begins.

        Raises ValueError where the device is not there.
        """
        from stopgrad.deep.training.runs import joined

        with joined(self.device) as world:
            for k, task in enumerate(tasks):
                if not stop.signal:
                    yield k, None
                    try:
                        with signals_raise():
                            outcome = carry_out(task, world)
                    except Told as told:
                        outcome = stopped(task, told.number)
                    stop.signal = stop.signal or outcome.signal
                else:
                    outcome = stopped(task, stop.signal)
                yield k, outcome


Launcher = InProcess | Pool | Slurm


def choose(
    name: Literal["auto", "inprocess", "pool", "slurm"] = "auto",
    workers: int | None = None,
    slurm: Slurm | None = None,
    device: str = "auto",
) -> Launcher:
    """The launcher of that name; auto: a pool on a CPU, in this process with an accelerator.

    `workers`: of the pool, by default as many as this process may use cores; where `device` is an accelerator they all
    share that one. Raises ValueError where they belong to no pool, and for a `device` where Slurm says which.
    """
    if name == "auto":
        import torch

        on_cpu = device == "cpu" or not torch.cuda.is_available()
        name = "pool" if workers is not None or on_cpu else "inprocess"
    if workers is not None and name != "pool":
        raise BadInput(f"--workers belongs to --launcher pool, not {name}")
    if name == "slurm":
        if device != "auto":
            raise BadInput("--device belongs to this machine; jobs have an accelerator with --gpus 1")
        return Slurm() if slurm is None else slurm
    return Pool(cores() if workers is None else workers, device) if name == "pool" else InProcess(device)


# ---------------------------------------------------------------- a list of runs


def launch(
    configs: Sequence[Config],
    store: Store,
    launcher: Launcher,
    title: str,
    labels: Sequence[str],
    minutes: float | None = None,
) -> list[Outcome]:
    """Carry out `configs`, of which `labels` say what they are; their outcomes, in order.

    A finished run is found and an unfinished one resumed. A run that another living process has is left to it, and
    done here if that dies. A run that fails, or whose process is killed twice, stops no other. At a signal
    (`deep.processes.stopping`) runs keep their state, and what is not finished is `stopped`; so it is after `minutes`.
    Progress on standard error. Raises ValueError where the launcher cannot work at all, the store not be written, or
    the time is none.
    """
    if minutes is not None and not 0 < minutes < threading.TIMEOUT_MAX / 60:
        raise BadInput(f"--minutes is {minutes:g}; it must be above 0")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise BadInput("a suite's launcher starts its own processes; start it without torchrun")
    folders = [store.folder(config).absolute() for config in configs]
    outcomes: dict[str, Outcome] = {}
    with Board(title, len({folder.name for folder in folders})) as board, Stop() as stop, _told_after(minutes):
        left: dict[str, Task] = {}
        for config, folder, label in zip(configs, folders, labels, strict=True):
            key = folder.name
            if key in outcomes or key in left:
                continue
            record = store.find(config)
            if record is None:
                left[key] = Task(key, config, folder, label)
            else:
                outcomes[key] = found(key, record.summary)
                board.found()
        if left:
            prepare_file(Path(store.root) / "summary.json", ".json")  # or each run would fail, by the same cause
        while left:
            for key, outcome in _once(list(left.values()), launcher, stop, board):
                outcomes[key] = outcome
                del left[key]
            if left:
                held = _wait(list(left.values()), store, stop, board)
                outcomes |= held
                left = {key: task for key, task in left.items() if key not in held}
    return [outcomes[folder.name] for folder in folders]


def _once(tasks: list[Task], launcher: Launcher, stop: Stop, board: Board) -> Iterator[tuple[str, Outcome]]:
    """Key and outcome of each run that could be taken; those that others hold are passed over."""
    for k, outcome in launcher.outcomes(tasks, stop):
        task = tasks[k]
        if outcome is None:
            board.began(task.key, task.label)
        elif outcome.state == "busy":
            board.left_to_others(task.key)
        else:
            board.ended(task.label, outcome)
            yield task.key, outcome


def _wait(tasks: list[Task], store: Store, stop: Stop, board: Board) -> dict[str, Outcome]:
    """Wait until a run that others held is free again; the outcomes of those that they have finished meanwhile.

    At a signal all others are `stopped`.
    """
    ended: dict[str, Outcome] = {}
    while len(ended) < len(tasks):
        open_ = [task for task in tasks if task.key not in ended]
        if stop.signal:
            return ended | {task.key: stopped(task, stop.signal) for task in open_}
        for task in open_:
            held = writer(task.folder) is not None  # asked first: what is let go after this may have been finished
            record = store.find(task.config)
            if record is not None:
                ended[task.key] = found(task.key, record.summary)
                board.found()
            elif not held:
                return ended
        time.sleep(LOOK_AGAIN)
    return ended


@contextlib.contextmanager
def _told_after(minutes: float | None) -> Iterator[None]:
    """Ask this process to stop when so many minutes of the block are over."""
    if minutes is None:
        yield
        return
    timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), REQUEST))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # no signal after this, when nobody is there to take it
