"""Drawn data sets laid on disk as their publishers do: names, tables, masks, truth."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label

from cellkin import datasets
from cellkin.core.errors import RecipeError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL
from cellkin.drawing import allidb, single, tissue
from cellkin.drawing.drawn import LAYOUTS, Order, draw_layout
from cellkin.drawing.plan import shares

ORDER = Order(cells=40, subjects=8, size=48, seed=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    return {name: draw_layout(name, root / name, ORDER) for name in LAYOUTS}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def truth_of(folder: Path) -> list[dict[str, str]]:
    return rows_of(folder / "masks" / "cells.csv")


def images_of(folder: Path) -> list[str]:
    suffixes = {".png", ".jpg", ".bmp", ".tif"}
    found = (p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.suffix in suffixes)
    return [path.as_posix() for path in found if path.parts[0] != "masks"]


def mask_of(folder: Path, file: str) -> np.ndarray:
    return pixels(folder / "masks" / PurePosixPath(file).with_suffix(".png"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_image_has_a_mask_and_the_set_says_that_it_is_drawn(
    folders: dict[str, Path], name: str
) -> None:
    folder, images = folders[name], images_of(folders[name])
    masks = [p.relative_to(folder / "masks") for p in (folder / "masks").rglob("*.png")]
    assert sorted(m.as_posix() for m in masks) == sorted(
        PurePosixPath(file).with_suffix(".png").as_posix() for file in images
    )
    for file in images[::7]:
        rgb, mask = pixels(folder / file), mask_of(folder, file)
        assert rgb.shape == (*mask.shape, 3)
        assert mask.max() <= 2
    said = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert said["drawn"] is True
    assert said["seed"] == ORDER.seed
    assert "not real" in said["citation"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_order_gives_the_same_bytes(
    folders: dict[str, Path], name: str, tmp_path: Path
) -> None:
    if name in ("folders", "all-idb2"):  # see test_drawn, and the crops below
        pytest.skip("tested elsewhere")
    again = draw_layout(name, tmp_path / "again", ORDER)
    files = [p.relative_to(again) for p in again.rglob("*") if p.is_file()]
    assert len(files) == len([p for p in folders[name].rglob("*") if p.is_file()])
    for file in files:
        assert (again / file).read_bytes() == (folders[name] / file).read_bytes(), file


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "adp"])
def test_truth_names_every_white_cell_where_it_lies(folders: dict[str, Path], name: str) -> None:
    folder = folders[name]
    truth = truth_of(folder)
    assert {row["file"] for row in truth} == set(images_of(folder))
    assert len(truth) == ORDER.cells
    assert len({row["subject"] for row in truth}) == ORDER.subjects
    for row in truth:
        if row["kind"] == "nothing":
            assert row["x"] == row["y"] == ""
            continue
        near = mask_of(folder, row["file"])[int(row["y"]) - 2 :, int(row["x"]) - 2 :][:5, :5]
        assert near.any(), "the centre lies on its cell, or between the lobes of its nucleus"


def test_all_idb1_fields_and_centroids(folders: dict[str, Path]) -> None:
    folder = folders["all-idb1"]
    cells = defaultdict(list)
    for row in truth_of(folder):
        cells[row["file"]].append((row["kind"] == "lymphoblast", int(row["x"]), int(row["y"])))
    others = defaultdict(list)
    for row in rows_of(folder / "others.csv"):
        assert row["complete"] == "yes"
        others[row["field"]] += [(int(row["x"]), int(row["y"]))] if row["x"] else []
    for file in images_of(folder):
        assert re.fullmatch(r"im/Im\d{3}_[01]\.jpg", file)
        stem, ill = PurePosixPath(file).stem, file.endswith("_1.jpg")
        lines = (folder / "xyc" / f"{stem}.xyc").read_text(encoding="utf-8").splitlines()
        blasts = [tuple(map(int, line.split("\t"))) for line in lines]
        assert blasts == [(x, y) for blast, x, y in cells[file] if blast]
        assert bool(blasts) == ill
        assert stem in others
        assert others[stem] == [(x, y) for blast, x, y in cells[file] if not blast]
    assert {p.stem for p in (folder / "xyc").iterdir()} == {
        p.stem for p in (folder / "im").iterdir()
    }


def test_all_idb1_masks_hold_the_cells_of_the_field_apart(tmp_path: Path) -> None:
    folder = draw_layout("all-idb1", tmp_path / "f", Order(cells=24, subjects=4, size=96, seed=1))
    count = Counter(row["file"] for row in truth_of(folder))
    for file, cells in count.items():
        parts = label(mask_of(folder, file) > 0)
        large = [area for area in np.bincount(parts.ravel())[1:] if area > 60]
        assert len(large) == cells


def test_all_idb1_field_sizes_are_the_publishers() -> None:
    assert set(allidb.SHAPES.values()) == {(1944, 2592), (1368, 1712)}
    assert LAYOUTS["all-idb1"].size == LAYOUTS["all-idb2"].size == 257


def test_all_idb2_crops_are_windows_of_the_fields(folders: dict[str, Path]) -> None:
    folder = folders["all-idb2"]
    kinds = {row["file"]: row["kind"] for row in truth_of(folder)}
    crops = rows_of(folder / "masks" / "crops.csv")
    assert len(crops) == len(kinds) == ORDER.cells
    for row in crops:
        assert re.fullmatch(r"img/Im\d{3}_[01]\.tif", row["file"])
        assert row["file"].endswith("_1.tif") == (kinds[row["file"]] == "lymphoblast")
        top, left = int(row["top"]), int(row["left"])
        window = (slice(top, top + ORDER.size), slice(left, left + ORDER.size))
        crop = pixels(folder / row["file"])
        assert crop.shape == (ORDER.size, ORDER.size, 3)
        field = f"im/{row['field']}.jpg"
        mask = mask_of(folders["all-idb1"], field)[window]
        np.testing.assert_array_equal(mask, mask_of(folder, row["file"]))
        whole = pixels(folders["all-idb1"] / field)[window].astype(int)
        assert np.abs(crop - whole).max() <= 6, "two JPEG decoders may round apart"


def test_cnmc_round_trip(folders: dict[str, Path]) -> None:
    data = datasets.open(folders["cnmc"])
    assert data.layout == "C-NMC 2019"
    assert data.drawn
    truth = {row["file"]: row for row in truth_of(folders["cnmc"])}
    assert len(data) == ORDER.cells
    for sample in data:
        row = truth[sample.id]
        assert sample.subject == row["subject"]
        assert (sample.label == "all") == (row["kind"] == "lymphoblast")
        assert (row["kind"] == "precursor") == row["subject"].startswith("H")
    assert data.labels.clinical == {"hem": OTHER_CELL, "all": LYMPHOBLAST}
    folds = defaultdict(set)
    for sample in data:
        folds[sample.fold].add(sample.label)
    assert folds == {f"fold_{k}": {"all", "hem"} for k in range(3)}


def test_cnmc_cells_lie_on_black(folders: dict[str, Path]) -> None:
    for file in images_of(folders["cnmc"])[::5]:
        rgb, mask = pixels(folders["cnmc"] / file), mask_of(folders["cnmc"], file)
        near = np.zeros(mask.shape, bool)
        for axis in (0, 1):
            for by in range(-4, 5):
                near |= np.roll(mask > 0, by, axis)
        assert not rgb[~near].any()
        assert rgb[mask > 0].sum(axis=1).min() > 0


def test_pbc_round_trip(folders: dict[str, Path]) -> None:
    data = datasets.open(folders["pbc"])
    assert data.layout == "PBC"
    assert data.drawn
    assert "images are not named as PBC names them" not in " ".join(data.notes)
    kinds = {row["file"]: row["kind"] for row in truth_of(folders["pbc"])}
    assert {sample.id: sample.label for sample in data} == kinds
    assert Counter(kinds.values()) == {
        "basophil": 3, "eosinophil": 7, "erythroblast": 4, "ig": 7, "lymphocyte": 3,
        "monocyte": 3, "neutrophil": 8, "platelet": 5,
    }  # fmt: skip
    assert data.subjects() == ()  # as the publisher's: nobody is named


def test_folders_round_trip(folders: dict[str, Path]) -> None:
    data = datasets.open(folders["folders"])
    truth = {row["file"]: row for row in truth_of(folders["folders"])}
    assert {s.id: (s.subject, s.group) for s in data} == {
        file: (row["subject"], row["field"]) for file, row in truth.items()
    }
    assert datasets.check(data).ok


@pytest.mark.parametrize(
    ("name", "shape"),
    [("folders", (256, 256)), ("cnmc", (450, 450)), ("pbc", (363, 360)), ("adp", (272, 272))],
)
def test_full_size(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    order = Order(16, 8 if name == "cnmc" else 4, LAYOUTS[name].size)
    folder = draw_layout(name, tmp_path / "full", order)
    assert pixels(folder / images_of(folder)[0]).shape == (*shape, 3)


def test_adp_table(folders: dict[str, Path]) -> None:
    rows = rows_of(folders["adp"] / tissue.TABLE)
    codes = [name for name in rows[0] if name != "Patch Names"]
    assert [sum(code.count(".") <= dots for code in codes) for dots in range(3)] == [9, 26, 38]
    assert {f"img/{row['Patch Names']}" for row in rows} == set(images_of(folders["adp"]))
    for row in rows:
        assert set(row.values()) - {row["Patch Names"]} <= {"0", "1"}
        found = [code for code in codes if row[code] == "1"]
        assert found
        for code in found:
            assert not code.rpartition(".")[0] or row[code.rpartition(".")[0]] == "1", code


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 400), st.integers(4, 40), st.integers(0, 5))
def test_planned_fields_hold_all_cells(cells: int, subjects: int, seed: int) -> None:
    if 3 * subjects > 2 * cells:
        return
    fields = allidb.plan_fields(Order(cells, subjects, seed=seed))
    assert sum(len(field.kinds) for field in fields) == cells
    assert {field.subject for field in fields} == set(range(subjects))
    assert sorted(field.number for field in fields) == list(range(1, len(fields) + 1))
    for field in fields:
        assert ("lymphoblast" in field.kinds) == field.ill
    zooms, health = defaultdict(set), defaultdict(set)
    for field in fields:
        zooms[field.subject].add(field.magnification)
        health[field.subject].add(field.ill)
    assert {len(found) for found in (*zooms.values(), *health.values())} == {1}


@settings(max_examples=40, deadline=None)
@given(st.integers(9, 400), st.integers(6, 60), st.integers(0, 5))
def test_planned_cnmc_folds_are_disjoint_and_complete(cells: int, subjects: int, seed: int) -> None:
    if 3 * subjects > 2 * cells:
        return
    planned = single._plan_cnmc(Order(cells, subjects, seed=seed))
    assert len({cell.file for cell in planned}) == cells
    assert {cell.subject for cell in planned} == set(range(subjects))
    folds = defaultdict(set)
    for cell in planned:
        folds[cell.subject].add(cell.file.partition("/")[0])
    assert {len(found) for found in folds.values()} == {1}
    places = {cell.file.rpartition("/")[0] for cell in planned}
    assert places == {f"fold_{k}/{name}" for k in range(3) for name in ("all", "hem")}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=9), st.integers(0, 2000))
def test_shares_sum_up_and_stray_by_less_than_one(parts: list[float], total: int) -> None:
    counts = shares(parts, total)
    assert sum(counts) == total
    for count, part in zip(counts, parts, strict=True):
        assert abs(count - part * total / sum(parts)) < 1 + 1e-9


@pytest.mark.parametrize(
    ("name", "order", "message"),
    [
        ("cnmc", Order(40, 5, 64), "subjects = 5"),
        ("pbc", Order(15, 2, 64), "cells = 15"),
        ("all-idb1", Order(8, 4, 31), "size = 31"),
        ("adp", Order(8, 6, 64), "too few for 6 subjects"),
        ("all-idb", Order(), "unknown layout 'all-idb'"),
    ],
)
def test_orders_that_cannot_be_drawn(tmp_path: Path, name: str, order: Order, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        draw_layout(name, tmp_path / "set", order)
    assert caught.value.mend
    assert not any(tmp_path.iterdir())


def test_too_many_cells_for_a_field_is_an_error() -> None:
    from cellkin.drawing.canvas import Canvas
    from cellkin.drawing.drawn import subject_style
    from cellkin.drawing.scene import draw_field

    rng = np.random.default_rng(0)
    with pytest.raises(RecipeError, match="no room"):
        draw_field(["monocyte"] * 9, rng, subject_style(rng), Canvas((80, 80), 2.0))


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = draw_layout(
        "all-idb1", tmp_path / "set", Order(8, 4, 32), lambda *step: seen.append(step)
    )
    fields = len(images_of(folder))
    assert seen == [(k, fields) for k in range(1, fields + 1)]
