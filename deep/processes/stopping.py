"""Told to stop, a run finishes its step, keeps its state and leaves with 128 + the number of the signal.

By a person (SIGINT, SIGTERM), a terminal that closes (SIGHUP), or a scheduler before it kills (SIGUSR1 as Slurm's
`--signal=USR1@90`, SIGUSR2 as SGE's `-notify` and submitit, SIGXCPU at a limit on CPU time).
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

ORDERS = (signal.SIGTERM, signal.SIGINT)
"""A second one of these is obeyed at once."""
HINTS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""These may come any number of times: schedulers and terminals that close repeat them."""
REQUEST = signal.SIGUSR1
"""What a launcher sends its workers; a cluster may have told them as well, and this is never a second order."""
_WAVE = 0.3
"""Seconds within which two orders are one: a scheduler tells every process, and torchrun tells its own once more."""


@contextlib.contextmanager
def signals_go_to(handler: Callable) -> Iterator[dict]:
    """In the block `handler(number, frame)` takes all of these signals; yields the handlers that had them before.

    SIGHUP stays ignored where nohup has it so. In another thread than the main one, where Python sets no handlers,
    nothing happens: whoever runs us has to stop us.
    """
    numbers = [*ORDERS, *HINTS]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)
    before = {}
    with contextlib.suppress(ValueError):
        for number in numbers:
            before[number] = signal.signal(number, handler) or signal.SIG_DFL
    try:
        yield before
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


class Stop:
    """Remembers a signal, so that a run can finish its step and keep its state; a second order is obeyed."""

    def __init__(self):
        self.signal = 0
        self.since = 0.0

    def __enter__(self):
        self._block = signals_go_to(self._note)
        self.before = self._block.__enter__()
        return self

    def __exit__(self, *error):
        self._block.__exit__(*error)

    def _note(self, number, frame):
        if number in ORDERS and self.signal in ORDERS and time.monotonic() - self.since > _WAVE:
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
        if not self.signal or (number in ORDERS and self.signal in HINTS):
            self.signal, self.since = number, time.monotonic()


class Told(BaseException):
    """A signal came where no training was there to take it; no error, so nothing on the way may take it for one."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def signals_raise() -> contextlib.AbstractContextManager:
    """In the block a signal leaves it with Told, but for a run in training, which keeps its state first."""

    def told(number, frame):
        raise Told(number)

    return signals_go_to(told)
