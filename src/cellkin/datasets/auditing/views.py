"""One look at every image: hashes, what it is known again by, and what is not the cell in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from cellkin.core.arrays import Bytes, Floats, Singles
from cellkin.core.artifacts import file_sha256
from cellkin.core.errors import ImageError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Sample
from cellkin.datasets.auditing.fields import FieldLook, field_look
from cellkin.datasets.auditing.pictures import (
    NO_KEYPOINTS,
    Keypoints,
    cut_to_content,
    describe,
    is_field,
    keypoints,
    picture,
)
from cellkin.imaging.decode import decode
from cellkin.imaging.fingerprints import pixels_sha256
from cellkin.imaging.focus import focus_score
from cellkin.imaging.series import is_shared

CUES = ("corners", "border", "size and format", "mean colour", "focus")
"""What the shortcut meter looks at, none of it the cell in the middle."""

CORNER = 0.08  # of the shorter side
STRIP = 0.04
FORMATS = ("png", "jpg", "bmp", "tif", "npz")
OTHER_SUFFIX = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif", "dib": "bmp"}


@dataclass(frozen=True)
class View:
    """What the audit keeps of one image.

    Attributes:
        sha256: of the file; None for a part of a file. pixels: SHA-256 of size and RGB values.
        grids: (10, 12, 12, 3) float32, see `pictures.describe`. points: see `keypoints`;
            none of a whole field of view, which has a `field` in its place.
        cues: name of `CUES` -> (d,) float32.
        error: why it cannot be read; then everything else is empty.
    """

    sample: Sample
    sha256: str | None = None
    pixels: str = ""
    grids: Singles | None = None
    points: Keypoints | None = None
    field: FieldLook | None = None
    cues: Mapping[str, Singles] | None = None
    error: str = ""


def view_all(samples: Sequence[Sample], progress: Progress = silent) -> list[View]:
    """Look at every image once, several beside each other; the order is kept."""
    views = []
    for done, seen in enumerate(_beside(samples), start=1):
        views.append(seen)
        progress("looking at images", done, len(samples))
    return views


def _beside(samples: Sequence[Sample]) -> Iterator[View]:
    workers = min(8, os.cpu_count() or 1)
    rest = iter(samples)
    with ThreadPoolExecutor(workers) as pool:
        while block := list(islice(rest, 16 * workers)):
            yield from pool.map(view, block)


def view(sample: Sample) -> View:
    """Look at one image; what cannot be read is no error here but `View.error`."""
    ref = sample.image
    try:
        image = decode(ref, name=sample.id)
    except ImageError as error:
        return View(sample, error=error.what)
    seen = picture(image)
    cut, _ = cut_to_content(image)
    whole_field = is_field(cut)
    return View(
        sample,
        sha256=None if is_shared(ref) else file_sha256(ref.path),
        pixels=pixels_sha256(image),
        grids=describe(seen),
        points=NO_KEYPOINTS if whole_field else keypoints(seen),
        field=field_look(cut) if whole_field else None,
        cues=_cues(image, sample),
    )


def _cues(image: Bytes, sample: Sample) -> dict[str, Singles]:
    suffix = sample.image.path.suffix.lower().lstrip(".")
    kind = OTHER_SUFFIX.get(suffix, suffix)
    height, width = image.shape[:2]
    values: dict[str, Any] = {
        **surroundings(image),
        "size and format": [width, height, *(float(kind == name) for name in FORMATS)],
        "mean colour": image.reshape(-1, 3).mean(0),
        "focus": [focus_score(image)],
    }
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def surroundings(image: Bytes) -> dict[str, Floats]:
    """What lies around the cell in the middle of an image (H, W, 3), by name of `CUES`."""
    parts = {"corners": _corners(image), "border": _sides(image)}
    return {name: np.concatenate([*map(_summary, some)]) for name, some in parts.items()}


def _summary(part: Bytes) -> Floats:
    """Mean of R, G, B, then spread, darkest and brightest of the grey levels."""
    flat = part.reshape(-1, 3).astype(np.float64)
    grey = flat.mean(1)
    return np.array([*flat.mean(0), grey.std(), grey.min(), grey.max()])


def _corners(image: Bytes) -> list[Bytes]:
    side = max(3, round(CORNER * min(image.shape[:2])))
    ends = (slice(None, side), slice(-side, None))
    return [image[y, x] for y in ends for x in ends]


def _sides(image: Bytes) -> list[Bytes]:
    """The four strips along the border, without the corners."""
    shorter = min(image.shape[:2])
    corner, strip = max(3, round(CORNER * shorter)), max(2, round(STRIP * shorter))
    inner = slice(corner, -corner)
    return [
        image[:strip, inner],
        image[-strip:, inner],
        image[inner, :strip],
        image[inner, -strip:],
    ]
