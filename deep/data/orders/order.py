"""What an order of the images is: a function of a run's setting and of the step, cut into parts and processes' shares.

How many processes share a step decides which of them sees an image, never when it is seen: so a resumed run, or one on
more processes, walks the same path. An epoch is but a unit of time, whatever is seen in it: so runs in all orders are
equally long.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from stopgrad.deep.data import counter
from stopgrad.deep.data.batch import Batch

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
        """The setting of the run that `config` describes, on images with these labels. Raises ValueError for too few."""
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


class Order(Protocol):
    """In which order a run visits its images; a frozen record of its options."""

    def at(self, setting: Setting, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of a step's images and the visits' numbers, int64 (batch_size,) each, on the CPU.

        A pure function, asked for any step from 0. A visit's number says how often the image's turn has come before, so
        that no (index, visit) occurs twice: each visit has views of its own. An image may occur twice in a step.
        Raises ValueError, at step 0 too, for a setting in which the order is impossible.
        """


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in n images. Raises ValueError where there is none."""
    if batch_size > n:
        raise ValueError(f"--batch-size {batch_size} exceeds the {n} training images; it must be at most {n}")
    return n // batch_size


def check_shares(batch_size: int, world: int, accumulation: int = 1) -> None:
    """Raise ValueError for a batch that so many processes cannot share evenly in so many parts."""
    if batch_size % (accumulation * world):
        parts = f" in {accumulation} parts (--accumulation)" if accumulation > 1 else ""
        raise ValueError(
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


# ---------------------------------------------------------------- what orders are made of


@functools.lru_cache(maxsize=4)
def shuffle(n: int, *key: int) -> torch.Tensor:
    """A permutation of 0 … n − 1 that depends on (n, key) only, int64 (n,); the key begins with the seed. Read only."""
    return counter.permutation(counter.fold(_ORDER, *key), n)


def repeated(images: torch.Tensor, start: int, count: int, *key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` of the images that follow place `start` where int64 (m,) `images` are repeated without end.

    Each pass is shuffled anew. Returns their indices and the passes, from 0, as `Order.at` does.
    """
    size = len(images)
    first, last = start // size, (start + count - 1) // size
    passes = torch.cat([images[shuffle(size, *key, k)] for k in range(first, last + 1)])
    return passes[start - first * size :][:count], torch.arange(start, start + count) // size
