"""Which reference cells are nearest (section 4.1, Eq. 6): the min-max scale and an exact search.

The search is exact although its first pass is not. faiss ranks the references in float32, which
is fast but blurs small distances. The best of that ranking are measured again in float64, and a
bound on the float32 error says whether any other reference could belong among the k nearest. Where
it could, as with many duplicates, the query is compared with every reference in float64. So the
answer is that of a full scan, and never depends on which other queries were asked with it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from cellkin.core.arrays import Floats, Ints
from cellkin.core.errors import DecisionError, did_you_mean
from cellkin.core.records import frozen
from cellkin.decision.shortlist import Shortlist

DISTANCES = ("euclidean", "cosine", "manhattan")

# Candidates measured again beyond the k that are asked for. Where the first number proves nothing
# the second is tried: in thousands of dimensions many cells are nearly equally far.
SPARE = (16, 256)
ROWS = 4096  # references compared at once in a full scan, which bounds its memory
LARGEST = 1e150  # beyond this, squares overflow in float64
SAFETY64 = 1 + 1e-9  # far above the rounding of a float64 distance

Excluded = Sequence[AbstractSet[int]]


@dataclass(frozen=True, eq=False)
class MinMaxScale:
    """The min-max normalisation of feature vectors (section 4.1): g = S f - o, per dimension.

    Attributes:
        scale: (C,) float64, S = 1 / (max - min) over the reference vectors.
        offset: (C,) float64, o = S min. A constant dimension has S = o = 0: it says nothing.

    Raises:
        DecisionError: the two are not finite vectors of one length.
    """

    scale: Floats
    offset: Floats

    def __post_init__(self) -> None:
        scale = _vectors(self.scale, "the scale", ndim=1)
        offset = _vectors(self.offset, "the offset", ndim=1)
        _same_length(scale, offset, "the scale and its offset")
        object.__setattr__(self, "scale", frozen(scale.copy()))
        object.__setattr__(self, "offset", frozen(offset.copy()))

    @classmethod
    def fit(cls, vectors: ArrayLike) -> MinMaxScale:
        """The scale that takes these reference vectors, (N, C) with N >= 1, onto [0, 1].

        Raises:
            DecisionError: no vector, not a matrix, NaN or infinite.
        """
        values = _vectors(vectors, "the reference vectors")
        if not len(values):
            raise DecisionError(
                "there is no reference vector to fit the min-max scale on",
                where=f"an array of shape {values.shape}",
                mend="give the features of at least one reference cell",
            )
        low = values.min(axis=0)
        extent = values.max(axis=0) - low
        varies = extent > np.finfo(np.float64).tiny  # below it, the reciprocal is infinite
        scale = np.divide(1.0, extent, out=np.zeros_like(extent), where=varies)
        return cls(scale, scale * low)

    def apply(self, vectors: ArrayLike) -> Floats:
        """Scale vectors (M, C) to (M, C) float64.

        References land in [0, 1]. Queries are not clipped: how far outside a query lies is part
        of its distance.

        Raises:
            DecisionError: not a matrix of C columns, NaN or infinite.
        """
        values = _vectors(vectors, "the vectors")
        _same_length(self.scale, values, "the scale and the vectors")
        return np.asarray(self.scale * values - self.offset, dtype=np.float64)


def pair_distances(query: ArrayLike, references: ArrayLike, distance: str) -> Floats:
    """Distances of one query (C,) to references (M, C), in float64: (M,), each >= 0.

    Euclidean: the length of the difference. Manhattan: the sum of its absolute entries. Cosine:
    1 - cos, computed as half the squared chord between the unit vectors, which keeps its digits
    near zero and is exactly 0 for equal directions. A zero vector has no direction, so its cosine
    distance is an error, not a number made up.

    Raises:
        DecisionError: unknown distance, shapes that do not fit, NaN or infinite values, or a zero
            vector under cosine.
    """
    _known_distance(distance)
    one = _vectors(query, "the query", ndim=1)
    many = _vectors(references, "the references")
    _same_length(one, many, "the query and the references")
    ready = _prepare(one[None], distance, "the query")[0]
    return _measure(ready, _prepare(many, distance, "the references"), distance)


def nearest(
    queries: ArrayLike,
    references: ArrayLike,
    *,
    ids: Sequence[str],
    k: int,
    distance: str = "euclidean",
    exclude: Excluded | None = None,
) -> tuple[Ints, Floats]:
    """The k nearest references of each query; see `Index`, which also serves repeated questions.

    Args:
        queries: (M, C), scaled. references: (N, C), scaled. ids: N different ids.
        exclude: for each query the positions of references it must not see (own subject).

    Returns:
        positions (M, k) int64 and distances (M, k) float64, ordered by (distance, id).

    Raises:
        DecisionError: as `Index` and `Index.nearest`.
    """
    return Index(references, ids, distance).nearest(queries, k, exclude)


class Index:
    """Exact nearest neighbours among fixed references (section 4.1, Eq. 6).

    Args:
        references: (N, C) min-max scaled vectors. ids: N different ids, which order equals.
        distance: one of `DISTANCES`; section 5.2 uses the Euclidean distance.

    Raises:
        DecisionError: unknown distance, not a matrix, NaN or infinite values, ids that do not fit
            or repeat, or a zero vector under cosine.
    """

    def __init__(
        self, references: ArrayLike, ids: Sequence[str], distance: str = "euclidean"
    ) -> None:
        self.distance = _known_distance(distance)
        copied = np.array(references, dtype=np.float64, order="C")  # the caller's may change later
        values = _vectors(copied, "the references")
        self.ids = _checked_ids(ids, len(values))
        self._references = _prepare(values, distance, "the references")
        self._id_rank = np.empty(len(values), np.int64)
        self._id_rank[sorted(range(len(values)), key=self.ids.__getitem__)] = np.arange(len(values))
        self._shortlist = Shortlist(self._references, distance)

    @cached_property
    def _squares(self) -> Floats:
        return np.asarray((self._references * self._references).sum(axis=1))

    def __len__(self) -> int:
        return len(self._references)

    def nearest(
        self, queries: ArrayLike, k: int, exclude: Excluded | None = None
    ) -> tuple[Ints, Floats]:
        """The k nearest references of each query (M, C), each query answered for itself.

        Args:
            exclude: for each query the positions of references it must not see.

        Returns:
            positions (M, k) int64 and distances (M, k) float64, ordered by (distance, id).

        Raises:
            DecisionError: k below 1 or above the number of references a query may see, shapes
                that do not fit, NaN or infinite values, or a zero vector under cosine.
        """
        values = _vectors(queries, "the queries")
        _same_length(values, self._references, "the queries and the references")
        ready = _prepare(values, self.distance, "the queries")
        hidden = self._checked_exclude(exclude, len(ready))
        k = self._checked_k(k, hidden)
        answers: dict[int, tuple[Ints, Floats]] = {}
        for spare in SPARE:
            left = [i for i in range(len(ready)) if i not in answers]
            answers |= self._proved(ready, k, hidden, left, spare)
        positions, distances = np.empty((len(ready), k), np.int64), np.empty((len(ready), k))
        for i, query in enumerate(ready):
            answer = answers.get(i) or self._scanned(query, k, hidden[i])
            positions[i], distances[i] = answer
        return positions, distances

    def ranking(self, query: ArrayLike, exclude: AbstractSet[int] = frozenset()) -> Ints:
        """Positions of all references a query (C,) may see, nearest first, by (distance, id).

        Raises:
            DecisionError: as `nearest`.
        """
        values = _vectors(query, "the query", ndim=1)[None]
        _same_length(values, self._references, "the query and the references")
        ready = _prepare(values, self.distance, "the query")[0]
        (hidden,) = self._checked_exclude([exclude], 1)
        if self.distance == "manhattan":
            return self._scanned(ready, len(self) - len(hidden), hidden)[0]
        order = self._by_squares(ready)
        return order[~np.isin(order, hidden)] if hidden.size else order

    def _by_squares(self, query: Floats) -> Ints:
        """All references by squared distance: one product, and where that cannot tell two
        references apart, the squares of their differences.
        """
        keys = self._squares - 2.0 * (self._references @ query) + query @ query
        longest = math.sqrt(float(self._squares.max(initial=0.0))) + math.sqrt(query @ query)
        blur = 4 * (len(query) + 4) * np.finfo(np.float64).eps * longest**2
        order = np.argsort(keys, kind="stable")
        close = np.flatnonzero(np.diff(keys[order]) <= 2 * blur)
        unsure = order[np.union1d(close, close + 1)] if close.size else close
        for start in range(0, len(unsure), ROWS):
            rows = unsure[start : start + ROWS]
            difference = self._references[rows] - query
            keys[rows] = (difference * difference).sum(axis=1)
        return np.lexsort((self._id_rank, keys))

    def _proved(
        self, ready: Floats, k: int, hidden: Sequence[Ints], asked: Sequence[int], spare: int
    ) -> dict[int, tuple[Ints, Floats]]:
        """Answers to the `asked` queries that k + spare candidates prove."""
        most_hidden = max((len(hidden[i]) for i in asked), default=0)
        found, floors = self._shortlist.search(ready[asked], k + spare + most_hidden)
        answers = {}
        for i, shortlist in zip(asked, zip(found, floors, strict=True), strict=True):
            answer = self._certified(ready[i], k, hidden[i], shortlist, k + spare)
            if answer is not None:
                answers[i] = answer
        return answers

    def _certified(
        self, query: Floats, k: int, hidden: Ints, shortlist: tuple[Ints, Floats], most: int
    ) -> tuple[Ints, Floats] | None:
        """The answer from the `most` best of the shortlist, or None where it is not proved."""
        found, floors = shortlist
        usable = found >= 0
        if hidden.size:
            usable &= ~np.isin(found, hidden)
        kept = np.flatnonzero(usable)[:most]
        if len(kept) < k:
            return None
        positions, distances = self._ordered(query, found[kept], k)
        proved = floors[kept[-1]] > distances[-1] * SAFETY64
        return (positions, distances) if proved else None

    def _scanned(self, query: Floats, k: int, hidden: Ints) -> tuple[Ints, Floats]:
        seen = np.ones(len(self), bool)
        seen[hidden] = False
        return self._ordered(query, np.flatnonzero(seen), k)

    def _ordered(self, query: Floats, positions: Ints, k: int) -> tuple[Ints, Floats]:
        blocks = [positions[i : i + ROWS] for i in range(0, len(positions), ROWS)]
        measured = [_measure(query, self._references[block], self.distance) for block in blocks]
        distances = np.concatenate(measured)
        order = np.lexsort((self._id_rank[positions], distances))[:k]
        return positions[order], distances[order]

    def _checked_k(self, k: int, hidden: Sequence[Ints]) -> int:
        k = operator.index(k)
        available = len(self) - max((len(h) for h in hidden), default=0)
        if 1 <= k <= available:
            return k
        left_out = f" after leaving out {len(self) - available}" if available < len(self) else ""
        raise DecisionError(
            f"{k} neighbours cannot be found among {available} reference cells",
            where=f"k = {k}, {len(self)} references{left_out}",
            mend=f"choose k from 1 to {available}" if available else "use an atlas with more cells",
        )

    def _checked_exclude(self, exclude: Excluded | None, n_queries: int) -> list[Ints]:
        if exclude is None:
            return [np.empty(0, np.int64)] * n_queries
        if len(exclude) != n_queries:
            raise DecisionError(
                f"{len(exclude)} sets of references to leave out for {n_queries} queries",
                where="exclude",
                mend="give one set, possibly empty, for each query",
            )
        hidden = [np.fromiter(positions, np.int64, len(positions)) for positions in exclude]
        for i, positions in enumerate(hidden):
            if positions.size and not (positions.min() >= 0 and positions.max() < len(self)):
                raise DecisionError(
                    "a reference to leave out does not exist",
                    where=f"exclude of query {i}",
                    mend=f"give positions from 0 to {len(self) - 1}",
                )
        return hidden


def _known_distance(distance: str) -> str:
    """`distance` itself, if it is one of `DISTANCES`.

    Raises:
        DecisionError: it is not.
    """
    if distance in DISTANCES:
        return distance
    raise DecisionError(
        f"unknown distance {distance!r}",
        where=f"distances: {', '.join(DISTANCES)}",
        mend=did_you_mean(str(distance), DISTANCES) or "use one of the distances named here",
    )


def _measure(query: Floats, references: Floats, distance: str) -> Floats:
    """Distances of prepared vectors; a row's digits do not depend on the rows beside it."""
    difference = references - query
    if distance == "manhattan":
        return np.asarray(np.abs(difference).sum(axis=1))
    squares = np.asarray((difference * difference).sum(axis=1))
    return squares / 2 if distance == "cosine" else np.sqrt(squares)


