"""The drawn data set: reproducible, complete, and not to be solved by colour."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from cellkin.core.errors import CellkinError, OutputError, RecipeError
from cellkin.drawing.drawn import (
    CLASSES,
    KINDS,
    MAGNIFICATIONS,
    Order,
    draw,
    draw_cell,
    subject_style,
)
from cellkin.drawing.folders import class_counts, plan
from cellkin.drawing.plan import NORMAL_KINDS, check_order, generator

NAMES = [drawn_class.name for drawn_class in CLASSES]
WHITE = [kind for kind in KINDS if kind not in ("nothing", "platelet")]


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn") / "set", cells=300, subjects=12, size=64, seed=3)


def cell_of(kind: str, number: int, magnification: float = 1.0, size: int = 96):
    style = subject_style(np.random.default_rng([1, number]))
    style = style.in_field(np.random.default_rng([2, number]), magnification)
    return draw_cell(kind, np.random.default_rng([3, number]), style, size)


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    first, again, other = (
        bytes_of(draw(tmp_path / name, cells=16, subjects=4, size=32, seed=seed))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again
    pictures = [name for name in first if name.endswith(".png") and not name.startswith("masks")]
    assert all(first[name] != other.get(name) for name in pictures)
    assert len({first[name] for name in pictures}) == 16


def test_each_picture_depends_on_seed_and_number_only(folder: Path) -> None:
    """Drawing one cell alone, in any order, gives the pixels of the whole run."""
    for cell in reversed(plan(Order(300, 12, seed=3))[::37]):
        style = subject_style(generator(3, 1, cell.subject)).in_field(
            generator(3, 2, cell.subject, cell.field), cell.magnification
        )
        rgb, mask = draw_cell(cell.kind, generator(3, 3, cell.number), style, 64)
        np.testing.assert_array_equal(rgb, pixels(folder / cell.file))
        np.testing.assert_array_equal(mask, pixels(folder / "masks" / cell.file))


def test_draw_cell_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    cell_of("neutrophil", 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[arg-type]


def test_counts_are_those_of_table_1() -> None:
    assert class_counts(390) == [130, 130, 73, 57]


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 2000))
def test_class_counts_follow_the_shares(cells: int) -> None:
    counts = class_counts(cells)
    assert sum(counts) == cells
    for count, drawn_class in zip(counts, CLASSES, strict=True):
        assert count >= 1
        assert abs(count - drawn_class.share * cells) < 1


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 400), st.integers(4, 60), st.integers(0, 9))
@example(124, 42, 0)  # 42 cells of one class, 41 of the next
@example(126, 42, 0)
def test_every_subject_has_cells_and_healthy_ones_no_blasts(
    cells: int, subjects: int, seed: int
) -> None:
    if 3 * subjects > 2 * cells:
        with pytest.raises(RecipeError, match="too few"):
            check_order(Order(cells, subjects, 64, seed))
        return
    planned = plan(Order(cells, subjects, seed=seed))
    assert {cell.subject for cell in planned} == set(range(subjects))
    assert sorted(cell.number for cell in planned) == list(range(cells))
    ill = {cell.subject for cell in planned if cell.label.startswith("lymphoblast")}
    assert len(ill) <= (subjects + 1) // 2
    if cells >= 3 * subjects:
        for name in ("nothing", "normal"):
            assert {cell.subject for cell in planned if cell.label == name} == set(range(subjects))


def test_files_rows_and_manifest_agree(folder: Path) -> None:
    rows = read_rows(folder)
    assert list(rows[0]) == ["file", "label", "subject", "group"]
    assert Counter(row["label"] for row in rows) == dict(zip(NAMES, class_counts(300), strict=True))
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")}
    listed = {row["file"] for row in rows}
    assert on_disk == listed | {f"masks/{file}" for file in listed}
    assert all(row["file"].split("/")[0] == row["label"] for row in rows)
    manifest = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert manifest["drawn"] is True
    assert manifest["seed"] == 3
    assert "not real cells" in manifest["citation"]


def test_subjects_and_fields(folder: Path) -> None:
    people, fields = defaultdict(set), defaultdict(set)
    for row in read_rows(folder):
        people[row["label"]].add(row["subject"])
        fields[row["group"]].add(row["subject"])
    assert len(people["nothing"]) == len(people["normal"]) == 12
    assert people["lymphoblast (1)"] == people["lymphoblast (2)"]
    assert len(people["lymphoblast (1)"]) == 6
    assert all(len(owners) == 1 for owners in fields.values())
    ten = plan(Order(240, 10))
    for name in NAMES:
        assert len({cell.subject for cell in ten if cell.label == name}) >= 5


def test_file_number_does_not_tell_the_class(folder: Path) -> None:
    numbers = defaultdict(list)
    for row in read_rows(folder):
        numbers[row["label"]].append(int(row["file"][-9:-4]))
    for values in numbers.values():
        assert abs(np.mean(values) - 149.5) < 4 * 86.6 / len(values) ** 0.5


def test_all_pictures_share_size_mode_and_format(folder: Path) -> None:
    for row in read_rows(folder):
        with Image.open(folder / row["file"]) as image:
            assert (image.size, image.mode, image.format) == ((64, 64), "RGB", "PNG")
            assert not image.info
        with Image.open(folder / "masks" / row["file"]) as mask:
            assert (mask.size, mask.mode) == ((64, 64), "L")
            expected = {0} if row["label"] == "nothing" else {0, 1, 2}
            assert set(np.unique(np.asarray(mask))) == expected


@pytest.mark.parametrize("kind", WHITE)
@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_nucleus_is_darker_than_cytoplasm_and_background(kind: str, magnification: float) -> None:
    for number in range(8):
        rgb, mask = cell_of(kind, number, magnification)
        green = rgb[..., 1].astype(float)
        nucleus, body, rest = (green[mask == value].mean() for value in (2, 1, 0))
        assert nucleus < body - 15
        assert nucleus < rest - 40


@pytest.mark.parametrize("kind", [kind for kind in WHITE if kind != "basophil"])
def test_mask_lies_on_the_dark_nucleus(kind: str) -> None:
    """The nucleus, found again by darkness alone, is the masked one; any shifted mask is worse.

    Not asked of basophils, whose granules hide the nucleus.
    The limit lies nearer to the nucleus than to the background: blue cytoplasm is in between.
    """
    for number in range(12):
        rgb, mask = cell_of(kind, number)
        nucleus, green = mask == 2, rgb[..., 1].astype(float)
        limit = (2 * green[nucleus].mean() + np.median(green)) / 3
        rows, columns = np.nonzero(mask)
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        found = np.zeros_like(nucleus)
        found[box] = green[box] < limit
        shifted = [np.roll(nucleus, by, axis) for axis in (0, 1) for by in (-3, 3)]
        right, *wrong = (
            (found & truth).sum() / (found | truth).sum() for truth in (nucleus, *shifted)
        )
        assert right > 0.6
        assert right > max(wrong)


def test_nothing_has_no_nucleus() -> None:
    """Red cells only: hardly a pixel is as violet-dark as nuclei are (platelets are small)."""
    for number in range(8):
        rgb, mask = cell_of("nothing", number)
        assert not mask.any()
        white = cell_of("lymphocyte", number)
        dark = white[0][..., 1][white[1] == 2].mean() + 10
        assert (rgb[..., 1] < dark).mean() < 0.02


def test_cells_are_larger_at_the_higher_magnification() -> None:
    areas = [
        np.mean([(cell_of("lymphoblast", n, m)[1] > 0).sum() for n in range(12)])
        for m in MAGNIFICATIONS
    ]
    assert areas[1] / areas[0] == pytest.approx(1.5**2, rel=0.06)


def test_normals_are_all_kinds_in_their_shares() -> None:
    kinds = Counter(c.kind for c in plan(Order(3000, 12)) if c.label == "normal")
    assert set(kinds) == set(NORMAL_KINDS)
    assert sum(NORMAL_KINDS.values()) == pytest.approx(1)
    for kind, share in NORMAL_KINDS.items():
        assert kinds[kind] / kinds.total() == pytest.approx(share, abs=0.05)


def histogram(rgb: np.ndarray) -> np.ndarray:
    counts, _ = np.histogramdd(rgb.reshape(-1, 3), bins=(6, 6, 6), range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    return rgb.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)).ravel() / 255


def subjects_apart(vectors: np.ndarray, blast: np.ndarray, subject: np.ndarray, k: int) -> float:
    """Accuracy of k neighbours, none of them of the query's own subject."""
    square = (vectors**2).sum(1)
    distances = square[:, None] + square - 2 * vectors @ vectors.T
    distances[subject[:, None] == subject] = np.inf
    nearest = np.argsort(distances, axis=1)[:, :k]
    return float(((blast[nearest].mean(1) > 0.5) == blast).mean())


