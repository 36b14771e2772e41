"""Fields of view that show one part of a smear, whatever their light, focus and scale.

A smear repeats one red cell a hundred times, so neither a field's look nor a handful of alike
details proves that two fields overlap. Two steps:

1. *Guess.* SIFT keypoints (Lowe 2004, Hellinger distance) on optical density, every field against
   every other: nearest neighbours with a ratio test, then the similarity that most of them agree
   on (RANSAC).
2. *Proof.* The fields are laid over each other, refined by ECC, and the detail of the shared part
   is compared block by block: three quarters of the blocks that show something must agree. By
   chance a few cells of two fields lie alike; their neighbours then do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import faiss
import numpy as np

from cellkin.core.arrays import Array, Bytes, Floats, Singles
from cellkin.core.progress import Progress, silent
from cellkin.datasets.auditing.alignment import is_similar, refined

AGREED = 0.35
"""Least score of an overlap; see docs/locate.md for the scores of true and of chance ones."""

SIDE = 1000  # pixels of the longer side when keypoints are sought
ENLARGED = 2.0  # no small field is enlarged by more than this
KEYPOINTS = 1500
NOISE = 1.0  # pixels smoothed away before
LIGHT = 16  # the light is what is left when the field is shrunk so many times, and smoothed
STRENGTH = 35.0  # grey levels of one standard deviation of the optical density
RATIO = 0.95  # of the distances to the nearest and the second nearest keypoint
FEWEST = 4  # keypoints that must agree on one movement
RANSAC_PIXELS, TRIES = 4.0, 3000
FINE, COARSE = 1.25, 5.0  # detail lies between Gaussians of these widths, at half of SIDE
BLOCK = 20  # pixels, at half of SIDE
BLOCKS = 10  # that must show something, for a proof
TELLING = 0.1  # energy of detail, relative to rich blocks, from which a block shows something
START = 0.15  # correlation of the guess below which refining never led to an overlap


@dataclass(frozen=True)
class FieldLook:
    """What is kept of one field.

    Attributes:
        shape: height and width of the image that was given.
        detail: (h, w) float32, fine differences of optical density, at half of `SIDE`.
        xy: (n, 2) float32 keypoints in pixels of `detail`. vectors: (n, 128) float32 of length 1.
    """

    shape: tuple[int, int]
    detail: Singles
    xy: Singles
    vectors: Singles


@dataclass(frozen=True)
class Overlap:
    """Two fields, by number, that share a part of the smear.

    Attributes:
        matrix: (2, 3) from pixels of the first image to pixels of the second.
        score: lower quartile over blocks of the correlation of detail, -1 to 1.
        share: shared area over the area of the smaller field, 0 to 1.
    """

    first: int
    second: int
    matrix: Floats
    score: float
    share: float


def field_look(image: Bytes) -> FieldLook:
    """Keypoints and detail of one field, (H, W, 3) uint8 RGB."""
    density = _density(image)
    size = (max(1, density.shape[1] // 2), max(1, density.shape[0] // 2))
    small = np.asarray(cv2.resize(density, size, interpolation=cv2.INTER_AREA), np.float32)
    detail = cv2.GaussianBlur(small, (0, 0), FINE) - cv2.GaussianBlur(small, (0, 0), COARSE)
    grey = np.clip(128 - STRENGTH * density, 0, 255).astype(np.uint8)
    finder = cv2.SIFT_create(nfeatures=KEYPOINTS, contrastThreshold=0.01, edgeThreshold=15)  # type: ignore[attr-defined]
    places, vectors = finder.detectAndCompute(cv2.GaussianBlur(grey, (0, 0), NOISE), None)
    found = np.zeros((0, 128)) if vectors is None else vectors[:KEYPOINTS]
    lengths = np.maximum(found.sum(1, keepdims=True), 1e-6)
    xy = np.array([p.pt for p in places[:KEYPOINTS]], np.float32).reshape(-1, 2) / np.float32(2)
    rooted = np.ascontiguousarray(np.sqrt(found / lengths), np.float32)
    shape = (image.shape[0], image.shape[1])
    return FieldLook(shape, np.asarray(detail, np.float32), xy, rooted)


def _density(image: Bytes) -> Singles:
    """Optical density of green at `SIDE`, without the fall of the light, of spread 1."""
    factor = min(ENLARGED, SIDE / max(image.shape[:2]))
    size = tuple(max(8, round(n * factor)) for n in image.shape[1::-1])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    green = cv2.resize(np.ascontiguousarray(image[..., 1]), size, interpolation=how)
    density = -np.log((np.asarray(green, np.float32) + 1) / 256)
    few = tuple(max(2, n // LIGHT) for n in size)
    light = cv2.GaussianBlur(cv2.resize(density, few, interpolation=cv2.INTER_AREA), (0, 0), 4)
    even = density - np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(even / max(float(even.std()), 1e-3), np.float32)


def overlapping(looks: Sequence[FieldLook], progress: Progress = silent) -> list[Overlap]:
    """All pairs of fields that overlap, by number; every field is compared with every other.

    Turned fields are found, mirrored ones are not: no microscope mirrors one field of two.
    """
    found: list[Overlap] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for first in range(len(looks)):
            rest = range(first + 1, len(looks))
            pairs = pool.map(partial(_compared, looks, first), rest)
            found += [overlap for overlap in pairs if overlap is not None]
            progress("comparing fields", first + 1, len(looks))
    return found


def _compared(looks: Sequence[FieldLook], first: int, second: int) -> Overlap | None:
    one, other = looks[first], looks[second]
    guess = _movement(one, other)
    if guess is None or _laid_over(one, other, guess)[0] < START:
        return None
    better = refined(one.detail, other.detail, guess)
    tried = [(*_laid_over(one, other, m), m) for m in (guess, better) if m is not None]
    _, score, share, matrix = max(tried, key=lambda t: t[1])
    if score < AGREED:
        return None
    return Overlap(first, second, _in_pixels(one, other, matrix), score, share)


def _movement(one: FieldLook, other: FieldLook) -> Floats | None:
    """(2, 3) similarity from pixels of one detail to the other's, on which keypoints agree."""
    if min(len(one.xy), len(other.xy)) < 2 * FEWEST:
        return None
    squared, nearest = faiss.knn(one.vectors, other.vectors, 2)
    clear = np.flatnonzero(squared[:, 0] < RATIO**2 * squared[:, 1])
    clear = clear[np.argsort(squared[clear, 0], kind="stable")]
    clear = clear[np.unique(nearest[clear, 0], return_index=True)[1]]
    if len(clear) < FEWEST:
        return None
    left, right = one.xy[clear], other.xy[nearest[clear, 0]]
    pixels = RANSAC_PIXELS / 2
    matrix, agreed = cv2.estimateAffinePartial2D(
        left, right, method=cv2.RANSAC, ransacReprojThreshold=pixels, maxIters=TRIES
    )
    if matrix is None or np.count_nonzero(agreed) < FEWEST:
        return None
    movement = np.asarray(matrix, np.float64)
    return movement if is_similar(movement) else None


