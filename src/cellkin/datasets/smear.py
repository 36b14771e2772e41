"""Single elements of a drawn blood smear: red cells, platelets and white cells on a canvas.

Nothing here is a photograph. A canvas holds how much of four stain components lies on each pixel;
light through the sum is computed once, when the camera looks (Beer-Lambert law), so cells that
overlap darken each other as they do in a smear. Lengths are micrometres, angles radians. Outlines
are signed distances (positive inside) of circles whose radius carries a low-frequency Fourier
series; chromatin and granules are smooth noise on several scales.

A new kind of white cell is one function in `WHITE_CELLS` that returns a `WhiteCell`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "WHITE_CELLS",
    "Canvas",
    "WhiteCell",
    "paint_platelet",
    "paint_red_cell",
    "paint_white_cell",
    "smooth_noise",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

RED, NUCLEAR, BLUE, PINK = range(4)
"""Stain components: haemoglobin, nuclear violet, basophilic cytoplasm, granules and pale plasma."""

ANGLES = 1024
TURN: Floats = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)
ORDERS: Floats = np.arange(2, 8, dtype=np.float32)
COSINES: Floats = np.cos(ORDERS[:, None] * TURN)
SINES: Floats = np.sin(ORDERS[:, None] * TURN)
SOFT = 0.16  # width of a cell's edge in micrometres: the optics do not resolve less


class Canvas:
    """Amounts of the four stain components on a square field.

    Attributes:
        stains: (4, n, n) float32, >= 0, in units of a typical layer.
        extent: (n, n) uint8: 0 outside the white cell, 1 its cytoplasm, 2 its nucleus.
        scale: pixels per micrometre.
        width: of the field, in micrometres.
    """

    def __init__(self, pixels: int, width: float) -> None:
        self.stains: Floats = np.empty((4, pixels, pixels), np.float32)
        self.extent: Bytes = np.empty((pixels, pixels), np.uint8)
        self._light: Floats = np.empty((3, pixels, pixels), np.float32)
        self.clear(width)

    def clear(self, width: float) -> None:
        """Empty the canvas for another picture; new memory per picture would cost more time."""
        self.width = width
        self.scale = self.extent.shape[0] / width
        self.stains.fill(0)
        self.extent.fill(0)

    def transmitted(self, absorbance: Floats) -> Floats:
        """(3, n, n) share of the light in R, G, B that passes; valid until the next call.

        `absorbance` (4, 3) is the optical density of each stain component in each channel.
        """
        for light, density in zip(self._light, absorbance.T.tolist(), strict=True):
            cv2.addWeighted(self.stains[0], -density[0], self.stains[1], -density[1], 0, light)
            cv2.scaleAdd(self.stains[2], -density[2], light, light)
            cv2.scaleAdd(self.stains[3], -density[3], light, light)
        return np.exp(self._light, out=self._light)

    def window(self, x: float, y: float, reach: float) -> Window | None:
        """The part of the field within `reach` of (x, y); None where it lies outside."""
        n = self.extent.shape[0]
        left, top = (max(0, int((c - reach) * self.scale)) for c in (x, y))
        right, bottom = (min(n, int((c + reach) * self.scale) + 2) for c in (x, y))
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
    dx: Floats
    dy: Floats
    scale: float

    def distance(self, x: float, y: float) -> Floats:
        """Distance (h, w) from (x, y)."""
        return np.asarray(cv2.magnitude(self.dx - np.float32(x), self.dy - np.float32(y)))

    def polar(self, x: float, y: float, radii: Floats) -> tuple[Floats, Floats]:
        """Distance from (x, y), and the radius of an outline around it in that direction."""
        turn = cv2.phase(self.dx - np.float32(x), self.dy - np.float32(y))
        index = (turn * np.float32(ANGLES / (2 * np.pi))).astype(np.int32)
        return self.distance(x, y), radii.take(index, mode="clip")

    def noise(self, rng: Rng, grain: float) -> Floats:
        """Smooth noise (h, w) of mean 0 and standard deviation about 1; `grain` in micrometres."""
        height, width = self.dx.shape
        half = smooth_noise(rng, ((height + 1) // 2, (width + 1) // 2), grain * self.scale / 2)
        return np.asarray(cv2.resize(half, (width, height)), np.float32)


def smooth_noise(rng: Rng, shape: tuple[int, ...], grain: float) -> Floats:
    """Smooth noise (h, w) of mean 0 and standard deviation about 1; `grain` in pixels."""
    height, width = shape
    grain = max(grain, 1.0)
    coarse = rng.standard_normal((int(height / grain) + 2, int(width / grain) + 2), np.float32)
    span = (int(coarse.shape[1] * grain) + 1, int(coarse.shape[0] * grain) + 1)
    fine = cv2.resize(coarse, span, interpolation=cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, size + 1)) for size in np.subtract(fine.shape, shape))
    return np.asarray(fine[top : top + height, left : left + width] * np.float32(1.4), np.float32)


def outline(rng: Rng, radius: float, wobble: float, ovality: float) -> Floats:
    """Radii (1024,) by angle; `wobble` and `ovality` are relative sizes of the irregularity."""
    size = rng.standard_normal(len(ORDERS)) * wobble / ORDERS**0.8
    size[0] += ovality
    phase = rng.uniform(0, 2 * np.pi, len(ORDERS))
    wave = (size * np.cos(phase)) @ COSINES - (size * np.sin(phase)) @ SINES
    return np.asarray(radius * (1 + wave), np.float32)


def notched(radii: Floats, at: float, depth: float, width: float) -> Floats:
    """An outline with an indentation of relative `depth` at angle `at`."""
    away = np.angle(np.exp(1j * (TURN - at))) / width
    return np.asarray(radii * (1 - depth * np.exp(-0.5 * away**2)), np.float32)


def cover(distance: Floats, soft: float = SOFT) -> Floats:
    """Share of a pixel inside, from signed distances in micrometres."""
    return np.asarray(np.clip(distance / np.float32(soft) + np.float32(0.5), 0, 1), np.float32)


def step(values: Floats, low: float, high: float) -> Floats:
    """Smooth rise from 0 at `low` to 1 at `high`."""
    t = (values - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def paint_red_cell(
    canvas: Canvas, centre: tuple[float, float], radius: float, pallor: float, rng: Rng
) -> None:
    """A biconcave disc: dense ring, paler centre (`pallor` 0 to 1), soft slightly oval edge."""
    radii = outline(rng, radius, 0.018 + 0.035 * rng.random() ** 3, abs(rng.normal(0, 0.035)))
    if rng.random() < 0.02:  # crenated, as red cells dry
        radii = radii * (1 + np.float32(0.045) * np.cos(np.float32(rng.integers(10, 15)) * TURN))
    window = canvas.window(*centre, float(radii.max()) + 0.3)
    if window is None:
        return
    shift = rng.normal(0, 0.04 * radius, 2)
    rho, edge = window.polar(0.0, 0.0, radii)
    hollow = window.distance(float(shift[0]), float(shift[1])) / edge
    width, ramp = rng.uniform(0.32, 0.52), rng.uniform(0.16, 0.3)
    dip = 1 - step(hollow, width - ramp, width + ramp)
    thickness = 0.74 + 0.3 * np.square(rho / edge) - np.float32(pallor) * dip
    layer = cover(edge - rho, 0.22) * np.maximum(thickness, 0.08) * np.float32(rng.normal(1, 0.07))
    below = canvas.stains[RED, window.rows, window.columns]
    # Discs yield where they touch: two layers absorb less than twice as much as one.
    below += layer - np.float32(0.6) * np.minimum(below, layer)


def paint_platelet(canvas: Canvas, centre: tuple[float, float], rng: Rng) -> None:
    """A small granular violet fragment, 2 to 3 micrometres across."""
    radius = rng.uniform(0.8, 1.5)
    window = canvas.window(*centre, radius * 1.6)
    if window is None:
        return
    rho, edge = window.polar(0.0, 0.0, outline(rng, radius, 0.12, 0.1))
    inside, grains = cover(edge - rho, 0.35), step(window.noise(rng, 0.32), -0.4, 1.2)
    canvas.stains[NUCLEAR, window.rows, window.columns] += inside * (0.1 + 0.35 * grains)
    canvas.stains[BLUE, window.rows, window.columns] += inside * np.float32(0.3)


@dataclass(frozen=True)
class Chromatin:
    """How a nucleus is filled.

    Attributes:
        strength: mean amount of nuclear stain. clumps, fine: amplitude of coarse and fine texture.
        grain: size of the coarse texture in micrometres. nucleoli: (x, y, radius) of pale spots.
    """

    strength: float
    clumps: float
    fine: float
    grain: float
    nucleoli: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Cytoplasm:
    """How a cell body is filled.

    Attributes:
        blue, pink: amounts of basophilic and pale stain. granules: amount of fine granules.
        vacuoles: (x, y, radius) of clear spots.
    """

    blue: float
    pink: float
    granules: float = 0.0
    vacuoles: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class WhiteCell:
    """A white cell before it is painted; positions relative to its centre, in micrometres.

    Attributes:
        radii: (1024,) outline of the cell. lobes: (x, y, radii) of the nucleus's parts.
        links: (x0, y0, x1, y1, half width) of the filaments between lobes.
        ruffle: unevenness of the cell's margin, in micrometres.
    """

    radii: Floats
    lobes: tuple[tuple[float, float, Floats], ...]
    links: tuple[tuple[float, float, float, float, float], ...]
    chromatin: Chromatin
    cytoplasm: Cytoplasm
    ruffle: float = 0.03


def paint_white_cell(canvas: Canvas, at: tuple[float, float], cell: WhiteCell, rng: Rng) -> None:
    """Lay a white cell over what is there and note the exact extent of its body and nucleus."""
    window = canvas.window(*at, float(cell.radii.max()) + 0.6)
    if window is None:
        return
    rho, edge = window.polar(0.0, 0.0, cell.radii)
    fine, large = window.noise(rng, 0.32), window.noise(rng, 2.4)
    body = edge - rho + window.noise(rng, 0.75) * np.float32(cell.ruffle)
    nucleus = np.minimum(_nucleus_distance(window, cell), body - np.float32(0.12))
    place = (window.rows, window.columns)
    inside, core = cover(body), cover(nucleus)
    canvas.stains[RED][place] *= 1 - cover(body + np.float32(0.15), 0.35)
    cloud = 1 + np.float32(0.1) * (fine + large)
    blue, pink = _fill_cytoplasm(cell.cytoplasm, cloud, body, nucleus)
    if cell.cytoplasm.granules:
        pink += np.float32(cell.cytoplasm.granules) * step(window.noise(rng, 0.27), 0.7, 2.0)
    grains = np.float32(cell.chromatin.fine) * fine + np.float32(0.07) * large
    blocks = window.noise(rng, cell.chromatin.grain) + np.float32(0.6) * fine
    violet, pale = _fill_nucleus(window, cell.chromatin, nucleus, (blocks, grains))
    clear = 1 - _spots(window, cell.cytoplasm.vacuoles) * np.float32(0.85)
    canvas.stains[NUCLEAR][place] += core * violet * np.sqrt(clear)
    canvas.stains[BLUE][place] += ((inside - core) * blue + core * pale) * clear
    canvas.stains[PINK][place] += (inside - core) * pink * clear
    canvas.extent[place] = (body > 0).astype(np.uint8) + (nucleus > 0)


def _nucleus_distance(window: Window, cell: WhiteCell) -> Floats:
    total = np.full(window.dx.shape, -9.0, np.float32)
    for x, y, radii in cell.lobes:
        rho, edge = window.polar(x, y, radii)
        total = np.maximum(total, edge - rho)
    for x0, y0, x1, y1, half in cell.links:
        dx, dy, ax, ay = window.dx - np.float32(x0), window.dy - np.float32(y0), x1 - x0, y1 - y0
        t = np.clip((dx * ax + dy * ay) / (ax * ax + ay * ay + 1e-6), 0, 1)
        total = np.maximum(total, np.float32(half) - np.hypot(dx - t * ax, dy - t * ay))
    return total


def _spots(window: Window, spots: tuple[tuple[float, float, float], ...]) -> Floats:
    total = np.zeros(window.dx.shape, np.float32)
    for x, y, radius in spots:
        total = np.maximum(total, cover(radius - window.distance(x, y), 0.45 * radius))
    return total


def _fill_cytoplasm(
    cytoplasm: Cytoplasm, cloud: Floats, body: Floats, nucleus: Floats
) -> tuple[Floats, Floats]:
    """Amounts of blue (deeper at the margin, paler beside the nucleus) and of pink stain."""
    margin, halo = 1 - step(body, 0.1, 0.7), step(nucleus, -0.8, -0.05)
    blue = np.float32(cytoplasm.blue) * cloud * (0.95 + 0.22 * margin - 0.2 * halo)
    return np.maximum(blue, 0), np.maximum(np.float32(cytoplasm.pink) * cloud, 0)


def _fill_nucleus(
    window: Window, chromatin: Chromatin, nucleus: Floats, noises: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Amounts of nuclear stain and of the blue that shows through nucleoli."""
    blocks, grains = noises
    clumps = step(blocks, -2.0, 0.6) - np.float32(0.6)
    texture = 1 + np.float32(chromatin.clumps) * clumps + grains
    texture += np.float32(0.13) * (1 - step(nucleus, 0.05, 0.5))  # the nuclear membrane
    if not chromatin.nucleoli:
        return np.maximum(np.float32(chromatin.strength) * texture, 0.1), np.zeros_like(texture)
    spots = _spots(window, chromatin.nucleoli)
    rims = _spots(window, tuple((x, y, 1.5 * r) for x, y, r in chromatin.nucleoli))
    violet = np.float32(chromatin.strength) * texture * (1 + 0.1 * rims - 0.48 * spots)
    return np.maximum(violet, 0.1), np.float32(0.3) * spots


