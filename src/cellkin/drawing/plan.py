"""What every layout shares: the order, its random numbers, its people, and what lies beside."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

import cellkin
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import write_json
from cellkin.core.errors import RecipeError
from cellkin.drawing.canvas import Rng
from cellkin.drawing.scene import at_least

Progress = Callable[[int, int], None]
MAGNIFICATIONS = (1.0, 1.5)
TRUTH = "masks/cells.csv"
"""What was drawn, one row for each white cell or empty picture; readers pass over `masks`."""

NORMAL_KINDS = {"lymphocyte": 0.6, "neutrophil": 0.18, "monocyte": 0.12, "eosinophil": 0.1}
"""White cells that are no lymphoblasts, where a layout does not name its own: kind -> share."""


@dataclass(frozen=True)
class Order:
    """What to draw.

    Attributes:
        cells: white cells (or patches) in all. subjects: people (or slides) they come from.
        size: side in pixels of a picture of one cell; whole fields grow with it.
        seed: the same order is drawn alike, to the byte.
    """

    cells: int = 240
    subjects: int = 12
    size: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Layout:
    """One way to lay a drawn data set on disk.

    Attributes:
        size: `Order.size` that gives the publisher's own image size.
        check: refuses an order that cannot be drawn.
        write: draws it into an empty folder.
    """

    size: int
    check: Callable[[Order], None]
    write: Callable[[Path, Order, Progress | None], None]


@dataclass(frozen=True)
class TrueCell:
    """A row of `masks/cells.csv`; x, y are the centre in pixels of the file, empty without cell."""

    file: str
    kind: str
    subject: str
    field: str
    magnification: float
    x: int | str = ""
    y: int | str = ""


@dataclass(frozen=True)
class People:
    """Numbers of the subjects, shuffled; the first half (rounded up) is ill."""

    order: tuple[int, ...]

    @classmethod
    def of(cls, subjects: int, rng: Rng) -> People:
        """`subjects` people in random order."""
        return cls(tuple(int(s) for s in rng.permutation(subjects)))

    @property
    def ill(self) -> tuple[int, ...]:
        """Those with lymphoblasts."""
        return self.order[: (len(self.order) + 1) // 2]

    @property
    def healthy(self) -> tuple[int, ...]:
        """Those without."""
        return self.order[(len(self.order) + 1) // 2 :]


def generator(seed: int, *key: int) -> Rng:
    """Random numbers that depend on the seed and a key alone, not on what was drawn before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def check_order(order: Order, *, cells: int = 8, subjects: int = 4) -> None:
    """Refuse numbers too small, or more subjects than the cells can cover.

    Raises:
        RecipeError: fewer cells or subjects than these, a size below 32, a negative seed, or
            fewer than three cells for every two subjects.
    """
    at_least("cells", order.cells, cells)
    at_least("subjects", order.subjects, subjects)
    at_least("size", order.size, 32)
    at_least("seed", order.seed, 0)
    if 3 * order.subjects > 2 * order.cells:
        raise RecipeError(
            f"{order.cells} cells are too few for {order.subjects} subjects",
            where="cells, subjects",
            mend=f"use at least {-(-3 * order.subjects // 2)} cells "
            f"or at most {2 * order.cells // 3} subjects",
        )


def shares(parts: Sequence[float], total: int) -> list[int]:
    """Whole numbers in these proportions that sum to `total`, by largest remainder."""
    exact = [part * total / sum(parts) for part in parts]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts


def centre_of(mask: Bytes) -> tuple[int | str, int | str]:
    """Centre of mass of a mask (h, w) in whole pixels; empty texts where it is empty."""
    rows, columns = np.nonzero(mask)
    return (round(columns.mean()), round(rows.mean())) if len(rows) else ("", "")


def save_picture(folder: Path, file: str, rgb: Bytes, mask: Bytes) -> None:
    """Save a picture in the format of its name, and its mask beside."""
    # Level 1 takes a quarter of the time of level 6; noisy pixels hardly get smaller there.
    options = {".png": {"compress_level": 1}, ".jpg": {"quality": 95}}
    Image.fromarray(rgb).save(folder / file, None, **options.get(file[-4:], {}))
    save_mask(folder, file, mask)


def save_mask(folder: Path, file: str, mask: Bytes) -> None:
    """Save the mask of `file` as `masks/<file>.png` (0 background, 1 cytoplasm, 2 nucleus)."""
    path = folder / "masks" / PurePosixPath(file).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path, compress_level=1)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_truth(folder: Path, cells: Iterable[TrueCell]) -> None:
    """Write `masks/cells.csv`, sorted by file."""
    rows = sorted((astuple(cell) for cell in cells), key=lambda row: row[0])
    write_rows(folder / TRUTH, [field.name for field in fields(TrueCell)], rows)


def describe(
    folder: Path, seed: int, name: str = "drawn smears", *, what: str = "blood", stain: str = ""
) -> None:
    """Write `dataset.json`, which says that these cells (or this tissue) are drawn."""
    unreal = "cells" if what == "blood" else what
    said = {
        "name": name,
        "drawn": True,
        "specimen": f"drawn: no real {what}",
        "stain": f"drawn after {stain or 'Romanowsky stains'}",
        "citation": f"Drawn by cellkin, seed {seed}; not real {unreal}",
        "licence": "CC0-1.0",
        "seed": seed,
        "version": cellkin.__version__,
    }
    write_json(folder / "dataset.json", said)
