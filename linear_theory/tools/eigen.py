"""Eigenvalues of symmetric matrices of any size that the dtype holds.

In float32 LAPACK's drivers fail to converge, or return NaN, on a matrix with entries whose squares underflow, as the
correlation of embeddings that have collapsed is, whether it is scaled first or not. So they work in float64, on
accelerators too, where nobody has looked and a small matrix costs no more.
"""

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_array, is_tensor, namespace


def eigh(matrix):
    """(eigenvalues rising (…, n), eigenvectors in columns (…, n, n)) of symmetric matrices, NumPy arrays or tensors."""
    xp, wide, narrow = _in_double(matrix)
    values, vectors = xp.linalg.eigh(wide)
    return narrow(values), narrow(vectors)


def eigvalsh(matrix):
    """Eigenvalues, rising, (…, n), of symmetric matrices (…, n, n)."""
    xp, wide, narrow = _in_double(matrix)
    return narrow(xp.linalg.eigvalsh(wide))


def _in_double(matrix):
    """The array's module, the matrices to be decomposed, and the way back to their dtype."""
    matrix = as_array(matrix, "the matrix")
    if is_tensor(matrix):
        return namespace(matrix), matrix.double(), lambda found: found.to(matrix.dtype)
    return np, matrix.astype(float), lambda found: found.astype(matrix.dtype)
