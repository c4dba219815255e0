"""Records of numbers, field by field: named tuples and frozen dataclasses alike."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from stopgrad.linear_theory.tools.errors import BadInput

Range = tuple[Callable, str]
"""A test of finite numbers, and what it asks in words."""


def is_record(value) -> bool:
    """Whether `value` is a named tuple or an instance of a dataclass."""
    return hasattr(value, "_fields") or (is_dataclass(value) and not isinstance(value, type))


def items(record) -> dict[str, Any]:
    """{name: value} of a record's fields, in their order."""
    names = record._fields if hasattr(record, "_fields") else [field.name for field in fields(record)]
    return {name: getattr(record, name) for name in names}


def with_values(record, values: Mapping[str, Any]):
    """A copy with these fields, whatever they hold: a dataclass's own checks, made for numbers, are not repeated."""
    if hasattr(record, "_fields"):
        return record._replace(**values)
    changed = copy.copy(record)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


def at_least(least: float) -> Range:
    """Numbers from `least` on."""
    return lambda v: v >= least, f"finite and at least {least}"


def above(least: float) -> Range:
    """Numbers above `least`."""
    return lambda v: v > least, f"finite and above {least}"


def refuse_outside(record, ranges: Mapping[str, Range]) -> None:
    """Raise BadInput, naming it, for the first field, an array or None, that is not finite or outside its range."""
    for name, (test, rule) in ranges.items():
        value = getattr(record, name)
        if value is not None and not np.all(good := np.isfinite(value) & test(value)):
            raise BadInput(f"{name} is {value[~good].flat[0]:g}; it must be {rule}")
