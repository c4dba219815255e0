"""Runs as array jobs of a Slurm cluster, through submitit: chunks of them, since a job takes longer to start than a
small run takes.

Jobs outlive a launcher that is killed; another launcher then shares the work with them, run by run. Code and store must
be on a disk that launcher and nodes share.
"""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from stopgrad.deep.processes.stopping import Stop
from stopgrad.deep.storage.run_folder import whole_summary
from stopgrad.experiments.launch.one_run import Outcome, Task, carry_out, failed, found, stopped
from stopgrad.linear_theory.tools.errors import BadInput

PATIENCE = 30.0
"""Seconds that cancelled jobs are given to keep their runs' state; Slurm's own KillWait."""
_LONGEST_ARRAY = 1000
_GLANCE = 0.2


@dataclass(frozen=True)
class Slurm:
    """How chunks of runs become jobs."""

    partition: str | None = None
    """Slurm partition; None: the cluster's own choice."""
    job_minutes: int = 240
    """Time limit of a job; one that reaches it keeps its runs and is queued again."""
    gpus: int = 0
    """Accelerators of a job: 0 or 1."""
    cpus: int = 1
    """Cores, and threads, of a job."""
    chunk: int = 10
    """Runs of a job, one after the other."""
    jobs: int = 64
    """Jobs at once, at most."""
    cluster: Literal["slurm", "local"] = "slurm"
    """local: jobs are processes on this machine, to try it out."""
    poll: float = 5.0
    """Seconds between two looks at jobs and runs."""

    def outcomes(self, tasks: Sequence[Task], stop: Stop) -> Iterator[tuple[int, Outcome | None]]:
        """(place in `tasks`, outcome) as they come, and (place, None) as a run begins.

        A run whose job was lost, by whatever cause, is given a job of its own, and if that is lost too it has failed.
        At a signal jobs are cancelled. Raises ValueError where there is no submitit, or no Slurm.
        """
        if not tasks:
            return
        executor = _executor(self, tasks[0].folder.parent / ".slurm")
        lost = yield from self._jobs(executor, tasks, _chunks(range(len(tasks)), self.chunk), stop)
        lost = yield from self._jobs(executor, tasks, _chunks(lost, 1), stop)
        yield from ((k, failed(tasks[k], "its job was lost twice; the logs are in .slurm beside it")) for k in lost)

    def _jobs(self, executor, tasks: Sequence[Task], chunks: list[tuple[int, ...]], stop: Stop):
        """Submit a job a chunk and yield what becomes of its runs; returns the places of those whose job was lost."""
        arrays = _chunks(chunks, _LONGEST_ARRAY)
        calls = [[Chunk(tuple(tasks[k] for k in chunk), self.cpus) for chunk in array] for array in arrays]
        submitted = [job for array in calls if not stop.signal for job in _submit(executor, array)]
        watched = [_Job(job, dict.fromkeys(chunk)) for job, chunk in zip(submitted, chunks)]
        lost, begun = [], set()
        while any(job.left for job in watched) and not stop.signal:
            for job in watched:
                ended = job.handle.done()  # asked first: what is not finished now was not finished by this job
                for k in [k for k in job.left if k not in begun and tasks[k].folder.exists()]:
                    begun.add(k)
                    yield k, None
                for k, outcome in job.news(tasks, ended):
                    yield k, outcome
                if ended:
                    lost += job.left
                    job.left.clear()
            _pause(self.poll, stop)
        if stop.signal:
            yield from _cancelled(watched, tasks, stop)
            unsubmitted = [k for chunk in chunks[len(watched) :] for k in chunk]
            yield from ((k, stopped(tasks[k], stop.signal)) for k in [*lost, *unsubmitted])
            return []
        return lost


class _Job(NamedTuple):
    """A job, and the places of the runs of which nothing is known yet (a dict, for its order)."""

    handle: object
    left: dict[int, None]

    def news(self, tasks: Sequence[Task], ended: bool) -> Iterator[tuple[int, Outcome]]:
        """Runs that have come to an outcome since: seen in their folders, or told by a job that has ended."""
        told = _told(self.handle) if ended else {}
        for k in list(self.left):
            outcome = told.get(tasks[k].key)
            summary = whole_summary(tasks[k].folder) if outcome is None else None
            if summary is not None:
                outcome = found(tasks[k].key, summary)._replace(fresh=True)
            if outcome is not None and outcome.state != "stopped":
                del self.left[k]
                yield k, outcome


