"""A synthetic blood smear data set, drawn from a seed: for demos and tests, never for evidence.

No pixel comes from a patient. The class proportions are those of the paper's Table 1 (ALL-IDB2
after class injection). Each subject has its own stain, light, focus and camera, each of its fields
its own magnification and density of red cells, so that colour and sharpness belong to the subject
and the field, not to the class. The two lymphoblast classes are two magnifications of one kind of
cell, as the paper's imaging groups are; the other classes are drawn at both magnifications.

A new class is one row of `CLASSES`; a new kind of white cell one function in `smear`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import cellkin
from cellkin.core.artifacts import new_folder, write_json
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.datasets.smear import (
    WHITE_CELLS,
    Canvas,
    paint_platelet,
    paint_red_cell,
    paint_white_cell,
    smooth_noise,
)

__all__ = ["CLASSES", "KINDS", "DrawnClass", "SubjectStyle", "draw", "draw_cell", "subject_style"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

OVERSAMPLING = 2  # drawn at twice the size, then averaged: smooth edges
AREA = cv2.INTER_AREA
MAGNIFICATIONS = (1.0, 1.5)
FIELD_WIDTH = 30.0  # micrometres across the picture at magnification 1
FIELDS_PER_SUBJECT = 4
KINDS = ("nothing", *WHITE_CELLS)
"""What `draw_cell` can put in the middle of a picture."""


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
    DrawnClass("normal", 130 / 390, {"lymphocyte": 0.8, "neutrophil": 0.2}),
    DrawnClass("lymphoblast (1)", 73 / 390, {"lymphoblast": 1.0}, MAGNIFICATIONS[0], True),
    DrawnClass("lymphoblast (2)", 57 / 390, {"lymphoblast": 1.0}, MAGNIFICATIONS[1], True),
)
"""The classes in their fixed order, with the proportions of the paper's Table 1."""


@dataclass(frozen=True)
class SubjectStyle:
    """What one person's smear looks like, whatever the cell in the middle is.

    Attributes:
        absorbance: (4, 3) optical density in R, G, B of one layer of each stain component.
        light: (3,) colour of the empty background, in [0, 1].
        uneven: relative fall of the light across the field. tilt: its direction, radians.
        blur: standard deviation of the focus blur in micrometres.
        noise: standard deviation of the camera noise in grey levels. quality: JPEG, 0 to 100.
        crowding: share of the field that red cells cover. pallor: depth of their pale centre.
        red_radius: of red cells, in micrometres. magnification: 1 is 30 micrometres across.
    """

    absorbance: Floats
    light: Floats
    uneven: float
    tilt: float
    blur: float
    noise: float
    quality: int
    crowding: float
    pallor: float
    red_radius: float
    magnification: float = 1.0

    def in_field(self, rng: Rng, magnification: float) -> SubjectStyle:
        """The same smear in another field of view."""
        return replace(
            self,
            tilt=float(rng.uniform(0, 2 * np.pi)),
            blur=self.blur * float(rng.uniform(0.85, 1.25)),
            crowding=float(np.clip(self.crowding + rng.normal(0, 0.08), 0.12, 0.7)),
            light=self.light * np.float32(rng.uniform(0.97, 1.01)),
            magnification=magnification,
        )


