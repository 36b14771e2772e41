"""Drift: how the cells of each day look, beside the cells of the atlas."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from cellkin.core.fits import DISTANCE
from cellkin.system.fits import usual
from cellkin.web.api.asking import Reader, Stationed
from cellkin.web.sharing import Housed, works_in
from cellkin.web.worklist.drift import FAR, charts

router = APIRouter(route_class=Housed, prefix="/drift", tags=["drift"])


@router.get("")
@works_in("reports")
def drift(_: Reader, station: Stationed) -> dict[str, Any]:
    """Charts of the distance to the kin, light, stain and focus of the cells of each day."""
    atlas = station.support.atlas
    if "usual" not in station.kept:
        station.kept["usual"] = usual(atlas)
    limits = {**station.kept["usual"], DISTANCE: (None, FAR)}
    found = charts(station.store.daily_looks(atlas.id), limits)
    return {"charts": [chart.to_json() for chart in found]}
