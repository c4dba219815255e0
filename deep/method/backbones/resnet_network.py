"""Residual networks of any width with either stem.

Built from torchvision's public blocks, because its `ResNet` fixes the width and the first layers. At width 64 with the
ImageNet stem parameter names and outputs are those of torchvision's models without their last layer (He et al. 2016;
stride on the 3×3 convolution of a bottleneck). Li, Efros & Pathak 2022 change blocks and depths only.
"""

import functools
from itertools import product

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
_CONVOLUTION = {
    "cifar": {"kernel_size": 3, "stride": 1, "padding": 1},
    "imagenet": {"kernel_size": 7, "stride": 2, "padding": 3},
}
_POOLING = {"cifar": nn.Identity, "imagenet": lambda: nn.MaxPool2d(kernel_size=3, stride=2, padding=1)}
_PIXELS, _NUMBERS = 4, 256
"""Of an image, up to which one matrix is quicker than a 3×3 convolution's kernels (measured); of one pixel, any."""


class ResNetwork(nn.Module):
    """Four stages of residual blocks with `width`, 2, 4 and 8 × `width` planes: (B, 3, H, W) to (B, out_features).

    A basic block has as many output channels as planes, a bottleneck four times as many; `depths` counts the blocks.
    """

    def __init__(self, block: str, depths: tuple[int, ...], width: int, stem: str, zero_init_residual: bool):
        super().__init__()
        block = _BLOCKS[block]
        self.conv1 = nn.Conv2d(3, width, bias=False, **_CONVOLUTION[stem])
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = _POOLING[stem]()
        planes = [width * 2**k for k in range(4)]
        inputs = [width, *(block.expansion * p for p in planes)]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, inputs[k], planes[k], depths[k], stride=1 if k == 0 else 2) for k in range(4)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.out_features = inputs[-1]
        _initialise(self, zero_init_residual)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to representations."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution without bias that reads every `stride`-th pixel: `nn.Conv2d(…, 1, stride)`, name by name.

    The pixels are picked first and convolved with stride 1. On CPUs without AVX-512 oneDNN's weight gradient of a 1×1
    convolution with stride 2 writes past its workspace where a float32 input in channels_last has fewer than 8
    channels: crashes, hangs or wrong numbers. With stride 1 another kernel serves. What picks them is a mean over
    windows of one pixel: the gradient of a slice is laid out anew, not as its images are, and all that it is then added
    to or masked with goes through a kernel many times slower.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, kernel_size=1, bias=False)
        self.every = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return super().forward(x if self.every == 1 else functional.avg_pool2d(x, kernel_size=1, stride=self.every))


class SmallConv2d(nn.Conv2d):
    """A 3×3 convolution with padding 1 and without bias: `nn.Conv2d`, name by name, quick on images of few pixels.

    On a CPU a convolution of 2×2 pixels is nearly all border: oneDNN copies it apart for its weights' gradient, which
    takes five times as long as the products. Where an image is one pixel, or has few numbers, it goes through the
    matrix that the convolution is, one block for each pixel read and each written; bits may differ from `nn.Conv2d`'s.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        pixels, numbers = x.shape[2:].numel(), x.shape[1:].numel()
        if x.device.type != "cpu" or (pixels > 1 and (pixels > _PIXELS or numbers > _NUMBERS)):
            return super().forward(x)
        rows = x.permute(0, 2, 3, 1).flatten(1) @ self.matrix(*x.shape[2:])
        height, width = (-(-side // self.stride[0]) for side in x.shape[2:])
        return rows.unflatten(1, (height, width, self.out_channels)).permute(0, 3, 1, 2)

    def matrix(self, height: int, width: int) -> torch.Tensor:
        """What it does to an image whose numbers stand in a row, pixel by pixel and of each pixel all channels.

        (height · width · inputs, ⌈height/stride⌉ · ⌈width/stride⌉ · outputs).
        """
        if height == width == 1:
            return self.weight[:, :, 1, 1].T  # the others read the border
        taps = self.weight.permute(2, 3, 1, 0).flatten(0, 1)
        if max(height, width) > 2:  # then there are pixels out of each other's reach
            taps = torch.cat([taps, torch.zeros_like(taps[:1])])
        which = torch.tensor(_taps(height, width, self.stride[0]), device=taps.device)
        read, written = which.shape
        blocks = taps.index_select(0, which.flatten()).unflatten(0, (read, written))
        return blocks.transpose(1, 2).reshape(read * self.in_channels, written * self.out_channels)


@functools.cache
def _taps(height: int, width: int, stride: int) -> tuple[tuple[int, ...], ...]:
    """Which of a 3×3 convolution's nine taps leads from a pixel read (row) to one written (column); 9: none.

    Numbers and no tensor, which would be kept as the first caller's mode makes it: without a gradient, say.
    """

    def tap(down: int, right: int) -> int:
        return 3 * down + right if {down, right} <= {0, 1, 2} else 9

    written = [*product(range(0, height, stride), range(0, width, stride))]
    return tuple(tuple(tap(y - v + 1, x - u + 1) for v, u in written) for y, x in product(range(height), range(width)))


def _stage(block, inputs: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` blocks, the first of which changes resolution and channels, and then its shortcut is a convolution."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(PointwiseConv2d(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    blocks = [block(inputs, planes, stride, shortcut), *(block(outputs, planes) for _ in range(depth - 1))]
    return nn.Sequential(*map(_with_small_convolutions, blocks))


def _with_small_convolutions(block: nn.Module) -> nn.Module:
    """torchvision's block, its 3×3 convolutions ours: the same weights, for which no random numbers are drawn anew."""
    for name, old in block.named_children():
        if isinstance(old, nn.Conv2d) and old.kernel_size == (3, 3):
            with torch.device("meta"):
                new = SmallConv2d(old.in_channels, old.out_channels, old.stride[0])
            new.weight = old.weight
            setattr(block, name, new)
    return block


def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """torchvision's initialisation; BatchNorm's own is 1 and 0 already."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)