def _scatter(
    rng: Rng, count: int, reach: float, radius: tuple[float, float]
) -> tuple[tuple[float, float, float], ...]:
    turn, rho = rng.uniform(0, 2 * np.pi, count), reach * np.sqrt(rng.random(count))
    spots = np.stack([rho * np.cos(turn), rho * np.sin(turn), rng.uniform(*radius, count)], 1)
    return tuple((float(x), float(y), float(r)) for x, y, r in spots)


def _aside(rng: Rng, room: float) -> tuple[float, float]:
    turn, far = rng.uniform(0, 2 * np.pi), room * rng.uniform(0.1, 0.95)
    return float(far * np.cos(turn)), float(far * np.sin(turn))


def lymphocyte(rng: Rng) -> WhiteCell:
    """Mostly small: round dense nucleus, clumped chromatin, rim of pale blue cytoplasm."""
    large = rng.random() < 0.35
    radius = float(np.clip(rng.normal(6.1, 0.55) if large else rng.normal(4.9, 0.5), 3.9, 7.4))
    share = float(np.clip(rng.normal(0.6 if large else 0.7, 0.06), 0.45, 0.82))
    inner = radius * share**0.5
    nucleus = outline(rng, inner, 0.02, abs(rng.normal(0, 0.03)))
    if rng.random() < 0.25:
        nucleus = notched(nucleus, rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.14), 0.45)
    granules = rng.uniform(0.3, 0.9) if large and rng.random() < 0.4 else 0.0
    return WhiteCell(
        radii=outline(rng, radius, 0.02, abs(rng.normal(0, 0.04))),
        lobes=((*_aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.92, 0.08), rng.uniform(0.35, 0.6), 0.05, rng.uniform(0.65, 1.0)
        ),
        cytoplasm=Cytoplasm(rng.uniform(0.4, 0.95), rng.uniform(0.0, 0.25), granules),
        ruffle=0.01 + 0.09 * rng.random() ** 3,
    )


