"""The two backbones of the theory's own setting, on anything flattened to numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Backbone
from stopgrad.deep.parts import COUNT


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
    """None: the projector sees the points themselves."""

    identity = True

    def build(self, in_features: int | None = None):
        """(B, …) to (B, in_features)."""
        return _flattened(self, in_features)

    def complaints(self, config) -> Iterator[str]:
        """It is for points."""
        if config.data.dataset != "gaussian":
            yield "--backbone identity has nothing to do with images; it is for --dataset gaussian"


def _flattened(backbone: Backbone, in_features: int | None):
    from torch import nn

    if in_features is None:
        raise ValueError(f"--backbone {backbone} needs to know how many numbers a view has (in_features)")
    network = nn.Sequential(nn.Flatten())
    network.out_features = in_features
    return network
