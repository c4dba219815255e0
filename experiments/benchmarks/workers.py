"""Engines in processes of their own, which do what they are asked over a pipe and wait in between.

So the C library's allocator, threads and caches of one engine do not touch another's.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

SECONDS_TO_LEAVE = 10.0


class Worker:
    """A process that holds what `make` made; `ask` calls its methods, `close` ends the process. Use it as a context.

    Functions, arguments and values travel pickled.
    """

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def make(self, make: Callable, *arguments) -> None:
        """Let go what was held and hold `make(*arguments)`. Raises what that raised."""
        self._pipe.send((make, arguments))
        self._answer()

    def ask(self, method: str, *arguments):
        """The value of a method of what is held, or of an attribute that is no method. Raises what it raised."""
        self._pipe.send((method, arguments))
        return self._answer()

    def _answer(self):
        try:
            raised, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the engine's process ended by itself, status {self._process.exitcode}") from None
        if raised:
            raise value
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(SECONDS_TO_LEAVE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _serve(pipe: Connection) -> None:
    held = None
    while True:
        try:
            asked, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if callable(asked):
                held = None
                held, value = asked(*arguments), None
            else:
                found = getattr(held, asked)
                value = found(*arguments) if callable(found) else found
            pipe.send((False, value))
        except Exception as error:
            pipe.send((True, _plain(error)))


def _plain(error: Exception) -> Exception:
    """The error as one that can be pickled; a missing module keeps its name."""
    if isinstance(error, ModuleNotFoundError):
        return ModuleNotFoundError(str(error), name=error.name)
    return RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}")
