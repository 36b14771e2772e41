"""A whole store in one file, taken while it is in use, and put back.

A backup is itself a store in SQLite, whatever database the store is in, as of one moment: the
pages of an SQLite file are copied inside one read transaction, so that no commit makes it begin
again; of a PostgreSQL server all rows are copied. It can be put back into either. Its last block
holds the SHA-256 of all before it. While it is written it has no name: a backup that is killed
leaves nothing behind, and one that ends well appears whole.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from cellkin.core.errors import ArtifactError, OutputError
from cellkin.core.progress import Progress, silent
from cellkin.web.store import originals
from cellkin.web.store.database import Database, address, one_connection
from cellkin.web.store.migrating import HEAD, TOLD, migrate, schema_version
from cellkin.web.store.nameless import (
    appearing,
    locked_folder,
    put,
    require_free,
    scratch,
)
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.shelf import Shelf
from cellkin.web.store.tables import audit_head, cases, metadata, users
from cellkin.web.store.verifying import verify

PAGES = 2000  # of SQLite, copied between two reports of progress
ROWS = 200
BLOCK = 1 << 20
LAST = 4096  # bytes of the last block: a page of SQLite, which it does not count to its own
MAGIC = b"cellkin backup, SHA-256 of all before: "
WAL_BYTES = slice(18, 20)  # of the header of an SQLite file: 2 where it is in WAL mode, else 1
COUNTER = slice(24, 28)  # of changes
VALID_FOR = slice(92, 96)  # the counter for which the number of pages in the header is right


def write(
    database: Database, path: Path, progress: Progress = silent, shelf: Shelf | None = None
) -> Path:
    """Write a backup, with all originals in it; it appears whole or not at all.

    Args:
        shelf: where originals are kept outside the store.

    Raises:
        OutputError: there is something at `path`, or it cannot be written.
    """
    with _full_disks(path), appearing(path) as out, scratch(path.parent) as (base, pages):
        copy = one_connection(base)
        if database.sqlite:
            _copy_pages(Path(str(database.url.database)), base, progress)
            _leave_wal(pages)
        else:
            _copy_rows(database, copy, progress)
        _gather(database, copy, shelf)
        _copy_hashed(pages, out)
    return path


def free(path: Path) -> Path:
    """The place of a backup to be written. Raises OutputError where something is."""
    path = path.expanduser().absolute()
    require_free(path)
    return path


@contextmanager
def _full_disks(path: Path) -> Iterator[None]:
    """SQLite's words for a full disk as ours."""
    try:
        yield
    except (sqlite3.OperationalError, OperationalError) as error:
        if "disk is full" not in str(error) and "disk I/O error" not in str(error):
            raise
        raise OutputError(
            "the backup cannot be written: the disk is full",
            where=path,
            mend=f"free twice the size of the store in {path.parent}, then try again",
        ) from error


def _copy_pages(source: Path, target: sqlite3.Connection, progress: Progress) -> None:
    """Copy an SQLite file as it is at one moment: a read transaction keeps that moment."""

    def tell(_status: int, remaining: int, total: int) -> None:
        progress("copying the store", total - remaining, total)

    with closing(sqlite3.connect(source, isolation_level=None)) as old:
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the transaction begins here
        old.backup(target, pages=PAGES, progress=tell)


def _leave_wal(pages: IO[bytes]) -> None:
    """Say in the header of a copy that it is complete in one file: it never had a WAL. A new change
    counter makes the connection that wrote it read the header again.
    """
    header = bytearray(os.pread(pages.fileno(), 100, 0))
    counter = (int.from_bytes(header[COUNTER]) + 1) % 2**32
    header[WAL_BYTES], header[COUNTER] = b"\1\1", counter.to_bytes(4)
    header[VALID_FOR] = header[COUNTER]
    os.pwrite(pages.fileno(), header, 0)


def _gather(source: Database, copy: Database, shelf: Shelf | None) -> None:
    """Bring originals that lie outside the store into its copy."""
    with copy.reading() as new:
        outside = originals.elsewhere(new)
    if outside:
        with source.reading() as old, copy.writing() as tx:
            originals.gather(old, tx.conn, shelf)


