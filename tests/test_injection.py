"""Class injection: cell-free windows, and a class split in two imaging groups."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellkin import datasets
from cellkin.cli import main as cli
from cellkin.core import artifacts
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.errors import CellkinError, DataError, LabelError, RecipeError
from cellkin.core.records import Dataset, ImageRef, LabelSet, Sample
from cellkin.datasets.injecting import imaging_groups
from cellkin.datasets.injecting.cell_free import CELL_PER_NUCLEUS, survey, windows_of
from cellkin.datasets.injecting.halving import Halving, explained_by, separation
from cellkin.datasets.injecting.imaging_groups import SIMPLE, Trial, judge, listed, measured, tried
from cellkin.datasets.injecting.injection import add_class, find_windows, halved, open_fields
from cellkin.datasets.injecting.origins import Origins, by_field_size, read_places, reasons
from cellkin.datasets.locating.located import write_table
from cellkin.datasets.locating.locating import Located
from cellkin.drawing import scene
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.drawn import Order, draw_cell, draw_layout, subject_style
from cellkin.learning.recipes import Recipe
from cellkin.system import (
    HalvingOptions,
    InjectOptions,
    inject_nothing,
    propose_halving,
    train,
)

SIDE = 64  # of a cell's image, 30 micrometres across
FIELD = 320
PLANTED = 5
KINDS = ("lymphocyte", "lymphoblast", "neutrophil")


@dataclass(frozen=True)
class Fields:
    """A folder of drawn fields, their exact masks and the centres of their white cells."""

    folder: Path
    masks: dict[str, Bytes]
    centres: dict[str, list[tuple[float, float]]]


def draw_field(seed: int, cells: int = PLANTED) -> tuple[Any, Any, list[tuple[float, float]]]:
    """RGB (FIELD, FIELD, 3), mask of all white cells, and their centres in pixels."""
    rng = np.random.default_rng([5, seed])
    kinds = [KINDS[i % len(KINDS)] for i in range(cells)]
    canvas = Canvas((2 * FIELD, 2 * FIELD), 2 * SIDE / 30)  # twice as fine, as single cells are
    rgb, mask, placed = scene.draw_field(kinds, rng, subject_style(rng), canvas)
    rgb = cv2.resize(rgb, (FIELD, FIELD), interpolation=cv2.INTER_AREA)
    rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.6))
    inside = mask.reshape(FIELD, 2, FIELD, 2).max(axis=(1, 3))
    return rgb, inside, [(cell.x / 2, cell.y / 2) for cell in placed]


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    folder = tmp_path_factory.mktemp("fields")
    masks, centres = {}, {}
    for seed in range(6):
        rgb, mask, places = draw_field(seed)
        name = f"field{seed}.png"
        Image.fromarray(rgb).save(folder / name)
        masks[name], centres[name] = mask, places
    return Fields(folder, masks, centres)


@pytest.fixture(scope="module")
def cells(smears: Dataset) -> Dataset:
    """Drawn cells without the class "nothing"."""
    kept = tuple(s for s in smears.samples if s.label != "nothing")
    names = tuple(n for n in smears.labels.names if n != "nothing")
    return replace(
        smears, samples=kept, labels=LabelSet(names, {n: smears.labels.clinical[n] for n in names})
    )


def without_subjects(data: Dataset) -> Dataset:
    return replace(data, samples=tuple(replace(s, subject=None, group=None) for s in data.samples))


# windows ---------------------------------------------------------------------------------------


def test_no_planted_cell_touches_a_window(cells: Dataset, fields: Fields) -> None:
    opened = open_fields(fields.folder)
    found = find_windows(cells, opened, seed=0, count=12)
    assert len(found.samples) == 12
    assert found.facts["fields"]["nuclei"] >= 6 * PLANTED - 3
    for sample in found.samples:
        left, top, right, bottom = sample.image.box or (0, 0, 0, 0)
        assert (right - left, bottom - top) == (SIDE, SIDE)
        assert 0 <= left < right <= FIELD
        assert 0 <= top < bottom <= FIELD
        assert not fields.masks[sample.image.path.name][top:bottom, left:right].any()


def test_windows_of_a_field_do_not_overlap_and_are_as_sharp_as_cells(
    cells: Dataset, fields: Fields
) -> None:
    found = find_windows(cells, open_fields(fields.folder), seed=1, count=12)
    low, high = found.facts["cells"]["focus"]
    assert low <= found.facts["focus_of_windows"][0] <= found.facts["focus_of_windows"][1] <= high
    boxes = [(s.image.path, s.image.box) for s in found.samples if s.image.box]
    for i, (path, a) in enumerate(boxes):
        for other, b in boxes[:i]:
            apart = abs(a[0] - b[0]) >= SIDE or abs(a[1] - b[1]) >= SIDE
            assert path != other or apart


def test_the_same_seed_gives_the_same_windows(cells: Dataset, fields: Fields) -> None:
    opened = open_fields(fields.folder)
    first, again, other = (
        find_windows(cells, opened, seed=seed, count=8).samples for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_fields_give_windows_in_turn_as_many_as_the_classes(cells: Dataset, fields: Fields) -> None:
    few = replace(cells, samples=cells.samples[::3])
    found = find_windows(few, open_fields(fields.folder), seed=0)
    mean = round(float(np.mean(list(few.counts().values()))))
    assert len(found.samples) == mean
    per_field = [sum(s.group == name for s in found.samples) for name in fields.masks]
    assert max(per_field) - min(per_field) <= 2


@given(x=st.floats(20, 300), y=st.floats(20, 300), radius=st.floats(6, 20), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_known_centroids_are_kept_clear_though_no_nucleus_is_seen(
    x: float, y: float, radius: float, seed: int
) -> None:
    rgb = np.full((FIELD, FIELD, 3), 235, np.uint8)
    seen = survey(rgb, [(x, y)], radius)
    rows, columns = np.mgrid[:FIELD, :FIELD]
    away = np.hypot(columns - x, rows - y)
    assert seen.unseen == 1
    assert not seen.measured
    assert seen.cell_radius == pytest.approx(CELL_PER_NUCLEUS * radius)
    assert np.array_equal(seen.free, away > seen.cell_radius)
    rng = np.random.default_rng(seed)
    for window in windows_of(rgb, seen.free, side=SIDE, focus=(0.0, 1.0), rng=rng):
        left, top, right, bottom = window.box
        assert seen.free[top:bottom, left:right].all()


def test_the_cell_radius_is_measured_at_the_centroids(fields: Fields) -> None:
    name = "field0.png"
    rgb = np.array(Image.open(fields.folder / name))
    seen = survey(rgb, fields.centres[name], 4.0)
    areas = [(fields.masks[name] == 2).sum() / PLANTED]
    assert seen.measured
    assert seen.unseen == 0
    assert seen.nucleus_radius == pytest.approx(np.sqrt(areas[0] / np.pi), rel=0.45)
    assert seen.cell_radius > seen.nucleus_radius


def test_a_stain_that_shows_no_nucleus_is_refused(fields: Fields, tmp_path: Path) -> None:
    for i in range(4):
        grey = np.full((SIDE, SIDE, 3), (200, 195, 190), np.uint8)
        grey[20:40, 20:40] = 90, 88, 92
        Image.fromarray(grey).save(tmp_path / f"{i}.png")
    samples = tuple(
        Sample(f"{i}.png", ImageRef(tmp_path / f"{i}.png"), (("a",),)) for i in range(4)
    )
    data = Dataset("grey", samples, LabelSet(("a",), {"a": "other cell"}), root=tmp_path)
    with pytest.raises(DataError, match="no nucleus is found"):
        find_windows(data, open_fields(fields.folder), seed=0, count=2)


def test_too_few_windows_are_counted(cells: Dataset, fields: Fields) -> None:
    with pytest.raises(DataError, match=r"only \d+ windows .* 5000 were asked for") as caught:
        find_windows(cells, open_fields(fields.folder), seed=0, count=5000)
    most = int(caught.value.what.split()[1])
    assert f"--count {most}" in caught.value.mend
    assert len(find_windows(cells, open_fields(fields.folder), seed=0, count=most).samples) == most
    with pytest.raises(DataError, match="only 0 windows"):
        find_windows(cells, open_fields(fields.folder), seed=0, count=1, side=FIELD + 1)
    with pytest.raises(DataError, match="0 windows"):
        find_windows(cells, open_fields(fields.folder), seed=0, count=0)


def test_broken_centroids_are_refused(cells: Dataset, fields: Fields) -> None:
    opened = open_fields(fields.folder)
    spoilt = replace(opened.samples[0], annotations={"blasts": [[1, 2, 3]]})
    with pytest.raises(DataError, match="no list of x and y"):
        find_windows(cells, replace(opened, samples=(spoilt,)), seed=0, count=1)


def test_a_class_of_that_name_is_not_added_twice(smears: Dataset, fields: Fields) -> None:
    found = find_windows(smears, open_fields(fields.folder), seed=0, count=3)
    with pytest.raises(LabelError, match="'nothing' already"):
        add_class(smears, found)


def test_subjects_of_fields_are_kept_and_lacking_ones_stand_for_themselves(
    cells: Dataset, fields: Fields
) -> None:
    opened = open_fields(fields.folder)
    named = replace(opened, samples=tuple(replace(s, subject="P1") for s in opened.samples))
    kept = add_class(cells, find_windows(cells, named, seed=0, count=6))
    assert {s.subject for s in kept.samples[-6:]} == {"P1"}
    alone = add_class(cells, find_windows(cells, opened, seed=0, count=6))
    windows = alone.samples[-6:]
    assert all(s.subject == f"field {s.group}" for s in windows)
    assert any("stand as subjects" in note for note in alone.notes)
    assert datasets.split_unit(alone) == "subject"


def test_cells_without_subjects_are_split_with_each_field_on_one_side(
    cells: Dataset, fields: Fields
) -> None:
    data = without_subjects(cells)
    injected = add_class(data, find_windows(data, open_fields(fields.folder), seed=0, count=18))
    assert injected.labels.clinical["nothing"] == "no cell"
    split = datasets.single(injected, seed=0)
    group = {s.id: s.group for s in injected.samples}
    places: dict[str | None, set[str]] = {}
    for part, ids in split.parts().items():
        for i in ids:
            places.setdefault(group[i], set()).add(part)
    assert all(len(parts) == 1 for parts in places.values())


def test_layouts_that_are_known_are_read_and_folders_are_listed(
    fields: Fields, smears: Dataset, tmp_path: Path
) -> None:
    assert len(open_fields(fields.folder)) == 6
    assert open_fields(smears.root).samples[0].subject is not None  # its labels.csv is read
    with pytest.raises(DataError, match="no such folder"):
        open_fields(tmp_path / "none")


def test_windows_are_cut_from_the_layout_of_all_idb1(
    cells: Dataset, fields: Fields, tmp_path: Path
) -> None:
    (tmp_path / "im").mkdir()
    (tmp_path / "xyc").mkdir()
    for i, (name, places) in enumerate(fields.centres.items(), start=1):
        stem = f"Im{i:03d}_{int(i < 6)}"  # the last is healthy: it carries no positions
        Image.open(fields.folder / name).save(tmp_path / "im" / f"{stem}.jpg", quality=95)
        lines = [f"{x:.0f}\t{y:.0f}" for x, y in places if i < 6]
        (tmp_path / "xyc" / f"{stem}.xyc").write_text("\n".join(lines))
    opened = open_fields(tmp_path)
    known = [len(s.annotations.get("blasts", ())) for s in opened.samples]
    assert known == [PLANTED] * 5 + [0]
    found = find_windows(cells, opened, seed=0, count=4)
    masks = list(fields.masks.values())
    for sample in found.samples:
        left, top, right, bottom = sample.image.box or (0, 0, 0, 0)
        mask = masks[int(sample.image.path.stem[2:5]) - 1]
        assert not mask[top:bottom, left:right].any()
    assert any(".jpg files, the cells from .png" in note for note in found.notes)


def test_an_injected_data_set_is_trained_on(
    cells: Dataset, fields: Fields, tmp_path: Path, small_recipe: Recipe
) -> None:
    done = inject_nothing(
        cells,
        fields.folder,
        out=tmp_path / "injected.json",
        seed=0,
        options=InjectOptions(count=15),
    )
    with Image.open(done.sheet) as sheet:
        assert sheet.width > 500
    again = datasets.open(done.path)
    assert again.counts()["nothing"] == 15
    assert json.loads(done.path.read_text())["made_by"]["window"] == SIDE
    atlas = train(again, replace(small_recipe, epochs=1), seed=0, out=tmp_path / "atlas")
    assert "nothing" in json.loads((atlas / "facts.json").read_text())["labels"]["names"]
    with pytest.raises(CellkinError, match="something here already"):
        inject_nothing(cells, fields.folder, out=done.path)


# two halves ------------------------------------------------------------------------------------


def clouds(apart: float, n: int = 120, width: int = 24, seed: int = 0) -> tuple[Floats, Any]:
    """Two Gaussian clouds whose means lie `apart` standard deviations apart, and whose is whose."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 5 < 2
    points = rng.standard_normal((n, width)) * np.linspace(1.5, 0.3, width)
    points[:, 1] += truth * apart * np.linspace(1.5, 0.3, width)[1]
    return points, truth


