"""The atlas: what it is, its map, and the reference cells that vote."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from cellkin.core.errors import CellkinError
from cellkin.core.kinds import kind
from cellkin.core.records import NOTICE
from cellkin.report.words import trust_words
from cellkin.system import DecisionSupport
from cellkin.web.api.asking import Cursor, Items, Limit, Line, Reader, Stationed
from cellkin.web.evidence import cell_address
from cellkin.web.sharing import Housed
from cellkin.web.store import DISPOSITIONS, NotFound

router = APIRouter(route_class=Housed, prefix="/atlas", tags=["atlas"])

FOR_A_DAY = {"Cache-Control": "private, max-age=86400"}


class ReferenceCell(BaseModel):
    """A labelled cell that votes: `x` and `y` on the map, `image` its picture's address."""

    id: str
    label: str
    title: str
    clinical: str
    subject: str | None
    x: float
    y: float
    image: str


class MapPoint(BaseModel):
    """A reference cell on the map."""

    id: str
    label: str
    x: float
    y: float
    subject: str | None


class AtlasMap(BaseModel):
    """The map; neighbours on it are neighbours in the space as far as `trustworthiness` says."""

    points: list[MapPoint]
    trustworthiness: float | None
    words: str


@router.get("")
def facts(_: Reader, station: Stationed) -> dict[str, Any]:
    """What the atlas is, how good it is, its classes, and what else an object can be."""
    atlas, known = station.support.atlas, station.support.facts()
    labels = atlas.labels
    classes = [
        {
            "name": name,
            "title": labels.title(name),
            "clinical": labels.clinical[name],
            "kind": kind(name, labels),
            "count": known["classes"][name],
        }
        for name in labels.names
    ]
    return {
        **known,
        "id": atlas.id,
        "classes": classes,
        "positive": labels.positive,
        "size": atlas.encoder.preprocessor.size,
        "um_per_pixel": atlas.encoder.preprocessor.um_per_pixel,
        "drawn": atlas.provenance.drawn,
        "dispositions": [name for name in DISPOSITIONS if name != "cell"],
        "limits": _limits(station),
        "rules": asdict(station.store.rules),
        "notice": NOTICE,
    }


def _limits(station: Stationed) -> dict[str, int]:
    """What one upload may hold."""
    settings = station.settings
    return {
        "files": settings.max_files,
        "bytes": settings.max_upload_bytes,
        "file_bytes": settings.max_file_bytes,
        "pixels": settings.max_pixels,
    }


@router.get("/map")
def atlas_map(_: Reader, station: Stationed) -> AtlasMap:
    """Where the reference cells lie."""
    if "map" not in station.kept:
        station.kept["map"] = _map(station.support)
    found: AtlasMap = station.kept["map"]
    return found


def _map(support: DecisionSupport) -> AtlasMap:
    cells, measured = support.atlas.cells, support.facts().get("map")
    places = zip(cells.ids, cells.labels, cells.subjects, support.atlas.xy.tolist(), strict=True)
    return AtlasMap(
        points=[
            MapPoint(id=name, label=label, x=x, y=y, subject=subject)
            for name, label, subject, (x, y) in places
        ],
        trustworthiness=measured["trustworthiness"] if measured else None,
        words=trust_words(measured),
    )


@router.get("/cells")
def cells(
    _: Reader,
    station: Stationed,
    label: Annotated[Line | None, Query(description="Only of this class.")] = None,
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Items[ReferenceCell]:
    """The reference cells, in the order of the atlas."""
    atlas = station.support.atlas
    if label is not None:
        atlas.labels.index(label)  # refuses a class that is none
    found = [i for i, own in enumerate(atlas.cells.labels) if label in (None, own)]
    start = _start(cursor)
    items = [_cell(station.support, i) for i in found[start : start + limit]]
    more = start + limit < len(found)
    return Items(items=items, next=str(start + limit) if more else None)


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 12):
        raise CellkinError("no such cursor", where="cursor", mend="send `next` of the page before")
    return int(cursor)


@router.get("/cells/{reference:path}/image", response_class=Response)
def picture(reference: str, _: Reader, station: Stationed) -> Response:
    """The picture of a reference cell, PNG, as the network saw it."""
    _position(station.support, reference)  # refuses a cell that is none
    return Response(
        station.support.atlas.pngs([reference])[0], media_type="image/png", headers=FOR_A_DAY
    )


@router.get("/cells/{reference:path}")
def one(reference: str, _: Reader, station: Stationed) -> ReferenceCell:
    """A reference cell."""
    return _cell(station.support, _position(station.support, reference))


def _position(support: DecisionSupport, cell: str) -> int:
    found = support.atlas.cells.positions.get(cell)
    if found is None:
        raise NotFound(
            "the atlas holds no such cell", where="cell", mend="GET /api/v1/atlas/cells lists them"
        )
    return found


def _cell(support: DecisionSupport, position: int) -> ReferenceCell:
    cells, labels = support.atlas.cells, support.atlas.labels
    label = cells.labels[position]
    x, y = support.atlas.xy[position].tolist()
    return ReferenceCell(
        id=cells.ids[position],
        label=label,
        title=labels.title(label),
        clinical=labels.clinical[label],
        subject=cells.subjects[position],
        x=x,
        y=y,
        image=cell_address(cells.ids[position]),
    )
