"""In which order a run visits its images: a function of (seed, epoch), cut into steps, parts and processes' shares.

An order is one int64 tensor of indices for an epoch. How many processes share a step decides which of them sees an
image, never when it is seen: so a resumed run, or one on more processes, walks the same path.
"""

from collections.abc import Iterator

import torch

from stopgrad.deep.data import counter
from stopgrad.linear_theory.tools.errors import BadInput

_ORDER = int.from_bytes(b"order")  # keeps these numbers apart from every other use of the seed


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in n images; what is left over waits for another epoch. Raises ValueError where there is none."""
    if batch_size > n:
        raise BadInput(f"--batch-size {batch_size} exceeds the {n} training images; it must be at most {n}")
    return n // batch_size


def epoch_order(seed: int, epoch: int, n: int) -> torch.Tensor:
    """A permutation of 0 … n − 1 that depends on (seed, epoch, n) only: int64 (n,), on the CPU."""
    return counter.permutation(counter.fold(_ORDER, seed, epoch), n)


def split(
    order: torch.Tensor, batch_size: int, rank: int = 0, world: int = 1, accumulation: int = 1, first_step: int = 0
) -> Iterator[torch.Tensor]:
    """Cut an epoch's order, int64 (n,), into one process's share of every step from `first_step` on.

    Yields int64 (accumulation, batch_size/(accumulation · world)), one row for each part of a split batch. Part after
    part, and rank after rank in a part, the shares of a step are the next `batch_size` indices of the order. Raises
    ValueError, at the call, for a batch that is larger than the order or cannot be shared evenly.
    """
    steps = steps_per_epoch(len(order), batch_size)
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank}; with {world} processes it must be 0 … {world - 1}")
    if batch_size % (accumulation * world):
        parts = f" in {accumulation} parts (--accumulation)" if accumulation > 1 else ""
        raise BadInput(
            f"{world} processes cannot share --batch-size {batch_size}{parts} evenly; "
            f"it must be a multiple of {accumulation * world}"
        )
    if first_step < 0:
        raise ValueError(f"first_step is {first_step}; it must be at least 0")
    shares = order[: steps * batch_size].view(steps, accumulation, world, -1)[first_step:, :, rank]
    return iter(shares.unbind(0))


def batches(
    seed: int,
    epoch: int,
    n: int,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    accumulation: int = 1,
    first_step: int = 0,
) -> Iterator[torch.Tensor]:
    """`split` of `epoch_order`: what one process learns from in one epoch of n images, step by step.

    Another order (of several sets in turn, say) is another function (epoch) → indices, handed to `split`.
    """
    return split(epoch_order(seed, epoch, n), batch_size, rank, world, accumulation, first_step)
