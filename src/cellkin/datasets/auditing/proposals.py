"""Which pairs of images are worth laying over each other: few, and none that matters is missed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import faiss
import numpy as np

from cellkin.core.arrays import Bytes, Floats, Ints, Singles
from cellkin.core.progress import Progress, silent
from cellkin.datasets.auditing.pictures import GRID, Keypoints, mirrored

COMPONENTS = 64
NEAREST = 24  # of one orientation of one image; up to 10 of them are windows of the image itself
PER_IMAGE = 3  # proposals by looks
LOOK = 12.0  # grey levels, root mean square: farther apart than this no duplicate was ever seen
BLOCK = 1024
WORDS = 40  # dimensions of a keypoint's vector after the principal axes
PARTNERS = 6  # other keypoints that one keypoint is compared with
SEED = 0
EXACT = 20_000  # keypoints up to which every one is compared with every other
AGREEING = 5  # keypoints that must agree on one movement
RANSAC_PIXELS = 4.0
SCALES = (0.6, 1.67)


@dataclass(frozen=True)
class Proposal:
    """Two images, by number, and how the first may lie in the second.

    Attributes:
        strength: how much speaks for it; comparable between proposals of one kind only.
        orientation, window: for `by_looks`; index of `WINDOWS`.
        matrix: (2, 3) from pixels of the first picture to the second's, for `by_keypoints`.
    """

    first: int
    second: int
    strength: float
    orientation: int = 0
    window: int = 0
    matrix: Floats | None = None


def turned(grids: Singles, orientation: int) -> Singles:
    """(N, g, g, 3) grids in one of 8 orientations (see `alignment.oriented`)."""
    flipped = grids[:, :, ::-1] if orientation > 3 else grids
    return np.rot90(flipped, orientation % 4, axes=(1, 2))


def by_looks(grids: Singles, progress: Progress = silent) -> list[Proposal]:
    """Pairs whose coarse grids agree in one of 8 orientations, whole or in a cropped window.

    The grids are projected on their principal axes, and every orientation of every image is
    compared with every window of every other by blocked matrix products; so the work grows with
    N x N multiplications, but no Python loop does.

    Args:
        grids: (N, 10, 12, 12, 3) float32 grey levels, see `pictures.describe`.
    """
    n, windows = grids.shape[:2]
    if n < 2:
        return []
    whole = grids[:: max(1, n // 2000), 0]
    every = [turned(whole, o).reshape(len(whole), -1) for o in range(8)]
    mean, axes = _axes(np.concatenate(every), COMPONENTS)
    index = faiss.IndexFlatL2(axes.shape[1])
    index.add(_projected(grids.reshape(n * windows, -1), mean, axes))
    best: dict[tuple[int, int], Proposal] = {}
    for orientation in range(8):
        for start in range(0, n, BLOCK):
            part = turned(grids[start : start + BLOCK, 0], orientation)
            query = _projected(part.reshape(len(part), -1), mean, axes)
            squared, found = index.search(query, min(NEAREST, n * windows))
            _keep(best, (start, orientation, windows), squared, found)
        progress("comparing looks", orientation + 1, 8)
    return _strongest(best)


def _strongest(best: dict[tuple[int, int], Proposal]) -> list[Proposal]:
    """The few strongest of every image: a copy is nearer than what merely looks alike."""
    taken: Counter[int] = Counter()
    kept = []
    for key in sorted(best, key=lambda key: (-best[key].strength, key)):
        if min(taken[key[0]], taken[key[1]]) < PER_IMAGE:
            taken.update(key)
            kept.append(best[key])
    return kept


def _projected(flat: Singles, mean: Singles, axes: Singles) -> Singles:
    return np.ascontiguousarray((flat - mean) @ axes, np.float32)


def _axes(points: Singles, count: int) -> tuple[Singles, Singles]:
    """Mean (d,) and so many leading principal axes (d, count) of (N, d) points."""
    mean = points.mean(0)
    _, axes = np.linalg.eigh(np.cov(points - mean, rowvar=False))
    return mean, np.ascontiguousarray(axes[:, ::-1][:, :count], np.float32)


def _keep(
    best: dict[tuple[int, int], Proposal], at: tuple[int, int, int], squared: Singles, found: Ints
) -> None:
    start, orientation, windows = at
    rms = np.sqrt(np.maximum(squared, 0) / (GRID * GRID * 3))
    for row, column in np.argwhere((rms <= LOOK) & (found >= 0)).tolist():
        first, (second, window) = start + row, divmod(int(found[row, column]), windows)
        key = (min(first, second), max(first, second))
        strength = -float(rms[row, column])
        if first != second and (key not in best or best[key].strength < strength):
            best[key] = Proposal(first, second, strength, orientation, window)


def by_keypoints(points: Sequence[Keypoints], progress: Progress = silent) -> list[Proposal]:
    """Pairs that share several places in one arrangement: whole duplicates and overlapping fields.

    Every keypoint is compared with its nearest ones in other images, as it is and mirrored; pairs
    in which at least 5 agree on one movement (turned, shifted, scaled) are proposed.
    """
    owners = np.repeat(np.arange(len(points)), [len(p.xy) for p in points])
    if len(points) < 2 or len(owners) < 2 * AGREEING:
        return []
    xy = np.concatenate([p.xy for p in points])
    vectors = np.concatenate([p.vectors for p in points])
    sample = vectors[:: max(1, len(vectors) // 20_000)]
    mean, axes = _axes(np.sqrt(sample.astype(np.float32)), WORDS)
    index = _index(_rooted(vectors, mean, axes))
    proposals: dict[tuple[int, int], Proposal] = {}
    for turn, flip in enumerate((False, True)):
        matches: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for start, found in _searched(index, vectors, (mean, axes), flip):
            _collect(matches, owners, start, found)
            progress("comparing details", turn * len(owners) + start, 2 * len(owners))
        for key, places in sorted(matches.items()):
            moved = _movement(xy, places, flip)
            if moved is not None and (key not in proposals or proposals[key].strength < moved[1]):
                proposals[key] = Proposal(*key, strength=moved[1], matrix=moved[0])
    progress("comparing details", 2 * len(owners), 2 * len(owners))
    return [proposals[key] for key in sorted(proposals)]


def _rooted(vectors: Bytes, mean: Singles, axes: Singles) -> Singles:
    """Square roots (the Hellinger distance suits histograms) on their principal axes."""
    return np.ascontiguousarray((np.sqrt(vectors.astype(np.float32)) - mean) @ axes)


def _index(words: Singles) -> Any:
    if len(words) <= EXACT:
        flat = faiss.IndexFlatL2(WORDS)
        flat.add(words)
        return flat
    lists = int(2 * np.sqrt(len(words)))
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(WORDS), WORDS, lists)
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = SEED, 8, 64
    index.train(words)
    index.nprobe = 12
    index.add(words)
    return index


def _searched(
    index: Any, vectors: Bytes, axes: tuple[Singles, Singles], flip: bool
) -> Iterator[tuple[int, Ints]]:
    for start in range(0, len(vectors), 8 * BLOCK):
        part = vectors[start : start + 8 * BLOCK]
        query = _rooted(mirrored(part) if flip else part, *axes)
        yield start, index.search(query, min(PARTNERS + 2, index.ntotal))[1]


def _collect(
    matches: dict[tuple[int, int], list[tuple[int, int]]], owners: Ints, start: int, found: Ints
) -> None:
    query = np.repeat(np.arange(start, start + len(found)), found.shape[1])
    other = found.ravel()
    good = (other >= 0) & (owners[query] < owners[np.maximum(other, 0)])
    for a, b in zip(query[good].tolist(), other[good].tolist(), strict=True):
        matches[int(owners[a]), int(owners[b])].append((a, b))


def _movement(
    xy: Singles, places: Sequence[tuple[int, int]], flip: bool
) -> tuple[Floats, float] | None:
    if len({a for a, _ in places}) < AGREEING or len({b for _, b in places}) < AGREEING:
        return None
    pairs = np.array(places)
    left, right = xy[pairs[:, 0]] * (-1 if flip else 1, 1), xy[pairs[:, 1]]
    cv2.setRNGSeed(SEED)
    matrix, agreed = cv2.estimateAffinePartial2D(
        left, right, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PIXELS, maxIters=500
    )
    if matrix is None:
        return None
    inside = pairs[np.asarray(agreed).ravel() > 0]
    count = min(len(set(inside[:, 0].tolist())), len(set(inside[:, 1].tolist())))
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if count < AGREEING or not SCALES[0] <= scale <= SCALES[1]:
        return None
    return matrix @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0]), float(count)
