"""The canvas of a drawn smear: how much of each stain lies on each pixel, and shapes to lay on it.

Nothing here is a photograph. A canvas holds the amounts of five stain components; light through
the sum is computed once, when the camera looks (Beer-Lambert law), so cells that overlap darken
each other as they do in a smear. Lengths are micrometres, angles radians. Outlines are signed
distances (positive inside) of circles whose radius carries a low-frequency Fourier series;
chromatin and granules are smooth noise on several scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bytes, Singles

__all__ = [
    "BLUE",
    "EOSIN",
    "NUCLEAR",
    "PINK",
    "RED",
    "STAINS",
    "TURN",
    "Canvas",
    "Rng",
    "Spot",
    "Window",
    "cover",
    "notched",
    "outline",
    "scattered",
    "smooth_noise",
    "step",
]

Rng = np.random.Generator
Spot = tuple[float, float, float]
"""x, y and radius in micrometres."""

RED, NUCLEAR, BLUE, PINK, EOSIN = range(5)
"""Stain components: haemoglobin, nuclear violet, basophilic cytoplasm, pale plasma with its dust,
eosin of acidophilic granules."""
STAINS = 5

ANGLES = 1024
TURN: Singles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)
ORDERS: Singles = np.arange(2, 8, dtype=np.float32)
COSINES: Singles = np.cos(ORDERS[:, None] * TURN)
SINES: Singles = np.sin(ORDERS[:, None] * TURN)
SOFT = 0.16  # width of a cell's edge in micrometres: the optics do not resolve less


class Canvas:
    """Amounts of the stain components on a field.

    Attributes:
        stains: (5, h, w) float32, >= 0, in units of a typical layer.
        extent: (h, w) uint8: 0 outside of white cells, 1 cytoplasm, 2 nucleus.
        scale: pixels per micrometre. width, height: of the field, in micrometres.
    """

    def __init__(self, shape: tuple[int, int], scale: float) -> None:
        self.stains: Singles = np.empty((STAINS, *shape), np.float32)
        self.extent: Bytes = np.empty(shape, np.uint8)
        self._light: Singles = np.empty((3, *shape), np.float32)
        self.clear(scale)

    def clear(self, scale: float) -> None:
        """Empty the canvas for another picture; new memory per picture would cost more time."""
        self.scale = scale
        self.height, self.width = (n / scale for n in self.extent.shape)
        self.stains.fill(0)
        self.extent.fill(0)

    def transmitted(self, absorbance: Singles) -> Singles:
        """(3, h, w) share of the light in R, G, B that passes; valid until the next call.

        `absorbance` (5, 3) is the optical density of each stain component in each channel.
        """
        for light, density in zip(self._light, absorbance.T.tolist(), strict=True):
            cv2.addWeighted(self.stains[0], -density[0], self.stains[1], -density[1], 0, light)
            for stain, amount in zip(self.stains[2:], density[2:], strict=True):
                cv2.scaleAdd(stain, -amount, light, light)
        return np.exp(self._light, out=self._light)

    def window(self, x: float, y: float, reach: float) -> Window | None:
        """The part of the field within `reach` of (x, y); None where it lies outside."""
        height, width = self.extent.shape
        left, top = (max(0, int((c - reach) * self.scale)) for c in (x, y))
        right = min(width, int((x + reach) * self.scale) + 2)
        bottom = min(height, int((y + reach) * self.scale) + 2)
        if right <= left or bottom <= top:
            return None
        across = ((np.arange(left, right) + 0.5) / self.scale - x).astype(np.float32)
        down = ((np.arange(top, bottom) + 0.5) / self.scale - y).astype(np.float32)
        dx, dy = np.meshgrid(across, down)
        return Window(slice(top, bottom), slice(left, right), dx, dy, self.scale)


@dataclass(frozen=True)
class Window:
    """A rectangle of a canvas: coordinates (h, w) in micrometres from an element's centre."""

    rows: slice
    columns: slice
    dx: Singles
    dy: Singles
    scale: float

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns: the index of this window in a plane of the canvas."""
        return self.rows, self.columns

    def distance(self, x: float, y: float) -> Singles:
        """Distance (h, w) from (x, y)."""
        return np.asarray(cv2.magnitude(self.dx - np.float32(x), self.dy - np.float32(y)))

    def polar(self, x: float, y: float, radii: Singles) -> tuple[Singles, Singles]:
        """Distance from (x, y), and the radius of an outline around it in that direction."""
        turn = cv2.phase(self.dx - np.float32(x), self.dy - np.float32(y))
        index = (turn * np.float32(ANGLES / (2 * np.pi))).astype(np.int32)
        return self.distance(x, y), radii.take(index, mode="clip")

    def noise(self, rng: Rng, grain: float) -> Singles:
        """Smooth noise (h, w) of mean 0 and standard deviation about 1; `grain` in micrometres."""
        height, width = self.dx.shape
        half = smooth_noise(rng, ((height + 1) // 2, (width + 1) // 2), grain * self.scale / 2)
        return np.asarray(cv2.resize(half, (width, height)), np.float32)

    def spots(self, spots: tuple[Spot, ...], edge: float = 0.45) -> Singles:
        """Share (h, w) of each pixel that round spots cover; `edge` is relative softness."""
        total = np.zeros(self.dx.shape, np.float32)
        for x, y, radius in spots:
            np.maximum(total, cover(radius - self.distance(x, y), edge * radius), out=total)
        return total

    def dots(self, rng: Rng, spacing: float, radius: float, share: float = 1.0) -> Singles:
        """Share (h, w) covered by many small granules, one per square of side `spacing`.

        `share` of the squares hold one, at a random place; radii vary by a third.
        """
        left, top = float(self.dx[0, 0]), float(self.dy[0, 0])
        across = np.arange(left, float(self.dx[0, -1]), spacing)
        down = np.arange(top, float(self.dy[-1, 0]), spacing)
        xy = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        xy = xy + rng.uniform(0, spacing, xy.shape)
        radii = radius * rng.uniform(0.65, 1.3, len(xy))
        keep = rng.random(len(xy)) < share
        # OpenCV draws at whole and sixteenth pixels: the four last bits of a coordinate
        pixel = np.rint(((xy - (left, top)) * self.scale) * 16).astype(int)
        sizes = np.rint(np.maximum(radii * self.scale, 0.6) * 16).astype(int)
        plane = np.zeros(self.dx.shape, np.uint8)
        for centre, size in zip(pixel[keep].tolist(), sizes[keep].tolist(), strict=True):
            cv2.circle(plane, centre, size, 255, -1, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(plane, (0, 0), max(0.3 * radius * self.scale, 0.4))
        return np.asarray(soft, np.float32) / np.float32(255)


def smooth_noise(rng: Rng, shape: tuple[int, ...], grain: float) -> Singles:
    """Smooth noise (h, w) of mean 0 and standard deviation about 1; `grain` in pixels."""
    height, width = shape
    grain = max(grain, 1.0)
    coarse = rng.standard_normal((int(height / grain) + 2, int(width / grain) + 2), np.float32)
    span = (int(coarse.shape[1] * grain) + 1, int(coarse.shape[0] * grain) + 1)
    fine = cv2.resize(coarse, span, interpolation=cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, size + 1)) for size in np.subtract(fine.shape, shape))
    return np.asarray(fine[top : top + height, left : left + width] * np.float32(1.4), np.float32)


def outline(rng: Rng, radius: float, wobble: float, ovality: float) -> Singles:
    """Radii (1024,) by angle; `wobble` and `ovality` are relative sizes of the irregularity."""
    size = rng.standard_normal(len(ORDERS)) * wobble / ORDERS**0.8
    size[0] += ovality
    phase = rng.uniform(0, 2 * np.pi, len(ORDERS))
    wave = (size * np.cos(phase)) @ COSINES - (size * np.sin(phase)) @ SINES
    return np.asarray(radius * (1 + wave), np.float32)


def notched(radii: Singles, at: float, depth: float, width: float) -> Singles:
    """An outline with an indentation of relative `depth` at angle `at`; a bulge where negative."""
    away = np.angle(np.exp(1j * (TURN - at))) / width
    return np.asarray(radii * (1 - depth * np.exp(-0.5 * away**2)), np.float32)


def cover(distance: Singles, soft: float = SOFT) -> Singles:
    """Share of a pixel inside, from signed distances in micrometres."""
    return np.asarray(np.clip(distance / np.float32(soft) + np.float32(0.5), 0, 1), np.float32)


def step(values: Singles, low: float, high: float) -> Singles:
    """Smooth rise from 0 at `low` to 1 at `high`."""
    t = (values - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def scattered(rng: Rng, count: int, reach: float, radius: tuple[float, float]) -> tuple[Spot, ...]:
    """`count` spots spread evenly over a disc of radius `reach`, their radii within `radius`."""
    turn, rho = rng.uniform(0, 2 * np.pi, count), reach * np.sqrt(rng.random(count))
    spots = np.stack([rho * np.cos(turn), rho * np.sin(turn), rng.uniform(*radius, count)], 1)
    return tuple((float(x), float(y), float(r)) for x, y, r in spots)