def subject_style(rng: Rng) -> SubjectStyle:
    """A subject's stain, light, focus and camera, far enough apart to hide the class's colour."""
    warm, salmon = rng.uniform(0, 1), rng.uniform(0, 1)
    violet = np.array([1.15, 1.9, 0.5]) * (1 + rng.normal(0, [0.1, 0.07, 0.22]))
    absorbance = np.stack(
        [
            (1 - salmon) * np.array([0.25, 0.4, 0.22]) + salmon * np.array([0.1, 0.43, 0.34]),
            violet * rng.uniform(0.72, 1.05),
            np.array([0.54, 0.48, 0.14]) * (1 + rng.normal(0, [0.1, 0.1, 0.3])),
            np.array([0.2, 0.34, 0.12]) * (1 + rng.normal(0, 0.12, 3)),
        ]
    )
    absorbance *= rng.uniform(0.8, 1.2)
    grey, cream = np.array([0.92, 0.92, 0.93]), np.array([0.985, 0.91, 0.82])
    return SubjectStyle(
        absorbance=np.clip(absorbance, 0.03, None).astype(np.float32),
        light=((grey + warm * (cream - grey)) * rng.uniform(0.96, 1.01)).astype(np.float32),
        uneven=float(rng.uniform(0.02, 0.12)),
        tilt=0.0,
        blur=float(rng.uniform(0.03, 0.11)),
        noise=float(rng.uniform(0.8, 3.2)),
        quality=int(rng.integers(82, 97)),
        crowding=float(rng.uniform(0.25, 0.6)),
        pallor=float(rng.uniform(0.25, 0.7)),
        red_radius=float(rng.normal(3.6, 0.15)),
    )


def draw_cell(kind: str, rng: Rng, style: SubjectStyle, size: int) -> tuple[Bytes, Bytes]:
    """Draw one picture, with the exact mask of its central cell.

    Args:
        kind: one of `KINDS`. size: side of the picture in pixels.

    Returns:
        rgb (size, size, 3) uint8 RGB and mask (size, size) uint8: 0 background, 1 cytoplasm,
        2 nucleus of the central white cell; all 0 for `"nothing"`.

    Raises:
        RecipeError: an unknown kind, or a size below 32.
    """
    if kind not in KINDS:
        raise RecipeError(
            f"unknown kind of cell {kind!r}",
            where=f"kinds {', '.join(KINDS)}",
            mend=did_you_mean(kind, KINDS) or "use one of the kinds named here",
        )
    _at_least("size", size, 32)
    return _picture(Canvas(OVERSAMPLING * size, FIELD_WIDTH), kind, rng, style)


def _picture(canvas: Canvas, kind: str, rng: Rng, style: SubjectStyle) -> tuple[Bytes, Bytes]:
    canvas.clear(FIELD_WIDTH / style.magnification)
    middle = canvas.width / 2 + rng.normal(0, 0.018 * canvas.width, 2)
    centre = (float(middle[0]), float(middle[1]))
    white = WHITE_CELLS[kind](rng) if kind in WHITE_CELLS else None
    _strew(canvas, style, (*centre, float(white.radii.mean()) if white else 0.0), rng)
    if white is not None:
        paint_white_cell(canvas, centre, white, rng)
    return _photograph(canvas, style, rng), _mask(canvas)


def _at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise RecipeError(
            f"{name} = {value} is too small for drawn cells",
            where=name,
            mend=f"use {name} of at least {minimum}",
        )


def _strew(canvas: Canvas, style: SubjectStyle, keep: tuple[float, float, float], rng: Rng) -> None:
    """Red cells and a few platelets over the field, not under the white cell (x, y, radius)."""
    for place in _places(canvas.width, style, keep, rng):
        pallor = style.pallor * float(rng.uniform(0.3, 1.2))
        radius = style.red_radius * float(rng.normal(1, 0.06))
        paint_red_cell(canvas, place, radius, pallor, rng)
    for x, y in rng.uniform(0, canvas.width, (int(rng.poisson(0.5)), 2)):
        if not keep[2] or hypot(x - keep[0], y - keep[1]) > keep[2] + 1.8:
            paint_platelet(canvas, (float(x), float(y)), rng)


def _places(
    width: float, style: SubjectStyle, keep: tuple[float, float, float], rng: Rng
) -> list[tuple[float, float]]:
    """Centres of red cells: side by side, one in five on top of another, some over the border."""
    reach = style.red_radius
    wanted = round(style.crowding * (width / reach + 2) ** 2 / np.pi + rng.normal(0, 0.7))
    tries = rng.uniform(-reach, width + reach, (8 * max(wanted, 1), 2)).tolist()
    gaps = reach * np.where(rng.random(len(tries)) > 0.22, 2.0, rng.uniform(1.1, 1.9, len(tries)))
    placed: list[tuple[float, float]] = []
    for (x, y), gap in zip(tries, gaps.tolist(), strict=True):
        under = keep[2] and hypot(x - keep[0], y - keep[1]) < keep[2] + 0.72 * reach
        if not under and all(hypot(x - a, y - b) >= gap for a, b in placed):
            placed.append((x, y))
        if len(placed) >= wanted:
            break
    return placed


