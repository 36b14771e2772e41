"""Drawn kinds of cells: each has what a haematologist tells it by, measured on its exact mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from skimage.measure import label, regionprops

from cellkin.drawing.drawn import draw_cell, subject_style

CELLS = 16
SIDE = 128
Drawn = tuple[tuple[np.ndarray, np.ndarray], ...]


@cache
def drawn(kind: str) -> Drawn:
    """Cells of one kind by different subjects; cell n of every kind is of the same subject."""
    found = []
    for n in range(CELLS):
        style = subject_style(np.random.default_rng([1, n]))
        style = style.in_field(np.random.default_rng([2, n]), 1.0)
        found.append(draw_cell(kind, np.random.default_rng([3, n]), style, SIDE))
    return tuple(found)


def mean(kind: str, measure: Callable[[np.ndarray, np.ndarray], float]) -> float:
    return float(np.mean([measure(rgb.astype(float), mask) for rgb, mask in drawn(kind)]))


def ratio(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Nuclear share of the cell's area."""
    return (mask == 2).sum() / (mask > 0).sum()


def diameter(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Of a disc of the cell's area, in micrometres."""
    return 2 * np.sqrt((mask > 0).sum() / np.pi) * 30 / SIDE


def solidity(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Share of its convex hull that the nucleus fills."""
    return float(regionprops((mask == 2).astype(int))[0].solidity)


def clumping(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Relative spread of optical density within the nucleus, its margin left out."""
    inner = mask == 2
    for axis in (0, 1):
        for by in (-4, 4):
            inner &= np.roll(mask, by, axis) == 2
    density = -np.log(np.maximum(rgb[..., 1][inner], 1) / 255)
    return float(density.std() / density.mean())


def cytoplasm(channel: Callable[[np.ndarray], np.ndarray]) -> Callable[..., float]:
    return lambda rgb, mask: float(channel(rgb[mask == 1]).mean())


redness = cytoplasm(lambda rgb: rgb[:, 0] - rgb[:, 2])
darkness = cytoplasm(lambda rgb: 255 - rgb[:, 1])


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("lymphoblast", 0.78, 0.9),
        ("precursor", 0.8, 0.92),
        ("lymphocyte", 0.58, 0.76),
        ("monocyte", 0.38, 0.55),
        ("neutrophil", 0.22, 0.48),
        ("eosinophil", 0.22, 0.48),
        ("erythroblast", 0.25, 0.48),
        ("ig", 0.4, 0.62),
    ],
)
def test_nuclear_share(kind: str, low: float, high: float) -> None:
    assert low < mean(kind, ratio) < high


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("lymphocyte", 9, 12),
        ("lymphoblast", 11, 14),
        ("monocyte", 14, 18),
        ("neutrophil", 12, 15),
        ("eosinophil", 12.5, 15.5),
        ("basophil", 11, 14),
        ("erythroblast", 8, 11),
        ("ig", 13, 17.5),
        ("platelet", 2, 5),
    ],
)
def test_diameter_in_micrometres(kind: str, low: float, high: float) -> None:
    assert low < mean(kind, diameter) < high


def test_lobes_and_kidneys_are_hollow_and_lymphoid_nuclei_are_round() -> None:
    for kind in ("lymphocyte", "precursor", "erythroblast", "lymphoblast"):
        assert mean(kind, solidity) > 0.96
    assert mean("lymphoblast", solidity) < mean("lymphocyte", solidity), "irregular outlines"
    assert mean("neutrophil", solidity) < 0.85
    assert mean("eosinophil", solidity) < 0.9
    assert mean("neutrophil", solidity) < mean("monocyte", solidity) < 0.96


def test_chromatin_is_fine_in_blasts_and_clumped_in_lymphocytes() -> None:
    pairs = zip(drawn("lymphoblast"), drawn("lymphocyte"), strict=True)
    finer = [
        clumping(a.astype(float), m) < clumping(b.astype(float), n) for (a, m), (b, n) in pairs
    ]
    assert np.mean(finer) > 0.8
    assert (
        mean("lymphoblast", clumping) < mean("precursor", clumping) < mean("lymphocyte", clumping)
    )


def test_eosinophils_are_orange_and_basophils_dark() -> None:
    assert mean("eosinophil", redness) > 45
    for kind in ("lymphocyte", "neutrophil", "monocyte", "basophil", "lymphoblast", "ig"):
        assert mean(kind, redness) < 15
    assert mean("basophil", darkness) > mean("neutrophil", darkness) + 40


@pytest.mark.parametrize("kind", ["lymphocyte", "lymphoblast", "neutrophil", "monocyte"])
def test_nuclei_are_violet(kind: str) -> None:
    for rgb, mask in drawn(kind):
        red, green, blue = rgb[mask == 2].mean(axis=0)
        assert green < red < blue + 25
        assert green < blue - 30


@pytest.mark.parametrize("kind", ["lymphocyte", "lymphoblast", "monocyte", "platelet", "basophil"])
def test_a_mask_is_one_cell_near_the_middle(kind: str) -> None:
    for _, mask in drawn(kind):
        parts = regionprops(label(mask > 0))
        cell = max(parts, key=lambda part: part.area)
        assert cell.area > 0.93 * (mask > 0).sum(), "beside the cell, a ruffle's crumbs at most"
        assert np.abs(np.array(cell.centroid) - SIDE / 2).max() < 0.12 * SIDE


def test_a_platelet_has_no_nucleus() -> None:
    for rgb, mask in drawn("platelet"):
        assert set(np.unique(mask)) == {0, 1}
        assert rgb[..., 1][mask == 1].mean() < np.median(rgb[..., 1]) - 10
