"""Metric-Grad-CAM (Eq. 9; Zhu, Yang, Chen, TIP 2021), exact for average pooling.

With B[:, i, j] = S A[:, i, j] - o the scaled feature g is the mean of B over its h x w = n
positions, and delta = g_Q - g_P.

- Likeness: D[i, j, x, y] = <B_Q[:, i, j], B_P[:, x, y]> / n^2 adds up to <g_Q, g_P>. Its marginals
  are the two heatmaps, a slice at (i, j) is the point-to-point map.
- Distance: E[i, j, x, y] = <delta, S (A_Q[:, i, j] - A_P[:, x, y])> / n^2 adds up to |delta|^2, the
  squared distance that voted. It is additive: its marginals say it all. The constant that cancels
  between them is chosen so that the midpoint of the two features counts as nothing; each marginal
  then adds up to half of the distance.

Every function takes many queries with many references each: arrays with leading axes (M queries,
k references). No loop over positions, neighbours or queries.
"""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Array, Floats, Singles


def scaled_maps(maps: Array, scale: Array, offset: Array) -> Singles:
    """B of feature maps A (..., C, h, w), in float32; S and o are (C,)."""
    S, o = (np.asarray(v, np.float32)[:, None, None] for v in (scale, offset))
    scaled: Singles = np.multiply(S, maps, dtype=np.float32)
    scaled -= o
    return scaled


def likeness(queries: Array, references: Array) -> Singles:
    """D for queries and their references.

    Args:
        queries: B_Q, (..., C, h, w). references: B_P, (..., N, C, h, w); both already scaled.

    Returns:
        (..., N, h, w, h, w) float32; one matrix product.
    """
    h, w = queries.shape[-2:]
    n = np.float32(h * w)
    left = _columns(queries).swapaxes(-1, -2)[..., None, :, :] / (n * n)
    product: Array = left @ _columns(references)
    return product.reshape(*references.shape[:-3], h, w, h, w)


def _columns(maps: Array) -> Singles:
    """(..., C, h w) float32."""
    return maps.reshape(*maps.shape[:-2], -1).astype(np.float32, copy=False)


def driving(query: Floats, references: Floats, distance: str) -> tuple[Floats, Floats, Floats]:
    """What the distance pulls on: for each pair a covector v and the two ends of the difference.

    Args:
        query: g_Q, (..., C). references: g_P, (..., N, C).

    Returns:
        v (..., N, C), and factors a (..., 1, 1) and b (..., N, 1) such that the distance that is
        decomposed is <v, a g_Q - b g_P>: v = delta and a = b = 1 for the squared Euclidean
        distance, v = sign(delta) for Manhattan, and for cosine the unit vectors u, whose
        |u_Q - u_P|^2 / 2 is the cosine distance: v = (u_Q - u_P) / 2, a = 1/|g_Q|, b = 1/|g_P|.
    """
    g_Q = query[..., None, :]
    one = np.ones((*g_Q.shape[:-1], 1)), np.ones((*references.shape[:-1], 1))
    if distance == "manhattan":
        return np.sign(g_Q - references), *one
    if distance == "euclidean":
        return g_Q - references, *one
    a, b = (1.0 / np.linalg.norm(g, axis=-1, keepdims=True) for g in (g_Q, references))
    return (a * g_Q - b * references) / 2, a, b


def differences(
    queries: Array,
    references: Array,
    features: tuple[Floats, Floats],
    distance: str,
) -> tuple[Floats, Floats]:
    """The two marginals of the distance decomposition.

    Args:
        queries: B_Q, (..., C, h, w). references: B_P, (..., N, C, h, w).
        features: g_Q (..., C) and g_P (..., N, C).

    Returns:
        on the query and on the reference, (..., N, h, w) each, signed.
    """
    h, w = queries.shape[-2:]
    n = h * w
    v, a, b = driving(*features, distance)
    middle = _dot(v, (a * features[0][..., None, :] + b * features[1]) / 2)[..., None] / n
    toward = v.astype(queries.dtype)
    on_query = a * (toward @ queries.reshape(*queries.shape[:-2], n)) / n - middle
    on_reference = middle - b * _rows(toward, references.reshape(*references.shape[:-2], n)) / n
    shape = (*references.shape[:-3], h, w)
    return on_query.reshape(shape), on_reference.reshape(shape)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(axis=-1))


def _rows(v: Array, maps: Array) -> Array:
    """<v, maps[..., :, position]> for every pair: (..., N, n)."""
    return np.asarray((v[..., None, :] @ maps)[..., 0, :])


def completeness(found: Floats, target: Floats, features: tuple[Floats, Floats]) -> Floats:
    """|found - target| / (|g_Q| |g_P|) of every pair (..., N).

    Where a feature is the origin of the space, both must be zero: 0 if so, infinite if not.
    """
    norms = np.linalg.norm(features[0], axis=-1)[..., None] * np.linalg.norm(features[1], axis=-1)
    gap = np.abs(found - target)
    empty = np.where(gap == 0, 0.0, np.inf)
    return np.asarray(np.divide(gap, norms, out=empty, where=norms > 0))


def measure_of(distance: str) -> tuple[str, int]:
    """What the distance decomposition adds up to, in words, and the power of the distance."""
    return {
        "euclidean": ("squared distance", 2),
        "manhattan": ("Manhattan distance", 1),
        "cosine": ("cosine distance", 1),
    }[distance]
