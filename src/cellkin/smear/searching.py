"""Searching one part of a field with the network: what lies where, and its outline.

Parts overlap; each reports the cells whose middle lies in its own share, so that what is found does
not depend on who searches which part, or when.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cellkin.core.arrays import Bytes, Singles
from cellkin.smear.evened import Evened
from cellkin.smear.field import Box, Field
from cellkin.smear.found import Cell, Outline
from cellkin.smear.light import WHITE
from cellkin.smear.outlines import outlines
from cellkin.smear.seeing import CHANNELS, STRIDE, Finder
from cellkin.smear.suitable import Tally, covered_in

SURE_RED = 0.3  # score from which on something is taken for a red cell
LEAST_SCORES = {"white cell": 0.35, "smudge": 0.4, "platelet": 0.35, "artefact": 0.4}
TILE, OVERLAP = 768, 96  # pixels of what the network sees
SHARED = 0.5  # overlap of two boxes, over the smaller one, from which on they are one cell
CUT = 0.42  # middle nearer to the field's edge than this share of its size: the cell is cut off
FAINT, LEAST_PIXELS = 205, 20  # in green; so many darker pixels lie in every cell


def parts_of(field: Field, downsample: float) -> list[Box]:
    """The overlapping parts in which a field is searched."""
    return list(field.tiles(int(TILE * downsample), int(OVERLAP * downsample)))


def search(
    even: Evened, box: Box, downsample: float, network: Finder
) -> tuple[list[Cell], list[Outline], Tally]:
    """The cells of one part, with their outlines, and what was recognised in it."""
    rgb = even.part(box, downsample)
    area = downsample**2
    covered, seen = covered_in(rgb) * area, rgb.shape[0] * rgb.shape[1] * area
    if _is_empty(rgb):
        return [], [], Tally(seen, covered)
    heat, shapes = looked(network, rgb)
    found = single(_decoded(heat, shapes, box, downsample))
    found = [_at_border(cell, even.field) for cell in found]
    own = [c for c in found if _inner(c, box, int(OVERLAP * downsample) / 2, even.field)]
    scores, sizes = red_cells_seen(heat, shapes)
    red = float((scores * sizes**2).sum()) * area
    tally = Tally(seen, covered, red, float(scores.sum()), float((scores * sizes).sum()))
    return own, outlines(even, own, found, downsample), tally


def red_cells_seen(heat: Singles, shapes: Singles) -> tuple[Singles, Singles]:
    """Scores of the red cells that the network sees, and their sizes in its pixels."""
    plane = heat[CHANNELS.index("red cell")]
    rows, columns = peaks(plane, SURE_RED)
    sizes = STRIDE * np.exp(shapes[2:, rows, columns].mean(axis=0))
    return plane[rows, columns], np.asarray(sizes, np.float32)


def single(cells: Iterator[Cell] | Sequence[Cell]) -> list[Cell]:
    """Of several findings of one thing, the surest; from top to bottom."""
    ordered = sorted(cells, key=lambda c: (-c.score, c.y, c.x))
    reach = max((max(c.right - c.left, c.bottom - c.top) for c in ordered), default=1.0) + 1e-6
    kept: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in ordered:
        row, column = int(cell.y // reach), int(cell.x // reach)
        near = (kept.get((row + i, column + j), ()) for i in (-1, 0, 1) for j in (-1, 0, 1))
        if all(_shared(cell, other) < SHARED for others in near for other in others):
            kept[row, column].append(cell)
    return sorted((c for some in kept.values() for c in some), key=lambda c: (c.y, c.x))


def looked(network: Finder, rgb: Bytes, *, mirrored: bool = True) -> tuple[Singles, Singles]:
    """Heat maps in [0, 1] (kinds, h, w), averaged with those of the mirror image, and shapes
    (4, h, w).
    """
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % 16), (0, -width % 16), (0, 0)), constant_values=WHITE)
    heat, shapes = network.seen(padded[None])
    if mirrored:
        heat = (heat + network.seen(padded[None, :, ::-1])[0][..., ::-1]) / np.float32(2)
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    return heat[0, :, :rows, :columns], shapes[0, :, :rows, :columns]


def peaks(heat: Singles, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns where a heat map is highest around."""
    around = cv2.dilate(np.ascontiguousarray(heat), np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((heat == around) & (heat >= least))
    return rows, columns


def _is_empty(rgb: Bytes) -> bool:
    """Whether nothing lies on the ground: most of a slide is empty, and need not be looked at."""
    return bool(np.count_nonzero(rgb[..., 1] < FAINT) < LEAST_PIXELS)


def _decoded(heat: Singles, shapes: Singles, box: Box, downsample: float) -> Iterator[Cell]:
    """The cells of a part, in pixels of the field."""
    factor = STRIDE * downsample
    for kind, least in LEAST_SCORES.items():
        plane = heat[CHANNELS.index(kind)]
        for row, column in zip(*peaks(plane, least), strict=True):
            dx, dy, w, h = (float(v) for v in shapes[:, row, column])
            x, y = box[0] + float(column + dx) * factor, box[1] + float(row + dy) * factor
            half_w, half_h = float(np.exp(w)) * factor / 2, float(np.exp(h)) * factor / 2
            edges = (x - half_w, y - half_h, x + half_w, y + half_h)
            yield Cell(x, y, *edges, kind, float(plane[row, column]))


def _inner(cell: Cell, box: Box, margin: float, field: Field) -> bool:
    """Whether a cell's middle lies in a part's own share: half of each overlap, whole edges."""
    left = box[0] + margin if box[0] > 0 else -np.inf
    top = box[1] + margin if box[1] > 0 else -np.inf
    right = box[2] - margin if box[2] < field.width else np.inf
    bottom = box[3] - margin if box[3] < field.height else np.inf
    return bool(left <= cell.x < right and top <= cell.y < bottom)


def _shared(a: Cell, b: Cell) -> float:
    """Overlap of two boxes over the smaller one."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c.right - c.left) * (c.bottom - c.top) for c in (a, b)]
    return width * height / max(min(areas), 1e-9)


def _at_border(cell: Cell, field: Field) -> Cell:
    """A white cell that the field's edge cuts is a border cell; no box leaves the field."""
    near = min(cell.x, cell.y, field.width - cell.x, field.height - cell.y)
    size = max(cell.right - cell.left, cell.bottom - cell.top)
    kind = "border" if cell.kind == "white cell" and near < CUT * size else cell.kind
    x, y = float(np.clip(cell.x, 0, field.width)), float(np.clip(cell.y, 0, field.height))
    return replace(
        cell,
        x=x,
        y=y,
        left=max(cell.left, 0.0),
        top=max(cell.top, 0.0),
        right=min(cell.right, float(field.width)),
        bottom=min(cell.bottom, float(field.height)),
        kind=kind,
    )
