"""How fast is training? `python -m stopgrad.experiments.benchmarks.training` holds it against lightly's SimSiam.

On a CPU both train ResNet-18 on 32-pixel images at the same batch, with the same heads, optimiser and augmentations,
taking turns, each in a process of its own. On CUDA this project's engine alone is timed, in images and floating-point
operations a second and in seconds an epoch of 50,000 images.
"""

import functools
import importlib.metadata
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track

from stopgrad.experiments.benchmarks import ssl_engines, ssl_lightly
from stopgrad.experiments.benchmarks import training_tables as tables
from stopgrad.experiments.benchmarks.ode import machine
from stopgrad.experiments.benchmarks.rounds import Rounds, interleaved
from stopgrad.experiments.benchmarks.ssl_engines import Chunk, Task
from stopgrad.experiments.benchmarks.workers import Worker
from stopgrad.linear_theory.tools.door import Command, main
from stopgrad.linear_theory.tools.errors import BadInput

OURS, WATCHED = "stopgrad", "stopgrad_watched"
BUDGET = 170.0
"""Seconds after which no further round of a width begins; three quiet ones take less on two cores."""
EPOCH_BAR, EPOCH_AIM, EPOCH_DEVICE = 1.5, 1.0, "H100"
"""Seconds an epoch on CUDA, and the device that they are meant for."""
WARM_EPOCHS, TIMED_EPOCHS = 1, 3


@dataclass(frozen=True)
class Engine:
    """How an engine is made from a task, the packages it runs on, by how much ours should be faster, {width: ×}, and
    which share of a step its monitor may take."""

    build: Callable[[Task], object]
    packages: tuple[str, ...]
    bars: dict[int, float]
    aims: dict[int, float]
    monitor_bar: float | None = None


ENGINES = {
    OURS: Engine(ssl_engines.Stopgrad, ("torch",), {}, {}),
    WATCHED: Engine(ssl_engines.Watched, ("torch",), {}, {}, monitor_bar=0.05),
    "lightly": Engine(ssl_lightly.lightly, ("lightly", "torch", "torchvision"), {64: 2.2, 16: 2.8}, {64: 3.5, 16: 5.0}),
    "lightly_same_arithmetic": Engine(ssl_lightly.lightly_same_arithmetic, ("lightly", "torch", "torchvision"), {}, {}),
}

# A step takes seconds at width 64 on two cores and a fifth of one at width 16.
NARROW = {"warm": 3, "timed": 10, "step_timed": 4}
REHEARSAL = Task(
    width=8,  # a peer with a plain strided 1×1 convolution needs 8 channels: see backbones.PointwiseConv2d
    heads=(32, 32, 8),
    batch=8,
    images=160,
    warm=1,
    timed=2,
    step_timed=1,
    warm_batches=2,
    timed_batches=2,
)
GPU = Task(width=64, batch=512, images=50_000, device="cuda")

PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
}
"""Dense bfloat16 with float32 sums, by a part of the device's name, as its maker states it; the first that fits."""


def peak_flops(device: str) -> float | None:
    """Operations a second that a CUDA device of this name can do at most; None where that is not known."""
    return next((1e12 * peak for name, peak in PEAK_TFLOPS.items() if name in device), None)


# ---------------------------------------------------------------- side by side on a CPU


def reason(error: Exception) -> str:
    """Why an engine is skipped, in a few words."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return f"{package} is not installed; `make bench` installs it"
    return str(error)


def prepared(worker: Worker, name: str, task: Task) -> dict:
    """Let a worker build an engine and take a first step: the part of its row known so far.

    A peer that is missing or broken gives {"skipped": why}; an error of ours is raised.
    """
    try:
        worker.make(ENGINES[name].build, task)
        worker.ask("warm_up")
        return {"setting": worker.ask("setting")}
    except Exception as error:
        if name == OURS:
            raise
        return {"skipped": reason(error)}


def side_by_side(workers: dict[str, Worker], task: Task, rounds: int, progress: Callable) -> dict[str, dict]:
    """One row an engine: the engines in turns, in their own processes, until `rounds` rounds were quiet."""
    rows = {name: prepared(worker, name, task) for name, worker in workers.items()}
    runs = {
        name: functools.partial(worker.ask, "chunk") for name, worker in workers.items() if "skipped" not in rows[name]
    }
    timing = interleaved(runs, rounds, progress=progress, timer=lambda run: run(), budget=BUDGET)
    flops = ssl_engines.flops_a_sample(task)
    return {name: row | (timed(name, task, timing, flops) if name in runs else {}) for name, row in rows.items()}


def timed(name: str, task: Task, timing: Rounds, flops: int) -> dict:
    """The speed part of a row: medians over rounds, the ratio to ours taken within each round."""
    chunks: list[Chunk] = timing.seconds[name]
    engine, ratio = ENGINES[name], None
    seconds, step, augmentation = (statistics.median(column) for column in list(zip(*chunks))[:3])
    if name != OURS and OURS in timing.seconds:
        ratio = statistics.median(c.end_to_end / o.end_to_end for c, o in zip(chunks, timing.seconds[OURS]))
    bar = engine.bars.get(task.width)
    monitored = [c.monitor for c in chunks if c.monitor is not None]
    share = statistics.median(monitored) / ssl_engines.MONITOR_EVERY / step if monitored else None
    limited = engine.monitor_bar is not None and share is not None
    return {
        "samples_per_second": task.batch / seconds,
        "step_samples_per_second": task.batch / step,
        "augmentation_views_per_second": 2 * task.batch / augmentation,
        "seconds_a_step": seconds,
        "round_seconds_a_step": [c.end_to_end for c in chunks],
        "augmentation_share": augmentation / step,
        "monitor_share": share,
        "monitor_bar": engine.monitor_bar,
        "monitor_bar_met": share <= engine.monitor_bar if limited else None,
        "tflop_per_second": flops * task.batch / seconds / 1e12,
        "stopgrad_times_faster": ratio,
        "bar": bar,
        "bar_met": None if bar is None or ratio is None else ratio >= bar,
        "aim": engine.aims.get(task.width),
        "other_load": timing.other_load,
        "quiet": timing.quiet,
        "rounds_attempted": timing.attempted,
    }


# ---------------------------------------------------------------- epochs on an accelerator


def epochs(task: Task) -> dict:
    """A row of this project's engine over whole epochs: their seconds, images and operations a second, and MFU."""
    with Worker() as worker:
        worker.make(ssl_engines.Stopgrad, task)
        setting, seconds = worker.ask("setting"), worker.ask("epochs", WARM_EPOCHS, TIMED_EPOCHS)
    on_cuda = task.device == "cuda"
    device = torch.cuda.get_device_name() if on_cuda else None
    samples = task.steps_per_epoch * task.batch
    flops = ssl_engines.flops_a_sample(task)
    epoch, peak = statistics.median(seconds), peak_flops(device) if on_cuda else None
    rate = flops * samples / epoch
    bar = EPOCH_BAR if on_cuda and EPOCH_DEVICE in device else None
    return {
        "setting": f"{setting}, {'compiled' if task.compile else 'not compiled'}",
        "device": device,
        "epoch_seconds": epoch,
        "round_epoch_seconds": seconds,
        "samples_per_second": samples / epoch,
        "gflop_a_sample": flops / 1e9,
        "tflop_per_second": rate / 1e12,
        "mfu": None if peak is None else rate / peak,
        "bar": bar,
        "bar_met": None if bar is None else epoch <= bar,
        "aim": None if bar is None else EPOCH_AIM,
    }


