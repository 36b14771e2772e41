"""Printed tables as they are typed in: numbers with their last digit, class counts, folds."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cellkin.core.errors import DataError, did_you_mean
from cellkin.printed.fixed_folds import Window

__all__ = [
    "COLUMNS",
    "Printed",
    "PrintedRow",
    "parse_cell",
    "parse_row",
    "read_table",
    "shipped_tables",
]

COLUMNS = ("accuracy", "sensitivity", "specificity")
NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
KEYS = ("name", "source", "classes", "positive", "folds", "confusion", *COLUMNS)


@dataclass(frozen=True)
class Printed:
    """A percentage in print, with its standard deviation where one is given.

    `unit` and `deviation_unit`: one step of the last digit, in percent.
    """

    text: str
    value: float
    unit: float
    deviation: float | None = None
    deviation_unit: float = 0.0

    def wrong(self, *, cut: bool) -> Window:
        """Window of the share of wrong cells: the digits rounded, or with `cut` dropped."""
        low, high = _window(self.value, self.unit, cut)
        return (1 - min(high, 100.0) / 100, 1 - low / 100)

    def spread(self, *, cut: bool) -> Window | None:
        """Window of the standard deviation as a share; None where none is printed."""
        if self.deviation is None:
            return None
        low, high = _window(self.deviation, self.deviation_unit, cut)
        return (max(low, 0.0) / 100, high / 100)


def _window(value: float, unit: float, cut: bool) -> Window:
    return (value, value + unit) if cut else (value - unit / 2, value + unit / 2)


@dataclass(frozen=True)
class PrintedRow:
    """One row of a printed table.

    Attributes:
        name: of the row. source: who measured it; rows of one source are read in one way.
        classes: class -> cells in the whole data set. positive: the classes that sensitivity is
            about. folds: number of test sets.
        accuracy, sensitivity, specificity: None where not printed.
        confusion: percent of all cells as printed, rows true, in the order of `classes`; or empty.
    """

    name: str
    source: str
    classes: Mapping[str, int]
    positive: tuple[str, ...]
    folds: int
    accuracy: Printed | None = None
    sensitivity: Printed | None = None
    specificity: Printed | None = None
    confusion: tuple[tuple[str, ...], ...] = ()

    @property
    def cells(self) -> int:
        return sum(self.classes.values())

    @property
    def negative(self) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name not in self.positive)

    def printed(self) -> dict[str, Printed]:
        """The columns that are there."""
        found = {name: getattr(self, name) for name in COLUMNS}
        return {name: value for name, value in found.items() if value is not None}


def parse_cell(text: str, where: object = "") -> Printed | None:
    """A cell such as "99.26 ± 1.66", "99.26 +- 1.66", "99.26 (1.66)" or "98.9"; None for a dash.

    Raises:
        DataError: no percentage.
    """
    if text.strip() in ("", "-", "–", "—"):
        return None
    found = [number.replace(",", ".") for number in NUMBER.findall(text)]
    if not 1 <= len(found) <= 2 or not 0 <= float(found[0]) <= 100:
        raise DataError(
            f"{text!r} is no percentage",
            where=where,
            mend='write "99.26 +- 1.66" (mean and standard deviation in percent) or "99.26"',
        )
    value = float(found[0])
    if len(found) == 1:
        return Printed(text.strip(), value, _unit(found[0]))
    return Printed(text.strip(), value, _unit(found[0]), float(found[1]), _unit(found[1]))


def _unit(number: str) -> float:
    return float(10.0 ** -len(number.partition(".")[2]))


def shipped_tables() -> dict[str, Path]:
    """The examples that come with cellkin, by name."""
    folder = resources.files("cellkin") / "tables"
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(".toml")}


def read_table(name: str | Path) -> tuple[str, tuple[PrintedRow, ...]]:
    """The title and the rows of a table: a TOML or CSV file, or one that is shipped, by its name.

    A TOML file has `title`, defaults for all rows (`classes`, `positive`, `folds`, `source`) and a
    list `[[row]]`. A CSV file has the columns `name`, `folds`, `positive` (classes, separated by
    semicolons), `accuracy`, `sensitivity`, `specificity`, and one column `n:CLASS` per class.

    Raises:
        DataError: no such file, or one that cannot be understood.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        shipped = shipped_tables()
        if str(name) not in shipped:
            raise DataError(
                "there is no such table",
                where=name,
                mend=did_you_mean(str(name), shipped)
                or f"give a .toml or .csv file, or one of: {', '.join(sorted(shipped))}",
            )
        path = shipped[str(name)]
    if path.suffix.lower() == ".csv":
        return path.stem, _csv_rows(path)
    return _toml_rows(path)