def _photograph(canvas: Canvas, style: SubjectStyle, rng: Rng) -> Bytes:
    """Light through the stains (Beer-Lambert), focus, sensor noise and JPEG softness."""
    size = canvas.extent.shape[0] // OVERSAMPLING
    sigma = max(style.blur * size / canvas.width, 0.25)
    bright = _illumination(size, style, rng) * np.float32(255)
    noise = rng.standard_normal((size, size), np.float32) * np.float32(style.noise)
    planes = []
    for passed, light in zip(canvas.transmitted(style.absorbance), style.light, strict=True):
        seen = cv2.resize(passed, (size, size), interpolation=AREA)
        seen = cv2.GaussianBlur(seen, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        planes.append(np.clip(seen * (light * bright) + noise, 0, 255).astype(np.uint8))
    quality = [cv2.IMWRITE_JPEG_QUALITY, style.quality]
    _, coded = cv2.imencode(".jpg", cv2.merge(planes[::-1]), quality)
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB), np.uint8)


def _illumination(size: int, style: SubjectStyle, rng: Rng) -> Floats:
    """(size, size) relative brightness: a tilt, a vignette and faint clouds of dried plasma."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, size, dtype=np.float32)])
    tilted = np.cos(style.tilt) * x + np.sin(style.tilt) * y
    clouds = cv2.resize(smooth_noise(rng, (16, 16), 4), (size, size))
    field = 1 - style.uneven * (0.5 * tilted + 0.2 * (x * x + y * y)) + 0.006 * clouds
    return np.asarray(field, np.float32)


def _mask(canvas: Canvas) -> Bytes:
    """Classes by majority of each pixel's area."""
    size = canvas.extent.shape[0] // OVERSAMPLING
    inside, nucleus = (
        cv2.resize((canvas.extent >= part).astype(np.float32), (size, size), interpolation=AREA)
        for part in (1, 2)
    )
    return (inside >= 0.5).astype(np.uint8) + ((inside >= 0.5) & (nucleus >= 0.5))


