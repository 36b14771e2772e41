"""What the log of a store of version 0.1 did not tell is written down once, when it is upgraded.

From then on a change of it is found; what was changed before cannot be.
"""

from __future__ import annotations

from sqlalchemy import delete, select

from cellkin.web.store.cases import refresh
from cellkin.web.store.comparing import found_groups, found_rows
from cellkin.web.store.database import Transaction
from cellkin.web.store.log import walk
from cellkin.web.store.records import PROGRAM
from cellkin.web.store.replaying import UPGRADED
from cellkin.web.store.tables import cases, sessions


def tell(tx: Transaction) -> None:
    """Write down what is there; sessions end, and cases are counted anew."""
    tx.conn.execute(delete(sessions))
    for name in tx.conn.execute(select(cases.c.id)).scalars().all():
        refresh(tx, str(name), decided=False)
    backwards, previous = [], ""
    for entry in walk(tx.conn):
        if entry.at < previous:
            backwards.append(entry.number)
        previous = entry.at
    after = {"rows": found_rows(tx.conn), "groups": found_groups(tx.conn), "backwards": backwards}
    tx.log(PROGRAM, UPGRADED, after=after)
