"""Records as plain data, such as JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


class Plain:
    """A dataclass that is told by its fields."""

    def to_json(self) -> dict[str, Any]:
        """Every field by its name, as plain data."""
        return plain_fields(self)


def plain_fields(record: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass by name: records in them as they tell themselves (`to_json`),
    mappings as dicts, tuples and arrays as lists.
    """
    names = [field.name for field in fields(record) if field.name not in without]
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return plain_fields(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
