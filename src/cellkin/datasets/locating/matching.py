"""Where in a field a piece of image lies: coarse correlation of all poses, then a close look.

Coarse: the middle square of every piece, `grid` pixels a side, against every window of the field
shrunk to the same resolution: normalised cross-correlation as one matrix product per scale. Close:
the best few places are aligned at 64 pixels a side and then at the full one, on detail
alone (what lies between Gaussians of 1 and 4 pixels). Round dark cells on a bright ground are all
alike as a whole and correlate up to 0.9; their details do not.

Sure: a few outlines that happen to agree make even the detail of two places correlate up to 0.8.
So the piece is cut into 6 x 6 blocks, and the score is the lower quartile of the correlations of
those that show something: three quarters of the piece must agree, block by block.

A pose says how a piece was made of a part of the field: shrunk or enlarged by `scale`, mirrored
left to right, then turned counter-clockwise by `rotation` degrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from cellkin.core.arrays import Ints, Singles

Orientation = tuple[int, bool]

SAME: tuple[Orientation, ...] = ((0, False),)
ORIENTATIONS: tuple[Orientation, ...] = tuple((k * 90, m) for m in (False, True) for k in range(4))

FINE, COARSE = 1.0, 4.0  # detail lies between Gaussians of these widths
TRIM = 4  # border of a piece whose detail its own edge has spoilt
BLOCK = 256  # templates per matrix product
WORTH = 0.7  # coarse correlation below which a place gets no close look
PROMISING = 0.4  # correlation of detail at 64 pixels below which it gets no second one
MIDDLE = 64  # pixels of a piece's shorter side at the first close look
STEPS = 8  # times that the scale may move on at full resolution
BLOCKS = 6  # per side, for the score
TELLING = 0.05  # energy of detail, relative to the richest block, from which a block counts
FEWEST = 4  # blocks that must show something
CANDIDATES = 3  # places per piece and field that get a close look


@dataclass(frozen=True)
class Piece:
    """An image to be found: `light` (h, w) float32 in [0, 255], its green channel."""

    name: str
    light: Singles


@dataclass(frozen=True)
class Poses:
    """What may have been done to the pieces, and how finely to look.

    Attributes:
        scales: pixels of the piece per pixel of the field. orientations: (degrees, mirrored).
        grid: pixels of a piece's middle square at the coarse level.
    """

    scales: tuple[float, ...] = (1.0,)
    orientations: tuple[Orientation, ...] = SAME
    grid: int = 20


@dataclass(frozen=True)
class Hit:
    """A place: box in pixels of the field (edges, not centres), pose, and how sure.

    `score` is the lower quartile over blocks of the correlation of detail, in [-1, 1].
    """

    piece: str
    left: float
    top: float
    right: float
    bottom: float
    scale: float
    rotation: int
    mirrored: bool
    score: float


def search_field(field: Singles, pieces: Sequence[Piece], poses: Poses) -> list[Hit]:
    """The best place of each piece in one field, where it is worth telling.

    Args:
        field: (H, W) float32 in [0, 255], its green channel.
        pieces: of any sizes.

    Returns:
        at most one hit per piece; none for a piece that looks like nothing in this field.
    """
    hits = []
    for group in _alike_in_size(pieces):
        places = _coarse(field, group, poses)
        for piece, candidates in zip(group, places, strict=True):
            hit = _closest(field, piece, candidates, free=poses.scales != (1.0,))
            if hit is not None:
                hits.append(hit)
    return hits


def _alike_in_size(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Groups whose shorter sides differ by less than half, so that one middle square serves all."""
    rest = sorted(pieces, key=lambda piece: min(piece.light.shape))
    while rest:
        limit = 1.5 * min(rest[0].light.shape)
        yield [piece for piece in rest if min(piece.light.shape) < limit]
        rest = [piece for piece in rest if min(piece.light.shape) >= limit]


# --- coarse ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    score: float
    left: float
    top: float
    scale: float
    orientation: Orientation