def _prepare(vectors: Floats, distance: str, what: str) -> Floats:
    """Unit vectors for the cosine distance; the vectors themselves for the others."""
    if distance != "cosine":
        return vectors
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    if not largest.all():
        raise DecisionError(
            "the cosine distance of a zero vector is not defined",
            where=f"{what}, row {int(np.flatnonzero(largest[:, 0] == 0)[0])}",
            mend="use the Euclidean or the Manhattan distance",
        )
    scaled = vectors / largest  # first, so that the squares neither vanish nor overflow
    lengths = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return np.asarray(scaled / lengths)


def _vectors(values: ArrayLike, what: str, ndim: int = 2) -> Floats:
    """Finite float64 values in C order (the order of summation depends on it)."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if np.ndim(values) != ndim:
        shape = "(rows, dimensions)" if ndim == 2 else "(dimensions,)"
        raise DecisionError(
            f"{what} must be an array of shape {shape}",
            where=f"an array of shape {np.shape(values)}",
            mend="give one row per cell" if ndim == 2 else "give one vector",
        )
    if not (np.abs(array) < LARGEST).all():  # false for NaN as well
        row = int(np.flatnonzero(~(np.abs(array) < LARGEST).reshape(len(array), -1).all(axis=1))[0])
        raise DecisionError(
            f"{what} hold NaN, an infinite value, or one too large to be compared",
            where=f"row {row}" if ndim == 2 else f"dimension {row}",
            mend="look at the image and the encoder that made this vector",
        )
    return array


def _same_length(first: Floats, second: Floats, what: str) -> None:
    if first.shape[-1] != second.shape[-1]:
        raise DecisionError(
            f"{what} do not have the same number of dimensions",
            where=f"{first.shape[-1]} and {second.shape[-1]} dimensions",
            mend="use vectors made by one encoder",
        )


def _checked_ids(ids: Sequence[str], expected: int) -> tuple[str, ...]:
    ids = tuple(ids)
    if len(ids) == expected and len(set(ids)) == expected:
        return ids
    what = "some references share an id" if len(ids) == expected else "the ids do not fit"
    raise DecisionError(
        what,
        where=f"{len(ids)} ids ({len(set(ids))} different) for {expected} references",
        mend="give every reference an id of its own: it orders cells at equal distances",
    )
