"""PBC: eight classes of cells of healthy blood, one folder each (Table 4 of the paper)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cellkin.core.errors import LayoutError
from cellkin.core.records import OTHER_CELL, Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.published import Published
from cellkin.datasets.vocabulary import Meaning, fixed_label_set

LAYOUT = "PBC"
PUBLISHED_COUNTS = {
    "basophil": 1218,
    "eosinophil": 3117,
    "erythroblast": 1551,
    "ig": 2895,
    "lymphocyte": 1214,
    "monocyte": 1420,
    "neutrophil": 3329,
    "platelet": 2348,
}
# Beginnings of the publisher's file names. IG has no finer label of ours: PMY, MY and MMY are
# promyelocytes, myelocytes and metamyelocytes; BNE and SNE are band and segmented neutrophils.
PREFIXES = {
    "basophil": "BA",
    "eosinophil": "EO",
    "erythroblast": "ERB",
    "ig": "IG|PMY|MY|MMY",
    "lymphocyte": "LY",
    "monocyte": "MO",
    "neutrophil": "BNE|SNE|NEUTROPHIL",
    "platelet": "PLATELET",
}
CLASSES = {
    name: Meaning(OTHER_CELL, "immature granulocyte" if name == "ig" else name) for name in PREFIXES
}
SPECIMEN = "peripheral blood"
PUBLISHED = (
    Published(
        name=LAYOUT,
        layout=LAYOUT,
        files="a folder per class, BA_123456.jpg and so on; 360 x 363 pixels",
        counts=PUBLISHED_COUNTS,
        total=17_092,
        source="Table 4 of the paper",
        citation="Acevedo A. et al. (2020). A dataset of microscopic peripheral blood cell "
        "images. Data in Brief 30:105474. doi:10.17632/snkd93bnjr.1",
        licence="CC BY 4.0",
        specimen=SPECIMEN,
        stain="May-Gruenwald-Giemsa",
        access="Mendeley Data: https://doi.org/10.17632/snkd93bnjr.1",
        about="Cells of healthy blood: none is a lymphoblast. ig are immature granulocytes.",
    ),
)


def recognises(listing: Listing) -> bool:
    """Whether there are exactly PBC's eight folders, each with an image of PBC's naming."""
    if sorted(name.lower() for name in listing.top_folders) != sorted(CLASSES):
        return False
    named = {_class_of(image) for image in listing.images if _has_its_name(image)}
    return named == set(CLASSES)


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read PBC. Its label is the folder; it names no subjects; none of its cells is a lymphoblast.

    Raises:
        LayoutError: images lie beside the eight folders.
        LabelError: a declared clinical meaning contradicts the publisher's.
    """
    if listing.loose_images:
        raise LayoutError(
            f"{len(listing.loose_images)} images lie beside PBC's folders: "
            f"{shown(listing.loose_images)}",
            where=listing.root,
            mend="move each image into the folder of its class, or take it away",
        )
    samples = tuple(
        Sample(
            id=image,
            image=ImageRef(listing.root / image),
            labels=((_class_of(image),),),
            specimen=SPECIMEN,
        )
        for image in listing.images
    )
    labels = fixed_label_set(CLASSES, root=listing.root, clinical=clinical)
    return PUBLISHED[0].dataset(
        samples, labels, root=listing.root, notes=(*listing.notes(), *_notes(listing))
    )


def _class_of(image: str) -> str:
    return image.partition("/")[0].lower()


def _has_its_name(image: str) -> bool:
    prefixes = PREFIXES.get(_class_of(image), "")
    name = image.rpartition("/")[2]
    return bool(prefixes and re.match(rf"({prefixes})_\d+\.", name, re.IGNORECASE))


def _notes(listing: Listing) -> list[str]:
    notes = ["PBC names no subjects: cells are taken as independent"]
    strange = [image for image in listing.images if not _has_its_name(image)]
    if strange:
        notes.append(
            f"{len(strange)} images are not named as PBC names them: {shown(strange)}; "
            "their labels are their folders'"
        )
    return notes
