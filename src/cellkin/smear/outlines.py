"""Outlines of found cells: the nucleus by its stain, the body up to its neighbours.

Where the boxes of cells overlap, a pixel belongs to the cell whose middle is nearest, measured in
that cell's own size: touching cells part along the line between them. Inside, what is denser than
the ground is the body, and what carries nuclear stain is the nucleus.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Singles
from cellkin.imaging.stain import DOUBTFUL
from cellkin.smear.evened import Evened
from cellkin.smear.field import Box
from cellkin.smear.found import Cell, Outline, Points

FINE = 0.5  # pixels of what the network saw per pixel in which outlines are drawn
MARGIN = 1.15  # of a box, within which a body may lie
BODY = 0.12  # optical density in green from which on something lies on the ground
HALF = 0.5  # of a nucleus's own stain: where its edge is drawn
TONGUE = 0.2  # of the shorter side of a cell's window: what is narrower is no body
LOBE = 0.2  # of the area of the largest part: smaller ones are left out
SIMPLE = 0.75  # pixels by which an outline may be simplified


def outlines(
    even: Evened, cells: Sequence[Cell], around: Sequence[Cell], downsample: float
) -> list[Outline]:
    """Outlines of cells, in their order.

    Args:
        even: the field in one light. around: the cells and those near them.
        downsample: as the finder saw it.
    """
    return [_outline(even, cell, _near(cell, around), downsample * FINE) for cell in cells]


def _near(cell: Cell, cells: Sequence[Cell]) -> list[Cell]:
    """Cells whose boxes come near that of another one, itself first."""
    reach = MARGIN * max(cell.right - cell.left, cell.bottom - cell.top)
    others = [
        other
        for other in cells
        if other is not cell
        and other.kind != "platelet"
        and abs(other.x - cell.x) < 2 * reach
        and abs(other.y - cell.y) < 2 * reach
    ]
    return [cell, *others]


def _outline(even: Evened, cell: Cell, near: Sequence[Cell], step: float) -> Outline:
    box = _window(even, cell)
    rgb = even.part(box, step)
    density = -np.log((np.asarray(cv2.GaussianBlur(rgb, (0, 0), 1), np.float32) + 1) / 241)
    own = _own(rgb.shape[:2], box, near, step)
    stain = density[..., 0] + density[..., 1] - 2 * density[..., 2]
    nucleus = _nucleus(stain, own)
    body = _without_tongues(own & (density[..., 1] > BODY)) | nucleus
    bodies = _around(body, box, step)
    return Outline(bodies[0] if bodies else None, _around(nucleus, box, step))


def _without_tongues(mask: Bools) -> Bools:
    """What is left after an opening: parts of red cells and threads beside a body are narrow."""
    side = max(int(TONGUE * min(mask.shape)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc) > 0, bool)


def _window(even: Evened, cell: Cell) -> Box:
    half_w = MARGIN * (cell.right - cell.left) / 2 + 1
    half_h = MARGIN * (cell.bottom - cell.top) / 2 + 1
    x, y = (cell.left + cell.right) / 2, (cell.top + cell.bottom) / 2
    width, height = even.field.width, even.field.height
    left, top = max(int(x - half_w), 0), max(int(y - half_h), 0)
    return left, top, min(int(x + half_w) + 2, width), min(int(y + half_h) + 2, height)


def _own(shape: tuple[int, int], box: Box, near: Sequence[Cell], step: float) -> Bools:
    """Pixels (h, w) that belong to the first of these cells: nearest by size, within its box."""
    x = box[0] + (np.arange(shape[1]) + 0.5) * step
    y = box[1] + (np.arange(shape[0]) + 0.5) * step
    away = [
        ((x[None, :] - (c.left + c.right) / 2) / max((c.right - c.left) / 2, 1e-6)) ** 2
        + ((y[:, None] - (c.top + c.bottom) / 2) / max((c.bottom - c.top) / 2, 1e-6)) ** 2
        for c in near
    ]
    return np.asarray((np.argmin(away, axis=0) == 0) & (away[0] < MARGIN**2), bool)


def _nucleus(stain: Singles, own: Bools) -> Bools:
    """Where nuclear stain lies, up to half of its own strength; nowhere if there is hardly any."""
    strong = float(np.percentile(stain[own], 90)) if own.any() else 0.0
    return np.asarray(own & (stain > HALF * strong) & (strong > DOUBTFUL), bool)


def _around(mask: Bools, box: Box, step: float) -> tuple[Points, ...]:
    """Outlines of the parts of a mask in pixels of the field, largest first; those below a fifth
    of the largest are left out.
    """
    whole = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(np.pad(whole, 1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = sorted(found, key=cv2.contourArea, reverse=True)
    kept = [p for p in parts if cv2.contourArea(p) >= max(LOBE * cv2.contourArea(parts[0]), 1)]
    simple = [cv2.approxPolyDP(part, SIMPLE, True)[:, 0] for part in kept]
    corner = np.array(box[:2], np.float32)
    return tuple(
        np.asarray((points - 0.5) * np.float32(step) + corner, np.float32)
        for points in simple
        if len(points) >= 3
    )
