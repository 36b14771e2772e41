"""ADP: patches of tissue with several labels each, on three levels (section 3.1 of the paper).

A csv with the column `Patch Names` and one 0/1 column per code (E, E.M, E.M.S, ... T); the images
lie below the same folder. The level of a code is its number of dots plus 1, and each level keeps
the codes of the levels above it. Patches are named `<slide>_crop_<n>.png`: a slide is a group.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.records import Dataset, ImageRef, LabelSet, Sample
from cellkin.datasets.csv_rows import Rows, columns_of, raise_faults, read_rows
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.published import Published

LAYOUT = "ADP"
COLUMN = "patch names"
DEPTH = 3
CODE = re.compile(rf"[A-Z](?:\.[A-Z]){{0,{DEPTH - 1}}}")
PATCH = re.compile(r"(.+?)(?:\.\w+)?_crop_\d+\.\w+", re.IGNORECASE)
SPECIMEN = "tissue"
CITATION = (
    "Hosseini M. S. et al. (2019). Atlas of Digital Pathology: a generalized hierarchical "
    "histological tissue type-annotated database for deep learning. CVPR 2019, 11747-11756"
)
LICENCE = "for research, on request"
PUBLISHED = (
    Published(
        name="ADP (Atlas of Digital Pathology)",
        layout=LAYOUT,
        files="a csv with Patch Names and one 0/1 column per code (E, E.M, E.M.S ... T), the "
        "patches below the same folder",
        total=17_668,
        levels=(9, 26, 38),
        source="section 5.1 of the paper",
        citation=CITATION,
        licence=LICENCE,
        specimen=SPECIMEN,
        access="by request: https://www.dsp.utoronto.ca/projects/ADP/",
        about="Tissue, not blood: for pretraining. Several labels per image, so it is not split, "
        "trained or voted on as cells are.",
    ),
)


def recognises(listing: Listing) -> bool:
    """Whether a csv has a column `Patch Names`, or the code E and others of ADP."""
    return bool(_tables(listing))


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read ADP. `Dataset.levels` holds the codes of each level, `Dataset.labels` has no class.

    Raises:
        LayoutError: several such csv files, or images of one name in several folders.
        LabelError: no `Patch Names`; a column that is no code, or whose parent has no column; a
            row that names a missing image or one that another row names, or a value other than 0
            and 1 (all are counted); a clinical meaning was declared.
    """
    if clinical:
        raise LabelError(
            "a clinical meaning is declared, and ADP has tissue codes, no classes of cells",
            where=f"clinical[{next(iter(clinical))!r}]",
            mend="take the declaration away (--clinical)",
        )
    table = _table(listing)
    codes = _codes(table)
    places = _places(listing)
    _refuse_faults(table, codes, places)
    depth = max(code.count(".") for code in codes) + 1
    levels = tuple(tuple(c for c in codes if c.count(".") <= i) for i in range(depth))
    samples = [_sample(listing, row, levels, places) for _, row in table.rows]
    used = [table.path.relative_to(listing.root).as_posix()]
    notes = (*listing.notes(expected=used), *_notes(listing, samples, table))
    return PUBLISHED[0].dataset(
        samples, LabelSet((), {}), root=listing.root, notes=notes, levels=levels
    )


def _tables(listing: Listing) -> list[str]:
    found = []
    for name in listing.others:
        if name.lower().endswith(".csv"):
            columns = columns_of(listing.root / name)
            codes = [c for c in columns if "." in c and CODE.fullmatch(c.upper())]
            if COLUMN in columns or ("e" in columns and codes):
                found.append(name)
    return found


def _table(listing: Listing) -> Rows:
    names = _tables(listing)
    if len(names) > 1:
        raise LayoutError(
            f"{len(names)} csv files label the patches of ADP: {shown(names)}",
            where=listing.root,
            mend="keep the one to use, and move the others away",
        )
    table = read_rows(listing.root / names[0], required=(COLUMN,), optional=())
    if not table.rows:
        raise LabelError(f"{table.path.name} lists no patch", where=table.path, mend="restore it")
    return table


def _codes(table: Rows) -> tuple[str, ...]:
    codes = tuple(column.upper() for column in table.columns if column != COLUMN)
    strange = [code for code in codes if not CODE.fullmatch(code)]
    orphans = [code for code in codes if "." in code and code.rpartition(".")[0] not in codes]
    what = ""
    if strange or not codes:
        what = f"{len(strange) or 'all'} columns are no codes of ADP: {shown(strange) or 'none is'}"
    elif orphans:
        what = f"{len(orphans)} codes have no column for the code above them: {shown(orphans)}"
    if what:
        raise LabelError(
            what,
            where=f"{table.path}, line 1",
            mend=f"columns are Patch Names and codes of up to {DEPTH} letters with dots (E, E.M, "
            "E.M.S), each with the codes above it",
        )
    return codes


def _places(listing: Listing) -> dict[str, str]:
    found: dict[str, list[str]] = defaultdict(list)
    for image in listing.images:
        found[PurePosixPath(image).name].append(image)
    double = sorted(name for name, images in found.items() if len(images) > 1)
    if double:
        raise LayoutError(
            f"{len(double)} patches lie in several folders: {shown(double)}",
            where=listing.root,
            mend="keep one copy of each patch",
        )
    return {name: images[0] for name, images in found.items()}


def _refuse_faults(table: Rows, codes: Sequence[str], places: Mapping[str, str]) -> None:
    first: dict[str, int] = {}
    faults = []
    for line, row in table.rows:
        name = row[COLUMN]
        wrong = [code for code in codes if row[code.lower()] not in ("0", "1")]
        fault = ""
        if name not in places:
            fault = f"{name or 'an empty name'} does not exist"
        elif name in first:
            fault = f"{name} is listed twice (first on line {first[name]})"
        elif wrong:
            fault = f"{wrong[0]} of {name} is {row[wrong[0].lower()]!r}, not 0 or 1"
        first.setdefault(name, line)
        if fault:
            faults.append(f"line {line}: {fault}")
    raise_faults(table.path, faults, mend="restore this file and the patches from the publisher")


def _sample(
    listing: Listing,
    row: Mapping[str, str],
    levels: Sequence[Sequence[str]],
    places: Mapping[str, str],
) -> Sample:
    image = places[row[COLUMN]]
    slide = PATCH.fullmatch(row[COLUMN])
    return Sample(
        id=image,
        image=ImageRef(listing.root / image),
        labels=tuple(tuple(c for c in level if row[c.lower()] == "1") for level in levels),
        group=slide[1] if slide else None,
        specimen=SPECIMEN,
    )


def _notes(listing: Listing, samples: Sequence[Sample], table: Rows) -> list[str]:
    notes = ["several labels per image: for pretraining, not for a vote"]
    notes += table.unlisted(listing.images, samples)
    torn = sorted(sample.id for sample in samples if _is_torn(sample.labels[-1]))
    if torn:
        notes.append(
            f"{len(torn)} patches carry a code without the code above it, as their file says: "
            f"{shown(torn)}"
        )
    lacking = sum(sample.group is None for sample in samples)
    if lacking:
        notes.append(f"{lacking} patches are not named <slide>_crop_<n>: their slide is not known")
    return notes


def _is_torn(codes: Sequence[str]) -> bool:
    return any("." in code and code.rpartition(".")[0] not in codes for code in codes)
