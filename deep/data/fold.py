"""One integer out of several: the keys of all random numbers that are counted (`counter`), without torch."""

_WORD = 2**64 - 1
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def fold(*key: int) -> int:
    """One non-negative 63-bit integer out of several integers; the order matters (splitmix64's mixing, as `counter`'s).

    >>> fold(1, 2) == fold(1, 2) != fold(2, 1)
    True
    """
    state = 0
    for part in key:
        state = (state + GOLDEN + int(part)) & _WORD
        state = (state ^ (state >> 30)) * FIRST & _WORD
        state = (state ^ (state >> 27)) * SECOND & _WORD
        state ^= state >> 31
    return state & (2**63 - 1)
