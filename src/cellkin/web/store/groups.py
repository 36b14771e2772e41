"""Groups of people: a case that is a group's is there for its people and for admins alone."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement, Connection, or_, select

from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.records import Actor
from cellkin.web.store.tables import cases, cells, users

EVERYBODY = ""
"""What a case's group is called when it is made for all."""
LOCAL = "local"  # the one person of a workstation without accounts


def own_groups(conn: Connection, actor: Actor) -> tuple[str, ...]:
    """The groups that somebody is in, by name."""
    told = conn.execute(select(users.c.groups).where(users.c.name == actor.user)).scalar()
    return () if told is None else tuple(json.loads(told))


def groups_of(conn: Connection, actor: Actor) -> frozenset[str] | None:
    """The groups whose cases somebody sees beside everybody's; None: all of them."""
    if actor.role == "admin" or actor.user == LOCAL:
        return None
    return frozenset(own_groups(conn, actor))


def seen_by(conn: Connection, actor: Actor) -> ColumnElement[bool] | None:
    """The condition that somebody sees a case; None where they see all."""
    mine = groups_of(conn, actor)
    if mine is None:
        return None
    return or_(cases.c.group.is_(None), cases.c.group.in_(sorted(mine)))


def require_seen(conn: Connection, actor: Actor, case: str | None, cell: str | None) -> str | None:
    """Refuse a case, or the case of a cell, that somebody does not see; in the same words as one
    that is not there. Gives the id of the case, None where there is none: the route says so.

    Raises:
        NotFound: it is another group's.
    """
    query = select(cases.c.id, cases.c.group)
    if cell is not None:
        query = query.join(cells, cells.c.case == cases.c.id).where(cells.c.id == cell)
    else:
        query = query.where(cases.c.id == case)
    found = conn.execute(query).one_or_none()
    if found is None:
        return None
    mine = groups_of(conn, actor)
    if found[1] is None or mine is None or found[1] in mine:
        return str(found[0])
    if cell is not None:
        raise NotFound("there is no such cell", where=cell, mend="choose one of the case")
    raise NotFound("there is no such case", where=case, mend="choose one of the worklist")


def group_for(conn: Connection, actor: Actor, wanted: str | None) -> str | None:
    """The group that a new case belongs to, None for everybody.

    Args:
        wanted: `EVERYBODY`, a group, or None: the one that the actor is in, where it is one.

    Raises:
        Refused: the actor is in several, or not in that one.
    """
    mine = groups_of(conn, actor)
    if wanted is None and mine:
        if len(mine) > 1:
            raise Refused(
                "you are in several groups: say whose case this is",
                where="group",
                mend=f"give one of {', '.join(sorted(mine))}, or an empty text for everybody",
            )
        return next(iter(mine))
    if not wanted:
        return None
    if mine is not None and wanted not in mine:
        raise Refused(
            "you are not in this group", where=wanted[:80], mend="choose one of your groups"
        )
    return wanted
