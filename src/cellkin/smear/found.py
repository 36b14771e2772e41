"""What was found in a field: cells, outlines, and by what light and ruler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.arrays import Singles
from cellkin.smear.evened import Colour
from cellkin.smear.light import Light
from cellkin.smear.ruler import RED_CELL, RedCells, Ruler
from cellkin.smear.seeing import RED_PIXELS

KINDS = ("white cell", "smudge", "border", "platelet", "artefact")
"""What a found thing can be; a border cell is a white cell that the field's edge cuts."""

Points = Singles
"""(n, 2) x and y of a closed outline, in pixels of the field."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Outlines of one cell.

    Attributes:
        body: None where none is seen. nucleus: its lobes, the largest first.
    """

    body: Points | None
    nucleus: tuple[Points, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing found, in pixels of the field.

    Attributes:
        x, y: its middle. left, top, right, bottom: its box. kind: one of `KINDS`.
        score: in [0, 1].
    """

    x: float
    y: float
    left: float
    top: float
    right: float
    bottom: float
    kind: str
    score: float


@dataclass(frozen=True, eq=False)
class FoundField:
    """A field that was searched.

    Attributes:
        ruler: micrometres per pixel and how they are known; None where nothing tells them.
        light: of the field; None where it has no empty ground, or is a slide.
        white: the colour of its ground, where there is no light.
        downsample: pixels of the field per pixel of what the network saw.
        red_cells: the isolated round red cells, by which the ruler may be told.
        outlines: of the cells, in their order.
        suitable: whether it can be a blood smear; if not, what was found in it is doubtful.
        notes: what is to be said of it, first why it is not suitable.
    """

    path: Path
    width: int
    height: int
    ruler: Ruler | None
    light: Light | None
    white: Colour
    downsample: float
    red_cells: RedCells
    cells: tuple[Cell, ...]
    outlines: Sequence[Outline]
    suitable: bool = True
    notes: tuple[str, ...] = ()

    @property
    def cut_um_per_pixel(self) -> float:
        """Micrometres per pixel at which its cells are cut: by its ruler; where there is none, as
        the network saw its red cells, which is good enough to cut by and not to measure by.
        """
        if self.ruler is not None:
            return self.ruler.um_per_pixel
        return RED_CELL / RED_PIXELS / self.downsample
