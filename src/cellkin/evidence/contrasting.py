"""Contrast maps: why this side and not the other, exact for the margin between them.

With K the k kin that voted and O the k nearest of the other side, the margin of a cell is its mean
distance to O less that to K. Written as <v, g> + c in the cell's own feature g, the mean of
B[:, i, j] over n positions, its map is (<v, B[:, i, j]> + c) / n and adds up to it:

- squared Euclidean distance: v = 2 (g_K - g_O), c = mean |g_o|^2 - mean |g_k|^2, with g_K and g_O
  the means of the two sides;
- cosine distance: v = (u_K - u_O) / |g|, c = 0, with u the unit vectors and |g| that of the cell;
- Manhattan distance: v = mean sign(g - g_o) - mean sign(g - g_k),
  c = mean <sign(g - g_k), g_k> - mean <sign(g - g_o), g_o>.

What both sides share cancels. A transformer's class token is no mean of positions: there
<v, B[:, i, j]> is the first-order term of the patches that enter the last block, an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Array, Bytes, Floats, Ints, Singles
from cellkin.core.contrast import Contrast, ContrastMap
from cellkin.decision import MinMaxScale, pair_distances
from cellkin.evidence.explaining import Cases
from cellkin.evidence.pairs import measure_of
from cellkin.learning.encoder import Encoder


@dataclass(frozen=True)
class Opponents:
    """The nearest references of the other side of one query, nearest first, k or fewer.

    Attributes:
        ids: their names. vectors: (o, C) raw features. distances: (o,) to the query.
    """

    ids: tuple[str, ...]
    vectors: Singles
    distances: Floats

    def nearest(self) -> Opponents:
        """The first alone."""
        return Opponents(self.ids[:1], self.vectors[:1], self.distances[:1])


@dataclass(frozen=True)
class Pictures:
    """N cells as a network sees them.

    Attributes:
        vectors: (N, C) raw features. maps: (N, C, h, w) whose mean they are; None for a
            transformer. images: (N, S, S, 3) uint8, prepared; only for a transformer.
    """

    vectors: Singles
    maps: Array | None
    images: Bytes | None


@dataclass(frozen=True)
class Comparing:
    """The network, and how its features are compared."""

    encoder: Encoder
    scale: MinMaxScale
    distance: str

    def margin(self, to_opponents: Floats, to_kin: Floats) -> float:
        """Mean distance to the opponents less that to the kin; squared where it is Euclidean."""
        power = measure_of(self.distance)[1]
        return float((to_opponents**power).mean() - (to_kin**power).mean())


def contrasts(
    how: Comparing, cases: Cases, opponents: Sequence[Opponents], k: int
) -> list[Contrast | None]:
    """The contrast of M queries; None where there is no cell of the other side.

    Args:
        cases: of each query the references: the k that voted, then opponents that are shown.
    """
    rows = [m for m, found in enumerate(opponents) if len(found.ids)]
    made: list[Contrast | None] = [None] * len(opponents)
    for m in rows:
        made[m] = _contrast(how, cases.part(slice(m, m + 1)), opponents[m], k)
    return made


def _contrast(how: Comparing, case: Cases, against: Opponents, k: int) -> Contrast:
    kin, to_kin = case.reference_vectors[0, :k], case.distances[0, :k]
    query = Pictures(case.vectors, case.maps, case.images)
    others = Pictures(
        case.reference_vectors[0],
        None if case.reference_maps is None else case.reference_maps[0],
        None if case.reference_images is None else case.reference_images[0],
    )
    alone, name = against.nearest(), case.queries[0]
    duels = [(kin[i : i + 1], alone.vectors) for i in range(len(kin))]
    found = read(how, query, [(kin, against.vectors), *duels])
    targets = [
        how.margin(against.distances, to_kin),
        *(how.margin(alone.distances, to_kin[i : i + 1]) for i in range(len(kin))),
    ]
    whole, *single = [found.map(0, i, name, target) for i, target in enumerate(targets)]
    on_others = read(how, others, [(kin, against.vectors)])
    return Contrast(
        kin=tuple(case.references[0][:k]),
        opponents=against.ids,
        measure=measure_of(how.distance)[0],
        on_query=whole,
        on_others=tuple(on_others.map(i, 0, n) for i, n in enumerate(case.references[0])),
        pairs=tuple(single),
    )


@dataclass(frozen=True)
class Read:
    """Contrasts of N cells with D pairs of sides.

    Attributes:
        values: (N, D, h, w). margins: (N, D), from the features alone. units: (N, D), the norms
            that an error is measured by.
    """

    values: Floats
    margins: Floats
    units: Floats
    exact: bool

    def map(self, row: int, pair: int, name: str, margin: float | None = None) -> ContrastMap:
        """One map; `margin` is what it must add up to, where distances that voted tell it."""
        values = self.values[row, pair]
        target = float(self.margins[row, pair]) if margin is None else margin
        gap, unit = abs(float(values.sum()) - target), float(self.units[row, pair])
        error = gap / unit if unit else (np.inf if gap else 0.0)
        return ContrastMap(name, values, target, error, self.exact)


def read(how: Comparing, cells: Pictures, sides: Sequence[tuple[Singles, Singles]]) -> Read:
    """The contrasts of N cells, each with D pairs of kin and opponents (raw features)."""
    scale = how.scale
    scaled = [(scale.apply(kin), scale.apply(opponents)) for kin, opponents in sides]
    features = scale.apply(cells.vectors)
    parts = [[_linear(g, *both, how.distance) for both in scaled] for g in features]
    v = np.array([[one[0] for one in row] for row in parts])
    c = np.array([[one[1] for one in row] for row in parts]) - v @ scale.offset
    values = _products(how.encoder, cells, v * scale.scale)
    values += c[..., None, None] / np.prod(values.shape[-2:])
    margins = [
        [how.margin(*(pair_distances(g, side, how.distance) for side in reversed(both)))
         for both in scaled]
        for g in features
    ]  # fmt: skip
    units = [[_unit(g, *both, how.distance) for both in scaled] for g in features]
    return Read(values, np.array(margins), np.array(units), cells.maps is not None)


def _linear(g: Floats, kin: Floats, opponents: Floats, distance: str) -> tuple[Floats, float]:
    """v (C,) and c with which the margin of a cell is <v, g> + c."""
    if distance == "euclidean":
        c = (opponents**2).sum(axis=1).mean() - (kin**2).sum(axis=1).mean()
        return 2 * (kin.mean(axis=0) - opponents.mean(axis=0)), float(c)
    if distance == "cosine":
        units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (kin, opponents)]
        return (units[0].mean(axis=0) - units[1].mean(axis=0)) / np.linalg.norm(g), 0.0
    signs = np.sign(g - kin), np.sign(g - opponents)
    c = (signs[0] * kin).sum(axis=1).mean() - (signs[1] * opponents).sum(axis=1).mean()
    return signs[1].mean(axis=0) - signs[0].mean(axis=0), float(c)


def _unit(g: Floats, kin: Floats, opponents: Floats, distance: str) -> float:
    """The norms of what is compared; every length is 1 where only directions are."""
    if distance == "cosine":
        return 1.0
    others = max(float(np.linalg.norm(side, axis=1).max()) for side in (kin, opponents))
    return float(np.linalg.norm(g)) * others


def _products(encoder: Encoder, cells: Pictures, directions: Floats) -> Floats:
    """(N, D, h, w) of <direction, A[:, i, j]> / n, directions (N, D, C)."""
    if cells.maps is None:
        if cells.images is None:
            raise ValueError("a transformer's maps need the images")
        return encoder.token_products(cells.images, directions)
    *_, h, w = cells.maps.shape
    columns = cells.maps.reshape(*cells.maps.shape[:2], h * w)
    products = directions.astype(columns.dtype) @ columns
    return np.asarray(products.reshape(*directions.shape[:2], h, w) / (h * w), np.float64)


# finer than the feature map -----------------------------------------------------------------------


@dataclass(frozen=True)
class Shifts:
    """One picture, shifted by parts of what one position of its map covers.

    Attributes:
        images: (parts^2, S, S, 3) uint8; what is shifted in mirrors the edge.
        steps: (parts^2, 2) of each, down and to the right, in positions of the finer map.
        parts: into how many a position is divided, along each side.
    """

    images: Bytes
    steps: Ints
    parts: int

    @classmethod
    def of(cls, image: Bytes, grid: tuple[int, int], parts: int) -> Shifts:
        """Every shift of an image (S, S, 3) whose map has this many positions."""
        S, first = len(image), -((parts - 1) // 2)
        steps = np.array([(a, b) for a in range(parts) for b in range(parts)]) + first
        pixels = np.rint(steps * np.array(image.shape[:2]) / (np.array(grid) * parts)).astype(int)
        room = int(np.abs(pixels).max())
        wide = np.pad(image, ((room, room), (room, room), (0, 0)), "symmetric")
        made = [wide[room - y : room - y + S, room - x : room - x + S] for y, x in pixels]
        return cls(np.stack(made), steps, parts)

    def together(self, maps: Floats) -> Floats:
        """The mean (h parts, w parts) of their maps (parts^2, h, w), each laid back where it was;
        a position is a share of its look, so the sum stays that of one map, but for the edges.
        """
        large = np.repeat(np.repeat(maps, self.parts, axis=1), self.parts, axis=2)
        total, seen = np.zeros(large.shape[1:]), np.zeros(large.shape[1:])
        for values, (y, x) in zip(large, self.steps, strict=True):
            here, there = (
                tuple(slice(max(0, sign * s), n + min(0, sign * s))
                      for s, n in zip((y, x), values.shape, strict=True))
                for sign in (-1, 1)
            )  # fmt: skip
            total[here] += values[there]
            seen[here] += 1
        return np.asarray(total / seen / self.parts**2)
