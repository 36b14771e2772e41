"""Who saw and who opened which cell: it belongs to the person, not to the case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cellkin.web.store.cases import get, refresh
from cellkin.web.store.converting import require_role
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import Refused
from cellkin.web.store.gallery import cell, set_fields
from cellkin.web.store.records import Actor, Case, Cell
from cellkin.web.store.tables import HELD, cells, views

TOGETHER = 500  # cells asked for at once


def mark_seen(tx: Transaction, actor: Actor, case_id: str, ids: Sequence[str]) -> None:
    """Cells that were on this person's screen; those seen before, and of a signed case, stay."""
    require_role(actor, "reviewer")
    if get(tx.conn, case_id).status == "signed":
        return
    seen = select(views.c.cell).where(views.c.user == actor.user)
    unseen = select(cells.c.id).where(cells.c.case == case_id, cells.c.id.not_in(seen))
    known = {str(row[0]) for row in tx.conn.execute(unseen)}
    fresh = [name for name in dict.fromkeys(ids) if name in known]
    if not fresh:
        return
    row = {"user": actor.user, "seen": tx.now, "opened": None}
    tx.conn.execute(views.insert(), [{**row, "cell": name} for name in fresh])
    set_fields(tx.conn, {name: {"seen": True} for name in fresh})
    refresh(tx, case_id, decided=False)
    tx.log(actor, "cells seen", case=case_id, after={"cells": fresh})


def mark_opened(tx: Transaction, actor: Actor, cell_id: str) -> Cell:
    """This person has the evidence of a cell before them; a signed case stays as it is."""
    require_role(actor, "reviewer")
    found = cell(tx.conn, cell_id)
    mine = _mine(actor.user, views.c.cell == cell_id)
    row = tx.conn.execute(select(views).where(mine)).mappings().one_or_none()
    if (row and row["opened"]) or get(tx.conn, found.case).status == "signed":
        return found
    if row is None:
        told = {"cell": cell_id, "user": actor.user, "seen": tx.now, "opened": tx.now}
        tx.conn.execute(views.insert().values(told))
    else:
        tx.conn.execute(update(views).where(mine).values(opened=tx.now))
    chosen = update(cells).where(cells.c.id == cell_id)
    tx.conn.execute(chosen.values(opened=True, seen=True))
    refresh(tx, found.case, decided=False)
    tx.log(actor, "cell opened", case=found.case, cell=cell_id)
    return cell(tx.conn, cell_id)


def require_viewed(tx: Transaction, actor: Actor, which: Sequence[Cell], least: float) -> None:
    """Refuse a decision on held cells that this person did not have open for so many seconds.

    Raises:
        Refused: one of them was not opened, or not long enough.
    """
    opened = _looks(tx.conn, actor.user, which)
    now = datetime.fromisoformat(tx.now)
    hasty = [
        cell
        for cell in which
        if (at := opened.get(cell.id)) is None
        or (now - datetime.fromisoformat(at)).total_seconds() < least
    ]
    if hasty:
        raise Refused(
            f"held cells are looked at before they are decided: {len(hasty)} "
            f"{'was' if len(hasty) == 1 else 'were'} not, by {actor.user}",
            where=", ".join(cell.name for cell in hasty[:5]),
            mend=f"open each and look at it for {least:g} s at least",
            missing=[cell.id for cell in hasty],
        )


def _looks(conn: Connection, user: str, which: Sequence[Cell]) -> dict[str, str | None]:
    """Those of the cells that this person saw, and when they opened each."""
    found: dict[str, str | None] = {}
    for start in range(0, len(which), TOGETHER):
        part = views.c.cell.in_([cell.id for cell in which[start : start + TOGETHER]])
        query = select(views.c.cell, views.c.opened).where(_mine(user, part))
        found |= {str(row[0]): row[1] for row in conn.execute(query)}
    return found


def _mine(user: str, which: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(views.c.user == user, which)


# reading ----------------------------------------------------------------------------------------


def by(conn: Connection, user: str, which: Sequence[Cell]) -> list[Cell]:
    """Cells with `seen` and `opened` as they are for one person."""
    found = _looks(conn, user, which)
    return [
        replace(cell, seen=cell.id in found, opened=found.get(cell.id) is not None)
        for cell in which
    ]


def case_by(conn: Connection, user: str, case: Case) -> Case:
    """A case with what is still to do for one person."""
    if case.status == "signed":
        return case
    left = {name: _count(conn, case.id, which) for name, which in undone(user).items()}
    return replace(case, to_confirm=left["held"], unseen=left["others"])


def undone(user: str) -> dict[str, ColumnElement[bool]]:
    """Cells of a case that a person must still look at: "held" singly, "others" in the gallery."""
    seen = select(views.c.cell).where(views.c.user == user)
    opened = seen.where(views.c.opened.is_not(None))
    single = or_(cells.c.confirmed.is_(None), cells.c.confirmed != "singly")
    return {
        "held": and_(HELD, or_(single, cells.c.id.not_in(opened))),
        "others": and_(~HELD, cells.c.id.not_in(seen)),
    }


def _count(conn: Connection, case_id: str, which: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(cells).where(cells.c.case == case_id, which)
    return int(conn.execute(query).scalar_one())
