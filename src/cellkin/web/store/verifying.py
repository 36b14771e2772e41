"""Is the log whole, and do the tables hold what it says?

The chain finds an entry that was changed, removed or put in between. That the tables agree with
the log finds what was changed beside it; and because each decision must have its entry, also a log
whose end was cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from cellkin.core.progress import Progress, silent
from cellkin.web.store import originals
from cellkin.web.store.gallery import record_hash
from cellkin.web.store.log import FIRST, hash_of, head, walk
from cellkin.web.store.records import LogCheck, LogEntry
from cellkin.web.store.replaying import Replay
from cellkin.web.store.tables import audit, cases, cells, pictures, revisions, users

MISSING = object()
LISTED = 50  # faults that are told one by one
EVERY = 500  # rows between two reports of progress


def verify(
    conn: Connection, witness: tuple[int, str] | None = None, progress: Progress = silent
) -> LogCheck:
    """Walk the chain, then compare the tables with what it tells; all faults, not only the first.

    Args:
        witness: number and hash of an entry that were written down elsewhere.
    """
    replay = Replay()
    faults, number, hash_ = _chain(conn, witness, replay, progress)
    faults += [*_cells(conn, replay, progress), *_cases(conn, replay), *_people(conn, replay)]
    faults += originals.faults(conn)
    if len(faults) > LISTED:
        faults = [*faults[:LISTED], f"and {len(faults) - LISTED} more"]
    return LogCheck(number, hash_, tuple(faults))


def _chain(
    conn: Connection, witness: tuple[int, str] | None, replay: Replay, progress: Progress
) -> tuple[list[str], int, str]:
    faults: list[str] = []
    previous, expected, witnessed = FIRST, 1, None
    total = int(conn.execute(select(func.count()).select_from(audit)).scalar_one())
    for i, entry in enumerate(walk(conn)):
        faults += _links(entry, previous, expected)
        if witness is not None and entry.number == witness[0]:
            witnessed = entry.hash
        previous, expected = entry.hash, entry.number + 1
        replay.take(entry)
        if i % EVERY == 0:
            progress("reading the log", i, total)
    progress("reading the log", total, total)
    if head(conn) != (expected - 1, previous):
        last = head(conn)[0]
        faults.append(
            f"the log ends with entry {expected - 1}, but {last} was the last one written"
        )
    if witness is not None and witnessed != witness[1]:
        faults.append(f"entry {witness[0]} is not the one that was witnessed")
    return faults, expected - 1, previous


def _links(entry: LogEntry, previous: str, expected: int) -> list[str]:
    found = []
    if entry.number != expected:
        gap = f"entry {expected} is" if entry.number == expected + 1 else "entries are"
        found.append(f"{gap} missing before entry {entry.number}")
    if entry.previous != previous:
        found.append(f"entry {entry.number} does not follow the one before it")
    if hash_of(entry) != entry.hash:
        found.append(f"entry {entry.number} was changed")
    return found


def _cells(conn: Connection, replay: Replay, progress: Progress) -> Iterator[str]:
    total = int(conn.execute(select(func.count()).select_from(cells)).scalar_one())
    query = select(cells, pictures.c.png).outerjoin(pictures, pictures.c.cell == cells.c.id)
    rows = conn.execute(query.execution_options(yield_per=100)).mappings()
    left = set(replay.cells)
    for i, row in enumerate(rows):
        left.discard(row["id"])
        where = f"cell {row['id']} of case {row['case']}"
        told = replay.cells.get(row["id"])
        if told is None:
            yield f"{where} is not in the log"
            continue
        if record_hash(dict(row)) != told.record:
            yield f"{where}: what the atlas said was changed"
        if row["png"] is None or hashlib.sha256(row["png"]).hexdigest() != told.picture:
            yield f"{where}: its picture was changed"
        if wrong := _differing(row, told.state):
            yield f"{where}: {wrong} is not what the log says"
        if i % EVERY == 0:
            progress("comparing cells", i, total)
    progress("comparing cells", total, total)
    yield from (f"cell {name} is in the log, but no longer in the store" for name in sorted(left))


def _differing(row: Any, state: dict[str, Any]) -> str:
    return ", ".join(name for name, value in state.items() if row.get(name, MISSING) != value)


def _cases(conn: Connection, replay: Replay) -> Iterator[str]:
    left = set(replay.cases)
    for row in conn.execute(select(cases)).mappings():
        left.discard(row["id"])
        if (told := replay.cases.get(row["id"])) is None:
            yield f"case {row['id']} is not in the log"
        elif wrong := _differing(row, told):
            yield f"case {row['id']}: {wrong} is not what the log says"
    yield from (f"case {name} is in the log, but no longer in the store" for name in sorted(left))
    frozen = dict(replay.documents)
    signed = select(revisions).where(revisions.c.signed.is_not(None))
    for row in conn.execute(signed).mappings():
        where = f"revision {row['revision']} of case {row['case']}"
        told_hash = frozen.pop((row["case"], row["revision"]), None)
        if told_hash != hashlib.sha256(row["document"] or b"").hexdigest():
            yield f"{where}: the document is not the one that was signed"
    yield from (f"revision {n} of case {case} was signed, but is gone" for case, n in frozen)


def _people(conn: Connection, replay: Replay) -> Iterator[str]:
    left = set(replay.users)
    for row in conn.execute(select(users)).mappings():
        left.discard(row["name"])
        told = replay.users.get(row["name"])
        if told is None:
            yield f"the account {row['name']} is not in the log"
        elif wrong := _differing(row, told):
            yield f"the account {row['name']}: {wrong} is not what the log says"
    yield from (f"the account {name} is in the log, but no longer in the store" for name in left)
