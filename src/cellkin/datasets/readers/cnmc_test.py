"""C-NMC 2019, preliminary test phase: numbered cells and a csv of their labels.

`1.bmp ... 1867.bmp` in one folder, and a csv `Patient_ID,new_names,labels` in it or above it
(labels 1 = all). `Patient_ID` is the cell's name of the training folds (`UID_57_29_1_all.bmp`), or
a subject's. Where the training folds lie beside, both are read as one data set with official folds.
The cells of the final test phase count from `1.bmp` as well and have no labels: a folder of them,
named so as its publisher does (`C-NMC_test_final_phase_data`), is passed over, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.names import likeness
from cellkin.core.records import Dataset, ImageRef, Sample
from cellkin.datasets.csv_rows import Rows, columns_of, raise_faults, read_rows
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.parts.split_units import refuse_subjects_in_two_folds
from cellkin.datasets.readers import cnmc
from cellkin.datasets.vocabulary import fixed_label_set

LAYOUT = "C-NMC 2019 preliminary test phase"
BOTH = "C-NMC 2019 with preliminary test phase"
FOLD = "preliminary test"
TRAINING = "training"
COLUMNS = ("patient_id", "new_names", "labels")
LABELS = {"1": "all", "0": "hem"}
PUBLISHED_COUNTS = {"hem": 648, "all": 1219}
PUBLISHED_SUBJECTS = 28
NUMBERED = re.compile(r"(?:(.*)/)?\d+\.(?:bmp|png|jpe?g|tiff?)", re.IGNORECASE)
FINAL = re.compile(r"test_?final|final_?(?:test|phase)", re.IGNORECASE)
TRAINED = re.compile(r"(?:(.*?)/)??((?:fold_\d+/)?(?:all|hem)/[^/]+)", re.IGNORECASE)

_ALONE = replace(
    cnmc.PUBLISHED[0],
    name=LAYOUT,
    layout=LAYOUT,
    files="1.bmp to 1867.bmp and a csv Patient_ID,new_names,labels (1 = all); 450 x 450 pixels",
    counts=PUBLISHED_COUNTS,
    total=1867,
    subjects=PUBLISHED_SUBJECTS,
    about="Its subjects are others than those of the training folds.",
    source="publisher",
)
_BESIDE = replace(
    _ALONE,
    name=BOTH,
    layout=BOTH,
    files="the training folds and the test phase in one folder; the test phase is a fold",
    counts={name: n + cnmc.PUBLISHED_COUNTS[name] for name, n in PUBLISHED_COUNTS.items()},
    total=12_528,
    subjects=cnmc.PUBLISHED_SUBJECTS + PUBLISHED_SUBJECTS,
    about="Three training folds and the test phase, no subject in two of them.",
)
PUBLISHED = (_ALONE, _BESIDE)


def recognises(listing: Listing) -> bool:
    """Whether there are numbered images, and a csv with the column `new_names`."""
    return any(NUMBERED.fullmatch(image) for image in listing.images) and bool(_tables(listing))


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read the test phase, and the training folds where they lie beside.

    Raises:
        LayoutError: several such csv files; numbered images in several folders; other images.
        LabelError: a column is missing; a row without a patient, naming a missing image or one
            that another row names, with a label that is neither 0 nor 1, or one that its
            `Patient_ID` contradicts (all are counted); faults of the training folds.
        SplitError: a subject of the test phase is in a training fold.
    """
    table = _table(listing)
    final = _final(listing)
    listing = replace(listing, images=tuple(i for i in listing.images if i not in final))
    numbered = [image for image in listing.images if NUMBERED.fullmatch(image)]
    _refuse_several_folders(listing, numbered)
    places = {PurePosixPath(image).name.casefold(): image for image in numbered}
    tested = _tested(listing, table, places)
    trained = _trained(listing, set(numbered))
    samples = (*trained, *tested)
    refuse_subjects_in_two_folds(samples, where=listing.root)
    used = [table.path.relative_to(listing.root).as_posix()]
    notes = [*listing.notes(expected=used), *table.unlisted(numbered, tested)]
    if final:
        notes.append(f"{len(final)} cells of the final test phase have no label: not read")
    if trained:
        notes.append(f"{len(tested)} cells of the test phase are the official fold {FOLD!r}")
    labels = fixed_label_set(cnmc.CLASSES, root=listing.root, clinical=clinical)
    published = _BESIDE if trained else _ALONE
    return published.dataset(samples, labels, root=listing.root, notes=notes)


