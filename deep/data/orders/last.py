"""A subset of the images, for as many steps as all would take (Li, Efros & Pathak 2022)."""

from dataclasses import dataclass

from stopgrad.deep.data.orders.chunks import Chunks


@dataclass(frozen=True)
class Last(Chunks):
    """A subset of the images, c of E parts, for as many steps as all would take (Li, Efros & Pathak 2022).

    `--strategy last` of the released code: the last c/E of the ordering, in every epoch; c is `chunk_size` and E the
    run's epochs. 20 of 100 epochs are 256,234 of ImageNet's 1,281,167 images. A `--fraction` of the images shortens a
    run instead, since an epoch is over all of the fraction.

    >>> import torch
    >>> from stopgrad.deep.data.orders.setting import Setting
    >>> run = Setting(seed=0, labels=torch.zeros(8), batch_size=2, epochs=4)
    >>> sorted({k for step in range(16) for k in Last().at(run, step)[0].tolist()})
    [5, 7]
    """

    def stretch(self, chunk, length):
        """The last c."""
        return length - self.chunk_size, length