def agreement(halves: Any, truth: Any) -> float:
    same = float((np.asarray(halves, bool) == np.asarray(truth, bool)).mean())
    return max(same, 1 - same)


def test_two_clouds_are_found_and_new_cells_assigned() -> None:
    points, truth = clouds(6.0, n=240)
    split = Halving.fit(points[:160], seed=0, bootstraps=99)
    assert split.evidence.two_modes
    assert split.evidence.faults == ()
    assert split.evidence.cells[0] >= split.evidence.cells[1]
    assert agreement(split.assign(points[160:]), truth[160:]) > 0.98
    assert (split.assign(points[:160]) == 0).sum() == split.evidence.cells[0]


ONE_MODE: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "Gaussian": lambda rng, shape: rng.standard_normal(shape),
    "flat": lambda rng, shape: rng.uniform(-1, 1, shape),
    "skewed": lambda rng, shape: rng.exponential(1, shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(4, shape),
}


@pytest.mark.parametrize("name", ONE_MODE)
@pytest.mark.parametrize("seed", range(2))
def test_one_mode_of_any_shape_is_refused(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = ONE_MODE[name](rng, (100, 6)) * np.linspace(2, 0.2, 6)
    evidence = Halving.fit(points, seed=seed, bootstraps=99).evidence
    assert not evidence.two_modes
    assert evidence.faults


def test_under_one_gaussian_the_bootstrap_is_about_uniform() -> None:
    p_values = []
    for seed in range(10):
        points = np.random.default_rng([9, seed]).standard_normal((30, 2))
        p_values.append(Halving.fit(points, seed=seed, bootstraps=19).evidence.p_value)
    assert 0.2 < np.mean(p_values) < 0.8
    assert max(p_values) > 0.5
    assert np.mean([p <= 0.05 for p in p_values]) <= 0.2


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(max_examples=8, deadline=None)
def test_turning_moving_and_scaling_the_space_changes_nothing(
    seed: int, scale: float, shift: float
) -> None:
    points, _ = clouds(6.0, n=60, width=6)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))
    split = Halving.fit(points, seed=0, bootstraps=1)
    moved = Halving.fit(scale * points @ turn + shift, seed=0, bootstraps=1)
    assert np.array_equal(split.assign(points), moved.assign(scale * points @ turn + shift))
    assert moved.evidence.separation == pytest.approx(split.evidence.separation, rel=1e-4)


