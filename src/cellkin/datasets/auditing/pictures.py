"""The part of an image that says something, at one moderate size, and what it is known again by."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Singles

SIDE = 160  # pixels of the longer side of a crop
FIELD, LARGEST = 600, 512  # a whole field of view is kept finer: its cells are small
BLACK, WHITE = 16, 254  # a segmented cell lies on one of these
PADDED = 0.5  # share of the outermost pixels that are black (or white) where a cell was cut out
GRID = 12
KEYPOINTS = 80
CROPPED = 0.9  # of a side is left when 10 % is cropped
ANGLES = 8  # bins of direction in SIFT

WINDOWS: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 1.0),
    *((x, y, CROPPED) for y in (0.0, 0.05, 0.1) for x in (0.0, 0.05, 0.1)),
)
"""(left, top, side) as shares of a picture: the whole, and what is left of it when cropped."""


@dataclass(frozen=True)
class Picture:
    """What is compared of an image.

    Attributes:
        rgb: (h, w, 3) uint8, the longer side `SIDE` (up to `LARGEST` for whole fields of view).
        mask: (h, w) bool, False where a segmented cell lies on plain black or white.
    """

    rgb: Bytes
    mask: Bools

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True)
class Keypoints:
    """Places (n, 2) float32 as x, y in pixels of the picture, and (n, 128) uint8 SIFT vectors."""

    xy: Singles
    vectors: Bytes


NO_KEYPOINTS = Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))


def picture(image: Bytes) -> Picture:
    """An image cut to its content (see `cut_to_content`), at one size.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    cut, mask = cut_to_content(image)
    longer = max(mask.shape)
    side = min(LARGEST, longer // 4) if is_field(cut) else SIDE
    height, width = (max(8, round(n * side / longer)) for n in mask.shape)
    how = cv2.INTER_AREA if longer >= side else cv2.INTER_CUBIC
    small = cv2.resize(cut, (width, height), interpolation=how)
    seen = cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    return Picture(np.asarray(small, np.uint8), np.asarray(seen) > 127)


def is_field(image: Bytes) -> bool:
    """Whether an image is a whole field of view, by its size."""
    return bool(max(image.shape[:2]) > FIELD)


def cut_to_content(image: Bytes) -> tuple[Bytes, Bools]:
    """The part (h, w, 3) of an image that shows something, and a mask (h, w) of what does.

    Plain black or white around a segmented cell is alike in every image of a data set: it is cut
    away, and what is left of it is masked.
    """
    content = _content(image)
    top, bottom = _extent(np.asarray(content.any(1)))
    left, right = _extent(np.asarray(content.any(0)))
    return image[top:bottom, left:right], content[top:bottom, left:right]


def _content(image: Bytes) -> Bools:
    ring = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if (ring.max(1) <= BLACK).mean() >= PADDED:
        content = image.max(2) > BLACK
    elif (ring.min(1) >= WHITE).mean() >= PADDED:
        content = image.min(2) < WHITE
    else:
        return np.ones(image.shape[:2], bool)
    opened = cv2.morphologyEx(content.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    clean = np.asarray(opened, bool)  # without specks that compression leaves in the black
    return clean if clean.any() else np.ones(image.shape[:2], bool)


def _extent(used: Bools) -> tuple[int, int]:
    places = np.flatnonzero(used)
    return int(places[0]), int(places[-1]) + 1


def describe(seen: Picture) -> Singles:
    """(10, 12, 12, 3) float32 grey levels: each of `WINDOWS`, coarsely."""
    height, width = seen.shape
    found = []
    for x, y, side in WINDOWS:
        left, top = round(x * width), round(y * height)
        part = seen.rgb[top : round((y + side) * height), left : round((x + side) * width)]
        found.append(cv2.resize(part, (GRID, GRID), interpolation=cv2.INTER_AREA))
    return np.asarray(found, np.float32)


def keypoints(seen: Picture) -> Keypoints:
    """Up to 80 places of a crop that look like nowhere else, with SIFT vectors."""
    finder = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=KEYPOINTS, contrastThreshold=0.015, edgeThreshold=20, sigma=1.2
    )
    grey = cv2.cvtColor(seen.rgb, cv2.COLOR_RGB2GRAY)
    places, vectors = finder.detectAndCompute(grey, None)
    if vectors is None:
        return NO_KEYPOINTS
    xy = np.array([place.pt for place in places], np.float32)
    return Keypoints(xy[:KEYPOINTS], np.asarray(vectors, np.uint8)[:KEYPOINTS])


def mirrored(vectors: Array) -> Array:
    """The SIFT vectors of the same places in the mirror image: (n, 128) as given.

    In the frame of its own direction a mirrored place has its rows in reverse and its directions
    negated.
    """
    cells = vectors.reshape(-1, 4, 4, ANGLES)[:, ::-1]
    return cells[..., (-np.arange(ANGLES)) % ANGLES].reshape(-1, 4 * 4 * ANGLES)
