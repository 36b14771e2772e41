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

from cellkin.drawing.camera import subject_style
from cellkin.drawing.plan import (
    MAGNIFICATIONS,
    NORMAL_KINDS,
    Layout,
    Order,
    People,
    Progress,
    TrueCell,
    centre_of,
    check_order,
    describe,
    generator,
    save_picture,
    shares,
    write_rows,
    write_truth,
)
from cellkin.drawing.scene import new_canvas, paint_cell

__all__ = ["CLASSES", "FOLDERS", "DrawnClass", "PlannedCell", "class_counts", "plan"]

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


@dataclass(frozen=True)
class PlannedCell:
    """One picture to draw; `number` is unique, and `file` says nothing but it and the class."""

    number: int
    label: str
    kind: str
    subject: int
    field: int

    @property
    def file(self) -> str:
        """Path in the data set."""
        return f"{self.label}/drawn_{self.number:05d}.png"

    @property
    def magnification(self) -> float:
        """Fields take turns."""
        return MAGNIFICATIONS[self.field % len(MAGNIFICATIONS)]

    @property
    def person(self) -> str:
        """Name of the subject."""
        return f"S{self.subject + 1:03d}"

    @property
    def group(self) -> str:
        """Name of the field."""
        return f"{self.person}-F{self.field + 1}"


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
            planned.append(PlannedCell(int(next(numbers)), drawn_class.name, kind, person, field))
        dealt += count
    return sorted(planned, key=lambda cell: cell.number)


def class_counts(cells: int) -> list[int]:
    """Cells per class, in class order."""
    return shares([drawn_class.share for drawn_class in CLASSES], cells)


def _fields(drawn_class: DrawnClass) -> list[int]:
    """Fields in which a class lies: all, or those of its magnification."""
    return [
        field
        for field in range(FIELDS_PER_SUBJECT)
        if drawn_class.magnification in (None, MAGNIFICATIONS[field % len(MAGNIFICATIONS)])
    ]


def _write(folder: Path, order: Order, progress: Progress | None) -> None:
    cells = plan(order)
    styles = [subject_style(generator(order.seed, 1, n)) for n in range(order.subjects)]
    for drawn_class in CLASSES:
        (folder / drawn_class.name).mkdir()
    canvas, truth = new_canvas((order.size, order.size)), []
    for done, cell in enumerate(cells, start=1):
        field = generator(order.seed, 2, cell.subject, cell.field)
        style = styles[cell.subject].in_field(field, cell.magnification)
        rgb, mask = paint_cell(canvas, cell.kind, generator(order.seed, 3, cell.number), style)
        save_picture(folder, cell.file, rgb, mask)
        place = (cell.person, cell.group, cell.magnification, *centre_of(mask))
        truth.append(TrueCell(cell.file, cell.kind, *place))
        if progress is not None:
            progress(done, len(cells))
    rows = sorted((cell.file, cell.label, cell.person, cell.group) for cell in cells)
    write_rows(folder / "labels.csv", ["file", "label", "subject", "group"], rows)
    write_truth(folder, truth)
    describe(folder, order.seed)


FOLDERS = Layout(256, check_order, _write)