def test_splits_are_deterministic_and_refuse_what_does_not_fit() -> None:
    points, _ = clouds(6.0, n=60)
    first, again = (Halving.fit(points, seed=4, bootstraps=9) for _ in range(2))
    assert first.evidence == again.evidence
    assert np.array_equal(first.direction, again.direction)
    with pytest.raises(DataError, match="do not fit the halving"):
        first.assign(points[:, :5])
    with pytest.raises(DataError, match="19 cells are too few to look for two modes"):
        Halving.fit(points[:19], seed=0)
    with pytest.raises(DataError, match="not finite"):
        Halving.fit(np.where(points > 3, np.nan, points), seed=0)


def test_equal_vectors_have_one_mode_and_two_values_have_two() -> None:
    constant = Halving.fit(np.ones((30, 1)), seed=0)
    assert not constant.evidence.two_modes
    assert constant.assign(np.ones((30, 1))).sum() == 0
    values = np.where(np.arange(40) < 15, 1.0, 2.0)[:, None]
    two = Halving.fit(values, seed=0, bootstraps=99)
    assert two.evidence.two_modes
    assert np.array_equal(two.assign(values), np.arange(40) < 15)


def test_separation_of_known_shapes() -> None:
    """A flat distribution cut in the middle has 2 sqrt(3), a Gaussian 2.65."""
    flat = np.linspace(0, 1, 100_001)
    assert separation(flat, (flat > 0.5).astype(int)) == pytest.approx(2 * np.sqrt(3), rel=1e-3)
    normal = np.random.default_rng(0).standard_normal(200_000)
    expected = 2 * np.sqrt(2 / np.pi) / np.sqrt(1 - 2 / np.pi)
    assert separation(normal, (normal > 0).astype(int)) == pytest.approx(expected, rel=0.01)


