"""The atlases that decided, and small pictures of the reference cells that reports show."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image
from sqlalchemy import Connection, select

from cellkin.core.records import LabelSet
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import NotFound
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import PROGRAM, Cell
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import atlases, references

SIDE = 112  # pixels of a kept picture's longer side
TOGETHER = 500  # pictures that are read at once

PictureSource = Callable[[Sequence[str]], Sequence[bytes]]
"""Reference ids -> their pictures, PNG, in that order."""


def register(tx: Transaction, atlas: str, labels: LabelSet, facts: Mapping[str, Any]) -> None:
    """Keep the classes and facts of an atlas; what is kept already stays as it is."""
    if tx.conn.execute(select(atlases.c.id).where(atlases.c.id == atlas)).scalar() is not None:
        return
    row = {"id": atlas, "labels": plain_json(labels.to_json()), "facts": plain_json(facts)}
    row["registered"] = tx.now
    tx.conn.execute(atlases.insert().values(row))
    tx.log(PROGRAM, "atlas registered", after={"atlas": atlas, "fixed": row_hash("atlases", row)})


def get(conn: Connection, atlas: str) -> tuple[LabelSet, dict[str, Any]]:
    """Classes and facts of an atlas.

    Raises:
        NotFound: it was not registered.
    """
    row = conn.execute(select(atlases).where(atlases.c.id == atlas)).mappings().one_or_none()
    if row is None:
        raise NotFound("this atlas was not registered", where=atlas[:80], mend="register it first")
    return LabelSet.from_json(json.loads(row["labels"])), json.loads(row["facts"])


def pictures(conn: Connection, atlas: str, ids: Sequence[str]) -> dict[str, bytes]:
    """Reference id -> PNG, of those that are kept."""
    found: dict[str, bytes] = {}
    wanted = sorted(set(ids))
    for start in range(0, len(wanted), TOGETHER):
        part = references.c.id.in_(wanted[start : start + TOGETHER])
        query = select(references.c.id, references.c.picture).where(references.c.atlas == atlas)
        found |= {row[0]: bytes(row[1]) for row in conn.execute(query.where(part))}
    return found


def keep_kin(tx: Transaction, added: Sequence[Cell], sources: Mapping[str, PictureSource]) -> None:
    """Keep small pictures of the kin of held cells, those that are not kept yet."""
    wanted: dict[str, set[str]] = {}
    for cell in added:
        atlas = str(cell.provenance["atlas"])
        if cell.held and atlas in sources:
            kin = {str(neighbor["id"]) for neighbor in cell.decision["neighbors"]}
            wanted.setdefault(atlas, set()).update(kin)
    for atlas, ids in wanted.items():
        missing = sorted(ids - pictures(tx.conn, atlas, sorted(ids)).keys())
        told: dict[str, str] = {}
        for start in range(0, len(missing), TOGETHER):
            part = missing[start : start + TOGETHER]
            rows = [
                {"atlas": atlas, "id": name, "picture": small(png)}
                for name, png in zip(part, sources[atlas](part), strict=True)
            ]
            tx.conn.execute(references.insert(), rows)
            told |= {str(row["id"]): row_hash("reference_pictures", row) for row in rows}
        if told:
            tx.log(PROGRAM, "pictures of kin kept", after={"atlas": atlas, "fixed": told})


def small(png: bytes) -> bytes:
    """A picture made small, PNG."""
    with Image.open(io.BytesIO(png)) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    shown.save(data, "PNG", optimize=True)
    return data.getvalue()
