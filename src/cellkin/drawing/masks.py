"""Masks of nucleus and cytoplasm beside the images, as `cellkin draw` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import DataError
from cellkin.core.records import Dataset, Sample
from cellkin.imaging.preprocess import middle_square
from cellkin.imaging.series import is_shared

__all__ = ["CYTOPLASM", "NUCLEUS", "cell_masks"]

CYTOPLASM, NUCLEUS = 1, 2


def cell_masks(data: Dataset, samples: Sequence[Sample], size: int) -> list[Bytes | None]:
    """The masks of samples as the network sees their images: cropped and resized alike.

    They are looked for in `masks/` under the data set's root, under the name of the image with the
    ending `.png`.

    Returns:
        (size, size) uint8 each: 0 background, 1 cytoplasm, 2 nucleus; None where there is none,
        or where the image is a part of a file.

    Raises:
        DataError: a mask that is no such picture.
    """
    return [_mask(data, sample, size) for sample in samples]


def _mask(data: Dataset, sample: Sample, size: int) -> Bytes | None:
    path = data.root / "masks" / PurePosixPath(sample.id).with_suffix(".png")
    if is_shared(sample.image) or not path.is_file():
        return None
    with Image.open(path) as picture:
        values = np.asarray(picture)
    if values.ndim != 2 or values.dtype != np.uint8 or values.max(initial=0) > NUCLEUS:
        raise DataError(
            "this is no mask of one cell",
            where=path,
            mend="write 8-bit grey: 0 background, 1 cytoplasm, 2 nucleus, or take it away",
        )
    square = Image.fromarray(np.ascontiguousarray(middle_square(values)))
    return np.asarray(square.resize((size, size), Image.Resampling.NEAREST))
