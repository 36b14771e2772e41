"""The nearest references of every class: what prediction sets and counter-evidence read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cellkin.core.arrays import Floats, Ints
from cellkin.decision.neighbors import Excluded, Index

SMALLEST = 1e-9  # a distance below this is none


@dataclass(frozen=True)
class NearestByClass:
    """The up to k nearest references of each of K classes to M queries.

    Attributes:
        classes: the K classes. positions: (M, K, k) int64 among all references, nearest first, -1
            where a query may see fewer. distances: the same shape, infinite there.
    """

    classes: tuple[str, ...]
    positions: Ints
    distances: Floats

    def mean_distances(self) -> Floats:
        """(M, K) mean over the nearest that there are; infinite where there is none."""
        found = self.positions >= 0
        count = found.sum(axis=2)
        total = np.where(found, self.distances, 0.0).sum(axis=2)
        nothing = np.full(total.shape, np.inf)
        return np.asarray(np.divide(total, count, out=nothing, where=count > 0))

    def nonconformity(self) -> Floats:
        """(M, K) how odd each query would be as a cell of each class (see `conformal`).

        d_c · d_c / d_other: its mean distance to the class, times how much farther that is than
        the nearest other class. Infinite where a query may see no cell of the class; d_c alone
        where there is no other class.
        """
        far = self.mean_distances()
        if far.shape[1] < 2:
            return far
        nearest = np.sort(far, axis=1)[:, :2]
        best = far == nearest[:, :1]
        other = np.where(best & (best.cumsum(axis=1) == 1), nearest[:, 1:], nearest[:, :1])
        known = np.isfinite(other)
        ratio = far / np.maximum(np.where(known, other, far), SMALLEST)
        return np.asarray(np.where(np.isfinite(far), far * np.where(known, ratio, 1.0), np.inf))

    def joined(self, other: NearestByClass, start: int) -> NearestByClass:
        """The nearest among two sets of references; positions of the other set count from `start`.

        The classes are those of this one, which knows all of the other's.
        """
        k = self.positions.shape[2]
        positions, distances = self.positions.copy(), self.distances.copy()
        for c, name in enumerate(other.classes):
            own = self.classes.index(name)
            moved = np.where(other.positions[:, c] >= 0, other.positions[:, c] + start, -1)
            both = np.concatenate([distances[:, own], other.distances[:, c]], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :k]
            names = np.concatenate([positions[:, own], moved], axis=1)
            distances[:, own] = np.take_along_axis(both, order, axis=1)
            positions[:, own] = np.take_along_axis(names, order, axis=1)
        return NearestByClass(self.classes, positions, distances)

    def overall(self, row: int, k: int) -> tuple[list[str], list[float]]:
        """Classes and distances of the k nearest of one query, whatever their class."""
        flat = self.distances[row].ravel()
        nearest = np.argsort(flat, kind="stable")[:k]
        per_class = self.distances.shape[2]
        return [self.classes[i // per_class] for i in nearest], flat[nearest].tolist()


class ClassIndex:
    """One exact index per class over the same references as an `Index`.

    Args:
        references: (N, C) scaled vectors. ids, labels: N each. distance: as for `Index`.
    """

    def __init__(
        self, references: Floats, ids: Sequence[str], labels: Sequence[str], distance: str
    ) -> None:
        owners = np.array(labels, dtype=object)
        self.classes = tuple(sorted(set(labels)))
        self._rows = [np.flatnonzero(owners == name) for name in self.classes]
        self._indices = [
            Index(references[rows], [ids[int(i)] for i in rows], distance) for rows in self._rows
        ]

    def nearest(self, queries: ArrayLike, k: int, exclude: Excluded | None) -> NearestByClass:
        """The k nearest of each class, or all there are; each query is answered for itself.

        Args:
            queries: (M, C) scaled. exclude: for each query the positions it must not see.
        """
        values = np.asarray(queries, np.float64)
        M, K = len(values), len(self.classes)
        positions = np.full((M, K, k), -1, np.int64)
        distances = np.full((M, K, k), np.inf)
        for c, (rows, index) in enumerate(zip(self._rows, self._indices, strict=True)):
            hidden = _hidden(rows, exclude, M)
            depth = np.minimum(k, [len(rows) - len(h) for h in hidden])
            for found in np.unique(depth[depth > 0]):
                asked = np.flatnonzero(depth == found)
                own = [hidden[i] for i in asked]
                near, far = index.nearest(values[asked], int(found), exclude=own)
                positions[asked, c, :found], distances[asked, c, :found] = rows[near], far
        return NearestByClass(self.classes, positions, distances)


def _hidden(rows: Ints, exclude: Excluded | None, queries: int) -> list[set[int]]:
    """For each query the places within `rows` of the positions it must not see."""
    if exclude is None or not any(exclude):
        return [set()] * queries
    place = {int(row): i for i, row in enumerate(rows)}
    return [{place[p] for p in positions if p in place} for positions in exclude]
