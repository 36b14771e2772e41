"""Cases: made, listed, changed, and counted anew after each change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from cellkin.web.store.converting import (
    case_of,
    cursor_to,
    new_id,
    paged,
    require_role,
    written,
)
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import Conflict, NotFound, Refused
from cellkin.web.store.groups import EVERYBODY, group_for, seen_by
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import Actor, Case
from cellkin.web.store.tables import atlases, cases, cells, revisions
from cellkin.web.worklist.flags import FLAGS, CaseFacts, case_flags
from cellkin.web.worklist.held import MISFITS
from cellkin.web.worklist.misfit import DISTANT, held

STATUSES = ("open", "signed", "amended")
SAID = ("accession", "remarks", "conclusion")
CHANGEABLE = ("pseudonym", "specimen", "consecutive", "note", "group", *SAID)
COUNTED = (
    "proposed",
    "final",
    "disposition",
    "held_reasons",
    "seen",
    "opened",
    "confirmed",
    "atlas",
)
EMPTY = {"cells": 0, "held": 0, "to_confirm": 0, "unseen": 0, "duplicates": 0}


def create(tx: Transaction, actor: Actor, fields: Mapping[str, Any]) -> Case:
    """Make an empty case from pseudonym, specimen, consecutive and note."""
    require_role(actor, "reviewer")
    specimen = written("specimen", fields["specimen"]) or None
    told = {
        "pseudonym": written("pseudonym", fields["pseudonym"], needed=True),
        "specimen": specimen,
        "consecutive": bool(fields["consecutive"]),
        "note": written("note", fields["note"]),
        "group": group_for(tx.conn, actor, fields["group"]),
    }
    found = new_id()
    row = {**told, **EMPTY, "id": found, "status": "open", "version": 1, "revision": 1}
    row |= {"counts": "{}", "finals": "{}", "created": tx.now, "created_by": actor.user}
    flags = plain_json(case_flags(CaseFacts(frozenset(), 0, 0, 0, specimen)))
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
    conn: Connection,
    wanted: Mapping[str, str | None],
    limit: int,
    cursor: str | None,
    actor: Actor | None,
) -> tuple[list[Case], str | None]:
    """A page of the worklist, as somebody sees it, the newest case first, and the cursor of the
    next page.
    """
    query = select(cases).order_by(cases.c.created.desc(), cases.c.id)
    seen = None if actor is None else seen_by(conn, actor)
    for condition in [*_conditions(wanted), *([] if seen is None else [seen])]:
        query = query.where(condition)
    if cursor is not None:
        at, last = cursor_to(cursor, (str, str))
        query = query.where(
            or_(cases.c.created < at, and_(cases.c.created == at, cases.c.id > last))
        )
    found = [case_of(row) for row in conn.execute(query.limit(limit + 1)).mappings()]
    return paged(found, limit, lambda last: (last.created, last.id))


def _conditions(wanted: Mapping[str, str | None]) -> list[Any]:
    found: list[Any] = []
    if search := (wanted["search"] or "").replace("\0", "").strip():
        text = search.lower()
        names = ("pseudonym", "note", "created_by", "specimen", "signed_by", *SAID)
        columns = [cases.c[name] for name in names]
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
        new[name] = _changed(tx, actor, name, value)
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


def _changed(tx: Transaction, actor: Actor, name: str, value: Any) -> Any:
    if name == "group":
        return group_for(tx.conn, actor, value or EVERYBODY)
    return value if name == "consecutive" else written(name, value)


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
    old = get(tx.conn, case_id)
    new = {**counted(tx.conn, old), "version": old.version + int(decided)}
    tx.conn.execute(update(cases).where(cases.c.id == case_id).values(new))
    return get(tx.conn, case_id)


def counted(conn: Connection, case: Case) -> dict[str, Any]:
    """What is counted of the cells of a case, as `cases` holds it."""
    groups = _groups(conn, case.id)

    def single(group: Any) -> bool:
        return held(group.held_reasons, accepted=case.accepted_by is not None)

    to_confirm = _sum(groups, lambda g: single(g) and not (g.opened and g.confirmed == "singly"))
    total = _sum(groups, lambda g: True)
    known = _facts(conn, {g.atlas for g in groups})
    facts = CaseFacts(
        reasons=frozenset(reason for g in groups for reason in json.loads(g.held_reasons)),
        to_confirm=to_confirm,
        cells=total,
        duplicates=case.duplicates,
        specimen=case.specimen,
        atlas_specimens=tuple(told.get("specimen") for told in known),
        misfits=_sum(groups, lambda g: bool(MISFITS & {*json.loads(g.held_reasons)})),
        distant=_sum(groups, lambda g: bool(DISTANT & {*json.loads(g.held_reasons)})),
        drawn=any(told.get("provenance", {}).get("drawn") for told in known),
    )
    return {
        "cells": total,
        "held": _sum(groups, single),
        "to_confirm": to_confirm,
        "unseen": _sum(groups, lambda g: not single(g) and not g.seen),
        "flags": plain_json(case_flags(facts)),
        "counts": plain_json(_by_name(groups, lambda g: g.proposed)),
        "finals": plain_json(_by_name(groups, _decided_as)),
    }


def _groups(conn: Connection, case_id: str) -> Sequence[Any]:
    """Cells of a case that are alike in what is counted, with how many they are (`size`)."""
    columns = [cells.c[name] for name in COUNTED]
    query = select(*columns, func.count().label("size")).where(cells.c.case == case_id)
    return conn.execute(query.group_by(*columns)).all()


def _sum(groups: Sequence[Any], chosen: Callable[[Any], bool]) -> int:
    return sum(int(group.size) for group in groups if chosen(group))


def _by_name(groups: Sequence[Any], name: Callable[[Any], str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for group in groups:
        found[name(group)] += int(group.size)
    return dict(sorted(found.items()))


def _decided_as(group: Any) -> str:
    return str(group.final or group.proposed if group.disposition == "cell" else group.disposition)


def _facts(conn: Connection, used: Collection[str]) -> list[dict[str, Any]]:
    """What is told of the atlases that decided."""
    query = select(atlases.c.facts).where(atlases.c.id.in_(sorted(used))).order_by(atlases.c.id)
    return [json.loads(row[0]) for row in conn.execute(query)]
