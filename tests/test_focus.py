"""The focus of an image: known blurs come back, and nothing artificial looks sharp."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.drawing.drawn import draw_cell, subject_style
from cellkin.imaging.decode import decode
from cellkin.imaging.focus import MAX_WIDTH, blur_width, focus_score

KINDS = ("lymphocyte", "lymphoblast", "neutrophil", "nothing")


def drawn(kind: str, seed: int, size: int = 192) -> Bytes:
    rng = np.random.default_rng(seed)
    return draw_cell(kind, rng, subject_style(rng), size)[0]


def blurred(rgb: Bytes, sigma: float) -> Bytes:
    """Blur inside a cell that was cut out on black, as if it had been blurred before the cut."""
    inside = (rgb.max(2, keepdims=True) > 0).astype(np.float32)
    total = cv2.GaussianBlur(rgb * inside, (0, 0), sigma)
    weight = cv2.GaussianBlur(inside[..., 0], (0, 0), sigma)[..., None]
    return np.rint(inside * total / np.maximum(weight, 1e-6)).clip(0, 255).astype(np.uint8)


def added(rgb: Bytes, sigma: float) -> float:
    """The blur that was added, as the measure tells it."""
    return float(np.sqrt(max(blur_width(blurred(rgb, sigma)) ** 2 - blur_width(rgb) ** 2, 0)))


@pytest.mark.parametrize("width", [0.7, 1.0, 1.5, 2.5, 4.0])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
def test_the_width_of_an_ideal_edge_comes_back(width: float, angle: float) -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    grey = 128 + 100 * erf(across / (width * np.sqrt(2)))
    image = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    assert blur_width(image) == pytest.approx(width, rel=0.07, abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_known_blur_of_drawn_cells_is_told_within_15_percent(kind: str) -> None:
    image = drawn(kind, 4)
    widths = [blur_width(image), *(blur_width(blurred(image, s)) for s in (0.5, 1, 2, 3))]
    assert widths == sorted(widths)
    for sigma in (1.0, 2.0, 3.0):
        assert added(image, sigma) == pytest.approx(sigma, rel=0.15)


def real_images(folder: Path, pattern: str, count: int) -> list[Bytes]:
    files = sorted(folder.glob(pattern))
    return [decode(file) for file in files[:: max(1, len(files) // count)][:count]]


@pytest.mark.parametrize("name", ["lymphocyte", "neutrophil", "monocyte"])
def test_known_blur_of_real_cells_with_ground_is_told(real_data: Path, name: str) -> None:
    """Each cell within 30 %, their median within 15 %."""
    images = real_images(real_data, f"pbc/{name}/*", 5)
    for sigma in (1.0, 2.0, 3.0):
        told = np.array([added(image, sigma) for image in images])
        assert np.median(told) == pytest.approx(sigma, rel=0.15)
        assert (np.abs(told / sigma - 1) < 0.3).all()
    for image in images:
        scores = [focus_score(image), *(focus_score(blurred(image, s)) for s in (1, 2, 3))]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["all", "hem"])
def test_known_blur_of_cells_cut_out_on_black_is_told(real_data: Path, name: str) -> None:
    """Only chromatin is left to measure: the median within a quarter, and always in order."""
    images = real_images(real_data, f"cnmc2019/{name}/*", 6)
    for sigma in (2.0, 3.0):
        told = float(np.median([added(image, sigma) for image in images]))
        assert told == pytest.approx(sigma, rel=0.25)
    for image in images:
        scores = [focus_score(image), *(focus_score(blurred(image, s)) for s in (1, 2))]
        assert scores == sorted(scores, reverse=True)


def test_cutting_a_blurred_cell_out_on_black_does_not_make_it_sharp() -> None:
    image = blurred(drawn("lymphoblast", 1), 2.5)
    y, x = np.mgrid[:192, :192] - 95.5
    cut = np.where((np.hypot(x, y) < 80)[..., None], image, 0).astype(np.uint8)
    assert blur_width(cut) > 2.0
    assert blur_width(cut) == pytest.approx(blur_width(image), rel=0.3)
    coded = BytesIO()
    Image.fromarray(cut).save(coded, "JPEG", quality=90)
    assert blur_width(decode(coded.getvalue())) == pytest.approx(blur_width(cut), rel=0.15)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_noise_jpeg_and_brightness_hardly_matter(sigma: float, rng: np.random.Generator) -> None:
    image = drawn("neutrophil", 5)
    image = blurred(image, sigma) if sigma else image
    noisy = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    coded = BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=60)
    for changed in (noisy, decode(coded.getvalue()), (0.7 * image).astype(np.uint8)):
        assert blur_width(changed) == pytest.approx(blur_width(image), rel=0.15)


def test_turned_and_mirrored_images_have_the_same_focus() -> None:
    image = drawn("lymphocyte", 6)
    expected = blur_width(image)
    for k in range(4):
        for turned in (np.rot90(image, k), np.rot90(image[:, ::-1], k)):
            assert blur_width(turned) == pytest.approx(expected, rel=0.02)


def test_where_there_is_no_edge_nothing_is_in_focus(rng: np.random.Generator) -> None:
    flat = np.full((64, 64, 3), (200, 180, 190), np.uint8)
    noise = np.clip(flat + rng.normal(0, 6, flat.shape), 0, 255).astype(np.uint8)
    for image in (flat, noise, np.zeros_like(flat)):
        assert blur_width(image) == MAX_WIDTH
        assert focus_score(image) == pytest.approx(1 / (1 + MAX_WIDTH))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageError, match="no RGB image"):
        blur_width(np.zeros((32, 32), np.uint8))
    with pytest.raises(ImageError, match="no RGB image"):
        focus_score(np.zeros((32, 32, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="too small"):
        blur_width(np.zeros((15, 32, 3), np.uint8))
