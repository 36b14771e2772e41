"""An atlas as it is seen from one place: other references, an alignment, other limits."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from cellkin.atlas.adopted import Adopted, Standpoint
from cellkin.atlas.atlas import Atlas
from cellkin.atlas.cells import REFERENCE, Cells
from cellkin.atlas.limits import limits_of
from cellkin.core.errors import DecisionError, did_you_mean


def seen_from(atlas: Atlas, place: str | None) -> Atlas:
    """The atlas as it decides on cells of one place; the same where it knows but one.

    Raises:
        DecisionError: it does not know this place, or it knows several and none is named.
    """
    known, stood = atlas.places, atlas.standpoint
    if stood is not None and place in (None, stood.place):
        return atlas
    if place is None and not atlas.adopted:
        return atlas
    if place not in known or stood is not None:
        raise _unknown(atlas, place, known)
    for one in atlas.adopted:
        if one.place == place:
            return _from(atlas, one)
    return replace(atlas, standpoint=Standpoint(place, None, len(atlas.cells), atlas.id))


def _unknown(atlas: Atlas, place: str | None, known: Sequence[str]) -> DecisionError:
    where = f"{atlas.folder or 'this atlas'} knows cells of {', '.join(map(repr, known))}"
    if place is None:
        return DecisionError(
            "this atlas knows several places: say which one these cells are from",
            where=where,
            mend=f"--place {shlex.quote(known[0])} (in Python place={known[0]!r}), or another",
        )
    return DecisionError(
        f"this atlas knows no place {place!r}",
        where=where,
        mend=did_you_mean(place, known)
        or "name one of these, or cellkin adopt ATLAS CELLS --out OTHER",
    )


def _from(atlas: Atlas, one: Adopted) -> Atlas:
    """The atlas for cells of an adopted place: its references aligned, its own limits."""
    n = len(atlas.cells) if one.home else 0
    pictures = None
    if atlas.images is not None and one.images is not None:
        pictures = [*(atlas.images if one.home else ()), *one.images]
    return replace(
        atlas,
        cells=joined(atlas.cells, one.cells) if one.home else replace(one.cells, part=REFERENCE),
        vectors=np.concatenate([atlas.vectors[:n], one.aligned]),
        xy=np.concatenate([atlas.xy[:n], one.xy]),
        images=pictures,
        **limits_of(one),
        portrait=atlas.portrait if one.home else None,
        frozen=None
        if atlas.frozen is None or one.odd is None
        else replace(atlas.frozen, scores=one.odd),
        facts={**atlas.facts, **_told(one)},
        maps=None,
        adopted=(),
        standpoint=Standpoint(one.place, one.alignment, n, atlas.id),
    )


def _told(one: Adopted) -> dict[str, Any]:
    """What differs, for cells of this place, of what an atlas tells."""
    judged = one.facts["judged"]
    return {"adopted": {one.place: one.facts}, "test": judged, "triage": None, "sure": None}


def joined(home: Cells, own: Cells) -> Cells:
    """The cells of both, under the part of the first."""
    columns = [column.name for column in fields(home) if column.name != "part"]
    both: dict[str, Any] = {name: (*getattr(home, name), *getattr(own, name)) for name in columns}
    return replace(home, **both)
