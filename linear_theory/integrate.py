"""Fixed-step Runge–Kutta (preliminary; same signature to come, faster inside)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import DOP853


@dataclass(frozen=True)
class Solution:
    state: Any
    worst_error: float
    steps: int


def _tensors(record):
    if isinstance(record, tuple):
        return type(record)(*map(_tensors, record))
    if hasattr(record, "map"):
        return record.map(_tensors)
    return record if isinstance(record, (str, type(None))) or not np.ndim(record) else torch.as_tensor(record, dtype=torch.float64)


def _run(flow, y, args, t, n):
    h = t / n
    make = type(y)
    A, B = DOP853.A, DOP853.B
    for _ in range(n):
        ks = []
        for i in range(12):
            stage = make(*(v + h * sum(float(A[i, j]) * k[m] for j, k in enumerate(ks) if A[i, j]) if i else v for m, v in enumerate(y)))
            ks.append(flow(stage, *args))
        y = make(*(v + h * sum(float(B[j]) * k[m] for j, k in enumerate(ks) if B[j]) for m, v in enumerate(y)))
    return y


def integrate(flow, state, *args, t, tolerance=1e-8, event_dims=0):
    """Integrate state′ = flow(state, *args) from time 0 to `t` (a number, or a 1-D array of increasing times).

    `state`: a NamedTuple of arrays that broadcast against each other and the hyperparameters. Returns a Solution whose
    `state` is of the same type; for an array of times every field gets a leading axis of that length.
    """
    times = np.atleast_1d(np.asarray(t, float))
    make = type(state)
    y = make(*(torch.as_tensor(v, dtype=torch.float64) for v in state))
    zero = sum((0 * k for k in flow(y, *map(_tensors, args))), start=torch.zeros(())) if not event_dims else 0.0
    y = make(*(v + zero for v in y))
    args = tuple(map(_tensors, args))
    out, worst, total, now = [], 0.0, 0, 0.0
    for end in times:
        n = max(1, int(np.ceil((end - now) / 2)))
        if end > now:
            coarse = _run(flow, y, args, end - now, n)
            while True:
                n *= 2
                fine = _run(flow, y, args, end - now, n)
                error = max(float((f - c).abs().max()) for f, c in zip(fine, coarse))
                if error / 15 <= tolerance or n > 10**5:
                    break
                coarse = fine
            y, worst, total = fine, max(worst, error / 15), total + n
        now = end
        out.append(y)
    stacked = make(*(torch.stack(v).numpy() for v in zip(*out)))
    return Solution(stacked if np.ndim(t) else make(*(v[0] for v in stacked)), worst, total)
