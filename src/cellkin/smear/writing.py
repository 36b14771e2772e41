"""What was found, written: JSON, GeoJSON for QuPath, and a data set of crops."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from cellkin.core.artifacts import guarded_writes, new_folder, write_bytes, write_pieces
from cellkin.core.errors import OutputError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.scale import png_of
from cellkin.smear.cutting import cuts, square_of
from cellkin.smear.evened import Evened
from cellkin.smear.field import Field
from cellkin.smear.found import Cell, FoundField, Outline, Points
from cellkin.smear.window import Window

COLUMNS = (
    "file",
    "label",
    "group",
    "cut_from",
    "x",
    "y",
    "left",
    "top",
    "right",
    "bottom",
    "um_per_pixel",
)
COLOURS = {
    "white cell": (200, 0, 0),
    "smudge": (255, 150, 0),
    "border": (200, 0, 200),
    "platelet": (0, 110, 220),
    "artefact": (90, 90, 90),
}


def to_json(fields: Iterable[FoundField]) -> dict[str, Any]:
    """Plain data: each field with its cells, in pixels of the field."""
    return {"fields": [field_json(field) for field in fields]}


def in_json(fields: Iterable[FoundField]) -> Iterator[str]:
    """`to_json` as text, piece by piece: a field in memory at once."""
    before = '{"fields": [\n'
    for field in fields:
        record = field_json(field)
        cells = record.pop("cells")
        yield before + json.dumps(record, allow_nan=False)[:-1] + ', "cells": ['
        for number, cell in enumerate(cells):
            yield (",\n" if number else "\n") + json.dumps(cell, allow_nan=False)
        yield "]}"
        before = ",\n"
    yield before * (before[0] == "{") + "]}\n"


def field_json(field: FoundField) -> dict[str, Any]:
    ruler = field.ruler
    return {
        "field": str(field.path),
        "width": field.width,
        "height": field.height,
        "um_per_pixel": None if ruler is None else ruler.um_per_pixel,
        "ruler": None if ruler is None else ruler.source,
        "red_cells": len(field.red_cells),
        "even_light": field.light is not None,
        "suitable": field.suitable,
        "notes": list(field.notes),
        "cells": [_cell(cell) for cell in field.cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    numbers = {
        name: round(getattr(cell, name), 1) for name in ("x", "y", "left", "top", "right", "bottom")
    }
    return {**numbers, "kind": cell.kind, "score": round(cell.score, 4)}


def to_geojson(field: FoundField) -> dict[str, Any]:
    """The cells of one field as QuPath opens them: one cell each, with its nucleus and its kind."""
    return {"type": "FeatureCollection", "features": [*_features(field)]}


def _features(field: FoundField) -> Iterator[dict[str, Any]]:
    for cell, outline in zip(field.cells, field.outlines, strict=True):
        yield _feature(cell, outline)


def _in_geojson(field: FoundField) -> Iterator[str]:
    yield '{"type": "FeatureCollection", "features": ['
    for number, feature in enumerate(_features(field)):
        yield (",\n" if number else "\n") + json.dumps(feature, allow_nan=False)
    yield "]}\n"


def _feature(cell: Cell, outline: Outline) -> dict[str, Any]:
    body = outline.body if outline.body is not None else _rectangle(cell)
    feature: dict[str, Any] = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [_ring(body)]},
        "properties": {
            "objectType": "cell",
            "classification": {"name": cell.kind, "color": list(COLOURS[cell.kind])},
            "measurements": {"score": round(cell.score, 4)},
        },
    }
    if outline.nucleus:
        lobes = [[_ring(lobe)] for lobe in outline.nucleus]
        feature["nucleusGeometry"] = {"type": "MultiPolygon", "coordinates": lobes}
    return feature


def _rectangle(cell: Cell) -> Points:
    corners = ((0, 1), (2, 1), (2, 3), (0, 3))
    box = (cell.left, cell.top, cell.right, cell.bottom)
    return np.array([[box[i], box[j]] for i, j in corners], np.float32)


def _ring(points: Points) -> list[list[float]]:
    """A closed ring: its first point is its last."""
    ring = [[round(float(x), 1), round(float(y), 1)] for x, y in points]
    return [*ring, ring[0]]


def write_geojson(
    fields: Sequence[FoundField], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write `NAME.geojson` for each field, `NAME` being the stem of its file.

    Raises:
        OutputError: a file is there (and `overwrite` is off), or cannot be written.
    """
    paths = _geojsons([field.path for field in fields], folder)
    if not overwrite:
        _refuse_files(paths)
    for field, path in zip(fields, paths, strict=True):
        write_pieces(path, _in_geojson(field))
    return paths


