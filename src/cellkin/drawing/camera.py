"""How a smear is stained, lit and photographed: what belongs to a subject, not to a class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.drawing.canvas import Canvas, Rng, smooth_noise

AREA = cv2.INTER_AREA


@dataclass(frozen=True)
class SubjectStyle:
    """What one person's smear looks like, whatever the cell in the middle is.

    Attributes:
        absorbance: (5, 3) optical density in R, G, B of one layer of each stain component.
        light: (3,) colour of the empty background, in [0, 1].
        uneven: relative fall of the light across the field. tilt: its direction, radians.
        blur: standard deviation of the focus blur in micrometres.
        noise: standard deviation of the camera noise in grey levels. quality: JPEG, 0 to 100.
        crowding: share of the field that red cells cover. pallor: depth of their pale centre.
        red_radius: of red cells, in micrometres. magnification: 1 is 30 micrometres across.
    """

    absorbance: Singles
    light: Singles
    uneven: float
    tilt: float
    blur: float
    noise: float
    quality: int
    crowding: float
    pallor: float
    red_radius: float
    magnification: float = 1.0

    def in_field(self, rng: Rng, magnification: float) -> SubjectStyle:
        """The same smear in another field of view."""
        return replace(
            self,
            tilt=float(rng.uniform(0, 2 * np.pi)),
            blur=self.blur * float(rng.uniform(0.85, 1.25)),
            crowding=float(np.clip(self.crowding + rng.normal(0, 0.08), 0.12, 0.7)),
            light=self.light * np.float32(rng.uniform(0.97, 1.01)),
            magnification=magnification,
        )


def subject_style(rng: Rng) -> SubjectStyle:
    """A subject's stain, light, focus and camera, far enough apart to hide the class's colour."""
    warm, salmon, mauve = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, 1)
    violet = np.array([1.15, 1.9, 0.5]) * (1 + rng.normal(0, [0.1, 0.07, 0.22]))
    red = (1 - mauve) * np.array([0.08, 0.43, 0.33]) + mauve * np.array([0.27, 0.44, 0.3])
    grey_red = np.array([0.27, 0.4, 0.2])
    absorbance = np.stack(
        [
            salmon * red + (1 - salmon) * grey_red,
            violet * rng.uniform(0.72, 1.05),
            np.array([0.54, 0.48, 0.14]) * (1 + rng.normal(0, [0.1, 0.1, 0.3])),
            np.array([0.2, 0.34, 0.12]) * (1 + rng.normal(0, 0.12, 3)),
            np.array([0.15, 0.62, 0.53]) * (1 + rng.normal(0, [0.2, 0.08, 0.12])),
        ]
    )
    absorbance *= rng.uniform(0.8, 1.2)
    grey, cream = np.array([0.92, 0.92, 0.94]), np.array([0.99, 0.91, 0.8])
    return SubjectStyle(
        absorbance=np.clip(absorbance, 0.03, None).astype(np.float32),
        light=((grey + warm * (cream - grey)) * rng.uniform(0.96, 1.01)).astype(np.float32),
        uneven=float(rng.uniform(0.02, 0.12)),
        tilt=0.0,
        blur=float(rng.uniform(0.03, 0.11)),
        noise=float(rng.uniform(0.8, 3.2)),
        quality=int(rng.integers(82, 97)),
        crowding=float(rng.uniform(0.3, 0.62)),
        pallor=float(rng.uniform(0.3, 0.75)),
        red_radius=float(rng.normal(3.6, 0.15)),
    )


def photograph(canvas: Canvas, shape: tuple[int, int], style: SubjectStyle, rng: Rng) -> Bytes:
    """Light through the stains (Beer-Lambert), focus and sensor noise.

    Args:
        shape: height and width of the picture; the canvas is as large or a multiple of it.

    Returns:
        (*shape, 3) uint8 RGB.
    """
    scale = canvas.scale * shape[0] / canvas.extent.shape[0]
    sigma = max(style.blur * scale, 0.25)
    bright = _illumination(shape, style, rng) * np.float32(255)
    noise = rng.standard_normal(shape, np.float32) * np.float32(style.noise)
    planes = []
    for passed, light in zip(canvas.transmitted(style.absorbance), style.light, strict=True):
        seen = cv2.resize(passed, shape[::-1], interpolation=AREA)
        seen = cv2.GaussianBlur(seen, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        planes.append(np.clip(seen * (light * bright) + noise, 0, 255).astype(np.uint8))
    return np.asarray(cv2.merge(planes), np.uint8)


def _illumination(shape: tuple[int, int], style: SubjectStyle, rng: Rng) -> Singles:
    """(*shape) relative brightness: a tilt, a vignette and faint clouds of dried plasma."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape[::-1]))
    tilted = np.cos(style.tilt) * x + np.sin(style.tilt) * y
    clouds = cv2.resize(smooth_noise(rng, (16, 16), 4), shape[::-1])
    field = 1 - style.uneven * (0.5 * tilted + 0.2 * (x * x + y * y)) + 0.006 * clouds
    return np.asarray(field, np.float32)


def mask(canvas: Canvas, shape: tuple[int, int]) -> Bytes:
    """(*shape) uint8 classes by majority of each pixel's area: 0, 1 cytoplasm, 2 nucleus."""
    inside, nucleus = (
        cv2.resize((canvas.extent >= part).astype(np.float32), shape[::-1], interpolation=AREA)
        for part in (1, 2)
    )
    return (inside >= 0.5).astype(np.uint8) + ((inside >= 0.5) & (nucleus >= 0.5))


def jpeg(rgb: Bytes, quality: int) -> bytes:
    """A picture (h, w, 3) as the bytes of a JPEG file."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(np.asarray(coded))


def decoded(data: bytes) -> Bytes:
    """The picture (h, w, 3) RGB in the bytes of a JPEG file."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(bgr), cv2.COLOR_BGR2RGB), np.uint8)
