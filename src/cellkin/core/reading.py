"""Plain data back to records: every field is there and of its declared type, or it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cellkin.core.errors import ArtifactError

T = TypeVar("T")


def read_record(kind: type[T], data: Any) -> T:
    """The record of plain data (what `json.loads` gives) with a key for each of its fields.

    Lists become tuples and whole numbers floats where the field says so; nothing else is converted.

    Raises:
        ArtifactError: a field is missing, unknown, or of another type.
    """
    try:
        return _record(kind, data)
    except ValueError as error:
        raise ArtifactError(
            f"this is no {kind.__name__.lower()}: {error}",
            where=kind.__name__,
            mend="restore the file from a copy, or make it again",
        ) from None


@cache
def _fields(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Name of a field -> its type, and whether it may be left out."""
    hints = get_type_hints(kind)
    return {
        f.name: (hints[f.name], f.default is not MISSING or f.default_factory is not MISSING)
        for f in fields(kind)
    }


def _record(kind: type[T], data: Any) -> T:
    known = _fields(kind)  # type: ignore[arg-type]
    if not isinstance(data, Mapping):
        raise ValueError(f"{data!r:.60} is no object")
    if strange := sorted(set(data) - set(known)):
        raise ValueError(f"unknown {', '.join(strange)}")
    if missing := [n for n, (_, free) in known.items() if not free and n not in data]:
        raise ValueError(f"{', '.join(missing)} missing")
    return kind(**{name: _value(known[name][0], value, name) for name, value in data.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if type(None) in inner:
        other = next(part for part in inner if part is not type(None))
        return None if value is None else _value(other, value, name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(inner[0], item, name) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _value(inner[1], item, name) for key, item in value.items()}
    if is_dataclass(hint):
        return _record(hint, value)  # type: ignore[arg-type]
    if hint is float and type(value) is int:
        return float(value)
    if origin is None and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r:.60}")
