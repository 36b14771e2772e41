"""The cells of an atlas: one SQLite file with the reference images as lossless PNG."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from cellkin.atlas.foreign import check_cells, check_pictures, connected, statements
from cellkin.core.arrays import Bytes
from cellkin.core.errors import ArtifactError, DecisionError, damaged
from cellkin.core.units import IMAGE, SUBJECT, Owners
from cellkin.imaging.fingerprints import fingerprint
from cellkin.imaging.scale import png_of

REFERENCE = "reference"
ASKED = 500  # cells asked for in one question; SQLite allows 999 at least

SCHEMA = """
CREATE TABLE cells (
  position INTEGER NOT NULL, part TEXT NOT NULL, id TEXT NOT NULL, label TEXT NOT NULL,
  subject TEXT, grp TEXT, place TEXT, png BLOB, mark TEXT, PRIMARY KEY (part, position)
);
CREATE UNIQUE INDEX by_id ON cells (id);
"""


BEFORE_PLACES = SCHEMA.replace(" place TEXT,", "")
BEFORE_MARKS = BEFORE_PLACES.replace(" mark TEXT,", "")
KNOWN = statements(SCHEMA) | statements(BEFORE_PLACES) | statements(BEFORE_MARKS)
"""How the table of cells was made, by this version and by earlier ones."""

Images = Bytes | Sequence[Bytes]
"""N prepared images (S, S, 3) uint8: one array, or anything that hands them out by position."""


@dataclass(frozen=True)
class Cells:
    """Labelled cells of one part of an atlas, all of length N.

    Attributes:
        part: "reference", or the part of the split that held-out cells belong to.
        places: laboratories or scanners, None where not known; () stands for N times None.
    """

    part: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    subjects: tuple[str | None, ...]
    groups: tuple[str | None, ...]
    places: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", self.places or (None,) * len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def owners(self, unit: str) -> Owners:
        """Whose the cells are: their subjects, their slides or fields, or, by image, themselves."""
        columns = {SUBJECT: self.subjects, IMAGE: self.ids}
        return Owners(unit, columns.get(unit, self.groups))

    @cached_property
    def positions(self) -> dict[str, int]:
        """Id -> its position among the ids."""
        return {cell: i for i, cell in enumerate(self.ids)}


def write_cells(path: Path, parts: Sequence[Cells], images: Mapping[str, Images]) -> None:
    """Write all cells; `images`: part -> its N images (S, S, 3) uint8, where they are kept."""
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript(SCHEMA)
        for cells in parts:
            shown = images.get(cells.part)
            known = (cells.labels, cells.subjects, cells.groups, cells.places)
            rows = zip(cells.ids, *known, strict=True)
            base.executemany(
                "INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (i, cells.part, *row, *(_kept(shown[i]) if shown is not None else (None, None)))
                    for i, row in enumerate(rows)
                ),
            )


def read_cells(path: Path, side: int) -> tuple[Cells, ...]:
    """All parts, each in its order, without images.

    Args:
        side: pixels of the images, which are looked at without decoding them.

    Raises:
        ArtifactError: the file is no SQLite file of cells, or holds more than these.
    """
    try:
        with closing(connected(path)) as base:
            check_cells(base, path, KNOWN)
            check_pictures(base, path, side)
            place = _column(base, "place")
            rows = base.execute(
                f"SELECT part, id, label, subject, grp, {place} FROM cells ORDER BY part, position"
            ).fetchall()
    except sqlite3.Error as error:
        raise ArtifactError(
            f"the cells cannot be read: {error}",
            where=path,
            mend="restore the folder from a copy, or make it again",
        ) from error
    found: dict[str, list[tuple[str, str, str | None, str | None, str | None]]] = {}
    for part, *row in rows:
        found.setdefault(part, []).append(tuple(row))
    return tuple(
        Cells(part, *(tuple(column) for column in zip(*rows, strict=True)))
        for part, rows in found.items()
    )


def read_marks(path: Path) -> dict[str, str | None]:
    """Id -> fingerprint of the images that are kept; None in atlases of version 0.1.0."""
    with closing(connected(path)) as base:
        question = f"SELECT id, {_column(base, 'mark')} FROM cells WHERE png IS NOT NULL"
        return dict(base.execute(question))


def _column(base: sqlite3.Connection, name: str) -> str:
    """A column that earlier atlases may lack: NULL there."""
    return name if name in {row[1] for row in base.execute("PRAGMA table_info(cells)")} else "NULL"


class Pictures(Sequence[Bytes]):
    """Reference images (S, S, 3) uint8 that are decoded, once, when somebody looks at them."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded = tuple(encoded)

    @cached_property
    def _decoded(self) -> tuple[Bytes, ...]:
        return tuple(_decoded(png) for png in self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, index: int) -> Bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Pictures: ...

    def __getitem__(self, index: int | slice) -> Bytes | Pictures:
        if isinstance(index, slice):
            return Pictures(self._encoded[index])
        return self._decoded[index]


def read_pictures(path: Path, cells: Sequence[str]) -> list[bytes]:
    """The PNG bytes of reference cells, in the order asked for.

    Raises:
        DecisionError: one of them is no reference cell.
    """
    found: dict[str, bytes] = {}
    with closing(connected(path)) as base:
        for start in range(0, len(cells), ASKED):
            some = tuple(cells[start : start + ASKED])
            marks = ", ".join("?" * len(some))
            question = f"SELECT id, png FROM cells WHERE id IN ({marks})"
            found.update(base.execute(question, some).fetchall())
    for cell in cells:
        if found.get(cell) is None:
            raise DecisionError(
                f"this atlas holds no image of {cell!r}",
                where=path,
                mend="cellkin inspect ATLAS lists what it holds",
            )
    return [found[cell] for cell in cells]


def _decoded(png: bytes) -> Bytes:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise damaged("a picture of the atlas", error, where="cells.sqlite") from error


def _kept(image: Bytes) -> tuple[bytes, str]:
    """A picture as PNG, and its fingerprint."""
    return png_of(image), fingerprint(image)
