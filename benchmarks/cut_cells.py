"""How a cell is called when its publisher cut it, and when `find` cuts it from its field.

    cellkin train PBC --out ATLAS          an atlas of five types of another laboratory
    python benchmarks/cut_cells.py ATLAS DATA

DATA holds the folders `chula` and `bccd` (fields and boxes). A publisher's crop is 1.6 times the
marked box, as it lies in the field: Chula's own files, and for BCCD the same of its boxes. Cells
that the atlas was trained on are left out. Ours are cut around the cell that was found there, in
several ways: as wide as 1.6 times its found box or as the pictures of the atlas (by red cells, or
by white cells), raw, in even light, or in the light of the atlas. Agreement is with the call of
the publisher's crop; intervals resample slides (Chula) or fields (BCCD). The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.units import Owners
from cellkin.imaging.decode import decode
from cellkin.imaging.quality import measure as look
from cellkin.measures.intervals import mean_of
from cellkin.smear.cutting import CROP, cut, square_of
from cellkin.smear.finding import find_all
from cellkin.smear.found import Cell, FoundField
from cellkin.smear.window import Window, spread, window_of
from cellkin.system import DecisionSupport

SOME = 5  # one field of BCCD in so many is asked
WHOLE, BOX = "window by red cells, light of the atlas", "box, even light"
PADDED = "box padded to the window, light of the atlas"


@dataclass(frozen=True)
class Known:
    """A marked cell: its field, its box there, its type where known, and its slide or field."""

    field: Path
    box: tuple[float, float, float, float]
    label: str | None
    unit: str
    crop: Path | None = None


def chula(data: Path) -> Iterator[Known]:
    """Marked cells of Chula with their publisher's crops."""
    folder = data / "chula"
    slides = {
        Path(row["file"]).stem: (row["group"], folder / "cells" / row["file"])
        for row in csv.DictReader((folder / "cells" / "labels.csv").open())
    }
    for i, row in enumerate(csv.DictReader((folder / "boxes.csv").open())):
        path = folder / row["field"]
        slide, crop = slides[f"{path.stem}_{i}"]
        with Image.open(path) as image:
            width, height = image.size
        x, w = (float(row[k]) * width for k in ("cx", "w"))
        y, h = (float(row[k]) * height for k in ("cy", "h"))
        yield Known(path, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), row["label"], slide, crop)


def bccd(data: Path) -> Iterator[Known]:
    """White cells of some fields of BCCD; nothing says their types."""
    folder = data / "bccd"
    for path in sorted((folder / "JPEGImages").glob("*.jpg"))[::SOME]:
        root = ET.parse(folder / "Annotations" / f"{path.stem}.xml").getroot()
        for thing in root.iter("object"):
            if thing.findtext("name") == "WBC":
                names = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (float(thing.findtext(f"bndbox/{k}")) for k in names)
                yield Known(path, (left, top, right, bottom), None, path.stem)


def published(cell: Known) -> Bytes:
    """The publisher's crop."""
    if cell.crop is not None:
        return decode(cell.crop)
    rgb = decode(cell.field)
    left, top, right, bottom = cell.box
    side = min(round(CROP * max(right - left, bottom - top)), *rgb.shape[:2])
    x = min(max(round((left + right - side) / 2), 0), rgb.shape[1] - side)
    y = min(max(round((top + bottom - side) / 2), 0), rgb.shape[0] - side)
    return rgb[y : y + side, x : x + side]


def found_in(cell: Known, field: FoundField) -> Cell | None:
    """The white cell that was found in a marked box, nearest to its middle."""
    left, top, right, bottom = cell.box
    x, y = (left + right) / 2, (top + bottom) / 2
    inside = [
        c
        for c in field.cells
        if c.kind in ("white cell", "border") and left < c.x < right and top < c.y < bottom
    ]
    return min(inside, key=lambda c: (c.x - x) ** 2 + (c.y - y) ** 2, default=None)


def ways(window: Window, fields: Sequence[FoundField]) -> Mapping[str, Window | None]:
    """How cells are cut: name -> window; None cuts by the box."""
    assert window.cells is not None
    by_white = replace(window, um=None).settled(fields)
    return {
        WHOLE: window,
        "window by red cells, even light": replace(window, ground=None),
        "window by white cells, light of the atlas": by_white,
        "box, light of the atlas": window,
        BOX: None,
    }


def ours(name: str, window: Window | None, cell: Cell, field: FoundField) -> Bytes:
    """One cell, cut in one way."""
    if name.startswith("box") and window is not None:  # so wide that it equals 1.6 boxes
        side = CROP * max(cell.right - cell.left, cell.bottom - cell.top)
        window = replace(window, um=side * field.cut_um_per_pixel)
    return cut(field, [cell], window)[0]


