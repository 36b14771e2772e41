"""A case that does not fit its atlas: one decision to go on, and taking it back."""

from __future__ import annotations

from sqlalchemy import update

from cellkin.web.store.cases import locked, refresh, require_open
from cellkin.web.store.converting import require_role, written
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import Refused
from cellkin.web.store.records import Actor, Case
from cellkin.web.store.tables import cases
from cellkin.web.worklist.flags import MISFIT


def accept(tx: Transaction, actor: Actor, case_id: str, version: int, reason: str) -> Case:
    """Go on with a case that does not fit its atlas: cells that only lie far are held no more."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    require_open(case)
    why = written("reason", reason, needed=True)
    if MISFIT not in case.flags:
        raise Refused("this case fits its atlas", where=case.pseudonym, mend="go on as usual")
    return _decide(tx, actor, case, why)


def take_back(tx: Transaction, actor: Actor, case_id: str, version: int) -> Case:
    """Hold again what was released, until somebody decides anew."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    require_open(case)
    if case.accepted_by is None:
        raise Refused(
            "nobody decided to go on", where=case.pseudonym, mend="there is nothing to do"
        )
    return _decide(tx, actor, case, None)


def _decide(tx: Transaction, actor: Actor, case: Case, why: str | None) -> Case:
    told = {"accepted_by": None if why is None else actor.user, "accepted_why": why}
    tx.conn.execute(update(cases).where(cases.c.id == case.id).values(told))
    action = "misfit taken back" if why is None else "misfit accepted"
    tx.log(actor, action, case=case.id, after=told)
    return refresh(tx, case.id, decided=True)
