"""BloodMNIST: PBC as one `.npz`, 28 to 224 pixels a side, with fixed parts.

`bloodmnist*.npz` with `train_images` (N, H, W, 3) uint8 and `train_labels` (N, 1), and the same for
`val` and `test`. Images stay in the file; a sample is a member and a row of it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.errors import ImageError, LabelError, LayoutError
from cellkin.core.records import Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.readers import pbc
from cellkin.datasets.vocabulary import fixed_label_set
from cellkin.imaging.npz import shape_of

LAYOUT = "BloodMNIST"
FILE = re.compile(r"bloodmnist.*\.npz", re.IGNORECASE)
PARTS = ("train", "val", "test")
CLASSES = tuple(pbc.CLASSES)  # label 0 to 7, in the order of MedMNIST
AGAIN = "download it again from https://medmnist.com"
PUBLISHED = (
    replace(
        pbc.PUBLISHED[0],
        name=LAYOUT,
        layout=LAYOUT,
        files="bloodmnist*.npz with train/val/test_images and _labels; 28, 64, 128 or 224 pixels",
        source="publisher; Table 4 of the paper for PBC",
        citation="Yang J. et al. (2023). MedMNIST v2: a large-scale lightweight benchmark for 2D "
        "and 3D biomedical image classification. Scientific Data 10:41. "
        "doi:10.1038/s41597-022-01721-8; " + pbc.PUBLISHED[0].citation,
        access="https://medmnist.com",
        about="The images of PBC, resized; none is a lymphoblast. Its official parts are train, "
        "val and test (--by official).",
    ),
)


def recognises(listing: Listing) -> bool:
    """Whether there are no image files, and a file named bloodmnist*.npz."""
    return not listing.images and any(FILE.fullmatch(name) for name in listing.others)


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read the one bloodmnist*.npz of a folder.

    Raises:
        LayoutError: there are several; and as `read_file`.
        LabelError: as `read_file`.
    """
    names = [name for name in listing.others if FILE.fullmatch(name)]
    if len(names) > 1:
        raise LayoutError(
            f"there are {len(names)} files of BloodMNIST here: {shown(names)}",
            where=listing.root,
            mend=f"give one of them: {listing.root / names[0]}",
        )
    return read_file(listing.root / names[0], clinical)


def read_file(path: Path, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read one bloodmnist*.npz; labels are read, images are not.

    Raises:
        LayoutError: the file is missing, damaged, lacks an array, or one has the wrong shape.
        LabelError: labels outside of 0 to 7, or a class without an image.
    """
    labels = {part: _labels(path, part) for part in PARTS}
    for part in PARTS:
        _refuse_other_images(path, part, len(labels[part]))
    _refuse_other_labels(path, labels)
    samples = [
        _sample(path, part, row, int(value))
        for part in PARTS
        for row, value in enumerate(labels[part])
    ]
    label_set = fixed_label_set(pbc.CLASSES, root=path.parent, clinical=clinical)
    notes = (
        "BloodMNIST names no subjects: cells are taken as independent",
        f"official parts: {', '.join(f'{len(labels[part])} {part}' for part in PARTS)}",
    )
    return PUBLISHED[0].dataset(samples, label_set, root=path.parent, notes=notes)


def _sample(path: Path, part: str, row: int, value: int) -> Sample:
    return Sample(
        id=f"{part}/{row:05d}",
        image=ImageRef(path, member=f"{part}_images", row=row),
        labels=((CLASSES[value],),),
        specimen=pbc.SPECIMEN,
        fold=part,
    )


def _labels(path: Path, part: str) -> Array:
    name = f"{part}_labels"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if name not in arrays.files:
                raise LayoutError(
                    f"there is no array {name!r} in this file",
                    where=path,
                    mend=f"it holds {shown(arrays.files, 8)}; {AGAIN}",
                )
            labels: Array = arrays[name]
    except FileNotFoundError:
        raise LayoutError("there is no such file", where=path, mend="check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LayoutError(
            f"this .npz is damaged or cut off: {error}", where=path, mend=AGAIN
        ) from error
    if labels.dtype.kind not in "iu" or labels.shape not in {(len(labels),), (len(labels), 1)}:
        raise LayoutError(
            f"{name} has shape {labels.shape} and type {labels.dtype}, not one whole number per "
            "image",
            where=path,
            mend=AGAIN,
        )
    return labels.reshape(-1)


def _refuse_other_images(path: Path, part: str, count: int) -> None:
    name = f"{part}_images"
    try:
        shape, dtype = shape_of(path, name)
    except ImageError as error:
        raise LayoutError(error.what, where=path, mend=f"{error.mend}; {AGAIN}") from None
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8:
        raise LayoutError(
            f"{name} has shape {shape} and type {dtype}, not (N, H, W, 3) uint8",
            where=path,
            mend=AGAIN,
        )
    if shape[0] != count:
        raise LayoutError(
            f"{name} holds {shape[0]} images, {part}_labels {count} labels", where=path, mend=AGAIN
        )


def _refuse_other_labels(path: Path, labels: Mapping[str, Array]) -> None:
    for part, values in labels.items():
        strange = sorted({int(v) for v in values} - set(range(len(CLASSES))))
        if strange:
            raise LabelError(
                f"{part}_labels holds {shown([str(v) for v in strange])}: no class of BloodMNIST",
                where=path,
                mend=f"labels are 0 to {len(CLASSES) - 1} ({', '.join(CLASSES)}); {AGAIN}",
            )
    found = {int(v) for values in labels.values() for v in values}
    empty = [name for value, name in enumerate(CLASSES) if value not in found]
    if empty:
        raise LabelError(f"classes without an image: {shown(empty)}", where=path, mend=AGAIN)
