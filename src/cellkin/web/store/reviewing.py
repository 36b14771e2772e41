"""What reviewers decide on cells: confirm, reclassify, set aside, undo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from cellkin.core.errors import did_you_mean
from cellkin.core.records import LabelSet
from cellkin.web.store import gallery
from cellkin.web.store.cases import locked, refresh, require_open
from cellkin.web.store.converting import require_role, written
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import CELL, DISPOSITIONS, Actor, Case, Cell
from cellkin.web.store.rules import Rules
from cellkin.web.store.tables import atlases, reviews
from cellkin.web.store.views import require_viewed

DECIDED = (
    "final",
    "disposition",
    "state",
    "confirmed",
    "comment",
    "reason",
    "reviewed_by",
    "reviewed",
)
"""The fields of a cell that a review changes."""

Verdict = Mapping[str, Any]
States = Mapping[str, Verdict]


def decided(cell: Cell) -> dict[str, Any]:
    """What was decided on a cell so far, as plain data."""
    return {name: getattr(cell, name) for name in DECIDED}


def review(
    tx: Transaction, actor: Actor, cell_id: str, version: int, verdict: Verdict, rules: Rules
) -> tuple[Cell, Case]:
    """Decide on one cell: `verdict` holds label or disposition, reason and comment."""
    require_role(actor, "reviewer")
    found = gallery.cell(tx.conn, cell_id)
    case = locked(tx, found.case, version)
    require_open(case)
    if found.held and rules.least_view > 0:
        require_viewed(tx, actor, [found], rules.least_view)
    chosen = _verdict(tx.conn, found, verdict, rules)
    new = {**chosen, "confirmed": "singly", "reviewed_by": actor.user, "reviewed": tx.now}
    before, after = {cell_id: decided(found)}, {cell_id: new}
    gallery.set_fields(tx.conn, after)
    _remember(tx, actor, case, before, after)
    action = "cell confirmed" if new["state"] == "confirmed" else "cell reclassified"
    tx.log(
        actor, action, case=found.case, cell=cell_id, before=before[cell_id], after=after[cell_id]
    )
    return gallery.cell(tx.conn, cell_id), refresh(tx, case.id, decided=True)


def review_many(
    tx: Transaction,
    actor: Actor,
    case: tuple[str, int],
    ids: Sequence[str],
    verdict: Verdict,
    rules: Rules,
) -> tuple[list[Cell], Case]:
    """Decide alike on many cells of a case (id, version); held ones must have been opened."""
    require_role(actor, "reviewer")
    found = locked(tx, *case)
    require_open(found)
    chosen = _of_case(tx.conn, found.id, ids)
    require_viewed(tx, actor, [cell for cell in chosen if cell.held], rules.least_view)
    by = {"reviewed_by": actor.user, "reviewed": tx.now}
    after = {
        cell.id: {
            **_verdict(tx.conn, cell, verdict, rules),
            "confirmed": "singly" if cell.held or len(chosen) == 1 else "together",
            **by,
        }
        for cell in chosen
    }
    before = {cell.id: decided(cell) for cell in chosen}
    gallery.set_fields(tx.conn, after)
    _remember(tx, actor, found, before, after)
    tx.log(actor, "cells reviewed", case=found.id, before=before, after={"cells": after})
    return gallery.many(tx.conn, list(after)), refresh(tx, found.id, decided=True)


def _of_case(conn: Connection, case_id: str, ids: Sequence[str]) -> list[Cell]:
    """Cells of a case by id, each once; refuses where one is of another, or there is none."""
    chosen = [c for c in gallery.many(conn, list(dict.fromkeys(ids))) if c.case == case_id]
    if len(chosen) != len(set(ids)) or not chosen:
        raise NotFound("some of these cells are none of this case", where=case_id, mend="reload")
    return chosen


def _verdict(conn: Connection, cell: Cell, verdict: Verdict, rules: Rules) -> dict[str, Any]:
    label, disposition = verdict.get("label"), verdict.get("disposition")
    if disposition == CELL and label is None:
        label, disposition = cell.proposed, None
    if (label is None) == (disposition is None or disposition == CELL):
        raise Refused(
            "a review names a class or a disposition, not both and not none",
            where=cell.name,
            mend=f"give a class, or one of: {', '.join(DISPOSITIONS[1:])}",
        )
    comment = verdict.get("comment")
    kept = cell.comment if comment is None else written("comment", comment)
    changed = disposition is not None or label != cell.proposed
    reason = written("reason", verdict.get("reason"))
    if label is not None:
        _check_label(conn, cell, label)
    elif disposition not in DISPOSITIONS:
        near = did_you_mean(str(disposition), DISPOSITIONS) or ", ".join(DISPOSITIONS)
        raise Refused("unknown disposition", where=str(disposition)[:80], mend=near)
    if changed and not reason and (rules.routine_reasons or _grave(conn, cell, label)):
        raise Refused("a change needs a reason", where=cell.name, mend="say why, in a few words")
    return {
        "final": label,
        "disposition": disposition or CELL,
        "state": "reclassified" if changed else "confirmed",
        "comment": kept,
        "reason": reason,
    }


def _labels(conn: Connection, cell: Cell) -> LabelSet:
    query = select(atlases.c.labels).where(atlases.c.id == cell.provenance["atlas"])
    return LabelSet.from_json(json.loads(conn.execute(query).scalar_one()))


def _grave(conn: Connection, cell: Cell, label: str | None) -> bool:
    """Whether a change is none of routine: of a held cell, or to or from a lymphoblast."""
    labels = _labels(conn, cell)
    return cell.held or any(labels.is_positive(name) for name in (cell.proposed, label) if name)


def _check_label(conn: Connection, cell: Cell, label: str) -> None:
    names = _labels(conn, cell).names
    if label not in names:
        raise Refused(
            "this is no class of the atlas",
            where=str(label)[:80],
            mend=did_you_mean(str(label), names) or f"use one of: {', '.join(names)}",
        )


def confirm_many(
    tx: Transaction, actor: Actor, case_id: str, version: int, ids: Sequence[str]
) -> Case:
    """Confirm the proposed classes of many cells; those decided already stay as they are."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    require_open(case)
    chosen = _of_case(tx.conn, case_id, ids)
    if held := [cell for cell in chosen if cell.held]:
        raise Refused(
            f"{len(held)} of these cells must be opened and confirmed singly; none was confirmed",
            where=", ".join(cell.name for cell in held[:5]),
            mend="open each of them, and leave them out here",
            missing=[cell.id for cell in held],
        )
    fresh = [cell for cell in chosen if cell.state == "proposed"]
    if not fresh:
        return case
    after = {cell.id: together(cell.proposed, actor, tx.now) for cell in fresh}
    before = {cell.id: {name: getattr(cell, name) for name in after[cell.id]} for cell in fresh}
    gallery.set_fields(tx.conn, after)
    _remember(tx, actor, case, before, after)
    told = {cell.id: cell.proposed for cell in fresh}
    tx.log(actor, "cells confirmed", case=case_id, after={"cells": told})
    return refresh(tx, case_id, decided=True)


