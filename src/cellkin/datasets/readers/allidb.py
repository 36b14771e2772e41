"""What ALL-IDB1, ALL-IDB2 and ALL-IDB Patches share: names, meanings, citation."""

from __future__ import annotations

from collections.abc import Iterable

from cellkin.core.errors import LabelError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL
from cellkin.datasets.description import read_description
from cellkin.datasets.listing import Listing, shown

NAME = r"Im(\d{3,})_([01])"
IMAGE_FOLDERS = ("im", "img")
NORMAL = "normal"
CLINICAL = {NORMAL: OTHER_CELL, LYMPHOBLAST: LYMPHOBLAST}
SPECIMEN = "peripheral blood"
STAIN = "Romanowsky type"
CITATION = (
    "Donida Labati R., Piuri V., Scotti F. (2011). ALL-IDB: the acute lymphoblastic leukemia image "
    "database for image processing. IEEE ICIP 2011, 2045-2048. doi:10.1109/ICIP.2011.6115881"
)
LICENCE = "for research, on request; not to be passed on"
ACCESS = "by request to its authors: https://homes.di.unimi.it/scotti/all/"


def label_of(mark: str) -> str:
    """`"1"` is lymphoblast, `"0"` is normal."""
    return LYMPHOBLAST if mark == "1" else NORMAL


def is_drawn(listing: Listing) -> bool:
    """Whether `dataset.json` says that the images are drawn: what is documented of the published
    images does not hold for them. The listing may be of the data set, or of its folder of images.
    """
    root = listing.root
    roots = (root, root.parent) if root.name in IMAGE_FOLDERS else (root,)
    return any(bool(read_description(folder).get("drawn")) for folder in roots)


def refuse_doubled_numbers(
    numbers: Iterable[tuple[int, str]], *, layout: str, where: object
) -> None:
    """Raise where one number names two images.

    Args:
        numbers: of every image, with the image.

    Raises:
        LabelError: some numbers occur twice.
    """
    first: dict[int, str] = {}
    doubled = []
    for number, image in numbers:
        if number in first:
            doubled.append(f"{first[number]} and {image}")
        first.setdefault(number, image)
    if doubled:
        raise LabelError(
            f"{len(doubled)} numbers of {layout} occur twice: {shown(doubled)}",
            where=where,
            mend="keep the file that its publisher gave, with its label",
        )
