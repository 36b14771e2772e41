"""Knowing a picture again by its prepared pixels, on any machine and with any number of threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cellkin.core.arrays import Bytes


def fingerprint(image: Bytes) -> str:
    """Short hash of a prepared image: enough to know a cell again, not to see it."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def pixels_sha256(image: Bytes) -> str:
    """SHA-256 of the size and all pixels of an image as it is decoded, (H, W, 3) uint8."""
    height, width = image.shape[:2]
    found = hashlib.sha256(f"{width}x{height}".encode())
    found.update(image.data)
    return found.hexdigest()


def fingerprints(images: Iterable[Bytes]) -> tuple[str, ...]:
    """Of each of N prepared images, (S, S, 3) uint8."""
    return tuple(map(fingerprint, images))
