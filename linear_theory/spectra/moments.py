"""From features to singular values: moments that batches and processes add up, and their spectrum."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_array, is_tensor, namespace
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import length, magnitude

if TYPE_CHECKING:
    import torch

_SQUARABLE = 2.0**-400  # of features as small the squares lose digits


def float64_of(array):
    """`array` (list, array or tensor) in float64, cut off from any gradient."""
    array = as_array(array)
    return array.detach().double() if is_tensor(array) else array.astype(np.float64)


def rounding_of(array) -> float:
    """Distance from 1 to the next number of `array`'s dtype; float64's for whole numbers."""
    array = as_array(array)
    return float(namespace(array).finfo(array.dtype).eps)


class Moments(NamedTuple):
    """What a set of features leaves behind: enough for the spectrum of all of them, centred or not."""

    count: int
    """N."""
    mean: "np.ndarray | torch.Tensor"
    """(d,) in float64, in the unit below."""
    scatter: "np.ndarray | torch.Tensor"
    """Σ(z − mean)(z − mean)ᵀ, (d, d) in float64, in that unit squared."""
    rounding: float
    """Spacing at 1 of the dtype in which the features came."""
    unit: "np.ndarray | torch.Tensor"
    """1, or a power of two for features so small that their squares would vanish."""


def moments(features) -> Moments:
    """Moments of features (N, d), NumPy or torch, on their device. ValueError for another shape, or N or d of 0.

    NaN passes here, without a look that would make a GPU wait, and is refused by `singular_values`.

    >>> m = moments([[1.0, 0.0], [0.0, 3.0]])
    >>> m.count, m.mean.tolist()
    (2, [0.5, 1.5])
    """
    z = float64_of(features)
    if z.ndim != 2 or 0 in z.shape:
        raise BadInput(f"the features have shape {tuple(z.shape)}; they must be (samples, dimensions), neither 0")
    size = magnitude(z, (0, 1)).reshape(())
    unit = namespace(z).where(size < _SQUARABLE, size, 1.0)
    z = z / unit
    mean = z.mean(0)
    residual = z - mean
    return Moments(z.shape[0], mean, residual.mT @ residual, rounding_of(features), unit)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of both sets together: batches in turn, or the ranks of a distributed run (Chan et al. 1983).

    No large numbers are subtracted, so a mean far from 0 costs no digits. ValueError where the dimensions differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {a.mean.shape[0]} and of {b.mean.shape[0]} dimensions cannot be merged")
    unit = namespace(a.mean).maximum(a.unit, b.unit)
    smaller, larger = a.unit / unit, b.unit / unit
    count, step = a.count + b.count, b.mean * larger - a.mean * smaller
    share = b.count / count
    scatter = a.scatter * smaller**2 + b.scatter * larger**2 + (a.count * share) * step[:, None] * step
    return Moments(count, a.mean * smaller + share * step, scatter, max(a.rounding, b.rounding), unit)


def unit_rows(features, eps: float = 1e-6):
    """Each row z/(‖z‖ + eps), in float64; Li et al.'s optional normalisation, done before centring.

    With their eps a row that is not long beside 1e-6 stays short; `lengths.directions` knows no such size.
    """
    z = float64_of(features)
    return z / (length(z)[..., None] + eps)


def singular_values(m: Moments, centred: bool = True):
    """σ (d,) of the features, or of the features less their mean: falling, float64. ValueError for NaN or infinity.

    They are roots of eigenvalues of the Gram matrix, so that σ below about √(d·2⁻⁵²) σ₁ cannot be told from 0, and is
    set to 0; as are those beyond rank N (centred: N − 1), and all of them where the features deviate from their mean by
    less than the rounding of the dtype in which they came: the spectrum would be that of rounding, which looks healthy.

    >>> singular_values(moments([[3.0, 0.0], [0.0, 4.0]]), centred=False)
    array([4., 3.])
    """
    xp = namespace(m.scatter)
    gram = m.scatter if centred else m.scatter + m.count * m.mean[:, None] * m.mean
    if not bool(xp.isfinite(gram).all()):
        raise BadInput("the features hold NaN or infinity (or values too large to square)")
    lam = xp.flip(xp.linalg.eigvalsh(gram), (0,))
    modes, spread = len(lam), xp.trace(m.scatter)
    unresolved = centred & (spread <= m.count * (m.rounding * xp.linalg.norm(m.mean)) ** 2)
    floor = xp.where(unresolved, math.inf, modes * np.finfo(np.float64).eps * lam[0])
    lam = xp.where(lam > floor, lam, 0.0)
    lam[max(m.count - centred, 0) :] = 0
    return xp.sqrt(lam) * m.unit
