"""ALL-IDB1: fields of blood smears with the centroids of their blasts.

`im/ImXXX_Y.jpg`, Y = 1 where the person has blasts; `xyc/ImXXX_Y.xyc` lists one `x<TAB>y` per
blast, in pixels from the upper left corner. A field is one sample; its blasts are in
`Sample.annotations["blasts"]` as [x, y]. Fields that show the same place of a smear are one group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.records import LYMPHOBLAST, Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.published import Published
from cellkin.datasets.readers import allidb
from cellkin.datasets.vocabulary import Meaning, fixed_label_set, refuse_single_class

LAYOUT = "ALL-IDB1"
BOTH = "give the folder that holds both, im/ImXXX_0.jpg and im/ImXXX_1.jpg"
BLASTS = "blasts"
OTHERS = "others.csv"  # a list of other white cells, for `patches`; not the publisher's
PLACE = re.compile(rf"im/{allidb.NAME}\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)
POINTS = re.compile(rf"xyc/{allidb.NAME}\.xyc", re.IGNORECASE)
CLASSES = {
    allidb.NORMAL: Meaning(allidb.CLINICAL[allidb.NORMAL], "field of a person without blasts"),
    LYMPHOBLAST: Meaning(LYMPHOBLAST, "field of a person with blasts"),
}
OVERLAPPING: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("1", (9, 10, 11)),
    ("1", (13, 14, 15)),
    ("1", (18, 19)),
    ("1", (20, 21, 22)),
    ("0", (36, 102, 103)),
    ("0", (38, 39, 44)),
    ("0", (78, 89)),
    ("0", (93, 108)),  # equal: Im093_0 = Im108_0
    ("0", (94, 95)),
)
"""Documented fields that overlap or are equal, as (Y, numbers)."""

ONLY_BLASTS = (
    ".xyc files list blasts only: fields of healthy people carry no positions, and other white "
    "cells are nowhere marked"
)
PUBLISHED = (
    Published(
        name=LAYOUT,
        layout=LAYOUT,
        files="im/ImXXX_Y.jpg, Y = 1 where the person has blasts; xyc/ImXXX_Y.xyc, one x<TAB>y per "
        "blast; 2592 x 1944 or 1712 x 1368 pixels, one 1226 x 652",
        counts={allidb.NORMAL: 59, LYMPHOBLAST: 49},
        total=108,
        source="publisher",
        citation=allidb.CITATION,
        licence=allidb.LICENCE,
        specimen=allidb.SPECIMEN,
        stain=allidb.STAIN,
        access=allidb.ACCESS,
        about="The size of a field depends on its label. Some fields overlap, Im093_0 equals "
        "Im108_0; no person is named. " + ONLY_BLASTS + ".",
    ),
)

Points = list[list[float]]


def recognises(listing: Listing) -> bool:
    """Whether at least one image lies and is named as in ALL-IDB1."""
    return any(PLACE.fullmatch(image) for image in listing.images)


def documented(listing: Listing) -> dict[str, str]:
    """Group of every image of ALL-IDB1, or of its folder `im`, that is documented to overlap others
    or to equal one; none of drawn ones.
    """
    if allidb.is_drawn(listing):
        return {}
    within = "im/" if listing.root.name == "im" else ""
    places = ((image, PLACE.fullmatch(within + image)) for image in listing.images)
    names = {
        (mark, n): "+".join(f"Im{m:03d}_{mark}" for m in numbers)
        for mark, numbers in OVERLAPPING
        for n in numbers
    }
    found = {image: names.get((m[2], int(m[1]))) for image, m in places if m}
    return {image: group for image, group in found.items() if group is not None}


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read ALL-IDB1; one sample per field. No image is opened: `check` and `patches` find
    centroids outside of their field.

    Raises:
        LayoutError: an image or a `.xyc` file is not named or does not lie as in ALL-IDB1.
        LabelError: a number twice; only one class; a `.xyc` without its field, a line of it that
            is no two numbers, or blasts in the field of a healthy person (all are counted).
    """
    points = {name: name for name in listing.others if POINTS.fullmatch(name)}
    _refuse_strays(listing)
    numbers = [(int(m[1]) if (m := PLACE.fullmatch(i)) else -1, i) for i in listing.images]
    allidb.refuse_doubled_numbers(numbers, layout=LAYOUT, where=listing.root)
    blasts = _read_points(listing, points)
    groups = {image: _stem(image) for image in listing.images} | documented(listing)
    samples = tuple(_sample(listing, image, blasts, groups[image]) for image in listing.images)
    refuse_single_class(samples, where=listing.root, mend=BOTH)
    labels = fixed_label_set(CLASSES, root=listing.root, clinical=clinical)
    return PUBLISHED[0].dataset(
        samples,
        labels,
        root=listing.root,
        notes=(*listing.notes(expected={*points, OTHERS}), *_notes(samples)),
    )


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _sample(listing: Listing, image: str, blasts: Mapping[str, Points], group: str) -> Sample:
    stem = _stem(image)
    match = PLACE.fullmatch(image)
    mark = match[2] if match else ""
    found = blasts.get(stem.casefold())
    return Sample(
        id=image,
        image=ImageRef(listing.root / image),
        labels=((allidb.label_of(mark),),),
        group=group,
        specimen=allidb.SPECIMEN,
        annotations={} if found is None else {BLASTS: found},
    )


