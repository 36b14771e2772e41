"""Is the log whole, and do the tables hold what it says?

The chain finds an entry that was changed, removed or put in between. That the tables agree with
the log finds what was changed beside it; and because each decision must have its entry, also a log
whose end was cut off. A key outside the database finds every other end.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from cellkin.core.progress import Progress, silent
from cellkin.web.store import guards
from cellkin.web.store.comparing import EVERY, all_faults
from cellkin.web.store.log import FIRST, SET_BACK, hash_of, head, head_seal, walk
from cellkin.web.store.records import PROGRAM, LogCheck, LogEntry
from cellkin.web.store.replaying import Replay
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.tables import audit

LISTED = 50  # faults that are told one by one

Witness = tuple[int, str]
"""Number and hash of an entry that were written down elsewhere."""


def verify(
    conn: Connection,
    witness: Witness | None = None,
    progress: Progress = silent,
    key: AuditKey | None = None,
) -> LogCheck:
    """Check the database, walk the chain, then compare the tables with what it tells; all faults,
    not only the first.

    Args:
        key: what the log's end is sealed with, where it is.
    """
    found: list[str] = []
    (number, hash_), seal = (0, FIRST), None
    try:
        (number, hash_), seal = head(conn), head_seal(conn)
        if key is not None and not key.holds(number, hash_, seal):
            found.append("the end of the log is not sealed with this key")
        for fault in _faults(conn, witness, progress):
            found.append(fault)
    except (SQLAlchemyError, ValueError, KeyError, TypeError) as error:
        found.append(f"the database cannot be read: {str(error).splitlines()[0]}")
    if len(found) > LISTED:
        found = [*found[:LISTED], f"and {len(found) - LISTED} more"]
    return LogCheck(number, hash_, tuple(found), seal is not None)


def _faults(conn: Connection, witness: Witness | None, progress: Progress) -> Iterator[str]:
    replay = Replay()
    yield from _pages(conn)
    yield from guards.schema_faults(conn)
    yield from guards.faults(conn)
    yield from _chain(conn, witness, replay, progress)
    yield from all_faults(conn, replay, progress)


def _pages(conn: Connection) -> Iterator[str]:
    """Whether the pages of an SQLite file are those of a sound one."""
    if conn.dialect.name == "sqlite":
        for (told,) in conn.exec_driver_sql("PRAGMA integrity_check(5)"):
            if told != "ok":
                yield f"the database is damaged: {told}"


def _chain(
    conn: Connection, witness: Witness | None, replay: Replay, progress: Progress
) -> Iterator[str]:
    previous, witnessed = _before_the_first(), None
    total = int(conn.execute(select(func.count()).select_from(audit)).scalar_one())
    late: list[int] = []
    for i, entry in enumerate(walk(conn)):
        yield from _links(entry, previous)
        if entry.at < previous.at and (entry.action, entry.user) != (SET_BACK, PROGRAM.user):
            late.append(entry.number)
        if witness is not None and entry.number == witness[0]:
            witnessed = entry.hash
        previous = entry
        replay.take(entry)
        if i % EVERY == 0:
            progress("reading the log", i, total)
    progress("reading the log", total, total)
    for number in late:
        if number not in replay.backwards:
            yield f"entry {number} is older than the one before it"
    last = head(conn)
    if last != (previous.number, previous.hash):
        yield f"the log ends with entry {previous.number}, but {last[0]} was the last one written"
    if witness is not None and witnessed != witness[1]:
        yield f"entry {witness[0]} is not the one that was witnessed"


def _before_the_first() -> LogEntry:
    return LogEntry(0, "", "", "", "", "", None, None, None, None, "", FIRST)


def _links(entry: LogEntry, before: LogEntry) -> Iterator[str]:
    expected = before.number + 1
    if entry.number != expected:
        gap = f"entry {expected} is" if entry.number == expected + 1 else "entries are"
        yield f"{gap} missing before entry {entry.number}"
    if entry.previous != before.hash:
        yield f"entry {entry.number} does not follow the one before it"
    if hash_of(entry) != entry.hash:
        yield f"entry {entry.number} was changed"