def _coarse(field: Singles, pieces: Sequence[Piece], poses: Poses) -> list[list[_Place]]:
    """The few best places of every piece over all poses, best first."""
    side = min(min(piece.light.shape) for piece in pieces)
    templates = np.stack(
        [
            _template(upright(piece.light, turn), side, poses.grid)
            for piece in pieces
            for turn in poses.orientations
        ]
    )
    found: list[list[_Place]] = [[] for _ in pieces]
    for scale in poses.scales:
        height, width = (round(n * scale * poses.grid / side) for n in field.shape)
        if min(height, width) < poses.grid:
            continue
        small = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
        scores, rows, columns = _correlate(np.asarray(small, np.float32), templates, poses.grid)
        for t in np.nonzero(scores >= WORTH)[0].tolist():
            which, turn = divmod(t, len(poses.orientations))
            shape = upright(pieces[which].light, poses.orientations[turn]).shape
            top = rows[t] * field.shape[0] / height - (shape[0] - side) / 2 / scale
            left = columns[t] * field.shape[1] / width - (shape[1] - side) / 2 / scale
            place = _Place(float(scores[t]), left, top, scale, poses.orientations[turn])
            found[which].append(place)
    return [sorted(places, key=lambda place: -place.score)[:CANDIDATES] for places in found]


