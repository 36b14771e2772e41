"""What an atlas has taken on of another place: labelled cells, an alignment, and what is usual
there. Seen from that place the atlas is another `Atlas`; seen from its own it stays what it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas.cells import Cells, Images
from cellkin.atlas.limits import limits_json, read_limits
from cellkin.core.arrays import Array, Floats, Singles
from cellkin.core.artifacts import digest, read_arrays, write_arrays
from cellkin.decision import Calibration, Conformal
from cellkin.decision.alignment import Affine
from cellkin.imaging.quality import QualityGate
from cellkin.measures.counting import HeldOutCalls

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
        odd: how odd its cells are in the frozen space, see `Frozen`; None where the atlas has none.
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
    odd: Conformal | None = None

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
            **({} if self.odd is None else {"odd": self.odd.to_json()}),
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
            odd=Conformal.from_json(told["odd"]) if "odd" in told else None,
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
