"""The map: t-SNE fitted once on the reference cells (sections 4.2, Figs. 10 and 15).

New cells are placed on it by moving them alone, as openTSNE does; the stored positions are never
moved, and a cell's place does not depend on the cells placed with it. openTSNE and scikit-learn are
slow to import, and a decision needs neither: they are imported where a map is fitted or placed on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.decision import Index

PERPLEXITY = 30.0
PLACING_PERPLEXITY = 5.0
PLACING_NEIGHBORS = 25
STEPS, RATE, EXAGGERATION, MAX_GRADIENT = 100, 0.1, 1.5, 0.25  # openTSNE's for new cells
TRUST_NEIGHBORS, TRUST_CELLS = 15, 3000
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
    from openTSNE import TSNE
    from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn

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

    Each cell starts at the median of its neighbours and moves alone, as in openTSNE's partial
    optimisation; the repulsion of all N stored cells is computed exactly, by two products over
    them, so no tree has to be built and thrown away at every step.
    """
    k = min(PLACING_NEIGHBORS, len(xy))
    if len(queries) == 0:
        return np.zeros((0, 2))
    neighbors, distances = index.nearest(queries, k)
    start = np.median(xy[neighbors], axis=1)
    if len(xy) < SMALLEST:
        return np.asarray(start)
    from openTSNE.affinity import joint_probabilities_nn

    P: Any = joint_probabilities_nn(
        neighbors,
        distances,
        [min(PLACING_PERPLEXITY, k / 3)],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(xy),
    )
    stored = _Points(xy)
    return np.array(
        [_descend(where, stored, _affinities(P, i)) for i, where in enumerate(start)],
    )


def _affinities(P: Any, query: int) -> Floats:
    """(N,) affinities of one query to all stored cells, 0 but for its neighbours, of which those
    that are too far for an affinity above 0 are not stored.
    """
    row = np.zeros(P.shape[1])
    own = slice(P.indptr[query], P.indptr[query + 1])
    row[P.indices[own]] = P.data[own]
    return row


class _Points:
    """Stored cells as rows of two products: 1 + squared distance to a point, and moments."""

    def __init__(self, xy: Floats) -> None:
        x, y = xy.T
        one = np.ones(len(xy))
        self._spread = np.stack([x, y, 1.0 + x * x + y * y, one])
        self._moments = np.stack([x, y, one])

    def similarity(self, at: list[float]) -> Floats:
        """(N,) Student's t similarities 1 / (1 + d^2) of a point to all."""
        x, y = at
        return np.asarray(1.0 / (np.array([-2 * x, -2 * y, 1.0, x * x + y * y]) @ self._spread))

    def toward(self, at: list[float], weights: Floats) -> tuple[float, float]:
        """Sum over the cells of weight times (point - cell)."""
        x, y = at
        wx, wy, w = (self._moments @ weights).tolist()
        return x * w - wx, y * w - wy


def _descend(start: Floats, stored: _Points, affinity: Floats) -> list[float]:
    """Gradient descent of one query on KL(P || Q) against the stored cells; its place (x, y).

    Args:
        start: (2,). affinity: (N,) P, adding up to 1.

    Steps, gains and clipping are those of openTSNE's `gradient_descent` without momentum.
    """
    at, gains, update = start.tolist(), [1.0, 1.0], [0.0, 0.0]
    attraction = EXAGGERATION * affinity
    for _ in range(STEPS):
        q = stored.similarity(at)
        slope = stored.toward(at, q * (attraction - q / q.sum()))
        clip = min(1.0, MAX_GRADIENT / (math.hypot(*slope) + 1e-6))
        for axis, g in enumerate(slope):
            turned = _sign(update[axis]) != _sign(g)
            gains[axis] = gains[axis] + 0.2 if turned else gains[axis] * 0.8 + 0.01
            update[axis] = -RATE * gains[axis] * clip * g
            at[axis] += update[axis]
    return list(at)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def trust(scaled: Floats, xy: Floats, distance: str, *, seed: int) -> dict[str, Any] | None:
    """How far neighbours on the map are neighbours in the space (Venna and Kaski, 2001).

    Returns:
        `trustworthiness` in [0, 1], 1 where every cell's nearest on the map are among its nearest
        in the space; `neighbors` that were compared, and `cells`: all, or a seeded sample of them.
        None below 5 references.
    """
    count = len(xy)
    if count < SMALLEST:
        return None
    rows = np.arange(count)
    if count > TRUST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(count, TRUST_CELLS, replace=False))
    neighbors = min(TRUST_NEIGHBORS, (len(rows) - 1) // 2)
    metric = "cityblock" if distance == "manhattan" else distance
    from sklearn.manifold import trustworthiness

    value = trustworthiness(scaled[rows], xy[rows], n_neighbors=neighbors, metric=metric)
    return {"trustworthiness": float(value), "neighbors": neighbors, "cells": len(rows)}
