"""Lengths and directions of vectors of any size that the dtype holds: no square on the way vanishes or overflows.

The one place where vectors are normalised, on NumPy arrays and torch tensors. Dividing by a power of two first rounds
nothing, so that at ordinary sizes every bit is that of v/‖v‖ as it is usually written. Half precision is promoted to
float32. Entries that are not finite make NaN.
"""

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_array, namespace

MATRIX = (-2, -1)
"""The axes of a matrix, for its Frobenius norm."""


def magnitude(v, axis=-1):
    """The power of two at or below the largest |entry| over `axis` (kept), and 1 where all are 0; no gradient."""
    v = _floating(v)
    xp = namespace(v)
    v = v if xp is np else v.detach()
    largest = xp.amax(xp.abs(v), axis=axis, keepdims=True)
    largest = xp.where(largest == 0, xp.ones_like(largest), largest)
    return largest / (2 * xp.frexp(largest)[0])


def length(v, axis=-1):
    """‖v‖ over `axis`, an integer or several: √Σv², wherever the dtype holds the result. (…, d) to (…)."""
    v = _floating(v)
    unit = magnitude(v, axis)
    return (unit * _norm(v / unit, axis)).squeeze(axis)


def directions(v):
    """v/‖v‖ over the last axis, (…, d) to (…, d); the direction of 0 is 0, and so is the gradient there.

    The gradient is the exact one, of size 1/‖v‖: infinite where the dtype holds no number as large.
    """
    v = _floating(v)
    v = v / magnitude(v)
    norm = _norm(v, -1)
    return v / namespace(v).where(norm == 0, np.inf, norm)


def _norm(v, axis):
    xp = namespace(v)
    if xp is np:
        return np.sqrt((v * v).sum(axis=axis, keepdims=True))
    return xp.linalg.vector_norm(v, dim=axis, keepdim=True)  # whose gradient at 0 is 0


def _floating(v):
    """`v`, whatever array it is, in float32 or float64."""
    v = as_array(v)
    xp = namespace(v)
    if xp is np:
        return v.astype(np.result_type(v.dtype, np.float32), copy=False)
    return v.to(xp.promote_types(v.dtype, xp.float32))
