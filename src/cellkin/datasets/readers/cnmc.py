"""C-NMC 2019, as published or as one flat pair of folders.

`fold_*/{all,hem}/UID_<subject>_<image>_<cell>_all.bmp` and `UID_H<subject>_..._hem.bmp`; or
`{all,hem}/` without folds. Folder, ending and `H` must say the same. Some file names carry a small
`h`: `h3` is subject `H3`. `hem` cells are normal B-lymphoid precursors of bone marrow, which the
paper calls "normal" (Table 3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.parts.split_units import refuse_subjects_in_two_folds
from cellkin.datasets.published import Published
from cellkin.datasets.vocabulary import Meaning, fixed_label_set, refuse_single_class

LAYOUT = "C-NMC 2019"
PUBLISHED_COUNTS = {"hem": 3389, "all": 7272}
PUBLISHED_SUBJECTS = 73
CLASSES = {
    "hem": Meaning(OTHER_CELL, "normal B-lymphoid precursor"),
    "all": Meaning(LYMPHOBLAST, "lymphoblast"),
}
SPECIMEN = "bone marrow"
PUBLISHED = (
    Published(
        name=LAYOUT,
        layout=LAYOUT,
        files="fold_{0,1,2}/{all,hem}/UID_<subject>_<image>_<cell>_all.bmp (UID_H..._hem.bmp); "
        "450 x 450 pixels, the cell cut out on black",
        counts=PUBLISHED_COUNTS,
        total=10_661,
        source="Table 3 of the paper",
        subjects=PUBLISHED_SUBJECTS,
        citation="Gupta A., Gupta R. (2019). ALL Challenge dataset of ISBI 2019 (C-NMC 2019). "
        "The Cancer Imaging Archive. doi:10.7937/tcia.2019.dc64i46r",
        licence="CC BY 3.0",
        specimen=SPECIMEN,
        stain="Jenner-Giemsa",
        access="The Cancer Imaging Archive: https://doi.org/10.7937/tcia.2019.dc64i46r",
        about="hem cells are normal B-lymphoid precursors. The folds share no subject; cells of "
        "one subject are alike, so split by subject. Stain-normalised by its publisher.",
    ),
)
PLACE = re.compile(r"(?:(fold_\d+)/)?(all|hem)/([^/]+)", re.IGNORECASE)
NAME = re.compile(r"UID_(H?)(\d+)_(\d+)_(\d+)_(all|hem)\.\w+", re.IGNORECASE)


def recognises(listing: Listing) -> bool:
    """Whether at least one image lies and is named as in C-NMC 2019."""
    return any(
        (place := PLACE.fullmatch(image)) and NAME.fullmatch(place[3]) for image in listing.images
    )


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read C-NMC 2019; subject, field (`group`) and label from the names, folds from the folders.

    Raises:
        LayoutError: an image lies outside of `fold_*/{all,hem}`; some images in folds, some not.
        LabelError: a name that is not C-NMC's, or one whose label is not its folder's (all are
            counted, the first five shown); a class folder without images; only one class.
        SplitError: a subject lies in two folds.
    """
    _refuse_strays(listing)
    _refuse_empty_folders(listing)
    faults = [fault for image in listing.images if (fault := _fault(image))]
    if faults:
        raise LabelError(
            f"{len(faults)} labels of C-NMC are in doubt: "
            + "; ".join(faults[:5])
            + (f"; and {len(faults) - 5} more" if len(faults) > 5 else ""),
            where=listing.root,
            mend="restore these files from the publisher's archive, or take them away",
        )
    samples = tuple(_sample(listing, image) for image in listing.images)
    refuse_single_class(
        samples, where=listing.root, mend="give the folder that holds both, all and hem"
    )
    refuse_subjects_in_two_folds(samples, where=listing.root)
    labels = fixed_label_set(CLASSES, root=listing.root, clinical=clinical)
    return PUBLISHED[0].dataset(
        samples, labels, root=listing.root, notes=(*listing.notes(), *_fold_note(samples))
    )


def _parts(image: str) -> tuple[re.Match[str], re.Match[str]]:
    place = PLACE.fullmatch(image)
    name = NAME.fullmatch(place[3]) if place else None
    if place is None or name is None:
        raise LabelError("this is no image of C-NMC", where=image, mend="take it away")
    return place, name


def _fault(image: str) -> str:
    place = PLACE.fullmatch(image)
    name = NAME.fullmatch(place[3]) if place else None
    if place is None or name is None:
        return f"{image} is not named UID_<subject>_<image>_<cell>_<label>"
    folder, ending = place[2].lower(), name[5].lower()
    if folder != ending:
        return f"{image} lies in {folder!r} and is named {ending!r}"
    if (name[1] != "") != (ending == "hem"):
        return f"{image} is named {ending!r}, its subject is {'' if name[1] else 'not '}marked 'H'"
    return ""


def _sample(listing: Listing, image: str) -> Sample:
    place, name = _parts(image)
    subject = f"{name[1].upper()}{name[2]}"
    return Sample(
        id=image,
        image=ImageRef(listing.root / image),
        labels=((name[5].lower(),),),
        subject=subject,
        group=f"{subject}_{name[3]}",
        specimen=SPECIMEN,
        fold=place[1].lower() if place[1] else None,
    )


def _refuse_strays(listing: Listing) -> None:
    places = {image: PLACE.fullmatch(image) for image in listing.images}
    strays = [image for image, place in places.items() if place is None]
    if strays:
        raise LayoutError(
            f"this looks like C-NMC 2019, and {len(strays)} images lie outside of its folders: "
            f"{shown(strays)}",
            where=listing.root,
            mend="images lie in fold_0/all, fold_0/hem, ... or in all, hem; move the others away",
        )
    if len({place[1] is None for place in places.values() if place}) > 1:
        raise LayoutError(
            "some images of C-NMC lie in fold_* and some do not",
            where=listing.root,
            mend="keep the publisher's folds, or the flat folders all and hem, not both",
        )


def _refuse_empty_folders(listing: Listing) -> None:
    filled = {image.rpartition("/")[0] for image in listing.images}
    empty = [f for f in listing.folders if PLACE.fullmatch(f"{f}/x") and f not in filled]
    if empty:
        raise LabelError(
            f"class folders without an image: {shown(empty)}",
            where=listing.root,
            mend="restore them from the publisher's archive, or remove the folders",
        )


def _fold_note(samples: tuple[Sample, ...]) -> tuple[str, ...]:
    official = {sample.fold for sample in samples if sample.fold}
    if official:
        return (f"official folds: {', '.join(sorted(official))}",)
    return ("no official folds: the images lie in all and hem",)