def _copy_hashed(pages: IO[bytes], out: IO[bytes]) -> None:
    """Copy a database that is complete in its one file, and end it with its checksum."""
    total = hashlib.sha256()
    pages.seek(0)
    while block := pages.read(BLOCK):
        total.update(block)
        out.write(block)
    out.write(_last_block(total.hexdigest()))


def _last_block(checksum: str) -> bytes:
    return (MAGIC + checksum.encode() + b"\n").ljust(LAST, b"\0")


def _copy_rows(source: Database, copy: Database, progress: Progress) -> None:
    migrate(copy)
    with source.reading() as old, copy.writing() as tx:
        _copy_tables(old, tx.conn, progress)


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


# putting back -----------------------------------------------------------------------------------


def restore(path: Path, url: URL, progress: Progress = silent, key: AuditKey | None = None) -> None:
    """Fill an empty place with a backup, after checking it.

    Raises:
        ArtifactError: the backup is damaged, of another schema, or its log was tampered with.
        OutputError: there is something at the place already.
    """
    if not path.is_file():
        raise ArtifactError("there is no such backup", where=path, mend="check the path")
    if url.get_backend_name() == "sqlite":
        _restore_file(path, Path(str(url.database)), progress, key)
        return
    with tempfile.TemporaryDirectory(prefix="cellkin-restore-") as folder:
        copy = Path(folder) / "store.sqlite"
        _copy_checked(path, copy, progress, key)
        target = Database(url)
        try:
            _restore_rows(copy, target, progress)
        finally:
            target.close()


def _copy_checked(path: Path, copy: Path, progress: Progress, key: AuditKey | None) -> None:
    """Copy a backup, which may lie on a read-only disk, and check the copy."""
    summed = _copy_summed(path, copy)
    backup = Database(address(copy), key=key)
    try:
        with backup.reading() as conn:
            version = schema_version(conn)
        _require_known(version, summed, path)
        migrate(backup)
        with backup.reading() as conn:
            found = verify(conn, progress=progress, key=key)
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise _damaged(f"this is no backup: {str(error).splitlines()[0]}", path) from error
    finally:
        backup.close()
    if not found.intact:
        raise _damaged(f"this backup was tampered with: {found.faults[0]}", path)
    _make_one_file(copy)


def _damaged(what: str, path: Path) -> ArtifactError:
    mend = "restore from another backup; nothing was changed"
    return ArtifactError(what, where=path, mend=mend)


def _copy_summed(path: Path, copy: Path) -> bool:
    """Copy all but the last block of a backup, and compare its checksum; False where it has none,
    as those of version 0.1.

    Raises:
        ArtifactError: the checksum is that of other bytes.
    """
    size, total = path.stat().st_size - LAST, hashlib.sha256()
    with path.open("rb") as file, copy.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        file.seek(max(0, size))
        last = file.read()
        file.seek(0)
        summed = last.startswith(MAGIC)
        left = size if summed else size + LAST
        while left > 0 and (block := file.read(min(BLOCK, left))):
            total.update(block)
            out.write(block)
            left -= len(block)
    if summed and last != _last_block(total.hexdigest()):
        raise _damaged("this backup was changed after it was written (its SHA-256 differs)", path)
    return summed


def _require_known(version: str | None, summed: bool, path: Path) -> None:
    if version is None or version > HEAD:
        raise ArtifactError(
            f"this backup has the schema {version or 'of something else'}, not {HEAD}",
            where=path,
            mend="restore it with the cellkin that wrote it, or a newer one",
        )
    if not summed and version >= TOLD:
        raise ArtifactError(
            "this backup has no checksum: its end is gone or was changed, or it is a store",
            where=path,
            mend="restore from another backup; a copy of a store is used as it is (--store FILE)",
        )


def _make_one_file(path: Path) -> None:
    """Bring all of an SQLite store into its one file, and that onto the disk."""
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _restore_file(path: Path, target: Path, progress: Progress, key: AuditKey | None) -> None:
    for place in (target, target.with_name(f"{target.name}-wal")):
        require_free(place)
    with locked_folder(target) as folder:
        building = folder / "store.sqlite"
        _copy_checked(path, building, progress, key)
        put(building, target)


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