def together(proposed: str, actor: Actor, now: str, how: str = "together") -> dict[str, Any]:
    """What changes on a cell when its proposed class is confirmed along with others."""
    return {
        "final": proposed,
        "state": "confirmed",
        "confirmed": how,
        "reviewed_by": actor.user,
        "reviewed": now,
    }


def undo(tx: Transaction, actor: Actor, case_id: str, version: int) -> tuple[list[Cell], Case]:
    """Take back the actor's last review of this case in its present revision."""
    require_role(actor, "reviewer")
    case = locked(tx, case_id, version)
    require_open(case)
    query = (
        select(reviews)
        .where(reviews.c.case == case_id, reviews.c.revision == case.revision)
        .where(reviews.c.user == actor.user, ~reviews.c.undone)
        .order_by(reviews.c.id.desc())
        .limit(1)
    )
    last = tx.conn.execute(query).mappings().one_or_none()
    if last is None:
        raise Refused("there is nothing of yours to undo", where=case.pseudonym, mend="review anew")
    before, after = json.loads(last["before"]), json.loads(last["after"])
    touched = gallery.many(tx.conn, list(after))
    if any(
        getattr(cell, key) != value for cell in touched for key, value in after[cell.id].items()
    ):
        raise Refused(
            "somebody decided on these cells after you; nothing was undone",
            where=case.pseudonym,
            mend="look at the cell as it is now, and review it anew",
        )
    gallery.set_fields(tx.conn, before)
    tx.conn.execute(update(reviews).where(reviews.c.id == last["id"]).values(undone=True))
    tx.log(actor, "review undone", case=case_id, after={"cells": before})
    case = refresh(tx, case_id, decided=True)
    return gallery.many(tx.conn, list(before)), case


def _remember(tx: Transaction, actor: Actor, case: Case, before: States, after: States) -> None:
    """Keep what a review changed, so that it can be undone."""
    row = {"case": case.id, "revision": case.revision, "user": actor.user, "at": tx.now}
    tx.conn.execute(
        reviews.insert().values(
            **row, before=plain_json(before), after=plain_json(after), undone=False
        )
    )
