"""What a result was computed by and on."""

import dataclasses
import functools
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.deep.parts import Part
from stopgrad.linear_theory.tools import origin
from stopgrad.linear_theory.tools.kept import key

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.config import Config
    from stopgrad.deep.processes.distributed import World

# Modules that `deep.training.runs` reaches and that change no number: what is shown and said of a run, where its config
# came from, the records that hold it (its options are in the key, and defaults never change, which a test holds), the
# tables of parts, of which those that were chosen count, and the folder's lock.
SILENT = (
    *("stopgrad.deep.config", "stopgrad.deep.parts"),
    *("stopgrad.deep.words*", "stopgrad.deep.presets*", "stopgrad.deep.seats"),
    *("stopgrad.deep.storage.lock", "stopgrad.deep.storage.provenance"),
)
NUMERICS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


def code(*configs: "Config") -> dict[str, str]:
    """What computes runs: {module: digest} of all that `training.runs` and the configs' own parts reach, {package:
    version}. A part is a record in the config, of a class of its own; parts that were not chosen do not count."""
    return dict(_code(frozenset(kind for config in configs for kind in _kinds(config))))


def fingerprint(*configs: "Config") -> str:
    """A hash of the code that computes runs and of the versions of its numerics."""
    return key(code(*configs))


@functools.cache
def _code(kinds: frozenset[type], root: Path = origin.ROOT) -> dict[str, str]:
    found = origin.code("stopgrad.deep.training.runs", SILENT, NUMERICS, root)
    for kind in kinds:
        found |= origin.of_class(kind, SILENT, root)
    return dict(sorted(found.items()))


def _kinds(record) -> Iterator[type]:
    """The classes of all records in a config, and of what parts are made of."""
    if dataclasses.is_dataclass(record):
        yield type(record)
        for field in dataclasses.fields(record):
            yield from _kinds(getattr(record, field.name))
    if isinstance(record, Part):
        for part in record.made_of():
            yield from _kinds(part)


def provenance(world: "World", *configs: "Config") -> dict:
    """What runs that end now were computed by and on."""
    import torch

    cuda = world.device.type == "cuda"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "fingerprint": fingerprint(*configs),
        "code": code(*configs),
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
