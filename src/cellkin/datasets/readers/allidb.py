"""What ALL-IDB1, ALL-IDB2 and ALL-IDB Patches share: names, meanings, citation."""

from __future__ import annotations

from cellkin.core.records import LYMPHOBLAST, OTHER_CELL
from cellkin.datasets.description import read_description
from cellkin.datasets.listing import Listing

__all__ = [
    "ACCESS",
    "CITATION",
    "CLINICAL",
    "LICENCE",
    "NAME",
    "NORMAL",
    "SPECIMEN",
    "STAIN",
    "is_drawn",
    "label_of",
]

NAME = r"Im(\d{3,})_([01])"
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
    images does not hold for them.
    """
    return bool(read_description(listing.root).get("drawn"))
