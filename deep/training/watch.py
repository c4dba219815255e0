"""The monitor in anybody's training loop: what it sees is measured, warned of, and kept as a run of our own is."""

import atexit
import contextlib
import importlib
import importlib.util
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from stopgrad.deep.measuring import diagnosis
from stopgrad.deep.measuring.diagnosis import Sign
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.trend import Trend
from stopgrad.deep.processes.distributed import World, gathered
from stopgrad.deep.storage import lock
from stopgrad.deep.storage.provenance import provenance
from stopgrad.deep.storage.run_folder import tables
from stopgrad.deep.storage.table import Table, read
from stopgrad.deep.training.conclusion import illustrate, outcome, write_summary
from stopgrad.deep.training.recorder import rows_of
from stopgrad.deep.words.live import View
from stopgrad.linear_theory.tools.errors import BadInput

Views = torch.Tensor | Sequence[torch.Tensor]
"""Two views' vectors, (2, B, d), or one (B, d) a view."""


class CollapseWarning(UserWarning):
    """A sign that the embeddings or predictions that are watched begin to collapse.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", CollapseWarning)  # a sign ends the loop
    """


class Watch:
    """Watches a training loop of yours for a collapse, and keeps what it measures as a run in `folder`.

    Call it once a step with embeddings z and predictions p. Every `every` steps it measures them where they are, on
    their device, in what takes one transfer; the other calls cost nothing. It warns in words (`CollapseWarning`) as
    soon as a collapse begins; `signs` holds what it has said, so that a loop may end by it. `python -m deep quantities`
    lists what is measured. The folder has our table (`metrics.jsonl`, arrays beside it); `close`, the end of a `with`
    block, or that of the program adds `summary.json` for `python -m deep summary`, and `run.png`.

    every: steps between measurements. spectra_every: steps between those that decompose matrices of more than 512
    dimensions (smaller ones are always decomposed). resume: go on in a folder that has measurements; those at and after
    the first step that is given are dropped. tensorboard: write event files as well; None: where it is installed.
    picture: draw `run.png` at the end.

    In several processes all must call it, with batches of one size; the first of them measures the whole batch.

    Raises ValueError for counts below 1, and at the first call for a folder that holds measurements already, or is
    being written.

    >>> import tempfile, torch
    >>> with Watch(tempfile.mkdtemp(), every=2, picture=False) as watch:
    ...     for step in range(5):
    ...         z1, z2 = torch.randn(2, 64, 8)  # in your loop: the embeddings of two views
    ...         p1, p2 = z1, z2  # and what the predictor makes of them
    ...         _ = watch((z1, z2), (p1, p2))
    >>> watch.summary["diagnosis"], watch.summary["steps"], watch.signs
    ('healthy', 5, [])
    """

    def __init__(
        self,
        folder: Path | str,
        every: int = 10,
        spectra_every: int = 500,
        resume: bool = False,
        tensorboard: bool | None = None,
        picture: bool = True,
    ):
        for name, count in (("every", every), ("spectra_every", spectra_every)):
            if count < 1:
                raise BadInput(f"{name} is {count}; a watch measures every so many steps, at least 1")
        self.folder, self.every, self.spectra_every, self.picture = Path(folder), every, spectra_every, picture
        self.resume = resume
        self.tensorboard = importlib.util.find_spec("tensorboard") is not None if tensorboard is None else tensorboard
        self.step: int | None = None
        """The step of the next call; None: 0, or the one after the last that the folder has."""
        self.signs: list[Sign] = []
        """What has been warned of: `kind`, `values` and `step`; `words()` is the sentence."""
        self._trend = Trend()
        self.summary: dict = {}
        """The summary, once it is closed."""
        self._begun = self._closed = self._writes = False
        self._held = contextlib.ExitStack()

    def __call__(
        self,
        z: Views,
        p: Views | None = None,
        target: Views | None = None,
        W: torch.Tensor | None = None,
        loss: torch.Tensor | float | None = None,
        epoch: int | None = None,
        step: int | None = None,
        **numbers: float,
    ) -> dict[str, float] | None:
        """Look at a step: the numbers that were measured, by name, or None where none were due (or by another process).

        z: the two views' embeddings, (2, B, d) or a pair of (B, d). p: their predictions; None: z, there being no
        predictor. target: the target embeddings of the views, where they are another network's; None: z. W: (d, d), of
        a linear predictor p = W z, `weight` of a `torch.nn.Linear`. step: its number; None: one after the last call's.
        numbers: more to be kept by name, say lr=0.1. Gradients and random numbers are left as they are.

        Raises ValueError for shapes that do not match, a number whose name is taken, and after `close`.
        """
        if self._closed:
            raise ValueError("this watch is closed; make another one")
        z = _both(z)
        self.step = step if step is not None else self.step
        if not self._begun:
            self._begin(z.device)
        now, self.step = self.step, self.step + 1
        if now % self.every:
            return None
        kind = torch.float64 if z.dtype == torch.float64 else torch.float32
        seen = [gathered(v, dim=1) for v in (z, *(z if v is None else _both(v) for v in (p, target)))]
        if loss is not None:
            loss = gathered(torch.as_tensor(loss, dtype=kind, device=z.device).reshape(1), dim=0).mean()
        if not self._writes:
            return None
        told = {"step": now, "epoch": epoch, "loss": loss, "seconds": self._seconds}
        row, arrays = to_host(measure(*seen, W, full=now % self.spectra_every < self.every, **told))
        if taken := sorted(row.keys() & numbers.keys()):
            raise ValueError(f"{', '.join(taken)}: measured already; give your numbers other names")
        self._keep(now, row | {name: float(value) for name, value in numbers.items()}, arrays)
        return row

    def callback(self):
        """This watch as a callback for the Trainer of Lightning, or of pytorch_lightning.

        The module's `training_step` returns a dictionary with "loss" and "z", and where there are such with "p",
        "target" and "W", as a call takes them. Raises ValueError where Lightning is not installed, and in training
        where there is no "z".
        """
        return _callback(self)

    def close(self) -> dict:
        """Sum up what was seen, in the folder and in `summary`, which is returned; empty where there was nothing."""
        if not self._closed and self._begun and self._writes:
            self._table.close()
            if self._first and self.folder.is_dir():  # it may have been removed by the end of the program
                self._conclude()
            self._held.close()
            atexit.unregister(self.close)
        self._closed = True
        return self.summary

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ------------------------------------------------------------ parts

    def _begin(self, device: torch.device) -> None:
        """Open the folder, now that it is known which process this is, and find where it goes on."""
        self._writes = not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0
        self._device, self._start, self._first = device, time.monotonic(), {}
        if self._writes:
            self._open()
        self.step = int(gathered(torch.tensor([self.step or 0], device=device), dim=0)[0])
        self._begun = True

    def _open(self) -> None:
        self._held.enter_context(lock.hold(self.folder))
        rows = rows_of(read(self.folder))
        if rows and not self.resume:
            self._held.close()
            raise BadInput(f"{self.folder} holds measurements already; name another folder, or go on with resume=True")
        self._table = Table(self.folder)
        if self.step is not None:
            self._table.cut(self.step - 1)
            rows = [row for row in rows if row["step"] < self.step]
        for row in rows:
            self._look(row)
        if rows:
            self.step = rows[-1]["step"] + 1 if self.step is None else self.step
            self._start -= rows[-1].get("seconds", 0.0)
        events = self.folder / "tensorboard" if self.tensorboard else None
        self._view = self._held.enter_context(View("", 0, quiet=True, tensorboard=events))
        atexit.register(self.close)

    def _keep(self, step: int, row: dict, arrays: dict) -> None:
        self._table.append(step, row, arrays)
        self._view.step(step, row)
        for sign in self._look(row | {"step": step}):
            warnings.warn(sign.words(), CollapseWarning, stacklevel=3)

    def _look(self, row: dict) -> list[Sign]:
        """The signs that are first seen in a row: the start suffices as history, the rest of it is in `signs`."""
        said = {sign.kind for sign in self.signs}
        found = diagnosis.warnings(row, [self._first] if self._first else [], self._trend)
        new = [sign._replace(step=row["step"]) for sign in found if sign.kind not in said]
        self._first = self._first or row
        self.signs += new
        return new

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _conclude(self) -> None:
        """Write the summary: what the table says, and beside it what is known of a run that is not our own."""
        table = read(self.folder)
        sound = all(math.isfinite(self._first.get(name, math.nan)) for name in _NEEDED)
        summary = outcome(table, "finished" if sound else "diverged", self._seconds, self.step)
        if self.picture:
            illustrate(self.folder, table, f"{self.folder.name}: {summary['diagnosis'] or ''}")
        summary |= {
            "knn": dict.fromkeys(("before", "after", "pixels")),
            "representation": None,
            "probe": None,
            "picture": self.picture,
            "run": str(self.folder),
            "tables": tables(self.folder),
            "config": {"watched": {"every": self.every, "spectra_every": self.spectra_every}},
            "data": dict.fromkeys(("key", "source")),
            "provenance": provenance(World(0, 1, self._device, None)),
        }
        self.summary = write_summary(self.folder, summary, self.signs)