def test_how_far_subjects_explain_the_halves() -> None:
    halves = np.arange(80) % 2
    assert explained_by(halves, halves.astype(str), seed=0).share == pytest.approx(1, abs=0.02)
    rng = np.random.default_rng(0)
    shares = [explained_by(halves, rng.integers(0, 20, 80), seed=0) for _ in range(20)]
    assert abs(np.mean([s.share for s in shares])) < 0.05  # chance is taken off
    assert np.mean([s.p_value < 0.05 for s in shares]) < 0.25


# ten seeds on drawn cells ----------------------------------------------------------------------

BLASTS = 100
PEOPLE = 20
MAGNIFICATIONS = (0.9, 1.5)
"""As 300x and 500x, the range that ALL-IDB2 was taken in."""


@pytest.fixture(scope="module")
def drawn_blasts() -> Callable[[int], Any]:
    """Features (packaged network, 128 pixels), subjects and magnification of drawn lymphoblasts:
    every person has cells of both.
    """
    from cellkin.learning.encoder import Encoder
    from cellkin.learning.weights import initialize

    network, preprocessor = initialize("tf_efficientnet_lite0", 1, "packaged", size=128, seed=0)
    assert preprocessor is not None
    encoder = Encoder(network, preprocessor, ("cell",))

    @cache
    def blasts(seed: int) -> Any:
        images, subjects, truth = [], [], []
        for i in range(BLASTS):
            person, field = i % PEOPLE, i // PEOPLE % 2
            style = subject_style(np.random.default_rng([seed, 1, person]))
            style = style.in_field(
                np.random.default_rng([seed, 2, person, field]), MAGNIFICATIONS[field]
            )
            rng = np.random.default_rng([seed, 3, i])
            images.append(draw_cell("lymphoblast", rng, style, 128)[0])
            subjects.append(f"S{person}")
            truth.append(field)
        vectors = encoder.embed(np.stack(images), [str(i) for i in range(BLASTS)]).vectors
        return vectors, np.array(subjects), np.array(truth)

    return blasts


