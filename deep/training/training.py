"""The training loop: batches in, steps out. What is learned, measured and kept is for others to say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch

from stopgrad.deep.config import Optimisation
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.optimisation import Rates, rates, set_rates
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.processes.distributed import average_gradients


@dataclass
class Clock:
    """How far a run is: what a checkpoint must know beside the weights."""

    step: int = 0
    """Optimiser steps taken."""
    time: float = 0.0
    """The theory's time: the sum of c·lr/(1 − m) over those steps."""


@dataclass(frozen=True)
class Plan:
    """How long a run is and how it moves."""

    optimisation: Optimisation
    steps_per_epoch: int
    loss_scale: float = 1.0
    restart: int = 0
    """Epoch at which the schedule of learning rates begins anew; 0: it never does."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.optimisation.epochs * self.steps_per_epoch

    def rates(self, step: int) -> Rates:
        """Learning rates of this step."""
        return rates(self.optimisation, step, self.steps_per_epoch, self.restart)

    def duration(self, step: int) -> float:
        """The theory's time that this step takes."""
        return self.loss_scale * self.rates(step).trunk / (1 - self.optimisation.momentum)


class Observer(Protocol):
    """Who watches a run."""

    def wants(self, step: int) -> bool:
        """Whether this step is to be measured."""

    def measure(self, clock: Clock, outputs: Outputs) -> bool:
        """Look at a step before its weights change; False ends the run."""

    def after_epoch(self, epoch: int, clock: Clock) -> bool:
        """So many epochs are done, 0 before the first step; False ends the run."""

    def must_stop(self) -> bool:
        """Whether the run is to end after this step, to be resumed later."""


@dataclass(frozen=True)
class Run:
    """What `train` moves: the method, its optimiser, the batches from a step on, the plan and the clock."""

    siamese: Siamese
    optimiser: torch.optim.Optimizer
    batches: Callable[[int], Iterator[Batch]]
    """First step → this process's batches up to the run's end, part after part."""
    plan: Plan
    clock: Clock = field(default_factory=Clock)


def gradient(siamese: Siamese, parts: list[Batch]) -> Outputs:
    """Add the gradient of a batch's loss to the parameters, part by part; the outputs of all parts, detached."""
    outputs = []
    for batch in parts:
        found = siamese(batch)
        if found.total.requires_grad:
            (found.total / len(parts)).backward()
        outputs.append(found.detached())
    average_gradients(siamese.parameters())
    return Outputs.joined(outputs)


def train(run: Run, observer: Observer) -> str:
    """Train until the plan's end: 'finished', 'stopped' (to be resumed) or 'diverged'."""
    siamese, optimiser, plan, clock = run.siamese, run.optimiser, run.plan, run.clock
    siamese.train()
    if clock.step == 0 and not observer.after_epoch(0, clock):
        return "diverged"
    batches = run.batches(clock.step)
    while clock.step < plan.steps:
        set_rates(optimiser, plan.rates(clock.step))
        outputs = gradient(siamese, list(islice(batches, plan.optimisation.accumulation)))
        if observer.wants(clock.step) and not observer.measure(clock, outputs):
            return "diverged"
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        siamese.after_step(outputs, optimiser)
        clock.time += plan.duration(clock.step)
        clock.step += 1
        epoch, within = divmod(clock.step, plan.steps_per_epoch)
        if not within and not observer.after_epoch(epoch, clock):
            return "diverged"
        if observer.must_stop():
            return "stopped"
    return "finished"
