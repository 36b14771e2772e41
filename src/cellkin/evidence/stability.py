"""Does the evidence survive what changes nothing about the cell?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Floats
from cellkin.evidence.randomisation import rank_correlation
from cellkin.measures.intervals import Mean, mean_of

QUALITY = 75  # of the JPEG
DEGREES = 5.0
GREY_LEVELS = 5.0  # standard deviation of the noise, of 255


@dataclass(frozen=True)
class Change:
    """A change of pictures, and how to lay their maps over those of the pictures before it."""

    title: str
    apply: Callable[[Bytes, np.random.Generator], Bytes]
    undo: Callable[[Floats], Floats] = lambda maps: maps


def _recoded(images: Bytes, rng: np.random.Generator) -> Bytes:
    made = []
    for image in images:
        bgr = np.ascontiguousarray(image[..., ::-1])
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        made.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])
    return np.stack(made).astype(np.uint8)


def _noisy(images: Bytes, rng: np.random.Generator) -> Bytes:
    noise = rng.normal(0, GREY_LEVELS, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def _turned(pictures: Array, degrees: float) -> Array:
    """Pictures (M, H, W, ...) turned about their middle, edges reflected."""
    height, width = pictures.shape[1:3]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    made = [
        cv2.warpAffine(p, turn, (width, height), flags=cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REFLECT)
        for p in pictures
    ]  # fmt: skip
    return np.stack(made)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "jpeg": Change(f"stored again as JPEG of quality {QUALITY}", _recoded),
        "rotation": Change(
            f"turned by {DEGREES:g} degrees",
            lambda images, rng: _turned(images, DEGREES),
            lambda maps: _turned(maps, -DEGREES),
        ),
        "noise": Change(f"noise of {GREY_LEVELS:g} grey levels", _noisy),
    }
)


def map_stability(before: Floats, after: Floats, inside: Bools, *, seed: int = 0) -> Mean | None:
    """Mean rank correlation within the cell of maps (M, h, w) before and after a change.

    Cells of which fewer than three positions are inside are left out; None where that is all.
    """
    kept = [m for m in range(len(before)) if inside[m].sum() > 2]
    if not kept:
        return None
    same = np.array([rank_correlation(before[m], after[m], inside[m]) for m in kept])
    return mean_of(same, seed=seed)
