"""What never changes in a row, and its hash: the log tells it, a verification compares it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from cellkin.core.artifacts import digest

Row = Mapping[str, Any] | RowMapping

FIXED: Mapping[str, tuple[str, ...]] = {
    "atlases": ("id", "labels", "facts", "registered"),
    "reference_pictures": ("atlas", "id", "picture"),
    "cells": (
        "id",
        "case",
        "position",
        "name",
        "sha256",
        "proposed",
        "held_reasons",
        "worry",
        "added",
        "atlas",
        "decision",
        "gate",
        "provenance",
    ),
    "originals": ("sha256", "bytes", "kind", "width", "height", "um_per_pixel", "place"),
    "looks": ("cell", "atlas", "day", "values"),
    "uploads": ("case", "key", "content", "cells", "duplicates", "at"),
    "sessions": ("hash", "user", "minutes", "started"),
    "api_tokens": ("id", "hash", "user", "scopes", "title", "created", "expires"),
    "users": ("name", "password"),
    "factors": ("user", "secret", "since"),
}
"""Table -> the columns that never change; of `users`, those that a new password changes."""

FIRST_FORM: tuple[str, ...] = (
    "id",
    "case",
    "name",
    "sha256",
    "proposed",
    "held_reasons",
    "decision",
    "gate",
    "provenance",
)
"""Those of `cells` that entries of stores of version 0.1 tell ("record")."""


def first_hash(row: Row) -> str:
    """The hash of a cell in entries of stores of version 0.1."""
    return digest([row[name] for name in FIRST_FORM])


def row_hash(table: str, row: Row) -> str:
    """SHA-256 of what never changes in a row of a table."""
    return digest([_plain(row[name]) for name in FIXED[table]])


def _plain(value: Any) -> Any:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | memoryview) else value
