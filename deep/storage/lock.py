"""The lock that keeps a run's folder to one writer.

The system frees it when its holder dies, however it dies, and a forked worker does not inherit it: nothing stale is
ever left to clear away.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from filelock import FileLock

FILE = ".lock"
_PATIENCE = {"timeout": 0.1, "poll_interval": 0.01}  # seconds: `writer` holds a lock for a moment as it looks


class Busy(BadInput):
    """Another, living process is writing the folder."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep every other process from writing the run in `folder`, which is made if need be, until the block ends.

    Raises Busy with one sentence if a living process holds it, BadInput if the folder cannot be written or locked.
    """
    from filelock import Timeout  # here, since every help text would wait for it

    path = Path(folder) / FILE
    lock = _lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Busy(f"{folder} is being written by {_holder(path)}; let it finish or name another folder") from None
    except OSError as error:
        raise BadInput(f"cannot write into {folder}, or lock it: {error.strerror}; name another folder") from None
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def writer(folder: Path) -> str | None:
    """Who holds the folder's lock, in words; None where nobody does, or it cannot be seen."""
    from filelock import Timeout

    path = Path(folder) / FILE
    try:
        if path.exists():
            with _lock(path):
                pass
    except Timeout:
        return _holder(path)
    except OSError:
        pass
    return None


def _lock(path: Path) -> "FileLock":
    from filelock import FileLock

    return FileLock(path, fallback_to_soft=False, thread_local=False, **_PATIENCE)


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace") or "another process"
    return "another process"
