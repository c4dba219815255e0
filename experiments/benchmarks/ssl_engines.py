"""What `experiments.benchmarks.training` times, and this project's engine for it; lightly's is in `ssl_lightly`.

The method is SimSiam for CIFAR as lightly's cifar10 benchmark has it: ResNet-18 with the CIFAR stem, a projector of two
layers with BatchNorm after both, a bottleneck predictor, cosine loss, stop-gradient; SGD with momentum. An engine is
built from a task, says its `setting` in words, takes one step to `warm_up`, and measures one `chunk` at a time.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.datasets import Dataset, ImageSet
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.training.build import build, half_precision
from stopgrad.deep.training.recorder import Recorder, Stop
from stopgrad.deep.training.runs import training_batches
from stopgrad.deep.training.training import Clock, Plan, Run, train
from stopgrad.deep.training.watch import Watch
from stopgrad.deep.words.live import View
from stopgrad.linear_theory.simulation.allocator import keep_memory

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.06, 0.9, 5e-4
"""As in lightly's cifar10 benchmark."""
MONITOR_EVERY = 10


@dataclass(frozen=True)
class Task:
    """What every engine trains, and how much of it a chunk times. Steps and batches `warm` before are not timed."""

    width: int = 64
    heads: tuple[int, int, int] = (2048, 2048, 512)
    """Units of the projector's hidden layer, the embedding, and the predictor's hidden layer; these are SimSiam's."""
    batch: int = 128
    images: int = 50_000
    warm: int = 1
    """At most `MONITOR_EVERY`: ours is warm up to a step that is measured, so that the timed ones begin with it."""
    timed: int = 2
    """Steps end to end, at most `MONITOR_EVERY`; the first is measured, and each is charged its share of that."""
    step_timed: int = 1
    """Steps alone, on one batch; they follow steps end to end and need no warming."""
    warm_batches: int = 5
    """Batches alone that are not timed: more than a loader makes in advance."""
    timed_batches: int = 8
    device: str = "cpu"
    compile: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the images."""
        return self.images // self.batch


class Chunk(NamedTuple):
    """What one chunk found, in seconds a step or batch; None where an engine has no such part."""

    end_to_end: float
    step: float
    augmentation: float
    monitor: float | None = None
    """Seconds of one measurement, of which every `MONITOR_EVERY`-th step has one."""


def config(task: Task) -> Config:
    """The task as a run of this project."""
    hidden, embedding, bottleneck = task.heads
    method = Method.of(
        width=task.width,
        projector_hidden=hidden,
        embedding_dim=embedding,
        projector_output_bn="affine",
        predictor="mlp",
        predictor_hidden=bottleneck,
        predictor_bias=True,
        zero_init_residual=False,
    )
    optimisation = Optimisation(
        epochs=10_000,
        batch_size=task.batch,
        lr=LEARNING_RATE,
        lr_scaling="none",
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        compile=task.compile,
    )
    monitor = Monitor(monitor_every=MONITOR_EVERY, evaluate_every=10_000)
    return Config(Data(dataset="cifar10"), method, optimisation, monitor)


def images(count: int) -> torch.Tensor:
    """Smooth random images, uint8 (count, 3, 32, 32): nothing of the cost depends on what they show."""
    coarse = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")


def flops_a_sample(task: Task) -> int:
    """Multiplications and additions of a training step for one image: both views forward and backward.

    Counted by torch over convolutions and matrix products.
    """
    siamese, views = Siamese(config(task).method), torch.rand(2, 2, 3, 32, 32)  # two pairs: BatchNorm refuses one
    with FlopCounterMode(display=False) as counter:
        siamese(Batch.of(*views)).loss.backward()
    return counter.get_total_flops() // views.shape[1]


# ---------------------------------------------------------------- this project


class Stopwatch:
    """The observer of a chunk (`training.Observer`): times `timed` steps after `warm` ones, then ends the chunk.

    What a run's recorder does at a step is done and timed as part of it. Asynchronous devices are waited for.
    """

    def __init__(self, device: torch.device, warm: int, timed: int, recorder: Recorder | None = None):
        self.device, self.recorder, self.warm, self.last = device, recorder, warm, warm + timed
        self.steps, self.measured = 0, []
        self.began = self.ended = self.now()

    def now(self) -> float:
        """Seconds, all work on the device being done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of a timed step."""
        return (self.ended - self.began) / (self.last - self.warm)

    def wants(self, step: int) -> bool:
        """As the recorder says."""
        return self.recorder is not None and self.recorder.wants(step)

    def measure(self, clock: Clock, outputs: Outputs) -> bool:
        """As the recorder does."""
        began = self.now()
        goes_on = self.recorder.measure(clock, outputs)
        self.measured.append(self.now() - began)
        return goes_on

    def after_epoch(self, epoch: int, clock: Clock) -> bool:
        """Evaluations and checkpoints are not timed."""
        return True

    def must_stop(self) -> bool:
        """After the last timed step."""
        self.steps += 1
        if self.steps == self.warm:
            self.began = self.now()
        if self.steps == self.last:
            self.ended = self.now()
        return self.steps >= self.last


class Stopgrad:
    """This project's engine as `python -m deep train` puts it together and runs it, its recorder included."""

    def __init__(self, task: Task):
        keep_memory()
        self.task, self.config = task, config(task)
        self.device = torch.device(task.device)
        world = World(0, 1, self.device, None)
        pictures = ImageSet(images(task.images).to(self.device), torch.zeros(task.images, dtype=torch.int64))
        dataset = Dataset("random", (), (0.5,) * 3, (0.25,) * 3, pictures, pictures, 32, "")
        plan = Plan(self.config.optimisation, task.steps_per_epoch)
        siamese = build(self.config, dataset, world)
        optimiser = make_optimiser(siamese, self.config.optimisation)
        self.batches = training_batches(self.config, dataset, world, torch.float32)
        self.run = Run(siamese, optimiser, self.batches, plan)
        self._folder = tempfile.TemporaryDirectory()
        self.recorder = Recorder(
            self.config,
            Path(self._folder.name),
            world,
            siamese,
            optimiser,
            plan,
            dict,
            dict,
            View("", plan.steps, quiet=True),
            Stop(),
        )
        self.chunks = 0

    @property
    def setting(self) -> str:
        """Arithmetic and memory in words."""
        half = half_precision(self.config, self.device)
        return f"{'float32' if half is None else 'bfloat16'} channels_last, views made in the process"

    def warm_up(self) -> None:
        """A first step, which allocates and chooses algorithms."""
        self.run.clock.step = MONITOR_EVERY
        self._train(self.run, Stopwatch(self.device, 0, 1, self.recorder))

    def chunk(self) -> Chunk:
        """One epoch's beginning, up to the last timed step; then the parts."""
        task = self.task
        self.chunks += 1
        begins = self.chunks * task.steps_per_epoch
        self.run.clock.step = begins + MONITOR_EVERY - task.warm
        whole = self._train(self.run, Stopwatch(self.device, task.warm, task.timed, self.recorder))

        batch = next(self.batches(begins))
        alone = replace(self.run, batches=lambda first: repeat(batch), clock=Clock(self.run.clock.step))
        step = self._train(alone, Stopwatch(self.device, 0, task.step_timed))
        augmentation = seconds_a_batch(self.batches(begins), task)
        (monitor,) = whole.measured
        end_to_end = whole.seconds + monitor * (1 / MONITOR_EVERY - 1 / task.timed)
        return Chunk(end_to_end, step.seconds, augmentation, monitor)

    def epochs(self, warm: int, timed: int) -> list[float]:
        """Seconds of `timed` whole epochs after `warm` ones, monitor on; evaluation and checkpoints apart."""
        self.run.clock.step = self.task.steps_per_epoch
        watch = self._train(self.run, EpochWatch(self.device, warm + timed, self.recorder))
        return watch.epochs[warm:]

    @staticmethod
    def _train(run: Run, watch: Stopwatch) -> Stopwatch:
        if train(run, watch) != "stopped":
            raise RuntimeError("the loss is not a number any more")
        return watch


