"""Signing, amending, and the documents that a signature freezes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

import cellkin
from cellkin.web.store import gallery
from cellkin.web.store.batches import unfinished
from cellkin.web.store.cases import get, locked, refresh, require_open
from cellkin.web.store.comparing import case_faults
from cellkin.web.store.converting import cell_of, require_role, written
from cellkin.web.store.database import Transaction
from cellkin.web.store.documents import CaseReport, compose, counts_of
from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.log import READ, head, plain_json, walk
from cellkin.web.store.records import Actor, Case, Cell, Revision
from cellkin.web.store.replaying import Replay
from cellkin.web.store.reviewing import together
from cellkin.web.store.tables import CELLS, atlases, cases, cells, revisions
from cellkin.web.store.views import undone
from cellkin.web.worklist.flags import MISFIT

NAMED = 5


def sign(tx: Transaction, actor: Actor, case_id: str, version: int) -> Case:
    """Sign a case: what was seen and not changed is confirmed with it, and all is frozen."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    require_open(case)
    _require_told(tx.conn, case)
    if todo := missing(tx.conn, case, actor.user):
        raise Refused(
            "this case cannot be signed yet",
            where=case.pseudonym,
            mend="; ".join(todo),
            missing=todo,
        )
    confirmed = _confirm_rest(tx, actor, case_id)
    chosen = update(cases).where(cases.c.id == case_id)
    tx.conn.execute(chosen.values(status="signed", signed=tx.now, signed_by=actor.user))
    signed = refresh(tx, case_id, decided=True)
    after = {"revision": case.revision, "confirmed by signing": confirmed}
    number = tx.log(actor, "case signed", case=case_id, after=after)
    _freeze(tx, actor, signed, number)
    return signed


def _require_told(conn: Connection, case: Case) -> None:
    """Refuse to sign what was changed beside the log: a cell that is no longer held, or opened by
    nobody.
    """
    replay = Replay()
    for entry in walk(conn, case.id):
        replay.take(entry)
    if faults := case_faults(conn, replay, case.id):
        raise Refused(
            "this case was changed beside the log, and cannot be signed",
            where=f"{case.pseudonym}: {faults[0]}",
            mend="keep the store as it is (cellkin log --verify), and restore a backup beside",
        )


def missing(conn: Connection, case: Case, user: str) -> list[str]:
    """What a person has to do before signing a case, one sentence each."""
    found = [] if case.cells else ["add cells: the case is empty"]
    found += unfinished(conn, case.id)
    if MISFIT in case.flags and case.accepted_by is None:
        found.append("decide whether to go on: the case does not fit its atlas")
    left = undone(user)
    if names := _names(conn, case.id, left["held"]):
        found.append(f"open and decide {_count(names)} that must be looked at singly")
    if names := _names(conn, case.id, left["others"]):
        found.append(f"look at {_count(names)} in the gallery that {user} has not seen yet")
    if case.cells and case.consecutive and not _white_cells(conn, case):
        found.append(
            f"add white cells: none of {case.cells} counts, and a differential over no cell says "
            "nothing; or declare that the cells are selected ones"
        )
    return found


def _names(conn: Connection, case_id: str, which: ColumnElement[bool]) -> list[str]:
    query = select(cells.c.name).where(cells.c.case == case_id, which).order_by(cells.c.position)
    return [str(row[0]) for row in conn.execute(query)]