def raw(window: Window | None, cell: Cell, field: FoundField) -> Bytes:
    """The same square as it lies in the field, moved into it where it would leave it."""
    rgb = decode(field.path)
    left, top, right, _ = square_of(cell, field, window)
    side = min(right - left, *rgb.shape[:2])
    x = min(max(left, 0), field.width - side)
    y = min(max(top, 0), field.height - side)
    return rgb[y : y + side, x : x + side]


def padded(square: Bytes, side: int, ground: Sequence[int]) -> Bytes:
    """A square with its ground laid around it."""
    around = max(side - len(square), 0) // 2
    wide = np.full((len(square) + 2 * around,) * 2 + (3,), ground, np.uint8)
    wide[around : around + len(square), around : around + len(square)] = square
    return wide


def called(support: DecisionSupport, pictures: Sequence[Bytes]) -> list[str]:
    return [d.label for d in support.decide(list(pictures), gate=False)]  # type: ignore[union-attr]


def measure(support: DecisionSupport, cells: Sequence[Known], window: Window) -> dict[str, object]:
    """Agreement and accuracy of each way of cutting."""
    paths = list(dict.fromkeys(cell.field for cell in cells))
    fields = dict(zip(paths, find_all(paths), strict=True))
    pairs = [(c, hit, fields[c.field]) for c in cells if (hit := found_in(c, fields[c.field]))]
    print(
        f"{len(cells)} marked cells, {len(pairs)} found; {len(paths)} fields, "
        f"{sum(f.ruler is not None for f in fields.values())} with a ruler"
    )
    before = called(support, [published(c) for c, _, _ in pairs])
    pictures = {}
    window = window.settled([*fields.values()])
    for name, how in ways(window, [*fields.values()]).items():
        pictures[name] = [ours(name, how, hit, field) for _, hit, field in pairs]
    pictures["window by red cells, raw"] = [raw(window, hit, field) for _, hit, field in pairs]
    pictures["box, raw"] = [raw(None, hit, field) for _, hit, field in pairs]
    ground = window.ground or (240,) * 3
    sides = [len(p) for p in pictures[WHOLE]]
    pictures[PADDED] = [
        padded(p, side, ground)
        for p, side in zip(pictures["box, light of the atlas"], sides, strict=True)
    ]
    units, truth = [c.unit for c, _, _ in pairs], [c.label for c, _, _ in pairs]
    rows: dict[str, object] = {"publisher's crop": _row(before, before, truth, units)}
    calls = {name: called(support, some) for name, some in pictures.items()}
    for name, after in calls.items():
        rows[name] = _row(after, before, truth, units)
    whole, around = calls[WHOLE], calls[PADDED]
    rows["padded, beside the whole window"] = _row(around, whole, truth, units)
    gate = support.atlas.quality
    if gate is not None:
        prepare = support.atlas.encoder.preprocessor.prepare
        for name in (WHOLE, BOX):
            passed = [not gate.reasons(look(prepare(picture))) for picture in pictures[name]]
            rows[f"passes the gate: {name}"] = _share(passed, units)
    return rows


def _row(
    after: Sequence[str],
    before: Sequence[str],
    truth: Sequence[str | None],
    units: Sequence[str],
) -> dict[str, object]:
    same = [a == b for a, b in zip(after, before, strict=True)]
    right = [a == t for a, t in zip(after, truth, strict=True)] if truth[0] else None
    return {"agreement": _share(same, units), "accuracy": _share(right, units)}


def _share(hits: Sequence[bool] | None, units: Sequence[str]) -> list[float] | None:
    if hits is None:
        return None
    found = mean_of([float(hit) for hit in hits], Owners("slide", tuple(units)))
    ends = (found.mean, *found.interval.ends)
    return [round(100 * v, 1) for v in ends if v is not None]


def _name(crop: Path) -> str:
    """The id of a cell in a data set of its publisher's crops."""
    return f"{crop.parent.name}/{crop.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    support = DecisionSupport.open(args.atlas, device="cpu")
    (pictures,) = support.atlas.pictures([spread(len(support.atlas.cells))])
    window = window_of(pictures)
    if window.um is None:
        print("the pictures of this atlas show no whole red cells: by white cells alone")
    print(window)
    trained = set(json.loads((args.atlas / "split.json").read_text())["train"])
    result: dict[str, object] = {"window": window.to_json()}
    for name, read in (("chula", chula), ("bccd", bccd)):
        cells = [c for c in read(args.data) if c.crop is None or _name(c.crop) not in trained]
        rows = measure(support, cells, window)
        result[name] = rows
        for way, row in rows.items():
            print(f"{name:6} {way:46} {row}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
