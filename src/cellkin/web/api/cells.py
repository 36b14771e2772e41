"""Cells of cases: picture, evidence, review."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from cellkin.imaging.preprocess import Prepared
from cellkin.web.api.asking import Body, CellId, Line, Note, Reader, Reviewer, Stationed, Version
from cellkin.web.decoding import pixels
from cellkin.web.evidence import evidence_json
from cellkin.web.problems import ProblemError
from cellkin.web.security import API
from cellkin.web.sharing import Housed, works_in
from cellkin.web.station import Station
from cellkin.web.store import Actor, Case, Cell, Original

router = APIRouter(route_class=Housed, prefix="/cells", tags=["cells"])

FOR_A_DAY = {"Cache-Control": "private, max-age=86400"}  # a stored picture never changes


Fine = Annotated[
    int,
    Query(ge=1, le=4, description="Divide each position of the contrast map into so many squared."),
]


class Review(Body):
    """A verdict on one cell: a class (the proposed one confirms it), or a disposition.

    Another class, and every disposition, needs a reason, unless the house asks none for routine.
    `version` is the case's.
    """

    version: Version
    label: Line | None = None
    disposition: Line | None = None
    reason: Note = ""
    comment: Note | None = None


class Reviewed(BaseModel):
    """The cell and its case, after the review."""

    cell: Cell
    case: Case


class Uploaded(BaseModel):
    """A file as it was uploaded, `square` (left, top, side) in its pixels is what the network saw
    (`as_seen`: in these very colours); `picture` and `file` are addresses: all its pixels as PNG,
    and its bytes.
    """

    kind: str
    bytes: int
    sha256: str
    width: int
    height: int
    um_per_pixel: float | None
    square: Sequence[int]
    as_seen: bool
    picture: str
    file: str


def uploaded(station: Station, found: Original, address: str) -> Uploaded:
    """What pages need to show an original."""
    seen = station.support.atlas.encoder.preprocessor
    plain = seen.view == "raw" and not (seen.alone or seen.unsharpen)
    return Uploaded(
        as_seen=plain,
        **found.to_json(),
        square=seen.square_of(found.width, found.height, found.um_per_pixel),
        picture=f"{address}/picture",
        file=f"{address}/file",
    )


@router.get("/{cell}")
def one(cell: CellId, actor: Reader, station: Stationed) -> Cell:
    """A cell: what was proposed beside what was decided; `seen` and `opened` by oneself."""
    return station.store.cell(cell, actor.user)


@router.get("/{cell}/image", response_class=Response)
def picture(cell: CellId, _: Reader, station: Stationed) -> Response:
    """Its picture, PNG, as the network saw it."""
    content = station.store.image(cell)
    return Response(content, media_type="image/png", headers=FOR_A_DAY)


@router.get("/{cell}/original")
def original(cell: CellId, _: Reader, station: Stationed) -> Uploaded:
    """The file that was uploaded: its size and scale, and which square of it the network saw."""
    return uploaded(station, station.store.original(cell), f"{API}/cells/{cell}/original")


@router.get("/{cell}/original/picture", response_class=Response)
@works_in("evidence")
def original_picture(cell: CellId, actor: Reader, station: Stationed) -> Response:
    """All pixels of the uploaded file, upright, as lossless PNG."""
    found = station.store.original(cell)
    data = station.store.original_bytes(found.sha256)
    name = f"{found.sha256[:12]}.{found.kind.lower()}"
    content = station.decoders.png(data, name, actor.user)
    return Response(content, media_type="image/png", headers=FOR_A_DAY)


@router.get("/{cell}/original/file", response_class=Response)
def original_file(cell: CellId, _: Reader, station: Stationed) -> Response:
    """The bytes that were uploaded, to be saved."""
    found = station.store.original(cell)
    name = f"{found.sha256[:16]}.{found.kind.lower()}"
    headers = {**FOR_A_DAY, "Content-Disposition": f'attachment; filename="{name}"'}
    data = station.store.original_bytes(found.sha256)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.post("/{cell}/opened")
def opened(cell: CellId, actor: Reviewer, station: Stationed) -> Reviewed:
    """Its evidence was opened."""
    found = station.store.opened(actor, cell)
    return _told(station, actor, found)


@router.post("/{cell}/review")
def review(cell: CellId, verdict: Review, actor: Reviewer, station: Stationed) -> Reviewed:
    """Confirm, reclassify, or say that it is no cell that counts."""
    found, _ = station.store.review(
        actor,
        cell,
        verdict.version,
        label=verdict.label,
        disposition=verdict.disposition,
        reason=verdict.reason,
        comment=verdict.comment,
    )
    return _told(station, actor, found)


def _told(station: Station, actor: Actor, found: Cell) -> Reviewed:
    """As they are for this person."""
    store = station.store
    return Reviewed(cell=store.cell(found.id, actor.user), case=store.case(found.case, actor.user))


@router.get("/{cell}/evidence", response_class=Response)
@works_in("evidence")
def evidence(cell: CellId, _: Reader, station: Stationed, fine: Fine = 1) -> Response:
    """Why: neighbours, counter-evidence, maps, confidence (see `Evidence` in the documentation).

    Pair tensors are base64 of little-endian float32, h x w x h x w.
    """
    found = _evidence(station, station.store.cell(cell), fine)
    return Response(found, media_type="application/json")


def _evidence(station: Station, cell: Cell, fine: int) -> bytes:
    _require_same_atlas(station, cell.provenance.get("atlas"))
    key = cell.id if fine == 1 else f"{cell.id}/{fine}"
    remembered = station.evidence.get(key)
    if remembered is not None:
        return remembered
    picture = Prepared(cell.name, pixels(station.store.image(cell.id)))
    found = station.deciding.explain(picture, fine).result()
    query: dict[str, Any] = {"id": cell.id, "image": f"/api/v1/cells/{cell.id}/image"}
    content = json.dumps(evidence_json(found, query), allow_nan=False).encode()
    station.evidence.put(key, content)
    return content


def _require_same_atlas(station: Station, decided_by: Any) -> None:
    """Evidence of another atlas than the one that decided would explain another decision."""
    here = station.support.atlas.id
    if decided_by != here:
        raise ProblemError(
            409,
            "other-atlas",
            "this cell was decided with another atlas",
            where=f"decided with {str(decided_by)[:12]}, running with {here[:12]}",
            mend="start the workstation with that atlas to see the evidence",
        )
