"""Calls that a person reviewed: a `cells.csv` whose column `reviewed` was filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cellkin.core.errors import LabelError, OutputError
from cellkin.datasets.csv_rows import read_rows


def read_reviewed(path: Path) -> dict[str, str]:
    """Cell id -> what a person called it; rows that nobody filled in are passed over.

    Raises:
        LabelError: the file cannot be read, lacks a column, or names a cell twice.
    """
    found: dict[str, str] = {}
    for line, row in read_rows(path, required=("cell", "reviewed"), optional=("call",)).rows:
        name = row["cell"]
        if not row["reviewed"]:
            continue
        if name in found:
            raise LabelError(
                f"cell {name} is reviewed twice", where=f"{path}, line {line}", mend="leave one row"
            )
        found[name] = row["reviewed"]
    return found


def refuse_losing(table: Path, kept: Mapping[str, str]) -> None:
    """Raise where a table that is about to be replaced holds verdicts that are not kept.

    Args:
        kept: the verdicts that the new table will hold, as `read_reviewed` gives them.

    Raises:
        OutputError: it does, or what it holds cannot be read.
    """
    if not table.is_file():
        return
    mend = f"give --reviewed {table} to keep them, or move the file"
    try:
        lost = [name for name in read_reviewed(table) if name not in kept]
    except LabelError as error:
        raise OutputError(
            f"what a person may have reviewed here cannot be read: {error.what}",
            where=error.where,
            mend=f"{error.mend}; or move the file",
        ) from None
    if lost:
        cells = "1 cell has a verdict" if len(lost) == 1 else f"{len(lost)} cells have verdicts"
        raise OutputError(f"{cells} of a person here that would be lost", where=table, mend=mend)
