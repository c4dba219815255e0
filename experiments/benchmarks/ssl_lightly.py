"""lightly's own SimSiam code path on the benchmark's task: its dataset, loader, transform, model and loss.

A package that is not installed shows as an ImportError when the engine is built, never when this module is imported.
"""

import os
import time
from contextlib import nullcontext
from itertools import islice
from multiprocessing import active_children

import torch
from torch import nn

from stopgrad.deep.training.build import half_precision
from stopgrad.experiments.benchmarks.ssl_engines import (
    LEARNING_RATE,
    MOMENTUM,
    WEIGHT_DECAY,
    Chunk,
    Task,
    config,
    images,
    seconds_a_batch,
)
from stopgrad.linear_theory.simulation.allocator import keep_memory

LOADER_WORKERS = 2
"""Processes that make the views, one for each core of a small machine."""


class LightlySimSiam(nn.Module):
    """The SimSiam model of lightly's cifar10 benchmark, its heads and stem as they are there, in a plain loop.

    Its backbone leaves out the ReLU of the stem, which is a function in lightly's ResNet and no module.
    """

    def __init__(self, width: int, heads: tuple[int, int, int]):
        super().__init__()
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models import ResNetGenerator
        from lightly.models.modules.heads import ProjectionHead, SimSiamPredictionHead

        hidden, embedding, bottleneck = heads
        resnet = ResNetGenerator("resnet-18", width=width / 64)
        self.backbone = nn.Sequential(*list(resnet.children())[:-1], nn.AdaptiveAvgPool2d(1))
        self.projection_head = ProjectionHead(
            [
                (resnet.linear.in_features, hidden, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)),
                (hidden, embedding, nn.BatchNorm1d(embedding), None),
            ]
        )
        self.prediction_head = SimSiamPredictionHead(embedding, bottleneck, embedding)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x):
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)

    def loss(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        """Of a pair of batches of views, (B, 3, 32, 32) each."""
        z0, p0 = self(x0)
        z1, p1 = self(x1)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class _PilImages(torch.utils.data.Dataset):
    """Images in memory, handed out as torchvision's CIFAR10 does: as PIL images, transformed."""

    transform = None

    def __init__(self, count: int):
        self.pixels = images(count).permute(0, 2, 3, 1).contiguous().numpy()

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), 0


class Lightly:
    """lightly's dataset, transform, loader and model. `same_arithmetic`: with our precision, layout and allocator."""

    def __init__(self, task: Task, same_arithmetic: bool = False):
        os.environ["LIGHTLY_DID_VERSION_CHECK"] = "True"  # or it asks its server for a newer version
        from lightly.data import LightlyDataset
        from lightly.transforms import SimSiamTransform

        if same_arithmetic:
            keep_memory()
        self.task = task
        self.layout = torch.channels_last if same_arithmetic else torch.contiguous_format
        self.half = half_precision(config(task), torch.device("cpu")) if same_arithmetic else None
        transform = SimSiamTransform(input_size=32, gaussian_blur=0.0)
        dataset = LightlyDataset.from_torch_dataset(_PilImages(task.images), transform=transform)
        self.loader = torch.utils.data.DataLoader(
            dataset, batch_size=task.batch, shuffle=True, drop_last=True, num_workers=LOADER_WORKERS
        )
        self.model = LightlySimSiam(task.width, task.heads).to(memory_format=self.layout)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    @property
    def setting(self) -> str:
        """Arithmetic and memory in words."""
        layout = "contiguous" if self.layout is torch.contiguous_format else "channels_last"
        return f"{'float32' if self.half is None else 'bfloat16'} {layout}, {LOADER_WORKERS} loader workers"

    def warm_up(self) -> None:
        """A first step, which allocates and chooses algorithms."""
        self._step([torch.rand(self.task.batch, 3, 32, 32) for _ in range(2)])

    def chunk(self) -> Chunk:
        """Steps from a fresh loader and then batches alone; a step alone when the loader's workers are gone."""
        task, others = self.task, set(active_children())
        batches = iter(self.loader)
        for pair, _, _ in islice(batches, task.warm):
            self._step(pair)
        began = time.perf_counter()
        for pair, _, _ in islice(batches, task.timed):
            self._step(pair)
        whole = (time.perf_counter() - began) / task.timed
        augmentation = seconds_a_batch(batches, task)
        del batches  # and with it go its workers
        if set(active_children()) - others:
            raise RuntimeError("workers of lightly's loader are still there")

        began = time.perf_counter()
        for _ in range(task.step_timed):
            self._step(pair)
        step = (time.perf_counter() - began) / task.step_timed
        return Chunk(whole, step, augmentation)

    def _step(self, pair) -> None:
        x0, x1 = (x.contiguous(memory_format=self.layout) for x in pair)
        half = nullcontext() if self.half is None else torch.autocast("cpu", dtype=self.half)
        self.optimiser.zero_grad()
        with half:
            loss = self.model.loss(x0, x1)
        loss.backward()
        self.optimiser.step()


def lightly(task: Task) -> Lightly:
    """lightly as shipped."""
    return Lightly(task)


def lightly_same_arithmetic(task: Task) -> Lightly:
    """lightly given this project's precision, memory layout and allocator."""
    return Lightly(task, same_arithmetic=True)
