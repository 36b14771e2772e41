"""Printed tables as they are typed in: numbers with their last digit, class counts, folds."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from cellkin.core.errors import DataError, did_you_mean
from cellkin.core.options import refuse_unknown
from cellkin.printed.fixed_folds import Window

COLUMNS = ("accuracy", "sensitivity", "specificity")
NOT_PRINTED = ("", "-", "–", "—")
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
            about. folds: number of test sets; 1 where the cells are those of one test set.
        shares: whether its numbers were typed as shares of 1.
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
    shares: bool = False

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


def parse_cell(text: str, where: object = "", *, shares: bool = False) -> Printed | None:
    """A cell such as "99.26 ± 1.66", "99.26 +- 1.66", "99.26 (1.66)" or "98.9"; None for a dash.

    Args:
        shares: the numbers are shares of 1, such as "0.9926 ± 0.0166".

    Raises:
        DataError: no percentage.
    """
    if text.strip() in NOT_PRINTED:
        return None
    found = [_percent(number, shares) for number in NUMBER.findall(text)]
    if not 1 <= len(found) <= 2 or not found[0][0] <= 100:
        raise DataError(
            f"{text!r} is no percentage",
            where=where,
            mend='write "99.26 +- 1.66" (mean and standard deviation in percent) or "99.26"',
        )
    return Printed(text.strip(), *(number for pair in found for number in pair))


def _percent(number: str, share: bool) -> tuple[float, float]:
    """A typed number and one step of its last digit, in percent."""
    digits = number.replace(",", ".")
    scale, unit = (100 if share else 1), Decimal(1).scaleb(-len(digits.partition(".")[2]))
    return float(Decimal(digits) * scale), float(unit * scale)


def _typed_as_shares(cells: Mapping[str, str], where: str) -> bool:
    """Whether these columns are typed as shares of 1: no number that tells is above 1.

    A zero tells nothing, and a cell with a percent sign is a percentage.

    Raises:
        DataError: some are above 1 and some are not.
    """
    values = {
        name: _percent(NUMBER.findall(text)[0], False)[0]
        for name, text in cells.items()
        if "%" not in text and NUMBER.search(text)
    }
    small = [name for name, value in values.items() if 0 < value <= 1]
    large = [name for name, value in values.items() if value > 1]
    if small and large:
        raise DataError(
            f"{small[0]} {cells[small[0]]!r} stands beside {large[0]} {cells[large[0]]!r}: "
            "a share of 1, or a percentage below 1?",
            where=where,
            mend="type the whole row in percent, and a % sign behind percentages of 1 or less",
        )
    return bool(small)


def _matrix_in_percent(line: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(Decimal(text.replace(",", ".")).scaleb(2)) for text in line)


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
            f"this is no TOML file: {error}", where=path, mend="see cellkin check-table --help"
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
    refuse_unknown(data, KEYS, "key", where=where, kind=DataError)
    classes = _counts(data.get("classes", {}), where)
    positive = tuple(name.strip() for name in data.get("positive", ()) if name.strip())
    strange = [name for name in positive if name not in classes]
    folds = _whole(data.get("folds", 5), "folds", where)
    if strange or len(classes) < 2:
        raise DataError(
            f"no class is called {strange[0]!r}" if strange else "a row needs classes",
            where=where,
            mend="give the cells of at least two classes, and which of them are positive",
        )
    typed = {name: str(data.get(name, "")) for name in COLUMNS}
    shares = _typed_as_shares(typed, where)
    cells = {
        name: parse_cell(text, f"{where}, {name}", shares=shares) for name, text in typed.items()
    }
    _refuse_spread_of_one(cells, folds, where)
    if not any(cells.values()) or (not positive and (cells["sensitivity"] or cells["specificity"])):
        raise DataError(
            "there is nothing to check" if positive else "no class is positive",
            where=where,
            mend="give accuracy, sensitivity or specificity as printed, and the positive classes",
        )
    matrix = tuple(tuple(map(str, line)) for line in data.get("confusion", ()))
    matrix = tuple(map(_matrix_in_percent, matrix)) if shares else matrix
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
        shares=shares,
    )


def _refuse_spread_of_one(cells: Mapping[str, Printed | None], folds: int, where: str) -> None:
    spread = [name for name, cell in cells.items() if cell is not None and cell.deviation]
    if folds == 1 and spread:
        raise DataError(
            f"{spread[0]} has a standard deviation, but there is one test set",
            where=where,
            mend="give the number of test sets behind it as folds, or leave the deviation out",
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
