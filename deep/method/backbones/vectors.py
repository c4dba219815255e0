"""Backbones on anything flattened to numbers: layers of ReLU, and the two of the theory's own setting."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Backbone
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class MLPBackbone(Backbone):
    """Layers with BatchNorm and ReLU, for points and small images.

    With width 256, `--projector-hidden 256` and `--embedding-dim 64` points of 64 numbers go through 64-256-256-64.

    >>> [tuple(w.shape) for w in MLPBackbone(width=256).build(in_features=64).parameters()]
    [(256, 64), (256,), (256,)]
    """

    width: Annotated[int, COUNT] = 256
    """Units of each layer."""
    depth: Annotated[int, COUNT] = 1
    """Layers."""

    def build(self, in_features: int | None = None):
        """(B, …) to (B, width); no bias, since BatchNorm takes the mean away."""
        from torch import nn

        network = _flattened(self, in_features)
        for _ in range(self.depth):
            layer = nn.Linear(network.out_features, self.width, bias=False)
            network.extend([layer, nn.BatchNorm1d(self.width), nn.ReLU(inplace=True)])
            network.out_features = self.width
        return network


@dataclass(frozen=True)
class LinearBackbone(Backbone):
    """One matrix without bias, for the theory's own setting."""

    width: Annotated[int, COUNT] = 16
    """Its outputs."""

    def build(self, in_features: int | None = None):
        """(B, …) to (B, width)."""
        from torch import nn

        network = _flattened(self, in_features)
        network.append(nn.Linear(in_features, self.width, bias=False))
        network.out_features = self.width
        return network


@dataclass(frozen=True)
class IdentityBackbone(Backbone):
    """None: the projector sees the points, or the images' numbers, themselves."""

    identity = True

    def build(self, in_features: int | None = None):
        """(B, …) to (B, in_features)."""
        return _flattened(self, in_features)


def _flattened(backbone: Backbone, in_features: int | None):
    from torch import nn

    if in_features is None:
        raise ValueError(f"--backbone {backbone} needs to know how many numbers a view has (in_features)")
    network = nn.Sequential(nn.Flatten())
    network.out_features = in_features
    return network
