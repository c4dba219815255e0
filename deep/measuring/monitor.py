"""What a training step shows: every quantity of a step that applies, of one batch's embeddings and of the network.

`measure` is a pure function of tensors that stays on their device; `to_host` brings its result over in one transfer.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from stopgrad.deep.measuring.quantities.quantities import measured
from stopgrad.deep.measuring.quantities.seen import Seen
from stopgrad.linear_theory.tools.arrays import as_tensor


class Measurement(NamedTuple):
    """Numbers by name, 0-d tensors or known on the host, and spectra by name, 1-d tensors; what does not apply is
    absent, never NaN."""

    scalars: dict[str, Any]
    arrays: dict[str, torch.Tensor]


@torch.no_grad()
def measure(z, p, target, Wp=None, F=None, full: bool = False, **run) -> Measurement:
    """Every quantity of a batch: z, p and target are both views' embeddings, predictions and target embeddings, (2, B,
    d); `python -m deep quantities` lists what comes out.

    Wp: (d, d), the matrix of a linear predictor; F: (d, d), the correlation its modes are those of, by default the
    uncentred one of both views' z; `run`: what else `Seen` has of a run, for quantities that need it. Half precision is
    promoted to float32. Above d = 512 arrays, ranks and predictor_negative are there only if `full`. Entries that
    are not finite make NaN, never an exception. Over several processes, give it the gathered batch. Raises ValueError
    for shapes that do not match.

    >>> import torch
    >>> z = torch.eye(4).expand(2, 4, 4)  # two views of four images
    >>> found = measure(z, z, -z).scalars
    >>> float(found["trace_z"]), float(found["cosine_views"]), float(found["cosine_prediction"])
    (1.0, 1.0, -1.0)
    """
    z, p, target = as_tensor(z, "z"), as_tensor(p, "p"), as_tensor(target, "target")
    if z.ndim != 3 or len(z) != 2 or not z.shape == p.shape == target.shape:
        shapes = ", ".join(str(tuple(v.shape)) for v in (z, p, target))
        raise ValueError(f"z, p and target are {shapes}; they must be of one shape (2, batch, d)")
    kind = z.dtype if z.dtype == torch.float64 else torch.float32
    z, p, target = (v.to(kind) for v in (z, p, target))
    Wp, F = (None if v is None else as_tensor(v, name, dtype=kind) for name, v in (("Wp", Wp), ("F", F)))
    with torch.autocast(z.device.type, enabled=False):
        found = measured(Seen(z, p, target, Wp, F, full, **run))
    arrays = {name: value for name, value in found.items() if getattr(value, "ndim", 0)}
    return Measurement({name: value for name, value in found.items() if name not in arrays}, arrays)


def to_host(measurement: Measurement) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The measurement as numbers and NumPy arrays, in one transfer from the device."""
    scalars, arrays = measurement
    tensors = {name: value for name, value in scalars.items() if isinstance(value, torch.Tensor)}
    values = torch.cat([torch.stack(list(tensors.values())), *arrays.values()]).cpu()
    numbers, *spectra = values.split([len(tensors), *(len(v) for v in arrays.values())])
    return scalars | dict(zip(tensors, numbers.tolist())), {name: v.numpy() for name, v in zip(arrays, spectra)}
