"""How many threads torch takes for a piece of work: small tensors are handled faster by one than by several.

Several threads wait for each other at every operation; beside another busy process, for as long as that one is served.
"""

import contextlib

import torch

_WORTH_SHARING = 2**18  # numbers in a tensor


@contextlib.contextmanager
def for_tensors_of(numbers: int):
    """Within it torch uses one thread, unless its tensors hold so many numbers that sharing them out pays."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if numbers >= _WORTH_SHARING else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
