"""Grad-CAM for a class (Eq. 8), in closed form for average pooling and a linear head."""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Array, Floats


def grad_cam(maps: Array, class_weights: Array) -> Floats:
    """Where a class's score comes from.

    The score is y = w . mean(A) + b, so its gradient with respect to A[c, i, j] is w[c] / (h w)
    everywhere; Grad-CAM averages it over the positions and keeps what speaks for the class:
    max(0, sum_c w[c] / (h w) A[c, i, j]).

    Args:
        maps: A, (N, C, h, w), or (M, N, C, h, w) for M classes.
        class_weights: w, (C,), the head's row of the class; (M, C) for M classes.

    Returns:
        (N, h, w) or (M, N, h, w) float64, at least 0, not normalised: an empty map stays empty.
    """
    *lead, C, h, w = maps.shape
    weights = (class_weights / (h * w)).astype(maps.dtype)[..., None, None, :]
    speaks = (weights @ maps.reshape(*lead, C, h * w)).reshape(*lead, h, w)
    return np.asarray(np.maximum(speaks, 0.0), np.float64)
