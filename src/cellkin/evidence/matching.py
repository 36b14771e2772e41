"""Point to point: which spot of a cell looks like which spot of another, by local features.

This is no decomposition of the distance that voted, as the tensor of a pair is: it compares what
lies behind the first stages of the network, where a position sees little but itself. Positions that
lie on the cell by its outline are compared by cosine, each cell's features centred and scaled by
their own spread, so that a stronger stain is no other part. Two spots match where each is the
other's nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from cellkin.core.answers import LocalMatches
from cellkin.core.arrays import Array, Bools, Bytes, Floats
from cellkin.core.contrast import coverage
from cellkin.learning.encoder import Encoder
from cellkin.learning.local import local_maps

INSIDE = 0.8  # of a position on the cell, from which on it is compared
SHOWN = 8  # matches that are pointed at
APART = 0.12  # sides of the picture between two that are
NO_OUTLINE = "no outline of one of the cells was found"
NO_STAGES = "this network does not tell its early stages"


@dataclass(frozen=True, eq=False)
class Spots:
    """The positions of one cell: unit features (n, D), and where they lie (n, 2), row and column in
    sides of the picture.
    """

    features: Floats
    places: Floats

    @classmethod
    def of(cls, maps: Sequence[Array], outline: Bools) -> Spots:
        """From feature maps (D, h, w) on one grid."""
        h, w = maps[0].shape[1:]
        on_cell = coverage(outline[None], (h, w))[0] >= INSIDE
        parts = [_spread(np.asarray(one[:, on_cell].T, np.float64)) for one in maps]
        found = np.concatenate(parts, axis=1)
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return cls(found, (np.argwhere(on_cell) + 0.5) / np.array([h, w]))


def _spread(features: Floats) -> Floats:
    """Centred and scaled by their own spread; every stage weighs the same."""
    if not len(features):
        return features
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3)
    return np.asarray(scaled / np.sqrt(features.shape[1]))


def mutual(one: Spots, other: Spots) -> tuple[Array, Array, Floats]:
    """Positions that are each other's nearest, and their cosine; first those that are alike as most
    are. The highest cosines lie on edges, whose positions belong to two parts at once.
    """
    if not len(one.features) or not len(other.features):
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    likeness = one.features @ other.features.T
    to, back = likeness.argmax(axis=1), likeness.argmax(axis=0)
    rows = np.flatnonzero(back[to] == np.arange(len(to)))  # one at least: the most alike of all
    values = likeness[rows, to[rows]]
    order = np.argsort(np.abs(values - np.median(values)), kind="stable")
    return rows[order], to[rows[order]], values[order]


def spread_out(places: Floats) -> list[int]:
    """The first of (n, 2) places, and every next that lies apart from those taken, at most 8."""
    taken: list[int] = []
    for i, place in enumerate(places):
        if all(np.hypot(*(place - places[j])) >= APART for j in taken):
            taken.append(i)
        if len(taken) == SHOWN:
            break
    return taken


class Matching(Sequence[LocalMatches]):
    """The matches of a query with each of its reference cells, sought when somebody looks.

    Args:
        pictures: of the query, then of the others, (S, S, 3) uint8. outlines: of them, alike.
        names: ids of the others.
    """

    def __init__(
        self,
        encoder: Encoder,
        pictures: tuple[Bytes, Sequence[Bytes]],
        outlines: Sequence[Bools | None],
        names: Sequence[str],
    ) -> None:
        self._encoder, self._pictures = encoder, pictures
        self._outlines, self._names = outlines, tuple(names)

    @cached_property
    def _found(self) -> tuple[LocalMatches, ...]:
        query, others = self._pictures
        stages = local_maps(self._encoder, np.stack([query, *others]))
        if not stages:
            return tuple(LocalMatches(name, absent=NO_STAGES) for name in self._names)
        spots = [
            None if mask is None else Spots.of([one[i] for one in stages], mask)
            for i, mask in enumerate(self._outlines[j] for j in range(1 + len(others)))
        ]
        return tuple(
            _matched(name, spots[0], other)
            for name, other in zip(self._names, spots[1:], strict=True)
        )

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> LocalMatches: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LocalMatches]: ...

    def __getitem__(self, index: int | slice) -> LocalMatches | Sequence[LocalMatches]:
        return self._found[index]


def _matched(name: str, one: Spots | None, other: Spots | None) -> LocalMatches:
    if one is None or other is None:
        return LocalMatches(name, absent=NO_OUTLINE)
    here, there, values = mutual(one, other)
    shown = spread_out(one.places[here])
    points = np.concatenate([one.places[here], other.places[there]], axis=1)[shown]
    return LocalMatches(name, points, values[shown], len(here))