def upright(light: Singles, orientation: Orientation) -> Singles:
    """Undo an orientation: turn back, then mirror back."""
    rotation, mirrored = orientation
    turned = np.rot90(light, -rotation // 90)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _template(light: Singles, side: int, grid: int) -> Singles:
    """(grid * grid) zero-mean, unit-length middle square; zeros where it is flat."""
    top, left = ((n - side) // 2 for n in light.shape)
    square = light[top : top + side, left : left + side]
    small = np.asarray(cv2.resize(square, (grid, grid), interpolation=cv2.INTER_AREA)).ravel()
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    return np.asarray(small / length if length > grid else 0 * small, np.float32)


def _correlate(small: Singles, templates: Singles, grid: int) -> tuple[Singles, Ints, Ints]:
    """Highest normalised cross-correlation of each template, and its row and column."""
    centred = small - small.mean()
    windows = np.lib.stride_tricks.sliding_window_view(centred, (grid, grid))
    shape = windows.shape[:2]
    flat = windows.reshape(-1, grid * grid)
    n = grid * grid
    spread = (flat * flat).sum(1) - np.square(flat.sum(1)) / n
    inverse = 1 / np.sqrt(np.maximum(spread, n))  # a window flatter than one level is nothing
    best, where = [], []
    for start in range(0, len(templates), BLOCK):
        product = templates[start : start + BLOCK] @ flat.T
        product *= inverse
        where.append(product.argmax(axis=1))
        best.append(product.max(axis=1))
    rows, columns = np.divmod(np.concatenate(where), shape[1])
    return np.concatenate(best), rows, columns


# --- close -----------------------------------------------------------------------------------


def _closest(
    field: Singles, piece: Piece, candidates: Sequence[_Place], *, free: bool
) -> Hit | None:
    """The candidate whose detail agrees best, aligned at full resolution; None if none does.

    `free`: the scale may differ from the candidates'.
    """
    looked = []
    near = partial(_around, step=0.011, count=3 if free else 0)
    for place in candidates:
        light = upright(piece.light, place.orientation)
        reach = 1.5 * min(light.shape) / 16 / place.scale
        level = min(1.0, MIDDLE / min(light.shape))
        looked.append(_align(field, light, place, near(place.scale), (level, reach)))
    best = max(looked, key=lambda place: place.score, default=None)
    if best is None or best.score < PROMISING:
        return None
    light = upright(piece.light, best.orientation)
    best = _climb(field, light, best) if free else _align(field, light, best, [1.0], (1.0, 8.0))
    (height, width), (rows, columns) = light.shape, field.shape
    return Hit(
        piece.name,
        max(best.left, 0.0),
        max(best.top, 0.0),
        min(best.left + width / best.scale, float(columns)),
        min(best.top + height / best.scale, float(rows)),
        best.scale,
        *best.orientation,
        _agreement(field, light, best),
    )


def _agreement(field: Singles, light: Singles, place: _Place) -> float:
    """Lower quartile of the correlation of detail over the blocks that show something."""
    there = _seen_at(field, light.shape, place)
    inner = (slice(TRIM, -TRIM), slice(TRIM, -TRIM))
    pairs = zip(_blocks(_detail(light, 1)[inner]), _blocks(_detail(there, 1)[inner]), strict=True)
    agree, shown = np.array([_correlation(a, b) for a, b in pairs]).T
    telling = shown >= TELLING * shown.max()
    if np.count_nonzero(telling) < FEWEST:
        return 0.0
    return float(np.quantile(agree[telling], 0.25))


def _seen_at(field: Singles, shape: tuple[int, ...], place: _Place) -> Singles:
    """The part of the field at a place, as large as the piece (h, w) that was found there."""
    step = 1 / place.scale
    start_x, start_y = (edge + 0.5 * step - 0.5 for edge in (place.left, place.top))
    warp = np.array([[step, 0, start_x], [0, step, start_y]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size, border = shape[1::-1], cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(field, warp, size, flags=flags, borderMode=border), np.float32)


def _blocks(detail: Singles) -> Iterator[Singles]:
    for rows in np.array_split(detail, BLOCKS, axis=0):
        yield from np.array_split(rows, BLOCKS, axis=1)


def _correlation(a: Singles, b: Singles) -> tuple[float, float]:
    """Correlation of two blocks, and how much there is in both together."""
    a, b = a - a.mean(), b - b.mean()
    product, one, other = float((a * b).sum()), float((a * a).sum()), float((b * b).sum())
    return product / max(np.sqrt(one * other), 1e-6), one + other


def _climb(field: Singles, light: Singles, place: _Place) -> _Place:
    """Follow the scale at full resolution to where the score is highest, then refine it."""
    for _ in range(STEPS):
        better = _align(field, light, place, _around(place.scale, 0.004, 2), (1.0, 8.0))
        settled = abs(better.scale / place.scale - 1) < 0.006
        place = better
        if settled:
            break
    return _align(field, light, place, _around(place.scale, 0.001, 2), (1.0, 3.0))


def _around(scale: float, step: float, count: int) -> list[float]:
    return [scale * (1 + step * k) for k in range(-count, count + 1)]


def _align(
    field: Singles,
    light: Singles,
    place: _Place,
    scales: Sequence[float],
    look: tuple[float, float],
) -> _Place:
    """The best of some scales and of all positions near a place.

    Args:
        light: the piece, upright. look: resolution (1 is that of the piece), and how far around
            the place to search, in pixels of the field.
    """
    level, reach = look
    size = tuple(max(round(n * level), 2 * TRIM + 8) for n in light.shape[::-1])
    trim = TRIM if level == 1 else TRIM // 2
    small = light if level == 1 else cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    wanted = _detail(np.asarray(small, np.float32), level)[trim:-trim, trim:-trim]
    tried = [_align_at(field, wanted, place, (scale, level, reach, trim)) for scale in scales]
    return max(tried, key=lambda found: found.score)


def _align_at(
    field: Singles, wanted: Singles, place: _Place, how: tuple[float, float, float, int]
) -> _Place:
    scale, level, reach, trim = how
    height, width = (n + 2 * trim for n in wanted.shape)
    factor = scale * level
    centre_x, centre_y = (
        start + extent / (place.scale * level) / 2
        for start, extent in ((place.left, width), (place.top, height))
    )
    rows = _span(centre_y, height / factor / 2 + reach, field.shape[0])
    columns = _span(centre_x, width / factor / 2 + reach, field.shape[1])
    region = field[rows, columns]
    size = tuple(round(n * factor) for n in region.shape[::-1])
    if size[0] < wanted.shape[1] + 2 or size[1] < wanted.shape[0] + 2:
        return _Place(-1.0, place.left, place.top, scale, place.orientation)
    how_resized = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    seen = _detail(np.asarray(cv2.resize(region, size, interpolation=how_resized)), level)
    scores = np.asarray(cv2.matchTemplate(seen, wanted, cv2.TM_CCOEFF_NORMED), np.float32)
    y, x, score = _peak(scores)
    across, down = size[0] / region.shape[1], size[1] / region.shape[0]
    left, top = columns.start + (x - trim) / across, rows.start + (y - trim) / down
    exact = (across + down) / 2 / level
    return _Place(score, left, top, exact, place.orientation)


def _span(centre: float, half: float, limit: int) -> slice:
    start = min(max(int(np.floor(centre - half)), 0), limit)
    return slice(start, max(min(int(np.ceil(centre + half)), limit), start))


def _detail(light: Singles, level: float) -> Singles:
    """What lies between two Gaussians; the wider one is narrower where the image was shrunk."""
    fine = light if level < 1 else cv2.GaussianBlur(light, (0, 0), FINE)
    return np.asarray(fine - cv2.GaussianBlur(light, (0, 0), COARSE if level == 1 else COARSE / 2))


def _peak(scores: Singles) -> tuple[float, float, float]:
    """Row and column of the highest score, between the pixels by parabolas, and the score."""
    finite = np.where(np.isfinite(scores), scores, -1)
    row, column = (int(i) for i in np.unravel_index(int(finite.argmax()), finite.shape))
    y = row + _offset(finite[:, column], row)
    x = column + _offset(finite[row], column)
    return y, x, float(min(finite[row, column], 1.0))


def _offset(values: Singles, at: int) -> float:
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
