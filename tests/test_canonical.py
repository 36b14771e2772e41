"""The canonical view of a picture, and the look of other laboratories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellkin.core.errors import RecipeError
from cellkin.imaging.canonical import STRENGTH, WHITE, canonical, cut_out
from cellkin.imaging.preprocess import Preprocessor, packaged_lite0
from cellkin.learning.augmentation import draw_turns, turn
from cellkin.learning.laboratories import as_elsewhere


def cell(stain: float = 1.0, lamp: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """A round cell in the middle of an empty ground, in a stain of this strength, under a lamp."""
    y, x = np.mgrid[:64, :64] - 31.5
    inside = (np.hypot(x, y) < 14)[..., None]
    density = np.where(inside, np.array([0.9, 1.1, 0.4]) * stain, 0.02)
    return np.clip(235 * np.array(lamp) * np.exp(-density), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("lamp", [(1.0, 1.0, 1.0), (0.9, 0.7, 0.5), (0.4, 0.5, 0.6)])
def test_every_lamp_gives_one_white(lamp: tuple[float, float, float]) -> None:
    seen = canonical(cell(lamp=lamp), "white")
    assert np.abs(seen[0, 0].astype(float) - WHITE).max() <= 1
    assert np.abs(seen.astype(float) - canonical(cell(), "white")).max() <= 4


@pytest.mark.parametrize("stain", [0.5, 0.8, 1.5])
def test_every_stain_gives_one_strength(stain: float) -> None:
    seen = canonical(cell(stain), "density")
    density = -np.log(np.maximum(seen.astype(float), 1) / WHITE).sum(axis=2)
    assert density[32, 32] == pytest.approx(STRENGTH, rel=0.05)
    raw = np.abs(cell(stain).astype(float) - cell()).max()
    assert np.abs(seen.astype(float) - canonical(cell(), "density")).max() < min(raw, 8)


def test_a_cell_on_black_stands_on_white_and_keeps_its_colours() -> None:
    picture = cell()
    ground = picture[0, 0].copy()
    black = (picture == ground).all(axis=2)
    picture[black] = 0
    assert np.array_equal(cut_out(picture), black)
    seen = canonical(picture, "white")
    assert (seen[black] == WHITE).all()
    assert np.array_equal(seen[32, 32], picture[32, 32])
    assert cut_out(cell()) is None


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_nothing_stays_one(value: int) -> None:
    seen = canonical(np.full((32, 32, 3), value, np.uint8), "density")
    assert np.ptp(seen) <= 1


def test_the_view_is_part_of_the_space_and_old_spaces_keep_their_names() -> None:
    plain = packaged_lite0(64)
    assert "view" not in plain.identity()
    seen = replace(plain, view="density")
    assert Preprocessor.from_json(seen.identity()) == seen
    assert np.array_equal(seen.prepare(cell(1.4)), canonical(cell(1.4), "density"))
    with pytest.raises(RecipeError, match="view = 'densty'") as refused:
        replace(plain, view="densty")
    assert "density" in str(refused.value.mend)


def test_elsewhere_is_the_same_for_every_share_of_a_batch() -> None:
    images = torch.from_numpy(np.stack([cell(0.5 + 0.1 * i) for i in range(6)])).permute(0, 3, 1, 2)
    whole = as_elsewhere(images, 1.0, torch.Generator().manual_seed(3))
    for part in (slice(0, 2), slice(2, 6)):
        drawn = torch.Generator().manual_seed(3)
        assert torch.equal(as_elsewhere(images[part], 1.0, drawn, among=(6, part)), whole[part])
    assert not torch.equal(whole, images)
    still = torch.Generator().manual_seed(3)
    assert as_elsewhere(images, 0.0, still) is images
    assert torch.equal(still.get_state(), torch.Generator().manual_seed(3).get_state())


def test_elsewhere_moves_colours_as_far_as_laboratories_do() -> None:
    images = torch.from_numpy(np.stack([cell()] * 64)).permute(0, 3, 1, 2)
    seen = as_elsewhere(images, 1.0, torch.Generator().manual_seed(0)).float()
    spread = seen[:, :, 32, 32].std(0)
    assert (spread > 10).all()
    half = as_elsewhere(images, 0.5, torch.Generator().manual_seed(0)).float()
    assert (half[:, :, 32, 32].std(0) < spread).all()


def test_a_zoom_makes_the_cell_larger_or_smaller() -> None:
    images = torch.from_numpy(np.stack([cell()] * 32)).permute(0, 3, 1, 2)
    turns = draw_turns(32, "none", False, torch.Generator().manual_seed(1), zoom=0.5)
    assert turns.zooms is not None
    dark = (turn(images, turns)[:, 1] < 150).float().mean((1, 2))
    own = (images[:, 1] < 150).float().mean((1, 2))
    # above 1 more is seen, and the cell is smaller: its area goes with the square
    assert torch.allclose(dark / own, turns.zooms**-2, rtol=0.12)
