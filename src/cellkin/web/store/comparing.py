"""Do the tables hold what the log tells? Each function gives the faults that it finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from cellkin.core.artifacts import digest
from cellkin.core.progress import Progress, silent
from cellkin.web.store.cases import counted
from cellkin.web.store.converting import case_of
from cellkin.web.store.originals import faults as original_faults
from cellkin.web.store.records import LONGEST_SESSION
from cellkin.web.store.relied import Row, first_hash, row_hash
from cellkin.web.store.replaying import Replay, ToldCell
from cellkin.web.store.tables import (
    api_tokens,
    atlases,
    batches,
    cases,
    cells,
    factors,
    looks,
    originals,
    pictures,
    references,
    reviews,
    revisions,
    sessions,
    uploads,
    users,
    views,
)

MISSING = object()
EVERY = 500  # rows between two reports of progress
REVIEWED = ("revision", "user", "before", "after", "undone", "at")
VIEWS = select(views).join(cells, views.c.cell == cells.c.id)
GROUPED: Mapping[Table, tuple[str, tuple[str, ...]]] = {
    references: ("atlas", ("atlas", "id")),
    uploads: ("case", ("case", "key")),
    looks: ("atlas", ("cell",)),
    originals: ("place", ("sha256",)),
}
"""Table whose rows never change -> the column of its groups, and the columns of its key."""
SINGLE: Mapping[Table, str] = {
    atlases: "id",
    users: "name",
    api_tokens: "id",
    factors: "user",
}
"""Table of few rows -> the column of its key."""


def case_faults(conn: Connection, replay: Replay, case_id: str) -> list[str]:
    """What of one case is not as the log tells, but for the bytes of pictures."""
    return [
        *_cells(conn, replay, select(cells).where(cells.c.case == case_id), silent),
        *_cases(conn, replay, select(cases).where(cases.c.id == case_id)),
        *_revisions(conn, replay, select(revisions).where(revisions.c.case == case_id)),
        *_reviews(conn, replay, [case_id]),
        *_views(conn, replay, VIEWS.where(cells.c.case == case_id)),
        *_batches(conn, replay, select(batches).where(batches.c.case == case_id)),
    ]


def all_faults(conn: Connection, replay: Replay, progress: Progress) -> Iterator[str]:
    """What of the whole store is not as the log tells."""
    query = select(cells, pictures.c.png)
    yield from _cells(
        conn, replay, query.outerjoin(pictures, pictures.c.cell == cells.c.id), progress
    )
    yield from _cases(conn, replay, select(cases))
    yield from _revisions(conn, replay, select(revisions))
    known = conn.execute(select(reviews.c.case).distinct()).scalars()
    yield from _reviews(conn, replay, sorted({*known, *replay.reviews}))
    yield from _views(conn, replay, VIEWS)
    yield from _batches(conn, replay, select(batches))
    yield from _people(conn, replay)
    for table, key in SINGLE.items():
        yield from _single(conn, replay, table, key)
    for table in GROUPED:
        yield from _grouped(conn, replay, table)
    yield from original_faults(conn)


def found_groups(conn: Connection) -> dict[str, dict[str, str]]:
    """Table -> group -> hash over its rows, of what stores of version 0.1 did not tell the log."""
    found = {table.name: _digests(_gathered(conn, table)) for table in GROUPED}
    told: dict[str, dict[str, str]] = {}
    for row in conn.execute(select(cells).execution_options(yield_per=100)).mappings():
        told.setdefault(row["case"], {})[row["id"]] = row_hash("cells", row)
    return {**found, "cells": _digests(told)}


def found_rows(conn: Connection) -> dict[str, dict[str, str]]:
    """Table -> key -> hash of a row, of the tables of few rows."""
    return {
        table.name: {
            str(row[key]): row_hash(table.name, row)
            for row in conn.execute(select(table)).mappings()
        }
        for table, key in SINGLE.items()
    }


# cells ------------------------------------------------------------------------------------------


def _cells(
    conn: Connection, replay: Replay, query: Select[Any], progress: Progress
) -> Iterator[str]:
    total = int(conn.execute(select(func.count()).select_from(query.subquery("all"))).scalar_one())
    left = set(replay.cells)
    first: dict[str, dict[str, str]] = {}
    rows = conn.execute(query.execution_options(yield_per=100)).mappings()
    for i, row in enumerate(rows):
        left.discard(row["id"])
        where = f"cell {row['id']} of case {row['case']}"
        told = replay.cells.get(row["id"])
        if told is None:
            yield f"{where} is not in the log"
            continue
        fixed = row_hash("cells", row)
        if told.fixed is None:
            first.setdefault(str(row["case"]), {})[str(row["id"])] = fixed
        yield from _cell(row, told, fixed, where)
        if i % EVERY == 0:
            progress("comparing cells", i, total)
    progress("comparing cells", total, total)
    yield from (f"cell {name} is in the log, but no longer in the store" for name in sorted(left))
    if replay.kept:  # of an upgraded store; not where one case alone was read
        yield from _differing_groups("cells", _digests(first), replay.kept.get("cells", {}))


def _cell(row: Row, told: ToldCell, fixed: str, where: str) -> Iterator[str]:
    same = fixed == told.fixed if told.fixed is not None else first_hash(row) == told.first
    if not same:
        yield f"{where}: what the atlas said was changed"
    if "png" in row and _sha256(row["png"]) != told.picture:
        yield f"{where}: its picture was changed"
    if wrong := _differing(row, {**told.place, **told.state}):
        yield f"{where}: {wrong} is not what the log says"


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _differing(row: Any, state: Mapping[str, Any]) -> str:
    return ", ".join(name for name, value in state.items() if row.get(name, MISSING) != value)


def _views(conn: Connection, replay: Replay, query: Select[Any]) -> Iterator[str]:
    left = dict(replay.views)
    for row in conn.execute(query).mappings():
        if left.pop((row["cell"], row["user"]), None) != (row["seen"], row["opened"]):
            yield f"cell {row['cell']}: that {row['user']} looked at it is not what the log says"
    yield from (f"cell {cell}: that {user} looked at it is gone" for cell, user in left)


# cases ------------------------------------------------------------------------------------------


def _batches(conn: Connection, replay: Replay, query: Select[Any]) -> Iterator[str]:
    left = dict(replay.batches)
    for row in conn.execute(query).mappings():
        if left.pop(row["id"], None) != row["state"]:
            yield f"the upload {row['id']}: its state is not what the log says"
    yield from (f"the upload {name} is in the log, but gone" for name in left)


def _cases(conn: Connection, replay: Replay, query: Select[Any]) -> Iterator[str]:
    left = set(replay.cases)
    for row in conn.execute(query).mappings().all():
        left.discard(row["id"])
        if (told := replay.cases.get(row["id"])) is None:
            yield f"case {row['id']} is not in the log"
            continue
        if wrong := _differing(row, told):
            yield f"case {row['id']}: {wrong} is not what the log says"
        try:
            again = counted(conn, case_of(row))
        except (ValueError, KeyError, TypeError) as error:
            yield f"case {row['id']}: it cannot be counted ({error})"
            continue
        if wrong := _differing(row, again):
            yield f"case {row['id']}: {wrong} is not what its cells give"
    yield from (f"case {name} is in the log, but no longer in the store" for name in sorted(left))


def _revisions(conn: Connection, replay: Replay, query: Select[Any]) -> Iterator[str]:
    left = dict(replay.revisions)
    for row in conn.execute(query).mappings():
        where = f"revision {row['revision']} of case {row['case']}"
        told = left.pop((row["case"], row["revision"]), None)
        if told is None:
            yield f"{where} is not in the log"
            continue
        if wrong := _differing(row, told):
            yield f"{where}: {wrong} is not what the log says"
        if _sha256(row["document"]) != told["sha256"]:
            yield f"{where}: the document is not the one that was signed"
    yield from (f"revision {n} of case {case} is in the log, but gone" for case, n in left)


def _reviews(conn: Connection, replay: Replay, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        query = select(reviews).where(reviews.c.case == name).order_by(reviews.c.id)
        found = [_review(row) for row in conn.execute(query).mappings()]
        if found != replay.reviews.get(name, []):
            yield f"case {name}: the reviews are not those that the log tells"


def _review(row: Row) -> dict[str, Any]:
    told = {name: row[name] for name in REVIEWED}
    try:
        return {**told, "before": json.loads(row["before"]), "after": json.loads(row["after"])}
    except ValueError:
        return told


# people -----------------------------------------------------------------------------------------


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
    for row in conn.execute(select(api_tokens)).mappings():
        if bool(row["ended"]) != replay.tokens.get(row["id"]):
            yield f"the token {row['id']}: that it ended, or not, is not what the log says"
    for row in conn.execute(select(sessions)).mappings():
        if replay.sessions.get(row_hash("sessions", row)) != row["user"] or not _bounded(row):
            yield f"a session of {row['user']} is not in the log, or lasts too long"


def _bounded(session: Row) -> bool:
    """Whether a session ends when it must at the latest."""
    try:
        started = datetime.fromisoformat(session["started"])
        expires = datetime.fromisoformat(session["expires"])
        return expires <= started + timedelta(hours=LONGEST_SESSION)
    except (ValueError, TypeError):
        return False


# rows that never change -------------------------------------------------------------------------


def _single(conn: Connection, replay: Replay, table: Table, key: str) -> Iterator[str]:
    told = dict(replay.fixed.get(table.name, {}))
    for row in conn.execute(select(table)).mappings():
        if told.pop(str(row[key]), None) != row_hash(table.name, row):
            yield f"{table.name}: {row[key]} is not what the log says"
    yield from (f"{table.name}: {name} is in the log, but gone" for name in sorted(told))


def _grouped(conn: Connection, replay: Replay, table: Table) -> Iterator[str]:
    told = dict(replay.fixed.get(table.name, {}))
    rest: dict[str, dict[str, str]] = {}
    for group, rows in _gathered(conn, table).items():
        for name, fixed in rows.items():
            if name not in told:
                rest.setdefault(group, {})[name] = fixed
            elif told.pop(name) != fixed:
                yield f"{table.name}: {name} is not what the log says"
    yield from (f"{table.name}: {name} is in the log, but gone" for name in sorted(told))
    yield from _differing_groups(table.name, _digests(rest), replay.kept.get(table.name, {}))


def _gathered(conn: Connection, table: Table) -> dict[str, dict[str, str]]:
    """Group -> key -> hash of all rows of a table."""
    group, keys = GROUPED[table]
    found: dict[str, dict[str, str]] = {}
    for row in conn.execute(select(table).execution_options(yield_per=100)).mappings():
        name = "/".join(str(row[key]) for key in keys)
        found.setdefault(str(row[group]), {})[name] = row_hash(table.name, row)
    return found


def _digests(groups: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {group: digest(rows) for group, rows in groups.items()}


def _differing_groups(
    table: str, found: Mapping[str, str], kept: Mapping[str, str]
) -> Iterator[str]:
    for group in sorted({*found, *kept}):
        if found.get(group) != kept.get(group):
            yield f"{table}: what was there before the upgrade was changed ({group})"
