"""Telling the C library to keep the memory it is given back, so that the next step need not ask the system for it anew.

A training step on a CPU, and a batch of trajectories, free and allocate the same large arrays again and again. glibc
maps each of them freshly from the system and returns it at once, and the system clears every page before the first
write to it: a large part of a step's time.
"""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_NEVER, _LARGEST = -1, 2**31 - 1


def keep_memory(kept: int = _NEVER, largest: int = _LARGEST) -> bool:
    """Let this process hold on to freed memory; whether the C library could be told.

    `kept`: bytes at most, by default as much as was ever needed; `largest`: bytes of an array that is still kept. For
    the whole process and for good. Only glibc on Linux has these settings (mallopt(3)); elsewhere, and where the user
    has set a MALLOC_… variable, nothing happens.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, largest)) and bool(mallopt(_TRIM_THRESHOLD, kept))
