"""Runs in worker processes of one thread each, one run at a time a worker.

A worker that dies takes only its own run with it, which an executor of the standard library could not promise. Workers
are forked from a server that has imported torch once, so that a new one is there at once; they outlive the launcher by
no more than it takes to keep their state.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection

from stopgrad.deep.processes.stopping import REQUEST, Stop
from stopgrad.experiments.launch.one_run import Outcome, Task, carry_out, failed, stopped
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import room_for_sockets
from stopgrad.linear_theory.tools.processes import SERVER, one_thread

ATTEMPTS = 2
GRACE = 30.0
"""Seconds that a worker without a launcher has to keep its state."""
START = "forkserver"
"""How worker processes are started; what has run in the launcher until then, threads among it, is kept from them."""
_GLANCE = 0.2
"""Seconds after which a signal is noticed."""


@dataclass(frozen=True)
class Pool:
    """As many worker processes as `workers`."""

    workers: int
    device: str = "auto"

    def __post_init__(self):
        if self.workers < 1:
            raise BadInput(f"--workers is {self.workers}; it must be at least 1")

    def outcomes(self, tasks: Sequence[Task], stop: Stop) -> Iterator[tuple[int, Outcome | None]]:
        """(place in `tasks`, outcome) as they come, and (place, None) as a run begins.

        Raises ValueError where the device is not there.
        """
        waiting, deaths = deque(range(len(tasks))), Counter()
        with contextlib.closing(_Crew(self)) as crew:
            while waiting or crew.at_work():
                if stop.signal:
                    crew.tell_to_stop()
                    yield from ((k, stopped(tasks[k], stop.signal)) for k in waiting)
                    waiting.clear()
                while waiting and (worker := crew.free()):
                    k = waiting.popleft()
                    worker.take(k, tasks[k])
                    yield k, None
                for k, answer in crew.answers():
                    if answer is None or answer.state == "stopped":
                        deaths[k] += 1
                        if stop.signal:
                            answer = stopped(tasks[k], stop.signal)
                        elif deaths[k] < ATTEMPTS:
                            waiting.appendleft(k)
                            continue
                        else:
                            answer = failed(tasks[k], "its process was killed twice")
                    yield k, answer


class _Worker:
    """A worker process as the launcher sees it."""

    def __init__(self, device: str):
        context = multiprocessing.get_context(START)
        context.set_forkserver_preload([SERVER, "stopgrad.experiments.preloaded"])
        self.connection, theirs = context.Pipe()
        with contextlib.closing(theirs):
            self.process = _started(context, (theirs, device))
        self.at: int | None = None
        self.told = False

    def take(self, k: int, task: Task) -> None:
        """Give it a run; where it has died meanwhile, `answer` finds out."""
        self.at = k
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def answer(self) -> Outcome | None:
        """What it has to say of its run; None where it has died. Raises ValueError where it could not begin to work."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, BadInput):
            raise answer
        return answer

    def tell(self, number: int) -> None:
        """Send it a signal; multiprocessing would not, taking all for dead whose server is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def send_home(self) -> None:
        """Have it leave when its run, if it has one, has ended."""
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def bury(self, patience: float) -> None:
        self.process.join(patience)
        self.connection.close()
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _started(context, arguments: tuple):
    """A worker process; at the second try where the server that forks them was killed at the first.

    Raises ValueError where that fails too.
    """
    room_for_sockets()
    for tries in range(1, ATTEMPTS + 1):
        process = context.Process(target=_work, args=arguments, name="run")
        try:
            process.start()
            return process
        except (EOFError, OSError) as error:
            why = str(error)
        if tries < ATTEMPTS:
            time.sleep(_GLANCE)  # a server that has just been killed may still pass for alive
    raise BadInput(f"worker processes cannot be started ({why}); use fewer --workers, or --launcher inprocess")


class _Crew:
    """The workers of a pool."""

    def __init__(self, pool: Pool):
        self.pool, self.workers = pool, []

    def at_work(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.at is not None]

    def free(self) -> _Worker | None:
        """An idle worker, hired if need be; None where all are at work."""
        for worker in self.workers:
            if worker.at is None:
                return worker
        if len(self.workers) == self.pool.workers:
            return None
        self.workers.append(_Worker(self.pool.device))
        return self.workers[-1]

    def answers(self) -> Iterator[tuple[int, Outcome | None]]:
        """(place, outcome) of the runs that have ended since; None for one whose process has died."""
        by_connection = {worker.connection: worker for worker in self.at_work()}
        for ready in connection.wait(by_connection, _GLANCE) if by_connection else ():
            worker = by_connection[ready]
            k, answer = worker.at, worker.answer()
            worker.at = None
            if answer is None:
                self.workers.remove(worker)
                worker.bury(0)
            yield k, answer

    def tell_to_stop(self) -> None:
        for worker in self.at_work():
            if not worker.told:
                worker.told = True
                worker.tell(REQUEST)

    def close(self) -> None:
        """Send all home. One still at work, because the launcher fails, keeps its state; told before, it dies."""
        for worker in self.at_work():
            worker.tell(signal.SIGKILL if worker.told else REQUEST)
        for worker in self.workers:
            worker.send_home()
        for worker in self.workers:
            worker.bury(GRACE)


# ---------------------------------------------------------------- in the worker


def _work(tasks: connection.Connection, device: str) -> None:
    """Take run after run until the launcher sends nothing for one, or dies."""
    os.setpgid(0, 0)  # Ctrl-C in a terminal reaches the whole group; what to do then is the launcher's to say
    os.dup2(2, 1)  # standard output is for the launcher's answer
    threading.Thread(target=_follow_parent, daemon=True).start()
    from stopgrad.deep.training.runs import joined

    one_thread()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            with joined(device) as world:
                while (task := tasks.recv()) is not None:
                    tasks.send(carry_out(task, world))
        except BadInput as error:
            tasks.send(error)


def _follow_parent() -> None:
    """End this process when the launcher has died: a run in training keeps its state first."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), REQUEST)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