def _count(names: list[str]) -> str:
    named = ", ".join(names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {'cell' if len(names) == 1 else 'cells'} ({named}{more})"


def _confirm_rest(tx: Transaction, actor: Actor, case_id: str) -> list[str]:
    undecided = and_(cells.c.case == case_id, cells.c.state == "proposed")
    query = select(cells.c.id, cells.c.proposed).where(undecided).order_by(cells.c.position)
    rest = {str(row[0]): str(row[1]) for row in tx.conn.execute(query)}
    states = {
        cell_id: together(proposed, actor, tx.now, "by signing")
        for cell_id, proposed in rest.items()
    }
    gallery.set_fields(tx.conn, states)
    return list(rest)


def _freeze(tx: Transaction, actor: Actor, case: Case, number: int) -> None:
    """Write the signed document; a trigger refuses to change it from then on."""
    where = (revisions.c.case == case.id, revisions.c.revision == case.revision)
    signing = {"signed": tx.now, "signed_by": actor.user}
    told = _composed(tx.conn, case, {**signing, "audit": number})
    data = plain_json(told).encode()
    found = hashlib.sha256(data).hexdigest()
    chosen = update(revisions).where(*where)
    tx.conn.execute(chosen.values(**signing, document=data, sha256=found))
    after = {"revision": case.revision, "sha256": found}
    tx.log(actor, "document frozen", case=case.id, after=after)


def _white_cells(conn: Connection, case: Case) -> int:
    return counts_of(*_called(conn, case), consecutive=case.consecutive).n


def _called(conn: Connection, case: Case) -> tuple[list[Cell], dict[str, dict[str, Any]]]:
    """The cells of a case, and what is told of the atlases that decided on them."""
    rows = CELLS.where(cells.c.case == case.id).order_by(cells.c.position)
    found = [cell_of(row) for row in conn.execute(rows).mappings()]
    used = {str(cell.provenance["atlas"]) for cell in found}
    query = select(atlases).where(atlases.c.id.in_(used)).order_by(atlases.c.id)
    return found, {
        row["id"]: {"labels": json.loads(row["labels"]), "facts": json.loads(row["facts"])}
        for row in conn.execute(query).mappings()
    }


def _composed(conn: Connection, case: Case, signing: dict[str, Any]) -> dict[str, Any]:
    found, known = _called(conn, case)
    number, hash_ = head(conn)
    return compose(
        case,
        found,
        atlases=known,
        history=[entry for entry in walk(conn, case.id) if entry.action not in READ],
        revisions=_revisions(conn, case.id),
        signing={**signing, "witness": {"number": number, "hash": hash_}},
        version=cellkin.__version__,
    )


def amend(tx: Transaction, actor: Actor, case_id: str, version: int, reason: str) -> Case:
    """Open a signed case again, as a new revision; what was signed stays as it is."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    why = written("reason", reason, needed=True)
    if case.status != "signed":
        raise Refused(
            "only a signed case can be amended",
            where=case.pseudonym,
            mend="this one is open: change it directly",
        )
    new = case.revision + 1
    opened = {"case": case_id, "revision": new, "reason": why, "opened": tx.now}
    tx.conn.execute(revisions.insert().values(**opened, opened_by=actor.user))
    chosen = update(cases).where(cases.c.id == case_id)
    tx.conn.execute(chosen.values(status="amended", revision=new))
    after = {"revision": new, "reason": why}
    tx.log(actor, "case amended", case=case_id, before={"revision": case.revision}, after=after)
    return refresh(tx, case_id, decided=True)


# reading ----------------------------------------------------------------------------------------


def document(conn: Connection, case_id: str, revision: int) -> bytes:
    """The signed document of a revision, byte for byte as it was signed.

    Raises:
        NotFound: no such case or revision, or it is not signed.
    """
    get(conn, case_id)
    query = select(revisions.c.document).where(
        revisions.c.case == case_id, revisions.c.revision == revision
    )
    found = conn.execute(query).scalar()
    if found is None:
        raise NotFound(
            "there is no signed revision of this number",
            where=f"{case_id}, revision {revision}",
            mend="choose one of the signed revisions of the case",
        )
    return bytes(found)


def report(conn: Connection, case_id: str, revision: int | None) -> CaseReport:
    """The report of a revision: as it was signed, or a draft of the open one."""
    case = get(conn, case_id)
    wanted = case.revision if revision is None else revision
    if wanted == case.revision and case.status != "signed":
        return CaseReport.draft(_composed(conn, case, {"signed": None, "signed_by": None}))
    return CaseReport.from_bytes(document(conn, case_id, wanted))


def _revisions(conn: Connection, case_id: str) -> list[Revision]:
    columns = [c for c in revisions.c if c.name != "document"]
    query = select(*columns).where(revisions.c.case == case_id).order_by(revisions.c.revision)
    return [Revision(**row) for row in conn.execute(query).mappings()]


def listed(conn: Connection, case_id: str) -> list[Revision]:
    """The revisions of a case, the first one first."""
    get(conn, case_id)
    return _revisions(conn, case_id)
