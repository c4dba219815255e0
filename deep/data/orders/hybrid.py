"""Continual at first, then over all images (Li, Efros & Pathak 2022)."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.data.orders.current import Current
from stopgrad.deep.data.orders.shuffled import Shuffled
from stopgrad.deep.parts import PROBABILITY


@dataclass(frozen=True)
class Hybrid(Current):
    """A single pass over chunks of the images, one an epoch, then epochs over all (Li, Efros & Pathak 2022).

    A run of E epochs begins as it would in the order `current`, with chunks of 1/E of the images. At the switch the
    usual order takes over, with optimiser and schedule as they are: the paper's run goes on from the checkpoint of a
    single pass. On ImageNet, where it switches after 40 of 100 epochs, at 0.65 of the learning rate's height, a linear
    probe of ResNet-18 gains 18 points over the usual order. `restart_lr` begins the schedule anew.

    >>> import torch
    >>> from stopgrad.deep.data.orders.setting import Setting
    >>> run, order = Setting(seed=0, labels=torch.zeros(8), batch_size=2, epochs=4), Hybrid(single_pass=0.5)
    >>> [len({k for step in range(4 * e, 4 * e + 4) for k in order.at(run, step)[0].tolist()}) for e in range(4)]
    [2, 2, 8, 8]
    """

    single_pass: Annotated[float, PROBABILITY] = 0.4
    """Share of the epochs that are spent on chunks, 0 to 1; 1 is the paper's single pass."""
    restart_lr: bool = False
    """At the switch let the learning rate start from its height again and fall over the epochs that are left; the
    paper's goes on falling as if there were no switch."""

    def complaints(self, config):
        """A learning rate that has nothing to restart, and what else a single pass refuses."""
        if self.restart_lr:
            o = config.optimisation
            switch = self.switch(o.epochs)
            if o.schedule != "cosine":
                yield f"--restart-lr has no effect under --schedule {o.schedule}, which never falls"
            if not o.warmup_epochs < switch < o.epochs:
                yield (
                    f"--restart-lr has no effect at epoch {switch} of {o.epochs}, where --single-pass "
                    f"{self.single_pass:g} has the switch; it must lie inside of the run, after the warm-up"
                )
        yield from super().complaints(config)

    def switch(self, epochs: int) -> int:
        """The first epoch, of so many, that is over all images."""
        return round(self.single_pass * epochs)

    def restart(self, epochs):
        """The switch, if it is wanted there."""
        return self.switch(epochs) if self.restart_lr else 0

    def at(self, setting, step):
        """Visit k is the chunk's pass k; later, epoch k after all passes begun. ValueError where a chunk is empty."""
        switch = self.switch(setting.epochs)
        if step < switch * setting.steps_per_epoch:
            return super().at(setting, step)
        index, epoch = Shuffled().at(setting, step)
        return index, epoch - switch + self.passes(setting, index, switch)
