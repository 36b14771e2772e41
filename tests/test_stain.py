"""Nuclei by their stain: painted discs, drawn cells with exact masks, real cells."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellkin.core.arrays import Bytes, Floats
from cellkin.core.errors import ImageError
from cellkin.drawing.drawn import draw_cell, subject_style
from cellkin.imaging.decode import decode
from cellkin.imaging.stain import (
    DOUBTFUL,
    NUCLEAR,
    doubtful_mask,
    nuclear_stain,
    nuclei,
    nuclei_mask,
    nucleus_score,
)

VIOLET = np.array([1.0, 1.6, 0.45])
"""Optical density of a nucleus in red, green, blue."""

RED_CELL = np.array([0.15, 0.45, 0.3])
LAMP = np.array([245.0, 240.0, 235.0])


def painted(
    discs: list[tuple[float, float, float, Floats]],
    size: int = 128,
    lamp: Floats = LAMP,
) -> Bytes:
    """Discs (x, y, radius, density) on an empty ground."""
    rows, columns = np.mgrid[:size, :size]
    density = np.zeros((size, size, 3))
    for x, y, radius, stain in discs:
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        density[inside] += stain
    return np.asarray(np.clip(lamp * np.exp(-density), 0, 255).round(), np.uint8)


def drawn(kind: str, count: int, size: int = 128) -> list[tuple[Bytes, Bytes]]:
    pictures = []
    for seed in range(count):
        rng = np.random.default_rng([11, seed])
        style = subject_style(rng).in_field(rng, (1.0, 1.5)[seed % 2])
        pictures.append(draw_cell(kind, rng, style, size))
    return pictures


@given(
    x=st.floats(40, 88),
    y=st.floats(40, 88),
    radius=st.floats(10, 32),
    gain=st.floats(0.6, 1.0),
    strength=st.floats(0.7, 1.3),
)
@settings(max_examples=25, deadline=None)
def test_a_disc_is_measured_under_any_lamp(
    x: float, y: float, radius: float, gain: float, strength: float
) -> None:
    rgb = painted([(x, y, radius, strength * VIOLET)], lamp=gain * LAMP)
    (found,) = nuclei(rgb)
    assert found.radius == pytest.approx(radius, rel=0.06, abs=0.6)
    assert np.hypot(found.x - x, found.y - y) < 1.0
    expected = strength * (VIOLET[0] + VIOLET[1] - 2 * VIOLET[2])
    assert found.stain == pytest.approx(expected, rel=0.12)
    assert nuclei_mask(rgb).sum() == pytest.approx(np.pi * found.radius**2, rel=1e-6)


def test_red_cells_and_specks_are_no_nuclei() -> None:
    reds = [(x, y, 14.0, RED_CELL) for x in (30, 55, 90) for y in (40, 60, 100)]
    rgb = painted(reds)
    assert nuclei(rgb) == ()
    assert nucleus_score(rgb) < DOUBTFUL
    assert not doubtful_mask(rgb).any()
    speck = painted([*reds, (64, 20, 3.0, VIOLET)])
    assert nuclei(speck) == ()
    assert len(nuclei(speck, least_radius=2.0)) == 1


def test_lobes_are_one_nucleus_and_two_cells_are_two() -> None:
    lobes = painted([(50, 64, 12, VIOLET), (78, 64, 12, VIOLET)])
    assert len(nuclei(lobes)) == 1  # 4 pixels between them
    cells = painted([(30, 64, 14, VIOLET), (96, 64, 20, VIOLET)])
    assert [round(n.radius) for n in nuclei(cells)] == [20, 14]


def test_half_a_nucleus_at_the_border_is_doubtful() -> None:
    rgb = painted([(0, 64, 14, VIOLET)])
    assert doubtful_mask(rgb)[64, 5]
    assert not doubtful_mask(rgb)[64, 60]


def test_a_pale_nucleus_is_doubted_before_it_is_called() -> None:
    pale = 0.65 / (VIOLET[0] + VIOLET[1] - 2 * VIOLET[2]) * VIOLET
    rgb = painted([(64, 64, 20, pale)])
    assert nuclei(rgb) == ()
    assert DOUBTFUL < nucleus_score(rgb) < NUCLEAR
    assert doubtful_mask(rgb)[64, 64]


def test_black_carries_no_stain() -> None:
    rgb = painted([(64, 64, 40, 0.3 * VIOLET), (64, 64, 25, 0.8 * VIOLET)])
    rows, columns = np.mgrid[:128, :128]
    rgb[(columns - 64) ** 2 + (rows - 64) ** 2 > 40**2] = 0
    stain = nuclear_stain(rgb)
    assert stain[0, 0] == 0
    (found,) = nuclei(rgb)
    assert found.radius == pytest.approx(25, rel=0.08)
    assert nuclei(np.zeros((64, 64, 3), np.uint8)) == ()


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, lambda a: np.rot90(a, 2)])
def test_turning_the_image_turns_what_is_found(turn: object) -> None:
    rgb = painted([(30, 50, 14, VIOLET), (96, 80, 20, VIOLET), (60, 20, 13, RED_CELL)])
    turned = np.ascontiguousarray(turn(rgb))  # type: ignore[operator]
    assert np.array_equal(turn(nuclei_mask(rgb)), nuclei_mask(turned))  # type: ignore[operator]
    radii = [n.radius for n in nuclei(turned)]
    assert radii == pytest.approx([n.radius for n in nuclei(rgb)])


@pytest.mark.parametrize("kind", ["lymphocyte", "neutrophil", "lymphoblast"])
def test_drawn_cells_are_found_where_they_lie(kind: str) -> None:
    overlaps = []
    for rgb, mask in drawn(kind, 12):
        truth = mask == 2
        found = nuclei_mask(rgb)
        overlaps.append((found & truth).sum() / (found | truth).sum())
        assert nucleus_score(rgb) > NUCLEAR
    assert min(overlaps) > 0.5
    assert np.median(overlaps) > 0.85


def test_nothing_is_found_where_nothing_is_drawn() -> None:
    alarms = [bool(nuclei(rgb)) for rgb, _ in drawn("nothing", 40)]
    assert sum(alarms) <= 1


def test_real_cells_have_a_nucleus_in_the_middle(real_data: Path) -> None:
    missed = []
    folders = [*sorted((real_data / "pbc").iterdir()), *sorted((real_data / "cnmc2019").iterdir())]
    for folder in folders:
        for path in sorted(folder.iterdir())[:6]:
            rgb = decode(path)
            side = min(rgb.shape[:2])
            middle = np.array(rgb.shape[1::-1]) / 2
            near = [n for n in nuclei(rgb) if np.hypot(*(np.array([n.x, n.y]) - middle)) < side / 5]
            missed += [] if near else [path.name]
    assert len(folders) == 10
    assert missed == []


def test_corners_of_real_smears_are_mostly_free(real_data: Path) -> None:
    """PBC cells lie in the middle of red cells: a corner rarely holds another white cell."""
    paths = sorted((real_data / "pbc" / "lymphocyte").glob("*.jpg"))[:20]
    free = 0
    for path in paths:
        rgb = decode(path)
        doubtful = doubtful_mask(rgb)
        free += not doubtful[:72, :72].any()
        assert doubtful.any()
    assert free >= 19


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
)
def test_what_is_no_image_is_refused(array: NDArray[np.generic]) -> None:
    for of in (nuclear_stain, nuclei, nuclei_mask, nucleus_score, doubtful_mask):
        with pytest.raises(ImageError, match="no RGB image") as caught:
            of(array)  # type: ignore[operator]
        assert caught.value.mend


def test_a_field_is_searched_at_the_scale_given() -> None:
    """In a field of many cells the share of the side means nothing: the radius is given."""
    field = cv2.copyMakeBorder(
        painted([(64, 64, 12, VIOLET)]), 0, 896, 0, 896, cv2.BORDER_CONSTANT, value=LAMP.tolist()
    )
    assert nuclei(field) == ()
    (found,) = nuclei(field, least_radius=6)
    assert (round(found.x), round(found.y)) == (64, 64)
