"""The usual order: every image once an epoch."""

from dataclasses import dataclass

import torch

from stopgrad.deep.data.orders.order import Setting, shuffle


@dataclass(frozen=True)
class Shuffled:
    """All images, shuffled anew each epoch; what fills no whole batch is left out of it."""

    def at(self, setting: Setting, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Order.at`: the visit is the epoch."""
        epoch, place = divmod(step, setting.steps_per_epoch)
        index = shuffle(setting.images, setting.seed, epoch)[place * setting.batch_size :][: setting.batch_size]
        return index, torch.full_like(index, epoch)
