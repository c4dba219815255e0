"""Who watches a run: measures, writes the table, evaluates, keeps checkpoints, and knows when to stop."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stopgrad.deep.config import Config, to_json
from stopgrad.deep.measuring.diagnosis import Sign, warnings
from stopgrad.deep.measuring.evaluation import for_table
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.trend import Trend
from stopgrad.deep.measuring.weights import BalanceResidual, balance_applies
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.processes.distributed import World, agree, gathered
from stopgrad.deep.processes.stopping import Stop
from stopgrad.deep.storage import checkpoint
from stopgrad.deep.storage.provenance import fingerprint
from stopgrad.deep.storage.run_folder import LAWS
from stopgrad.deep.storage.table import Columns, Table, read
from stopgrad.deep.training.training import Clock, Plan
from stopgrad.deep.words.live import View
from stopgrad.linear_theory.flows.matrices import Network
from stopgrad.linear_theory.tools.errors import BadInput


def rows_of(columns: Columns) -> list[dict]:
    """The scalars of a table, row by row; those a row lacks are left out."""
    rows = [{"step": int(step)} for step in columns.step]
    for name, values in columns.scalars.items():
        for row, value in zip(rows, values.tolist()):
            if not math.isnan(value):
                row[name] = value
    return rows


class Recorder:
    """The observer of a run in `folder`; see `deep.training.training.Observer`.

    Every process measures, since some of it is collective; the one that writes keeps table and checkpoints.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        world: World,
        siamese: Siamese,
        optimiser: torch.optim.Optimizer,
        plan: Plan,
        evaluate: Callable[[], dict | None],
        look: Callable[[], dict],
        view: View,
        stop: Stop,
        origin: dict | None = None,
    ):
        self.config, self.folder, self.world, self.plan = config, folder, world, plan
        self.siamese, self.optimiser, self.evaluate, self.view, self.stop = siamese, optimiser, evaluate, view, stop
        self.look = look
        self.origin = origin  # of the weights at the start, where these were another run's
        self.table = Table(folder) if world.writes else None
        self.evaluations = Table(folder / "evaluations") if world.writes else None
        self.laws = Table(folder / LAWS) if world.writes and config.monitor.laws_every else None
        self.balance: BalanceResidual | None = None
        self.rows: list[dict] = []
        self.warnings: list[Sign] = []
        self.trend = Trend()
        self.began, self.seconds_before = time.monotonic(), 0.0
        self.kept, self.keeping = self.began, 0.0  # when a checkpoint was last written, and how long that took

    # ------------------------------------------------------------ state

    def resume(self) -> Clock:
        """Go back to the last whole checkpoint, or to the start; rows past it are cut. Returns the clock.

        Raises ValueError for a checkpoint of another config, code or version: what followed would be no one's run.
        """
        found = checkpoint.load_latest(self.folder, to_json(self.config), warn=self.view.say)
        clock = Clock()
        if found is not None:
            if found.payload["fingerprint"] != fingerprint(self.config):
                raise BadInput(f"{self.folder} was begun by other code or versions; name another --out, or remove it")
            self.siamese.load_state_dict(found.payload["siamese"])
            self.optimiser.load_state_dict(found.payload["optimiser"])
            clock = Clock(found.step, found.payload["time"])
            self.warnings = [Sign(*sign) for sign in found.payload["warnings"]]
            self.seconds_before = found.payload["seconds"]
        if balance_applies(self.config) is None:
            self.balance = BalanceResidual.start(self.config, *self._last_layers())
            if found is not None and found.payload["balance"]:
                Wp, W = (v.to(self.world.device) for v in found.payload["balance"])
                self.balance = BalanceResidual(Network(Wp, W, W), self.balance.h)
        if self.world.writes:
            self.table.cut(clock.step - 1)
            # the evaluation at a checkpoint's own step came before it, but for that before training, which is repeated
            self.evaluations.cut(clock.step or -1)
            if self.laws is not None:
                self.laws.cut(clock.step or -1)
            self.rows = rows_of(read(self.folder))
            for row in self.rows:
                self.trend.look(row)
        return clock

    def keep(self, clock: Clock) -> None:
        """Write a checkpoint."""
        if not self.world.writes:
            return
        payload = {
            "siamese": self.siamese.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "time": clock.time,
            "warnings": [tuple(sign) for sign in self.warnings],
            "seconds": self.seconds,
            "balance": [self.balance.initial.Wp, self.balance.initial.W] if self.balance else None,
            "fingerprint": fingerprint(self.config),
            "started_from": self.origin,
        }
        began = time.monotonic()
        self.table.sync()
        self.evaluations.sync()
        if self.laws is not None:
            self.laws.sync()
        checkpoint.save(self.folder, clock.step, payload, to_json(self.config))
        self.kept = time.monotonic()
        self.keeping = self.kept - began

    # ------------------------------------------------------------ what training asks

    def wants(self, step: int) -> bool:
        """Every k-th step, the first after an evaluation, and the last."""
        return step % self.config.monitor.monitor_every == 0 or self._evaluates(step)

    def measure(self, clock: Clock, outputs: Outputs) -> bool:
        """Write a row of the table; False if the loss is no longer a number."""
        whole, parts = outputs.map(gathered), outputs.scalars | outputs.terms
        row, arrays = to_host(
            measure(
                *(v[:2] for v in (whole.z, whole.p, whole.target)),
                self.siamese.predictor.matrix(),
                full=self._evaluates(clock.step),
                siamese=self.siamese,
                config=self.config,
                step=clock.step,
                epoch=clock.step // self.plan.steps_per_epoch,
                time=clock.time,
                rates=self.plan.rates(clock.step),
                loss=gathered(outputs.loss.reshape(1), dim=0).mean(),
                seconds=self.seconds,
                balance=self.balance,
            )
        )
        if taken := sorted(row.keys() & parts.keys()):
            raise ValueError(f"{', '.join(taken)}: measured already; a part's terms and scalars need other names")
        row |= {name: float(gathered(value.reshape(1), dim=0).mean()) for name, value in parts.items()}
        if self.world.writes:
            self._write(clock.step, row, arrays)
        return math.isfinite(row["loss"])

    def after_epoch(self, epoch: int, clock: Clock) -> bool:
        """Evaluate where it is due, and keep a checkpoint; False if weights or representations are no numbers."""
        sound = bool(torch.stack([w.isfinite().all() for w in self.siamese.parameters()]).all())
        due = epoch % self.config.monitor.evaluate_every == 0 or epoch == self._epochs
        if sound and due and self.world.writes:
            found = self.evaluate()
            sound = found is not None
            if sound:
                row, arrays = for_table(found)
                self.evaluations.append(clock.step, {"epoch": epoch} | row, arrays)
                self.view.evaluation(epoch, row)
        if agree(not sound):
            return False
        every = self.config.monitor.laws_every
        if every and (epoch % every == 0 or epoch == self._epochs):
            seen = self.look()  # by every process: BatchNorm may ask all
            if self.laws is not None:
                self.laws.append(clock.step, {"time": clock.time}, seen)
        if (due and epoch > 0) or epoch == self._epochs or self._worth_keeping(epoch):
            self.keep(clock)
        return True

    def must_stop(self) -> bool:
        """Whether a signal has come, here or to another process; all then leave with the same one."""
        if not agree(bool(self.stop.signal)):
            return False
        self.stop.signal = int(gathered(torch.tensor([self.stop.signal]), dim=0).max())
        return True

    # ------------------------------------------------------------ parts

    def _worth_keeping(self, epoch: int) -> bool:
        """Whether a checkpoint between evaluations would cost less than a fiftieth of the training it may save."""
        return epoch > 0 and time.monotonic() - self.kept > 50 * self.keeping

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, over its resumptions."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def _epochs(self) -> int:
        return self.config.optimisation.epochs

    def _evaluates(self, step: int) -> bool:
        epoch, within = divmod(step, self.plan.steps_per_epoch)
        return (within == 0 and epoch % self.config.monitor.evaluate_every == 0) or step == self.plan.steps - 1

    def _last_layers(self):
        last = self.siamese.online.projector.last
        return last.weight, last.bias, self.siamese.predictor.matrix()

    def _write(self, step: int, row: dict, arrays: dict) -> None:
        self.table.append(step, row, arrays)
        said = {sign.kind for sign in self.warnings}  # a table read again does not say which numbers were infinite
        for sign in warnings(row, self.rows, self.trend):
            if sign.kind not in said:
                self.warnings.append(sign._replace(step=step))
                self.view.say(f"warning, {self.warnings[-1].words()}")
        self.rows.append(row)
        self.view.step(step, row | arrays)
