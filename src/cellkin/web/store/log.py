"""The log: who did what, when, and what it changed; each entry holds the hash of the one
before, so that a changed, missing or added entry breaks the chain.

The hash is the SHA-256 of the canonical JSON of the entry's other fields, `previous` among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select, update

from cellkin.core.artifacts import digest
from cellkin.web.store.converting import cursor_to, paged
from cellkin.web.store.records import Actor, LogEntry
from cellkin.web.store.tables import audit, audit_head

FIRST = "0" * 64

What = tuple[str, str | None, str | None]  # action, case, cell


def append(conn: Connection, at: str, actor: Actor, what: What, before: Any, after: Any) -> int:
    """Add an entry, made at the time `at`, to the end of the log; returns its number."""
    last, previous = head(conn)
    action, case, cell = what
    entry = {
        "number": last + 1,
        "at": at,
        "user": actor.user,
        "role": actor.role,
        "how": actor.how,
        "action": action,
        "case": case,
        "cell": cell,
        "before": before,
        "after": after,
        "previous": previous,
    }
    found = digest(entry)
    stored = {**entry, "before": plain_json(before), "after": plain_json(after), "hash": found}
    conn.execute(audit.insert().values(stored))
    conn.execute(update(audit_head).values(number=last + 1, hash=found))
    return last + 1


def plain_json(value: Any) -> str:
    """Canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def head(conn: Connection) -> tuple[int, str]:
    """Number and hash of the last entry, `(0, FIRST)` where there is none."""
    row = conn.execute(select(audit_head.c.number, audit_head.c.hash)).one()
    return int(row[0]), str(row[1])


def hash_of(entry: LogEntry) -> str:
    """The hash that an entry must have."""
    return digest({key: value for key, value in entry.to_json().items() if key != "hash"})


def entries(conn: Connection, case: str | None, before: int | None, limit: int) -> list[LogEntry]:
    """Entries, the newest first, of one case or all, with smaller numbers than `before`."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if case is not None:
        query = query.where(audit.c.case == case)
    if before is not None:
        query = query.where(audit.c.number < before)
    return [_entry(row) for row in conn.execute(query).mappings()]


def walk(conn: Connection, case: str | None = None) -> Iterator[LogEntry]:
    """All entries of one case or of all, the oldest first."""
    query = select(audit).order_by(audit.c.number)
    if case is not None:
        query = query.where(audit.c.case == case)
    rows = conn.execute(query.execution_options(yield_per=500))
    return (_entry(row) for row in rows.mappings())


def _entry(row: Any) -> LogEntry:
    told = {key: _loaded(row[key]) for key in ("before", "after")}
    return LogEntry(**{**row, **told})


def _loaded(text: str) -> Any:
    """JSON of the log; what is none was changed, and its hash will say so."""
    try:
        return json.loads(text)
    except ValueError:
        return {"unreadable": text}


def page(
    conn: Connection, case: str | None, cursor: str | None, limit: int
) -> tuple[list[LogEntry], str | None]:
    """A page of entries, the newest first, and the cursor of the next page."""
    before = None if cursor is None else int(cursor_to(cursor, (int,))[0])
    return paged(entries(conn, case, before, limit + 1), limit, lambda last: (last.number,))
