"""Layout `folders`: the classes of the paper's Table 1, with `labels.csv`.

The proportions are those of ALL-IDB2 after class injection. Each subject has its own stain, light,
focus and camera, each of its fields its own magnification and density of red cells, so that colour
and sharpness belong to the subject and the field, not to the class. The two lymphoblast classes
are two magnifications of one kind of cell, as the paper's imaging groups are; the other classes
are drawn at both magnifications.

A new class is one row of `CLASSES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cellkin.drawing.pictures import Look, PlannedCell, write_cells
from cellkin.drawing.plan import (
    MAGNIFICATIONS,
    NORMAL_KINDS,
    Layout,
    Order,
    People,
    Progress,
    check_order,
    describe,
    generator,
    shares,
    write_rows,
)

FIELDS_PER_SUBJECT = 4


@dataclass(frozen=True)
class DrawnClass:
    """One class of the data set.

    Attributes:
        name: of the class and its folder. share: of all cells.
        kinds: kind of element -> probability. magnification: of its fields, None for any.
        ill_only: whether only ill subjects contribute.
    """

    name: str
    share: float
    kinds: dict[str, float]
    magnification: float | None = None
    ill_only: bool = False


CLASSES = (
    DrawnClass("nothing", 130 / 390, {"nothing": 1.0}),
    DrawnClass("normal", 130 / 390, NORMAL_KINDS),
    DrawnClass("lymphoblast (1)", 73 / 390, {"lymphoblast": 1.0}, MAGNIFICATIONS[0], True),
    DrawnClass("lymphoblast (2)", 57 / 390, {"lymphoblast": 1.0}, MAGNIFICATIONS[1], True),
)
"""The classes in their fixed order, with the proportions of the paper's Table 1."""


def plan(order: Order) -> list[PlannedCell]:
    """Who contributes what: classes dealt out evenly over subjects and their fields."""
    rng = generator(order.seed, 0)
    everyone = People.of(order.subjects, rng)
    numbers = iter(rng.permutation(order.cells))
    planned: list[PlannedCell] = []
    dealt = 0
    for drawn_class, count in zip(CLASSES, class_counts(order.cells), strict=True):
        people = everyone.ill if drawn_class.ill_only else everyone.order
        fields = _fields(drawn_class)
        kinds = rng.choice(list(drawn_class.kinds), size=count, p=list(drawn_class.kinds.values()))
        for turn, kind in enumerate(kinds.tolist(), start=0 if drawn_class.ill_only else dealt):
            person, field = people[turn % len(people)], fields[turn // len(people) % len(fields)]
            number, label = int(next(numbers)), drawn_class.name
            file, name = f"{label}/drawn_{number:05d}.png", f"S{person + 1:03d}"
            zoom = _magnification(field)
            planned.append(PlannedCell(number, file, kind, person, name, field, zoom, label))
        dealt += count
    return sorted(planned, key=lambda cell: cell.number)


def class_counts(cells: int) -> list[int]:
    """Cells per class, in class order."""
    return shares([drawn_class.share for drawn_class in CLASSES], cells)


def _magnification(field: int) -> float:
    """Fields take turns."""
    return MAGNIFICATIONS[field % len(MAGNIFICATIONS)]


def _fields(drawn_class: DrawnClass) -> list[int]:
    """Fields in which a class lies: all, or those of its magnification."""
    return [
        field
        for field in range(FIELDS_PER_SUBJECT)
        if drawn_class.magnification in (None, _magnification(field))
    ]


def _write(folder: Path, order: Order, progress: Progress | None) -> None:
    cells = plan(order)
    write_cells(folder, order, cells, Look((order.size, order.size)), progress)
    rows = sorted((cell.file, cell.label, cell.person, cell.group) for cell in cells)
    write_rows(folder / "labels.csv", ["file", "label", "subject", "group"], rows)
    describe(folder, order.seed)


FOLDERS = Layout(256, check_order, _write)
