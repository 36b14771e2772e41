"""The log: who did what, when, and what it changed; each entry holds the hash of the one
before, so that a changed, missing or added entry breaks the chain.

The hash is the SHA-256 of the canonical JSON of the entry's other fields, `previous` among them.
Times never run backwards without an entry that says so: a clock that was set back is written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select, update

from cellkin.core.artifacts import digest
from cellkin.web.store.converting import cursor_to, paged
from cellkin.web.store.errors import Refused
from cellkin.web.store.records import PROGRAM, Actor, LogEntry
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.tables import audit, audit_head

FIRST = "0" * 64
SET_BACK = "clock set back"
READ = ("case viewed", "report given")
"""Entries about what was only looked at: no part of the history that a report tells."""

What = tuple[str, str | None, str | None]  # action, case, cell
Changed = tuple[Any, Any]  # before, after


def append(
    conn: Connection, at: str, actor: Actor, what: What, changed: Changed, key: AuditKey | None
) -> int:
    """Add an entry, made at the time `at`, to the end of the log; returns its number.

    Raises:
        Refused: the log is sealed, and the key is missing or another; or it is not sealed yet.
    """
    last, previous = head(conn)
    _require_sealed(conn, (last, previous), key)
    told = conn.execute(select(audit.c.at).where(audit.c.number == last)).scalar()
    if told is not None and at < told:
        back: Changed = (None, {"from": told, "to": at})
        last, previous = _add(conn, (last, previous), (at, PROGRAM, (SET_BACK, None, None)), back)
    number, found = _add(conn, (last, previous), (at, actor, what), changed)
    seal = key.seal(number, found) if key else None
    conn.execute(update(audit_head).values(number=number, hash=found, seal=seal))
    return number


def _add(
    conn: Connection, after: tuple[int, str], by: tuple[str, Actor, What], changed: Changed
) -> tuple[int, str]:
    (last, previous), (at, actor, (action, case, cell)) = after, by
    entry = {
        "number": last + 1,
        "at": at,
        "user": actor.user,
        "role": actor.role,
        "how": actor.how,
        "action": action,
        "case": case,
        "cell": cell,
        "before": changed[0],
        "after": changed[1],
        "previous": previous,
    }
    found = digest(entry)
    plain = {"before": plain_json(changed[0]), "after": plain_json(changed[1]), "hash": found}
    conn.execute(audit.insert().values({**entry, **plain}))
    return last + 1, found


def _require_sealed(conn: Connection, last: tuple[int, str], key: AuditKey | None) -> None:
    """Refuse to go on after an end that this key did not seal: that would seal a forgery."""
    seal = head_seal(conn)
    if key is None and seal is not None:
        raise Refused(
            "this log is sealed with a key, which was not given",
            where=f"entry {last[0]}",
            mend="give --audit-key FILE, the one that it was sealed with",
        )
    if key is None or last[0] == 0 or key.holds(*last, seal):
        return
    if seal is None:
        raise Refused(
            "this log was not sealed with a key so far, or its seal was taken away",
            where=f"entry {last[0]}",
            mend="verify it, then: cellkin log --seal --audit-key FILE",
        )
    raise Refused(
        "the end of this log is not sealed with this key: it was changed without it",
        where=f"entry {last[0]}",
        mend="give the right key; else keep the store as it is, and restore a backup beside",
    )


def seal_now(conn: Connection, at: str, actor: Actor, key: AuditKey | None) -> int:
    """Begin to seal a log that was not; returns the number of the entry that says so.

    Raises:
        Refused: there is no key, or it is sealed already.
    """
    if key is None:
        raise Refused("a log is sealed with a key", where="the log", mend="give --audit-key FILE")
    if head_seal(conn) is not None:
        raise Refused("this log is sealed already", where="the log", mend="go on with its key")
    conn.execute(update(audit_head).values(seal=key.seal(*head(conn))))
    return append(conn, at, actor, ("log sealed", None, None), (None, None), key)


def plain_json(value: Any) -> str:
    """Canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def head(conn: Connection) -> tuple[int, str]:
    """Number and hash of the last entry, `(0, FIRST)` where there is none."""
    row = conn.execute(select(audit_head.c.number, audit_head.c.hash)).one()
    return int(row[0]), str(row[1])


def head_seal(conn: Connection) -> str | None:
    """The seal of the last entry, None where the log is not sealed."""
    found = conn.execute(select(audit_head.c.seal)).scalar()
    return None if found is None else str(found)


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
