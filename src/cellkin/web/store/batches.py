"""Uploads that were announced: which files a case expects, which came, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from cellkin.web.store.cases import get, require_open
from cellkin.web.store.converting import new_id, require_role, storable
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import Actor, Batch
from cellkin.web.store.tables import batches

OPEN, COMPLETE, INCOMPLETE = "open", "complete", "incomplete"
NAME = 255  # characters of a file's name that are kept


def announce(
    tx: Transaction, actor: Actor, case_id: str, files: Sequence[tuple[str, int]]
) -> Batch:
    """Say which files (name, bytes) a case is going to get."""
    require_role(actor, "reviewer")
    require_open(get(tx.conn, case_id))
    if not files:
        raise Refused("an upload needs files", where=case_id, mend="name at least one")
    told = [[storable(name)[-NAME:], size] for name, size in files]
    found = new_id()
    row = {"id": found, "case": case_id, "files": plain_json(told), "received": "[]"}
    row |= {"state": OPEN, "opened": tx.now, "opened_by": actor.user}
    tx.conn.execute(batches.insert().values(row))
    after = {"upload": found, "files": len(told)}
    tx.log(actor, "upload announced", case=case_id, after=after)
    return one(tx.conn, case_id, found)


def receive(tx: Transaction, case_id: str, batch: str, slots: Sequence[int]) -> None:
    """Files of an announced upload are here, by their places in its list."""
    found = one(tx.conn, case_id, batch)
    fitting = {slot for slot in slots if 0 <= slot < len(found.files)}
    now = sorted({*found.received, *fitting})
    chosen = update(batches).where(batches.c.id == batch)
    tx.conn.execute(chosen.values(received=plain_json(now)))


def close(tx: Transaction, actor: Actor, case_id: str, batch: str) -> Batch:
    """End an announced upload: complete where every file came, incomplete otherwise."""
    require_role(actor, "reviewer")
    found = one(tx.conn, case_id, batch)
    if found.state != OPEN:
        return found
    missing = len(found.files) - len(found.received)
    state = INCOMPLETE if missing else COMPLETE
    chosen = update(batches).where(batches.c.id == batch)
    tx.conn.execute(chosen.values(state=state))
    after = {"upload": batch, "state": state, "files": len(found.files), "missing": missing}
    tx.log(actor, "upload closed", case=case_id, after=after)
    return one(tx.conn, case_id, batch)


def one(conn: Connection, case_id: str, batch: str) -> Batch:
    """An announced upload of a case.

    Raises:
        NotFound: there is none of this id.
    """
    for found in listed(conn, case_id):
        if found.id == batch:
            return found
    raise NotFound("there is no such upload", where=batch, mend="announce it first")


def listed(conn: Connection, case_id: str) -> list[Batch]:
    """The announced uploads of a case, in their order."""
    get(conn, case_id)
    query = (
        select(batches).where(batches.c.case == case_id).order_by(batches.c.opened, batches.c.id)
    )
    return [
        Batch(
            **{
                **row,
                "files": tuple((str(name), int(size)) for name, size in json.loads(row["files"])),
                "received": tuple(json.loads(row["received"])),
            }
        )
        for row in conn.execute(query).mappings()
    ]


def unfinished(conn: Connection, case_id: str) -> list[str]:
    """What stands in the way of signing, one sentence for each open upload."""
    return [
        f"finish the upload of {batch.opened_by}, or close it as incomplete: "
        f"{len(batch.received)} of {len(batch.files)} files are here"
        for batch in listed(conn, case_id)
        if batch.state == OPEN
    ]
