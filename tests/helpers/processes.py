"""Processes that a test forks and kills."""

import os
import signal
import time
from contextlib import contextmanager


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
