"""How far out of focus an image is, told from the image alone.

Along an edge that a Gaussian of width w has softened, the slope at scale s (the derivative of a
Gaussian of width s) is proportional to 1 / sqrt(w^2 + s^2). Measured at two scales, the ratio of
the slopes gives w; the contrast of the edge cancels. The width of an image is the median over its
steepest edges. Sections 5.1 and [47] of the paper sharpen by such a measure.

Black that touches the border and is as black as a cell cut out on black leaves the measure, with
everything that the filters could smear it into: an artificial outline would look perfectly sharp.
"""

from __future__ import annotations

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Singles
from cellkin.imaging.checks import BLACK, brightest, require_rgb

MAX_WIDTH = 8.0
"""Widest blur that is told apart, in pixels; also where there is no edge to measure."""

FINE, COARSE = 1.0, 2.0  # widths of the two derivative filters in pixels
DIFFERENCE = 1 / 3  # a central difference smooths as well: the variance of a box of two pixels
STEEPEST = 0.1  # share of the edges that are looked at, from the steepest on
LEAST_SLOPE = 0.5  # grey levels per pixel at the fine scale: below lies rounding
LEAST_EDGES = 64  # pixels on edges: fewer say nothing
REACH = 6  # pixels around the black ground that the coarse filter sees


def blur_width(rgb: Bytes) -> float:
    """Width of the blur: the standard deviation in pixels of the Gaussian that softened the edges.

    The edges' own softness counts as blur: a blur of s added to an image of width w makes about
    sqrt(w^2 + s^2).

    Args:
        rgb: (H, W, 3) uint8 RGB, at least 16 pixels a side.

    Returns:
        in [0, MAX_WIDTH]; `MAX_WIDTH` where no edge stands out from the noise.

    Raises:
        ImageError: the array is no RGB image, or too small.
    """
    width = measured_width(rgb)
    return MAX_WIDTH if width is None else width


def focus_score(rgb: Bytes) -> float:
    """How well an image is in focus: 1 / (1 + blur width).

    Returns:
        in (0, 1]: 1 where no blur can be measured, 0.5 at one pixel, 0.25 at three, 1/9 at
        `MAX_WIDTH` and where no edge stands out from the noise.

    Raises:
        ImageError: the array is no RGB image, or too small.
    """
    return 1.0 / (1.0 + blur_width(rgb))


def measured_width(rgb: Bytes) -> float | None:
    """As `blur_width`, None where there is no edge to measure."""
    require_rgb(rgb, "whose focus was asked for", least=16)
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.float32)
    ground = black_ground(rgb)
    grey = _filled(grey, ground)
    seen = ~grown(ground)
    fine_x, fine_y = _slopes(grey, FINE)
    fine = np.asarray(cv2.magnitude(fine_x, fine_y), np.float32)
    ridges = _ridges(fine, fine_x, fine_y) & seen
    edges = ridges & (fine > _noise_slope(grey, seen)) & (fine >= _steep(fine[ridges]))
    if np.count_nonzero(edges) < LEAST_EDGES:
        return None
    coarse = np.asarray(cv2.magnitude(*_slopes(grey, COARSE)), np.float32)
    return _width(fine[edges], coarse[edges])


def _width(fine: Singles, coarse: Singles) -> float:
    """Median width over edges, from the ratio of their slopes at both scales."""
    ratio = float(np.median(np.square(fine / np.maximum(coarse, 1e-6))))
    if ratio <= 1.0:
        return MAX_WIDTH
    square = (COARSE**2 - ratio * FINE**2) / (ratio - 1.0) - DIFFERENCE
    return float(min(np.sqrt(max(square, 0.0)), MAX_WIDTH))


def _slopes(grey: Singles, sigma: float) -> tuple[Singles, Singles]:
    """Derivatives across and down, in grey levels per pixel."""
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return (
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8), np.float32),
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8), np.float32),
    )


def _noise_slope(grey: Singles, seen: Bools) -> float:
    """Slope that noise alone hardly reaches, told from the second differences of flat parts."""
    if not seen.any():
        return np.inf
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F)[seen])
    noise = 1.4826 * float(np.median(detail)) / np.sqrt(20.0)
    # the derivative of a Gaussian of width s passes white noise of 1 as 1 / (sqrt(8 pi) s^2)
    return float(max(4.0 * noise / (np.sqrt(8 * np.pi) * FINE**2), LEAST_SLOPE))


def _steep(slopes: Singles) -> float:
    """Least slope among the steepest `STEEPEST` of the ridges."""
    if not len(slopes):
        return np.inf
    count = min(len(slopes), max(LEAST_EDGES, round(STEEPEST * len(slopes))))
    return float(np.partition(slopes, -count)[-count])


def _ridges(slope: Singles, x: Singles, y: Singles) -> Bools:
    """Pixels whose slope is the largest across the edge they lie on."""
    best: Bools = np.zeros(slope.shape, bool)
    inner = (slice(1, -1), slice(1, -1))
    middle, flat = slope[inner], np.abs(x[inner]) > np.abs(y[inner])
    across = (middle >= slope[1:-1, :-2]) & (middle >= slope[1:-1, 2:])
    down = (middle >= slope[:-2, 1:-1]) & (middle >= slope[2:, 1:-1])
    best[inner] = np.where(flat, across, down)
    return best


def black_ground(rgb: Bytes) -> Bools:
    """Black regions that touch the border: what lies around a cell that was cut out."""
    black = (brightest(rgb) <= BLACK).astype(np.uint8)
    if not black.any():
        return np.zeros(black.shape, bool)
    _, parts = cv2.connectedComponents(black, connectivity=4)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    ground = np.isin(parts, np.unique(border[border > 0]))
    return np.asarray(ground, bool)


def _filled(grey: Singles, ground: Bools) -> Singles:
    """The black ground replaced by what lies beside it, so that no slope is left at its outline."""
    if not ground.any() or ground.all():
        return grey
    _, nearest = cv2.distanceTransformWithLabels(
        ground.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.float32)
    values[nearest[~ground]] = grey[~ground]
    return np.where(ground, values[nearest], grey)


def grown(ground: Bools) -> Bools:
    """The ground and every pixel that the filters could smear it into."""
    kernel = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    return np.asarray(cv2.dilate(ground.astype(np.uint8), kernel), bool)