def _tables(listing: Listing) -> list[str]:
    return [
        name for name in listing.others if name.lower().endswith(".csv") and _is_ours(listing, name)
    ]


def _is_ours(listing: Listing, name: str) -> bool:
    ours = {likeness(column) for column in COLUMNS} & set(columns_of(listing.root / name))
    return likeness("new_names") in ours or ("prelim" in name.lower() and bool(ours))


def _table(listing: Listing) -> Rows:
    names = _tables(listing)
    if len(names) != 1:
        raise LayoutError(
            f"{len(names)} csv files list the cells of C-NMC's test phase: {shown(names)}",
            where=listing.root,
            mend="keep the publisher's, and move the others away",
        )
    return read_rows(listing.root / names[0], required=COLUMNS, optional=())


def _final(listing: Listing) -> frozenset[str]:
    """The numbered images in folders of the final test phase, where others lie beside them."""
    numbered = {image for image in listing.images if NUMBERED.fullmatch(image)}
    final = frozenset(i for i in numbered if FINAL.search(i.rpartition("/")[0]))
    return final if final != numbered else frozenset()


def _refuse_several_folders(listing: Listing, numbered: Sequence[str]) -> None:
    folders = sorted({image.rpartition("/")[0] or "." for image in numbered})
    if len(folders) > 1:
        raise LayoutError(
            f"the numbered images of C-NMC's test phase lie in {len(folders)} folders: "
            f"{shown(folders)}",
            where=listing.root,
            mend="leave here only the folder that the csv labels, and move the others out of this "
            "data set as they are: never into one folder, for their numbers are the same",
        )


def _tested(listing: Listing, table: Rows, places: Mapping[str, str]) -> list[Sample]:
    samples: dict[str, Sample] = {}
    faults = []
    for line, row in table.rows:
        image = places.get(row["new_names"].casefold(), "")
        fault = _fault(row, image)
        if not fault and image in samples:
            fault = f"{row['new_names']} is listed twice"
        if fault:
            faults.append(f"line {line}: {fault}")
        else:
            samples[image] = _sample(listing, image, row)
    raise_faults(
        table.path,
        faults,
        mend="restore this file from the publisher's archive; a line is "
        "UID_57_29_1_all.bmp,1.bmp,1",
    )
    if not samples:
        raise LabelError(f"{table.path.name} lists no image", where=table.path, mend="restore it")
    return list(samples.values())


def _fault(row: Mapping[str, str], image: str) -> str:
    name = cnmc.NAME.fullmatch(row["patient_id"])
    label = LABELS.get(row["labels"])
    if not row["patient_id"]:
        return "the Patient_ID is empty"
    if not image:
        return f"{row['new_names'] or 'an empty name'} does not exist"
    if label is None:
        return f"the label of {row['new_names']} is {row['labels']!r}, not 0 or 1"
    if name and name[5].lower() != label:
        return f"{row['new_names']} is labelled {row['labels']} ({label}) and was {name[0]!r}"
    return ""


def _sample(listing: Listing, image: str, row: Mapping[str, str]) -> Sample:
    name = cnmc.NAME.fullmatch(row["patient_id"])
    subject = f"{name[1].upper()}{name[2]}" if name else row["patient_id"]
    return Sample(
        id=image,
        image=ImageRef(listing.root / image),
        labels=((LABELS[row["labels"]],),),
        subject=subject,
        group=f"{subject}_{name[3]}" if name else None,
        specimen=cnmc.SPECIMEN,
        fold=FOLD,
    )


def _trained(listing: Listing, numbered: set[str]) -> list[Sample]:
    rest = tuple(image for image in listing.images if image not in numbered)
    if not rest:
        return []
    places = {image: TRAINED.fullmatch(image) for image in rest}
    strays = [image for image, place in places.items() if place is None]
    above = {place[1] or "" for place in places.values() if place}
    if strays or len(above) > 1:
        raise LayoutError(
            f"{len(strays) or len(rest)} images belong neither to C-NMC's test phase nor to one "
            f"copy of its training folds: {shown(strays or sorted(rest))}",
            where=listing.root,
            mend="keep the numbered images with their csv, and fold_*/{all,hem} beside; move the "
            "others away",
        )
    folder = above.pop()
    part = replace(listing, images=rest, others=())
    data = cnmc.read(part.below(folder) if folder else part)
    prefix = f"{folder}/" if folder else ""
    return [
        replace(sample, id=f"{prefix}{sample.id}", fold=sample.fold or TRAINING) for sample in data
    ]
