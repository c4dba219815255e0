"""What an order of the images knows of a run, and how its steps are cut into parts' and processes' shares.

How many processes share a step decides which of them sees an image, never when it is seen: so a resumed run, or one on
more processes, walks the same path. An epoch is but a unit of time, whatever is seen in it: so runs in all orders are
equally long.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stopgrad.deep.data import counter
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.fold import fold
from stopgrad.deep.kinds import Order
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from stopgrad.deep.config import Config

_ORDER = int.from_bytes(b"order")  # keeps these numbers apart from every other use of the seed


@dataclass(frozen=True, eq=False)
class Setting:
    """What an order knows of a run."""

    seed: int
    labels: torch.Tensor
    """int64 (n,), on the CPU: classes of the training images, −1 where unknown; as many as there are images."""
    batch_size: int
    """Images of a step, over all processes and parts."""
    epochs: int
    """Length of the run, each as many steps as there are whole batches of images."""

    @classmethod
    def of(cls, config: "Config", labels: torch.Tensor) -> "Setting":
        """Of the run that `config` describes, on images with these labels, (n,). Raises ValueError for too few."""
        found = cls(config.seed, labels.cpu(), config.optimisation.batch_size, config.optimisation.epochs)
        steps_per_epoch(found.images, found.batch_size)
        return found

    @property
    def images(self) -> int:
        """Their number, n."""
        return len(self.labels)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in n images."""
        return steps_per_epoch(self.images, self.batch_size)

    @property
    def steps(self) -> int:
        """Length of the run."""
        return self.epochs * self.steps_per_epoch

    def shuffled(self, *key: int) -> torch.Tensor:
        """All images in an order that depends on their number, the seed and the key, int64 (n,). Not to be changed."""
        return _permutation(self.images, self.seed, *key)

    def repeated(self, images: torch.Tensor, start: int, count: int, *key: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` of the images that follow place `start` where int64 (m,) `images` are repeated without end.

        Each pass is shuffled anew, as the key has it. Returns their indices and the passes, from 0, as `Order.at` does.
        """
        size = len(images)
        first, last = start // size, (start + count - 1) // size
        passes = [images[_permutation(size, self.seed, *key, k)] for k in range(first, last + 1)]
        return torch.cat(passes)[start - first * size :][:count], torch.arange(start, start + count) // size


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in n images. Raises ValueError where there is none."""
    if batch_size > n:
        raise BadInput(f"--batch-size {batch_size} exceeds the {n} training images; it must be at most {n}")
    return n // batch_size


def check_shares(batch_size: int, world: int, accumulation: int = 1) -> None:
    """Raise ValueError for a batch that so many processes cannot share evenly in so many parts."""
    if batch_size % (accumulation * world):
        parts = f" in {accumulation} parts (--accumulation)" if accumulation > 1 else ""
        raise BadInput(
            f"{world} processes cannot share --batch-size {batch_size}{parts} evenly; "
            f"it must be a multiple of {accumulation * world}"
        )


def shares(
    order: Order, setting: Setting, rank: int = 0, world: int = 1, accumulation: int = 1, first_step: int = 0
) -> Iterator[Batch]:
    """One process's share of every step from `first_step` to the run's end, part after part, their views to be made.

    Part after part, and rank after rank in a part, the shares of a step are its images in their order.
    """
    for step in range(first_step, setting.steps):
        index, visit = (rows.reshape(accumulation, world, -1)[:, rank] for rows in order.at(setting, step))
        for part in range(accumulation):
            yield Batch((), index[part], visit[part], step)


@functools.lru_cache(maxsize=8)  # an epoch's, and what repetition takes; each has 8 bytes an image
def _permutation(n: int, *key: int) -> torch.Tensor:
    return counter.permutation(fold(_ORDER, *key), n)
