"""One function of many items, computed by several processes of one thread each.

Processes are forked from a server that has imported what they need once and started nothing, never from this process.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, forkserver, resource_tracker
from typing import TypeVar

from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import room_for_sockets

Result = TypeVar("Result")
SERVER = "stopgrad.linear_theory.tools.server"  # what a server of processes loads first


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_workers(asked: int | None) -> int:
    """As many as asked for, by default as there are cores. Raises ValueError where that is below 1."""
    if asked is not None and asked < 1:
        raise BadInput(f"--workers is {asked}; it must be at least 1")
    return cores() if asked is None else asked


def parallel(
    function: Callable[..., Result], items: Sequence[tuple], workers: int, preload: Sequence[str] = ()
) -> Iterator[tuple[int, Result]]:
    """(place in `items`, function(*item)) as they come, begun in order; one worker, or one item, is for this process.

    More workers, at most one an item, are born with the modules `preload`, and what they are given goes through pickle.
    What the function raises is raised here, and no worker outlives the iterator, nor this process. Raises ValueError
    where one cannot be started or is killed.
    """
    if workers == 1 or len(items) < 2:
        yield from ((k, function(*item)) for k, item in enumerate(items))
        return
    start_server("torch", *preload)
    context, before = multiprocessing.get_context("forkserver"), {*multiprocessing.active_children()}
    try:
        with ProcessPoolExecutor(workers, context, _begin) as pool:
            try:
                # Pickled here: torch would have the executor's own pickler put every tensor into shared memory.
                tasks = [pickle.dumps((function, item)) for item in items]
                with _ctrl_c_waits():
                    work = {pool.submit(_carry_out, task): k for k, task in enumerate(tasks)}
                for done in as_completed(work):
                    yield work[done], done.result()
            except BaseException:
                for process in {*multiprocessing.active_children()} - before:
                    process.terminate()
                raise
    except (BrokenProcessPool, EOFError) as error:
        raise BadInput(f"a worker process was killed or did not start ({error}); use fewer --workers") from None


def start_server(*preload: str) -> None:
    """Start the server that processes are forked from, and have it load these modules meanwhile.

    What is asked for once it runs is not heeded. Whoever will need processes later may call it early.
    """
    multiprocessing.set_forkserver_preload([SERVER, *preload])
    room_for_sockets()
    with _ctrl_c_waits():
        forkserver.ensure_running()


def one_thread() -> None:
    """Let this process compute with one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Within it Ctrl-C is not heard: neither by what is started, which would print a traceback, nor halfway here."""
    resource_tracker.ensure_running()  # started by the server's start, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------- in the worker


def _begin() -> None:
    """Leave Ctrl-C to the process that waits; at SIGTERM, or when that has died, end with no draft left behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.dup2(2, 1)  # standard output is for the answer of the process that waits
    one_thread()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # last: an exit from here would be told as an error


def _follow_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _carry_out(work: bytes):
    function, item = pickle.loads(work)
    try:
        return function(*item)
    except SystemExit:  # the executor would take it for an answer, and go on
        os._exit(1)
