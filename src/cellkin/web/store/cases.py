"""Cases: made, listed, changed, and counted anew after each change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, update

from cellkin.web.store.audit_log import plain_json
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import Conflict, NotFound, Refused
from cellkin.web.store.records import Actor, Case
from cellkin.web.store.rows import case_of, cursor_of, cursor_to, new_id, require_role, written
from cellkin.web.store.tables import atlases, cases, cells, revisions
from cellkin.web.worklist.flags import FLAGS, CaseFacts, case_flags

__all__ = ["change", "create", "get", "listed", "locked", "refresh", "require_open"]

STATUSES = ("open", "signed", "amended")
CHANGEABLE = ("pseudonym", "specimen", "consecutive", "note")
EMPTY = {"cells": 0, "held": 0, "to_confirm": 0, "unseen": 0, "duplicates": 0}


def create(tx: Transaction, actor: Actor, fields: Mapping[str, Any]) -> Case:
    """Make an empty case from pseudonym, specimen, consecutive and note."""
    require_role(actor, "reviewer")
    told = {
        "pseudonym": written("pseudonym", fields["pseudonym"], needed=True),
        "specimen": written("specimen", fields["specimen"]) or None,
        "consecutive": bool(fields["consecutive"]),
        "note": written("note", fields["note"]),
    }
    found = new_id()
    row = {**told, **EMPTY, "id": found, "status": "open", "version": 1, "revision": 1}
    row |= {"counts": "{}", "finals": "{}", "created": tx.now, "created_by": actor.user}
    flags = plain_json(case_flags(CaseFacts(frozenset(), 0, 0, 0, told["specimen"])))
    tx.conn.execute(cases.insert().values({**row, "flags": flags}))
    opened = {"case": found, "revision": 1, "reason": "", "opened": tx.now}
    tx.conn.execute(revisions.insert().values({**opened, "opened_by": actor.user}))
    tx.log(actor, "case created", case=found, after=told)
    return get(tx.conn, found)


def get(conn: Connection, case_id: str) -> Case:
    """A case.

    Raises:
        NotFound: there is none of this id.
    """
    row = conn.execute(select(cases).where(cases.c.id == case_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such case", where=case_id, mend="choose one of the worklist")
    return case_of(row)


def listed(
    conn: Connection, wanted: Mapping[str, str | None], limit: int, cursor: str | None
) -> tuple[list[Case], str | None]:
    """A page of the worklist, the newest case first, and the cursor of the next page."""
    query = select(cases).order_by(cases.c.created.desc(), cases.c.id)
    for condition in _conditions(wanted):
        query = query.where(condition)
    if cursor is not None:
        at, last = cursor_to(cursor, (str, str))
        query = query.where(
            or_(cases.c.created < at, and_(cases.c.created == at, cases.c.id > last))
        )
    found = [case_of(row) for row in conn.execute(query.limit(limit + 1)).mappings()]
    page = found[:limit]
    more = len(found) > limit
    return page, cursor_of(page[-1].created, page[-1].id) if more else None


def _conditions(wanted: Mapping[str, str | None]) -> list[Any]:
    found: list[Any] = []
    if search := (wanted["search"] or "").replace("\0", "").strip():
        text = search.lower()
        columns = (cases.c.pseudonym, cases.c.note, cases.c.created_by)
        near = [func.lower(column).contains(text, autoescape=True) for column in columns]
        found.append(or_(*near, cases.c.id == search))
    if (status := wanted["status"]) is not None:
        found.append(cases.c.status == _one_of(status, STATUSES, "status"))
    if (flag := wanted["flag"]) is not None:
        found.append(cases.c.flags.contains(f'"{_one_of(flag, FLAGS, "flag")}"', autoescape=True))
    return found


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        raise Refused(f"unknown {what}", where=value[:80], mend=f"use one of: {', '.join(known)}")
    return value


def change(
    tx: Transaction, actor: Actor, case_id: str, version: int, changes: Mapping[str, Any]
) -> Case:
    """Change pseudonym, specimen, consecutive or note of a case that is not signed."""
    require_role(actor, "reviewer")
    before = locked(tx, case_id, version)
    require_open(before)
    new: dict[str, Any] = {}
    for name, value in changes.items():
        _one_of(name, CHANGEABLE, "field")
        new[name] = value if name == "consecutive" else written(name, value)
    if "pseudonym" in new:
        written("pseudonym", new["pseudonym"], needed=True)
    if "specimen" in new:
        new["specimen"] = new["specimen"] or None
    if "consecutive" in new:
        new["consecutive"] = bool(new["consecutive"])
    new = {name: value for name, value in new.items() if value != getattr(before, name)}
    if not new:
        return before
    tx.conn.execute(update(cases).where(cases.c.id == case_id).values(new))
    old = {name: getattr(before, name) for name in new}
    tx.log(actor, "case changed", case=case_id, before=old, after=new)
    return refresh(tx, case_id, decided=True)


def locked(tx: Transaction, case_id: str, version: int) -> Case:
    """The case, if it still has the version that a change rests on.

    Raises:
        NotFound: there is none of this id. Conflict: somebody changed it since.
    """
    found = get(tx.conn, case_id)
    if found.version != version:
        raise Conflict(
            "somebody changed this case since you read it; nothing of yours was stored",
            version=found.version,
            where=f"{found.pseudonym}: version {found.version}, yours rests on {version}",
            mend="look at the case as it is now, then decide again",
        )
    return found


def require_open(found: Case) -> None:
    """Refuse to change a signed case.

    Raises:
        Refused: it is signed.
    """
    if found.status == "signed":
        raise Refused(
            "this case is signed and read-only",
            where=f"{found.pseudonym}, signed by {found.signed_by}",
            mend="amend it first: an amendment is a new revision",
        )


def refresh(tx: Transaction, case_id: str, *, decided: bool) -> Case:
    """Count a case anew after its cells changed; `decided` makes it a new version."""
    counted = _counted(tx.conn, case_id)
    old = get(tx.conn, case_id)
    facts = CaseFacts(
        reasons=_reasons(tx.conn, case_id),
        to_confirm=counted["to_confirm"],
        cells=counted["cells"],
        duplicates=old.duplicates,
        specimen=old.specimen,
        atlas_specimens=_specimens(tx.conn, case_id),
    )
    proposed = _groups(tx.conn, case_id, cells.c.proposed)
    final = func.coalesce(cells.c.final, cells.c.proposed)
    decided_as = case((cells.c.disposition == "cell", final), else_=cells.c.disposition)
    new = {
        **counted,
        "flags": plain_json(case_flags(facts)),
        "counts": plain_json(proposed),
        "finals": plain_json(_groups(tx.conn, case_id, decided_as)),
        "version": old.version + int(decided),
    }
    tx.conn.execute(update(cases).where(cases.c.id == case_id).values(new))
    return get(tx.conn, case_id)


def _counted(conn: Connection, case_id: str) -> dict[str, int]:
    done = and_(cells.c.opened, cells.c.confirmed == "singly")
    row = conn.execute(
        select(
            func.count().label("cells"),
            func.sum(case((cells.c.held, 1), else_=0)).label("held"),
            func.sum(case((and_(cells.c.held, ~_known(done)), 1), else_=0)).label("to_confirm"),
            func.sum(case((and_(~cells.c.held, ~cells.c.seen), 1), else_=0)).label("unseen"),
        ).where(cells.c.case == case_id)
    ).mappings()
    return {name: int(value or 0) for name, value in row.one().items()}


def _known(condition: Any) -> Any:
    """A condition in which NULL counts as false."""
    return func.coalesce(condition, False)


def _groups(conn: Connection, case_id: str, what: Any) -> dict[str, int]:
    query = select(what, func.count()).where(cells.c.case == case_id).group_by(what)
    return {str(name): int(count) for name, count in sorted(map(tuple, conn.execute(query)))}


def _reasons(conn: Connection, case_id: str) -> frozenset[str]:
    query = select(cells.c.held_reasons).where(cells.c.case == case_id).distinct()
    return frozenset(reason for row in conn.execute(query) for reason in json.loads(row[0]))


def _specimens(conn: Connection, case_id: str) -> tuple[str | None, ...]:
    used = select(cells.c.atlas).where(cells.c.case == case_id).distinct()
    query = select(atlases.c.facts).where(atlases.c.id.in_(used)).order_by(atlases.c.id)
    return tuple(json.loads(row[0]).get("specimen") for row in conn.execute(query))
