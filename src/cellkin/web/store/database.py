"""Connections and transactions: SQLite (WAL) by default, PostgreSQL by URL.

Each change is one transaction that begins by taking the lock on the head of the log, so that
changes happen one after another and each is in the log or did not happen.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool

from cellkin.core.artifacts import guarded_writes
from cellkin.core.errors import ArtifactError, CellkinError, OutputError
from cellkin.web.store.errors import Busy, Full, Unreachable
from cellkin.web.store.log import append
from cellkin.web.store.records import Actor
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.tables import audit_head

Clock = Callable[[], datetime]

BUSY = 30_000  # milliseconds to wait for another process's change


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def address(url_or_path: str | Path) -> URL:
    """The URL of a store: a path means an SQLite file, `postgresql://...` a PostgreSQL server.

    Raises:
        ArtifactError: it is a URL of something else.
    """
    text = str(url_or_path)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = make_url(text)
    except ArgumentError:
        raise _no_store(text) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise _no_store(url.render_as_string(hide_password=True))


def _no_store(text: str) -> ArtifactError:
    return ArtifactError(
        "this is no address of a store",
        where=text,
        mend="give a path (an SQLite file) or postgresql://USER@HOST/DATABASE",
    )


@dataclass(frozen=True)
class Transaction:
    """One change in the making: its connection, the time it is said to happen at, and the key that
    seals the log.
    """

    conn: Connection
    now: str
    key: AuditKey | None = None

    def log(
        self,
        actor: Actor,
        action: str,
        *,
        case: str | None = None,
        cell: str | None = None,
        before: Any = None,
        after: Any = None,
    ) -> int:
        """Append an entry to the log; returns its number."""
        what = (action, case, cell)
        return append(self.conn, self.now, actor, what, (before, after), self.key)


class Database:
    """An engine with the two ways to use it: `reading` and `writing`."""

    def __init__(
        self,
        url: URL,
        clock: Clock = utc_now,
        key: AuditKey | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.url = url
        self.clock = clock
        self.key = key
        self.engine = engine or _engine(url)
        self._one_writer = threading.RLock()
        self._file = _identity(url)

    @property
    def sqlite(self) -> bool:
        """Whether this is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def where(self) -> str:
        """The store's place, without a password."""
        if self.sqlite:
            return str(self.url.database)
        return self.url.render_as_string(hide_password=True)

    def now(self) -> str:
        """The time now as records hold it."""
        return self.clock().astimezone(UTC).isoformat(timespec="milliseconds")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the store."""
        with self._connected() as conn:
            if not self.sqlite:
                conn = conn.execution_options(isolation_level="REPEATABLE READ")
            with conn.begin():
                yield conn

    @contextmanager
    def writing(self, wait: float | None = None) -> Iterator[Transaction]:
        """A change: committed when the block ends well, otherwise as if it never began.

        Args:
            wait: seconds to wait for the changes of others; `BUSY` if not given.

        Raises:
            Busy: they took longer.
        """
        with self._alone(BUSY / 1000 if wait is None else wait) as left, self._connected() as conn:
            if _identity(self.url) != self._file:  # what is written now would be lost
                raise _gone(self.where)
            conn = conn.execution_options(writing=left)
            with conn.begin():
                if not self.sqlite:  # 0 would be for ever
                    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, left)}")
                conn.execute(select(audit_head.c.number).with_for_update())
                yield Transaction(conn, self.now(), self.key)

    @contextmanager
    def _alone(self, wait: float) -> Iterator[int]:
        """The only writer of this process; gives the milliseconds left to wait for other ones."""
        until = time.monotonic() + wait
        if not self._one_writer.acquire(timeout=wait):
            raise _busy(self.where)
        try:
            yield max(0, round(1000 * (until - time.monotonic())))
        finally:
            self._one_writer.release()

    @contextmanager
    def migrating(self) -> Iterator[Transaction]:
        """A change of the schema, alone on the store."""
        with self._one_writer, self._connected() as conn:
            conn = conn.execution_options(writing=BUSY)
            with conn.begin():
                if not self.sqlite:
                    conn.exec_driver_sql("SELECT pg_advisory_xact_lock(20260101)")
                yield Transaction(conn, self.now(), self.key)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            conn = self.engine.connect()
        except DBAPIError as error:
            raise _unreachable(error, self.where) from error
        with conn:
            try:
                yield conn
            except OperationalError as error:
                if (known := _known(error, self.where)) is None:
                    raise
                raise known from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _unreachable(error: DBAPIError, where: str) -> Unreachable:
    return Unreachable(
        f"the store cannot be opened: {str(error.orig).strip()}",
        where=where,
        mend="check the path or URL, that the server runs, and that you may read and write there",
    )


LOST = ("unable to open", "disk i/o error", "no such table", "not a database")


def _known(error: DBAPIError, where: str) -> CellkinError | None:
    """A refusal of the database that a person can mend, in words; None for any other."""
    said = str(error.orig).lower()
    if "locked" in said or "lock timeout" in said:
        return _busy(where)
    if "is full" in said or "no space left" in said:
        return Full("the disk is full", where=where, mend="free some space, then try again")
    if "readonly" in said or "read-only" in said:
        return OutputError("the store is read-only", where=where, mend="allow writing to it")
    if error.connection_invalidated or any(words in said for words in LOST):
        return _unreachable(error, where)
    return None


def _gone(where: str) -> Unreachable:
    return Unreachable(
        "the store was moved, deleted or replaced while it was in use",
        where=where,
        mend="put it back, then start the workstation again",
    )


def _busy(where: str) -> Busy:
    return Busy("the store is busy with another change", where=where, mend="try again")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True)
        except (ImportError, NoSuchModuleError):
            raise ArtifactError(
                "PostgreSQL needs the package psycopg, which is not installed",
                where=url.render_as_string(hide_password=True),
                mend="pip install 'cellkin[postgres]'",
            ) from None
    if Path(str(url.database)).is_dir():
        raise ArtifactError(
            "this is a folder, not a store", where=url.database, mend="give the name of a file"
        )
    folder = Path(str(url.database)).parent
    with guarded_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # for its owner alone; SQLite gives the files beside it the same permissions
        os.close(os.open(str(url.database), os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(url, creator=partial(_opened, Path(str(url.database))))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def one_connection(base: sqlite3.Connection) -> Database:
    """A database that is one connection to SQLite, open already; nobody else can reach it."""
    engine = create_engine("sqlite://", creator=lambda: base, poolclass=StaticPool)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine.url, engine=engine)


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there: one that was moved away is not begun anew."""
    place = f"{path.as_uri()}?mode=rw"
    return sqlite3.connect(place, uri=True, timeout=BUSY / 1000, check_same_thread=False)


def _identity(url: URL) -> tuple[int, int] | None:
    """Which file an SQLite store is, None where it is gone or on a server."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    try:
        found = os.stat(url.database)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "trusted_schema = OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    writing = conn.get_execution_options().get("writing")
    if writing is None:
        conn.exec_driver_sql("BEGIN")
        return
    conn.exec_driver_sql(f"PRAGMA busy_timeout = {writing:d}")
    conn.exec_driver_sql("BEGIN IMMEDIATE")
