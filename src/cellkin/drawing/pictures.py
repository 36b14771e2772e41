"""What the layouts with one picture for each cell share: a planned cell, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.arrays import Bytes
from cellkin.drawing.camera import SubjectStyle, subject_style
from cellkin.drawing.canvas import Rng
from cellkin.drawing.plan import (
    Order,
    Progress,
    TrueCell,
    centre_of,
    generator,
    save_picture,
    write_truth,
)
from cellkin.drawing.scene import FIELD_WIDTH, new_canvas, paint_cell


@dataclass(frozen=True)
class PlannedCell:
    """One picture to draw.

    Attributes:
        number: unique. file: path in the data set. kind: of the element in the middle.
        subject, field: numbers of the person and of the field of view, both from 0.
        person: name of the subject. label: class, where the layout names it beside the picture.
    """

    number: int
    file: str
    kind: str
    subject: int
    person: str
    field: int
    magnification: float = 1.0
    label: str = ""

    @property
    def group(self) -> str:
        """Name of the field."""
        return f"{self.person}-F{self.field + 1}"


@dataclass(frozen=True)
class Look:
    """How a publisher's pictures look.

    Attributes:
        shape: height and width in pixels. width: in micrometres, at magnification 1.
        restain: changes a subject's style. finish: the last touch on a picture and its mask.
    """

    shape: tuple[int, int]
    width: float = FIELD_WIDTH
    restain: Callable[[SubjectStyle], SubjectStyle] = lambda style: style
    finish: Callable[[Bytes, Bytes, Rng], Bytes] = lambda rgb, mask, rng: rgb


def write_cells(
    folder: Path, order: Order, cells: Sequence[PlannedCell], look: Look, progress: Progress | None
) -> None:
    """Draw the pictures and their masks, and write what is true of them."""
    styles = [
        look.restain(subject_style(generator(order.seed, 1, n))) for n in range(order.subjects)
    ]
    canvas, truth = new_canvas(look.shape), []
    for done, cell in enumerate(cells, start=1):
        field = generator(order.seed, 2, cell.subject, cell.field)
        zoom = cell.magnification * FIELD_WIDTH / look.width
        style, rng = (
            styles[cell.subject].in_field(field, zoom),
            generator(order.seed, 3, cell.number),
        )
        rgb, mask = paint_cell(canvas, cell.kind, rng, style)
        (folder / cell.file).parent.mkdir(parents=True, exist_ok=True)
        save_picture(folder, cell.file, look.finish(rgb, mask, rng), mask)
        place = (cell.person, cell.group, cell.magnification, *centre_of(mask))
        truth.append(TrueCell(cell.file, cell.kind, *place))
        if progress is not None:
            progress(done, len(cells))
    write_truth(folder, truth)
