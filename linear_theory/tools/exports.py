"""Names that a wing offers, each imported from its file only when it is first asked for."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def exports(wing: str, homes: Mapping[str, str]) -> tuple[list[str], Callable, Callable]:
    """A wing's `__all__`, `__getattr__` and `__dir__`; homes: "room.file" → the names it offers, apart by spaces."""
    of = {name: f"{wing}.{file}" for file, names in homes.items() for name in names.split()}

    def find(name: str):
        if name not in of:
            raise AttributeError(f"module {wing!r} has no attribute {name!r}")
        value = getattr(import_module(of[name]), name)
        setattr(sys.modules[wing], name, value)  # from now on it is there
        return value

    return sorted(of), find, lambda: sorted({*of, *vars(sys.modules[wing])})