@pytest.mark.parametrize("seed", range(10))
def test_two_magnifications_are_found(drawn_blasts: Callable[[int], Any], seed: int) -> None:
    vectors, subjects, truth = drawn_blasts(seed)
    trial = tried("features", vectors, subjects, seed=seed)
    verdict = judge({"features": trial})
    assert verdict.halve, verdict.why
    assert agreement(trial.halves, truth) >= 0.98


@pytest.mark.parametrize("seed", range(10))
def test_one_magnification_is_refused(drawn_blasts: Callable[[int], Any], seed: int) -> None:
    vectors, subjects, truth = drawn_blasts(seed)
    one = truth == 0
    verdict = judge({"features": tried("features", vectors[one], subjects[one], seed=seed)})
    assert not verdict.halve
    assert verdict.why


# which way is believed -------------------------------------------------------------------------


def trial_of(points: Any, subjects: list[str], by: str = "features") -> Trial:
    return tried(by, np.asarray(points), subjects, seed=0)


def test_halves_that_are_subjects_are_refused_unless_magnification_explains_them() -> None:
    points, truth = clouds(7.0)
    subjects = [f"S{int(t)}{i % 3}" for i, t in enumerate(truth)]
    features = trial_of(points, subjects)
    refused = judge({"features": features})
    assert not refused.halve
    assert "the halves are the subjects, not the magnification" in refused.why[0]
    assert features.subjects is not None
    assert features.subjects.share == pytest.approx(1, abs=0.05)
    diameters = np.where(truth, 150.0, 100.0) + np.random.default_rng(1).normal(0, 5, len(truth))
    diameter = replace(trial_of(diameters, subjects, "diameter"), like_features=0.99)
    believed = judge({"features": features, "diameter": diameter})
    assert believed.halve
    assert believed.trial.by == "diameter"
    assert believed.trial.medians == pytest.approx((100, 150), abs=3)
    nearly = judge({"features": features, "diameter": replace(diameter, like_features=0.93)})
    assert nearly.halve
    assert nearly.trial.by == "features"
    assert "diameter explains" in nearly.why[0]
    other = judge({"features": features, "diameter": replace(diameter, like_features=0.6)})
    assert not other.halve
    assert any("--by diameter" in why for why in other.why)


