"""Two pictures laid over each other: is one the other, or a part of it?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Array, Floats
from cellkin.datasets.auditing.pictures import Picture

START = 0.6  # likeness of a guess below which no duplicate was ever reached
STEPS, EPSILON, FILTER = 60, 1e-4, 5
CRITERIA = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT
SMOOTH = 1.0  # pixels: JPEG blocks and resampling matter less
COARSE = 5.0  # pixels: what is wider than this is no detail
SCALES = (0.6, 1.67)
SHEAR = 0.12
RIM = 10  # pixels along the outline of a segmented cell
ROOM = 400  # pixels of overlap below which nothing can be said


@dataclass(frozen=True)
class Fit:
    """How well a second picture, moved, agrees with a first where they overlap.

    Attributes:
        matrix: (2, 3) from pixels of the first to pixels of the second picture.
        likeness: correlation of colours, -1 to 1. detail: the same of what is finer than 5 pixels.
        outline: share of the overlap's content that both show, 0 to 1 (1 without a mask).
        difference: mean absolute difference in grey levels (0 to 255).
        overlap: shared area over the area of the smaller picture, 0 to 1.
    """

    matrix: Floats
    likeness: float
    detail: float
    outline: float
    difference: float
    overlap: float


def oriented(orientation: int, shape: tuple[int, int]) -> tuple[Floats, tuple[int, int]]:
    """One of 8 orientations as a (2, 3) matrix, and the height and width it leads to.

    Orientation o is `np.rot90(image, o % 4)`, of the mirror image (left to right) where o > 3.
    """
    height, width = shape
    flip = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]) if orientation > 3 else np.eye(3)
    total = flip
    for _ in range(orientation % 4):
        turn = np.array([[0.0, 1, 0], [-1, 0, width - 1], [0, 0, 1]])
        total, height, width = turn @ total, width, height
    return total[:2], (height, width)


def placed(
    orientation: int, window: tuple[float, float, float], first: Picture, second: Picture
) -> Floats:
    """The (2, 3) matrix that lays the first picture, turned, into a window of the second."""
    turned, (height, width) = oriented(orientation, first.shape)
    x, y, side = window
    tall, wide = second.shape
    sx, sy = side * wide / width, side * tall / height
    into = np.array([[sx, 0, x * wide + (sx - 1) / 2], [0, sy, y * tall + (sy - 1) / 2]])
    matrix: Floats = into[:, :2] @ turned + np.c_[np.zeros((2, 2)), into[:, 2]]
    return matrix


def align(first: Picture, second: Picture, start: Floats) -> Fit | None:
    """Refine a first guess, and measure; None where it leads to nothing.

    The guess (2, 3) is refined by maximising the correlation coefficient (ECC, Evangelidis and
    Psarakis 2008) over affine maps; a map that shears, or scales by more than 1.67, is refused.
    """
    guess = measured(first, second, start)
    if guess is None or guess.likeness < START:
        return None
    left, right = (cv2.cvtColor(p.rgb, cv2.COLOR_RGB2GRAY) for p in (first, second))
    found = refined(left, right, start)
    better = None if found is None else measured(first, second, found)
    return guess if better is None or better.likeness < guess.likeness else better


def refined(left: Array, right: Array, start: Floats) -> Floats | None:
    """The guess (2, 3) from pixels of one plane (h, w) to another's, refined by ECC; None where it
    does not converge, or to a map that shears, or scales by more than 1.67.
    """
    everywhere = np.full(right.shape, 255, np.uint8)
    guess = start.astype(np.float32)
    kind, until = cv2.MOTION_AFFINE, (CRITERIA, STEPS, EPSILON)
    try:
        _, found = cv2.findTransformECC(left, right, guess, kind, until, everywhere, FILTER)
    except cv2.error:  # it does not converge: these two do not agree from here
        return None
    matrix = np.asarray(found, np.float64)
    return matrix if is_similar(matrix) else None


def is_similar(matrix: Floats) -> bool:
    """Whether a (2, 3) matrix shears hardly and scales by no more than 1.67."""
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(SCALES[0] <= small and large <= SCALES[1] and large / small <= 1 + SHEAR)


def measured(first: Picture, second: Picture, matrix: Floats) -> Fit | None:
    """How well two pictures agree when laid over each other; None where hardly anything is shared.

    Args:
        matrix: (2, 3) from pixels of the first to pixels of the second.
    """
    height, width = first.shape
    moved = _warp(second.rgb, matrix, (width, height))
    inside = _warp(np.full(second.shape, 255, np.uint8), matrix, (width, height)) > 254
    content = _warp(second.mask.astype(np.uint8) * 255, matrix, (width, height)) > 127
    either = inside & (first.mask | content)
    shared = inside & first.mask & content
    both = _without_rim(shared, inside)
    if both.sum() < ROOM:
        return None
    left, right = (_smooth(image, SMOOTH) for image in (first.rgb, moved))
    fine = [image - _smooth_within(image, inside) for image in (left, right)]
    area = abs(np.linalg.det(matrix[:, :2]))
    smaller = min(height * width, second.shape[0] * second.shape[1] / area)
    return Fit(
        matrix=matrix,
        likeness=_correlation(left[both], right[both]),
        detail=_correlation(fine[0][both], fine[1][both]),
        outline=float(shared.sum() / max(1, either.sum())),
        difference=float(np.abs(left[both] - right[both]).mean()),
        overlap=float(min(1.0, inside.sum() / smaller)),
    )


def _without_rim(shared: Array, inside: Array) -> Array:
    """Without the rim of a cell that was cut out: every round cell has a bright one."""
    if shared.sum() == inside.sum():
        return shared
    padded = np.pad(shared.astype(np.uint8), 1)
    core = cv2.erode(padded, np.ones((2 * RIM + 1,) * 2, np.uint8))
    return np.asarray(core, bool)[1:-1, 1:-1]


def _warp(image: Array, matrix: Floats, size: tuple[int, int]) -> Array:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags))


def _smooth(image: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma))


def _smooth_within(image: Array, inside: Array) -> Array:
    """Blurred without what lies outside, so that the overlap's edge makes no detail."""
    weight = _smooth(inside, COARSE)
    return _smooth(image * inside[..., None], COARSE) / np.maximum(weight, 1e-3)[..., None]


def _correlation(left: Array, right: Array) -> float:
    a, b = (x - x.mean(0) for x in (left, right))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0
