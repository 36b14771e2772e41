"""A fast float32 ranking of the references by faiss, with a bound on what it may have missed.

Not the answer: `neighbors` measures the best of the ranking again in float64 and uses the bound to
prove that no other reference belongs among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from cellkin.core.arrays import Floats, Ints

BLAS_THRESHOLD = 20  # faiss: from this many queries on, one matrix product instead of a loop
LARGEST_FLOAT32 = 1e18  # beyond this, squares overflow in float32
UNIT32 = 2.0**-24  # rounding unit of float32
TINY32 = float(np.finfo(np.float32).tiny)


class Shortlist:
    """The float32 ranking of the references by faiss, with what it proves.

    Differences between vectors do not change when all are shifted, so Euclidean and Manhattan
    vectors are centred on the references' mean first: the shorter they are, the smaller the error.
    """

    def __init__(self, references: Floats, distance: str) -> None:
        self._distance = distance
        self._centre = np.zeros(references.shape[1])
        if distance != "cosine" and len(references):
            self._centre = references.mean(axis=0)
        self._reach = float(self._sizes(references - self._centre).max(initial=0.0))
        self._faiss: Any = None
        if len(references) and references.shape[1] and self._reach < LARGEST_FLOAT32:
            self._faiss = _faiss_index(references.shape[1], distance)
            self._faiss.add((references - self._centre).astype(np.float32))

    def search(self, queries: Floats, count: int) -> tuple[Ints, Floats]:
        """The `count` best candidates of each query, and what bounds all others from below.

        Returns:
            found (M, count) int64, -1 where there is none; floors (M, count) float64: every
            reference that is not among the first j + 1 candidates is at least floors[:, j] away.
            -inf says nothing; both are empty where a full scan costs no more.
        """
        if self._faiss is None or count >= self._faiss.ntotal or not len(queries):
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
        centred = queries - self._centre
        sizes = self._sizes(centred)
        fits = sizes < LARGEST_FLOAT32
        centred[~fits] = 0.0
        with _matrix_products_for_small_batches():
            values, found = self._faiss.search(centred.astype(np.float32), count)
        floors = self._floors(values.astype(np.float64), (sizes + self._reach)[:, None])
        floors[~fits] = -np.inf
        return found.astype(np.int64), floors

    def _floors(self, values: Floats, span: Floats) -> Floats:
        """Lower bounds of true distances from faiss's values (M, count), by error analysis.

        `span` (M, 1) bounds the sizes of the two vectors together, u is the unit of float32.
        A float32 sum of C products is off by at most about C u times the sum of their absolute
        values (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1): that is
        C u span^2 for squared distances, whether faiss sums (q - r)^2 or expands it. Joining
        three such sums adds 3 u span^2, rounding the vectors to float32 another 2 u span^2.
        """
        gamma = 1.05 * (len(self._centre) + 8) * UNIT32
        underflow = len(self._centre) * TINY32
        if self._distance == "cosine":
            return np.asarray(1.0 - values - gamma)
        if self._distance == "manhattan":
            return np.asarray(values * (1.0 - gamma) - underflow - 2 * UNIT32 * span)
        return np.asarray(np.sqrt(np.maximum(values - gamma * span**2 - underflow, 0.0)))

    def _sizes(self, vectors: Floats) -> Floats:
        if self._distance == "manhattan":
            return np.asarray(np.abs(vectors).sum(axis=1))
        return np.asarray(np.sqrt((vectors * vectors).sum(axis=1)))


def _faiss_index(dimensions: int, distance: str) -> Any:
    kinds: dict[str, Callable[[int], Any]] = {
        "euclidean": faiss.IndexFlatL2,
        "cosine": faiss.IndexFlatIP,
        "manhattan": lambda size: faiss.IndexFlat(size, faiss.METRIC_L1),
    }
    return kinds[distance](dimensions)


_FAISS_SETTINGS = threading.Lock()


@contextmanager
def _matrix_products_for_small_batches() -> Iterator[None]:
    """faiss with `BLAS_THRESHOLD`, its own value afterwards.

    The setting belongs to the whole process, so two threads must not change it at once: the
    second would take the first one's value for faiss's own.
    """
    with _FAISS_SETTINGS:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