def _read_points(listing: Listing, files: Iterable[str]) -> dict[str, Points]:
    fields = {_stem(image).casefold() for image in listing.images}
    found: dict[str, Points] = {}
    faults: list[str] = []
    for file in files:
        stem = _stem(file)
        points, wrong = _parse(listing.root / file)
        faults += [f"{file}, {fault}" for fault in wrong]
        if stem.casefold() not in fields:
            faults.append(f"{file} names a field that is not in im/")
        elif points and stem.endswith("_0"):
            faults.append(f"{file} lists {len(points)} blasts in the field of a healthy person")
        found[stem.casefold()] = points
    if faults:
        raise LabelError(
            f"the centroids of ALL-IDB1 have {len(faults)} faults: {shown(faults)}",
            where=listing.root / "xyc",
            mend="one line 'x<TAB>y' per blast, in pixels of the field; restore these files from "
            "the publisher's archive",
        )
    return found


def _parse(path: Path) -> tuple[Points, list[str]]:
    points: Points = []
    faults: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"which cannot be read: {error}"]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            x, y = (float(word) for word in line.replace(",", " ").split())
        except ValueError:
            faults.append(f"line {number}: {line.strip()!r} is no 'x<TAB>y'")
            continue
        if x >= 0 and y >= 0 and x + y < float("inf"):
            points.append([x, y])
        else:
            faults.append(f"line {number}: {line.strip()!r} does not lie in a field")
    return points, faults


def _refuse_strays(listing: Listing) -> None:
    strays = [image for image in listing.images if not PLACE.fullmatch(image)]
    strays += [
        name
        for name in listing.others
        if name.lower().endswith(".xyc") and not POINTS.fullmatch(name)
    ]
    if strays:
        raise LayoutError(
            f"this looks like ALL-IDB1, and {len(strays)} files are not of it: {shown(strays)}",
            where=listing.root,
            mend="its files are im/ImXXX_Y.jpg and xyc/ImXXX_Y.xyc; move the others away",
        )


def _notes(samples: Sequence[Sample]) -> list[str]:
    ill = [sample for sample in samples if sample.label == LYMPHOBLAST]
    marked = sum(len(sample.annotations.get(BLASTS, ())) for sample in samples)
    notes = [
        f"{marked} blasts are marked in {len(ill)} fields of persons with blasts; {ONLY_BLASTS}",
        "ALL-IDB1 names no subjects: fields are taken as independent, overlapping ones are a group",
    ]
    unlisted = [sample.id for sample in ill if BLASTS not in sample.annotations]
    empty = [sample.id for sample in ill if sample.annotations.get(BLASTS) == []]
    if unlisted:
        notes.append(f"{len(unlisted)} fields with blasts have no .xyc file: {shown(unlisted)}")
    if empty:
        notes.append(f"{len(empty)} .xyc files of fields with blasts list none: {shown(empty)}")
    merged = sorted({s.group for s in samples if s.group and "+" in s.group})
    if merged:
        notes.append(f"{len(merged)} groups of overlapping fields are documented: {shown(merged)}")
    return notes