# ---------------------------------------------------------------- the command


@dataclass(frozen=True)
class Benchmark(Command):
    """Time training: against lightly on a CPU, alone on CUDA."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one."""
    widths: tuple[int, ...] = (64, 16)
    """Channels of ResNet-18's first stage on a CPU; the bars are meant for 64 and 16."""
    rounds: int = 3
    """Rounds to keep on a CPU; each times every engine once more."""
    engines: tuple[str, ...] = tuple(ENGINES)
    """Which engines to time on a CPU."""
    rehearse: bool = False
    """Go through both parts in toy sizes on this machine's CPU, to see that they work; no bar applies."""
    json: bool = False
    """Print one object and nothing else: engine to row, which on a CPU has a row for each width under `widths`."""

    def run(self) -> dict:
        """One row an engine. Raises ValueError for an unknown engine, no rounds, no width, or missing CUDA."""
        if unknown := [name for name in self.engines if name not in ENGINES]:
            raise BadInput(f"there is no engine {unknown[0]!r}; there are {', '.join(ENGINES)}")
        if self.rounds < 1:
            raise BadInput(f"rounds is {self.rounds}; it must be at least 1")
        if not self.widths or min(self.widths) < 1:
            raise BadInput("widths are counts of channels; there must be one, and each at least 1")
        if self.device == "cuda" and not (torch.cuda.is_available() or self.rehearse):
            raise BadInput("device is cuda and there is none; use --device cpu, or --rehearse to try the script")
        on_cuda = self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())
        here = machine()
        rows = {}
        if self.rehearse or not on_cuda:
            rows |= self._on_cpu()
        if self.rehearse or on_cuda:
            rows |= self._on_cuda()
        return {name: row | self._origin(name, row, here) for name, row in rows.items()}

    def _on_cpu(self) -> dict:
        names, found = tuple(dict.fromkeys(self.engines)), {}
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker()) for name in names}
            tasks = [Task(width=width, **(NARROW if width <= 32 else {})) for width in dict.fromkeys(self.widths)]
            for task in [REHEARSAL] if self.rehearse else tasks:
                found[str(task.width)] = side_by_side(workers, task, self.rounds, _progress)
        return {name: _joined({width: rows[name] for width, rows in found.items()}) for name in names}

    def _on_cuda(self) -> dict:
        task = REHEARSAL if self.rehearse else GPU
        # torch.compile needs a C++ compiler on a CPU, and a minute
        tasks = {"stopgrad_epochs": task}
        if not self.rehearse:
            tasks["stopgrad_epochs_compiled"] = replace(task, compile=True)
        return {name: epochs(task) for name, task in tasks.items()}

    @staticmethod
    def _origin(name: str, row: dict, here: dict) -> dict:
        if "skipped" in row:
            return {}
        packages = ENGINES[name].packages if name in ENGINES else ("torch",)
        return {"versions": {package: importlib.metadata.version(package) for package in packages}, "machine": here}

    def text(self, result: dict) -> str:
        """The rows as tables, with what they were measured on below them."""
        return tables.text(result)


def _progress(attempts, words):
    return track(attempts, words, console=Console(stderr=True), transient=True)


def _joined(by_width: dict[str, dict]) -> dict:
    """An engine's rows at several widths as one; skipped where it is at one of them."""
    skipped = [row for row in by_width.values() if "skipped" in row]
    return skipped[0] if skipped else {"widths": by_width}


def door(argv: list[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return main("stopgrad.experiments.benchmarks.training", __doc__, {"run": Benchmark}, argv)


if __name__ == "__main__":
    sys.exit(door())
