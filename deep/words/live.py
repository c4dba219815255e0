"""What a person sees of a run while it trains: one line that moves on a terminal, one line an evaluation elsewhere."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stopgrad.deep.measuring.quantities.quantities import shown
from stopgrad.linear_theory.tools.errors import BadInput


def tensorboard_writer(folder: Path):
    """A writer of event files in `folder`. Raises ValueError, saying what to install, where TensorBoard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadInput("--tensorboard needs TensorBoard: pip install 'stopgrad[tensorboard]'") from None
    return SummaryWriter(str(folder))


class View:
    """A live view on standard error; `quiet` shows nothing. Used as a context.

    `tensorboard`: folder to write the same numbers to, for TensorBoard. Raises ValueError where it is not installed.
    """

    def __init__(self, title: str, steps: int, quiet: bool = False, tensorboard: Path | None = None):
        self.console = Console(stderr=True, quiet=quiet)
        self.title, self.steps = title, steps
        self.now: dict = {}
        self.first: tuple[int, float] | None = None
        moving = self.console.is_terminal and not quiet
        self.live = Live(console=self.console, refresh_per_second=4, transient=True) if moving else None
        self.writer = tensorboard_writer(tensorboard) if tensorboard else None

    def __enter__(self):
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *error):
        if self.writer:
            self.writer.close()
        if self.live:
            self.live.__exit__(*error)

    def say(self, sentence: str) -> None:
        """A sentence that stays."""
        self.console.print(sentence, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def step(self, step: int, row: dict) -> None:
        """A measurement of the training batch: quantities by name."""
        self.first = (step, time.monotonic()) if self.first is None else self.first
        self.now |= row | {"step": step}
        self._record("train", step, row)
        if self.live:
            self.live.update(self._table())

    def evaluation(self, epoch: int, row: dict) -> None:
        """An evaluation of the representations; kept as a line where no terminal moves."""
        self.now |= {"epoch": epoch} | row
        self._record("representation", epoch, row)
        if not self.live:
            self.say(" · ".join(f"{name} {value}" for name, value in self._cells()))

    def _record(self, group: str, step: int, row: dict) -> None:
        for name, value in row.items() if self.writer else ():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def _cells(self):
        now = self.now
        yield "step", f"{now.get('step', 0)}/{self.steps}"
        for one in shown("live"):
            if text := one.text(now.get(one.name)):
                yield one.short or one.name, text
        if self.first and now.get("step", 0) > self.first[0]:
            step, then = self.first
            left = (time.monotonic() - then) / (now["step"] - step) * (self.steps - now["step"])
            yield "left", f"{left:.0f} s"

    def _table(self) -> Table:
        table = Table(title=self.title, title_justify="left", show_edge=False)
        cells = list(self._cells())
        for name, _ in cells:
            table.add_column(name, justify="right")
        table.add_row(*(value for _, value in cells))
        return table
