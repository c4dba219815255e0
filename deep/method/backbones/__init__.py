"""Backbones: from a view to its representation. One file each, and a line in `deep.seats.BACKBONES`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    from torch import nn


class Backbone(Part):
    """A network with `out_features` as attribute, (B, …) to (B, out_features)."""

    vectors = True
    """Whether it takes points as well as images, each flattened to numbers."""
    identity = False
    """Whether the representation is the view itself."""

    def build(self, in_features: int | None = None) -> "nn.Module":
        """The network; `in_features`: how many numbers a view has."""
        raise NotImplementedError

    def small(self, pixels: int) -> bool:
        """Whether one thread trains it faster than several, for views of so many pixels."""
        return True

    def complaints(self, config) -> Iterator[str]:
        """Points are for those that take them."""
        if config.data.dataset == "gaussian" and not self.vectors:
            yield f"--backbone {self} needs images; with --dataset gaussian use linear or identity"