def lymphoblast(rng: Rng) -> WhiteCell:
    """Mostly larger: nucleus nearly fills the cell, fine chromatin, nucleoli, deep blue rim."""
    radius = float(np.clip(rng.normal(6.0, 0.75), 4.5, 7.9))
    share = float(np.clip(rng.normal(0.82, 0.05), 0.68, 0.93))
    inner = radius * share**0.5
    nucleus = outline(rng, inner, 0.04, abs(rng.normal(0, 0.04)))
    if rng.random() < 0.6:
        depth, width = rng.uniform(0.1, 0.34), rng.uniform(0.16, 0.4)
        nucleus = notched(nucleus, rng.uniform(0, 2 * np.pi), depth, width)
    nucleoli = _scatter(rng, int(rng.integers(1, 4)), 0.6 * inner, (0.55, 1.05))
    vacuoles = int(rng.integers(1, 7)) if rng.random() < 0.3 else 0
    return WhiteCell(
        radii=outline(rng, radius, 0.035, abs(rng.normal(0, 0.05))),
        lobes=((*_aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.8, 0.08), rng.uniform(0.1, 0.22), 0.06, rng.uniform(0.4, 0.6), nucleoli
        ),
        cytoplasm=Cytoplasm(
            rng.uniform(0.7, 1.5), 0.0, 0.0, _scatter(rng, vacuoles, 0.9 * radius, (0.22, 0.5))
        ),
        ruffle=0.01 + 0.09 * rng.random() ** 3,
    )


