"""The first epochs of a run, as it would take them, and what Lemma 1 lets expect of the rest."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stopgrad.deep.config import Config, check
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.training import laws
from stopgrad.deep.training.build import fitting_threads
from stopgrad.deep.training.runs import prepare, training_batches
from stopgrad.deep.training.training import Run, train
from stopgrad.linear_theory.tools.errors import BadInput


def first_part(config: Config) -> int:
    """Epochs that are a tenth of the run, and one at least."""
    return max(1, config.optimisation.epochs // laws.EARLY)


@dataclass
class _Watch:
    """Looks at the network before training and after each of so many epochs, then ends the training."""

    look: Callable[[], dict]
    epochs: int
    seen: list[dict] = field(default_factory=list)
    diverged: bool = False

    def wants(self, step: int) -> bool:
        return True

    def measure(self, clock, outputs) -> bool:
        self.diverged = not math.isfinite(float(outputs.loss))
        return not self.diverged

    def after_epoch(self, epoch: int, clock) -> bool:
        self.seen.append(self.look())
        return epoch < self.epochs

    def must_stop(self) -> bool:
        return False


def expected(config: Config, world: World) -> dict:
    """What the first tenth of the run lets expect of it, trained here and nowhere kept, by one process.

    `laws.of_early`, and `steps` and `times` of the epochs' ends, the start's first. Raises ValueError for an impossible
    config, a run of less than two epochs, one that diverges at once, and what Lemma 1 knows nothing of.
    """
    config = check(config)
    if config.optimisation.epochs < 2:
        raise BadInput(f"--epochs is {config.optimisation.epochs}; a run whose beginning can be told has at least 2")
    with fitting_threads(config, world.device):
        dataset, plan, siamese = prepare(config, world)
        dtype = next(siamese.parameters()).dtype
        batches = laws.new_views(config, dataset, world.device, dtype)
        watch = _Watch(lambda: laws.look(siamese, batches()), first_part(config))
        optimiser = make_optimiser(siamese, config.optimisation)
        train(Run(siamese, optimiser, training_batches(config, dataset, world, dtype), plan), watch)
    if watch.diverged or not all(np.isfinite(v).all() for seen in watch.seen for v in seen.values()):
        raise BadInput("the run diverges within its first tenth; lower --lr, or --predictor-lr")
    each = np.array([plan.duration(step) for step in range(plan.steps)])
    times = np.concatenate([[0.0], each.reshape(config.optimisation.epochs, -1).sum(1).cumsum()])
    known = {name: np.stack([seen[name] for seen in watch.seen]) for name in watch.seen[0]}
    steps = (np.arange(len(times)) * plan.steps_per_epoch).tolist()
    return laws.of_early(config, times, known) | {"steps": steps, "times": times.tolist()}
