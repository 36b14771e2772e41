"""A whole store in one SQLite file, taken while it is in use, and put back.

A backup is itself a store in SQLite, whatever database the store is in: that of an SQLite file is
made by SQLite's own online backup, that of a PostgreSQL server by copying all rows as they are at
one moment. It can be put back into either.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL

from cellkin.core.artifacts import guarded_writes
from cellkin.core.errors import ArtifactError, OutputError
from cellkin.core.progress import Progress, silent
from cellkin.web.store import originals
from cellkin.web.store.database import Database, address
from cellkin.web.store.migrating import HEAD, migrate, schema_version
from cellkin.web.store.shelf import Shelf
from cellkin.web.store.tables import audit_head, cases, metadata, users
from cellkin.web.store.verifying import verify

PAGES = 2000  # of SQLite, copied between two reports of progress
ROWS = 200


def write(
    database: Database, path: Path, progress: Progress = silent, shelf: Shelf | None = None
) -> Path:
    """Write a backup, with all originals in it; it appears whole or not at all.

    Args:
        shelf: where originals are kept outside the store.

    Raises:
        OutputError: there is something at `path`, or it cannot be written.
    """
    path = path.expanduser().absolute()
    if path.exists():
        raise OutputError("there is something here already", where=path, mend="give another name")
    with _beside(path) as building:
        if database.sqlite:
            _copy_file(Path(str(database.url.database)), building, progress)
        else:
            _copy_rows(database, address(building), progress)
        _gather(database, address(building), shelf)
        os.rename(building, path)
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to build on; whatever is there afterwards is taken away."""
    with guarded_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
        building = Path(folder) / "store.sqlite"
        try:
            yield building
        finally:
            for left in Path(folder).iterdir():
                left.unlink()
            os.rmdir(folder)


def _copy_file(source: Path, target: Path, progress: Progress) -> None:
    def tell(_status: int, remaining: int, total: int) -> None:
        progress("copying the store", total - remaining, total)

    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new, pages=PAGES, progress=tell)
    _make_one_file(target)


def _gather(source: Database, target: URL, shelf: Shelf | None) -> None:
    """Bring originals that lie outside the store into its copy."""
    copy = Database(target)
    try:
        with copy.reading() as new:
            outside = originals.elsewhere(new)
        if outside:
            with source.reading() as old, copy.writing() as tx:
                originals.gather(old, tx.conn, shelf)
    finally:
        copy.close()
    _make_one_file(Path(str(target.database)))


def _make_one_file(path: Path) -> None:
    """Bring all of an SQLite store into its one file, and that onto the disk."""
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = DELETE")
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy_rows(source: Database, target: URL, progress: Progress) -> None:
    copy = Database(target)
    try:
        migrate(copy)
        with source.reading() as old, copy.writing() as tx:
            _copy_tables(old, tx.conn, progress)
    finally:
        copy.close()
    _make_one_file(Path(str(target.database)))


def _copy_tables(old: Connection, new: Connection, progress: Progress) -> None:
    tables = metadata.sorted_tables
    for done, table in enumerate(tables):
        progress("copying tables", done, len(tables))
        if table is audit_head:
            new.execute(table.delete())
        query = select(table).execution_options(yield_per=ROWS)
        rows = old.execute(query).mappings()
        for part in rows.partitions():
            new.execute(table.insert(), [dict(row) for row in part])
    progress("copying tables", len(tables), len(tables))


def restore(path: Path, url: URL, progress: Progress = silent) -> None:
    """Fill an empty place with a backup, after checking it.

    Raises:
        ArtifactError: the backup is damaged, of another schema, or its log was tampered with.
        OutputError: there is something at the place already.
    """
    if not path.is_file():
        raise ArtifactError("there is no such backup", where=path, mend="check the path")
    if url.get_backend_name() == "sqlite":
        _restore_file(path, Path(str(url.database)), progress)
        return
    with tempfile.TemporaryDirectory(prefix="cellkin-restore-") as folder:
        copy = Path(folder) / "store.sqlite"
        _copy_checked(path, copy, progress)
        target = Database(url)
        try:
            _restore_rows(copy, target, progress)
        finally:
            target.close()


def _copy_checked(path: Path, copy: Path, progress: Progress) -> None:
    """Copy a backup, which may lie on a read-only disk, and check the copy."""
    mend = "restore from another backup; nothing was changed"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as base:
            sound = base.execute("PRAGMA integrity_check").fetchone()[0]
        if sound != "ok":
            raise ArtifactError(f"this backup is damaged: {sound}", where=path, mend=mend)
        _copy_file(path, copy, progress)
    except sqlite3.DatabaseError as error:
        raise ArtifactError(f"this is no backup: {error}", where=path, mend=mend) from error
    backup = Database(address(copy))
    try:
        with backup.reading() as conn:
            version = schema_version(conn)
        if version is None or version > HEAD:
            raise ArtifactError(
                f"this backup has the schema {version or 'of something else'}, not {HEAD}",
                where=path,
                mend="restore it with the cellkin that wrote it, or a newer one",
            )
        migrate(backup)
        with backup.reading() as conn:
            found = verify(conn, progress=progress)
    finally:
        backup.close()
    if not found.intact:
        what = f"this backup was tampered with: {found.faults[0]}"
        raise ArtifactError(what, where=path, mend=mend)


def _restore_file(path: Path, target: Path, progress: Progress) -> None:
    for place in (target, target.with_name(f"{target.name}-wal")):
        if place.exists():
            raise OutputError(
                "there is something here already",
                where=place,
                mend="move it away, or restore to another path",
            )
    with _beside(target) as building:
        _copy_checked(path, building, progress)
        os.rename(building, target)


def _restore_rows(path: Path, target: Database, progress: Progress) -> None:
    migrate(target)
    backup = Database(address(path))
    try:
        with backup.reading() as old, target.writing() as tx:
            if any(tx.conn.execute(select(table)).first() for table in (cases, users)):
                raise OutputError(
                    "there are cases or people in this store already",
                    where=target.where,
                    mend="restore into an empty database",
                )
            _copy_tables(old, tx.conn, progress)
            _restart_counters(tx.conn)
    finally:
        backup.close()


def _restart_counters(conn: Connection) -> None:
    """Let PostgreSQL's counters go on after the rows that were copied."""
    for table in ("reviews", "attempts"):
        conn.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
            f"(SELECT coalesce(max(id), 0) + 1 FROM {table}), false)"
        )