def draw(
    out: Path,
    *,
    cells: int = 240,
    subjects: int = 12,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a data set of class folders with labels, subjects, fields and exact masks.

    Written: `<class>/*.png` (RGB), `masks/<class>/*.png` (8-bit grey, see `draw_cell`),
    `labels.csv` (file, label, subject, group = field) and `dataset.json`. The same arguments give
    the same bytes; each picture depends on the seed and its own number only. Every subject
    contributes to `nothing` and `normal` from three cells per subject on; half of
    the subjects are ill and contribute lymphoblasts.

    Args:
        out: folder to make; it must not exist, or be empty.
        cells, subjects: how many pictures in all, of how many people (4 to `cells` / 1.5).
        size: side of the square pictures in pixels.
        progress: called after each picture with (pictures done, pictures in all).

    Returns:
        `out`.

    Raises:
        RecipeError: a number that is too small, or more subjects than the cells can cover.
        OutputError: `out` is taken or cannot be written.
    """
    _check_numbers(cells, subjects, size, seed)
    plan = _plan(cells, subjects, seed)
    styles = [subject_style(_generator(seed, 1, number)) for number in range(subjects)]
    with new_folder(Path(out)) as folder:
        for drawn_class in CLASSES:
            (folder / drawn_class.name).mkdir()
            (folder / "masks" / drawn_class.name).mkdir(parents=True)
        canvas = Canvas(OVERSAMPLING * size, FIELD_WIDTH)
        for done, cell in enumerate(plan, start=1):
            field = _generator(seed, 2, cell.subject, cell.field)
            style = styles[cell.subject].in_field(field, cell.magnification)
            picture = _picture(canvas, cell.kind, _generator(seed, 3, cell.number), style)
            _save(folder, cell.file, picture)
            if progress is not None:
                progress(done, cells)
        _write_labels(folder, plan)
        write_json(folder / "dataset.json", _description(seed))
    return Path(out)


def _check_numbers(cells: int, subjects: int, size: int, seed: int) -> None:
    _at_least("cells", cells, 8)
    _at_least("subjects", subjects, 4)
    _at_least("size", size, 32)
    _at_least("seed", seed, 0)
    if 3 * subjects > 2 * cells:
        raise RecipeError(
            f"{cells} cells are too few for {subjects} subjects",
            where="cells, subjects",
            mend=f"use at least {-(-3 * subjects // 2)} cells or at most {2 * cells // 3} subjects",
        )


@dataclass(frozen=True)
class _PlannedCell:
    number: int
    label: str
    kind: str
    subject: int
    field: int

    @property
    def file(self) -> str:
        return f"{self.label}/drawn_{self.number:05d}.png"

    @property
    def magnification(self) -> float:
        return MAGNIFICATIONS[self.field % len(MAGNIFICATIONS)]


def _generator(seed: int, *key: int) -> Rng:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _plan(cells: int, subjects: int, seed: int) -> list[_PlannedCell]:
    """Who contributes what: classes dealt out evenly over subjects and their fields."""
    rng = _generator(seed, 0)
    order = [int(s) for s in rng.permutation(subjects)]
    ill = order[: (subjects + 1) // 2]
    numbers = iter(rng.permutation(cells))
    planned: list[_PlannedCell] = []
    dealt = 0
    for drawn_class, count in zip(CLASSES, _class_counts(cells), strict=True):
        people = ill if drawn_class.ill_only else order
        fields = _fields(drawn_class)
        kinds = rng.choice(list(drawn_class.kinds), size=count, p=list(drawn_class.kinds.values()))
        for turn, kind in enumerate(kinds.tolist(), start=0 if drawn_class.ill_only else dealt):
            person, field = people[turn % len(people)], fields[turn // len(people) % len(fields)]
            planned.append(_PlannedCell(int(next(numbers)), drawn_class.name, kind, person, field))
        dealt += count
    return sorted(planned, key=lambda cell: cell.number)


def _class_counts(cells: int) -> list[int]:
    """Cells per class by largest remainder, in class order."""
    exact = [drawn_class.share * cells for drawn_class in CLASSES]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: cells - sum(counts)]:
        counts[k] += 1
    return counts


def _fields(drawn_class: DrawnClass) -> list[int]:
    """Fields in which a class lies: all, or those of its magnification."""
    return [
        field
        for field in range(FIELDS_PER_SUBJECT)
        if drawn_class.magnification in (None, MAGNIFICATIONS[field % len(MAGNIFICATIONS)])
    ]


def _save(folder: Path, file: str, picture: tuple[Bytes, Bytes]) -> None:
    # Level 1 takes a quarter of the time of level 6; noisy pixels hardly get smaller there.
    for name, pixels in ((file, picture[0]), (f"masks/{file}", picture[1])):
        Image.fromarray(pixels).save(folder / name, compress_level=1)


def _write_labels(folder: Path, plan: list[_PlannedCell]) -> None:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "label", "subject", "group"])
        for cell in sorted(plan, key=lambda cell: cell.file):
            subject = f"S{cell.subject + 1:03d}"
            rows.writerow([cell.file, cell.label, subject, f"{subject}-F{cell.field + 1}"])


def _description(seed: int) -> dict[str, object]:
    return {
        "name": "drawn smears",
        "drawn": True,
        "specimen": "drawn: no real blood",
        "stain": "drawn after Romanowsky stains",
        "citation": f"Drawn by cellkin, seed {seed}; not real cells",
        "licence": "CC0-1.0",
        "seed": seed,
        "version": cellkin.__version__,
    }
