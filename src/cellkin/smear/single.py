"""Is this the picture of one cell, as a decision needs it, or a field of many?

The finder looks once at the whole picture with 120 pixels along its shorter side, where the red
cells of a crop are about as large as it learned them. A field shows many red cells there, or small
ones, many white cells, or a white cell that is small in the oblong picture of a camera. Where the
finder sees neither a cell in the middle nor red cells of a crop's size, it looks again, closer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.glimpse import glimpse
from cellkin.smear.jobs import packaged_finder
from cellkin.smear.searching import looked, peaks
from cellkin.smear.seeing import CHANNELS, RED_PIXELS, STRIDE, Finder
from cellkin.smear.window import is_cut_out, lit

SIDES = (120, 288, 640)  # pixels along the shorter side at which the finder looks
LEAST_SIDE = 100  # of a picture that is looked at: a smaller one is no field
SEEN, WHITE_SEEN, SURE = 0.3, 0.35, 0.5  # scores of anything, of a white cell, of a sure one
MANY_REDS, TINY_RED = 24, 0.15  # red cells per square; their size in shorter sides
MANY_WHITES = 5
OBLONG = 1.2  # longer over shorter side of a camera's picture
SMALL, LESS, SOME = 0.3, 0.5, 4  # white cell over longer side: small; or less, among red cells
MIDDLE = 0.17  # distance from the middle, in shorter sides, up to which a cell lies in it
LARGE, FEW = 0.25, 3  # a white cell in the middle; red cells: either tells a crop

MEND = (
    "cellkin differential ATLAS FIELD --out DIR finds and calls every white cell in it; "
    "cellkin find FIELD --out cells.json --crops DIR cuts them out"
)


@dataclass(frozen=True)
class _Seen:
    """What the finder sees in a picture.

    Attributes:
        oblong: longer over shorter side. whites, reds: sizes in shorter sides, of the surest first.
        sure: whether a white cell is sure. middle: whether anything stained lies in the middle.
        pixels: the side at which it looked.
    """

    oblong: float
    whites: tuple[float, ...]
    reds: tuple[float, ...]
    sure: bool
    middle: bool
    pixels: int

    @property
    def many_reds(self) -> bool:
        return len(self.reds) / self.oblong >= MANY_REDS

    @property
    def framed(self) -> bool:
        """Whether the largest white cell is small in an oblong picture."""
        if self.oblong < OBLONG or not self.whites:
            return False
        share = max(self.whites) / self.oblong
        return share < SMALL or (len(self.reds) >= SOME and share < LESS)

    @property
    def field(self) -> bool:
        tiny = len(self.reds) >= 8 and self.red < TINY_RED
        return self.many_reds or tiny or self.framed or len(self.whites) >= MANY_WHITES

    @property
    def red(self) -> float:
        """Middle size of the red cells."""
        return float(np.median(self.reds)) if self.reds else 0.0

    @property
    def crop(self) -> bool:
        """Whether it is sure to be the picture of one cell, if it is no field."""
        cell = self.middle and max(self.whites, default=0.0) >= LARGE
        return cell or (len(self.reds) >= FEW and self.red >= TINY_RED)

    @property
    def aside(self) -> bool:
        return self.sure and not self.middle


def refuse_field(rgb: Bytes, where: str, finder: Finder | None = None) -> None:
    """Refuse a field, and a crop whose cell lies outside its middle, where one cell is expected.

    Args:
        rgb: (H, W, 3) uint8, the whole picture, or its `glimpse`.
        finder: that looks; None for the packaged one, in torch.

    Raises:
        ImageError: it is one of the two; the verbs for fields are named.
    """
    if min(rgb.shape[:2]) < LEAST_SIDE or is_cut_out(rgb[::4, ::4]):
        return
    finder = finder or packaged_finder()
    for side in SIDES:
        seen = _seen(rgb, side, finder)
        if seen.field if side == SIDES[0] else (seen.many_reds or seen.framed):
            what = f"this is a field{_with_whites(rgb, seen, finder)}, not the picture of one cell"
            raise ImageError(what, where=where, mend=MEND)
        if side == SIDES[0] and seen.aside:
            raise ImageError(
                "the white cell of this picture lies outside its middle, which alone is looked at",
                where=where,
                mend=f"crop it around the cell; or {MEND}",
            )
        if seen.crop or min(rgb.shape[:2]) <= side:
            return


def _seen(rgb: Bytes, side: int, finder: Finder) -> _Seen:
    even = lit(glimpse(rgb, side))
    heat, shapes = looked(finder, even, mirrored=False)
    shorter = min(even.shape[:2])
    centre = np.array([even.shape[1], even.shape[0]]) / 2
    sizes: dict[str, list[tuple[float, float]]] = {}
    middle = False
    for kind in ("white cell", "red cell", "platelet", "smudge"):
        plane = heat[CHANNELS.index(kind)]
        rows, columns = peaks(plane, WHITE_SEEN if kind == "white cell" else SEEN)
        dx, dy, wide, high = shapes[:, rows, columns]
        away = np.hypot((columns + dx) * STRIDE - centre[0], (rows + dy) * STRIDE - centre[1])
        middle |= kind != "red cell" and bool((away <= MIDDLE * shorter).any())
        size = STRIDE * np.exp((wide + high) / 2) / shorter
        found = zip(plane[rows, columns].tolist(), size.tolist(), strict=True)
        sizes[kind] = sorted(found, reverse=True)
    whites = sizes["white cell"]
    return _Seen(
        oblong=max(even.shape[:2]) / shorter,
        whites=tuple(size for _, size in whites),
        reds=tuple(size for _, size in sizes["red cell"]),
        sure=bool(whites) and whites[0][0] >= SURE,
        middle=middle,
        pixels=side,
    )


def _with_whites(rgb: Bytes, seen: _Seen, finder: Finder) -> str:
    """How many white cells are in view, told where red cells are as large as the finder knows."""

    def strange(one: _Seen) -> float:
        return abs(float(np.log(max(one.red * one.pixels, 1.0) / RED_PIXELS)))

    looks = [seen, *(_seen(rgb, side, finder) for side in SIDES if side != seen.pixels)]
    known = [one for one in looks if len(one.reds) >= FEW]
    many = len(min(known, key=strange).whites) if known else 0
    return f" with {many} white cell{'s' * (many != 1)} in view" if many else ""
