"""Layouts `all-idb1` and `all-idb2`: fields with several white cells, and the crops cut from them.

Both draw the same fields: `all-idb2` of an order holds one crop for each white cell in the fields
that `all-idb1` of that order holds, pixel for pixel. So fields and crops of one seed are the
truth for finding where a crop comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.arrays import Bytes
from cellkin.drawing.camera import decoded, jpeg, subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.plan import (
    MAGNIFICATIONS,
    NORMAL_KINDS,
    Layout,
    Order,
    People,
    Progress,
    TrueCell,
    check_order,
    describe,
    generator,
    save_mask,
    save_picture,
    write_rows,
    write_truth,
)
from cellkin.drawing.scene import FIELD_WIDTH, PlacedCell, draw_field

CROP = 257
SHAPES = {1.0: (1368, 1712), 1.5: (1944, 2592)}
"""Magnification -> height and width of a field in pixels, where crops are 257 pixels wide."""
CELLS_PER_FIELD = 4
MANY = 6  # an ill person's field holds so many times the white cells of a healthy one's, on average
BLASTS = 0.85  # share of them that are lymphoblasts


@dataclass(frozen=True)
class PlannedField:
    """One field to draw; `kinds` are its white cells."""

    number: int
    subject: int
    ill: bool
    kinds: tuple[str, ...]
    magnification: float

    @property
    def name(self) -> str:
        """Stem of its file."""
        return f"Im{self.number:03d}_{int(self.ill)}"

    @property
    def person(self) -> str:
        """Name of the subject."""
        return f"S{self.subject + 1:03d}"


def plan_fields(order: Order) -> list[PlannedField]:
    """Every subject has a field or more at one magnification; all fields hold all cells together.

    Fields of ill subjects hold a lymphoblast at least, those of the healthy none.
    """
    rng = generator(order.seed, 0)
    people = People.of(order.subjects, rng)
    turns = [people.order[k % order.subjects] for k in range(_field_count(order))]
    ill = [person in people.ill for person in turns]
    weights = [MANY if sick else 1.0 for sick in ill]
    left = order.cells - len(turns)
    more = rng.multinomial(left, [w / sum(weights) for w in weights]).tolist()
    numbers = (rng.permutation(len(turns)) + 1).tolist()
    fields = []
    for number, person, sick, extra in zip(numbers, turns, ill, more, strict=True):
        kinds = rng.choice(list(NORMAL_KINDS), size=1 + extra, p=list(NORMAL_KINDS.values()))
        blasts = rng.random(1 + extra) < BLASTS
        blasts[0] = True
        kinds = [
            "lymphoblast" if sick and blast else str(kind)
            for kind, blast in zip(kinds, blasts, strict=True)
        ]
        place = people.ill.index(person) if sick else people.healthy.index(person)
        zoom = MAGNIFICATIONS[place % len(MAGNIFICATIONS)]
        fields.append(PlannedField(number, person, sick, tuple(kinds), zoom))
    return sorted(fields, key=lambda field: field.number)


def _field_count(order: Order) -> int:
    return max(order.subjects, order.cells // CELLS_PER_FIELD)


@dataclass(frozen=True)
class _DrawnField:
    plan: PlannedField
    coded: bytes
    mask: Bytes
    cells: tuple[PlacedCell, ...]


def _fields(order: Order, progress: Progress | None) -> Iterator[_DrawnField]:
    planned = plan_fields(order)
    canvases = {
        zoom: Canvas(
            (height * order.size // CROP, width * order.size // CROP),
            order.size * zoom / FIELD_WIDTH,
        )
        for zoom, (height, width) in SHAPES.items()
        if any(field.magnification == zoom for field in planned)
    }
    for done, field in enumerate(planned, start=1):
        style = subject_style(generator(order.seed, 1, field.subject))
        rng = generator(order.seed, 2, field.number)
        style = style.in_field(rng, field.magnification)
        rgb, mask, cells = draw_field(field.kinds, rng, style, canvases[field.magnification])
        yield _DrawnField(field, jpeg(rgb, style.quality), mask, cells)
        if progress is not None:
            progress(done, len(planned))


def _write_fields(folder: Path, order: Order, progress: Progress | None) -> None:
    """`im`, `xyc`, and `others.csv`: the other white cells; every field is named, and complete."""
    (folder / "im").mkdir()
    (folder / "xyc").mkdir()
    truth: list[TrueCell] = []
    others: list[tuple[object, ...]] = []
    for field in _fields(order, progress):
        file = f"im/{field.plan.name}.jpg"
        (folder / file).write_bytes(field.coded)
        save_mask(folder, file, field.mask)
        blasts = [cell for cell in field.cells if cell.kind == "lymphoblast"]
        lines = "".join(f"{cell.x}\t{cell.y}\n" for cell in blasts)
        (folder / "xyc" / f"{field.plan.name}.xyc").write_text(lines, encoding="utf-8")
        spots: list[tuple[object, object]] = [
            (cell.x, cell.y) for cell in field.cells if cell.kind != "lymphoblast"
        ]
        others += [(field.plan.name, x, y, "yes") for x, y in spots or [("", "")]]
        for cell in field.cells:
            place = (field.plan.person, field.plan.name, field.plan.magnification)
            truth.append(TrueCell(file, cell.kind, *place, cell.x, cell.y))
    write_rows(folder / "others.csv", ["field", "x", "y", "complete"], others)
    write_truth(folder, truth)
    describe(folder, order.seed, "drawn smears laid out as ALL-IDB1")


def _write_crops(folder: Path, order: Order, progress: Progress | None) -> None:
    (folder / "img").mkdir()
    numbers = iter((generator(order.seed, 4).permutation(order.cells) + 1).tolist())
    truth, crops = [], []
    for field in _fields(order, progress):
        rgb = decoded(field.coded)
        for cell in field.cells:
            file = f"img/Im{next(numbers):03d}_{int(cell.kind == 'lymphoblast')}.tif"
            left = _inside(cell.x - order.size // 2, rgb.shape[1] - order.size)
            top = _inside(cell.y - order.size // 2, rgb.shape[0] - order.size)
            window = (slice(top, top + order.size), slice(left, left + order.size))
            save_picture(folder, file, rgb[window], field.mask[window])
            crops.append((file, field.plan.name, left, top))
            place = (field.plan.person, field.plan.name, field.plan.magnification)
            truth.append(TrueCell(file, cell.kind, *place, cell.x - left, cell.y - top))
    write_rows(folder / "masks" / "crops.csv", ["file", "field", "left", "top"], sorted(crops))
    write_truth(folder, truth)
    describe(folder, order.seed, "drawn cells laid out as ALL-IDB2")


def _inside(start: int, room: int) -> int:
    """A window's start moved into the field: cells near its border lie off the crop's middle."""
    return min(max(start, 0), room)


ALL_IDB1 = Layout(CROP, check_order, _write_fields)
ALL_IDB2 = Layout(CROP, check_order, _write_crops)
