"""Rows of a small CSV file, with line numbers and errors that name them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.errors import LabelError, did_you_mean
from cellkin.datasets.listing import shown

__all__ = ["Rows", "columns_of", "raise_faults", "read_rows"]

# What other people call these columns. A misnamed subject column must never be passed over in
# silence: the data would then be split by image.
OTHER_NAMES = {
    "patient": "subject",
    "patient_id": "subject",
    "patientid": "subject",
    "subject_id": "subject",
    "filename": "file",
    "file_name": "file",
    "path": "file",
    "image": "file",
    "class": "label",
    "license": "licence",
    "slide_id": "slide",
}


@dataclass(frozen=True)
class Rows:
    """The rows of a CSV file as (line number, column -> stripped text), and ignored columns."""

    path: Path
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...]


def read_rows(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> Rows:
    """Read a CSV file (UTF-8, comma, a header line).

    Raises:
        LabelError: the file cannot be read, is no UTF-8 text, lacks a required column, holds a
            column that is a required or optional one misspelt, or has a row of another length.
    """
    lines = _parse(path)
    if not lines:
        raise LabelError(
            f"{path.name} is empty", where=path, mend=f"its first line: {','.join(required)}"
        )
    header = tuple(name.strip().lower() for name in lines[0][1])
    _check_header(path, header, required, optional)
    faults = [
        f"line {number}: {len(cells)} fields, the header has {len(header)}"
        for number, cells in lines[1:]
        if len(cells) != len(header)
    ]
    raise_faults(path, faults, mend="put quotes around a field that holds a comma")
    rows = tuple(
        (number, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
        for number, cells in lines[1:]
    )
    known = {*required, *optional}
    return Rows(path, rows, header, tuple(name for name in header if name not in known))


def columns_of(path: Path) -> tuple[str, ...]:
    """The column names of a CSV file in lower case, from its first line; none where it has none
    that can be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error, OSError):
        return ()
    return tuple(name.strip().lower() for name in first)


def raise_faults(path: Path, faults: Sequence[str], *, mend: str) -> None:
    """Raise one error for all faults found: the first five, and how many there are.

    Raises:
        LabelError: there is at least one fault.
    """
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise LabelError(
            f"{path.name} has {count}: " + "; ".join(faults[:5]) + more, where=path, mend=mend
        )


def _parse(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, cells) for cells in reader if any(c.strip() for c in cells)]
    except UnicodeDecodeError as error:
        raise LabelError(
            f"{path.name} is no UTF-8 text (byte {error.start})",
            where=path,
            mend="save it again as 'CSV UTF-8 (comma delimited)'",
        ) from None
    except (csv.Error, OSError) as error:
        raise LabelError(
            f"{path.name} cannot be read: {error}",
            where=path,
            mend="save it again as 'CSV UTF-8 (comma delimited)'",
        ) from error


def _check_header(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    known = [*required, *optional]
    if len(header) == 1 and ";" in header[0]:
        raise LabelError(
            f"the fields of {path.name} are parted by semicolons",
            where=f"{path}, line 1",
            mend="save it again as 'CSV UTF-8 (comma delimited)'",
        )
    for name in header:
        meant = OTHER_NAMES.get(name, "") if name not in known else ""
        hint = f"did you mean {meant!r}?" if meant in known else did_you_mean(name, known)
        if name not in known and hint:
            raise LabelError(
                f"{path.name} has an unknown column {name!r}",
                where=f"{path}, line 1",
                mend=f"{hint} Rename it, or take it away",
            )
    missing = [name for name in required if name not in header]
    if missing:
        raise LabelError(
            f"{path.name} lacks the column {' and '.join(missing)}",
            where=f"{path}, line 1",
            mend=f"its first line names the columns: {','.join(required)}; "
            f"found: {shown(list(header), 12)}",
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise LabelError(
            f"{path.name} has the column {' and '.join(map(repr, twice))} twice",
            where=f"{path}, line 1",
            mend="take one of the two away",
        )
