"""Grad-CAM for a class (Eq. 8), in closed form for average pooling and a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grad_cam"]


def grad_cam(maps: NDArray[Any], class_weights: NDArray[Any]) -> NDArray[np.float64]:
    """Where a class's score comes from.

    The score is y = w . mean(A) + b, so its gradient with respect to A[c, i, j] is w[c] / (h w)
    everywhere; Grad-CAM averages it over the positions and keeps what speaks for the class:
    max(0, sum_c w[c] / (h w) A[c, i, j]).

    Args:
        maps: A, (N, C, h, w). class_weights: w, (C,), the head's row of the class.

    Returns:
        (N, h, w) float64, at least 0, not normalised: an empty map stays empty.
    """
    positions = maps.shape[2] * maps.shape[3]
    weights = class_weights.astype(np.float64) / positions
    speaks: NDArray[np.float64] = np.einsum("c,nchw->nhw", weights, maps, optimize=True)
    return np.maximum(speaks, 0.0)