def neutrophil(rng: Rng) -> WhiteCell:
    """Nucleus of two to five lobes on a bow, joined by filaments; pale pink granular body."""
    radius = float(np.clip(rng.normal(6.2, 0.5), 5.0, 7.4))
    count = int(rng.choice([2, 3, 4, 5], p=[0.2, 0.42, 0.28, 0.1]))
    bow = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(2.6, 4.2), count)
    bow += rng.normal(0, 0.1, count)
    reach = radius * rng.uniform(0.42, 0.52) * rng.uniform(0.85, 1.15, count)
    xs, ys = (reach * np.cos(bow)).tolist(), (reach * np.sin(bow)).tolist()
    sizes = radius * rng.uniform(0.85, 1.15, count) * (0.47 - 0.045 * count)
    lobes = tuple(
        (x, y, outline(rng, size, 0.06, rng.uniform(0.03, 0.2)))
        for x, y, size in zip(xs, ys, sizes.tolist(), strict=True)
    )
    links = tuple(
        (xs[i], ys[i], xs[i + 1], ys[i + 1], rng.uniform(0.25, 0.8)) for i in range(count - 1)
    )
    return WhiteCell(
        radii=outline(rng, radius, 0.025, abs(rng.normal(0, 0.04))),
        lobes=lobes,
        links=links,
        chromatin=Chromatin(rng.normal(1.0, 0.08), rng.uniform(0.35, 0.6), 0.05, 0.7),
        cytoplasm=Cytoplasm(rng.uniform(0.0, 0.12), rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.9)),
    )


WHITE_CELLS: Mapping[str, Callable[[Rng], WhiteCell]] = MappingProxyType(
    {"lymphocyte": lymphocyte, "lymphoblast": lymphoblast, "neutrophil": neutrophil}
)
