"""An atlas of somebody else is data from a stranger: its parts are checked before they are used.

The hashes of a manifest show damage, not malice: whoever makes an atlas makes them too. So nothing
that it says is believed: which objects its SQLite file holds, how large its pictures are, whether
its arrays belong together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.errors import ArtifactError, CellkinError, OutputError, damaged
from cellkin.decision import DISTANCES

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
COLOUR = b"\x08\x02\0\0\0"  # 8 bits, RGB, deflated, filtered, not interlaced
OBJECTS = {("table", "cells"), ("index", "by_id"), ("index", "sqlite_autoindex_cells_1")}
STRANGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError)
MEND = "use an atlas of a source that you know; restore your own from a copy, or make it again"


@contextmanager
def distrusted(folder: Path) -> Iterator[None]:
    """What cannot be made sense of in an atlas as an `ArtifactError`, whatever it is."""
    try:
        yield
    except (ArtifactError, OutputError):
        raise
    except CellkinError as error:
        raise ArtifactError(error.what, where=f"{folder}: {error.where}", mend=MEND) from error
    except sqlite3.Error as error:
        raise damaged("the file of cells", error, where=folder) from error
    except STRANGE as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise ArtifactError(
            f"what is in this folder cannot be an atlas ({said})", where=folder, mend=MEND
        ) from error


def connected(path: Path) -> sqlite3.Connection:
    """A connection to the cells of an atlas that reads plain tables and trusts nothing in them."""
    base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
        base.execute(f"PRAGMA {pragma}")
    return base


def check_cells(base: sqlite3.Connection, path: Path, known: set[str]) -> None:
    """Refuse an SQLite file that holds anything but the one plain table of cells, or is damaged.

    Args:
        known: the statements that tables and indexes of cells were made with.

    Raises:
        ArtifactError: it does.
    """
    for kind, name, sql in base.execute("SELECT type, name, sql FROM sqlite_master"):
        if (kind, name) not in OBJECTS or (sql is not None and _plain(sql) not in known):
            raise ArtifactError(
                f"the file of cells holds what no atlas has: {kind} {str(name)[:80]}",
                where=path,
                mend=MEND,
            )
    found = base.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged("the file of cells", ValueError(str(found)), where=path)


def statements(script: str) -> set[str]:
    """The statements of a script, as `check_cells` compares them."""
    return {_plain(one) for one in script.split(";") if one.strip()}


def _plain(sql: str) -> str:
    return " ".join(sql.split())


def check_pictures(base: sqlite3.Connection, path: Path, side: int) -> None:
    """Refuse pictures that are no PNG of the size that the network sees: said by their first bytes,
    before anything is decoded.

    Raises:
        ArtifactError: one of them is none.
    """
    head = PNG + side.to_bytes(4) * 2 + COLOUR
    query = (
        "SELECT id FROM cells WHERE png IS NOT NULL "
        f"AND (typeof(png) <> 'blob' OR substr(png, 1, {len(head)}) <> ?) LIMIT 1"
    )
    if (found := base.execute(query, (head,)).fetchone()) is not None:
        raise ArtifactError(
            f"the picture of {str(found[0])[:80]!r} is no PNG of {side} x {side} pixels",
            where=path,
            mend=MEND,
        )


def check_parts(parts: Mapping[str, Any], folder: Path) -> None:
    """Refuse parts of an atlas, by the names of its fields, that do not belong together.

    Raises:
        ArtifactError: they do not.
    """
    for fault in (*_of_references(parts), *_of_cells(parts)):
        raise ArtifactError(f"this atlas is none: {fault}", where=folder, mend=MEND)


def _of_references(parts: Mapping[str, Any]) -> Iterator[str]:
    n, c = len(parts["cells"]), parts["scale"].scale.size
    m = sum(len(part) for part in parts["held_out"])
    yield from _shaped("the vectors", parts["vectors"], (n, c))
    yield from _shaped("the map", parts["xy"], (n, 2))
    yield from _shaped("the map of held-out cells", parts["held_out_xy"], (m, 2))
    if parts["maps"] is not None and parts["maps"].shape[:2] != (n, c):
        yield f"the feature maps are {parts['maps'].shape}, of {n} cells and {c} features"
    if parts["frozen"] is not None and len(parts["frozen"].vectors) != n:
        yield f"the frozen space has {len(parts['frozen'].vectors)} vectors of {n} cells"
    if type(parts["k"]) is not int or not 1 <= parts["k"] <= n:
        yield f"k = {str(parts['k'])[:20]}, of {n} cells"
    if parts["distance"] not in DISTANCES:
        yield f"its distance is {str(parts['distance'])[:40]!r}"
    for one in parts["adopted"]:
        yield from _shaped(f"vectors of {one.place}", one.vectors, (len(one.cells), c))
        yield from _shaped(f"map of {one.place}", one.xy, (len(one.cells), 2))


def _of_cells(parts: Mapping[str, Any]) -> Iterator[str]:
    adopted = [one.cells for one in parts["adopted"]]
    for part in (parts["cells"], *parts["held_out"], *adopted):
        if unknown := set(part.labels) - set(parts["labels"].names):
            yield f"a cell of {part.part} is {str(unknown.pop())[:80]!r}, which is no class of it"
        if len(set(part.ids)) != len(part.ids) or not all(map(_is_text, part.ids)):
            yield f"the cells of {part.part} have no names of their own"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _shaped(what: str, array: Array, shape: tuple[int, ...]) -> Iterator[str]:
    if array.shape != shape:
        yield f"{what}: {array.shape}, expected {shape}"
    elif not np.isfinite(array).all():
        yield f"{what}: not all are numbers"
