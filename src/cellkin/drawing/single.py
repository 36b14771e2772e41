"""Layouts `cnmc` and `pbc`: one picture per cell, named and laid as their publishers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.datasets.readers import pbc
from cellkin.drawing.camera import SubjectStyle, subject_style
from cellkin.drawing.canvas import BLUE, NUCLEAR, Rng
from cellkin.drawing.plan import (
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
    write_truth,
)
from cellkin.drawing.scene import FIELD_WIDTH, new_canvas, paint_cell

__all__ = ["CNMC", "PBC"]

CNMC_WIDTH = 24.0  # micrometres across a picture
PBC_WIDTH = 42.0
CNMC_FIELDS = 4  # per subject
FOLDS = 3
PBC_PREFIXES = {
    "basophil": ("BA",),
    "eosinophil": ("EO",),
    "erythroblast": ("ERB",),
    "ig": ("MY", "MMY", "PMY"),
    "lymphocyte": ("LY",),
    "monocyte": ("MO",),
    "neutrophil": ("BNE", "SNE"),
    "platelet": ("PLATELET",),
}

Finish = Callable[[Bytes, Bytes, Rng], Bytes]


@dataclass(frozen=True)
class _Look:
    """How a publisher's pictures look: micrometres across, the style's change, the last touch."""

    width: float
    restain: Callable[[SubjectStyle], SubjectStyle]
    finish: Finish


@dataclass(frozen=True)
class _Cell:
    number: int
    file: str
    kind: str
    subject: int
    person: str
    field: int


def _write_cells(
    folder: Path,
    order: Order,
    cells: Sequence[_Cell],
    shape: tuple[int, int],
    look: _Look,
    progress: Progress | None,
) -> None:
    styles = [
        look.restain(subject_style(generator(order.seed, 1, n))) for n in range(order.subjects)
    ]
    canvas, truth = new_canvas(shape), []
    for done, cell in enumerate(cells, start=1):
        style = styles[cell.subject].in_field(
            generator(order.seed, 2, cell.subject, cell.field), FIELD_WIDTH / look.width
        )
        rng = generator(order.seed, 3, cell.number)
        rgb, mask = paint_cell(canvas, cell.kind, rng, style)
        (folder / cell.file).parent.mkdir(parents=True, exist_ok=True)
        save_picture(folder, cell.file, look.finish(rgb, mask, rng), mask)
        place = (cell.person, f"{cell.person}-F{cell.field + 1}", 1.0, *centre_of(mask))
        truth.append(TrueCell(cell.file, cell.kind, *place))
        if progress is not None:
            progress(done, len(cells))
    write_truth(folder, truth)


def _check_cnmc(order: Order) -> None:
    check_order(order, cells=9, subjects=2 * FOLDS)


def _plan_cnmc(order: Order) -> list[_Cell]:
    """Two lymphoblasts for each normal precursor; a subject's cells lie in one fold."""
    people = People.of(order.subjects, generator(order.seed, 0))
    cells: list[_Cell] = []
    counts = shares((2, 1), order.cells)
    groups = ((people.ill, "all", "lymphoblast", ""), (people.healthy, "hem", "precursor", "H"))
    for (members, ending, kind, mark), count in zip(groups, counts, strict=True):
        for turn in range(count):
            place, number = turn % len(members), turn // len(members)
            person, field = f"{mark}{place + 1}", number % CNMC_FIELDS
            name = f"UID_{person}_{field + 1}_{number // CNMC_FIELDS + 1}_{ending}.bmp"
            file = f"fold_{place % FOLDS}/{ending}/{name}"
            cells.append(_Cell(len(cells), file, kind, members[place], person, field))
    return cells


def _normalised(style: SubjectStyle) -> SubjectStyle:
    """Stain-normalised: cytoplasm is nearly as violet as nuclei."""
    absorbance = style.absorbance.copy()
    absorbance[BLUE] = 0.55 * absorbance[BLUE] + 0.4 * absorbance[NUCLEAR]
    return replace(style, absorbance=absorbance)


def _cut_out(rgb: Bytes, mask: Bytes, rng: Rng) -> Bytes:
    """The cell on black, cut on its margin or a pixel outside, and darker.

    The publisher's cells are cut out by a segmentation that is not exact and stain-normalised.
    """
    off = int(rng.integers(0, 2))
    round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * off + 1, 2 * off + 1))
    near = cv2.dilate((mask > 0).astype(np.uint8), round_brush)
    return np.where(np.asarray(near)[..., None] > 0, rgb * np.float32(0.72), 0).astype(np.uint8)


def _write_cnmc(folder: Path, order: Order, progress: Progress | None) -> None:
    shape = (order.size, order.size)
    _write_cells(
        folder, order, _plan_cnmc(order), shape, _Look(CNMC_WIDTH, _normalised, _cut_out), progress
    )
    describe(folder, order.seed, "drawn cells laid out as C-NMC 2019")


def _check_pbc(order: Order) -> None:
    check_order(order, cells=16, subjects=1)


def _plan_pbc(order: Order) -> list[_Cell]:
    """The publisher's proportions; subjects take turns and stand in no name."""
    rng = generator(order.seed, 0)
    names = iter(rng.choice(900_000, order.cells, replace=False) + 100_000)
    cells: list[_Cell] = []
    kinds = list(pbc.PUBLISHED_COUNTS)
    for kind, count in zip(
        kinds, shares(list(pbc.PUBLISHED_COUNTS.values()), order.cells), strict=True
    ):
        for _ in range(count):
            prefixes = PBC_PREFIXES[kind]
            file = f"{kind}/{prefixes[len(cells) % len(prefixes)]}_{next(names)}.jpg"
            subject = len(cells) % order.subjects
            cells.append(_Cell(len(cells), file, kind, subject, f"S{subject + 1:03d}", 0))
    return cells


def _as_it_is(rgb: Bytes, mask: Bytes, rng: Rng) -> Bytes:
    return rgb


def _write_pbc(folder: Path, order: Order, progress: Progress | None) -> None:
    shape = (order.size, max(round(order.size * 360 / 363), 32))
    _write_cells(
        folder,
        order,
        _plan_pbc(order),
        shape,
        _Look(PBC_WIDTH, lambda style: style, _as_it_is),
        progress,
    )
    describe(folder, order.seed, "drawn cells laid out as PBC")


CNMC = Layout(450, _check_cnmc, _write_cnmc)
PBC = Layout(363, _check_pbc, _write_pbc)
