"""How much of a field one picture shows: told from an atlas, and cut from fields."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cellkin.cli.main import app
from cellkin.core.errors import DataError, LabelError, RecipeError
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.imaging.decode import decode
from cellkin.imaging.scale import um_per_pixel
from cellkin.smear import cutting
from cellkin.smear.cutting import cut, square_of
from cellkin.smear.found import Cell, FoundField, Outline
from cellkin.smear.ruler import RED_CELL, RedCells, Ruler
from cellkin.smear.window import Window, window_of
from cellkin.system import DecisionSupport

Bytes = NDArray[np.uint8]
SCALE = 8.0  # pixels per micrometre of the drawing


@cache
def crops(um: float, side: int, count: int = 20) -> tuple[list[Bytes], float]:
    """Pictures of single white cells of a drawn smear, and their true side by its red cells."""
    rng = np.random.default_rng(5)
    style = subject_style(rng).in_field(rng, 1.0)
    real = RED_CELL / (2 * style.red_radius * SCALE)  # micrometres per pixel, by red cells
    pictures: list[Bytes] = []
    while len(pictures) < count:
        rgb, _, placed = draw_field(
            ["lymphocyte", "neutrophil"] * 4, rng, style, Canvas((800, 1000), SCALE), 0.3
        )
        half = round(um / real / 2)
        for cell in placed:
            x, y = round(cell.x), round(cell.y)
            if half <= x <= 1000 - half and half <= y <= 800 - half:
                square = rgb[y - half : y + half, x - half : x + half]
                pictures.append(np.asarray(Image.fromarray(square).resize((side, side))))
    return pictures, um


@pytest.mark.parametrize(("um", "side"), [(28.0, 112), (40.0, 160)])
def test_red_cells_tell_how_much_the_pictures_of_an_atlas_show(um: float, side: int) -> None:
    pictures, true = crops(um, side)
    window = window_of(pictures)
    assert window.source == "red cells"
    assert window.counted >= 20
    assert window.um == pytest.approx(true, rel=0.08)
    assert window.ground is not None
    assert min(window.ground) > 150
    assert Window.from_json(window.to_json()) == window


def test_cells_cut_out_on_black_are_measured_by_themselves(made: FoundField) -> None:
    pictures, _ = crops(28.0, 112)
    rows, columns = np.indices((112, 112)) - 55.5
    disc = np.hypot(rows, columns) < 30
    window = window_of([picture * disc[..., None] for picture in pictures])
    assert (window.um, window.source, window.ground) == (None, "white cells", (0, 0, 0))
    assert window.cells is not None
    assert 1.4 < window.cells < 3
    sizes = [5.0, 4.5]  # micrometres, the longer sides
    assert window.settled([made]).um == pytest.approx(window.cells * np.median(sizes))
    with pytest.raises(DataError, match="none was found"):
        window.settled([replace(made, cells=())])


def test_pictures_without_cells_tell_no_scale(rng: np.random.Generator) -> None:
    noise = [rng.integers(200, 210, (64, 64, 3)).astype(np.uint8) for _ in range(3)]
    with pytest.raises(DataError, match="cannot be told"):
        window_of(noise)


@pytest.fixture
def made(tmp_path: Path, rng: np.random.Generator) -> FoundField:
    """A field of 300 x 200 pixels, 0.1 micrometres each, with a cell in it and one at its edge."""
    rgb = rng.integers(0, 241, (200, 300, 3)).astype(np.uint8)
    rgb[::2] = 240  # its own brightest is white: even light leaves it as it is
    Image.fromarray(rgb).save(tmp_path / "field.png")
    cells = tuple(
        Cell(x, y, x - 20, max(y - 25, 0), x + 20, y + 25, "white cell", 0.9)
        for x, y in ((150.0, 90.0), (250.0, 20.0))
    )
    square = np.array([[-10, -10], [10, -10], [10, 10], [-10, 10]], np.float32)
    outlines = tuple(Outline(square + np.float32([c.x, c.y]), ()) for c in cells)
    return FoundField(
        path=tmp_path / "field.png",
        width=300,
        height=200,
        ruler=Ruler(0.1, "given"),
        light=None,
        white=(240.0, 240.0, 240.0),
        downsample=3.0,
        red_cells=RedCells(np.zeros(0, np.float32)),
        cells=cells,
        outlines=outlines,
    )


def test_cells_lie_in_the_middle_of_their_squares_at_the_edge_as_well(made: FoundField) -> None:
    whole = np.asarray(Image.open(made.path))
    inner, edge = cut(made, made.cells, Window(8.0, None, None, "recipe"))
    assert inner.shape == edge.shape == (80, 80, 3)
    np.testing.assert_array_equal(inner, whole[50:130, 110:190])
    np.testing.assert_array_equal(edge[20:], whole[:60, 210:290])
    assert (edge[:20] == 240).all()
    assert square_of(made.cells[1], made, Window(8.0, None, None, "recipe")) == (210, -20, 290, 60)


def test_without_a_window_the_box_tells_the_square(made: FoundField) -> None:
    assert [crop.shape for crop in cut(made, made.cells)] == [(80, 80, 3), (72, 72, 3)]


def test_the_ground_of_an_atlas_is_put_under_the_cells(made: FoundField) -> None:
    plain = cut(made, made.cells, Window(8.0, None, None, "recipe"))
    lit = cut(made, made.cells, Window(8.0, None, (240, 120, 60), "recipe"))
    for before, after in zip(plain, lit, strict=True):
        np.testing.assert_allclose(after, before * np.array([1, 0.5, 0.25]), atol=0.51)


def test_cells_are_cut_out_for_an_atlas_of_cells_on_black(made: FoundField) -> None:
    plain = cut(made, made.cells, Window(8.0, None, None, "recipe"))
    for before, after in zip(
        plain, cut(made, made.cells, Window(8.0, None, (0, 0, 0), "white cells")), strict=True
    ):
        np.testing.assert_array_equal(after[30:51, 30:51], before[30:51, 30:51])
        after[30:51, 30:51] = 0
        assert not after.any()


def test_parts_of_the_field_that_are_read_together_do_not_matter(
    made: FoundField, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    places = rng.uniform((0, 0), (300, 200), (40, 2))
    cells = [Cell(x, y, x - 9, y - 9, x + 9, y + 9, "white cell", 0.9) for x, y in places]
    window = Window(3.0, None, None, "recipe")
    together = cut(made, cells, window)
    monkeypatch.setattr(cutting, "TOGETHER", 50)
    for one, other in zip(together, cut(made, cells, window), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fields_without_a_ruler_are_cut_by_what_the_network_saw(made: FoundField) -> None:
    """At a downsample of 3 a red cell of 24 pixels takes 72 of the field."""
    without = replace(made, ruler=None)
    (crop, _) = cut(without, without.cells, Window(2 * RED_CELL, None, None, "recipe"))
    assert crop.shape == (144, 144, 3)


# --- the command -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn field of five pixels a micrometre."""
    rng = np.random.default_rng(8)
    style = subject_style(rng).in_field(rng, 1.0)
    rgb, _, _ = draw_field(["lymphoblast", "neutrophil"] * 3, rng, style, Canvas((420, 540), 5.0))
    path = tmp_path_factory.mktemp("photograph") / "field.png"
    Image.fromarray(rgb).save(path)
    return path


