"""What cells have in common: the unit of a split, and who owns each cell in it.

A data set is split by one unit (`Split.unit`), and everything that follows takes it from there: the
scores, the calibration, the prediction sets, and which references are a cell's own and do not vote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["GROUP", "IMAGE", "SUBJECT", "UNITS", "Owned", "Owners", "owner_of", "plural"]

SUBJECT, GROUP, IMAGE = "subject", "slide/field", "image"
UNITS = (SUBJECT, GROUP, "slide", "field", IMAGE)


class Owned(Protocol):
    """A cell: a `Sample`, a prediction, a row of a table."""

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...


def owner_of(cell: Owned, unit: str) -> str | None:
    """The subject of a cell, its slide or field, or, by image, the cell itself; None where it is
    not known.
    """
    if unit == SUBJECT:
        return cell.subject
    return cell.group if unit in UNITS and unit != IMAGE else cell.id


def plural(unit: str) -> str:
    """Several of a unit, in words: "subjects", "slides/fields"."""
    return "slides/fields" if unit == GROUP else f"{unit}s"


@dataclass(frozen=True)
class Owners:
    """Whose N cells are: `names[i]` owns cell i in this unit; None where it is not known."""

    unit: str
    names: tuple[str | None, ...]

    @classmethod
    def of(cls, cells: Iterable[Owned], unit: str) -> Owners:
        return cls(unit, tuple(owner_of(cell, unit) for cell in cells))

    def __len__(self) -> int:
        return len(self.names)

    def part(self, rows: Iterable[int]) -> Owners:
        """Those of some of the cells."""
        return Owners(self.unit, tuple(self.names[i] for i in rows))

    @property
    def known(self) -> bool:
        """Whether every cell has an owner."""
        return None not in self.names

    @property
    def several(self) -> bool:
        """Whether they tell which cells belong together: all have one larger than an image."""
        return self.known and self.unit in UNITS and self.unit != IMAGE
