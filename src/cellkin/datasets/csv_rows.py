"""Rows of a small CSV file, with line numbers and errors that name them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.errors import LabelError, did_you_mean
from cellkin.core.names import likeness, plain
from cellkin.core.records import Sample
from cellkin.datasets.listing import shown

# What other people call these columns, by likeness. A misnamed subject column must never be passed
# over in silence: the data would then be split by image.
ID = "(?: ?(?:ids?|no|nr|num|number|name|code|key|uid|identifier))?"
OTHER_NAMES = {
    "subject": "(?:patients?|pat|subjects?|persons?|donors?|participants?|individuals?|cases?|mrn)"
    + f"{ID}|pid|id (?:patient|subject|person)",
    "slide": f"(?:slides?|smears?){ID}",
    "field": f"fields?{ID}",
    "group": f"groups?{ID}",
    "place": "(?:places?|laborator(?:y|ies)|labs?|sites?|scanners?|cent(?:re|er)s?|hospitals?)"
    + ID,
    "file": "file ?names?|path|image",
    "label": "class",
    "licence": "license",
}
PLACES = ("place", "laboratory", "site", "scanner", "centre")
"""Names of the column of places; `size` and `plate` are no misspelt ones."""
SHOWN = 5  # faults that an error names
PARTED = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Rows:
    """The rows of a CSV file as (line number, column -> plain text), and ignored columns."""

    path: Path
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...]

    def unlisted(self, images: Iterable[str], samples: Iterable[Sample]) -> list[str]:
        """A note on images that no row lists; none where every one is a sample."""
        left = sorted(set(images) - {sample.id for sample in samples})
        told = f"{len(left)} images are not listed in {self.path.name}: {shown(left)}"
        return [told] if left else []


def read_rows(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> Rows:
    """Read a CSV file (UTF-8, comma, a header line).

    Columns are known whatever their case, and with white space, `_` or a dash between their words;
    the text of a cell is plain (see `core.names`).

    Raises:
        LabelError: the file cannot be read, is no UTF-8 text, lacks a required column, holds a
            column that is a required or optional one misspelt, or has a row of another length.
    """
    lines = _parse(path)
    if not lines:
        raise LabelError(
            f"{path.name} is empty", where=path, mend=f"its first line: {','.join(required)}"
        )
    known = {likeness(name): name for name in (*required, *optional)}
    header = tuple(known.get(likeness(name), plain(name).lower()) for name in lines[0][1])
    _check_header(path, header, required, optional)
    faults = [
        f"line {number}: {len(cells)} fields, the header has {len(header)}"
        for number, cells in lines[1:]
        if len(cells) != len(header)
    ]
    raise_faults(path, faults, mend="put quotes around a field that holds a comma")
    rows = tuple(
        (number, dict(zip(header, map(plain, cells), strict=True))) for number, cells in lines[1:]
    )
    unused = tuple(name for name in header if name not in known.values())
    return Rows(path, rows, header, unused)


def columns_of(path: Path) -> tuple[str, ...]:
    """The likenesses of a CSV file's column names, from its first line, also where they are parted
    by something else than commas; none where it has none that can be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error, OSError):
        return ()
    return tuple(likeness(part) for name in first for part in re.split(r"[;|\t]", name))


def raise_faults(path: Path, faults: Sequence[str], *, mend: str) -> None:
    """Raise one error for all faults found: the first five (`SHOWN`), and how many there are.

    Raises:
        LabelError: there is at least one fault.
    """
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise LabelError(
            f"{path.name} has {count}: " + "; ".join(faults[:SHOWN]) + more, where=path, mend=mend
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
    guessed = [name for name in known if name not in PLACES]
    missing = [name for name in required if name not in header]
    if marks := [words for mark, words in PARTED.items() if missing and mark in "".join(header)]:
        raise LabelError(
            f"the fields of {path.name} are parted by {marks[0]}",
            where=f"{path}, line 1",
            mend="save it again as 'CSV UTF-8 (comma delimited)'",
        )
    for name in header:
        if name in known:
            continue
        meant = [m for m in known if re.fullmatch(OTHER_NAMES.get(m, "(?!)"), likeness(name))]
        hint = f"did you mean {meant[0]!r}?" if meant else did_you_mean(name, guessed)
        if hint:
            raise LabelError(
                f"{path.name} has an unknown column {name!r}",
                where=f"{path}, line 1",
                mend=f"{hint} Rename it, or take it away",
            )
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