class Watched(Stopgrad):
    """A loop over the same network that `deep.Watch` looks at, as anybody's may be, in place of our recorder."""

    def __init__(self, task: Task):
        super().__init__(task)
        self.watch = Watch(Path(self._folder.name) / "watch", MONITOR_EVERY, tensorboard=False, picture=False)

    @property
    def setting(self) -> str:
        """Arithmetic and memory in words, and how often what is measured."""
        return f"{super().setting}; Watch every {MONITOR_EVERY} steps, spectra every {self.watch.spectra_every}"

    def chunk(self) -> Chunk:
        """As our own, with the watch's cost for that of the recorder; the rare spectra are charged their share."""
        found = super().chunk()
        outputs = self.run.siamese(next(self.batches(self.chunks * self.task.steps_per_epoch)))
        first = 2 * self.chunks * self.watch.spectra_every  # with spectra, the next measurement without
        full, usual = (self._watched(outputs, first + k * MONITOR_EVERY) for k in (0, 1))
        monitor = usual + (full - usual) * MONITOR_EVERY / self.watch.spectra_every
        return found._replace(end_to_end=found.end_to_end + (monitor - found.monitor) / MONITOR_EVERY, monitor=monitor)

    def _watched(self, outputs: Outputs, first: int) -> float:
        """Seconds of `MONITOR_EVERY` calls from this step on, of which one measures."""
        waiting = Stopwatch(self.device, 0, 1)
        for step in range(first, first + MONITOR_EVERY):
            self.watch(outputs.z, outputs.p, outputs.target, loss=outputs.loss, step=step)
        return waiting.now() - waiting.began


class EpochWatch(Stopwatch):
    """Times `count` whole epochs: their seconds are `epochs`."""

    def __init__(self, device: torch.device, count: int, recorder: Recorder):
        super().__init__(device, 0, 1, recorder)
        self.count, self.epochs = count, []

    def after_epoch(self, epoch: int, clock: Clock) -> bool:
        """An epoch ends here; evaluations and checkpoints are not timed."""
        now = self.now()
        self.epochs.append(now - self.began)
        self.began = now
        return True

    def must_stop(self) -> bool:
        """After the last epoch."""
        return len(self.epochs) == self.count


def seconds_a_batch(batches: Iterator, task: Task) -> float:
    """Of making `timed_batches` batches after `warm_batches`, with nothing else going on."""
    for _ in islice(batches, task.warm_batches):
        pass
    began = time.perf_counter()
    for _ in islice(batches, task.timed_batches):
        pass
    return (time.perf_counter() - began) / task.timed_batches