_NEEDED = ("trace_z", "trace_p", "cosine_prediction")  # finite where z, p and target were at the start


def _both(views: Views) -> torch.Tensor:
    """The first two views as one tensor, (2, B, d)."""
    return views[:2] if isinstance(views, torch.Tensor) else torch.stack(tuple(views)[:2])


def _callback(watch: Watch):
    names = sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda name: name not in sys.modules)
    for name in names:  # first the one that is in use
        with contextlib.suppress(ImportError):
            kind = importlib.import_module(name).Callback
            break
    else:
        raise BadInput("a callback needs Lightning: pip install lightning")

    class WatchCallback(kind):
        """Hands each batch's outputs to the watch."""

        def on_train_start(self, trainer, module):
            watch.step = trainer.global_step * trainer.accumulate_grad_batches if trainer.global_step else watch.step

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if not isinstance(outputs, dict) or "z" not in outputs:
                raise BadInput("a watch needs a training_step that returns a dictionary with 'loss' and 'z', and 'p'")
            given = {name: outputs.get(name) for name in ("z", "p", "target", "W", "loss")}
            watch(**given, epoch=trainer.current_epoch)

        def on_train_end(self, trainer, module):
            watch.close()

        def on_exception(self, trainer, module, exception):
            watch.close()

    return WatchCallback()
