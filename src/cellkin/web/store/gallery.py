"""The cells of a case: added, listed, looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from cellkin.core.artifacts import digest
from cellkin.core.records import LabelSet
from cellkin.web.store import drift
from cellkin.web.store.cases import get, refresh, require_open
from cellkin.web.store.converting import (
    cell_of,
    cursor_to,
    new_id,
    paged,
    require_role,
    storable,
)
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import CELL, Actor, Added, Case, Cell, NewCell
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import CELLS, HELD, atlases, cases, cells, pictures, uploads
from cellkin.web.worklist.held import held_reasons, worry

NAME = 255  # characters of a file name that are kept
ORDERS = ("worry", "position")

# adding -----------------------------------------------------------------------------------------


def add(
    tx: Transaction, actor: Actor, case_id: str, new: Sequence[NewCell], key: str | None
) -> Added:
    """Add cells to a case that is not signed; see `Store.add_cells`."""
    require_role(actor, "reviewer")
    found = get(tx.conn, case_id)
    content = digest([cell.sha256 for cell in new])
    if key is not None and (answer := _replayed(tx.conn, case_id, key, content)):
        return answer
    require_open(found)
    rows, duplicates = _rows(tx, found, new)
    if rows:
        tx.conn.execute(cells.insert(), [row for row, _ in rows])
        shown = [{"cell": row["id"], "png": item.image_png} for row, item in rows]
        tx.conn.execute(pictures.insert(), shown)
    looks = drift.keep(tx, rows)
    ids = [row["id"] for row, _ in rows]
    upload = None
    if key is not None:
        told = {"cells": plain_json(ids), "duplicates": plain_json(duplicates), "at": tx.now}
        row = {"case": case_id, "key": key, "content": content, **told}
        tx.conn.execute(uploads.insert().values(row))
        upload = {"key": key, "fixed": row_hash("uploads", row)}
    after = {"cells": _told(rows, looks), "duplicates": list(duplicates), "upload": upload}
    _count(tx, case_id, rows, duplicates)
    tx.log(actor, "cells added", case=case_id, after=after)
    return Added(tuple(many(tx.conn, ids)), tuple(duplicates), replayed=False)


def _replayed(conn: Connection, case_id: str, key: str, content: str) -> Added | None:
    query = select(uploads).where(uploads.c.case == case_id, uploads.c.key == key)
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        return None
    if row["content"] != content:
        raise Refused(
            "this idempotency key was used for other images of this case",
            where=key,
            mend="use a new key for each upload, and the same key only to repeat it",
        )
    ids = json.loads(row["cells"])
    return Added(tuple(many(conn, ids)), tuple(json.loads(row["duplicates"])), replayed=True)


def _rows(
    tx: Transaction, case: Case, new: Sequence[NewCell]
) -> tuple[list[tuple[dict[str, Any], NewCell]], list[str]]:
    labels = {name: _labels(tx.conn, name) for name in {_atlas_of(item) for item in new}}
    query = select(cells.c.sha256).where(cells.c.case == case.id)
    known = {row[0] for row in tx.conn.execute(query)}
    rows: list[tuple[dict[str, Any], NewCell]] = []
    duplicates: list[str] = []
    for item in new:
        if item.sha256 in known:
            duplicates.append(_shown(item.name))
            continue
        known.add(item.sha256)
        row = _row(item, labels[_atlas_of(item)])
        place = {"case": case.id, "position": case.cells + len(rows), "added": tx.now}
        rows.append(({**row, **place}, item))
    return rows, duplicates


def _shown(name: str) -> str:
    return storable(name)[-NAME:]


def _atlas_of(item: NewCell) -> str:
    return str(item.provenance.get("atlas") or "")


def _labels(conn: Connection, atlas: str) -> LabelSet:
    found = conn.execute(select(atlases.c.labels).where(atlases.c.id == atlas)).scalar()
    if found is None:
        raise Refused(
            "the atlas that these cells were decided with was not registered",
            where=atlas or "provenance without an atlas",
            mend="register it first (Store.register_atlas)",
        )
    return LabelSet.from_json(json.loads(found))


def _row(item: NewCell, labels: LabelSet) -> dict[str, Any]:
    reasons = held_reasons(item.decision, item.gate, labels)
    return {
        "id": new_id(),
        "name": _shown(item.name),
        "sha256": item.sha256,
        "proposed": item.decision.label,
        "final": None,
        "disposition": CELL,
        "state": "proposed",
        "confirmed": None,
        "held_reasons": plain_json(reasons),
        "seen": False,
        "opened": False,
        "worry": worry(item.decision, reasons),
        "comment": "",
        "reason": "",
        "reviewed_by": None,
        "reviewed": None,
        "atlas": _atlas_of(item),
        "decision": plain_json(item.decision.to_json()),
        "gate": plain_json(item.gate),
        "provenance": plain_json(item.provenance),
    }


def _count(
    tx: Transaction,
    case_id: str,
    rows: Sequence[tuple[Mapping[str, Any], NewCell]],
    duplicates: Sequence[str],
) -> None:
    """Count the case anew."""
    more: dict[str, Any] = {"duplicates": cases.c.duplicates + len(duplicates)}
    if rows:
        more["atlas"] = rows[-1][0]["atlas"]
    tx.conn.execute(update(cases).where(cases.c.id == case_id).values(more))
    refresh(tx, case_id, decided=False)


def _told(
    rows: Sequence[tuple[Mapping[str, Any], NewCell]], looks: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What the log tells of new cells: hashes of all that never changes."""
    return [
        {
            **{key: row[key] for key in ("id", "proposed", "atlas")},
            "fixed": row_hash("cells", row),
            "picture": hashlib.sha256(item.image_png).hexdigest(),
            "look": looks.get(row["id"]),
        }
        for row, item in rows
    ]


