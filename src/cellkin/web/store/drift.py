"""How the cells of each day look: kept when they are added, read for the chart of drift."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from cellkin.web.store.database import Transaction
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import NewCell
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import looks

DAYS = 366  # days that are told, the last ones
Daily = dict[str, list[Mapping[str, float]]]
"""Day in ISO 8601, ascending -> what was measured of each of its cells."""


def keep(tx: Transaction, rows: Sequence[tuple[Mapping[str, Any], NewCell]]) -> dict[str, str]:
    """Keep what was measured of the pictures of new cells, nothing of those that were not; gives
    the hash of each by the cell's id.
    """
    kept = [
        {
            "cell": row["id"],
            "atlas": row["atlas"],
            "day": str(row["added"])[:10],
            "values": plain_json(dict(item.look)),
        }
        for row, item in rows
        if item.look
    ]
    if kept:
        tx.conn.execute(looks.insert(), kept)
    return {str(row["cell"]): row_hash("looks", row) for row in kept}


def daily(conn: Connection, atlas: str, days: int = DAYS) -> Daily:
    """The cells that an atlas decided, by the last days on which there were some."""
    last = select(looks.c.day).where(looks.c.atlas == atlas).distinct()
    last = last.order_by(looks.c.day.desc()).limit(days)
    wanted = sorted(day for (day,) in conn.execute(last))
    found: Daily = {day: [] for day in wanted}
    if wanted:
        query = select(looks.c.day, looks.c["values"]).where(
            looks.c.atlas == atlas, looks.c.day >= wanted[0]
        )
        for day, values in conn.execute(query):
            found[day].append(json.loads(values))
    return found
