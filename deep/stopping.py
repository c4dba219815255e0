"""How a run is told to stop."""

import signal


class Stop:
    """Remembers SIGTERM and Ctrl-C, so that a run can finish its step and keep its state; a second one is obeyed."""

    def __init__(self):
        self.signal = 0
        self.before: dict = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self.before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us has to stop us
                break
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.signal:
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
        self.signal = number
