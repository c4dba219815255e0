"""Continual at first, then over all images: Li, Efros & Pathak 2022."""

from dataclasses import dataclass

import torch

from stopgrad.deep.data.orders.order import Setting, repeated, shuffle
from stopgrad.deep.data.orders.shuffled import Shuffled


@dataclass(frozen=True)
class Hybrid:
    """A single pass over chunks of the images, then epochs over all of them (Li, Efros & Pathak 2022).

    A run of E epochs has E chunks of equal size. Each of the first epochs repeats one of them, shuffled anew at each
    pass, for as many steps as any epoch has; then the usual order goes on. Where the paper leaves out what fills no
    whole batch of a chunk, here a batch may reach into the next pass, so that a chunk may be smaller than a batch.
    """

    single_pass: float = 0.4
    """Share of the epochs that are spent on chunks, 0 to 1; 1 is the paper's single pass."""

    def at(self, setting: Setting, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Order.at`. Raises ValueError where chunks would be empty."""
        n, seed, epochs = setting.images, setting.seed, setting.epochs
        if epochs > n:
            raise ValueError(f"--epochs {epochs} exceeds the {n} training images; each epoch needs a chunk of its own")
        epoch, place = divmod(step, setting.steps_per_epoch)
        chunk, chunks = shuffle(n, seed) * epochs // n, round(self.single_pass * epochs)
        if epoch < chunks:
            mine = (chunk == epoch).nonzero()[:, 0]
            return repeated(mine, place * setting.batch_size, setting.batch_size, seed, epoch)
        index, visit = Shuffled().at(setting, step)
        passes = -(-setting.steps_per_epoch * setting.batch_size // chunk.bincount())  # begun with each chunk
        before = torch.where(chunk[index] < chunks, passes[chunk[index]], 0)
        return index, visit - chunks + before
