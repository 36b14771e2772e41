"""A `labels.csv` in the root: one row per image, with what is known about it.

Columns: `file` (path relative to the root, with `/`) and `label`; optional `subject`, `group` (or
`slide` or `field`), `place` (or `laboratory`, `site`, `scanner` or `centre`), `specimen`,
`licence`, `dataset`, `fold` (the publisher's own fold), `um_per_pixel` (micrometres per pixel,
where it is known).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.names import likeness, plain, spelled
from cellkin.core.records import Dataset, ImageRef, Sample
from cellkin.datasets.csv_rows import PLACES, SHOWN, Rows, raise_faults, read_rows
from cellkin.datasets.identity import identified
from cellkin.datasets.listing import Listing, is_image_name, is_litter, shown
from cellkin.datasets.parts.split_units import refuse_subjects_in_two_folds
from cellkin.datasets.vocabulary import label_set

LAYOUT = "labels.csv"
FILE = "labels.csv"
SCALE = "um_per_pixel"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "group": ("group", "slide", "field"),
    "place": PLACES,
}
"""Names of one and the same column; a table has one of them."""
LARGER = {
    "group": "the larger unit, whose cells must stay on one side of a split",
    "place": "the one within which cells look alike",
}
OPTIONAL = ("subject", *COLUMNS["group"], *COLUMNS["place"])
OPTIONAL += ("specimen", "licence", "dataset", "fold", SCALE)

Row = tuple[int, Mapping[str, str]]


def recognises(listing: Listing) -> bool:
    """Whether the root holds a labels.csv."""
    return (listing.root / FILE).is_file()


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read the images that labels.csv lists, and only those.

    Raises:
        LabelError: the file is damaged or lacks a column; a row without file or label, with a
            path that leaves the folder, a missing file, litter, or a file that is listed twice (all
            faults are counted, the first five shown); a class without a meaning; look-alikes.
        LayoutError: the table covers several data sets.
        SplitError: a subject lies in two of the publisher's folds.
    """
    table = read_rows(listing.root / FILE, required=("file", "label"), optional=OPTIONAL)
    _refuse_several_data_sets(table)
    _refuse_two_columns_of_one(table)
    _refuse_faults(listing, table)
    places = {plain(image): image for image in listing.images}
    samples = tuple(
        sorted((_sample(listing, places, r) for _, r in table.rows), key=lambda sample: sample.id)
    )
    read = Dataset(
        name=_only(table, "dataset") or listing.root.resolve().name,
        samples=samples,
        labels=label_set({s.label for s in samples}, root=listing.root, clinical=clinical),
        licence="; ".join(_values(table, "licence")),
        layout=LAYOUT,
        root=listing.root,
        specimen=_only(table, "specimen"),
    )
    lines = {_identity(row["file"]): line for line, row in table.rows}
    data = identified(read, where=table.path, lines=lines)
    refuse_subjects_in_two_folds(data.samples, where=table.path)
    notes = (*listing.notes(), *_notes(places, table, data.samples), *data.notes)
    return replace(data, notes=notes)


def _identity(file: str) -> str:
    return PurePosixPath(file).as_posix()


def _sample(listing: Listing, places: Mapping[str, str], row: Mapping[str, str]) -> Sample:
    name = _identity(row["file"])
    return Sample(
        id=name,
        image=ImageRef(
            listing.root / places.get(name, name),
            um_per_pixel=float(row[SCALE]) if row.get(SCALE) else None,
        ),
        labels=((row["label"],),),
        subject=row.get("subject") or None,
        group=next((row[column] for column in COLUMNS["group"] if row.get(column)), None),
        place=next((row[column] for column in COLUMNS["place"] if row.get(column)), None),
        specimen=row.get("specimen") or None,
        fold=row.get("fold") or None,
    )


