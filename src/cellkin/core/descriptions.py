"""What a cell looks like, in the words of morphology and in numbers: never why it was called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellkin.core.plain import Plain


@dataclass(frozen=True)
class Attribute(Plain):
    """A learned attribute of a cell.

    Attributes:
        value: one of the words that the attribute knows. share: of the network's belief, in [0, 1],
            that lies on it; not a measured frequency.
    """

    value: str
    share: float


@dataclass(frozen=True)
class Geometry(Plain):
    """What is measured in a picture; never mixed with what was learned.

    Attributes:
        cell_area, nucleus_area: in the units of `unit`, squared; None where nothing is found.
        nucleus_share: nucleus by cell area, in [0, 1].
        cell_roundness, nucleus_roundness: 4 pi area / perimeter^2, 1 for a disc.
        lobes: parts of the nucleus that do not hang together.
        unit: "um" where the scale is known, else "pixels" of the picture.
    """

    cell_area: float | None
    nucleus_area: float | None
    nucleus_share: float | None
    cell_roundness: float | None
    nucleus_roundness: float | None
    lobes: int | None
    unit: str


@dataclass(frozen=True)
class Description(Plain):
    """One picture, described.

    Attributes:
        image: its name. attributes: by WBCAtt's names. geometry: what was measured.
        trained_on: the cells that the attributes were learned from: on others they are
            extrapolations.
    """

    image: str
    attributes: Mapping[str, Attribute]
    geometry: Geometry
    trained_on: str
