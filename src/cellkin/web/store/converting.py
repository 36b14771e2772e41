"""Between rows of tables and records, and the checks of what people write."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from cellkin.web.store.errors import Forbidden, NoCursor, Refused
from cellkin.web.store.records import ROLES, Actor, Case, Cell
from cellkin.web.worklist.misfit import held

Item = TypeVar("Item")

LONGEST = {
    "pseudonym": 80,
    "specimen": 80,
    "note": 4000,
    "reason": 1000,
    "comment": 4000,
    "accession": 80,
    "remarks": 4000,
    "conclusion": 4000,
}


def new_id() -> str:
    """A short random id, 72 bits; it never begins as a formula of a spreadsheet does."""
    return "c" + secrets.token_hex(9)


def require_role(actor: Actor, role: str) -> None:
    """Refuse an actor whose role allows less than `role`.

    Raises:
        Forbidden: it does.
    """
    if actor.role not in ROLES or ROLES.index(actor.role) < ROLES.index(role):
        raise Forbidden(
            f"this needs the role {role}; {actor.user} is {actor.role}",
            where=actor.user,
            mend=f"ask an admin for the role {role}",
        )


def storable(text: str) -> str:
    """Text that every database takes: without NUL, lone surrogates replaced."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def written(name: str, text: str | None, *, needed: bool = False) -> str:
    """What a person wrote into a field, trimmed.

    Raises:
        Refused: it is too long, or empty where something is needed.
    """
    kept = storable(text or "").strip()
    if needed and not kept:
        raise Refused(f"the {name} is empty", where=name, mend=f"give a {name}")
    if len(kept) > LONGEST[name]:
        raise Refused(
            f"the {name} has {len(kept)} characters",
            where=name,
            mend=f"use {LONGEST[name]} at most",
        )
    return kept


def case_of(row: Any) -> Case:
    """A row of `cases` as a record."""
    data = dict(row)
    for name in ("counts", "finals"):
        data[name] = json.loads(data[name])
    return Case(**{**data, "flags": tuple(json.loads(data["flags"]))})


def cell_of(row: Any) -> Cell:
    """A row of `CELLS` as a record."""
    data = {key: value for key, value in dict(row).items() if key not in ("atlas", "accepted_by")}
    for name in ("decision", "gate", "provenance"):
        data[name] = json.loads(data[name])
    single = held(data["held_reasons"], accepted=row["accepted_by"] is not None)
    return Cell(**{**data, "held_reasons": tuple(json.loads(data["held_reasons"])), "held": single})


def paged(
    found: list[Item], limit: int, key: Callable[[Item], tuple[Any, ...]]
) -> tuple[list[Item], str | None]:
    """The first `limit` items, and where the next page goes on, as an opaque word; None where all
    that was found fits.
    """
    page = found[:limit]
    if len(found) == len(page):
        return page, None
    return page, base64.urlsafe_b64encode(json.dumps(key(page[-1])).encode()).decode().rstrip("=")


def cursor_to(cursor: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """Where the page before ended.

    Raises:
        NoCursor: this is none of ours.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        key = None
    ours = isinstance(key, list) and [type(value) for value in key] == list(kinds)
    if ours and all(map(_fits, key)):
        return tuple(key)
    raise NoCursor("this cursor is none of ours", where=cursor[:80], mend="begin at the first page")


def _fits(value: Any) -> bool:
    """Whether a database takes a value that we have not written."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, str) or storable(value) == value
