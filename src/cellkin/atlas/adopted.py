"""What an atlas has taken on of another place: labelled cells, an alignment, and what is usual
there. Seen from that place the atlas is another `Atlas`; seen from its own it stays what it was.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellkin.atlas.cells import REFERENCE, Cells, Images
from cellkin.atlas.limits import limits_json, limits_of, read_limits
from cellkin.core.arrays import Array, Floats, Singles
from cellkin.core.artifacts import digest, read_arrays, write_arrays
from cellkin.core.errors import DecisionError, did_you_mean
from cellkin.decision import Calibration, Conformal
from cellkin.decision.alignment import Affine
from cellkin.imaging.quality import QualityGate
from cellkin.measures.counting import HeldOutCalls

if TYPE_CHECKING:
    from cellkin.atlas.atlas import Atlas

PART = "adopted: "
"""What the part of a place's cells is called, before its name."""
ARRAYS = "adopted.safetensors"


@dataclass(frozen=True, eq=False)
class Adopted:
    """The cells of one place that an atlas has adopted.

    Attributes:
        place: its name. cells: the n adopted cells. vectors: their raw features (n, C) float32.
        xy: (n, 2), their places on the atlas's map.
        alignment: moves raw features of this place to where the atlas's lie; None: as they are.
        home: whether the atlas's own references vote on cells of this place too.
        calibration, conformal, quality, calls: as in `Atlas`, of this place.
        facts: how it was adopted, plain data: cells, alignment, all figures.
        images: (n, S, S, 3) uint8, while it is not on disk yet.
    """

    place: str
    cells: Cells
    vectors: Singles
    xy: Floats
    alignment: Affine | None
    home: bool
    calibration: Calibration
    conformal: Conformal | None
    quality: QualityGate | None
    calls: HeldOutCalls | None
    facts: Mapping[str, Any]
    images: Images | None = field(default=None, repr=False)

    @property
    def aligned(self) -> Singles:
        """(n, C), the features where they vote."""
        if self.alignment is None:
            return self.vectors
        return np.asarray(self.alignment.apply(self.vectors), np.float32)

    @property
    def identity(self) -> str:
        """Hash of what decides on cells of this place."""
        arrays = {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in self.arrays().items()}
        told = {name: value for name, value in self.to_json().items() if name != "facts"}
        return digest([told, arrays, self.cells.ids, self.cells.labels])

    def arrays(self) -> dict[str, Array]:
        """Everything in it that is an array, by name."""
        held: dict[str, Array] = {"vectors": self.vectors, "xy": self.xy}
        if self.alignment is not None:
            moved = self.alignment
            held |= {"matrix": moved.matrix.astype("f4"), "shift": moved.shift.astype("f4")}
        return held if self.calls is None else {**held, "calls": self.calls.counts}

    def to_json(self) -> dict[str, Any]:
        """Everything in it that is neither a cell nor an array."""
        return {
            "place": self.place,
            "home": self.home,
            **limits_json(self),
            "facts": dict(self.facts),
        }

    @classmethod
    def read(
        cls,
        told: Mapping[str, Any],
        arrays: Mapping[str, Array],
        cells: Cells,
        names: Sequence[str],
    ) -> Adopted:
        """What `to_json` and `arrays` wrote; `names` are the atlas's classes."""
        moved = arrays.get("matrix"), arrays.get("shift")
        alignment = None
        if moved[0] is not None and moved[1] is not None:
            alignment = Affine(*(np.asarray(part, np.float64) for part in moved))
        return cls(
            place=told["place"],
            cells=cells,
            vectors=arrays["vectors"],
            xy=arrays["xy"],
            alignment=alignment,
            home=told["home"],
            facts=told["facts"],
            **read_limits(told, arrays.get("calls"), names),
        )


def write_adopted(folder: Path, places: Sequence[Adopted]) -> None:
    """Write the arrays of all places into an atlas folder; nothing where there is none."""
    arrays = {f"{i}.{k}": v for i, one in enumerate(places) for k, v in one.arrays().items()}
    if arrays:
        write_arrays(folder / ARRAYS, arrays)


def read_adopted(
    folder: Path,
    told: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Cells],
    names: Sequence[str],
) -> tuple[Adopted, ...]:
    """The places in an atlas folder, as `Adopted.to_json` and `write_adopted` left them."""
    held = read_arrays(folder / ARRAYS) if told else {}
    found = []
    for i, one in enumerate(told):
        own = {k.partition(".")[2]: v for k, v in held.items() if k.startswith(f"{i}.")}
        found.append(Adopted.read(one, own, parts[PART + one["place"]], names))
    return tuple(found)


@dataclass(frozen=True)
class Standpoint:
    """Where the cells come from that an atlas decides on.

    Attributes:
        place: its name. alignment: see `Adopted`; of the queries and of the references from
            position `own` on, whose vectors are aligned already, and their maps not.
        atlas: the id of the whole atlas.
    """

    place: str
    alignment: Affine | None
    own: int
    atlas: str


def seen_from(atlas: Atlas, place: str | None) -> Atlas:
    """See `Atlas.at`."""
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
        facts={**atlas.facts, **_told(one)},
        maps=None,
        adopted=(),
        standpoint=Standpoint(one.place, one.alignment, n, atlas.id),
    )


def _told(one: Adopted) -> dict[str, Any]:
    """What differs, for cells of this place, of what an atlas tells."""
    judged = one.facts["judged"]
    return {"adopted": {one.place: one.facts}, "test": judged, "triage": None}


def joined(home: Cells, own: Cells) -> Cells:
    """The cells of both, under the part of the first."""
    columns = [column.name for column in fields(home) if column.name != "part"]
    both: dict[str, Any] = {name: (*getattr(home, name), *getattr(own, name)) for name in columns}
    return replace(home, **both)
