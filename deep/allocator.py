"""Telling the C library to keep the memory it is given back, so that the next training step need not ask for it anew.

Every step on a CPU frees and allocates the same large tensors. glibc maps each of them freshly from the system and
returns it at once, and the system clears every page before the first write to it: a large part of a step's time.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_NEVER, _LARGEST = -1, 2**31 - 1


def keep_memory() -> bool:
    """Let this process hold on to freed memory, up to its largest need so far; whether the C library could be told.

    For the whole process and for good, so it belongs at the start of a program, not into a library. Only glibc on Linux
    has these settings (mallopt(3)); elsewhere nothing happens.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