@pytest.fixture(scope="module")
def whites(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    rows = [row for row in read_rows(folder) if row["label"] != "nothing"]
    return (
        [pixels(folder / row["file"]) for row in rows],
        [pixels(folder / "masks" / row["file"]) for row in rows],
        np.array([row["label"] != "normal" for row in rows]),
        np.array([row["subject"] for row in rows]),
    )


@pytest.mark.parametrize("describe", [histogram, thumbnail])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_colour_and_raw_pixels_do_not_give_the_class_away(
    whites: tuple, describe: Callable[[np.ndarray], np.ndarray], k: int
) -> None:
    images, _, blast, subject = whites
    assert len(blast) == 200
    vectors = np.stack([describe(image) for image in images])
    assert subjects_apart(vectors, blast, subject, k) < 0.80


@pytest.mark.parametrize("describe", [histogram, thumbnail])
def test_nor_lymphocyte_from_lymphoblast(
    folder: Path, describe: Callable[[np.ndarray], np.ndarray]
) -> None:
    with (folder / "masks" / "cells.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"].startswith("lympho")]
    blast = np.array([row["kind"] == "lymphoblast" for row in rows])
    assert 130 < len(rows) < 190
    assert blast.sum() == 100
    vectors = np.stack([describe(pixels(folder / row["file"])) for row in rows])
    subject = np.array([row["subject"] for row in rows])
    assert subjects_apart(vectors, blast, subject, 5) < 0.80


