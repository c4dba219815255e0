"""Processes that a test starts: forked and killed, or fresh but for what the server that forks them has loaded."""

import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

PROCESSES = multiprocessing.get_context("forkserver")
"""Fresh processes, without the seconds that imports take; conftest.py says what they have loaded."""


def hear_ctrl_c():
    """Let Ctrl-C through, which who started the server, `parallel` in a test before, may have held back for good."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def stay_with_the_server():
    """Have the server that forked this process fork its own processes too: another would load all of it once more."""
    forkserver._forkserver.ensure_running = resource_tracker.ensure_running


@contextmanager
def process(task):
    """A forked process running `task(say)`: gives (pid, a file of what it said), and kills it with SIGKILL."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            task(lambda number: os.write(writing, b"%d\n" % number))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as said:
        try:
            yield pid, said
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def sleep(*_):
    time.sleep(60)
