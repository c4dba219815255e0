"""Telling torch's tensors from NumPy's arrays without importing torch, which takes seconds."""

import sys

import numpy as np


def is_tensor(value) -> bool:
    """Whether `value` is a torch tensor; where nobody has imported torch, nothing is."""
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def namespace(array):
    """The module, `torch` or `numpy`, whose functions act on `array`."""
    return sys.modules["torch"] if is_tensor(array) else np