def test_shape_does_give_the_class_away(whites: tuple) -> None:
    """The other way round: the classes differ where cytologists look, so they can be learned."""
    _, masks, blast, subject = whites
    ratio = np.array([(mask == 2).sum() / (mask > 0).sum() for mask in masks])
    assert ratio[blast].mean() > ratio[~blast].mean() + 0.1
    assert subjects_apart(ratio[:, None], blast, subject, 5) > 0.80


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": 7, "subjects": 4}, "cells = 7"),
        ({"subjects": 3}, "subjects = 3"),
        ({"size": 31}, "size = 31"),
        ({"seed": -1}, "seed = -1"),
        ({"cells": 20, "subjects": 14}, "too few for 14 subjects"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, int], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        draw(tmp_path / "set", **wrong)  # type: ignore[arg-type]
    assert caught.value.mend
    assert not any(tmp_path.iterdir())


def test_the_mend_of_too_few_cells_works(tmp_path: Path) -> None:
    with pytest.raises(CellkinError, match="too few") as caught:
        check_order(Order(20, 14))
    assert caught.value.mend == "use at least 21 cells or at most 13 subjects"
    check_order(Order(21, 14))
    check_order(Order(20, 13))


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        draw(tmp_path, cells=8, subjects=4, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "set", cells=8, subjects=4, size=32, progress=stop)
    assert not any(tmp_path.iterdir())


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw(tmp_path / "set", cells=8, subjects=4, size=32, progress=lambda *step: seen.append(step))
    assert seen == [(k, 8) for k in range(1, 9)]


def test_unknown_kind_is_named() -> None:
    with pytest.raises(RecipeError, match="lymphoblas'") as caught:
        cell_of("lymphoblas", 0)
    assert "lymphoblast" in caught.value.mend
    with pytest.raises(RecipeError, match="size = 16"):
        cell_of("lymphocyte", 0, size=16)
