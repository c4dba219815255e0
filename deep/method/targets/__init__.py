"""Targets: what predictions are compared with. One file each, and a line in `deep.seats.TARGETS`."""

from typing import TYPE_CHECKING

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    from stopgrad.deep.data.batch import Batch
    from stopgrad.deep.method.outputs import Outputs


class Target(Part):
    """From a batch, and what the online network made of it, to target embeddings.

    A target with weights of its own builds a `deep.method.networks.TargetNetwork`; others are what they build.
    """

    views = 0
    """Views that it wants beside those that the online network sees, for itself alone."""
    ema_momentum: float | None = None
    """γ of a moving average of the online network; None where it is none."""
    learns = True
    """Whether gradients could pass through it to the online network."""

    def build(self, online, d: int):
        """What computes it: called as below, with `after_step`. `online` is the network, d its embeddings' size."""
        return self

    def __call__(self, batch: "Batch", seen: "Outputs", online) -> "Outputs":
        """`seen` with its `target` filled in, (V, B, d), the target embedding of each view; terms may be added too."""
        raise NotImplementedError

    def after_step(self, online) -> None:
        """Called after every step of the optimiser."""
