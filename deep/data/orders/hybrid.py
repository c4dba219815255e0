"""Continual at first, then over all images (Li, Efros & Pathak 2022)."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.data.orders.shuffled import Shuffled
from stopgrad.deep.kinds import Order
from stopgrad.deep.parts import PROBABILITY
from stopgrad.linear_theory.tools.errors import BadInput


@dataclass(frozen=True)
class Hybrid(Order):
    """A single pass over chunks of the images, one an epoch, then epochs over all (Li, Efros & Pathak 2022).

    A run of E epochs has E chunks of equal size. Each of the first epochs repeats one of them, shuffled anew at each
    pass, for as many steps as any epoch has; then the usual order goes on. Where the paper leaves out what fills no
    whole batch of a chunk, here a batch may reach into the next pass, so that a chunk may be smaller than a batch.
    """

    single_pass: Annotated[float, PROBABILITY] = 0.4
    """Share of the epochs that are spent on chunks, 0 to 1; 1 is the paper's single pass."""

    def at(self, setting, step):
        """Visit k is the chunk's pass k; later, epoch k after all passes begun. ValueError where a chunk is empty."""
        n, epochs, size = setting.images, setting.epochs, setting.batch_size
        if epochs > n:
            raise BadInput(f"--epochs {epochs} exceeds the {n} training images; each epoch needs a chunk of its own")
        epoch, place = divmod(step, setting.steps_per_epoch)
        chunk, chunks = setting.shuffled() * epochs // n, round(self.single_pass * epochs)
        if epoch < chunks:
            return setting.repeated((chunk == epoch).nonzero()[:, 0], place * size, size, epoch)
        index, visit = Shuffled().at(setting, step)
        passes = -(-setting.steps_per_epoch * size // chunk.bincount())  # begun with each chunk
        passes[chunks:] = 0
        return index, visit - chunks + passes[chunk[index]]
