"""Heatmaps on images: one scale for a whole row, zero always neutral, the cell always visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from cellkin.core.arrays import Array

SIDE = 448  # pixels of a drawn image, twice the 224 it is shown at, for dense screens
EMPTY = "empty: nothing supports this class here"
EMPTY_PAIR = "empty: nothing is alike or unlike here"
UNDEFINED = "not drawn: the map holds values that are no numbers"
STRONGEST = 0.48  # opacity of the strongest value: the cell shows through everywhere
CONTOURS = (0.25, 0.5, 0.75)
LIGHT, DARK = np.float32(255.0), np.float32(20.0)
FAINT = 0.25  # of the opacity of a map, outside the cell


@dataclass(frozen=True)
class Scale:
    """The values that the ends of the colours stand for, shared by all maps of a row.

    Attributes:
        limit: largest finite |value| of the row; 0.0 where every map is empty.
        signed: diverging colours from -limit to limit, zero in the middle; otherwise from 0.
    """

    limit: float
    signed: bool

    @property
    def low(self) -> float:
        return -self.limit if self.signed else 0.0

    def ticks(self) -> tuple[float, ...]:
        """Values to print along the colour bar, low to high."""
        return tuple(np.linspace(self.low, self.limit, 5 if self.signed else 3).tolist())

    def colors(self, values: Array) -> tuple[Array, Array]:
        """RGB in [0, 255] (..., 3) and opacity in [0, STRONGEST]; both depend on the value only."""
        from matplotlib import colormaps  # takes long to import

        share = values / self.limit if self.limit else np.zeros_like(values)
        share = np.clip(share, -1.0 if self.signed else 0.0, 1.0)
        name, place = ("RdBu_r", (share + 1) / 2) if self.signed else ("viridis", share)
        shades = colormaps[name](np.arange(256))[:, :3].astype(np.float32) * 255
        rgb = shades[np.minimum((place * 256).astype(np.intp), 255)]
        return rgb, STRONGEST * np.abs(share) ** 0.7


def shared_scale(maps: Sequence[Array], *, signed: bool = False) -> Scale:
    """The scale of a row of maps; a negative value anywhere makes it a signed one."""
    finite = [np.asarray(m, np.float64)[np.isfinite(m)] for m in maps]
    values = np.concatenate([np.zeros(1), *finite])
    return Scale(float(np.abs(values).max()), signed or bool((values < 0).any()))


def peak(values: Array) -> float:
    """The value farthest from zero, with its sign."""
    flat = np.asarray(values, np.float64).ravel()
    return float(flat[np.abs(flat).argmax()])


def status(values: Array, *, pair: bool = False) -> str:
    """Why a map has nothing to show, or an empty string."""
    if not np.isfinite(values).all():
        return UNDEFINED
    return "" if np.any(values) else (EMPTY_PAIR if pair else EMPTY)


def resized(image: Array, side: int = SIDE) -> Array:
    """A uint8 RGB image (S, S, 3) at `side` pixels, smoothly, for display."""
    if image.shape[:2] == (side, side):
        return np.asarray(image)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def overlay(
    image: Array, values: Array, scale: Scale, side: int = SIDE, outline: Array | None = None
) -> Array:
    """An image with a heatmap over it.

    Args:
        image: (S, S, 3) uint8. values: (h, w), raw. scale: that of the whole row.
        outline: (S, S) bool, where the cell lies: outside of it the map is faint.

    Returns:
        (side, side, 3) uint8. Colour fades in with |value|; lines at a quarter, half and three
        quarters of the scale, dashed where the value is negative. Of an empty map: the image.
    """
    drawn = resized(image, side).astype(np.float32)
    inside = None if outline is None else _softened(outline, side)
    if scale.limit and not status(values):
        shown = np.float32(1.0) if inside is None else FAINT + (1 - FAINT) * inside
        smooth = _smooth(values, side)
        rgb, opacity = scale.colors(smooth)
        _blend(drawn, rgb, opacity * shown)
        ink, halo = _lines(smooth, scale)
        _blend(drawn, LIGHT, 0.55 * halo * shown)
        _blend(drawn, DARK, 0.8 * ink * shown)
    if inside is not None:
        _outline(drawn, inside)
    return np.rint(drawn).astype(np.uint8)


def _outline(drawn: Array, inside: Array) -> None:
    """Draw the edge of the cell: a light line between dark ones, unlike any line of a map."""
    slope = np.maximum(np.hypot(*np.gradient(inside)), np.float32(1e-3))
    pixels = np.abs(inside - 0.5) / slope
    _blend(drawn, DARK, 0.75 * np.clip(3.2 - pixels, 0, 1))
    _blend(drawn, LIGHT, np.clip(2.0 - pixels, 0, 1))


def _softened(outline: Array, side: int) -> Array:
    """A mask (S, S) at (side, side), in [0, 1], without its steps."""
    picture = Image.fromarray((outline * np.uint8(255)).astype(np.uint8))
    large = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large.filter(ImageFilter.GaussianBlur(side / 120)), np.float32) / 255


def _smooth(values: Array, side: int) -> Array:
    """Bicubic, held inside the map's own range: interpolation must not invent a new extreme."""
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    large = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    return np.asarray(np.clip(large, np.float32(values.min()), np.float32(values.max())))


def _blend(under: Array, over: Array | np.float32, opacity: Array) -> None:
    """Lay a colour (H, W, 3), or one grey, over `under` (H, W, 3) in place."""
    step = over - under
    step *= opacity[..., None]
    under += step


def _lines(values: Array, scale: Scale) -> tuple[Array, Array]:
    """Contour lines as opacities in [0, 1]: the ink and the light rim around it, each (H, W)."""
    along_y, along_x = np.gradient(values)
    slope = np.maximum(np.hypot(along_x, along_y), values.dtype.type(1e-9 * scale.limit))
    rows, columns = np.indices(values.shape) // 7
    dashes = (rows + columns) % 2 == 0
    ink, halo = np.zeros_like(values), np.zeros_like(values)
    for share in (*CONTOURS, *(-c for c in CONTOURS if scale.signed)):
        pixels = np.abs(values - share * scale.limit) / slope
        if share < 0:
            pixels[~dashes] = np.inf
        ink = np.maximum(ink, np.clip(1.4 - pixels, 0, 1))
        halo = np.maximum(halo, np.clip(3.0 - pixels, 0, 1))
    return ink, halo


def color_bar(scale: Scale, width: int = 256, height: int = 16) -> Array:
    """(height, width, 3) uint8: the colours from low to high as they lie on a light background."""
    values = np.tile(np.linspace(scale.low, scale.limit, width), (height, 1))
    rgb, opacity = scale.colors(values)
    drawn = np.full((height, width, 3), 245.0)
    _blend(drawn, rgb, opacity)
    return np.asarray(np.rint(drawn), np.uint8)