def test_a_simple_value_that_is_asked_for_needs_two_modes_of_its_own() -> None:
    rng = np.random.default_rng(0)
    subjects = ["S"] * 60
    one = trial_of(rng.normal(100, 10, 60), subjects, "diameter")
    assert not judge({"diameter": one}, by="diameter").halve
    sizes = np.where(np.arange(60) < 20, 2592 * 1944.0, 1712 * 1368.0)
    two = judge({"field-size": trial_of(sizes, subjects, "field-size")}, by="field-size")
    assert two.halve
    lacking = trial_of(np.where(np.arange(60) < 20, np.nan, 1.0), subjects, "diameter")
    assert "cannot be measured in 20 of 60 cells" in judge({"diameter": lacking}, "diameter").why[0]


def test_simple_values_are_what_they_say(smears: Dataset) -> None:
    samples = [s for s in smears.samples if s.label.startswith("lymphoblast")]
    sizes = measured(samples, "file-size")
    assert sizes.tolist() == [s.image.path.stat().st_size for s in samples]
    assert set(measured(samples, "field-size")) == {64.0 * 64.0}
    boxed = [replace(s, image=ImageRef(s.image.path, box=(0, 0, 32, 32))) for s in samples[:3]]
    assert set(measured(boxed, "field-size")) == {64.0 * 64.0}
    masks = [np.array(Image.open(smears.root / "masks" / s.id)) == 2 for s in samples]
    truth = 2 * np.sqrt(np.array([m.sum() for m in masks]) / np.pi)
    diameters = np.array(measured(samples, "diameter"))
    assert np.isnan(diameters).mean() < 0.2  # no nucleus in the middle: not measured, not guessed
    assert np.nanmedian(np.abs(diameters / truth - 1)) < 0.1
    assert set(SIMPLE) == {"file-size", "field-size", "diameter"}


def write_list(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "half"), *rows])
    return path


def test_a_list_names_the_halves(smears: Dataset, tmp_path: Path) -> None:
    samples = [s for s in smears.samples if s.label.startswith("lymphoblast")]
    rows = [(s.image.path.name, s.label[-2]) for s in samples]
    trial = listed(write_list(tmp_path / "a.csv", rows), samples, seed=0)
    assert trial.halves is not None
    assert trial.halves.tolist() == [int(half) - 1 for _, half in rows]
    assert judge({"a.csv": trial}, by="a.csv").halve
    spoilt: list[tuple[list[tuple[str, str]], str]] = [
        (rows[1:], "1 of 39 cells of the class are not in this list"),
        ([*rows, rows[0]], "is there twice"),
        ([(rows[0][0], "3"), *rows[1:]], "neither 1 nor 2"),
        ([(name, "1") for name, _ in rows], "all cells are in one half"),
    ]
    for bad, message in spoilt:
        with pytest.raises(DataError, match=message.replace("39", str(len(samples)))):
            listed(write_list(tmp_path / "b.csv", bad), samples, seed=0)


def test_a_class_becomes_two_of_the_same_meaning(smears: Dataset) -> None:
    ids = [s.id for s in smears.samples if s.label == "normal"]
    split = halved(smears, "normal", ids[:7])
    assert split.labels.names == (
        "nothing", "normal (1)", "normal (2)", "lymphoblast (1)", "lymphoblast (2)",
    )  # fmt: skip
    assert split.labels.clinical["normal (2)"] == "other cell"
    counts = split.counts()
    assert (counts["normal (1)"], counts["normal (2)"]) == (len(ids) - 7, 7)
    assert {k: v for k, v in counts.items() if "blast" in k} == {
        k: v for k, v in smears.counts().items() if "blast" in k
    }
    with pytest.raises(LabelError, match="no class 'normol'") as caught:
        halved(smears, "normol", [])
    assert "did you mean 'normal'" in caught.value.mend
    with pytest.raises(LabelError, match="already"):
        halved(replace(split, labels=replace_names(split.labels)), "normal", [])


def replace_names(labels: LabelSet) -> LabelSet:
    names = (*labels.names, "normal")
    return LabelSet(names, {**labels.clinical, "normal": "other cell"})


# the whole way ---------------------------------------------------------------------------------


