"""A single pass over chunks of the images (Li, Efros & Pathak 2022)."""

from dataclasses import dataclass

from stopgrad.deep.data.orders.chunks import Rounds


@dataclass(frozen=True)
class Current(Rounds):
    """A single pass over chunks of the images: an epoch sees its own chunk alone (Li, Efros & Pathak 2022).

    `--strategy current` of the released code. Single is the pass over chunks; within its epochs a chunk is repeated, so
    that an image is seen as often as in a usual run, and then never again.

    >>> import torch
    >>> from stopgrad.deep.data.orders.setting import Setting
    >>> run = Setting(seed=0, labels=torch.zeros(8), batch_size=2, epochs=4)  # 4 chunks of 2 images, 4 steps each
    >>> [sorted(Current().at(run, step)[0].tolist()) for step in (0, 3, 4)]
    [[0, 3], [0, 3], [2, 6]]
    >>> [Current().at(run, step)[1].tolist() for step in (0, 3)]  # an image's visits, each with views of its own
    [[0, 0], [3, 3]]
    """

    def stretch(self, chunk, length):
        """From c·i to c·(i + 1)."""
        return chunk * self.chunk_size, (chunk + 1) * self.chunk_size
