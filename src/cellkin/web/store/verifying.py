"""Is the audit log whole, and do the tables hold what it says?"""

from __future__ import annotations

from sqlalchemy import Connection

from cellkin.web.store.audit_log import FIRST, hash_of, head, walk
from cellkin.web.store.records import AuditCheck

__all__ = ["verify"]


def verify(conn: Connection, witness: tuple[int, str] | None = None) -> AuditCheck:
    """Walk the chain from its first entry; all faults, not only the first."""
    faults: list[str] = []
    previous, expected = FIRST, 1
    seen: str | None = None
    for entry in walk(conn):
        if entry.number != expected:
            faults.append(f"entries {expected} to {entry.number - 1} are missing")
        if entry.previous != previous:
            faults.append(f"entry {entry.number} does not follow the one before it")
        if hash_of(entry) != entry.hash:
            faults.append(f"entry {entry.number} was changed")
        if witness is not None and entry.number == witness[0]:
            seen = entry.hash
        previous, expected = entry.hash, entry.number + 1
    number, hash_ = head(conn)
    if (number, hash_) != (expected - 1, previous):
        faults.append(
            f"the log ends with entry {expected - 1}, but entry {number} was the last one written"
        )
    if witness is not None and seen != witness[1]:
        faults.append(f"entry {witness[0]} is not the one that was witnessed")
    return AuditCheck(expected - 1, previous, tuple(faults))
