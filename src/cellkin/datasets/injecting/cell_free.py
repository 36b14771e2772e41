"""Windows of a field in which no white cell is seen (section 3.2 of the paper, "nothing").

A list of centroids names blasts only, and a centroid is not an extent: a window is taken as free of
cells only if it keeps clear of every known centroid by a measured cell's radius, and of everything
that the stain detector finds or doubts by the rim of a cell. The window must also be as sharp as
the cells are, so that focus does not give the new class away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Ints
from cellkin.core.errors import DataError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef, Sample
from cellkin.imaging.decode import decode
from cellkin.imaging.focus import focus_score
from cellkin.imaging.stain import Nucleus, doubtful_mask, nuclei

Rng = np.random.Generator

CELL_PER_NUCLEUS = 1.7
"""Radius of a cell in radii of its nucleus, taken large: neutrophils and monocytes reach 1.6,
lymphoblasts 1.1."""

LEAST_NUCLEUS = 0.45
"""Radius of the smallest nucleus that is looked for, in typical radii of the cells' nuclei."""

MEASURED = 200  # cells measured, at most
SHARPEST = (1.0, 99.0)  # percentiles of the cells' focus that bound the windows'
STEPS = 4  # grid positions per window side


@dataclass(frozen=True)
class CellScale:
    """What the cells of a data set look like, in pixels of their own images.

    Attributes:
        side: median shorter side of the images. nucleus_radius: median over the cells in which a
            nucleus was found, of its largest one; None where none was.
        focus: range of `focus_score`, 1st to 99th percentile. scores: of the cells measured.
    """

    side: int
    nucleus_radius: float | None
    focus: tuple[float, float]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class FieldSurvey:
    """What was seen in one field.

    Attributes:
        free: (H, W) bool, False wherever a white cell lies or might lie.
        cell_radius: pixels kept clear around centroids. nucleus_radius: typical of this field.
        nuclei: how many were found. unseen: known centroids at which the detector found none.
        measured: whether the radius was measured in this field, else it is that of the cells.
    """

    free: Bools
    cell_radius: float
    nucleus_radius: float
    nuclei: int
    unseen: int
    measured: bool


@dataclass(frozen=True)
class Window:
    """A square of a field, (left, top, right, bottom) in pixels, and its focus score."""

    box: tuple[int, int, int, int]
    focus: float


def cell_scale(images: Sequence[ImageRef], *, seed: int, progress: Progress = silent) -> CellScale:
    """Measure at most 200 cells, drawn by the seed.

    Raises:
        DataError: no image. ImageError: one of them cannot be read.
    """
    if not images:
        raise DataError(
            "there is no cell to measure", where="the data set", mend="give labelled cells"
        )
    chosen = np.random.default_rng([seed, 0]).permutation(len(images))[:MEASURED]
    sides, radii, scores = [], [], []
    for done, i in enumerate(sorted(chosen.tolist()), start=1):
        rgb = decode(images[i])
        found = nuclei(rgb)
        sides.append(min(rgb.shape[:2]))
        radii += [found[0].radius] if found else []
        scores.append(focus_score(rgb))
        progress("measuring cells", done, len(chosen))
    low, high = np.percentile(scores, SHARPEST)
    return CellScale(
        side=int(np.median(sides)),
        nucleus_radius=float(np.median(radii)) if len(radii) > len(sides) / 2 else None,
        focus=(float(low), float(high)),
        scores=tuple(scores),
    )


