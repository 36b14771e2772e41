"""The map of the atlas as geometry in picture units, drawn alike by the page and the figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import contour_generator

from cellkin.core.arrays import Array
from cellkin.core.records import Evidence

# Okabe and Ito's colour-blind safe colours without black and yellow, and two of Paul Tol's.
COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
    "#882255",
    "#999933",
)
# matplotlib's names; one fewer than the colours, so that 56 classes are all drawn differently
MARKERS = ("o", "^", "D", "v", "P", "X", "*")
CLEARANCE = 19.0  # picture units between a kin's ring and its rank number
MARGIN = 22.0
ORIGIN = np.zeros((1, 2))
LEGEND = 6.0  # radius of a marker in a legend
GRID, BLUR, FEWEST = 5.0, 13.0, 8  # picture units of the density; cells that have an outline


@dataclass(frozen=True)
class ClassPoints:
    """Cells of one class: its position in the label set, and (N, 2) picture positions."""

    index: int
    label: str
    xy: Array


@dataclass(frozen=True)
class Kin:
    """A neighbour on the map, and where its rank number stands."""

    rank: int
    label: str
    id: str
    xy: tuple[float, float]
    number_xy: tuple[float, float]


@dataclass(frozen=True)
class MapView:
    """What is seen through one window of the map; y grows downwards, as in pictures.

    `outlines`: for a class, by its position in the label set, closed lines (P, 2) around the
    densest parts that hold three quarters of its reference cells; only of the whole map.
    """

    width: float
    height: float
    references: tuple[ClassPoints, ...]
    held_out: tuple[ClassPoints, ...]
    query: tuple[float, float]
    kin: tuple[Kin, ...]
    closeup: bool
    outlines: tuple[tuple[int, tuple[Array, ...]], ...] = ()


def style(index: int) -> tuple[int, int]:
    """Positions in `COLORS` and `MARKERS` of a class."""
    return index % len(COLORS), index % len(MARKERS)


def class_style(look: tuple[int, int]) -> dict[str, Any]:
    """Colour and marker of a class in a legend, from its positions in `COLORS` and `MARKERS`."""
    color, marker = look
    return {"color": color, "path": marker_path(ORIGIN, MARKERS[marker], LEGEND)}


def fitted(xy: Array, size: tuple[float, float], margin: float) -> Array:
    """(N, 2) in the middle of a picture of `size`, at equal scale in x and y; y grows downwards."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    factor = float(((np.array(size) - 2 * margin) / np.maximum(high - low, 1e-9)).min())
    return np.asarray((xy - (low + high) / 2) * factor * np.array([1.0, -1.0]) + np.array(size) / 2)


def map_view(evidence: Evidence, width: float, height: float, *, closeup: bool = False) -> MapView:
    """The whole map, or the part around the query and its kin, at equal scale in x and y."""
    query = np.asarray(evidence.query_xy, np.float64).reshape(1, 2)
    kin_xy = _kin_positions(evidence)
    held_out = np.asarray(evidence.held_out_xy, np.float64).reshape(-1, 2)
    everything = np.concatenate([evidence.atlas_xy, held_out, query])
    focus = np.concatenate([query, *kin_xy.values()]) if closeup else everything
    to_picture = _window(focus, everything, (width, height), closeup=closeup)
    spots = {i: _pair(to_picture(xy)[0]) for i, xy in kin_xy.items()}
    here = _pair(to_picture(query)[0])
    numbers = _number_places([here, *spots.values()], list(spots.values()), (width, height))
    found = [n for n in evidence.decision.neighbors if n.id in spots]
    kin = tuple(
        Kin(n.rank, n.label, n.id, spots[n.id], place)
        for n, place in zip(found, numbers, strict=True)
    )
    names, size = evidence.labels.names, (width, height)
    references = _by_class(names, evidence.atlas_labels, to_picture(evidence.atlas_xy), size)
    return MapView(
        width=width,
        height=height,
        references=references,
        held_out=_by_class(names, evidence.held_out_labels, to_picture(held_out), size),
        query=here,
        kin=kin,
        closeup=closeup,
        outlines=() if closeup else tuple(_outline(points, size) for points in references),
    )


