"""The map: t-SNE fitted once on the reference cells (sections 4.2, Figs. 10 and 15).

New cells are placed on it by openTSNE's optimisation of their own position alone; the stored
positions are never moved, and a cell's place does not depend on the cells placed with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from openTSNE import TSNE
from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
from openTSNE.tsne import PartialTSNEEmbedding, TSNEEmbedding
from scipy.sparse import csr_matrix

from cellkin.decision import Index

__all__ = ["fit_map", "place"]

Floats = NDArray[np.float64]

PERPLEXITY = 30.0
PLACING_PERPLEXITY = 5.0
PLACING_NEIGHBORS = 25
SMALLEST = 5  # below this many references a map says nothing and t-SNE fails


def fit_map(references: Floats, index: Index, *, seed: int) -> Floats:
    """Positions (N, 2) float64 of N scaled reference vectors (N, C).

    Neighbours are exact and measured by the distance that votes. Fewer than 5 references are
    laid on a line.
    """
    count = len(references)
    if count < SMALLEST:
        return np.stack([np.arange(count, dtype=np.float64), np.zeros(count)], axis=1)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    k = min(count - 1, int(3 * perplexity))
    neighbors, distances = index.nearest(references, k, exclude=[{i} for i in range(count)])
    P = joint_probabilities_nn(neighbors, distances, [min(perplexity, k / 3)])
    tsne = TSNE(
        initialization="random" if references.std() == 0 else _first_axes(references),
        negative_gradient_method="bh" if count < 10_000 else "fft",
        random_state=seed,
        n_jobs=1,
    )
    embedding = tsne.fit(affinities=PrecomputedAffinities(P, normalize=False))
    return np.array(embedding, dtype=np.float64)


def _first_axes(references: Floats) -> Floats:
    """The two leading principal components, small, with signs fixed: a start without chance."""
    centred = references - references.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    first = axes[:2]
    signs = np.sign(first[np.arange(len(first)), np.abs(first).argmax(axis=1)])
    start = centred @ (first * signs[:, None]).T
    if start.shape[1] < 2:
        start = np.pad(start, ((0, 0), (0, 1)))
    spread = start[:, 0].std()
    return np.asarray(start / (spread if spread > 0 else 1.0) * 1e-4)


def place(queries: Floats, index: Index, xy: Floats) -> Floats:
    """Positions (M, 2) of M scaled query vectors (M, C) on the map `xy` (N, 2), which stays.

    Each cell starts at the median of its neighbours and moves alone.
    """
    k = min(PLACING_NEIGHBORS, len(xy))
    if len(queries) == 0:
        return np.zeros((0, 2))
    neighbors, distances = index.nearest(queries, k)
    start = np.median(xy[neighbors], axis=1)
    if len(xy) < SMALLEST:
        return np.asarray(start)
    stored = TSNEEmbedding(xy.copy(), PrecomputedAffinities(csr_matrix((len(xy),) * 2), False))
    placed = [
        _place_one(start[i : i + 1], neighbors[i : i + 1], distances[i : i + 1], stored)
        for i in range(len(queries))
    ]
    return np.concatenate(placed)


def _place_one(
    start: Floats, neighbors: NDArray[np.int64], distances: Floats, stored: TSNEEmbedding
) -> Floats:
    perplexity = min(PLACING_PERPLEXITY, neighbors.shape[1] / 3)
    P: Any = joint_probabilities_nn(
        neighbors,
        distances,
        [perplexity],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(stored),
    )
    partial = PartialTSNEEmbedding(
        start, stored, P, negative_gradient_method="bh", theta=0.5, n_jobs=1
    )
    moved = partial.optimize(
        n_iter=100, learning_rate=0.1, exaggeration=1.5, momentum=0.0, max_grad_norm=0.25
    )
    return np.array(moved, dtype=np.float64)
