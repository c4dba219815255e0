"""Features as a measurement reads them: a part of the images at a time, whatever holds them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stopgrad.deep.measuring.collapse.files import Load, open_array
from stopgrad.linear_theory.tools.arrays import as_array, is_tensor, namespace
from stopgrad.linear_theory.tools.errors import BadInput

ENTRIES = 2**22
"""Numbers read at once: 32 MB in float64, and a few times that while they are worked on."""


@dataclass(frozen=True)
class Features:
    """Features of images, of one view or of several: views × samples × dimensions, read in parts."""

    name: str
    views: int
    samples: int
    dim: int
    read: Callable[[int, int], Any]
    """First and last image (exclusive) → (views, images, dim), NumPy or torch; the caller's own."""

    def spans(self) -> list[tuple[int, int]]:
        """First and last image (exclusive) of parts of a size that fits."""
        rows = max(1, ENTRIES // (self.views * self.dim))
        return [(start, min(start + rows, self.samples)) for start in range(0, self.samples, rows)]

    def part(self, start: int, stop: int):
        """What `read` gives, as float; BadInput names the first sample that holds NaN or infinity."""
        z = as_array(self.read(start, stop), self.name)
        finite = namespace(z).isfinite(z)
        if not bool(finite.all()):
            bad = next(i for i in range(stop - start) if not bool(finite[:, i].all()))
            raise BadInput(f"{self.name}: sample {start + bad} holds NaN or infinity")
        return z


def of_array(load: Load, name: str, views_axis: int = 0) -> Features:
    """`Features` of an array (samples, dimensions), or of three axes, of which `views_axis` (0 or 1) counts views.

    `load` gives the array, and may map it afresh each time. Raises BadInput for another shape.

    >>> import numpy as np
    >>> pairs = of_array(lambda: np.zeros((100, 2, 8)), "pairs", views_axis=1)
    >>> pairs.views, pairs.samples, pairs.dim, pairs.read(10, 20).shape
    (2, 100, 8, (2, 10, 8))
    """
    shape = tuple(load().shape)
    if len(shape) not in (2, 3) or 0 in shape:
        single = "; singular values are read with --spectrum" if len(shape) == 1 else ""
        wanted = "(samples, dimensions), or (views, samples, dimensions), none of them 0"
        raise BadInput(f"{name} has shape {shape}; features are {wanted}{single}")
    if len(shape) == 2:
        return Features(name, 1, *shape, lambda start, stop: _own(load()[start:stop])[None])
    views, samples = shape[views_axis], shape[1 - views_axis]
    if views > samples:
        raise BadInput(
            f"{name} has shape {shape}, {views} views of {samples} images; if it is the other way round, give "
            f"--views-axis {1 - views_axis}"
        )

    def read(start: int, stop: int):
        if views_axis == 0:
            return _own(load()[:, start:stop])
        return _own(load()[start:stop]).swapaxes(0, 1)

    return Features(name, views, samples, shape[2], read)


def open_features(named: str, others: tuple[str, ...] = (), views_axis: int = 0) -> Features:
    """`Features` of the array that `FILE` or `FILE:NAME` names; in `others`, row by row, further views of its images.

    Raises BadInput as `open_array` and `of_array` do, and for views that do not fit each other.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/z.npy", np.ones((100, 8), np.float32))
    ...     pairs = open_features(f"{folder}/z.npy", others=(f"{folder}/z.npy",))
    >>> pairs.views, pairs.samples, pairs.dim
    (2, 100, 8)
    """
    found = [of_array(open_array(one), one, views_axis) for one in (named, *others)]
    first = found[0]
    for other in found[1:]:
        if (other.samples, other.dim) != (first.samples, first.dim):
            raise BadInput(
                f"{other.name} has {other.samples} samples of {other.dim} dimensions and {first.name} "
                f"{first.samples} of {first.dim}; views are of the same images, row by row"
            )
    if len(found) == 1:
        return first

    def read(start: int, stop: int):
        parts = [as_array(one.read(start, stop), one.name) for one in found]
        return namespace(parts[0]).concatenate(parts, 0)

    return Features(first.name, sum(one.views for one in found), first.samples, first.dim, read)


def _own(part):
    """A copy, so that nothing stays mapped."""
    return part.clone() if is_tensor(part) else np.array(part)
