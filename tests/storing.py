"""Made-up cells for tests of the store: no network, no atlas."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from PIL import Image

from cellkin.core.records import Decision, LabelSet, Provenance
from cellkin.web.store import Actor, Case, Cell, NewCell, Store, people
from cellkin.web.store.database import one_connection, utc_now
from cellkin.web.store.verifying import verify

SECRET = "correct horse battery"
ANNA = Actor("anna", "reviewer", "page")
BEN = Actor("ben", "reviewer", "api")
ROOT = Actor("root", "admin", "command line")
VIEWER = Actor("vera", "viewer", "page")
ATLAS = "a" * 64
LABELS = LabelSet(
    ("nothing", "neutrophil", "ig", "erythroblast", "platelet", "lymphoblast (1)"),
    {
        "nothing": "no cell",
        "neutrophil": "other cell",
        "ig": "other cell",
        "erythroblast": "other cell",
        "platelet": "other cell",
        "lymphoblast (1)": "lymphoblast",
    },
    {"ig": "immature granulocyte"},
)
BLAST = "lymphoblast (1)"
FACTS = {
    "dataset": "made up",
    "specimen": "bone marrow",
    "stain": "Wright",
    "k": 3,
    "provenance": Provenance("0", "none", ATLAS, "none", 0, "2026-01-01T00:00:00Z").to_json(),
}


Change = Callable[[sqlite3.Connection], None]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


def png(seed: int = 0) -> bytes:
    """A small picture of one colour."""
    data = io.BytesIO()
    color = (seed * 37 % 256, seed * 91 % 256, 150)
    Image.new("RGB", (24, 24), color).save(data, "PNG")
    return data.getvalue()


def decision(label: str = "neutrophil", **changes: Any) -> dict[str, Any]:
    """A decision without any reason to hold the cell, unless its class or `changes` give one."""
    return {
        "image": "cell.png",
        "label": label,
        "clinical": LABELS.clinical[label],
        "votes": {label: 3},
        "clinical_votes": {LABELS.clinical[label]: 3},
        "agreement": 1.0,
        "mean_distance": 0.5,
        "distance_percentile": 30.0,
        "calibration_cells": 12,
        "state": "decided",
        "reasons": [],
        "quality": [],
        "tie": None,
        "neighbors": [
            {"id": f"r{k}", "label": label, "subject": None, "distance": 0.1 * k, "rank": k}
            for k in (1, 2, 3)
        ],
        "subject": None,
        "left_out": 0,
        "head": {"label": label, "probability": 0.9},
        "prediction_set": [label],
        "coverage": 0.95,
        "set_unit": "cell",
        "set_p_values": {label: 0.5},
        "set_unjudged": {},
        "set_needed": 1,
        "set_typical": 0.5,
        "set_note": None,
        **changes,
    }


def new_cell(i: int, label: str = "neutrophil", name: str | None = None, **changes: Any) -> NewCell:
    """The i-th cell; equal numbers are equal images."""
    return NewCell(
        name=f"cell {i}.png" if name is None else name,
        sha256=hashlib.sha256(str(i).encode()).hexdigest(),
        image_png=png(i),
        original=None,
        decision=Decision.from_json(decision(label, **changes)),
        gate={"reasons": []},
        provenance={"atlas": ATLAS, "version": "0", "settings": {}},
    )


@cache
def _blank() -> bytes:
    """An empty store, migrated once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        Store.open(Path(folder) / "s").close()
        return (Path(folder) / "s").read_bytes()


def fresh(path: Path, clock: Callable[[], datetime] = utc_now) -> Store:
    """A new store at `path` that knows the atlas of the made-up cells."""
    path.write_bytes(_blank())
    return prepared(Store.open(path, clock=clock))


