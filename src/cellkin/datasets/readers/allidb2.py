"""ALL-IDB2: single cells cut from the fields of ALL-IDB1 (section 5.1, Table 1 of the paper).

`img/ImXXX_Y.tif`, or the same files without the folder; Y = 1 lymphoblast, 0 normal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from cellkin.core.errors import LayoutError
from cellkin.core.records import LYMPHOBLAST, Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.parts.leakage import TWINS
from cellkin.datasets.published import Published
from cellkin.datasets.readers import allidb
from cellkin.datasets.vocabulary import Meaning, fixed_label_set, refuse_single_class

LAYOUT = "ALL-IDB2"
BOTH = "give the folder that holds both, ImXXX_0 and ImXXX_1"
PLACE = re.compile(rf"(?:img/)?{allidb.NAME}\.(?:tiff?|png|bmp)", re.IGNORECASE)
CLASSES = {name: Meaning(clinical, name) for name, clinical in allidb.CLINICAL.items()}

# Im223_0 equals Im257_0 pixel for pixel; the cells of 222-227 recur in 256-260.
RECURRING = frozenset({*range(222, 228), *range(256, 261)})
RECURRING_NAME = "Im222_0 to Im227_0, which recur in Im256_0 to Im260_0"

ABOUT = (
    "Its cells are crops of ALL-IDB1, and the files do not say of which field: cells of one person "
    "lie on both sides of a split. Im223_0 and Im257_0 are equal, and 222-227 recur in 256-260."
)
_BEFORE = Published(
    name="ALL-IDB2",
    counts={allidb.NORMAL: 130, LYMPHOBLAST: 130},
    total=260,
    source="section 5.1 of the paper",
    access=allidb.ACCESS,
    about=ABOUT,
    layout=LAYOUT,
    files="img/ImXXX_Y.tif, Y = 1 lymphoblast, 0 normal; 257 x 257 pixels, ten are smaller",
    citation=allidb.CITATION,
    licence=allidb.LICENCE,
    specimen=allidb.SPECIMEN,
    stain=allidb.STAIN,
)
_AFTER = replace(
    _BEFORE,
    name="ALL-IDB2 after class injection",
    counts={
        "nothing": 130,
        allidb.NORMAL: 130,
        "lymphoblast (1)": 73,
        "lymphoblast (2)": 57,
    },
    total=390,
    source="Table 1 of the paper",
    access="made from ALL-IDB2 and ALL-IDB1",
    about="The two lymphoblast classes are imaging groups, not subtypes of a disease.",
)
PUBLISHED = (_BEFORE, _AFTER)


def recognises(listing: Listing) -> bool:
    """Whether at least one image lies and is named as in ALL-IDB2."""
    return any(PLACE.fullmatch(image) for image in listing.images)


def documented(listing: Listing) -> tuple[tuple[str, ...], ...]:
    """Images of ALL-IDB2, or of its folder `img`, that are documented to show the same cells; none
    of drawn ones.
    """
    if allidb.is_drawn(listing):
        return ()
    places = [m for image in listing.images if (m := PLACE.fullmatch(image))]
    return (tuple(m[0] for m in places if m[2] == "0" and int(m[1]) in RECURRING),)


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read ALL-IDB2; the label is in the name, no subject or field is named.

    Raises:
        LayoutError: an image is not named or does not lie as in ALL-IDB2.
        LabelError: a number twice, only one class, or a declared meaning that contradicts.
    """
    _refuse_strays(listing)
    recurring = {image for link in documented(listing) for image in link}
    samples = tuple(_sample(listing, image, image in recurring) for image in listing.images)
    numbers = [(int(_match(i)[1]), i) for i in listing.images]
    allidb.refuse_doubled_numbers(numbers, layout=LAYOUT, where=listing.root)
    refuse_single_class(samples, where=listing.root, mend=BOTH)
    notes = [
        *listing.notes(),
        "ALL-IDB2 names no subjects: cells are taken as independent, though they are crops of "
        "ALL-IDB1 and one person's may lie on both sides of a split",
    ]
    twins = [sample.id for sample in samples if TWINS in sample.annotations]
    if twins:
        notes.append(
            f"{len(twins)} cells are documented duplicates ({RECURRING_NAME}; Im223_0 = Im257_0 "
            "in every pixel): keep them on one side of a split"
        )
    labels = fixed_label_set(CLASSES, root=listing.root, clinical=clinical)
    return _BEFORE.dataset(samples, labels, root=listing.root, notes=notes)


def _match(image: str) -> re.Match[str]:
    match = PLACE.fullmatch(image)
    if match is None:
        raise LayoutError("this is no image of ALL-IDB2", where=image, mend="take it away")
    return match


def _sample(listing: Listing, image: str, recurs: bool) -> Sample:
    return Sample(
        id=image,
        image=ImageRef(listing.root / image),
        labels=((allidb.label_of(_match(image)[2]),),),
        specimen=allidb.SPECIMEN,
        annotations={TWINS: RECURRING_NAME} if recurs else {},
    )


def _refuse_strays(listing: Listing) -> None:
    strays = [image for image in listing.images if not PLACE.fullmatch(image)]
    if strays:
        raise LayoutError(
            f"this looks like ALL-IDB2, and {len(strays)} images are not of it: {shown(strays)}",
            where=listing.root,
            mend="its images are img/ImXXX_0.tif and img/ImXXX_1.tif; move the others away",
        )
