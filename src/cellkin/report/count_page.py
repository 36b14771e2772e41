"""A count of fields as a folder: one page, the data, and a table with a row for each cell."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import write_bytes, write_json, write_table
from cellkin.core.counts import LEFT_OUT, Count, CountedCell, CountedField
from cellkin.core.numbers import number, percent, percent_range
from cellkin.core.records import LabelSet, Provenance
from cellkin.core.sureness import SURE
from cellkin.report.context import foot
from cellkin.report.counting import (
    cell_rows,
    count_sentence,
    differential_view,
    field_words,
    foreseen_words,
    left_out_rows,
    share_rows,
    warnings_of,
)
from cellkin.report.pages import picture_uri, render_page
from cellkin.report.scatter import class_style, style
from cellkin.report.telling import tell
from cellkin.report.words import counted, listed, unbroken

Pngs = Callable[[Sequence[str]], Sequence[bytes]]
"""The pictures of reference cells, by their ids."""

SIDES = ((4, 1400), (12, 1000), (60, 720))  # up to so many fields: longer side in pixels
SMALL_FIELD = 480
THUMB, SMALL_THUMB, MANY = 128, 88, 600  # pixels of a cell; the small ones from so many cells on
KIN, KIN_SIDE = 3, 64  # kin pictured of each cell; pixels, shown at half of it
PICTURED = 3000  # cells that a page shows; the others are in the table
SHOWN_WIDTH = {1: 1068.0, 2: 526.0}  # pixels that a field has on a wide page, by columns
NUMBERED = 22.0  # pixels on the page from which on a cell's mark has its number
BARS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # micrometres of a scale bar
LONGEST_BAR = 0.22  # of the field's width
LETTERS = {
    "border": "B",
    "smudge": "S",
    "clump": "C",
    "quality": "Q",
    "unlike": "U",
    "doubted": "D",
    "set aside": "A",
}


class CountAlbum:
    """Pictures of a count, kept small until its page is written.

    Args:
        fields: how many there are: of many the pictures are smaller.
    """

    def __init__(self, fields: int) -> None:
        self.side = next((side for most, side in SIDES if fields <= most), SMALL_FIELD)
        self.fields: dict[str, str] = {}
        self.cells: dict[str, str] = {}

    def field(self, name: str, view: Bytes) -> None:
        """Keep a field (H, W, 3) uint8 RGB at a glance."""
        self.fields[name] = picture_uri(view, self.side, small=True)

    def cell(self, name: str, picture: Bytes) -> None:
        """Keep a cell (S, S, 3) uint8 RGB."""
        if len(self.cells) < PICTURED:
            side = THUMB if len(self.cells) < MANY else SMALL_THUMB
            self.cells[name] = picture_uri(picture, side, small=True)


def save_count(count: Count, folder: str | Path, album: CountAlbum, kin: Pngs) -> Path:
    """Write `index.html`, `differential.json` and `cells.csv` into a folder; the page is returned.

    Args:
        album: the pictures of fields and cells. kin: gives those of reference cells.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    write_json(folder / "differential.json", count.to_json())
    write_table(folder / "cells.csv", cell_rows(count))
    page = render_page("count.html.j2", _Page(count, album, kin).context())
    return write_bytes(folder / "index.html", page.encode())