def _refuse_faults(listing: Listing, table: Rows) -> None:
    present = {plain(image) for image in listing.images}
    first_line: dict[str, int] = {}
    faults: list[str] = []
    for line, row in table.rows:
        fault = _path_fault(listing, present, row["file"])
        if fault.endswith("not exist") and len(faults) < SHOWN:
            fault += _meant(present, row["file"])
        name = _identity(row["file"])
        if not fault and name in first_line:
            fault = f"{name} is listed twice (first on line {first_line[name]})"
        first_line.setdefault(name, line)
        if not fault and not row["label"]:
            fault = f"the label of {name} is empty"
        if not fault and not _is_scale(row.get(SCALE, "")):
            fault = f"{row[SCALE]} is no number of micrometres per pixel"
        if fault:
            faults.append(f"line {line}: {fault}")
    mend = "correct these lines; paths are relative to the folder of labels.csv, with '/'"
    if faults and all(fault.endswith("is empty") and "label" in fault for fault in faults):
        mend = (
            "correct these lines: write the class of each cell, or take its line away; "
            f"cellkin decide ATLAS {listing.root} calls cells that have none"
        )
    raise_faults(table.path, faults, mend=mend)
    if not table.rows:
        raise LabelError(
            f"{FILE} lists no image", where=table.path, mend="write one line 'file,label' per image"
        )


def _is_scale(text: str) -> bool:
    """Whether a cell of the column is empty, or says micrometres per pixel."""
    try:
        return not text or 0 < float(text) < float("inf")
    except ValueError:
        return False


def _path_fault(listing: Listing, present: set[str], file: str) -> str:
    if not file:
        return "the file is empty"
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or (len(file) > 1 and file[1] == ":"):
        return f"{file} leaves the folder of the data set"
    if not is_image_name(file):
        return f"{file} is no image by its name"
    if litter := [part for part in path.parts if is_litter(part)]:
        return f"{file} is no cell: {litter[0]} is hidden, or litter of a system or server"
    if path.as_posix() not in present and not (listing.root / path).is_file():
        return f"{file} does not exist"
    return ""


def _meant(present: Iterable[str], file: str) -> str:
    """The image that a file which does not exist looks like, in words."""
    key = likeness(file.replace("\\", "/"))
    return next((f", {spelled(name)} does" for name in present if likeness(name) == key), "")


def _values(table: Rows, column: str) -> list[str]:
    return sorted({row[column] for _, row in table.rows if row.get(column)})


def _only(table: Rows, column: str) -> str | None:
    values = {row.get(column, "") for _, row in table.rows}
    return values.pop() or None if len(values) == 1 else None


def _refuse_several_data_sets(table: Rows) -> None:
    names = _values(table, "dataset")
    if len(names) < 2:
        return
    folders = Counter(
        top for _, row in table.rows for top, slash, _ in [row["file"].partition("/")] if slash
    )
    inside = " or ".join(str(table.path.parent / name) for name in sorted(folders)[:5])
    raise LayoutError(
        f"{FILE} covers {len(names)} data sets: {shown(names)}",
        where=table.path,
        mend=f"open one of its sub folders{': ' + inside if inside else ''}",
    )


def _refuse_two_columns_of_one(table: Rows) -> None:
    for field, names in COLUMNS.items():
        columns = [column for column in names if column in table.columns]
        if len(columns) > 1:
            raise LabelError(
                f"{FILE} has the columns {' and '.join(columns)}, which mean the same here",
                where=f"{table.path}, line 1",
                mend=f"keep one of them: {LARGER[field]}",
            )


def _notes(images: Iterable[str], table: Rows, samples: Sequence[Sample]) -> list[str]:
    notes = []
    if table.ignored:
        notes.append(f"columns of {FILE} that are not used: {', '.join(table.ignored)}")
    notes += table.unlisted(images, samples)
    lacking = sum(sample.subject is None for sample in samples)
    if lacking == len(samples):
        notes.append(f"{FILE} names no subjects: cells are taken as independent")
    elif lacking:
        notes.append(f"{lacking} of {len(samples)} images have no subject")
    nowhere = sum(sample.place is None for sample in samples)
    if 0 < nowhere < len(samples):
        notes.append(f"{nowhere} of {len(samples)} images have no place")
    return notes
