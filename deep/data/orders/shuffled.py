"""The usual order: every image once an epoch."""

from dataclasses import dataclass

from stopgrad.deep.kinds import Order


@dataclass(frozen=True)
class Shuffled(Order):
    """All images, shuffled anew each epoch; what fills no whole batch is left out of it."""

    def at(self, setting, step):
        """Visit k is epoch k."""
        epoch, place = divmod(step, setting.steps_per_epoch)
        index = setting.shuffled(epoch)[place * setting.batch_size :][: setting.batch_size]
        return index, index.new_full(index.shape, epoch)
