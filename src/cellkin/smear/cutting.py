"""Cells cut from their field: one square each, in one light, at the scale of an atlas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.smear.evened import Evened
from cellkin.smear.field import Box, Field
from cellkin.smear.found import Cell, FoundField, Points
from cellkin.smear.light import WHITE
from cellkin.smear.window import Window

CROP = 1.6
"""Side of a square over the longer side of its cell's box, where no window says it."""
TOGETHER = 2048  # pixels of the field: cells in one part of this side are read at once


def cut(found: FoundField, cells: Sequence[Cell], window: Window | None = None) -> list[Bytes]:
    """`cuts` of a field on disk, in the order of the cells.

    Raises:
        ImageError: the field can no longer be read.
    """
    with Field(found.path) as field:
        squares = dict(cuts(Evened(field, found.light, found.white), found, cells, window))
    return [squares[cell] for cell in cells]


def cuts(
    even: Evened, found: FoundField, cells: Sequence[Cell], window: Window | None = None
) -> Iterator[tuple[Cell, Bytes]]:
    """The squares around cells of a field, in even light, each cell in the middle of its own.

    Cells that lie near each other come one after another, so that each part of a slide is read
    once and few squares are in memory. Where a square reaches over the field's edge it is filled
    with empty ground: a cell beside the middle would be another picture to the network than any
    that it learned from.

    Args:
        even: the field, opened. cells: of `found`.
        window: of the atlas that is to see them (see `Window.settled`): the side in micrometres,
            and the colour of its ground. None: 1.6 times each cell's box, on white ground.

    Returns:
        each cell with (side, side, 3) uint8 RGB, in pixels of the field.

    Raises:
        ImageError: the field is damaged there.
    """
    parts: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        parts[int(cell.y) // TOGETHER, int(cell.x) // TOGETHER].append(cell)
    cut_out = window is not None and window.cut_out
    places = {cell: i for i, cell in enumerate(found.cells)} if cut_out else {}
    for part in sorted(parts):
        squares = [square_of(cell, found, window) for cell in parts[part]]
        for cell, square, box in zip(parts[part], _read(even, squares), squares, strict=True):
            if cut_out:
                yield cell, _on_black(square, box, found.outlines[places[cell]].body)
            else:
                yield cell, _lit(square, None if window is None else window.ground)


def square_of(cell: Cell, found: FoundField, window: Window | None = None) -> Box:
    """The square around a cell, which may reach over the field's edge."""
    if window is None:
        side = round(CROP * max(cell.right - cell.left, cell.bottom - cell.top))
    else:
        assert window.um is not None, "settle the window by the fields first"
        side = round(window.um / found.cut_um_per_pixel)
    side = max(side, 1)
    left, top = round(cell.x - side / 2), round(cell.y - side / 2)
    return left, top, left + side, top + side


def _read(even: Evened, squares: Sequence[Box]) -> Iterator[Bytes]:
    """Squares of one part of the field, which is read once."""
    field = even.field
    lefts, tops, rights, bottoms = zip(*squares, strict=True)
    x0, y0 = max(min(lefts), 0), max(min(tops), 0)
    x1, y1 = min(max(rights), field.width), min(max(bottoms), field.height)
    part = even.part((x0, y0, x1, y1), 1.0)
    for left, top, right, bottom in squares:
        square = np.full((bottom - top, right - left, 3), WHITE, np.uint8)
        inside = part[max(top - y0, 0) : bottom - y0, max(left - x0, 0) : right - x0]
        row, column = max(-top, 0), max(-left, 0)
        square[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
        yield square


def _lit(square: Bytes, ground: tuple[int, int, int] | None) -> Bytes:
    """A square in the light of an atlas: as if its empty ground had that colour."""
    if ground is None:
        return square
    return np.asarray(np.clip(np.rint(square * (np.array(ground) / WHITE)), 0, 255), np.uint8)


def _on_black(square: Bytes, box: Box, body: Points | None) -> Bytes:
    """A square of which the cell alone is left, as far as its outline is seen."""
    if body is None:
        return square
    mask = np.zeros(square.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(body - np.array(box[:2])).astype(np.int32)], 1)
    return square * mask[..., None]
