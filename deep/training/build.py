"""From a config to the network, in the arithmetic and memory layout that are fastest where it will run."""

import contextlib
from collections.abc import Iterator

import torch

from stopgrad.deep.config import Config
from stopgrad.deep.data.datasets import Dataset
from stopgrad.deep.data.fold import fold
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.processes.distributed import World, synchronise
from stopgrad.deep.storage.provenance import cpu_has_bfloat16
from stopgrad.deep.training.start import Start

_INITIALISATION = int.from_bytes(b"start")


def half_precision(config: Config, device: torch.device) -> torch.dtype | None:
    """bfloat16 where it is asked for, or where auto finds it fast: CUDA that has it, CPUs with AVX-512 BF16."""
    precision = config.optimisation.precision
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto" or config.method.backbone.vectors:
        return None
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bfloat16()
    return torch.bfloat16 if fast else None


@contextlib.contextmanager
def fitting_threads(config: Config, device: torch.device) -> Iterator[None]:
    """One thread inside the block for a network too small for more, where the processor computes.

    The kernels of such a network take microseconds. A second thread saves little, and where another process wants its
    core, every kernel waits for it: training was seen to take six times as long.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and config.method.backbone.small(views_pixels(config)):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def views_pixels(config: Config) -> int:
    """Pixels of a view, as far as the config tells: 32 × 32 where the images decide."""
    return (config.data.image_size or (16 if config.data.dataset == "digits" else 32)) ** 2


def build(config: Config, dataset: Dataset, world: World, start: Start | None = None) -> Siamese:
    """The method with its initial weights, which the seed decides, or `start` as far as it has them, on the device."""
    torch.manual_seed(fold(_INITIALISATION, config.seed))
    vectors = config.data.dataset == "gaussian"
    features = dataset.train.images.shape[1] if vectors else 3 * dataset.size**2
    siamese = Siamese(config.method, features, half_precision(config, world.device))
    if config.optimisation.precision == "float64":
        siamese.double()
    if start is not None:
        start.put_into(siamese, config.method)
    siamese = synchronise(siamese, world).to(world.device)
    if not vectors:
        siamese = siamese.to(memory_format=torch.channels_last)
    if config.optimisation.compile:
        siamese.online.backbone.compile()
    return siamese
