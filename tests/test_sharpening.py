"""Adaptive unsharpening: nearer to the unblurred image, never beyond it, and one image path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

from cellkin import report
from cellkin.cli.main import app
from cellkin.core.arrays import Bytes
from cellkin.core.errors import RecipeError
from cellkin.core.records import Dataset
from cellkin.drawing.drawn import draw_cell, subject_style
from cellkin.imaging.decode import decode
from cellkin.imaging.focus import blur_width, focus_score
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.sharpening import IN_FOCUS, MAX_AMOUNT, unsharp_amount, unsharpen
from cellkin.learning.recipes import Recipe, load_recipe, recipe_names
from cellkin.system import DecisionSupport, train

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def drawn(kind: str, seed: int, size: int = 192) -> Bytes:
    rng = np.random.default_rng(seed)
    return draw_cell(kind, rng, subject_style(rng), size)[0]


def blurred(rgb: Bytes, sigma: float) -> Bytes:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma))


def likeness(a: Bytes, b: Bytes) -> tuple[float, float]:
    return (
        float(peak_signal_noise_ratio(a, b, data_range=255)),
        float(structural_similarity(a, b, channel_axis=2, data_range=255)),
    )


@pytest.mark.parametrize("kind", ["lymphocyte", "lymphoblast", "neutrophil", "nothing"])
@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_a_blurred_image_comes_nearer_to_the_original(kind: str, sigma: float) -> None:
    image = drawn(kind, 3)
    soft = blurred(image, sigma)
    before, after = likeness(image, soft), likeness(image, unsharpen(soft))
    assert after[0] > before[0] + 0.2  # decibels
    assert after[1] > before[1] + 0.001
    assert focus_score(unsharpen(soft)) > focus_score(soft)


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_noise_does_not_cost_what_sharpening_gains(sigma: float, rng: np.random.Generator) -> None:
    for seed in range(3):
        image = drawn("lymphoblast", seed)
        noisy = blurred(image, sigma) + rng.normal(0, 3, image.shape)
        soft = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        assert likeness(image, unsharpen(soft))[0] > likeness(image, soft)[0] - 0.1


def test_an_image_in_focus_and_one_without_edges_stay_as_they_are() -> None:
    image = drawn("lymphocyte", 1)
    assert blur_width(image) < IN_FOCUS
    flat = np.full((64, 64, 3), (200, 180, 190), np.uint8)
    for same in (image, flat, np.zeros_like(flat)):
        sharpened = unsharpen(same)
        assert np.array_equal(sharpened, same)
        assert sharpened is not same


@given(st.floats(0, 8), st.floats(0, 8))
def test_the_amount_grows_with_the_blur_up_to_a_cap(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= unsharp_amount(low) <= unsharp_amount(high) <= MAX_AMOUNT
    assert unsharp_amount(min(low, IN_FOCUS)) == 0 == unsharp_amount(None)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(1.2, 4))
def test_no_pixel_leaves_the_range_of_its_neighbours(seed: int, sigma: float) -> None:
    """No halo: checked pixel by pixel against plain loops."""
    rng = np.random.default_rng(seed)
    image = blurred(
        rng.integers(0, 256, (24, 26, 3)).repeat(2, 0).repeat(2, 1).astype(np.uint8), sigma
    )
    sharp = unsharpen(image)
    for y in range(0, image.shape[0], 3):
        for x in range(0, image.shape[1], 3):
            around = image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3)
            assert (around.min(0) <= sharp[y, x]).all()
            assert (sharp[y, x] <= around.max(0)).all()


def test_black_ground_and_the_outline_of_a_cut_out_cell_stay(real_data: Path) -> None:
    sharpened = 0
    for file in sorted((real_data / "cnmc2019" / "all").glob("*"))[::40]:
        image = Preprocessor(**PLAIN).prepare(decode(file))
        sharp = unsharpen(image)
        ground = (image.max(axis=2) <= 4).astype(np.uint8)
        beside = cv2.dilate(ground, np.ones((9, 9), np.uint8)).astype(bool)
        assert np.array_equal(sharp[beside], image[beside])
        sharpened += int(not np.array_equal(sharp, image))
    assert sharpened >= 2


def test_real_cells_get_a_better_score_where_they_were_soft(real_data: Path) -> None:
    soft = 0
    for file in sorted((real_data / "pbc" / "lymphocyte").glob("*"))[::30]:
        image = blurred(Preprocessor(**PLAIN).prepare(decode(file)), 1.5)
        assert focus_score(unsharpen(image)) > focus_score(image)
        soft += 1
    assert soft


# --- the preprocessor ------------------------------------------------------------------------


def test_preparing_resizes_and_then_sharpens() -> None:
    image = blurred(drawn("neutrophil", 2, 256), 3)
    plain, sharp = Preprocessor(size=96, **PLAIN), Preprocessor(size=96, unsharpen=True, **PLAIN)
    assert np.array_equal(sharp.prepare(image), unsharpen(plain.prepare(image)))
    assert not np.array_equal(sharp.prepare(image), plain.prepare(image))


def test_sharpening_is_part_of_the_identity_and_old_identities_stay() -> None:
    plain, sharp = Preprocessor(size=32, **PLAIN), Preprocessor(size=32, unsharpen=True, **PLAIN)
    assert set(plain.identity()) == {"crop", "interpolation", "mean", "size", "std"}
    assert sharp.identity() == {**plain.identity(), "unsharpen": True}
    for preprocessor in (plain, sharp):
        saved = json.loads(json.dumps(preprocessor.identity()))
        assert Preprocessor.from_json(saved) == preprocessor
    with pytest.raises(RecipeError, match="unsharpen"):
        Preprocessor.from_json({**plain.identity(), "unsharpen": "yes"})
    with pytest.raises(RecipeError, match="size"):
        Preprocessor(size=8, unsharpen=True, **PLAIN)


def test_the_recipes_of_section_5_1_sharpen_and_no_others() -> None:
    on = {name for name in recipe_names() if load_recipe(name, init="x.pth").unsharpen}
    assert on == {"paper-allidb2", "paper-cnmc"}


def test_what_the_network_sees_is_what_the_atlas_keeps_and_the_page_says(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = small_recipe.with_changes(unsharpen=True, epochs=1)
    atlas = train(smears, recipe, out=tmp_path / "atlas")
    dss = DecisionSupport.open(atlas)
    assert dss.atlas.encoder.preprocessor.unsharpen
    file = {sample.id: sample.image for sample in smears.samples}[dss.atlas.cells.ids[0]]
    plain = Preprocessor(size=recipe.size, **PLAIN).prepare(decode(file))
    look = dss.look(str(file.path))
    assert np.array_equal(dss.atlas.image(0), unsharpen(plain))
    assert np.array_equal(look.image, dss.atlas.image(0))
    page = report.save(dss.explain(look), tmp_path / "page.html").read_text()
    assert "adaptive unsharpening" in page
    assert "adaptive unsharpening" in CliRunner().invoke(app, ["inspect", str(atlas)]).stdout


def test_the_verb_focus_draws_and_tells_every_score(smears: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "focus.png"
    done = CliRunner().invoke(app, ["focus", str(smears.root), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    first = smears.samples[0]
    prepared = Preprocessor(**PLAIN).prepare(decode(first.image))
    assert told[first.id] == pytest.approx(focus_score(prepared), abs=1e-6)
    assert set(told) == {sample.id for sample in smears.samples}
    assert decode(out).shape[1] > 1000
