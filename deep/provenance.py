"""What a result was computed by and on."""

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import deep
import linear_theory
from deep.distributed import World

_SILENT = ("__main__", "commands", "live", "picture", "presets", "report")  # modules that change no number
_NUMERICS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


@functools.cache
def fingerprint() -> str:
    """A hash of the code that computes a run and of the versions of its numerics."""
    digest = hashlib.sha256(" ".join(map(version, _NUMERICS)).encode())
    for package in (deep, linear_theory):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            if path.stem not in _SILENT:
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def provenance(world: World) -> dict:
    """What a run was computed by and on."""
    cuda = world.device.type == "cuda"
    return {
        "fingerprint": fingerprint(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(world.device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": world.size,
    }


def cpu_name() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
