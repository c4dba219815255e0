"""Residual networks of any width with either stem: He et al. 2016, and Li, Efros & Pathak's variants of 2022."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from stopgrad.deep.kinds import Backbone
from stopgrad.deep.parts import COUNT

SMALL = 8**2 * 32**2
"""Channels² × pixels up to which a residual network trains on one thread; the papers' has 64² × 32²."""


@dataclass(frozen=True)
class ResNet(Backbone):
    """Four stages of residual blocks, on images."""

    stem: Literal["cifar", "imagenet"] = "cifar"
    """cifar: 3×3 convolution with stride 1 and no pooling; imagenet: 7×7 with stride 2, then max-pooling."""
    width: Annotated[int, COUNT] = 16
    """Channels of the first stage; 64 is the ResNet of the papers."""
    zero_init_residual: bool = True
    """Start every residual block as the identity (the last normalisation's weight is 0)."""
    block: ClassVar[Literal["basic", "bottleneck"]]
    depths: ClassVar[tuple[int, int, int, int]]
    """Blocks of each stage."""
    vectors = False

    def build(self, in_features: int | None = None):
        """(B, 3, H, W) to (B, out_features)."""
        from stopgrad.deep.method.backbones.resnet_network import ResNetwork

        return ResNetwork(self.block, self.depths, self.width, self.stem, self.zero_init_residual)

    def small(self, pixels: int) -> bool:
        """Whether its kernels take microseconds."""
        return self.width**2 * pixels <= SMALL


class ResNet18(ResNet):
    """Two basic blocks a stage."""

    block, depths = "basic", (2, 2, 2, 2)


class ResNet34(ResNet):
    """3, 4, 6, 3 basic blocks."""

    block, depths = "basic", (3, 4, 6, 3)


class ResNet50(ResNet):
    """3, 4, 6, 3 bottlenecks."""

    block, depths = "bottleneck", (3, 4, 6, 3)


class ResNet18Bottleneck(ResNet):
    """Two bottlenecks a stage (Li et al.)."""

    block, depths = "bottleneck", (2, 2, 2, 2)


class ResNet50Basic(ResNet):
    """5, 6, 9, 4 basic blocks (Li et al.)."""

    block, depths = "basic", (5, 6, 9, 4)
