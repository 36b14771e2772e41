"""Micrometres per pixel: as given, else from the file's metadata, else by the red cells.

Red cells that are enough to measure by win over metadata that they contradict by `APART`.

The mean diameter of isolated round red cells is 7.2 micrometres (healthy adults 6.2 to 8.2;
anisocytosis and microcytosis bend this ruler, so number, mean and spread go with it). Fewer than
`LEAST` of them measure nothing: the ruler is then not available, and pixels stay pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Singles
from cellkin.imaging.stain import DOUBTFUL
from cellkin.smear.light import WHITE

RED_CELL = 7.2
"""Mean diameter of a red cell in micrometres."""
LEAST = 20
"""Red cells from which on they measure a field."""
APART = 2.0
"""Factor by which a file's scale may differ from that of the red cells."""

SIDE = 1024  # longer side at which red cells are sought
SEEN = 0.7  # share of a red cell's outline that must be free of neighbours
EVEN = 0.07  # spread of the free outline's distances from the middle, over their mean: round
ALIKE = 0.25  # red cells of one field differ from their middle size by less than this share
SMALLEST, LARGEST = 0.014, 0.25  # diameter as a share of the longer side
MOST = 1500  # places at which a cell is tried, the deepest first
FINEST = 8.0  # pixels: of a smaller disc nothing can be measured
OUTSIDE = 2.0  # pixels: either edge is met half a pixel too far, and smoothing adds as much
RAYS = 64  # directions in which the edge of a cell is sought


@dataclass(frozen=True, eq=False)
class RedCells:
    """Isolated round red cells of one field: their diameters (n,) in pixels of the field."""

    diameters: Singles

    def __len__(self) -> int:
        return len(self.diameters)

    @classmethod
    def together(cls, fields: Sequence[RedCells]) -> RedCells:
        """Those of several fields of one microscope and camera, as if these were one field."""
        every = [float(d) for cells in fields for d in cells.diameters]
        return cls(np.array(_alike(every), np.float32))

    @property
    def mean(self) -> float:
        """Mean diameter in pixels."""
        return float(self.diameters.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over the mean."""
        return float(self.diameters.std() / self.diameters.mean())


@dataclass(frozen=True)
class Ruler:
    """Micrometres per pixel of a field, and how they are known.

    Attributes:
        source: "metadata", "given" or "red cells". cells: number of red cells measured; their mean
            diameter in pixels and its spread (standard deviation over mean), None for others.
            fields: how many fields of one size they come from. refuted: micrometres per pixel that
            the file says and the red cells contradict.
    """

    um_per_pixel: float
    source: str
    cells: int = 0
    mean: float | None = None
    spread: float | None = None
    fields: int = 1
    refuted: float | None = None

    @classmethod
    def by(cls, cells: RedCells) -> Ruler | None:
        """The ruler of red cells; None where they are fewer than `LEAST`."""
        if len(cells) < LEAST:
            return None
        return cls(RED_CELL / cells.mean, "red cells", len(cells), cells.mean, cells.spread)

    @classmethod
    def told(cls, um_per_pixel: float, cells: RedCells) -> Ruler:
        """That of a file's metadata, or of its red cells where these contradict it."""
        own = cls.by(cells)
        if own is None or 1 / APART <= own.um_per_pixel / um_per_pixel <= APART:
            return cls(um_per_pixel, "metadata")
        return replace(own, refuted=um_per_pixel)


def red_cells(even: Bytes) -> RedCells:
    """The isolated round red cells of a field in even light (H, W, 3), ground at `WHITE`."""
    factor = min(SIDE / max(even.shape[:2]), 1.0)
    size = (max(round(even.shape[1] * factor), 1), max(round(even.shape[0] * factor), 1))
    small = np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8)
    best: list[float] = []
    for threshold in _thresholds(small):
        kept = _alike(_round_ones(small, threshold))
        if sum(d**2 for d in kept) > 1.3 * sum(d**2 for d in best):
            best = kept
    return RedCells(np.array(best, np.float32) / np.float32(factor))


def _density(rgb: Bytes) -> Singles:
    """Optical density, slightly smoothed."""
    smooth = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 1), np.uint8)
    table = -np.log((np.arange(256) + 1) / (WHITE + 1))
    return np.asarray(np.maximum(table, 0)[smooth], np.float32)


def _stain(density: Singles) -> Singles:
    """What nuclei and platelets take up and red cells do not, as in `imaging.stain`."""
    return np.asarray(density[..., 0] + density[..., 1] - 2 * density[..., 2], np.float32)


