"""Images that become more and more (Li, Efros & Pathak 2022)."""

from dataclasses import dataclass

from stopgrad.deep.data.orders.chunks import Rounds


@dataclass(frozen=True)
class Accumulate(Rounds):
    """All chunks so far: the images become more and more, up to all at the end (Li, Efros & Pathak 2022).

    `--strategy accumulate` of the released code, the paper's cumulative training. Of 100 chunks the first is seen five
    times as often as in a usual run, the last one once.

    >>> import torch
    >>> from stopgrad.deep.data.orders.setting import Setting
    >>> run = Setting(seed=0, labels=torch.zeros(8), batch_size=2, epochs=4)
    >>> [len({k for step in range(4 * e, 4 * e + 4) for k in Accumulate().at(run, step)[0].tolist()}) for e in range(4)]
    [2, 4, 6, 8]
    """

    def stretch(self, chunk, length):
        """From 0 to c·(i + 1)."""
        return 0, (chunk + 1) * self.chunk_size