# reading ----------------------------------------------------------------------------------------


def cell(conn: Connection, cell_id: str) -> Cell:
    """A cell.

    Raises:
        NotFound: there is none of this id.
    """
    row = conn.execute(CELLS.where(cells.c.id == cell_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such cell", where=cell_id, mend="choose one of the case")
    return cell_of(row)


def many(conn: Connection, ids: Sequence[str]) -> list[Cell]:
    """Cells by id, in that order; ids of nothing are left out."""
    found: dict[str, Cell] = {}
    for start in range(0, len(ids), 500):
        query = CELLS.where(cells.c.id.in_(ids[start : start + 500]))
        found |= {row["id"]: cell_of(row) for row in conn.execute(query).mappings()}
    return [found[name] for name in ids if name in found]


@dataclass(frozen=True)
class Wanted:
    """Which cells of a case, and in which order, see `Store.cells`; None for all."""

    label: str | None
    held: bool | None
    order: str


def listed(
    conn: Connection, case_id: str, wanted: Wanted, limit: int, cursor: str | None
) -> tuple[list[Cell], str | None]:
    """A page of the cells of a case, and the cursor of the next page."""
    get(conn, case_id)
    by_worry = wanted.order == "worry"
    if wanted.order not in ORDERS:
        raise Refused("unknown order", where=str(wanted.order)[:80], mend="worry or position")
    query = CELLS.where(cells.c.case == case_id)
    if wanted.label is not None:
        query = query.where(cells.c.proposed == wanted.label)
    if wanted.held is not None:
        query = query.where(HELD if wanted.held else ~HELD)
    if cursor is not None:
        query = query.where(_after(cursor, by_worry))
    keys = (cells.c.worry.desc(), cells.c.position) if by_worry else (cells.c.position,)
    rows = conn.execute(query.order_by(*keys).limit(limit + 1)).mappings()
    return paged([cell_of(row) for row in rows], limit, lambda last: (last.worry, last.position))


def _after(cursor: str, by_worry: bool) -> Any:
    anxiety, position = cursor_to(cursor, (float, int))
    if not by_worry:
        return cells.c.position > position
    same = and_(cells.c.worry == anxiety, cells.c.position > position)
    return or_(cells.c.worry < anxiety, same)


def image(conn: Connection, cell_id: str) -> bytes:
    """The prepared picture of a cell, PNG.

    Raises:
        NotFound: there is no such cell.
    """
    found = conn.execute(select(pictures.c.png).where(pictures.c.cell == cell_id)).scalar()
    if found is None:
        raise NotFound("there is no such cell", where=cell_id, mend="choose one of the case")
    return bytes(found)


# changing ---------------------------------------------------------------------------------------


def set_fields(conn: Connection, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Set fields of cells, `{id: {field: value}}`; the same fields of each."""
    if not states:
        return
    fields = next(iter(states.values()))
    query = update(cells).where(cells.c.id == bindparam("of"))
    query = query.values({name: bindparam(f"new_{name}") for name in fields})
    rows = [
        {"of": cell_id, **{f"new_{name}": value for name, value in state.items()}}
        for cell_id, state in states.items()
    ]
    conn.execute(query, rows)
