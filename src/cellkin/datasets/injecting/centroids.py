"""A list of other white cells in fields: `field,x,y`, and which fields are listed completely.

One row per cell, `field` as `Im001_1` (or its id, `im/Im001_1.jpg`), x and y in pixels from the
upper left corner. A row with empty x and y names a field without other white cells. The optional
column `complete` (yes or no, the same in all rows of a field) says whether every white cell of the
field that is no blast is in the list; without that, nobody knows what an empty place holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellkin.core.errors import LayoutError
from cellkin.datasets.csv_rows import raise_faults, read_rows

COMPLETE = {"yes": True, "no": False, "": False}


@dataclass(frozen=True)
class OtherCells:
    """Other white cells by field.

    Attributes:
        points: field -> (x, y) in pixels; a field that is named and has none maps to no points.
        complete: fields whose list holds every white cell that is no blast.
        where: where the list comes from, for messages.
    """

    points: Mapping[str, Sequence[Sequence[float]]]
    complete: frozenset[str] = field(default_factory=frozenset)
    where: str = "others"


def read_others(path: str | Path, *, complete: bool = False) -> OtherCells:
    """Read such a list.

    Args:
        complete: declare the list complete for every field that it names.

    Raises:
        LayoutError: there is no such file.
        LabelError: a column is missing; a row without a field, with one coordinate only, with one
            that is no number or negative, twice the same cell, or `complete` neither yes nor no or
            both for one field (all are counted).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise LayoutError("there is no such file", where=path, mend="check the path")
    table = read_rows(path, required=("field", "x", "y"), optional=("complete",))
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    said: dict[str, bool] = {}
    faults = []
    for line, row in table.rows:
        fault = _add(row, points, said)
        if fault:
            faults.append(f"line {line}: {fault}")
    raise_faults(path, faults, mend="a row is 'Im001_1,834.5,120', in pixels from the upper left")
    named = frozenset(points)
    done = named if complete else frozenset(name for name in named if said.get(name))
    return OtherCells(dict(points), done, str(path))


def _add(
    row: Mapping[str, str], points: dict[str, list[tuple[float, float]]], said: dict[str, bool]
) -> str:
    """Take one row in; what is wrong with it, or nothing."""
    name, word = row["field"], row.get("complete", "").lower()
    if not name:
        return "the field is empty"
    if word not in COMPLETE:
        return f"complete is {word!r}, not yes or no"
    if said.setdefault(name, COMPLETE[word]) != COMPLETE[word]:
        return f"{name} is called complete in one row and not in another"
    cells = points[name]
    if not row["x"] and not row["y"]:
        return ""
    try:
        x, y = float(row["x"]), float(row["y"])
    except ValueError:
        return f"({row['x']}, {row['y']}) of {name} are no two numbers"
    if not (0 <= x < float("inf") and 0 <= y < float("inf")):
        return f"({x:g}, {y:g}) of {name} does not lie in a field"
    if (x, y) in cells:
        return f"({x:g}, {y:g}) of {name} is listed twice"
    cells.append((x, y))
    return ""