@dataclass(frozen=True)
class Chunk:
    """What a job does: carry out its runs, one after the other."""

    tasks: tuple[Task, ...]
    threads: int

    def __call__(self) -> list[Outcome]:
        """The runs' outcomes, up to the one that was told to stop."""
        import torch

        from stopgrad.deep.training.runs import joined

        torch.set_num_threads(self.threads)
        outcomes = []
        with joined("auto") as world:
            for task in self.tasks:
                outcomes.append(carry_out(task, world))
                if outcomes[-1].state == "stopped":
                    _hand_on(outcomes[-1].signal)
                    break
        return outcomes

    def checkpoint(self):
        """What submitit queues in place of a job that was preempted or came to its time limit: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _hand_on(number: int) -> None:
    """Now that the run's state is kept, let submitit act on the signal if it waits for it: it queues the job again."""
    handler = signal.getsignal(number)
    if callable(handler) and handler is not signal.default_int_handler:
        handler(number, None)


# ---------------------------------------------------------------- submitit


def _executor(slurm: Slurm, logs: Path):
    """submitit's executor. Raises ValueError, saying what to do, where there is no submitit or no Slurm."""
    _refuse(slurm)
    try:
        import submitit
    except ImportError:
        raise BadInput("--launcher slurm needs submitit: pip install 'stopgrad[slurm]'") from None
    try:
        executor = submitit.AutoExecutor(logs, cluster=slurm.cluster)
    except RuntimeError:
        raise BadInput("there is no Slurm here (no srun); use --launcher pool, or --cluster local") from None
    executor.update_parameters(
        name="stopgrad",
        timeout_min=slurm.job_minutes,
        cpus_per_task=slurm.cpus,
        gpus_per_node=slurm.gpus,
        slurm_array_parallelism=slurm.jobs,
        **({"slurm_partition": slurm.partition} if slurm.partition else {}),
    )
    return executor


def _refuse(slurm: Slurm) -> None:
    for name in ("job_minutes", "cpus", "chunk", "jobs"):
        if getattr(slurm, name) < 1:
            raise BadInput(f"--{name.replace('_', '-')} is {getattr(slurm, name)}; it must be at least 1")
    if slurm.gpus not in (0, 1):
        raise BadInput(f"--gpus is {slurm.gpus}; a run uses one accelerator, so it must be 0 or 1")
    if not slurm.poll > 0:
        raise BadInput(f"--poll is {slurm.poll:g}; it must be above 0")


def _submit(executor, calls: list[Chunk]) -> list:
    """A job array. Raises ValueError with what Slurm says where it refuses."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.submit_array(calls)
    except (FailedJobError, FailedSubmissionError) as error:
        raise BadInput(f"Slurm refused the jobs: {' '.join(str(error).split())}") from None


def _told(job) -> dict[str, Outcome]:
    """What an ended job says of its runs, by key; nothing where it was lost."""
    from submitit.core.utils import UncompletedJobError

    try:
        return {outcome.key: outcome for outcome in job.result()}
    except UncompletedJobError:
        return {}


def _cancelled(watched: list[_Job], tasks: Sequence[Task], stop: Stop) -> Iterator[tuple[int, Outcome]]:
    """Cancel the jobs that are not done, give them time to keep their state, and say what became of their runs."""
    unfinished = [job for job in watched if job.left]
    for job in unfinished:
        with contextlib.suppress(OSError):
            job.handle.cancel(check=False)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not all(job.handle.done() for job in unfinished):
        time.sleep(_GLANCE)
    for job in unfinished:
        yield from job.news(tasks, ended=False)
        yield from ((k, stopped(tasks[k], stop.signal)) for k in job.left)


def _pause(seconds: float, stop: Stop) -> None:
    end = time.monotonic() + seconds
    while not stop.signal and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _GLANCE))


def _chunks(items: Sequence, size: int) -> list[tuple]:
    return [tuple(items[k : k + size]) for k in range(0, len(items), size)]
