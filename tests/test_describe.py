"""Morphology in words: measured geometry, and the heads of an encoder that knows attributes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cellkin.cli.main import app
from cellkin.core.arrays import Bytes
from cellkin.core.descriptions import TRAINED_ON
from cellkin.core.errors import ArtifactError
from cellkin.core.records import ImageRef
from cellkin.imaging.geometry import geometry, roundness
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.learning.attributes import attribute_shares
from cellkin.learning.encoder import Encoder
from cellkin.learning.weights import initialize
from cellkin.system.describing import describe

GROUND, BODY, NUCLEUS = (240, 235, 238), (190, 175, 215), (95, 50, 140)


def drawn(side: int, cell: int, nucleus: int, lobes: int = 1) -> Bytes:
    """A round cell with a nucleus of so many round lobes, of these radii in pixels."""
    picture = np.full((side, side, 3), GROUND, np.uint8)
    middle = side // 2
    cv2.circle(picture, (middle, middle), cell, BODY, -1, cv2.LINE_AA)
    for i in range(lobes):
        away = 0 if lobes == 1 else cell // 2
        angle = 2 * math.pi * i / lobes
        at = (round(middle + away * math.cos(angle)), round(middle + away * math.sin(angle)))
        cv2.circle(picture, at, nucleus, NUCLEUS, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


@pytest.mark.parametrize("side", [200, 360])
@pytest.mark.parametrize(("cell", "nucleus"), [(0.2, 0.15), (0.25, 0.2), (0.3, 0.15)])
def test_areas_are_those_of_the_drawn_cell(side: int, cell: float, nucleus: float) -> None:
    outer, inner = round(side * cell), round(side * nucleus)
    found = geometry(drawn(side, outer, inner))
    assert found.cell_area == pytest.approx(math.pi * outer**2, rel=0.05)
    assert found.nucleus_area == pytest.approx(math.pi * inner**2, rel=0.05)
    assert found.nucleus_share == pytest.approx((inner / outer) ** 2, rel=0.07)
    assert found.cell_roundness is not None
    assert found.cell_roundness > 0.9
    assert found.lobes == 1


def test_a_ruler_gives_micrometres_and_none_gives_pixels() -> None:
    picture = drawn(200, 50, 35)
    pixels, um = geometry(picture), geometry(picture, 0.1)
    assert (pixels.unit, um.unit) == ("pixels", "um")
    assert pixels.cell_area is not None
    assert um.cell_area == pytest.approx(pixels.cell_area * 0.01)
    assert um.nucleus_share == pixels.nucleus_share


def test_lobes_are_counted() -> None:
    assert geometry(drawn(300, 75, 20, lobes=3)).lobes == 3


def test_an_empty_picture_has_no_geometry() -> None:
    found = geometry(np.full((100, 100, 3), 240, np.uint8))
    assert found.cell_area is None
    assert found.lobes is None


def test_a_disc_is_rounder_than_a_bar() -> None:
    disc, bar = np.zeros((2, 100, 100), np.uint8)
    cv2.circle(disc, (50, 50), 30, 1, -1)
    bar[45:55, 10:90] = 1
    assert roundness(disc > 0) > 0.9
    assert roundness(bar > 0) < 0.5


@pytest.fixture
def encoder() -> Encoder:
    network, _ = initialize("test_resnet", 5, "scratch", size=32, seed=0)
    made = Encoder(network, packaged_lite0(32), tuple("abcde"))
    made.heads, made.tasks = (("x", "y"), ("big", "small", "tiny")), ("class", "cell_size")
    return made


def test_attributes_are_the_shares_of_their_own_head(encoder: Encoder, tmp_path: Path) -> None:
    pictures = np.stack([drawn(32, 9, 6), drawn(32, 6, 5)])
    ((name, (codes, shares)),) = attribute_shares(encoder, pictures).items()
    assert (name, codes) == ("cell_size", ("big", "small", "tiny"))
    logits = encoder.view(pictures).logits[:, 2:]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(shares, wanted, atol=1e-6)
    Image.fromarray(drawn(64, 18, 12)).save(tmp_path / "a.png")
    (found,) = describe([ImageRef(tmp_path / "a.png")], encoder=encoder)
    assert set(found.attributes) == {"cell_size"}
    assert found.trained_on == TRAINED_ON
    told = found.to_json()
    assert set(told) == {"image", "attributes", "geometry", "trained_on"}
    assert set(told["attributes"]["cell_size"]) == {"value", "share"}


def test_the_names_of_the_heads_are_kept_on_disk(encoder: Encoder, tmp_path: Path) -> None:
    from cellkin.learning.packaged import write_packaged

    folder = write_packaged(encoder, ["00" * 8], tmp_path / "kept")
    assert Encoder.open(folder).tasks == encoder.tasks


def test_an_encoder_without_attributes_is_refused(encoder: Encoder) -> None:
    encoder.tasks = ()
    with pytest.raises(ArtifactError, match="learned no attributes"):
        attribute_shares(encoder, np.zeros((1, 32, 32, 3), np.uint8))


def test_describe_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(drawn(200, 50, 35)).save(tmp_path / "a.png")
    app(["describe", str(tmp_path), "--json"], standalone_mode=False)
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    told = json.loads(line)
    assert len(told["attributes"]) == 11
    assert told["geometry"]["unit"] == "pixels"
    assert "extrapolated" in err
    assert "never a diagnosis" in err
