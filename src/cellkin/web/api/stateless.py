"""Decide and explain without storing anything."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from itertools import islice
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from cellkin.web.api.asking import Reader, Stationed
from cellkin.web.evidence import evidence_json
from cellkin.web.intake import Decided, decided, prepared
from cellkin.web.problems import ProblemError
from cellkin.web.receiving import read_form
from cellkin.web.sharing import Housed
from cellkin.web.station import Station
from cellkin.web.uploads import FIELD, Refusal

router = APIRouter(route_class=Housed, tags=["decide"])

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "Images (PNG, JPEG, BMP, TIFF), or zips of images.",
                        }
                    },
                }
            }
        },
    }
}


@router.post("/decide", openapi_extra=UPLOAD)
async def decide(request: Request, actor: Reader, station: Stationed) -> dict[str, Any]:
    """Decisions on images, in order; nothing is stored."""
    async with read_form(request, station) as files:
        return await station.rooms.uploads.run(_decisions, station, files, actor.user)


def _decisions(station: Station, files: list[UploadFile], person: str) -> dict[str, Any]:
    made, refused = [], []
    for one in decided(station, files, person):
        if isinstance(one, Decided):
            made.append(one.decision.to_json())
        else:
            refused.append(asdict(one))
    provenance = station.support.atlas.provenance.to_json()
    return {"decisions": made, "refused": refused, "provenance": provenance}


@router.post("/explain", openapi_extra=UPLOAD)
async def explain(request: Request, actor: Reader, station: Stationed) -> Response:
    """The evidence of one image; nothing is stored."""
    async with read_form(request, station) as files:
        content = await station.rooms.uploads.run(_evidence, station, files, actor.user)
    return Response(content, media_type="application/json")


def _evidence(station: Station, files: list[UploadFile], person: str) -> bytes:
    found = list(islice(prepared(station, files, person), 2)) if len(files) == 1 else []
    if len(found) != 1:
        raise ProblemError(
            422, "one-image", "one image at a time", where=FIELD, mend="send a single image"
        )
    one = found[0]
    if isinstance(one, Refusal):
        raise ProblemError(422, "image-error", one.what, where=one.where, mend=one.mend)
    upload, made = one
    evidence = station.deciding.explain(made).result()
    picture = base64.b64encode(made.png).decode("ascii")
    query = {"id": upload.name, "image": f"data:image/png;base64,{picture}"}
    return json.dumps(evidence_json(evidence, query), allow_nan=False).encode()
