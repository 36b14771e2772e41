"""Pictures: one cell among red cells, or a whole field with several white cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cellkin.core.arrays import Bytes
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.drawing import lymphoid, myeloid
from cellkin.drawing.camera import SubjectStyle, decoded, jpeg, mask, photograph
from cellkin.drawing.canvas import TURN, Canvas, Rng
from cellkin.drawing.elements import (
    WhiteCell,
    paint_platelet,
    paint_red_cell,
    paint_white_cell,
)

OVERSAMPLING = 2  # single cells are drawn at twice the size, then averaged: smooth edges
PRESSED = 0.9  # micrometres by which cells that touch may be pressed into each other
FIELD_WIDTH = 30.0
"""Micrometres across the picture of one cell at magnification 1."""

WHITE_CELLS: Mapping[str, Callable[[Rng], WhiteCell]] = MappingProxyType(
    {
        "lymphocyte": lymphoid.lymphocyte,
        "lymphoblast": lymphoid.lymphoblast,
        "neutrophil": myeloid.neutrophil,
        "monocyte": myeloid.monocyte,
        "eosinophil": myeloid.eosinophil,
        "basophil": myeloid.basophil,
        "ig": myeloid.immature_granulocyte,
        "erythroblast": myeloid.erythroblast,
        "precursor": lymphoid.precursor,
    }
)
KINDS = ("nothing", "platelet", *WHITE_CELLS)
"""What `draw_cell` can put in the middle of a picture."""

Disc = tuple[float, float, float]
"""x, y and radius in micrometres of what red cells leave free."""


@dataclass(frozen=True)
class PlacedCell:
    """A white cell in a field, in pixels from the upper left corner.

    Attributes:
        x, y: its centre. box: left, top, right, bottom of its outline.
    """

    kind: str
    x: int
    y: int
    box: tuple[int, int, int, int]


def draw_cell(
    kind: str, rng: Rng, style: SubjectStyle, size: int | tuple[int, int]
) -> tuple[Bytes, Bytes]:
    """Draw one picture, with the exact mask of its central cell.

    Args:
        kind: one of `KINDS`. size: side of the picture in pixels, or height and width.

    Returns:
        rgb (h, w, 3) uint8 RGB and mask (h, w) uint8: 0 background, 1 cytoplasm, 2 nucleus of the
        central white cell; all 0 for `"nothing"`; a platelet has no nucleus.

    Raises:
        RecipeError: an unknown kind, or a size below 32.
    """
    shape = (size, size) if isinstance(size, int) else size
    at_least("size", min(shape), 32)
    return paint_cell(new_canvas(shape), kind, rng, style)


def new_canvas(shape: tuple[int, int]) -> Canvas:
    """A canvas for pictures (h, w) of one cell, to be used again and again."""
    height, width = (OVERSAMPLING * n for n in shape)
    return Canvas((height, width), width / FIELD_WIDTH)


def paint_cell(canvas: Canvas, kind: str, rng: Rng, style: SubjectStyle) -> tuple[Bytes, Bytes]:
    """`draw_cell` on a canvas of `new_canvas`, whatever is on it.

    Raises:
        RecipeError: an unknown kind.
    """
    if kind not in KINDS:
        raise RecipeError(
            f"unknown kind of cell {kind!r}",
            where=f"kinds {', '.join(KINDS)}",
            mend=did_you_mean(kind, KINDS) or "use one of the kinds named here",
        )
    height, width = (n // OVERSAMPLING for n in canvas.extent.shape)
    canvas.clear(OVERSAMPLING * width * style.magnification / FIELD_WIDTH)
    middle = np.array([canvas.width, canvas.height]) / 2 + rng.normal(0, 0.018 * canvas.width, 2)
    x, y = float(middle[0]), float(middle[1])
    white = WHITE_CELLS[kind](rng) if kind in WHITE_CELLS else None
    granular = float(rng.uniform(1.3, 2.6)) if kind == "platelet" else 0.0
    _strew(canvas, style, [(x, y, float(white.radii.mean()) if white else granular)], rng)
    if white is not None:
        paint_white_cell(canvas, (x, y), white, rng)
    elif granular:
        paint_platelet(canvas, (x, y), granular, rng, marked=True)
    rgb = photograph(canvas, (height, width), style, rng)
    return decoded(jpeg(rgb, style.quality)), mask(canvas, (height, width))


def draw_field(
    kinds: Sequence[str], rng: Rng, style: SubjectStyle, canvas: Canvas, touching: float = 0.0
) -> tuple[Bytes, Bytes, tuple[PlacedCell, ...]]:
    """Draw a field with several white cells, red cells all over it.

    Args:
        kinds: of the white cells; names in `WHITE_CELLS`.
        canvas: as large as the picture, at the scale of the field; it is cleared.
        touching: share of the white cells that touch another one; the rest lie apart.

    Returns:
        rgb (h, w, 3) uint8, mask (h, w) uint8 of all white cells, and where these lie.

    Raises:
        RecipeError: the field is too small for so many white cells.
    """
    canvas.clear(canvas.scale)
    whites = [WHITE_CELLS[kind](rng) for kind in kinds]
    discs = _apart(canvas, [float(white.radii.max()) for white in whites], rng, touching)
    _strew(canvas, style, discs, rng)
    placed = []
    for kind, white, (x, y, _) in zip(kinds, whites, discs, strict=True):
        paint_white_cell(canvas, (x, y), white, rng)
        middle = (int(x * canvas.scale), int(y * canvas.scale))
        placed.append(PlacedCell(kind, *middle, _box(white, (x, y), canvas)))
    shape = (canvas.extent.shape[0], canvas.extent.shape[1])
    return photograph(canvas, shape, style, rng), mask(canvas, shape), tuple(placed)


def at_least(name: str, value: int, minimum: int) -> None:
    """Refuse a number that is too small.

    Raises:
        RecipeError: `value` is below `minimum`.
    """
    if value < minimum:
        raise RecipeError(
            f"{name} = {value} is too small for drawn cells",
            where=name,
            mend=f"use {name} of at least {minimum}",
        )


def _box(white: WhiteCell, at: tuple[float, float], canvas: Canvas) -> tuple[int, int, int, int]:
    """Box of a white cell as far as it lies in the field, in pixels."""
    across, down = white.radii * np.cos(TURN), white.radii * np.sin(TURN)
    height, width = canvas.extent.shape
    left, right = ((at[0] + v) * canvas.scale for v in (across.min(), across.max()))
    top, bottom = ((at[1] + v) * canvas.scale for v in (down.min(), down.max()))
    return (
        max(int(left), 0),
        max(int(top), 0),
        min(int(right) + 1, width),
        min(int(bottom) + 1, height),
    )


def _apart(canvas: Canvas, radii: Sequence[float], rng: Rng, touching: float = 0.0) -> list[Disc]:
    """Discs of these radii inside the canvas, a micrometre apart; a share of them side by side."""
    placed: list[Disc] = []
    for radius in radii:
        low = np.full(2, radius + 0.5)
        room = np.maximum(np.array([canvas.width, canvas.height]) - low, low)
        tries = [(place, 1.0) for place in rng.uniform(low, room, (500, 2)).tolist()]
        if touching > 0 and placed and rng.random() < touching:
            near = np.clip(_beside(placed, radius, rng), low, room).tolist()
            tries = [(place, -PRESSED) for place in near] + tries
        for (x, y), gap in tries:
            if all(np.hypot(x - a, y - b) > radius + r + gap for a, b, r in placed):
                placed.append((x, y, radius))
                break
        else:
            raise RecipeError(
                f"{len(radii)} white cells find no room in one field",
                where="cells, subjects",
                mend="order fewer cells or more subjects",
            )
    return placed


def _beside(placed: Sequence[Disc], radius: float, rng: Rng) -> NDArray[np.float64]:
    """Places (500, 2) at which a disc touches one of those that are there."""
    turn = rng.uniform(0, 2 * np.pi, 500)
    chosen = np.array(placed)[rng.integers(len(placed), size=500)]
    far = chosen[:, 2] + radius - rng.uniform(0.0, PRESSED, 500)
    away = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.asarray(chosen[:, :2] + far[:, None] * away, np.float64)


def _strew(canvas: Canvas, style: SubjectStyle, keep: Sequence[Disc], rng: Rng) -> None:
    """Red cells and some platelets over the field, not under the white cells."""
    for place in _places(canvas, style, keep, rng):
        pallor = style.pallor * float(rng.uniform(0.3, 1.2))
        radius = style.red_radius * float(rng.normal(1, 0.06))
        paint_red_cell(canvas, place, radius, pallor, rng)
    often = 0.5 * canvas.width * canvas.height / FIELD_WIDTH**2
    for x, y in rng.uniform(0, (canvas.width, canvas.height), (int(rng.poisson(often)), 2)):
        if all(np.hypot(x - a, y - b) > r + 1.8 for a, b, r in keep if r):
            paint_platelet(canvas, (float(x), float(y)), float(rng.uniform(0.8, 1.6)), rng)


def _places(
    canvas: Canvas, style: SubjectStyle, keep: Sequence[Disc], rng: Rng
) -> list[tuple[float, float]]:
    """Centres of red cells: side by side, one in five on top of another, some over the border."""
    reach = style.red_radius
    room = (canvas.width / reach + 2) * (canvas.height / reach + 2)
    wanted = max(round(style.crowding * room / np.pi + rng.normal(0, 0.7)), 0)
    far = (canvas.width + reach, canvas.height + reach)
    tries = rng.uniform(-reach, far, (8 * max(wanted, 1), 2))
    gaps = reach * np.where(rng.random(len(tries)) > 0.22, 2.0, rng.uniform(1.1, 1.9, len(tries)))
    for x, y, radius in keep:
        if radius:
            free = np.hypot(*(tries - (x, y)).T) >= radius + 0.72 * reach
            tries, gaps = tries[free], gaps[free]
    placed = np.full((wanted, 2), np.inf)
    count = 0
    for place, gap in zip(tries, gaps, strict=True):
        if count == wanted:
            break
        if (((placed[:count] - place) ** 2).sum(axis=1) >= gap**2).all():
            placed[count] = place
            count += 1
    return [(float(x), float(y)) for x, y in placed[:count]]