def _thresholds(small: Bytes) -> list[float]:
    """Optical densities in green at which red cells may part from the ground, the lowest first."""
    density = _density(small)
    green = density[..., 1][_stain(density) < DOUBTFUL]
    level = np.clip(green * 255, 0, 255).astype(np.uint8)
    otsu = cv2.threshold(level, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0] / 255
    return [max(share * otsu, 0.03) for share in (0.5, 0.75, 1.0)]


def _round_ones(small: Bytes, threshold: float) -> list[float]:
    """Diameters of round stretches without nuclear stain, pale middles filled, that stand alone or
    touch others along a part of their outline only.
    """
    density = _density(small)
    body = _filled(density[..., 1] > threshold)
    depth = np.asarray(cv2.distanceTransform(body, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    stain = cv2.boxFilter(_stain(density), -1, (5, 5))
    longer = max(body.shape)
    found = []
    for row, column in _peaks(depth, SMALLEST * longer / 2):
        diameter = _diameter(body, row, column, float(depth[row, column]))
        if diameter is None or not max(SMALLEST * longer, FINEST) < diameter < LARGEST * longer:
            continue
        reach = int(diameter / 2)
        near = stain[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
        if np.mean(near > DOUBTFUL) < 0.06:  # no nucleus, no platelet
            found.append(diameter)
    return found


def _filled(dense: Bools) -> Bytes:
    """Holes that no larger ground reaches are the pale middles of cells."""
    body = dense.astype(np.uint8)
    outlines, tree = cv2.findContours(body, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for k, outline in enumerate(outlines):
        if tree[0][k][3] < 0:
            continue
        area, around = cv2.contourArea(outline), cv2.arcLength(outline, True)
        if 4 * np.pi * area > 0.6 * around**2:  # round: gaps between cells are not
            cv2.drawContours(body, [outline], 0, 1, -1)
    return np.asarray(body, np.uint8)


def _peaks(depth: Singles, least: float) -> list[tuple[int, int]]:
    """Where the distance to the edge is largest around, the deepest first."""
    smooth = cv2.GaussianBlur(depth, (0, 0), max(least / 2, 1))
    top = (smooth == cv2.dilate(smooth, np.ones((5, 5), np.uint8))) & (depth >= least)
    rows, columns = np.nonzero(top)
    order = np.argsort(-depth[rows, columns])[:MOST]
    places = np.stack([rows, columns], axis=1)[order]
    depths = depth[rows, columns][order]
    free = np.ones(len(places), bool)
    for k in range(len(places)):
        if free[k]:
            away = np.hypot(*(places[k + 1 :] - places[k]).T)
            free[k + 1 :] &= away > 0.8 * depths[k]
    return [(int(row), int(column)) for row, column in places[free]]


def _diameter(body: Bytes, row: int, column: int, depth: float) -> float | None:
    """Mean caliper diameter of the cell around a place; None where it is not free or not round.

    Where a neighbour hides the edge, the opposite side stands for it.
    """
    turns = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
    steps = np.arange(0, 1.45 * depth + 2, 0.5)
    rows = np.rint(row + np.sin(turns)[:, None] * steps).astype(int)
    columns = np.rint(column + np.cos(turns)[:, None] * steps).astype(int)
    if (
        rows.min() < 0
        or columns.min() < 0
        or rows.max() >= len(body)
        or columns.max() >= body.shape[1]
    ):
        return None
    outside = body[rows, columns] == 0
    edges = np.where(outside.any(axis=1), steps[outside.argmax(axis=1)], np.inf)
    free = edges < 1.3 * depth
    if free.mean() < SEEN or edges[free].std() > EVEN * edges[free].mean():
        return None
    other = np.roll(edges, RAYS // 2)
    whole = np.where(free, edges, np.where(np.roll(free, RAYS // 2), other, edges[free].mean()))
    points = np.stack([whole * np.cos(turns), whole * np.sin(turns)], axis=1).astype(np.float32)
    around = float(cv2.arcLength(cv2.convexHull(points), True))
    return around / np.pi - OUTSIDE


def _alike(diameters: list[float]) -> list[float]:
    """Those of the commonest size: red cells of a field are alike, specks and clumps are not."""
    if not diameters:
        return []
    values = np.sort(diameters)
    counts = [np.count_nonzero(np.abs(values / v - 1) < ALIKE / 2) * v**2 for v in values]
    middle = values[int(np.argmax(counts))]
    for _ in range(3):
        kept = values[np.abs(values / middle - 1) < ALIKE]
        middle = kept.mean()
    return [float(v) for v in kept]