def _outline(points: ClassPoints, size: tuple[float, float]) -> tuple[int, tuple[Array, ...]]:
    """Lines of equal density around three quarters of a class; none for a handful of cells."""
    if len(points.xy) < FEWEST:
        return points.index, ()
    shape = (int(size[1] // GRID) + 1, int(size[0] // GRID) + 1)
    cells = np.clip((points.xy / GRID).round().astype(int), 0, np.array(shape[::-1]) - 1)
    counts = np.zeros(shape)
    np.add.at(counts, (cells[:, 1], cells[:, 0]), 1.0)
    from scipy.ndimage import gaussian_filter  # takes long to import

    density = gaussian_filter(counts, BLUR / GRID, mode="constant")
    level = float(np.quantile(density[cells[:, 1], cells[:, 0]], 0.25))
    lines = contour_generator(z=density).lines(level * 0.999)
    return points.index, tuple(np.asarray(line) * GRID for line in lines)


def outline_path(lines: Sequence[Array]) -> str:
    """SVG path data of lines."""
    return "".join("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in line) for line in lines)


def _kin_positions(evidence: Evidence) -> dict[str, Array]:
    rows = {name: row for row, name in enumerate(evidence.atlas_ids)}
    wanted = [n.id for n in evidence.decision.neighbors if n.id in rows]
    return {i: np.asarray(evidence.atlas_xy[rows[i]], np.float64).reshape(1, 2) for i in wanted}


def _window(focus: Array, everything: Array, size: tuple[float, float], *, closeup: bool) -> Any:
    """A function from map to picture positions that puts `focus` inside the margins."""
    low, high = focus.min(axis=0), focus.max(axis=0)
    whole = float(np.ptp(everything, axis=0).max()) or 1.0
    # a close-up of coinciding points still shows a stretch of the map around them
    span = np.maximum((high - low) * (1.35 if closeup else 1.0), 0.06 * whole)
    room = np.array(size) - 2 * MARGIN
    factor = float((room / span).min())
    middle = (low + high) / 2

    def to_picture(xy: Array) -> Array:
        away = (np.asarray(xy, np.float64) - middle) * factor * np.array([1.0, -1.0])
        return np.asarray(away + np.array(size) / 2)

    return to_picture


def _by_class(
    names: Sequence[str], labels: Sequence[str], xy: Array, size: tuple[float, float]
) -> tuple[ClassPoints, ...]:
    seen = ((xy > 4) & (xy < np.array(size) - 4)).all(axis=1)
    owners = np.array(labels, dtype=object)
    found = [(i, name, xy[seen & (owners == name)]) for i, name in enumerate(names)]
    return tuple(ClassPoints(i, name, points) for i, name, points in found if len(points))


def _pair(xy: Array) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])


def _number_places(
    taken: Iterable[tuple[float, float]],
    spots: Sequence[tuple[float, float]],
    size: tuple[float, float],
) -> list[tuple[float, float]]:
    """For each spot the place on a circle around it that is farthest from what is there already."""
    occupied, places = list(taken), []
    for x, y in spots:
        ring = [
            (x + CLEARANCE * math.cos(a), y + CLEARANCE * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 16, endpoint=False)
        ]
        inside = [p for p in ring if 8 < p[0] < size[0] - 8 and 8 < p[1] < size[1] - 8] or ring
        best = max(inside, key=lambda p: round(min(math.dist(p, q) for q in occupied), 6))
        occupied.append(best)
        places.append(best)
    return places


def _star(points: int, inner: float, turn: float = 0.0) -> list[tuple[float, float]]:
    corners = range(2 * points)
    angles = [math.pi * (i / points) - math.pi / 2 + turn for i in corners]
    radii = [1.0 if i % 2 == 0 else inner for i in corners]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _plus(turn: float) -> list[tuple[float, float]]:
    t = 0.36
    cross = [(-t, -1), (t, -1), (t, -t), (1, -t), (1, t), (t, t)]
    corners = cross + [(-x, -y) for x, y in cross]
    c, s = math.cos(turn), math.sin(turn)
    return [(x * c - y * s, x * s + y * c) for x, y in corners]


# corners in units of the marker's radius; the circle has none
SHAPES: dict[str, list[tuple[float, float]]] = {
    "o": [],
    "^": [(0, -1.15), (1.05, 0.75), (-1.05, 0.75)],
    "v": [(0, 1.15), (1.05, -0.75), (-1.05, -0.75)],
    "D": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "P": [(1.15 * x, 1.15 * y) for x, y in _plus(0.0)],
    "X": [(1.15 * x, 1.15 * y) for x, y in _plus(math.pi / 4)],
    "*": [(1.4 * x, 1.4 * y) for x, y in _star(5, 0.45)],
}


def marker_path(xy: Array, marker: str, radius: float) -> str:
    """SVG path data of one marker per row of `xy`."""
    corners = [(radius * x, radius * y) for x, y in SHAPES[marker]]
    if not corners:
        return "".join(
            f"M{x - radius:.1f},{y:.1f}a{radius},{radius} 0 1,0 {2 * radius},0"
            f"a{radius},{radius} 0 1,0 {-2 * radius},0z"
            for x, y in xy
        )
    steps = [(bx - ax, by - ay) for (ax, ay), (bx, by) in pairwise(corners)]
    turn = "".join(f"l{dx:.2f},{dy:.2f}" for dx, dy in steps)
    first = corners[0]
    return "".join(f"M{x + first[0]:.1f},{y + first[1]:.1f}{turn}z" for x, y in xy)
