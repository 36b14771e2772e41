"""A whole picture at a glimpse: as much as tells a field from the picture of one cell."""

from __future__ import annotations

import cv2
import numpy as np

from cellkin.core.arrays import Bytes

GLIMPSE = 640  # pixels along the shorter side, at most


def glimpse(rgb: Bytes, side: int = GLIMPSE) -> Bytes:
    """A picture (H, W, 3) uint8 RGB averaged down to `side` pixels along its shorter side; one
    that is smaller as it is.
    """
    factor = side / min(rgb.shape[:2])
    if factor >= 1:
        return rgb
    size = (round(rgb.shape[1] * factor), round(rgb.shape[0] * factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
