"""Light and ruler: painted lamps are found again, drawn and real red cells are measured."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellkin.core.arrays import Bytes, Floats
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.imaging.decode import decode
from cellkin.smear.light import WHITE, Light, evenness, ground_of
from cellkin.smear.ruler import LEAST, RED_CELL, RedCells, Ruler, red_cells


def drawn(seed: int, scale: float = 7.0, crowding: float = 0.3) -> tuple[Bytes, float]:
    """A drawn field (700 x 1000) and the mean diameter of its red cells in pixels."""
    from dataclasses import replace

    rng = np.random.default_rng([5, seed])
    style = replace(subject_style(rng).in_field(rng, 1.0), crowding=crowding)
    rgb, _, _ = draw_field(["neutrophil", "lymphoblast"], rng, style, Canvas((700, 1000), scale))
    return rgb, 2 * style.red_radius * scale


def lamp(shape: tuple[int, ...], fall: float, tint: float) -> Floats:
    """A bad lamp: darker to the corners and with a cast of colour that changes over the field."""
    y, x = (np.linspace(-1, 1, n) for n in shape[:2])
    far = x[None, :] ** 2 + y[:, None] ** 2 * 0.8 + 0.3 * x[None, :] * y[:, None]
    falls = [fall, fall * (1 + tint), fall * (1 - tint)]
    return np.stack([np.exp(-f * far) for f in falls], axis=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fall", "tint"), [(0.0, 0.0), (0.25, 0.5), (0.25, -0.5)])
def test_a_painted_lamp_is_taken_out(seed: int, fall: float, tint: float) -> None:
    flat, _ = drawn(seed)
    lit = np.clip(flat * lamp(flat.shape, fall, tint), 0, 255).astype(np.uint8)
    ground = ground_of(lit)
    light = Light.of(lit)
    assert ground is not None
    assert light is not None
    if fall:
        assert evenness(lit, ground) > 0.1
    even = light.whole(lit)
    assert evenness(even, ground) < 0.03
    small = cv2.resize(even, ground.shape[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(small[ground].mean(axis=0), WHITE, atol=3)


def test_a_part_is_corrected_as_in_the_whole() -> None:
    flat, _ = drawn(1)
    lit = np.clip(flat * lamp(flat.shape, 0.25, 0.3), 0, 255).astype(np.uint8)
    light = Light.of(lit)
    assert light is not None
    box = (130, 70, 500, 410)
    part = light.even(lit[70:410, 130:500], box, (1000, 700))
    whole = light.whole(lit)[70:410, 130:500]
    assert np.abs(part.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("what", ["black", "noise", "nothing but cells", "half a picture of noise"])
def test_no_empty_ground_is_said(what: str, rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (300, 400, 3)).astype(np.uint8)
    pictures = {
        "black": np.zeros((300, 400, 3), np.uint8),
        "noise": noise,
        "nothing but cells": (noise // 3 + 60).astype(np.uint8),
        "half a picture of noise": np.where(np.arange(400)[:, None] < 390, noise, 230),
    }
    assert Light.of(np.asarray(pictures[what], np.uint8)) is None


@pytest.mark.parametrize("scale", [4.0, 7.0, 12.0])
def test_drawn_red_cells_measure_a_field(scale: float) -> None:
    """Within 5 % by field."""
    for seed in range(3):
        rgb, diameter = drawn(seed, scale, 0.3 if scale < 10 else 0.4)
        light = Light.of(rgb)
        assert light is not None
        ruler = Ruler.by(red_cells(light.whole(rgb)))
        if scale < 10:
            assert ruler is not None
            assert ruler.cells >= LEAST
        if ruler is not None:
            assert ruler.um_per_pixel == pytest.approx(RED_CELL / diameter, rel=0.05)
            assert ruler.source == "red cells"


def test_too_few_red_cells_measure_nothing() -> None:
    few = RedCells(np.full(LEAST - 1, 60.0, np.float32))
    enough = RedCells(np.full(LEAST, 60.0, np.float32))
    assert Ruler.by(few) is None
    assert Ruler.by(enough) == Ruler(RED_CELL / 60, "red cells", LEAST, 60.0, 0.0)
    assert len(red_cells(np.full((200, 300, 3), WHITE, np.uint8))) == 0


@pytest.mark.real
def test_the_ground_of_chula_becomes_even(real_data: Path) -> None:
    files = sorted((real_data / "chula" / "fields").glob("*.jpg"))[::12]
    before, after = [], []
    for path in files:
        rgb = decode(path)
        ground, light = ground_of(rgb), Light.of(rgb)
        if ground is None or light is None:
            continue
        before.append(evenness(rgb, ground))
        after.append(evenness(light.whole(rgb), ground))
    assert len(after) >= len(files) - 1
    assert np.median(before) > 0.2
    assert max(after) < 0.03


@pytest.mark.real
def test_red_cells_agree_with_the_boxes_of_bccd(real_data: Path) -> None:
    """Within 10 % over the fields: one alone has few whole red cells."""
    from xml.etree import ElementTree

    found, boxes = [], []
    for path in sorted((real_data / "bccd" / "Annotations").glob("*.xml"))[::12]:
        rgb = decode(real_data / "bccd" / "JPEGImages" / f"{path.stem}.jpg")
        light = Light.of(rgb)
        if light is None:
            continue
        found.append(red_cells(light.whole(rgb)))
        for node in ElementTree.parse(path).getroot().iter("object"):
            if node.findtext("name") == "RBC":
                left, top, right, bottom = (int(v.text or 0) for v in node.find("bndbox") or ())
                if left > 3 and top > 3 and right < 637 and bottom < 477:
                    boxes.append(np.sqrt((right - left) * (bottom - top)))
    assert RedCells.together(found).mean == pytest.approx(np.mean(boxes), rel=0.1)


@pytest.mark.real
def test_red_cells_of_chula_are_of_one_size(real_data: Path) -> None:
    """One microscope took all fields: the rulers of fields agree."""
    with (real_data / "chula" / "boxes.csv").open(encoding="utf-8") as file:
        names = sorted({row["field"] for row in csv.DictReader(file)})[::8]
    sizes = []
    for name in names:
        rgb = decode(real_data / "chula" / name)
        light = Light.of(rgb)
        ruler = Ruler.by(red_cells(light.whole(rgb))) if light else None
        if ruler is not None:
            sizes.append(ruler.um_per_pixel)
    assert len(sizes) > len(names) / 2
    assert np.std(sizes) < 0.08 * np.mean(sizes)