def parse_row(
    classes: Sequence[str], positive: Sequence[str], folds: int, printed: Mapping[str, str]
) -> PrintedRow:
    """One row from words: classes as `NAME=CELLS`, and its columns as printed.

    Raises:
        DataError: it cannot be understood.
    """
    wrong = [pair for pair in classes if "=" not in pair]
    if wrong:
        raise DataError(
            f"{wrong[0]!r} names no count", where="--class", mend="write --class 'normal=130'"
        )
    counts = dict(pair.rsplit("=", 1) for pair in classes)
    given = {"classes": counts, "positive": positive, "folds": folds, **printed}
    return _row(given, "the row")


def _toml_rows(path: Path) -> tuple[str, tuple[PrintedRow, ...]]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"this is no TOML file: {error}", where=path, mend="see cellkin audit-table --help"
        ) from error
    title, rows = str(data.pop("title", path.stem)), data.pop("row", [])
    if not isinstance(rows, list) or not rows:
        raise DataError("this table has no rows", where=path, mend="add one [[row]] per row")
    return title, tuple(
        _row({**data, **row}, f"{path}, row {number}") for number, row in enumerate(rows, start=1)
    )


def _csv_rows(path: Path) -> tuple[PrintedRow, ...]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    if not lines:
        raise DataError("this table has no rows", where=path, mend="add one line per row")
    rows = []
    for number, line in enumerate(lines, start=2):
        cells = {k.strip(): (v or "").strip() for k, v in line.items() if k is not None}
        counts = {k[2:]: v for k, v in cells.items() if k.startswith("n:") and v}
        data: dict[str, Any] = {k: v for k, v in cells.items() if not k.startswith("n:") and v}
        data |= {"classes": counts, "positive": cells.get("positive", "").split(";")}
        rows.append(_row(data, f"{path}, line {number}"))
    return tuple(rows)


def _row(data: Mapping[str, Any], where: str) -> PrintedRow:
    unknown = [key for key in data if key not in KEYS]
    if unknown:
        raise DataError(
            f"unknown key {unknown[0]!r}",
            where=where,
            mend=did_you_mean(unknown[0], KEYS) or f"use: {', '.join(KEYS)}",
        )
    classes = _counts(data.get("classes", {}), where)
    positive = tuple(name.strip() for name in data.get("positive", ()) if name.strip())
    strange = [name for name in positive if name not in classes]
    folds = _whole(data.get("folds", 5), "folds", where)
    if strange or len(classes) < 2 or folds < 2:
        raise DataError(
            f"no class is called {strange[0]!r}" if strange else "a row needs classes and folds",
            where=where,
            mend="give the cells of at least two classes, which are positive, and 2 or more folds",
        )
    cells = {name: parse_cell(str(data.get(name, "")), f"{where}, {name}") for name in COLUMNS}
    if not any(cells.values()) or (not positive and (cells["sensitivity"] or cells["specificity"])):
        raise DataError(
            "there is nothing to audit" if positive else "no class is positive",
            where=where,
            mend="give accuracy, sensitivity or specificity as printed, and the positive classes",
        )
    matrix = tuple(tuple(map(str, line)) for line in data.get("confusion", ()))
    if matrix and {len(matrix), *map(len, matrix)} != {len(classes)}:
        raise DataError(
            "the confusion matrix does not fit the classes",
            where=where,
            mend=f"give {len(classes)} rows of {len(classes)} percentages, rows true",
        )
    return PrintedRow(
        name=str(data.get("name", "row")),
        source=str(data.get("source", "")),
        classes=classes,
        positive=positive,
        folds=folds,
        **cells,
        confusion=matrix,
    )


def _counts(given: Any, where: str) -> dict[str, int]:
    pairs: Sequence[tuple[str, Any]] = list(dict(given).items())
    return {str(name): _whole(count, f"the cells of {name}", where) for name, count in pairs}


def _whole(value: Any, what: str, where: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise DataError(
            f"{what} is no whole number", where=where, mend=f"give a count, not {value!r}"
        )
    return number
