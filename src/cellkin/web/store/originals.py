"""Uploaded files as they came, each once, under the SHA-256 of its bytes.

The bytes lie in the store, or on a shelf outside it; what is known of them lies in the store, where
the log vouches for the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import NotFound, Refused
from cellkin.web.store.records import PROGRAM, Original
from cellkin.web.store.relied import row_hash
from cellkin.web.store.shelf import Shelf
from cellkin.web.store.tables import cells, original_bytes, originals

GIBIBYTE = 2**30
TOGETHER = 400  # digests asked for at once


@dataclass(frozen=True)
class Keeping:
    """Where originals are kept.

    Attributes:
        shelf: a place outside the store; None keeps them in it. quota: bytes of all of them.
    """

    shelf: Shelf | None = None
    quota: int = 50 * GIBIBYTE


IN_STORE = Keeping()


def keep(tx: Transaction, new: Iterable[tuple[Original, bytes]], keeping: Keeping) -> None:
    """Keep files that are not kept yet.

    Raises:
        Refused: there is no room for them. OutputError: the shelf cannot be written.
    """
    wanted = {one.sha256: (one, data) for one, data in new}
    for sha256 in _known(tx.conn, list(wanted)):
        del wanted[sha256]
    if not wanted:
        return
    more = sum(one.bytes for one, _ in wanted.values())
    if kept_bytes(tx.conn) + more > keeping.quota:
        raise Refused(
            f"there is no room for these originals: {keeping.quota / GIBIBYTE:.3g} GiB are set",
            where=f"{more} bytes more",
            mend="start the workstation with a larger --originals-quota",
        )
    place = keeping.shelf.place if keeping.shelf else ""
    told: dict[str, str] = {}
    for one, data in wanted.values():
        if keeping.shelf:
            keeping.shelf.put(one.sha256, data)
        else:
            tx.conn.execute(original_bytes.insert().values(sha256=one.sha256, data=data))
        row = {**one.to_json(), "place": place}
        tx.conn.execute(originals.insert().values(row))
        told[one.sha256] = row_hash("originals", row)
    tx.log(PROGRAM, "originals kept", after={"fixed": told})


def kept_bytes(conn: Connection) -> int:
    """Bytes of all originals."""
    return int(conn.execute(select(func.coalesce(func.sum(originals.c.bytes), 0))).scalar_one())


def _known(conn: Connection, digests: list[str]) -> Iterator[str]:
    for start in range(0, len(digests), TOGETHER):
        part = originals.c.sha256.in_(digests[start : start + TOGETHER])
        yield from (str(row[0]) for row in conn.execute(select(originals.c.sha256).where(part)))


def of_cell(conn: Connection, cell_id: str) -> Original:
    """What is known of the file that a cell was uploaded as.

    Raises:
        NotFound: no such cell, or its file was not kept.
    """
    query = select(cells.c.sha256).where(cells.c.id == cell_id)
    sha256 = conn.execute(query).scalar()
    if sha256 is None:
        raise NotFound("there is no such cell", where=cell_id, mend="choose one of the case")
    return one(conn, str(sha256))


def one(conn: Connection, sha256: str) -> Original:
    """What is known of an original.

    Raises:
        NotFound: it was not kept.
    """
    columns = [column for column in originals.c if column.name != "place"]
    query = select(*columns).where(originals.c.sha256 == sha256)
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            "the original of this picture was not kept",
            where=sha256[:12],
            mend="it was added before originals were kept: upload it again in a new case",
        )
    return Original(**row)


def read(conn: Connection, sha256: str, shelf: Shelf | None) -> bytes:
    """The bytes of an original.

    Raises:
        NotFound: it was not kept. ArtifactError: it is gone, or lies on a shelf that was not given.
    """
    query = select(original_bytes.c.data).where(original_bytes.c.sha256 == sha256)
    data = conn.execute(query).scalar()
    if data is not None:
        return bytes(data)
    one(conn, sha256)
    place = conn.execute(select(originals.c.place).where(originals.c.sha256 == sha256)).scalar_one()
    return (shelf if shelf and shelf.place == place else Shelf(str(place))).get(sha256)


def elsewhere(conn: Connection) -> list[str]:
    """Digests of the originals whose bytes lie outside the store."""
    query = select(originals.c.sha256).where(
        originals.c.sha256.not_in(select(original_bytes.c.sha256))
    )
    return [str(row[0]) for row in conn.execute(query)]


def gather(source: Connection, target: Connection, shelf: Shelf | None) -> None:
    """Put into a copy of a store the bytes that lie outside its source."""
    for sha256 in elsewhere(target):
        row = {"sha256": sha256, "data": read(source, sha256, shelf)}
        target.execute(original_bytes.insert().values(row))


def faults(conn: Connection) -> Iterator[str]:
    """Of originals in the store: those whose bytes are gone, or not what their digest says."""
    inside = select(originals.c.sha256).where(originals.c.place == "")
    gone = inside.where(originals.c.sha256.not_in(select(original_bytes.c.sha256)))
    for sha256 in conn.execute(gone).scalars():
        yield f"the original {sha256[:12]} is gone"
    rows = conn.execute(select(original_bytes).execution_options(yield_per=20)).mappings()
    for row in rows:
        if hashlib.sha256(row["data"]).hexdigest() != row["sha256"]:
            yield f"the original {row['sha256'][:12]} was changed"
