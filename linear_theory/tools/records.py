"""Records of numbers, field by field: named tuples and frozen dataclasses alike."""

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


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
