"""Residual networks of any width with either stem.

Built from torchvision's public blocks, because its `ResNet` fixes the width and the first layers. At width 64 with the
ImageNet stem parameter names and outputs are those of torchvision's models without their last layer (He et al. 2016;
stride on the 3×3 convolution of a bottleneck). Li, Efros & Pathak 2022 change blocks and depths only.
"""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
_CONVOLUTION = {
    "cifar": {"kernel_size": 3, "stride": 1, "padding": 1},
    "imagenet": {"kernel_size": 7, "stride": 2, "padding": 3},
}
_POOLING = {"cifar": nn.Identity, "imagenet": lambda: nn.MaxPool2d(kernel_size=3, stride=2, padding=1)}


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
    channels: crashes, hangs or wrong numbers. With stride 1 another kernel serves.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, kernel_size=1, bias=False)
        self.every = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return super().forward(x[:, :, :: self.every, :: self.every])


def _stage(block, inputs: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` blocks, the first of which changes resolution and channels, and then its shortcut is a convolution."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(PointwiseConv2d(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    return nn.Sequential(block(inputs, planes, stride, shortcut), *(block(outputs, planes) for _ in range(depth - 1)))


def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """torchvision's initialisation; BatchNorm's own is 1 and 0 already."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)