def require_free(
    fields: Sequence[Path], *, crops: Path | None, geojson: Path | None, overwrite: bool
) -> None:
    """What `write_crops` and `write_geojson` would refuse, told before the fields are searched.

    Raises:
        OutputError: something is there already, or cannot be written.
    """
    if geojson is not None:
        _require_writable(geojson, "--geojson")
    if crops is not None:
        _require_writable(crops.absolute().parent, "--crops")
    if crops is not None and crops.exists() and not (crops.is_dir() and _is_empty(crops)):
        raise OutputError(
            "there is something here already",
            where=crops,
            mend="choose another --crops: a data set is never written over",
        )
    if geojson is not None and not overwrite:
        _refuse_files(_geojsons(fields, geojson))


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _require_writable(folder: Path, option: str) -> None:
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with guarded_writes(there):
            TemporaryFile(dir=there).close()
    except OutputError as error:
        raise OutputError(error.what, where=folder, mend=f"choose another {option}") from error


def _refuse_files(paths: Sequence[Path]) -> None:
    if there := [path for path in paths if path.exists()]:
        raise OutputError(
            f"{len(there)} of the outlines' files are there already",
            where=there[0],
            mend="choose another --geojson, or add --overwrite to replace them",
        )


def _geojsons(fields: Sequence[Path], folder: Path) -> list[Path]:
    return [folder / f"{name}.geojson" for name in _names(fields)]


def _names(fields: Sequence[Path]) -> list[str]:
    """A name for each field, free of what a file name may smuggle in; equal stems are numbered,
    with a number that no other field has in its name.
    """
    stems = [re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem)[:80] or "field" for path in fields]
    counts = Counter(stem.casefold() for stem in stems)  # some disks take a for A
    taken = {*counts}
    names = []
    for place, stem in enumerate(stems, start=1):
        numbered = (f"{number:04d}-{stem}" for number in itertools.count(place))
        if counts[stem.casefold()] > 1:
            stem = next(name for name in numbered if name.casefold() not in taken)
            taken.add(stem.casefold())
        names.append(stem)
    return names


def write_crops(
    fields: Sequence[FoundField],
    folder: Path,
    *,
    window: Window | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a data set of the white cells that were found, as `cut` cuts them.

    `labels.csv` has a row for each: its file, an empty label (nothing calls it here), the field as
    its group, and where it lies; a square may reach over the field's edge. The pictures carry their
    micrometres per pixel. Border cells, smudges and the rest are not cut.

    Args:
        window: of the atlas that is to see them; micrometres that it lacks are told by the white
            cells of all fields.

    Raises:
        DataError: the window is to be told by white cells, and there are none.
        OutputError: the folder exists, or cannot be written.
        ImageError: a field can no longer be read.
    """
    settled = None if window is None else window.settled(fields)
    with new_folder(folder) as out, (out / "labels.csv").open("w", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        names = _names([field.path for field in fields])
        for done, (found, name) in enumerate(zip(fields, names, strict=True), start=1):
            writer.writerows(_cut(found, name, out, settled))
            progress("cutting cells", done, len(fields))
    return folder


def _cut(
    found: FoundField, name: str, out: Path, window: Window | None
) -> Iterator[Mapping[str, object]]:
    whites = [cell for cell in found.cells if cell.kind == "white cell"]
    um = None if found.ruler is None else found.ruler.um_per_pixel
    said = "" if um is None else round(um, 5)
    with Field(found.path) as field:
        squares = cuts(Evened(field, found.light, found.white), found, whites, window)
        for number, (cell, rgb) in enumerate(squares, start=1):
            file = f"{name}-{number:03d}.png"
            write_bytes(out / file, png_of(rgb, um))
            box = square_of(cell, found, window)
            place = dict(zip(("left", "top", "right", "bottom"), box, strict=True))
            row = {"file": file, "label": "", "group": name, "cut_from": found.path.name}
            yield {**row, "x": round(cell.x), "y": round(cell.y), **place, "um_per_pixel": said}
