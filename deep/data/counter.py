"""Random numbers by counting: a number is a function of its key and its index, and of nothing that was drawn before.

So neither the rank, nor a worker, nor a resumption changes what an image's view looks like. The mixing is splitmix64's
(Steele, Lea & Flood 2014), on 64-bit integers: the same bits on every device.
"""

import torch

from stopgrad.deep.data.fold import FIRST, GOLDEN, SECOND

_GOLDEN, _FIRST, _SECOND = (v - 2**64 for v in (GOLDEN, FIRST, SECOND))  # as int64 has them


def uniform(key: int | torch.Tensor, index: torch.Tensor, draws: int) -> torch.Tensor:
    """Float64 numbers in [0, 1), (n, draws): row i depends on (key, index[i]) only, or on (key[i], index[i]).

    index: int64 (n,); key: one for all rows, or int64 (n,).
    """
    rows = _mix(_mix(index + key)[:, None] + _GOLDEN * torch.arange(1, draws + 1, device=index.device))
    return _shift(rows, 11).to(torch.float64).mul_(2.0**-53)


def normal(key: int | torch.Tensor, index: torch.Tensor, draws: int) -> torch.Tensor:
    """Standard normal float64 numbers, (n, draws), by Box and Muller from two uniform ones each."""
    u = uniform(key, index, 2 * draws)
    length = u[:, :draws].neg().log1p_().mul_(-2).sqrt_()
    return length.mul_((2 * torch.pi * u[:, draws:]).cos_())


def permutation(key: int, n: int) -> torch.Tensor:
    """A permutation of 0 … n − 1, int64 on the CPU, that depends on (key, n) only."""
    return torch.argsort(uniform(key, torch.arange(n), 1)[:, 0], stable=True)


# In place where nobody else has the tensor: of a small network's step, drawing its views is a sixth.


def _shift(v: torch.Tensor, bits: int) -> torch.Tensor:
    """A new tensor: v shifted as an unsigned number, where torch's shift carries the sign along."""
    return (v >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(v: torch.Tensor) -> torch.Tensor:
    v = _shift(v, 30).bitwise_xor_(v).mul_(_FIRST)
    v = _shift(v, 27).bitwise_xor_(v).mul_(_SECOND)
    return _shift(v, 31).bitwise_xor_(v)
