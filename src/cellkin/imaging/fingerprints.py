"""Knowing a picture again by its prepared pixels, on any machine and with any number of threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["fingerprint", "fingerprints"]


def fingerprint(image: NDArray[np.uint8]) -> str:
    """Short hash of a prepared image: enough to know a cell again, not to see it."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def fingerprints(images: Iterable[NDArray[np.uint8]]) -> tuple[str, ...]:
    """Of each of N prepared images, (S, S, 3) uint8."""
    return tuple(map(fingerprint, images))
