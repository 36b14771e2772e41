"""What a cell looks like, in the words of morphology and in numbers: never why it was called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellkin.core.plain import Plain

TRAINED_ON = (
    "PBC: basophils, eosinophils, lymphocytes, monocytes and neutrophils of healthy blood after "
    "May-Gruenwald-Giemsa; on other cells, lymphoblasts among them, the attributes are extrapolated"
)
"""What the learned attributes were learned from."""
KNOWN_TYPES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
"""Classes of these cells."""
MEASURES = ("nucleus_share", "cell_area", "cell_roundness", "nucleus_roundness", "lobes")
"""What is measured of a cell in the pictures of an atlas; areas as shares of the picture."""


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


@dataclass(frozen=True)
class Trait(Plain):
    """One trait of a cell among the reference cells of an atlas.

    Attributes:
        name: one of `MEASURES`, or an attribute of WBCAtt. learned: the latter.
        value: a number, or a word.
        own, other: share in [0, 1] of the described reference cells of the voted class, and of the
            other one that it is compared with, that have the same word; for a number, that have at
            least (`more`) or at most as much. None where none of them was described.
        more: which of both; the side on which fewer cells of the other class lie.
    """

    name: str
    value: float | str
    own: float | None
    other: float | None
    more: bool = True
    learned: bool = False


@dataclass(frozen=True)
class Traits(Plain):
    """The traits of a cell, most telling first.

    Attributes:
        found: empty where `absent` says why. label, other: the classes that are compared.
        cells, others: how many reference cells of them were described.
    """

    found: tuple[Trait, ...]
    label: str
    other: str | None
    cells: int
    others: int
    absent: str = ""
