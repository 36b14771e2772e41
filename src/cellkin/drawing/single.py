"""Layouts `cnmc` and `pbc`: one picture per cell, named and laid as their publishers do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.datasets.readers import pbc
from cellkin.drawing.camera import SubjectStyle
from cellkin.drawing.canvas import BLUE, NUCLEAR, Rng
from cellkin.drawing.pictures import Look, PlannedCell, write_cells
from cellkin.drawing.plan import (
    Layout,
    Order,
    People,
    Progress,
    check_order,
    describe,
    generator,
    shares,
)

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


def _check_cnmc(order: Order) -> None:
    check_order(order, cells=9, subjects=2 * FOLDS)


def _plan_cnmc(order: Order) -> list[PlannedCell]:
    """Two lymphoblasts for each normal precursor; a subject's cells lie in one fold."""
    people = People.of(order.subjects, generator(order.seed, 0))
    cells: list[PlannedCell] = []
    counts = shares((2, 1), order.cells)
    groups = ((people.ill, "all", "lymphoblast", ""), (people.healthy, "hem", "precursor", "H"))
    for (members, ending, kind, mark), count in zip(groups, counts, strict=True):
        for turn in range(count):
            place, number = turn % len(members), turn // len(members)
            person, field = f"{mark}{place + 1}", number % CNMC_FIELDS
            name = f"UID_{person}_{field + 1}_{number // CNMC_FIELDS + 1}_{ending}.bmp"
            file = f"fold_{place % FOLDS}/{ending}/{name}"
            cells.append(PlannedCell(len(cells), file, kind, members[place], person, field))
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
    look = Look((order.size, order.size), CNMC_WIDTH, _normalised, _cut_out)
    write_cells(folder, order, _plan_cnmc(order), look, progress)
    describe(folder, order.seed, "drawn cells laid out as C-NMC 2019")


def _check_pbc(order: Order) -> None:
    check_order(order, cells=16, subjects=1)


def _plan_pbc(order: Order) -> list[PlannedCell]:
    """The publisher's proportions; subjects take turns and stand in no name."""
    rng = generator(order.seed, 0)
    names = iter(rng.choice(900_000, order.cells, replace=False) + 100_000)
    cells: list[PlannedCell] = []
    kinds = list(pbc.PUBLISHED_COUNTS)
    for kind, count in zip(
        kinds, shares(list(pbc.PUBLISHED_COUNTS.values()), order.cells), strict=True
    ):
        for _ in range(count):
            prefixes = PBC_PREFIXES[kind]
            file = f"{kind}/{prefixes[len(cells) % len(prefixes)]}_{next(names)}.jpg"
            subject = len(cells) % order.subjects
            cells.append(PlannedCell(len(cells), file, kind, subject, f"S{subject + 1:03d}", 0))
    return cells


def _write_pbc(folder: Path, order: Order, progress: Progress | None) -> None:
    look = Look((order.size, max(round(order.size * 360 / 363), 32)), PBC_WIDTH)
    write_cells(folder, order, _plan_pbc(order), look, progress)
    describe(folder, order.seed, "drawn cells laid out as PBC")


CNMC = Layout(450, _check_cnmc, _write_cnmc)
PBC = Layout(363, _check_pbc, _write_pbc)