def _laid_over(one: FieldLook, other: FieldLook, matrix: Floats) -> tuple[float, float, float]:
    """Correlation of detail where two fields overlap: of all, and its lower quartile over blocks
    that show something (-1 where too few do); and the overlap's share of the smaller field.
    """
    size, how = one.detail.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones_like(other.detail), matrix, size, flags=how) > 0.99
    moved = cv2.warpAffine(other.detail, matrix, size, flags=how)
    smaller = min(inside.size, other.detail.size / abs(np.linalg.det(matrix[:, :2])))
    share = float(np.count_nonzero(inside) / smaller)
    a, b = one.detail * inside, np.asarray(moved) * inside
    sums = _sums_of_blocks([inside, a, b, a * a, b * b, a * b])
    blocks = sums[:, sums[0] > BLOCK * BLOCK / 2]
    if blocks.shape[1] < BLOCKS:
        return -1.0, -1.0, share
    whole = float(_correlation(sums.sum(1)))
    energy = blocks[3] + blocks[4]
    telling = energy > TELLING * np.quantile(energy, 0.9)
    if np.count_nonzero(telling) < BLOCKS:
        return whole, -1.0, share
    return whole, float(np.quantile(_correlation(blocks[:, telling]), 0.25)), share


def _sums_of_blocks(planes: Iterable[Array]) -> Singles:
    """(planes, blocks) sums of each plane (h, w) over its blocks; what is left over is left out."""
    stack = np.asarray([np.asarray(plane, np.float32) for plane in planes])
    high, wide = (n // BLOCK for n in stack.shape[1:])
    cut = stack[:, : high * BLOCK, : wide * BLOCK]
    parts = cut.reshape(len(stack), high, BLOCK, wide, BLOCK)
    return np.asarray(parts.sum((2, 4), dtype=np.float32).reshape(len(stack), -1))


def _correlation(sums: Singles) -> Singles:
    """From the sums of 1, a, b, aa, bb, ab."""
    n, a, b, aa, bb, ab = sums
    spread = np.maximum(n * aa - a * a, 0) * np.maximum(n * bb - b * b, 0)
    return np.asarray((n * ab - a * b) / np.sqrt(np.maximum(spread, 1e-9)), np.float32)


def _in_pixels(one: FieldLook, other: FieldLook, matrix: Floats) -> Floats:
    """The same movement between the images that were given."""
    down, up = (seen.shape[1] / seen.detail.shape[1] for seen in (one, other))
    scaled = np.array(matrix, np.float64)
    scaled[:, :2] *= up / down
    scaled[:, 2] *= up
    return scaled