class _Page:
    """What the page shows, as plain data for its template."""

    def __init__(self, count: Count, album: CountAlbum, kin: Pngs) -> None:
        self.count, self.album = count, album
        order = sorted(count.cells, key=lambda c: [f.name for f in count.fields].index(c.field))
        self.numbers = dict(zip([cell.id for cell in order], numbers(1), strict=False))
        self.groups = _groups(count.labels)
        shown = [cell for cell in count.cells if cell.id in album.cells]
        ids = dict.fromkeys(k.id for cell in shown for k in _kin(cell))
        self.kin = {name: f"k{i}" for i, name in enumerate(ids)}
        self.kin_pictures = [
            (self.kin[name], _thumbnail(png))
            for name, png in zip(ids, kin(list(ids)) if ids else (), strict=True)
        ]
        self.fields = {field.name: i for i, field in enumerate(count.fields, start=1)}

    def context(self) -> dict[str, Any]:
        count = self.count
        told = count.differential.to_json()
        told["rows"] = [self._class_row(row) for row in told["rows"]]
        return {
            "title": unbroken(count_sentence(count)),
            "warnings": warnings_of(count),
            "shares": [] if count.labels.positive is None else share_rows(count),
            "foreseen": foreseen_words(count),
            "differential": differential_view(told),
            "left_out": left_out_rows(count),
            "legend": self._legend(),
            "columns": self.columns,
            "fields": [self._field(f) for f in count.fields if f.name in self.album.fields],
            "galleries": list(self._galleries()),
            "unpictured": sum(
                c.decision is not None and c.id not in self.album.cells for c in count.cells
            ),
            "kin_pictures": self.kin_pictures,
            "subject": count.subject,
            **foot(count.facts, count.labels, Provenance.from_json(count.provenance)),
        }

    def _class_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found = self.count.corrected.by_class.get(row["title"])
        known = found is not None and found.share is not None
        more = percent_range(found.low, found.high) if found and found.low is not None else ""
        words = f"{percent(found.share)} ({more})" if found and known else ""
        return {**row, "mark": self.groups[row["title"]]["mark"], "corrected": words}

    @property
    def columns(self) -> int:
        return 1 if len(self.album.fields) == 1 else 2

    # fields -----------------------------------------------------------------------------------

    def _field(self, field: CountedField) -> dict[str, Any]:
        cells = [cell for cell in self.count.cells if cell.field == field.name]
        scale = SHOWN_WIDTH[self.columns] / field.width
        sizes = [min(c.right - c.left, c.bottom - c.top) * scale for c in cells]
        return {
            "id": self.fields[field.name],
            "name": field.name,
            "picture": self.album.fields[field.name],
            "width": field.width,
            "height": field.height,
            "words": field_words(field),
            "found": self._found(cells),
            "numbered": not sizes or float(np.median(sizes)) >= NUMBERED,
            "spots": [self._spot(cell, field) for cell in cells],
            "bar": _bar(field),
        }

    def _found(self, cells: Sequence[CountedCell]) -> str:
        titles = [self._title(cell) for cell in cells]
        called = [counted(titles.count(t), t) for t in self.groups if t in titles]
        out = sum(bool(cell.left_out) for cell in cells)
        return listed([*called, *([f"{out} left out"] if out else [])] or ["no white cell"])

    def _spot(self, cell: CountedCell, field: CountedField) -> dict[str, Any]:
        title, number_ = self._title(cell), self.numbers[cell.id]
        why = LEFT_OUT.get(cell.left_out, "")
        return {
            "number": number_,
            "href": f"c{number_}" if cell.id in self.album.cells else "",
            "left": f"{100 * cell.left / field.width:.2f}",
            "top": f"{100 * cell.top / field.height:.2f}",
            "width": f"{100 * (cell.right - cell.left) / field.width:.2f}",
            "height": f"{100 * (cell.bottom - cell.top) / field.height:.2f}",
            "group": "" if why else self.groups[title]["id"],
            "letter": LETTERS.get(cell.left_out, ""),
            "words": f"cell {number_}: " + (f"left out, {why}" if why else title),
        }

    def _title(self, cell: CountedCell) -> str:
        return "" if cell.label is None else self.count.labels.group_title(cell.label)

    def _legend(self) -> dict[str, Any]:
        titles = {self._title(cell) for cell in self.count.cells}
        return {
            "classes": [(t, group["mark"]) for t, group in self.groups.items() if t in titles],
            "letters": [(LETTERS[why], LEFT_OUT[why]) for why in self.count.left_out],
            "symbols": [(group["id"], group["mark"]) for group in self.groups.values()],
        }

    # cells ------------------------------------------------------------------------------------

    def _galleries(self) -> Iterator[dict[str, Any]]:
        """Cells by class, the least agreed first; then those that were left out."""
        shown = [cell for cell in self.count.cells if cell.id in self.album.cells]
        called = {row.title: row.n for row in self.count.differential.rows}
        for title in sorted(self.groups, key=lambda t: -called.get(t, 0)):
            cells = [cell for cell in shown if self._title(cell) == title]
            if cells:
                mark = self.groups[title]["mark"]
                yield self._gallery(counted(len(cells), title), mark, cells)
        if out := [cell for cell in shown if cell.left_out]:
            yield self._gallery(f"{len(out)} left out", None, out)

    def _gallery(self, title: str, mark: Any, cells: Sequence[CountedCell]) -> dict[str, Any]:
        def doubt(cell: CountedCell) -> tuple[str, float, float]:
            assert cell.decision is not None
            return cell.left_out, cell.decision.agreement, -cell.decision.mean_distance

        rows = [self._entry(cell) for cell in sorted(cells, key=doubt)]
        return {"title": title, "mark": mark, "cells": rows}

    def _entry(self, cell: CountedCell) -> dict[str, Any]:
        decision, labels = cell.decision, self.count.labels
        assert decision is not None
        told = tell(decision, labels)
        field = self.fields[cell.field]
        return {
            "number": self.numbers[cell.id],
            "image": self.album.cells[cell.id],
            "field": field if cell.field in self.album.fields else None,
            "field_name": cell.field,
            "call": "" if told.title == self._title(cell) else told.title,
            "agreement": told.agreement,
            "why": LEFT_OUT.get(cell.left_out, ""),
            "line": "" if told.sureness == SURE else told.line,
            "reviewed": _by_person(cell, labels),
            "kin": [
                {
                    "class": self.kin[k.id],
                    "mark": self.groups[labels.group_title(k.label)]["mark"],
                    "title": labels.title(k.label),
                    "distance": number(k.distance),
                }
                for k in _kin(cell)
            ],
        }


def _groups(labels: LabelSet) -> dict[str, dict[str, Any]]:
    """Title -> its mark and short name; imaging groups of lymphoblasts are one to a reader."""
    found: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(labels.names):
        look = style(i)
        found.setdefault(
            labels.group_title(name), {"id": f"g{i}", "mark": class_style(look), "color": look[0]}
        )
    return found


def _kin(cell: CountedCell) -> Sequence[Any]:
    return () if cell.decision is None else cell.decision.neighbors[:KIN]


def _by_person(cell: CountedCell, labels: LabelSet) -> str:
    if cell.reviewed is None:
        return ""
    known = cell.reviewed in labels.names
    return labels.group_title(cell.reviewed) if known else cell.reviewed


def _thumbnail(png: bytes) -> str:
    with Image.open(io.BytesIO(png)) as image:
        return picture_uri(np.asarray(image.convert("RGB")), KIN_SIDE, small=True)


def _bar(field: CountedField) -> Mapping[str, str] | None:
    """A scale bar: its share of the field's width in percent, and its length in words."""
    if field.um_per_pixel is None:
        return None
    across = field.width * field.um_per_pixel
    um = max((b for b in BARS if b <= LONGEST_BAR * across), default=BARS[0])
    return {"width": f"{100 * um / across:.2f}", "words": f"{um} µm"}
