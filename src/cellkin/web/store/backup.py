"""A whole store in one SQLite file, taken while it is in use, and put back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from cellkin.core.errors import OutputError
from cellkin.web.store.database import Database

__all__ = ["restore", "write"]


def write(database: Database, path: Path) -> Path:
    """Write a backup."""
    if path.exists():
        raise OutputError("there is something here already", where=path, mend="give another name")
    with (
        closing(sqlite3.connect(str(database.url.database))) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)
    return path


def restore(path: Path, url: URL) -> None:
    """Fill an empty place with a backup."""
    target = Path(str(url.database))
    if target.exists():
        raise OutputError("there is something here already", where=target, mend="choose a new path")
    target.write_bytes(path.read_bytes())