def test_crops_wait_for_their_labels_and_are_decided_before(
    photograph: Path, atlas_folder: Path, tmp_path: Path
) -> None:
    run, crops = CliRunner(), tmp_path / "crops"
    asked = ["find", str(photograph), "--out", str(tmp_path / "cells.json"), "--mpp", "0.2"]
    assert run.invoke(app, [*asked, "--crops", str(crops), "--window", "24"]).exit_code == 0
    files = sorted(crops.glob("*.png"))
    assert len(files) >= 4
    for file in files:
        assert decode(file).shape == (120, 120, 3)
        assert um_per_pixel(file) == pytest.approx(0.2)
    refused = run.invoke(app, ["train", str(crops), "--out", str(tmp_path / "atlas")]).exception
    assert isinstance(refused, LabelError)
    assert f"label of {files[0].name} is empty" in refused.what
    assert "decide ATLAS" in refused.mend
    told = run.invoke(app, ["decide", str(atlas_folder), str(crops), "--json"])
    assert len(told.stdout.splitlines()) == len(files)


def test_crops_are_cut_as_the_pictures_of_an_atlas(
    photograph: Path, atlas_folder: Path, support: DecisionSupport, tmp_path: Path
) -> None:
    assert support.window.um is not None
    asked = ["find", str(photograph), "--out", str(tmp_path / "cells.json"), "--mpp", "0.2"]
    asked += ["--crops", str(tmp_path / "crops"), "--like", str(atlas_folder)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    for file in (tmp_path / "crops").glob("*.png"):
        assert len(decode(file)) == round(support.window.um / 0.2)


@pytest.mark.parametrize(
    "how",
    [
        ["--window", "24"],
        ["--like", "atlas"],
        ["--crops", "crops", "--window", "24", "--like", "atlas"],
        ["--crops", "crops", "--window", "0"],
        ["--crops", "crops", "--window", "-3"],
        ["--crops", "crops", "--window", "nan"],
    ],
)
def test_ways_of_cutting_that_say_nothing_are_refused(
    how: list[str], photograph: Path, tmp_path: Path
) -> None:
    asked = ["find", str(photograph), "--out", str(tmp_path / "cells.json"), *how]
    assert isinstance(CliRunner().invoke(app, asked).exception, RecipeError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window(34.61, 2.5, None, "red cells", 270), "show 34.6 micrometres, by 270 red cells"),
        (Window(None, 1.92, (0, 0, 0), "white cells", 96), "1.9 white cells wide, by 96 white"),
        (Window(30.0, None, None, "recipe"), "30 micrometres of every picture"),
    ],
)
def test_inspect_tells_the_window(
    window: Window, words: str, support: DecisionSupport, tmp_path: Path
) -> None:
    facts = {**support.atlas.facts, "window": window.to_json()}
    replace(support.atlas, facts=facts).save(tmp_path / "atlas")
    told = CliRunner().invoke(app, ["inspect", str(tmp_path / "atlas")])
    assert words in told.stdout
    assert DecisionSupport.open(tmp_path / "atlas", device="cpu").window == window