@contextmanager
def with_anna(path: Path, clock: Callable[[], datetime]) -> Iterator[Store]:
    """A fresh store in which Anna has an account and the password `SECRET`, hashed quickly."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "_hasher", lambda: cheap)
        people._nobody.cache_clear()
        opened = fresh(path, clock)
        opened.add_user(ROOT, "Anna", SECRET, "reviewer")
        yield opened
        opened.close()
    people._nobody.cache_clear()


def prepared(store: Store) -> Store:
    """The store with the atlas of the made-up cells."""
    store.register_atlas(ATLAS, LABELS, FACTS, pictures=lambda ids: [png(7)] * len(ids))
    return store


def filled(store: Store, plain: int = 4, blasts: int = 2, **told: Any) -> tuple[Case, list[Cell]]:
    """A case with some neutrophils and lymphoblasts, the held ones first."""
    case = store.create_case(ANNA, "P-1", **told)
    labels = [BLAST] * blasts + ["neutrophil"] * plain
    new = [new_cell(i, label) for i, label in enumerate(labels)]
    store.add_cells(ANNA, case.id, new, "first")
    return store.case(case.id), store.cells(case.id)[0]


def decide_all(store: Store, case_id: str, actor: Actor = ANNA) -> Case:
    """Confirm what is held; everything was looked at by both, so that either can sign."""
    cells = every_cell(store, case_id)
    look_at(store, case_id, BEN)
    for cell in cells:
        if cell.held:
            store.opened(actor, cell.id)
        if cell.held and cell.confirmed != "singly":
            store.review(actor, cell.id, store.case(case_id).version, label=cell.proposed)
    return store.seen(actor, case_id, [cell.id for cell in cells])


def look_at(store: Store, case_id: str, actor: Actor) -> None:
    """Have every cell on screen, and the held ones opened."""
    cells = every_cell(store, case_id)
    store.seen(actor, case_id, [cell.id for cell in cells])
    for cell in cells:
        if cell.held:
            store.opened(actor, cell.id)


def every_cell(store: Store, case_id: str) -> list[Cell]:
    """All cells of a case, page by page."""
    return list(pages(store, case_id))


def pages(store: Store, case_id: str, limit: int = 3) -> Iterator[Cell]:
    cursor: str | None = None
    while True:
        found, cursor = store.cells(case_id, limit=limit, cursor=cursor)
        yield from found
        if cursor is None:
            return


def ids(cells: Sequence[Cell]) -> list[str]:
    return [cell.id for cell in cells]


def worked(store: Store) -> Store:
    """A store in which everything that the log knows has happened once."""
    store.add_user(ROOT, "anna", "a long enough secret", "reviewer")
    case, cells = filled(store)
    case = store.update_case(ANNA, case.id, case.version, note="x")
    _, case = store.review(ANNA, cells[0].id, case.version, label="ig", reason="granules")
    _, case = store.undo(ANNA, case.id, case.version)
    _, case = store.review(BEN, cells[0].id, case.version, disposition="artefact", reason="dirt")
    case = store.confirm_many(ANNA, case.id, case.version, ids(cells[2:4]))
    case = store.sign(ANNA, case.id, decide_all(store, case.id).version)
    case = store.amend(ANNA, case.id, case.version, "again")
    _, case = store.review(ANNA, cells[1].id, case.version, label="ig", reason="x")
    store.sign(BEN, case.id, case.version)
    return store


class Altered:
    """A store that is altered beside its log again and again; each time it is taken back."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database = one_connection(self._base)

    def faults(self, *changes: str | Change, again: bool = True) -> tuple[str, ...]:
        """What a verification says after some changes."""
        with self._database.engine.connect() as conn, conn.begin() as change:
            altered(self._base, changes, again=again)
            found = verify(conn).faults
            change.rollback()
        return found


def altered(base: sqlite3.Connection, changes: Sequence[str | Change], *, again: bool) -> None:
    """Change a store as somebody does who owns the file: triggers are no hindrance.

    Args:
        again: put the triggers back afterwards.
    """
    triggers = base.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    known = dict(triggers.fetchall())
    for name in known:
        base.execute(f"DROP TRIGGER {name}")
    for change in changes:
        if isinstance(change, str):
            base.execute(change)
            assert base.execute("SELECT changes()").fetchone()[0] > 0, change
        else:
            change(base)
    for sql in known.values() if again else ():
        base.execute(sql)


def tamper(path: Path, *changes: str | Change, again: bool = True) -> None:
    """The same in a file."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA synchronous = OFF")
        base.execute("BEGIN")
        altered(base, changes, again=again)
