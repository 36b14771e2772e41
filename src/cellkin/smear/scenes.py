"""Training pictures for the finder: real fields at any scale, real cells pasted into them in
touching clumps, and whatever stain, lamp and lens may do to them (`varying`).

All sources lie in one even light, so a pasted cell takes the light of its new field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Ints, Singles
from cellkin.smear.light import WHITE
from cellkin.smear.varying import SceneOptions, vary

Rng = np.random.Generator

WHITE_CELL, SMUDGE, PLATELET, ARTEFACT, RED = range(5)
RED_CELL = 7.2  # micrometres
CLUMPS, OFTEN = (1, 2, 3, 5, 9, 20), (0.25, 0.25, 0.2, 0.15, 0.1, 0.05)  # pasted side by side
BLACK_GROUND = "cnmc"  # cells of this source come darker than they were
VISIBLE = 0.3  # share of a cell that must be seen for it to count; less is not known


@dataclass(frozen=True, eq=False)
class Marked:
    """A picture in even light with its cells.

    Attributes:
        rgb: (h, w, 3) uint8, ground at `WHITE`. scale: micrometres per pixel.
        boxes: (n, 4) left, top, right, bottom in pixels. kinds: (n,) positions in `CHANNELS`.
        unknown: (m, 4) boxes in which nothing is known but the marked cells.
        known: by kind, whether all cells of it are marked.
    """

    rgb: Bytes
    scale: float
    boxes: Singles
    kinds: Ints
    unknown: Singles
    known: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class CutCell:
    """A white cell cut out of its picture: (h, w, 3) in even light and (h, w) alpha in [0, 255].

    `box`: left, top, right, bottom in the picture that it was cut from.
    """

    rgb: Bytes
    alpha: Bytes
    scale: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Picture:
    """What the network learns from: (S, S, 3) uint8, boxes (n, 4) and kinds (n,), and by kind where
    something is known, (kinds, S / 4, S / 4) bool.
    """

    rgb: Bytes
    boxes: Singles
    kinds: Ints
    known: Bools


class Painter:
    """Paints pictures from a library.

    Args:
        fields: name of a source -> its marked pictures. cells: name of a source -> cut cells.
        shares: how often each source of fields is the ground; likewise of cells.
    """

    def __init__(
        self,
        fields: Mapping[str, Sequence[Marked]],
        cells: Mapping[str, Sequence[CutCell]],
        shares: Mapping[str, float],
        options: SceneOptions | None = None,
    ) -> None:
        self.fields, self.cells, self.options = fields, cells, options or SceneOptions()
        self.grounds = [name for name in fields if shares.get(name, 0) > 0 and fields[name]]
        self.chances = np.array([shares[name] for name in self.grounds], float)
        self.sources = [name for name in cells if shares.get(f"cut {name}", 0) > 0 and cells[name]]
        self.often = np.array([shares[f"cut {name}"] for name in self.sources], float)

    def paint(self, rng: Rng) -> Picture:
        """One picture."""
        options = self.options
        zoom = float(np.exp(rng.uniform(-options.zoom, options.zoom)))
        scale = RED_CELL / (options.red_cell * zoom)  # micrometres per pixel
        scene = _Scene(options.size, scale)
        if rng.random() >= options.blank:
            name = str(rng.choice(self.grounds, p=self.chances / self.chances.sum()))
            self._lay_ground(scene, self.fields[name], rng)
        if self.sources and rng.random() < options.pasted:
            for _ in range(int(rng.integers(1, 4))):
                self._paste_clump(scene, rng)
        if self.sources and rng.random() < 0.25:
            _smudge(scene, self._cut(rng), rng)
        if rng.random() < 0.25:
            _dirt(scene, rng)
        rgb = vary(scene.rgb, rng, options)
        return Picture(rgb, *scene.marks())

    def _lay_ground(self, scene: _Scene, fields: Sequence[Marked], rng: Rng) -> None:
        """Pieces of one source beside each other until the picture is full."""
        top = -int(rng.integers(0, scene.size // 2))
        while top < scene.size:
            left, tallest = -int(rng.integers(0, scene.size // 2)), 0
            while left < scene.size:
                piece = _turned(fields[int(rng.integers(len(fields)))], scene.scale, rng)
                piece = _window(piece, 2 * scene.size, rng)
                scene.lay(piece, left, top)
                height, width = piece.rgb.shape[:2]
                left, tallest = left + width, max(tallest, height)
            top += tallest

    def _cut(self, rng: Rng, source: str | None = None) -> CutCell:
        name = source or str(rng.choice(self.sources, p=self.often / self.often.sum()))
        return self.cells[name][int(rng.integers(len(self.cells[name])))]

    def _paste_clump(self, scene: _Scene, rng: Rng) -> None:
        """Cells of one source side by side, some a little over each other."""
        source = str(rng.choice(self.sources, p=self.often / self.often.sum()))
        count = int(rng.choice(CLUMPS, p=OFTEN))
        tone = float(np.exp(rng.normal(-0.6 if source == BLACK_GROUND else 0, 0.35)))
        swell = float(np.exp(rng.normal(0, 0.12)))
        last: tuple[float, float, float] | None = None
        for _ in range(count):
            alike = swell * float(np.exp(rng.normal(0, 0.1)))
            cell, alpha = _turned_cell(self._cut(rng, source), scene.scale / alike, rng)
            radius = float(np.sqrt(np.count_nonzero(alpha > 127) / np.pi))
            spot = scene.room(radius, last, rng)
            if spot is None:
                continue
            scene.paste(_toned(cell, tone), alpha, spot, WHITE_CELL)
            last = (*spot, radius) if rng.random() < 0.7 else last or (*spot, radius)


class _Scene:
    """A picture while it is painted."""

    def __init__(self, size: int, scale: float) -> None:
        self.size, self.scale = size, scale
        self.rgb: Bytes = np.full((size, size, 3), WHITE, np.uint8)
        self.boxes: list[tuple[float, ...]] = []
        self.kinds: list[int] = []
        self.unknown: list[tuple[float, ...]] = []
        self.blank = np.zeros((5, size, size), bool)

    def lay(self, piece: Marked, left: int, top: int) -> None:
        """Copy a piece of a field, with its marks, as far as it lies in the picture."""
        height, width = piece.rgb.shape[:2]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, self.size), min(top + height, self.size)
        if x1 <= x0 or y1 <= y0:
            return
        self.rgb[y0:y1, x0:x1] = piece.rgb[y0 - top : y1 - top, x0 - left : x1 - left]
        for kind, known in enumerate(piece.known):
            self.blank[kind, y0:y1, x0:x1] = not known
        shift = np.array([left, top, left, top], np.float32)
        for box in piece.unknown + shift:
            self.unknown.append(_clipped(box, (x0, y0, x1, y1)))
        for box, kind in zip(piece.boxes + shift, piece.kinds, strict=True):
            self.mark(box, int(kind), (x0, y0, x1, y1))

    def mark(self, box: Singles, kind: int, inside: tuple[int, int, int, int]) -> None:
        """Note a cell; one that is hardly seen is not known."""
        seen = _clipped(box, inside)
        share = _area(seen) / max(_area(tuple(box)), 1e-6)
        if share >= VISIBLE:
            self.boxes.append(seen)
            self.kinds.append(kind)
        elif share > 0:
            self.unknown.append(seen)

    def room(
        self, radius: float, last: tuple[float, float, float] | None, rng: Rng
    ) -> tuple[float, float] | None:
        """A place for a white cell: beside the last one or anywhere, on no other white cell."""
        others = [
            ((a + c) / 2, (b + d) / 2, (c - a + d - b) / 4)
            for (a, b, c, d), kind in zip(self.boxes, self.kinds, strict=True)
            if kind in (WHITE_CELL, SMUDGE)
        ]
        if last is None and others and rng.random() < 0.4:
            last = others[int(rng.integers(len(others)))]
        for _ in range(12):
            if last is None:
                x, y = rng.uniform(0, self.size, 2)
            else:
                turn = rng.uniform(0, 2 * np.pi)
                far = (radius + last[2]) * rng.uniform(0.82, 1.08)
                x, y = last[0] + far * np.cos(turn), last[1] + far * np.sin(turn)
            if not (0 <= x < self.size and 0 <= y < self.size):
                continue
            if all(np.hypot(x - a, y - b) > 0.8 * (radius + r) for a, b, r in others):
                return float(x), float(y)
        return None

    def paste(
        self, cell: Bytes, alpha: Bytes, spot: tuple[float, float], kind: int, over: float = 1.0
    ) -> None:
        """Lay a cell with its middle at a place; what was below is gone as far as alpha says."""
        height, width = alpha.shape
        left, top = round(spot[0] - width / 2), round(spot[1] - height / 2)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, self.size), min(top + height, self.size)
        if x1 <= x0 or y1 <= y0:
            return
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        share = (over / 255 * alpha[part].astype(np.float32))[..., None]
        below = self.rgb[y0:y1, x0:x1]
        below[:] = (share * cell[part] + (1 - share) * below).astype(np.uint8)
        body = np.nonzero(alpha > 127)
        if not len(body[0]):
            return
        box = np.array([body[1].min(), body[0].min(), body[1].max() + 1, body[0].max() + 1])
        seen = np.asarray(box + np.array([left, top, left, top]), np.float32)
        self._hide(*seen.tolist())
        self.mark(seen, kind, (0, 0, self.size, self.size))

    def _hide(self, left: float, top: float, right: float, bottom: float) -> None:
        """Red cells and platelets whose middle lies under a pasted cell are no longer there."""
        gone = [
            kind in (PLATELET, RED) and left < (a + c) / 2 < right and top < (b + d) / 2 < bottom
            for (a, b, c, d), kind in zip(self.boxes, self.kinds, strict=True)
        ]
        self.boxes = [box for box, hidden in zip(self.boxes, gone, strict=True) if not hidden]
        self.kinds = [kind for kind, hidden in zip(self.kinds, gone, strict=True) if not hidden]

    def marks(self) -> tuple[Singles, Ints, Bools]:
        """Boxes, kinds, and by kind where something is known."""
        blank = self.blank
        for box in self.unknown:
            blank[:, *_pixels(box)] = True
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        for box, kind in zip(self.boxes, self.kinds, strict=True):
            blank[kind, *_pixels(box)] = False
        return boxes, np.array(self.kinds, np.int64), ~blank[:, 2::4, 2::4]


def _pixels(box: Sequence[float]) -> tuple[slice, slice]:
    """Rows and columns that a box touches."""
    left, top, right, bottom = box
    return slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right)))


def _clipped(
    box: Sequence[float] | Singles, inside: tuple[int, int, int, int]
) -> tuple[float, ...]:
    left, top, right, bottom = (float(v) for v in box)
    return (
        max(left, inside[0]),
        max(top, inside[1]),
        min(right, inside[2]),
        min(bottom, inside[3]),
    )


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _turned(field: Marked, scale: float, rng: Rng) -> Marked:
    """A field at another scale, mirrored and turned by quarters."""
    factor = field.scale / scale
    size = (max(round(field.rgb.shape[1] * factor), 8), max(round(field.rgb.shape[0] * factor), 8))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    rgb = np.asarray(cv2.resize(field.rgb, size, interpolation=how), np.uint8)
    boxes, unknown = field.boxes * factor, field.unknown * factor
    if rng.random() < 0.5:
        rgb = rgb[:, ::-1]
        boxes, unknown = (_mirrored(v, size[0]) for v in (boxes, unknown))
    if rng.random() < 0.5:
        rgb = rgb[::-1]
        boxes, unknown = (
            _mirrored(v[:, [1, 0, 3, 2]], size[1])[:, [1, 0, 3, 2]] for v in (boxes, unknown)
        )
    if rng.random() < 0.5:
        rgb = rgb.transpose(1, 0, 2)
        boxes, unknown = boxes[:, [1, 0, 3, 2]], unknown[:, [1, 0, 3, 2]]
    return Marked(rgb, scale, boxes, field.kinds, unknown, field.known)


def _mirrored(boxes: Singles, width: float) -> Singles:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _window(field: Marked, size: int, rng: Rng) -> Marked:
    """A window of a large field, mostly around a marked white cell."""
    height, width = field.rgb.shape[:2]
    if height <= size and width <= size:
        return field
    whites = field.boxes[field.kinds == WHITE_CELL]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    if len(whites) and rng.random() < 0.7:
        box = whites[int(rng.integers(len(whites)))]
        x, y = (box[:2] + box[2:]) / 2 + rng.uniform(-size / 3, size / 3, 2)
    left = int(np.clip(x - size / 2, 0, max(width - size, 0)))
    top = int(np.clip(y - size / 2, 0, max(height - size, 0)))
    rgb = field.rgb[top : top + size, left : left + size]
    limits = (0, 0, rgb.shape[1], rgb.shape[0])
    shift = np.array([left, top, left, top], np.float32)
    kept, kinds, unknown = [], [], [_clipped(b, limits) for b in field.unknown - shift]
    for box, kind in zip(field.boxes - shift, field.kinds, strict=True):
        seen = _clipped(box, limits)
        if _area(seen) >= VISIBLE * _area(tuple(box)):
            kept.append(seen)
            kinds.append(kind)
        elif _area(seen) > 0:
            unknown.append(seen)
    unknown = [box for box in unknown if _area(box) > 0]
    return Marked(
        rgb,
        field.scale,
        np.array(kept, np.float32).reshape(-1, 4),
        np.array(kinds, np.int64),
        np.array(unknown, np.float32).reshape(-1, 4),
        field.known,
    )


def _turned_cell(cell: CutCell, scale: float, rng: Rng) -> tuple[Bytes, Bytes]:
    """A cut cell at another scale, at any angle; its edge as soft as a lens makes it."""
    factor = cell.scale / scale
    height, width = cell.alpha.shape
    side = int(np.ceil(np.hypot(height, width) * factor)) + 4
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(0, 360)), factor)
    turn[:, 2] += (side / 2 - width / 2, side / 2 - height / 2)
    flags = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    soft = 0.35 / factor if factor < 0.6 else 0.0  # warping does not average: blur first
    rgb, alpha = (cv2.GaussianBlur(a, (0, 0), soft) if soft else a for a in (cell.rgb, cell.alpha))
    rgb = cv2.warpAffine(rgb, turn, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(alpha, turn, (side, side), flags=flags)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7)
    mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
    return np.asarray(rgb[:, mirror], np.uint8), np.asarray(alpha[:, mirror], np.uint8)


def _toned(rgb: Bytes, tone: float) -> Bytes:
    """More or less of the same stain."""
    table = WHITE * (np.maximum(np.arange(256), 1) / WHITE) ** tone
    return np.asarray(cv2.LUT(rgb, np.clip(table, 0, 255).astype(np.uint8)), np.uint8)


def _smudge(scene: _Scene, cell: CutCell, rng: Rng) -> None:
    """A nucleus without a body: a cell spread, torn and paler, with no clear edge."""
    rgb, alpha = _turned_cell(cell, scene.scale / float(rng.uniform(0.9, 1.7)), rng)
    size = alpha.shape[0]
    spread = rng.normal(0, 1, (2, 5, 5)).astype(np.float32)
    x, y = np.meshgrid(*2 * [np.arange(size, dtype=np.float32)])
    dx, dy = (
        cv2.resize(s, (size, size), interpolation=cv2.INTER_CUBIC) * size * 0.09 for s in spread
    )
    rgb, alpha = (
        np.asarray(
            cv2.remap(a, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            np.uint8,
        )
        for a in (rgb, alpha)
    )
    holes = cv2.resize(rng.normal(0.2, 0.6, (7, 7)).astype(np.float32), (size, size))
    torn = (alpha * np.clip(0.75 + holes, 0.1, 1)).astype(np.uint8)
    alpha = np.asarray(cv2.GaussianBlur(torn, (0, 0), max(0.05 * size, 1.0)), np.uint8)
    rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(0.03 * size, 0.8)), np.uint8)
    spot = scene.room(0.4 * size, None, rng)
    if spot is not None:
        scene.paste(_toned(rgb, float(rng.uniform(0.4, 0.9))), alpha, spot, SMUDGE, 0.9)


def _dirt(scene: _Scene, rng: Rng) -> None:
    """Specks of stain, dust and threads: dark, without the inside of a cell."""
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.integers(6, max(int(9 / scene.scale), 8)))
        alpha = np.zeros((size, size), np.uint8)
        count = int(rng.integers(1, 14))
        for x, y in rng.uniform(0.15, 0.85, (count, 2)) * size:
            cv2.circle(alpha, (int(x), int(y)), int(rng.integers(1, max(size // 7, 2))), 255, -1)
        if rng.random() < 0.3:
            ends = rng.integers(0, size, 4).tolist()
            cv2.line(alpha, tuple(ends[:2]), tuple(ends[2:]), 255, 1)
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 1.2))), np.uint8)
        colour = rng.uniform(10, 120, 3) if rng.random() < 0.6 else np.array([70, 20, 110])
        spot = scene.room(0.4 * size, None, rng)
        if spot is not None:
            body = np.full((size, size, 3), colour, np.uint8)
            scene.paste(body, alpha, spot, ARTEFACT, float(rng.uniform(0.5, 1)))