def merged(smears: Dataset) -> Dataset:
    """Both lymphoblast classes as one."""
    samples = tuple(
        replace(s, labels=(("lymphoblast",),)) if s.label.startswith("lymphoblast") else s
        for s in smears.samples
    )
    clinical = {"nothing": "no cell", "normal": "other cell", "lymphoblast": "lymphoblast"}
    return replace(smears, samples=samples, labels=LabelSet(tuple(clinical), clinical))


def test_a_proposal_is_written_and_applied_on_demand(
    smears: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = merged(smears)
    truth = {s.id: s.label for s in smears.samples if s.label.startswith("lymphoblast")}
    rows = [(id_, label[-2]) for id_, label in truth.items()]
    halves = write_list(tmp_path / "halves.csv", rows)
    options = HalvingOptions(size=32, apply=True)
    found = propose_halving(data, "lymphoblast", by=halves, out=tmp_path / "out", options=options)
    assert found.verdict.halve
    assert found.applied is not None
    again = datasets.open(found.applied)
    assert {s.id: s.label for s in again.samples if s.id in truth} == truth
    assert again.labels.clinical["lymphoblast (2)"] == "lymphoblast"
    page = (found.folder / "split.html").read_text()
    assert "lymphoblast: two imaging groups, by halves.csv" in page
    assert "For research use only" in page
    assert "Drawn cells: synthetic" in page
    assert json.loads((found.folder / "split.json").read_text())["split"] is True
    with Image.open(found.folder / "split.png") as figure:
        assert figure.width > 1000
    with pytest.raises(CellkinError, match="something here already"):
        propose_halving(data, "lymphoblast", out=tmp_path / "out")


def test_one_mode_is_refused_and_nothing_is_applied(smears: Dataset, tmp_path: Path) -> None:
    found = propose_halving(
        smears,
        "normal",
        by="field-size",
        out=tmp_path / "out",
        options=HalvingOptions(size=32, apply=True),
    )
    assert not found.verdict.halve
    assert found.applied is None
    assert not (tmp_path / "out" / "injected.json").exists()
    assert "not halved, one mode only" in (found.folder / "split.html").read_text()


@pytest.fixture(scope="module")
def allidb(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path, dict[str, str]]:
    """Drawn crops of ALL-IDB2, the fields of ALL-IDB1 that they were cut from, at two
    magnifications with two sizes, and the true magnification of every crop.
    """
    root = tmp_path_factory.mktemp("allidb")
    order = Order(cells=40, subjects=8, size=80, seed=5)
    for name in ("all-idb1", "all-idb2"):
        draw_layout(name, root / name, order)
    with (root / "all-idb2" / "masks" / "cells.csv").open() as file:
        truth = {row["file"]: row["magnification"] for row in csv.DictReader(file)}
    return datasets.open(root / "all-idb2"), root / "all-idb1" / "im", truth


def test_the_papers_halves_are_the_two_kinds_of_fields(
    allidb: tuple[Dataset, Path, dict[str, str]], tmp_path: Path
) -> None:
    """Fields named, or a table of `locate`: size first, and red cells say the magnification."""
    data, fields, truth = allidb
    options = HalvingOptions(size=32, fields=fields, apply=True)
    found = propose_halving(data, "lymphoblast", out=tmp_path / "fields", options=options)
    sides = {(truth[cell], half) for cell, half in found.halves.items()}
    assert len(sides) == 2, "each half is one magnification, without an exception"
    assert found.verdict.trial.by == "field-size"
    assert any("two magnifications" in why for why in found.verdict.why)
    assert found.applied is not None
    assert "lymphoblast (2)" in datasets.open(found.applied).labels.names

    table = tmp_path / "places.csv"
    write_table(datasets.locate(data.root, fields), table)
    listed = propose_halving(
        data, "lymphoblast", by=table, out=tmp_path / "table", options=HalvingOptions(size=32)
    )
    assert listed.halves == found.halves
    assert any("too few red cells" in why for why in listed.verdict.why)
    with pytest.raises(RecipeError, match="no fields are given"):
        propose_halving(data, "lymphoblast", by="ruler", out=tmp_path / "ruler")


ROW = {
    "crop": "a.png",
    "field": "f.png",
    "state": "found",
    "field_width": "80",
    "field_height": "60",
}
OTHER = ROW | {"crop": "b.png"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (ROW, "a second time"),
        (OTHER | {"field_width": "90"}, "another size"),
        (OTHER | {"field": ""}, "in no field"),
        *((OTHER | {"state": state}, "no state") for state in ("FOUND", "yes", "", " found x")),
        *(
            (OTHER | {"field": "g.png", side: wrong}, "no whole number above zero")
            for wrong in ("0", "-1", "²", "9" * 5000, "80.5", "nan", "", "1e3")
            for side in ("field_width", "field_height")
        ),
    ],
)
def test_a_damaged_table_of_places_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, str], told: str
) -> None:
    path = artifacts.write_table(tmp_path / "places.csv", [tuple(ROW), ROW.values(), row.values()])
    with pytest.raises(DataError, match=f"line 3.*{told}|{told}") as error:
        read_places(path, [])
    assert "line 3" in str(error.value)


