"""Calls that a person reviewed: a `cells.csv` whose column `reviewed` was filled in."""

from __future__ import annotations

from pathlib import Path

from cellkin.core.errors import LabelError
from cellkin.datasets.csv_rows import read_rows


def read_reviewed(path: Path) -> dict[str, str]:
    """Cell id -> what a person called it; rows that nobody filled in are passed over.

    Raises:
        LabelError: the file cannot be read, lacks a column, or names a cell twice.
    """
    found: dict[str, str] = {}
    for line, row in read_rows(path, required=("cell", "reviewed"), optional=("call",)).rows:
        name = row["cell"].removeprefix("'")  # it keeps spreadsheets from reading a formula
        if not row["reviewed"]:
            continue
        if name in found:
            raise LabelError(
                f"cell {name} is reviewed twice", where=f"{path}, line {line}", mend="leave one row"
            )
        found[name] = row["reviewed"]
    return found
