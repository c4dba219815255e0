"""What a result was computed by and on."""

import functools
import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.tools import origin

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.training.distributed import World

# Modules that `deep.training.runs` reaches and that change no number: what is shown and said of a run.
_SILENT = (
    "stopgrad.deep.words.live",
    "stopgrad.deep.words.picture",
    "stopgrad.deep.presets",
    "stopgrad.deep.storage.provenance",
)
NUMERICS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


@functools.cache
def _code() -> dict[str, str]:
    return origin.code("stopgrad.deep.training.runs", _SILENT, NUMERICS)


def code() -> dict[str, str]:
    """What computes a run: {module: digest} of all that `training.runs` reaches, and {package: version}."""
    return dict(_code())


@functools.cache
def fingerprint() -> str:
    """A hash of the code that computes a run and of the versions of its numerics."""
    return hashlib.sha256(json.dumps(_code(), sort_keys=True).encode()).hexdigest()


def provenance(world: "World") -> dict:
    """What a run that ends now was computed by and on."""
    import torch

    cuda = world.device.type == "cuda"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "fingerprint": fingerprint(),
        "code": code(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": world.device.type,
        "hardware": torch.cuda.get_device_name(world.device) if cuda else cpu_name(),
        "instructions": instructions(world.device),
        "threads": torch.get_num_threads(),
        "processes": world.size,
    }


def instructions(device: "torch.device") -> str:
    """The instruction set that torch computes with there, on which rounding, and the precision `auto`, depend."""
    import torch

    if device.type == "cuda":
        return "compute capability {}.{}".format(*torch.cuda.get_device_capability(device))
    return torch.backends.cpu.get_cpu_capability() + (" BF16" if cpu_has_bfloat16() else "")


def cpu_name() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_has_bfloat16() -> bool:
    """Whether the processor has the instructions and oneDNN may use them.

    Where ONEDNN_MAX_CPU_ISA forbids them, convolutions in bfloat16 fall back to plain loops, six times slower.
    """
    import torch

    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