def test_a_table_of_places_says_the_size_of_every_field(tmp_path: Path) -> None:
    lost = OTHER | {"field": "none", "state": "none", "field_width": "", "field_height": ""}
    path = artifacts.write_table(tmp_path / "places.csv", [tuple(ROW), ROW.values(), lost.values()])
    assert read_places(path, []).sizes == {"f.png": (80, 60)}


SIZES = {"a": (1712, 1368), "b": (2592, 1944), "c": (800, 600)}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (["a"] * 73 + ["b"] * 57, ""),
        (["a"] * 130, "the fields have 1 sizes, not two"),
        (["a"] * 60 + ["b"] * 40 + ["c"] * 30, "the fields have 3 sizes, not two"),
        (["a"] * 120 + ["b"] * 10, "the smaller half holds 8 % of the cells only"),
        (["a"] * 70 + ["b"] * 50 + [None] * 10, "the field of 10 of 130 cells is not known"),
        (["a"] * 70 + ["b"] * 57 + [None] * 3, ""),
    ],
)
def test_field_sizes_halve_where_they_are_two(fields: list[str | None], told: str) -> None:
    origins = Origins(tuple(fields), SIZES, {"a": 40.0, "b": 60.0})
    trial = by_field_size(origins, [None] * len(fields), seed=0)
    assert trial.unavailable.startswith(told)
    assert bool(trial.faults) == bool(told)
    if not told:
        assert trial.halves is not None
        assert trial.halves.tolist() == [int(f == "b") for f in fields]
        verdict = judge({"field-size": trial}, known={"field-size": reasons(trial, origins)})
        assert verdict.halve
        assert any("40 and 60 pixels in them: two magnifications" in w for w in verdict.why)
        lost = sum(f is None for f in fields)
        assert any("stand with the larger half" in w for w in verdict.why) == bool(lost)


def test_cells_that_were_not_sought_are_named(allidb: tuple[Dataset, Path, dict[str, str]]) -> None:
    data, _, _ = allidb
    nothing = Located((), {}, {})
    with pytest.raises(DataError, match=f"{len(data)} of {len(data)} cells are not among"):
        Origins.of(nothing, data.samples)


def test_mistakes_are_said_before_any_work(smears: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no way to halve by 'diametre'") as caught:
        propose_halving(smears, "normal", by="diametre", out=tmp_path / "out")
    assert "diameter" in caught.value.mend
    with pytest.raises(RecipeError, match="no way to halve"):
        propose_halving(smears, "normal", by=tmp_path / "none.csv", out=tmp_path / "out")
    with pytest.raises(LabelError, match="no class"):
        propose_halving(smears, "blast", out=tmp_path / "out")
    assert imaging_groups.SAME > imaging_groups.ALIKE


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `cellkin inject WORDS` in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["cellkin", "inject", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(str(stopped.value.code))


def test_the_command(
    cells: Dataset,
    fields: Fields,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = datasets.save(cells, tmp_path / "cells.json")
    out = tmp_path / "injected.json"
    windows = ("--nothing-from", fields.folder, "--count", 4, "--out", out, "--json")
    assert command(monkeypatch, data, *windows) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"]["nothing"] == 4
    assert datasets.open(answer["path"]).counts() == answer["counts"]
    assert command(monkeypatch, data, *windows) == 2
    assert "something here already" in capsys.readouterr().err
    assert command(monkeypatch, data) == 2
    assert "told nothing to do" in capsys.readouterr().err
    assert command(monkeypatch, data, "--split", "nothing", "--out", tmp_path / "x") == 2
    assert "there is no class 'nothing'" in capsys.readouterr().err
