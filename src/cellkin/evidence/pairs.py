"""Metric-Grad-CAM (Eq. 9; Zhu, Yang, Chen, TIP 2021), exact for average pooling.

With B[:, i, j] = S A[:, i, j] - o the scaled feature g is the mean of B over its h x w positions.
Then D[i, j, x, y] = <B_Q[:, i, j], B_P[:, x, y]> / (h w)^2 adds up to <g_Q, g_P>: the likeness that
the two cells have in the space where the distance is measured, position by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.core.records import PairMap

__all__ = ["likeness", "pair_maps"]


def likeness(query: NDArray[Any], references: NDArray[Any]) -> NDArray[np.float32]:
    """D for one query and N references.

    Args:
        query: B_Q, (C, h, w). references: B_P, (N, C, h, w); both already scaled.

    Returns:
        (N, h, w, h, w) float32; one matrix product, no loop over positions.
    """
    C, h, w = query.shape
    n = len(references)
    left = query.reshape(C, h * w).T.astype(np.float32) / np.float32(h * w)
    right = references.reshape(n, C, h * w).astype(np.float32) / np.float32(h * w)
    product: NDArray[np.float32] = left @ right
    return product.reshape(n, h, w, h, w)


def pair_maps(
    query: tuple[str, NDArray[Any]],
    references: tuple[Sequence[str], NDArray[Any]],
    scale: NDArray[Any],
    offset: NDArray[Any],
    *,
    distance: str = "euclidean",
) -> tuple[PairMap, ...]:
    """The likeness of a query to each of N references, with its completeness error.

    Args:
        query: id and feature map A_Q, (C, h, w).
        references: N ids and feature maps (N, C, h, w).
        scale, offset: S and o of the atlas, (C,) each.
        distance: with "cosine" the tensor is divided by the two norms and adds up to the cosine.

    Returns:
        one `PairMap` per reference. `similarity` is computed from the pooled features alone,
        `completeness` = |sum of the tensor - similarity| / (|g_Q| |g_P|).
    """
    S, o = (np.asarray(v, np.float64)[:, None, None] for v in (scale, offset))
    names, maps = references
    B_Q, B_P = S * query[1] - o, S * maps - o
    g_Q, g_P = B_Q.mean(axis=(1, 2)), B_P.mean(axis=(2, 3))
    tensors = likeness(B_Q, B_P)
    return tuple(
        _pair(query[0], name, tensor, g_Q, g, cosine=distance == "cosine")
        for name, tensor, g in zip(names, tensors, g_P, strict=True)
    )


def _pair(
    query: str,
    reference: str,
    tensor: NDArray[np.float32],
    g_Q: NDArray[np.float64],
    g_P: NDArray[np.float64],
    *,
    cosine: bool,
) -> PairMap:
    norms = float(np.linalg.norm(g_Q) * np.linalg.norm(g_P))
    if norms == 0.0:  # one of the cells sits in the origin of the space: nothing is alike
        return PairMap(query, reference, np.zeros_like(tensor), 0.0, 0.0)
    target = float(g_Q @ g_P)
    gap = abs(float(tensor.sum(dtype=np.float64)) - target) / norms
    if cosine:
        return PairMap(query, reference, tensor / np.float32(norms), target / norms, gap)
    return PairMap(query, reference, tensor, target, gap)