def survey(rgb: Bytes, centroids: Sequence[Sequence[float]], nucleus_radius: float) -> FieldSurvey:
    """Find where a field is free of white cells.

    Args:
        rgb: (H, W, 3) uint8 RGB, the whole field. centroids: known (x, y) in its pixels.
        nucleus_radius: typical of the cells, in pixels: sets the smallest nucleus looked for, and
            stands for the field's own where no nucleus is found in it.
    """
    least = LEAST_NUCLEUS * nucleus_radius
    found = nuclei(rgb, least_radius=least)
    at_centroids = [_nearest(found, x, y) for x, y in centroids]
    typical = [n.radius for n in at_centroids if n is not None] or [n.radius for n in found]
    measured = float(np.percentile(typical, 90)) if typical else 0.0
    radius = max(measured, nucleus_radius)
    free = _away_from(doubtful_mask(rgb, least_radius=least), (CELL_PER_NUCLEUS - 1) * radius)
    cell_radius = CELL_PER_NUCLEUS * radius
    for x, y in centroids:
        _clear(free, float(x), float(y), cell_radius)
    return FieldSurvey(
        free=free,
        cell_radius=cell_radius,
        nucleus_radius=measured or nucleus_radius,
        nuclei=len(found),
        unseen=sum(n is None for n in at_centroids),
        measured=bool(typical),
    )


def _away_from(mask: Bools, distance: float) -> Bools:
    if not mask.any():
        return np.ones(mask.shape, bool)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away > distance, bool)


def _nearest(found: Sequence[Nucleus], x: float, y: float) -> Nucleus | None:
    """The nucleus that a centroid lies in or beside, within twice its radius."""
    near = [n for n in found if np.hypot(n.x - x, n.y - y) <= 2 * n.radius]
    return min(near, key=lambda n: float(np.hypot(n.x - x, n.y - y)), default=None)


def _clear(free: Bools, x: float, y: float, radius: float) -> None:
    """Take a disc out of the free area."""
    top, left = max(int(y - radius), 0), max(int(x - radius), 0)
    part = free[top : int(y + radius) + 2, left : int(x + radius) + 2]
    rows = np.arange(top, top + part.shape[0])[:, None] - y
    columns = np.arange(left, left + part.shape[1])[None, :] - x
    part &= rows**2 + columns**2 > radius**2


def windows_of(
    rgb: Bytes, free: Bools, *, side: int, focus: tuple[float, float], rng: Rng
) -> Iterator[Window]:
    """Windows that lie wholly in the free area, overlap none before them, and are as sharp as the
    cells are, in an order drawn from `rng`.

    Args:
        rgb: (H, W, 3) uint8. free: (H, W) bool. side: of the square windows in pixels.
        focus: lowest and highest `focus_score` accepted.
    """
    places = _places(free, side)
    taken: list[tuple[int, int]] = []
    for left, top in places[rng.permutation(len(places))].tolist():
        if any(abs(left - x) < side and abs(top - y) < side for x, y in taken):
            continue
        score = focus_score(rgb[top : top + side, left : left + side])
        if focus[0] <= score <= focus[1]:
            taken.append((left, top))
            yield Window((left, top, left + side, top + side), score)


def _places(free: Bools, side: int) -> Ints:
    """(N, 2) left and top of the grid positions whose window is free throughout."""
    height, width = free.shape
    if side > min(height, width):
        return np.zeros((0, 2), np.int64)
    step = max(side // STEPS, 1)
    rows, columns = np.arange(0, height - side + 1, step), np.arange(0, width - side + 1, step)
    taken = cv2.integral((~free).astype(np.uint8)).astype(np.int64)
    top, left = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    inside = (
        taken[top + side, left + side]
        - taken[top, left + side]
        - taken[top + side, left]
        + taken[top, left]
    )
    return np.asarray(np.stack([left, top], axis=1)[inside == 0], np.int64)


def blasts_of(field: Sample) -> list[tuple[float, float]]:
    """The known centroids of a field, `annotations["blasts"]`; empty where it has none.

    Raises:
        DataError: they are no list of (x, y).
    """
    try:
        return [(float(x), float(y)) for x, y in field.annotations.get("blasts", ())]
    except (TypeError, ValueError):
        raise DataError(
            "the centroids of this field are no list of x and y",
            where=field.id,
            mend='annotations["blasts"] is a list of [x, y] in pixels of the field',
        ) from None
