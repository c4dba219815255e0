"""Kept until the code changes: a result in a file, and in the same file the origin that it was computed by.

Units of work, the data of figures and rows of theory are kept so; what names a run follows from such an origin too.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

from stopgrad.linear_theory.tools.origin import difference

T = TypeVar("T")
Origin = dict[str, str]
"""An entry for each thing that may change the result: {module, library or setting: digest, version or value}."""


def key(*origins: object) -> str:
    """64 hexadecimal digits that follow from every entry of what can be written as JSON; shorter ones from its head."""
    return hashlib.sha256(json.dumps(origins, sort_keys=True).encode()).hexdigest()


def kept(
    path: Path,
    now: Origin,
    read: Callable[[Path], tuple[T, Origin]],
    why: Callable[[Origin, Origin], str | None] = difference,
) -> tuple[T | None, str | None]:
    """(what `path` holds, why that is not what would be computed `now`); None for either where there is none.

    `read` gives the result and its origin, and raises an error of those below for a file that is damaged.
    """
    try:
        value, origin = read(path)
        return value, why(dict(origin), now)
    except FileNotFoundError:
        return None, "there are no data yet"
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile):
        return None, "the data file is damaged"


def keep(
    path: Path,
    now: Origin,
    compute: Callable[[], T],
    read: Callable[[Path], tuple[T, Origin]],
    write: Callable[[Path, T, Origin], None],
    why: Callable[[Origin, Origin], str | None] = difference,
) -> tuple[T, str | None]:
    """(the result that `path` holds, or else one computed and written there; why it was, None where it was not)."""
    value, stale = kept(path, now, read, why)
    if stale is not None:
        value = compute()
        write(path, value, now)
    return value, stale
