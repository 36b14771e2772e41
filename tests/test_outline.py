"""The outline of one cell, the cell alone, and cells among the surroundings of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cellkin import datasets
from cellkin.core.errors import ImageError, NoCellError, RecipeError, TrainingError
from cellkin.core.records import Dataset, LabelSet
from cellkin.datasets.parts import splits
from cellkin.drawing.camera import subject_style
from cellkin.drawing.drawn import draw
from cellkin.drawing.scene import WHITE_CELLS, draw_cell
from cellkin.imaging.canonical import WHITE
from cellkin.imaging.decode import decode
from cellkin.imaging.outline import among, cell_mask, is_empty
from cellkin.imaging.preprocess import Preprocessor, packaged_lite0
from cellkin.imaging.stain import nucleus_score
from cellkin.learning.grounds import Grounds
from cellkin.learning.recipes import Recipe
from cellkin.learning.sampling import TrainingData
from cellkin.learning.training import train_encoder
from cellkin.proving.held_out import UNFOUND, held_out
from cellkin.system import DecisionSupport, cross_validate, train
from cellkin.system.runs import TrainOptions

ALONE = replace(packaged_lite0(64), alone=True)


def drawn(kind: str, number: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A drawn cell, and where it lies."""
    style = subject_style(np.random.default_rng([1, number]))
    style = style.in_field(np.random.default_rng([2, number]), 1.0)
    rgb, mask = draw_cell(kind, np.random.default_rng([3, number]), style, size)[:2]
    return rgb, mask > 0


def overlap(a: np.ndarray | None, b: np.ndarray) -> float:
    return 0.0 if a is None else float((a & b).sum() / (a | b).sum())


# the outline ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WHITE_CELLS)
def test_the_outline_is_that_of_the_cell(kind: str) -> None:
    found = [overlap(cell_mask(rgb), true) for rgb, true in (drawn(kind, n) for n in range(6))]
    assert np.mean(found) > 0.85
    assert min(found) > 0.5


@pytest.mark.parametrize("kind", ["lymphoblast", "monocyte"])
def test_neither_light_nor_turn_nor_size_moves_it(kind: str) -> None:
    for number in range(3):
        rgb, _ = drawn(kind, number, size=128)
        mask = cell_mask(rgb)
        assert mask is not None
        assert np.array_equal(mask, cell_mask(rgb))
        darker = (rgb * np.array([0.5, 0.7, 0.6])).astype(np.uint8)
        assert overlap(cell_mask(darker), mask) > 0.9
        assert overlap(cell_mask(np.rot90(rgb).copy()), np.rot90(mask)) > 0.9
        larger = np.kron(mask, np.ones((2, 2), bool))
        assert overlap(cell_mask(np.kron(rgb, np.ones((2, 2, 1), np.uint8))), larger) > 0.9


def test_where_there_is_no_cell_none_is_found() -> None:
    nothing = [drawn("nothing", n)[0] for n in range(8)]
    even = [np.full((s, s, 3), v, np.uint8) for s, v in ((16, 230), (64, 0), (64, 255), (17, 90))]
    noise = [np.random.default_rng(0).integers(200, 240, (s, s, 3), np.uint8) for s in (16, 64)]
    for picture in (*nothing, *even, *noise):
        assert cell_mask(picture) is None
        with pytest.raises(NoCellError, match="no cell") as refused:
            ALONE.prepare(picture, where="some.png")
        assert refused.value.where == "some.png"


def test_a_cell_that_was_cut_out_keeps_its_edge() -> None:
    rgb, mask = drawn("lymphoblast", 1)
    cut = np.where(mask[..., None], rgb, 0).astype(np.uint8)
    found = cell_mask(cut)
    assert overlap(found, mask) > 0.8
    assert not (np.asarray(found) & ~mask).any()
    shown = replace(ALONE, size=96).prepare(cut)
    assert shown[~mask].min() > 100  # no black rim
    assert (shown[0] == WHITE).all()


# alone ------------------------------------------------------------------------------------------


def test_a_cell_alone_has_neither_rim_nor_light_of_its_ground() -> None:
    """One cell, photographed in two lights, is one picture alone."""
    for number in range(4):
        rgb, _ = drawn("monocyte", number)
        yellow = (rgb * np.array([0.95, 0.9, 0.6])).astype(np.uint8)
        a, b = (replace(ALONE, size=96).prepare(one).astype(int) for one in (rgb, yellow))
        assert np.abs(a - b).mean() < 2
        assert np.abs(rgb.astype(int) - yellow).mean() > 15


