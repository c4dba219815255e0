"""Eigenvalues of symmetric matrices of any size that the dtype holds.

LAPACK's drivers can fail to converge in float32 on a matrix whose entries are near the square root of the smallest
number, as the correlation of embeddings that have collapsed is. So matrices are scaled first, by a power of two, which
changes no bit of any other result.
"""

import numpy as np
import torch


def eigh(matrix):
    """(eigenvalues rising (…, n), eigenvectors in columns (…, n, n)) of symmetric matrices, NumPy arrays or tensors."""
    xp, size = _power_of_two(matrix)
    values, vectors = xp.linalg.eigh(matrix / size)
    return values * size[..., 0], vectors


def eigvalsh(matrix):
    """Eigenvalues, rising, (…, n), of symmetric matrices (…, n, n)."""
    xp, size = _power_of_two(matrix)
    return xp.linalg.eigvalsh(matrix / size) * size[..., 0]


def _power_of_two(matrix):
    """The array's module, and a power of two near each matrix's largest entry, (…, 1, 1); 1 for 0, NaN and infinity."""
    xp = torch if isinstance(matrix, torch.Tensor) else np
    largest = xp.amax(xp.abs(matrix), (-2, -1))[..., None, None]
    largest = xp.where(xp.isfinite(largest) & (largest > 0), largest, xp.ones_like(largest))
    size = largest / (2 * xp.frexp(largest)[0])
    return xp, size.clip(min=float(xp.finfo(matrix.dtype).tiny))
