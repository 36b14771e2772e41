"""What lies on a smear: red cells, platelets and white cells, each painted on a canvas."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Singles
from cellkin.drawing.canvas import (
    BLUE,
    EOSIN,
    NUCLEAR,
    PINK,
    RED,
    TURN,
    Canvas,
    Rng,
    Spot,
    Window,
    cover,
    outline,
    step,
)

Part = tuple[float, float, Singles]
"""x, y in micrometres and an outline around it."""


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
    shift = rng.normal(0, 0.05 * radius, 2)
    rho, edge = window.polar(0.0, 0.0, radii)
    hollow = window.distance(float(shift[0]), float(shift[1])) / edge
    width, ramp = rng.uniform(0.36, 0.56), rng.uniform(0.1, 0.24)
    dip = 1 - step(hollow, width - ramp, width + ramp)
    thickness = 0.74 + 0.3 * np.square(rho / edge) - np.float32(pallor) * dip
    layer = cover(edge - rho, 0.22) * np.maximum(thickness, 0.08) * np.float32(rng.normal(1, 0.07))
    below = canvas.stains[RED, window.rows, window.columns]
    # Discs yield where they touch: two layers absorb less than twice as much as one.
    below += layer - np.float32(0.6) * np.minimum(below, layer)


def paint_platelet(
    canvas: Canvas, centre: tuple[float, float], radius: float, rng: Rng, *, marked: bool = False
) -> None:
    """A granular violet fragment: pale blue margin, granules gathered in the middle.

    `marked` notes its extent as cytoplasm: it is the subject of the picture.
    """
    window = canvas.window(*centre, radius * 1.7 + 0.3)
    if window is None:
        return
    rho, edge = window.polar(0.0, 0.0, outline(rng, radius, 0.13, 0.08))
    body = edge - rho + np.float32(0.09 * radius) * window.noise(rng, 0.45)
    inside, middle = cover(body, 0.35), step(body, 0.0, 0.6 * radius)
    grains = step(window.noise(rng, 0.36), -0.9, 1.1)
    canvas.stains[NUCLEAR][window.place] += inside * (0.1 + (0.1 + 0.42 * middle) * grains)
    canvas.stains[BLUE][window.place] += inside * np.float32(0.42)
    if marked:
        np.maximum(canvas.extent[window.place], body > 0, out=canvas.extent[window.place])


@dataclass(frozen=True)
class Chromatin:
    """How a nucleus is filled.

    Attributes:
        strength: mean amount of nuclear stain. clumps, fine: amplitude of coarse and fine texture.
        grain: size of the coarse texture in micrometres. nucleoli: pale spots.
    """

    strength: float
    clumps: float
    fine: float
    grain: float
    nucleoli: tuple[Spot, ...] = ()


@dataclass(frozen=True)
class Granules:
    """Round granules in a cell body.

    Attributes:
        stain: component they take up. amount: of it, per granule.
        radius, spacing: in micrometres. share: of the places that hold one, 0 to 1.
        over_nucleus: whether they also lie on the nucleus.
    """

    stain: int
    amount: float
    radius: float
    spacing: float
    share: float = 1.0
    over_nucleus: bool = False


@dataclass(frozen=True)
class Cytoplasm:
    """How a cell body is filled.

    Attributes:
        blue, pink, red, eosin: amounts of stain. dust: amount of fine pale granules.
        vacuoles: clear spots. granules: larger ones.
    """

    blue: float
    pink: float
    dust: float = 0.0
    vacuoles: tuple[Spot, ...] = ()
    granules: tuple[Granules, ...] = ()
    red: float = 0.0
    eosin: float = 0.0


@dataclass(frozen=True)
class WhiteCell:
    """A white cell before it is painted; positions relative to its centre, in micrometres.

    Attributes:
        radii: (1024,) outline of the cell. lobes: parts of the nucleus.
        links: (x0, y0, x1, y1, half width) of the filaments between lobes.
        ruffle: unevenness of the cell's margin, in micrometres.
    """

    radii: Singles
    lobes: tuple[Part, ...]
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
    inside, core = cover(body), cover(nucleus)
    stains = {name: canvas.stains[name][window.place] for name in (RED, NUCLEAR, BLUE, PINK, EOSIN)}
    stains[RED] *= 1 - cover(body + np.float32(0.15), 0.35)
    clear = 1 - window.spots(cell.cytoplasm.vacuoles) * np.float32(0.85)
    around = (inside - core) * clear
    filled = _fill_cytoplasm(cell.cytoplasm, 1 + np.float32(0.1) * (fine + large), body, nucleus)
    if cell.cytoplasm.dust:
        filled[PINK] += np.float32(cell.cytoplasm.dust) * step(window.noise(rng, 0.27), 0.7, 2.0)
    for name, amount in filled.items():
        stains[name] += around * amount
    violet, pale = _fill_nucleus(window, cell.chromatin, nucleus, (fine, large, rng))
    stains[NUCLEAR] += core * violet * np.sqrt(clear)
    stains[BLUE] += core * pale * clear
    for granules in cell.cytoplasm.granules:
        dots = window.dots(rng, granules.spacing, granules.radius, granules.share)
        room = inside if granules.over_nucleus else around
        stains[granules.stain] += room * dots * np.float32(granules.amount)
    marks = (body > 0).astype(np.uint8) + (nucleus > 0)
    np.maximum(canvas.extent[window.place], marks, out=canvas.extent[window.place])


def _nucleus_distance(window: Window, cell: WhiteCell) -> Singles:
    total = np.full(window.dx.shape, -9.0, np.float32)
    for x, y, radii in cell.lobes:
        rho, edge = window.polar(x, y, radii)
        total = np.maximum(total, edge - rho)
    for x0, y0, x1, y1, half in cell.links:
        dx, dy, ax, ay = window.dx - np.float32(x0), window.dy - np.float32(y0), x1 - x0, y1 - y0
        t = np.clip((dx * ax + dy * ay) / (ax * ax + ay * ay + 1e-6), 0, 1)
        far = cv2.magnitude(
            np.asarray(dx - t * ax, np.float32), np.asarray(dy - t * ay, np.float32)
        )
        total = np.maximum(total, np.float32(half) - far)
    return total


def _fill_cytoplasm(
    cytoplasm: Cytoplasm, cloud: Singles, body: Singles, nucleus: Singles
) -> dict[int, Singles]:
    """Amounts of stain; blue is deeper at the margin and paler beside the nucleus."""
    margin, halo = 1 - step(body, 0.1, 0.7), step(nucleus, -0.8, -0.05)
    shade = 0.95 + 0.22 * margin - 0.2 * halo
    filled = {
        BLUE: np.float32(cytoplasm.blue) * cloud * shade,
        PINK: np.float32(cytoplasm.pink) * cloud,
    }
    if cytoplasm.red:
        filled[RED] = np.float32(cytoplasm.red) * cloud
    if cytoplasm.eosin:
        filled[EOSIN] = np.float32(cytoplasm.eosin) * cloud
    return {name: np.maximum(amount, 0) for name, amount in filled.items()}


def _fill_nucleus(
    window: Window, chromatin: Chromatin, nucleus: Singles, noises: tuple[Singles, Singles, Rng]
) -> tuple[Singles, Singles]:
    """Amounts of nuclear stain and of the blue that shows through nucleoli."""
    fine, large, rng = noises
    blocks = window.noise(rng, chromatin.grain) + np.float32(0.6) * fine
    clumps = step(blocks, -2.0, 0.6) - np.float32(0.6)
    texture = 1 + np.float32(chromatin.clumps) * clumps
    texture += np.float32(chromatin.fine) * fine + np.float32(0.07) * large
    texture += np.float32(0.13) * (1 - step(nucleus, 0.05, 0.5))  # the nuclear membrane
    if not chromatin.nucleoli:
        return np.maximum(np.float32(chromatin.strength) * texture, 0.1), np.zeros_like(texture)
    spots = window.spots(chromatin.nucleoli)
    rims = window.spots(tuple((x, y, 1.5 * r) for x, y, r in chromatin.nucleoli))
    violet = np.float32(chromatin.strength) * texture * (1 + 0.1 * rims - 0.48 * spots)
    return np.maximum(violet, 0.1), np.float32(0.3) * spots
