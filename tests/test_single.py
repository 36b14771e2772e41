"""A field where the picture of one cell is expected: it is recognised, and gets no call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner
from workstation import Workstation, upload

from cellkin.cli.main import app
from cellkin.core.errors import ImageError
from cellkin.core.records import Decision
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import KINDS, draw_cell, draw_field
from cellkin.imaging.decode import decode
from cellkin.imaging.glimpse import GLIMPSE, glimpse
from cellkin.smear.single import refuse_field
from cellkin.system import DecisionSupport

Bytes = NDArray[np.uint8]
VERB = "cellkin differential ATLAS FIELD"


def field(shape: tuple[int, int], scale: float, cells: int, seed: int = 0) -> Bytes:
    rng = np.random.default_rng([21, seed])
    style = subject_style(rng).in_field(rng, 1.0)
    kinds = rng.choice(["lymphoblast", "neutrophil", "lymphocyte"], cells).tolist()
    return draw_field(kinds, rng, style, Canvas(shape, scale))[0]


def crop(kind: str, seed: int, side: int = 224) -> Bytes:
    rng = np.random.default_rng([22, seed])
    return draw_cell(kind, rng, subject_style(rng), side)[0]


@pytest.mark.parametrize(
    ("shape", "scale", "cells"),
    [
        ((480, 640), 6.0, 2),
        ((600, 600), 6.0, 6),
        ((900, 1440), 12.0, 3),
        ((1024, 1280), 5.0, 12),
        ((700, 700), 7.0, 0),
    ],
)
def test_a_field_is_refused_and_the_verb_named(
    shape: tuple[int, int], scale: float, cells: int
) -> None:
    rgb = field(shape, scale, cells)
    for given in (rgb, glimpse(rgb)):
        with pytest.raises(ImageError, match="this is a field") as error:
            refuse_field(given, "f.png")
        assert VERB in error.value.mend
        assert error.value.where == "f.png"


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_of_one_cell_is_not_refused(kind: str) -> None:
    for seed, side in enumerate((96, 180, 257, 360)):
        refuse_field(crop(kind, seed, side), "c.png")


def test_a_cell_on_black_and_a_cell_that_fills_an_oblong_picture_are_not_refused() -> None:
    rgb = crop("lymphoblast", 3, 300)
    refuse_field(rgb[70:230, 40:260], "tight.png")
    black = np.where(np.hypot(*np.indices((300, 300)) - 150)[..., None] < 80, rgb, 0)
    refuse_field(black.astype(np.uint8), "black.png")


def test_a_cell_aside_of_the_middle_is_refused() -> None:
    rgb = np.roll(crop("neutrophil", 4, 300), 110, axis=1)
    with pytest.raises(ImageError, match="outside its middle") as error:
        refuse_field(rgb, "aside.png")
    assert "crop it around the cell" in error.value.mend
    assert VERB in error.value.mend


def test_a_glimpse_is_small_and_keeps_its_shape() -> None:
    rgb = np.zeros((1200, 3000, 3), np.uint8)
    assert glimpse(rgb).shape == (GLIMPSE, GLIMPSE * 5 // 2, 3)
    assert glimpse(rgb[:90, :120]) is not rgb
    assert glimpse(rgb[:90, :120]).shape == (90, 120, 3)


# behind every door ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A field, and the picture of one cell."""
    folder = tmp_path_factory.mktemp("single")
    Image.fromarray(field((480, 640), 6.0, 2)).save(folder / "field.png")
    Image.fromarray(crop("lymphocyte", 1)).save(folder / "cell.png")
    return folder / "field.png", folder / "cell.png"


def test_no_door_calls_a_field(support: DecisionSupport, paths: tuple[Path, Path]) -> None:
    for door in (support.look, support.decide, support.explain):
        with pytest.raises(ImageError, match="this is a field"):
            door(paths[0])
    found = support.decide([paths[0], paths[1], decode(paths[0])])
    assert [type(one) for one in found] == [ImageError, Decision, ImageError]
    assert isinstance(support.decide(paths[0], gate=False), Decision)


@pytest.mark.parametrize("verb", [["decide"], ["explain", "--out"]])
def test_the_command_line_names_the_verb(
    atlas_folder: Path, paths: tuple[Path, Path], tmp_path: Path, verb: list[str]
) -> None:
    given = [verb[0], str(atlas_folder), *map(str, paths), "--json"]
    done = CliRunner().invoke(app, [*given, *verb[1:], *[str(tmp_path / "why")] * (len(verb) - 1)])
    assert isinstance(done.exception, ImageError)
    assert "this is a field" in str(done.exception)
    assert VERB in done.exception.mend
    assert len([line for line in done.stdout.splitlines() if json.loads(line)]) == 1


# real pictures --------------------------------------------------------------------------------


def refused(paths: list[Path]) -> float:
    """The share that is refused."""
    found = 0
    for path in paths:
        try:
            refuse_field(decode(path), str(path))
        except ImageError:
            found += 1
    return found / len(paths)


def test_real_cells_pass_and_real_fields_do_not(real_data: Path) -> None:
    cells = sorted((real_data / "pbc").rglob("*.jpg"))[::45]
    cells += sorted((real_data / "chula" / "cells").rglob("*.jpg"))[::12]
    cells += sorted((real_data / "cnmc2019").rglob("*.png"))[::30]
    assert refused(cells) <= 0.02
    fields = sorted((real_data / "bccd" / "JPEGImages").iterdir())[::40]
    fields += sorted((real_data / "chula" / "fields").iterdir())[::30]
    assert refused(fields) == 1.0


def test_the_workstation_refuses_a_field_in_the_same_words(
    web: Workstation, paths: tuple[Path, Path]
) -> None:
    client = web.client("rolf")
    case = web.case(client)
    data = paths[0].read_bytes()
    files = [("files", ("field.png", data, "image/png"))]
    told = client.post("/api/v1/decide", files=files).json()
    assert told["decisions"] == []
    assert "this is a field" in told["refused"][0]["what"]
    assert VERB in told["refused"][0]["mend"]
    answer = upload(client, case["id"], [("field.png", data)])
    assert "this is a field" in answer.text
    assert client.get(f"/api/v1/cases/{case['id']}").json()["cells"] == 0
    assert client.post("/api/v1/explain", files=files).status_code == 422
