"""Areas, ratio, roundness and lobes of the cell in the middle of a picture, as measured."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes
from cellkin.core.descriptions import Geometry
from cellkin.imaging.outline import cell_mask
from cellkin.imaging.preprocess import middle_square
from cellkin.imaging.stain import nuclear_stain, nuclei_mask

SMOOTH = 0.8  # pixels
EVEN = 60  # part of an outline, to either side, over which the steps of pixels are evened out
LOBE = 0.1  # of the nucleus's area: a smaller part is no lobe


def geometry(rgb: Bytes, um_per_pixel: float | None = None) -> Geometry:
    """Of the cell in the middle of a picture.

    Args:
        rgb: (H, W, 3) uint8 RGB. um_per_pixel: where known, areas are in square micrometres, else
            in pixels of the picture.

    Raises:
        ImageError: the array is no RGB image.
    """
    square = middle_square(rgb)
    cell = cell_mask(square)
    unit, scale = ("pixels", 1.0) if um_per_pixel is None else ("um", um_per_pixel**2)
    if cell is None:
        return Geometry(None, None, None, None, None, None, unit)
    nucleus = _nucleus(square, cell)
    area, inner = float(cell.sum()), float(nucleus.sum())
    return Geometry(
        cell_area=area * scale,
        nucleus_area=inner * scale if inner else None,
        nucleus_share=inner / area if inner else None,
        cell_roundness=roundness(cell),
        nucleus_roundness=roundness(nucleus) if inner else None,
        lobes=_lobes(nucleus) if inner else None,
        unit=unit,
    )


def roundness(mask: Bools) -> float:
    """4 pi area / perimeter^2 of the largest part of a mask (H, W): 1 for a disc, at most 1."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(found, key=cv2.contourArea)[:, 0].astype(np.float32)
    reach = max(len(points) // EVEN, 1)
    around = np.concatenate([points[-reach:], points, points[:reach]])
    kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1), np.float32)
    smooth = np.column_stack([np.convolve(around[:, i], kernel, "valid") for i in (0, 1)])
    outline = smooth[:, None].astype(np.float32)
    perimeter, area = cv2.arcLength(outline, closed=True), cv2.contourArea(outline)
    return min(4 * math.pi * area / perimeter**2, 1.0) if perimeter else 1.0


def _nucleus(rgb: Bytes, cell: Bools) -> Bools:
    """The nucleus: what is nearer to its own stain than to that of the cytoplasm beside it."""
    found = nuclei_mask(rgb) & cell
    stain = cv2.GaussianBlur(nuclear_stain(rgb), (0, 0), SMOOTH)
    beside = cell & ~found
    if not found.any() or not beside.any():
        return found
    edge = (float(np.median(stain[found])) + float(np.median(stain[beside]))) / 2
    return np.asarray(cell & (stain >= edge), bool)


def _lobes(nucleus: Bools) -> int:
    _, _, stats, _ = cv2.connectedComponentsWithStats(nucleus.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= LOBE * areas.sum()).sum())
