"""The one gate for arrays: whatever holds real numbers comes in as if it were a plain copy of itself.

A NumPy array of any strides, byte order, alignment or class, writable or not, lists, and what NumPy can read (pandas,
xarray) become plain NumPy arrays: this machine's bytes, row after row. Tensors stay tensors, on their device.
Floats keep their width up to 64 bits; whole numbers, truth values and objects that are numbers become float64. Text,
dates, complex numbers and masked entries, which no plain array has, are refused.

Equations in plain operators have no gate, for the same text runs on symbols: they take what their operators take.
"""

import sys
from dataclasses import fields

import numpy as np

_DOUBLE = np.dtype(float)


def is_tensor(value) -> bool:
    """Whether `value` is a torch tensor; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(array):
    """The module, `torch` or `numpy`, whose functions act on `array`."""
    return sys.modules["torch"] if is_tensor(array) else np


def as_array(value, name: str = "the array"):
    """`value` as a plain float array or tensor of its shape; without a copy where it is one already.

    Raises ValueError for anything but real numbers, and for a masked array with entries masked: fill them first.
    """
    if type(value) is np.ndarray and value.dtype is _DOUBLE and value.flags.c_contiguous and value.flags.aligned:
        return value  # as nearly always: the flows of set predictors come here at every stage of a step
    if is_tensor(value):
        _require_real(name, value.dtype, not value.is_complex())
        return (value if value.is_floating_point() else value.double()).contiguous()
    if hasattr(value, "__array_ufunc__") and not hasattr(value, "__array__"):
        return value  # no numbers yet: what `recording` writes equations down with
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries; fill them or leave them out")
    array = np.asarray(value)
    if array.dtype.kind == "O":
        try:
            array = array.astype(float)
        except (TypeError, ValueError):
            raise ValueError(f"{name} holds what is no real number") from None
    _require_real(name, array.dtype, array.dtype.kind in "fiub")
    kept = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    return np.require(array, array.dtype.newbyteorder("=") if kept else float, ["C", "A"])


def as_float64(value, name: str = "the array") -> np.ndarray:
    """`value` as a plain float64 NumPy array of its shape; raises as `as_array` does. A tensor leaves its graph."""
    array = as_array(value, name)
    return array.double().numpy(force=True) if is_tensor(array) else array.astype(float, copy=False)


def as_int64(value, name: str = "the array") -> np.ndarray:
    """`value`, whole numbers or truth values of any kind, as a plain int64 NumPy array; ValueError for others."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} have masked entries; fill them or leave them out")
    array = value.numpy(force=True) if is_tensor(value) else np.asarray(value)
    if array.dtype.kind == "O":
        array = np.array(array.tolist())  # the kind that its objects have
    if array.size and (array.dtype.kind not in "iub" or array.max() > np.iinfo(np.int64).max):
        raise ValueError(f"{name} must be whole numbers below 2⁶³")
    return np.require(array, np.int64, ["C", "A", "W"])


def in_float64(record):
    """A NamedTuple (a mode, a network, correlations) with every field `as_float64`."""
    return type(record)(*map(as_float64, record, record._fields))


def as_tensor(value, name: str = "the array", **to):
    """`value` as a tensor of its shape, and then `.to(**to)`; raises as `as_array` does. A tensor keeps its graph."""
    import torch

    array = as_array(value, name)
    if not is_tensor(array):
        array = torch.from_numpy(array if array.flags.writeable else array.copy())
    return array.to(**to) if to else array


def beside(array, value):
    """`value` as it can stand beside `array` in an operation: a number as it is, an array in the kind of `array`."""
    if isinstance(value, (int, float)) or value is None:
        return value
    return as_tensor(value, device=array.device) if is_tensor(array) else as_array(value)


def settle(record) -> None:
    """Give a frozen record, at its birth, float64 for every list, NumPy array and labelled array among its fields."""
    for field in fields(record):
        value = getattr(record, field.name)
        held = getattr(value, "values", value)  # of pandas and xarray
        if isinstance(held, (list, tuple, np.ndarray, np.number)) and not _is_float64(value):
            object.__setattr__(record, field.name, as_float64(value, field.name)[()])


def _is_float64(value) -> bool:
    """Whether arithmetic on `value` is that of float64 on a plain array, whatever its strides."""
    return type(value) in (np.ndarray, np.float64) and value.dtype == float


def _require_real(name, dtype, real: bool) -> None:
    if not real:
        raise ValueError(f"{name} is {str(dtype).removeprefix('torch.')}; it must hold real numbers")
