"""Adaptive unsharpening: an image is sharpened in proportion to its own measured blur.

Sections 5.1 of the paper, [38] and [47]. To second order in the frequency, a blur of width e takes
away e^2 f^2 / 2 of the contrast, and an unsharp mask I + a (I - G_u * I) gives a u^2 f^2 / 2 back:
the amount a = e^2 / u^2 undoes it. Here e is what the measured width exceeds an image in focus by,
and u is fixed. Three limits keep it from inventing anything: the amount is capped, only luminance
is sharpened (noise of colour does not grow, stains keep their hue), and no pixel leaves the range
of its neighbours, so there is no halo.
"""

from __future__ import annotations

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.imaging.focus import black_ground, grown, measured_width

IN_FOCUS = 1.0
"""Blur width in pixels up to which an image counts as in focus."""
RADIUS = 1.5
"""Width u in pixels of the Gaussian whose result is subtracted."""
MAX_AMOUNT = 2.0
"""Most that is added of the difference, reached at a blur of 2.3 pixels."""


def unsharp_amount(width: float | None) -> float:
    """Amount a of the unsharp mask for a measured blur width in pixels.

    Returns:
        (width^2 - IN_FOCUS^2) / RADIUS^2 within [0, MAX_AMOUNT]; 0 where nothing was measured.
    """
    if width is None:
        return 0.0
    return min(max(width**2 - IN_FOCUS**2, 0.0) / RADIUS**2, MAX_AMOUNT)


def unsharpen(rgb: Bytes) -> Bytes:
    """Sharpen one image by as much as its blur calls for.

    Args:
        rgb: (H, W, 3) uint8 RGB, at least 16 pixels a side.

    Returns:
        the same shape and type; the same pixels where the image is in focus or shows no edge. A
        black ground around a cell, and the pixels beside it, stay as they are.

    Raises:
        ImageError: the array is no RGB image, or too small.
    """
    amount = unsharp_amount(measured_width(rgb))
    if not amount:
        return rgb.copy()
    rgb = np.ascontiguousarray(rgb)
    pixels = rgb.astype(np.float32)
    light = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)
    detail = light - cv2.GaussianBlur(light, (0, 0), RADIUS, borderType=cv2.BORDER_REFLECT_101)
    detail[grown(black_ground(rgb))] = 0
    sharp = pixels + np.float32(amount) * detail[..., None]
    neighbours = np.ones((3, 3), np.uint8)
    held = np.clip(sharp, cv2.erode(pixels, neighbours), cv2.dilate(pixels, neighbours))
    return np.asarray(np.rint(held), np.uint8)