@pytest.mark.parametrize("view", ["white", "density"])
def test_a_cell_alone_is_the_same_cell_on_neutral_ground(view: str) -> None:
    rgb, mask = drawn("lymphocyte", 2)
    plain = replace(packaged_lite0(96), view=view)
    before, after = plain.prepare(rgb), replace(plain, alone=True).prepare(rgb)
    found = cell_mask(rgb)
    assert found is not None
    away = np.hypot(*(np.argwhere(~found)[:, None] - np.argwhere(found)).transpose(2, 0, 1)).min(1)
    assert (after[~found][away > 4] == WHITE).all()
    assert np.abs(after[found].astype(int) - before[found]).mean() < 6
    assert overlap(cell_mask(after), mask) > 0.85


def test_alone_is_part_of_the_space_and_old_spaces_keep_their_names() -> None:
    plain = packaged_lite0(64)
    assert "alone" not in plain.identity()
    assert ALONE.identity() == {**plain.identity(), "alone": True}
    assert Preprocessor.from_json(ALONE.identity()) == ALONE
    with pytest.raises(RecipeError, match="alone"):
        replace(plain, alone="yes")
    with pytest.raises(RecipeError, match="swap_grounds"):
        Recipe(alone=True, swap_grounds=0.5)


@pytest.fixture(scope="module")
def some_empty(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 drawn cells, two of which are not in their pictures."""
    folder = draw(
        tmp_path_factory.mktemp("drawn") / "cells", cells=66, subjects=10, size=64, seed=3
    )
    data = datasets.open(folder)
    labels = data.labels.only([name for name in data.labels.names if name != "nothing"])
    cells = [s for s in data.samples if s.label in labels.names]
    kept = tuple(s for s in cells if cell_mask(decode(s.image)) is not None)[:40]
    for sample in kept[::25]:
        Image.fromarray(np.full((64, 64, 3), (235, 230, 220), np.uint8)).save(sample.image.path)
    return replace(data, samples=kept, labels=labels)


RECIPE = Recipe(backbone="test_resnet", size=32, epochs=1, batch=16, precision="fp32", alone=True)


def test_cells_that_are_not_found_are_left_out_and_told(
    some_empty: Dataset, tmp_path: Path
) -> None:
    empty = {s.id for s in some_empty.samples[::25]}
    dss = DecisionSupport.open(train(some_empty, RECIPE, out=tmp_path / "atlas"))
    note = dss.facts()["split"]["note"]
    assert "in 2 of 40 pictures no cell is found: they are left out" in note
    assert empty.isdisjoint(dss.atlas.cells.ids)
    with pytest.raises(NoCellError):
        dss.decide(some_empty.samples[0].image.path)
    assert dss.decide(some_empty.samples[1].image.path).label in some_empty.labels.names
    named = [replace(s, id=f"new/{s.id}", subject="new") for s in some_empty.samples]
    left = held_out(dss.atlas, replace(some_empty, samples=tuple(named))).left_out
    assert left[UNFOUND] == len(empty) == 2


def test_folds_with_cells_left_out_are_resumed(some_empty: Dataset, tmp_path: Path) -> None:
    parts = splits.folds(some_empty, n=3, seed=0)
    made = cross_validate(some_empty, RECIPE, out=tmp_path, parts=parts)
    assert made["n"] == 38
    again = TrainOptions(resume=True)
    assert cross_validate(some_empty, RECIPE, out=tmp_path, parts=parts, options=again) == made


def test_pictures_of_no_cells_are_refused(some_empty: Dataset, tmp_path: Path) -> None:
    for sample in some_empty.samples[:10]:
        Image.fromarray(np.full((64, 64, 3), (235, 230, 220), np.uint8)).save(sample.image.path)
    with pytest.raises(ImageError, match="in 11 of 40 pictures"):
        train(some_empty, RECIPE, out=tmp_path / "atlas")


def test_a_class_without_cells_has_none_to_be_shown_alone(tmp_path: Path) -> None:
    data = datasets.open(draw(tmp_path / "cells", cells=60, subjects=10, size=64, seed=3))
    with pytest.raises(RecipeError, match="alone") as refused:
        train(data, RECIPE, out=tmp_path / "atlas")
    assert "nothing" in refused.value.where


# among the surroundings of others ---------------------------------------------------------------


def test_no_rim_and_no_light_of_its_own_ground_comes_along() -> None:
    """One cell, photographed in two lights, is one picture among what lies around another."""
    rgb, mask = drawn("neutrophil", 6)
    other, mask_other = drawn("lymphoblast", 3)
    yellow = (rgb * np.array([0.95, 0.9, 0.6])).astype(np.uint8)
    a, b = (among(one, mask, other, mask_other).astype(int) for one in (rgb, yellow))
    assert np.abs(a - b).mean() < 2
    assert np.abs(rgb.astype(int) - yellow).mean() > 15


def test_what_lies_around_is_the_other_picture_without_its_cell() -> None:
    small, mask_small = drawn("lymphocyte", 1)
    other, mask_other = drawn("monocyte", 0)
    found = among(small, mask_small, other, mask_other)
    far = ~np.asarray(cell_mask(other)) & ~mask_small & ~mask_other
    assert np.median(np.abs(found[far].astype(int) - other[far])) <= 1
    ring = mask_other & ~mask_small
    assert nucleus_score(np.where(ring[..., None], found, 240).astype(np.uint8)) < 0.5
    cell = np.asarray(cell_mask(found))
    assert overlap(cell, mask_small) > 0.8


def test_a_cell_that_was_cut_out_stands_in_white_light() -> None:
    rgb, mask = drawn("lymphoblast", 1)
    cut = np.where(mask[..., None], rgb, 0).astype(np.uint8)
    other, mask_other = drawn("lymphocyte", 1)
    found = among(cut, mask, other, mask_other)
    assert found[~mask].min() > 40
    back = among(other, mask_other, cut, mask)
    assert (back[0] == 0).all()


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    kinds = ("lymphoblast", "lymphocyte", "nothing", "neutrophil", "monocyte", "basophil")
    return np.stack([drawn(kind, n, size=64)[0] for n, kind in enumerate(kinds)])


def test_a_share_of_the_cells_stands_among_others(cells: np.ndarray) -> None:
    train_rows, batch = np.arange(6), np.array([4, 2, 0, 5])
    grounds = Grounds(cells, train_rows, 1.0)
    assert grounds.without == 1

    def pictures(share: float, part: slice) -> np.ndarray:
        generator = torch.Generator().manual_seed(1)
        return Grounds(cells, train_rows, share).pictures(batch, part, generator)

    whole = pictures(1.0, slice(None))
    assert np.array_equal(whole, pictures(1.0, slice(None)))
    assert np.array_equal(whole[1:3], pictures(1.0, slice(1, 3)))
    changed = [not np.array_equal(a, b) for a, b in zip(whole, cells[batch], strict=True)]
    assert changed == [True, False, True, True]  # nothing keeps its own surroundings
    assert np.array_equal(pictures(0.0, slice(None)), cells[batch])


def test_a_training_that_was_stopped_goes_on_alike(cells: np.ndarray, tmp_path: Path) -> None:
    rows = np.arange(len(cells))
    labels = LabelSet(("a", "b"), dict.fromkeys("ab", "other cell"))
    names = tuple(f"cell {i}" for i in rows)
    data = TrainingData(cells, names, rows % 2, rows, rows[:4], labels)
    recipe = replace(RECIPE, size=64, epochs=3, batch=3, k=1, alone=False, swap_grounds=0.7)

    def stop(task: str, done: int, total: int) -> None:
        if task.startswith("training, epoch 3"):
            raise KeyboardInterrupt

    whole = train_encoder(data, recipe, seed=0, run=tmp_path / "whole").encoder
    with pytest.raises(KeyboardInterrupt):
        train_encoder(data, recipe, seed=0, run=tmp_path / "stopped", progress=stop)
    gone_on = train_encoder(data, recipe, seed=0, run=tmp_path / "stopped").encoder
    assert gone_on.weights_sha256 == whole.weights_sha256


def test_without_a_share_nothing_is_drawn(cells: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    Grounds(cells, np.arange(6), 0.0).pictures(np.arange(4), slice(None), generator)
    assert torch.equal(generator.get_state(), before)


def test_pictures_without_outlines_are_refused() -> None:
    even = np.full((6, 32, 32, 3), 200, np.uint8)
    with pytest.raises(TrainingError, match="6 of 6") as refused:
        Grounds(even, np.arange(6), 0.5)
    assert "swap_grounds = 0" in refused.value.mend


# real cells -------------------------------------------------------------------------------------


def test_real_cells_of_four_laboratories_are_found(real_data: Path) -> None:
    """Outlines lie in the middle, hold the nucleus, and do not reach the edge of the picture."""
    folders = [*(real_data / "pbc").iterdir(), *(real_data / "chula" / "cells").iterdir()]
    for folder in sorted(f for f in folders if f.is_dir()):
        for path in sorted(folder.iterdir())[:2]:
            rgb = ALONE.prepare(decode(path))
            assert not is_empty(rgb), path
            assert 0.003 < (rgb < WHITE - 20).any(axis=2).mean() < 0.6, path
