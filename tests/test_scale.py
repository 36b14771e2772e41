"""Micrometres per pixel: read from files, and what an encoder with a window makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.cli.main import app
from cellkin.core.errors import DecisionError, ImageError, LabelError, RecipeError
from cellkin.core.records import ImageRef
from cellkin.imaging.loading import each_prepared
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.scale import png_of, um_per_pixel
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.smear.cutting import cut
from cellkin.smear.field import Field, _said_um
from cellkin.smear.finding import find
from cellkin.smear.writing import write_crops
from cellkin.system import DecisionSupport, train
from cellkin.web.decoding import Decoders
from cellkin.web.settings import Settings

Bytes = NDArray[np.uint8]
PLAIN: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
INCH = 25_400


@pytest.fixture
def rgb(rng: np.random.Generator) -> Bytes:
    return rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)


def ome(path: Path, rgb: Bytes, um: float, unit: str = "µm", **more: Any) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": um, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, rgb, photometric="rgb", ome=True, metadata=metadata, **more)


WRITERS: dict[str, Callable[[Path, Bytes], object]] = {
    "a.png": lambda p, rgb: Image.fromarray(rgb).save(p, dpi=(INCH / 0.125,) * 2),
    "a.jpg": lambda p, rgb: Image.fromarray(rgb).save(p, dpi=(50_800, 50_800)),
    "a.bmp": lambda p, rgb: Image.fromarray(rgb).save(p, dpi=(INCH / 0.125,) * 2),
    "inch.tif": lambda p, rgb: Image.fromarray(rgb).save(p, dpi=(INCH / 0.125,) * 2),
    "cm.tif": lambda p, rgb: tifffile.imwrite(
        p, rgb, photometric="rgb", resolution=(8e4, 8e4), resolutionunit="CENTIMETER"
    ),
    "big.tif": lambda p, rgb: tifffile.imwrite(
        p, rgb, photometric="rgb", bigtiff=True, resolution=(8e4, 8e4), resolutionunit=3
    ),
    "strips.ome.tif": lambda p, rgb: ome(p, rgb, 0.125),
    "nm.ome.tif": lambda p, rgb: ome(p, rgb, 125.0, "nm"),
    "tiles.ome.tif": lambda p, rgb: ome(p, rgb, 0.125, tile=(16, 16)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_say_their_scale_as_field_as_picture_and_as_bytes(
    name: str, rgb: Bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    WRITERS[name](path, rgb)
    um = 0.5 if name == "a.jpg" else 0.125
    assert um_per_pixel(path) == pytest.approx(um, rel=1e-3)
    assert um_per_pixel(path.read_bytes()) == um_per_pixel(path) == um_per_pixel(ImageRef(path))
    with Field(path) as field:
        assert field.um_per_pixel == um_per_pixel(path)


@pytest.mark.parametrize("dpi", [None, (72, 72), (300, 300), (INCH / 0.125, INCH / 0.25)])
def test_a_screen_s_resolution_is_no_scale(
    dpi: tuple[float, float] | None, rgb: Bytes, tmp_path: Path
) -> None:
    for name in ("a.png", "a.tif"):
        Image.fromarray(rgb).save(tmp_path / name, **({} if dpi is None else {"dpi": dpi}))
        assert um_per_pixel(tmp_path / name) is None


@pytest.mark.parametrize("um", [50.0, 1e9, 1e-9, 0.0, -0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}])
def test_a_scale_that_no_microscope_has_is_not_believed(
    um: float, layout: dict[str, Any], rgb: Bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tif"
    ome(path, rgb, um, **layout)
    assert um_per_pixel(path) is None
    with Field(path) as field:
        assert field.um_per_pixel is None


@pytest.mark.parametrize("said", ["0.25", "50", "1e-9", "nan", "inf", "wide", "", None])
def test_scanners_are_believed_as_far_as_microscopes_go(said: str | None) -> None:
    assert _said_um(said) == (0.25 if said == "0.25" else None)


@pytest.mark.parametrize("data", [b"", b"no picture", b"II*\0\x08\0\0\0\xff\xff", b"\x89PNG\r\n"])
def test_damaged_files_say_no_scale(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert um_per_pixel(tmp_path / "a.png") is um_per_pixel(data) is None


# --- a window --------------------------------------------------------------------------------


def test_a_window_sees_the_same_micrometres_whatever_the_camera(rgb: Bytes) -> None:
    seen = Preprocessor(size=20, window=4.0, **PLAIN)
    np.testing.assert_array_equal(seen.prepare(rgb, 0.2), rgb[20:40, 30:50])
    smooth = np.asarray(
        np.add.outer(np.arange(60), np.arange(80))[..., None] + [0, 40, 80], np.uint8
    )
    twice = np.asarray(Image.fromarray(smooth).resize((160, 120), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(seen.prepare(twice, 0.1), seen.prepare(smooth, 0.2), atol=1)
    assert seen.identity() == {**Preprocessor(size=20, **PLAIN).identity(), "window": 4.0}
    assert Preprocessor.from_json(seen.identity()) == seen


def test_without_a_window_nothing_changes(rgb: Bytes) -> None:
    whole = Preprocessor(size=20, **PLAIN)
    assert "window" not in whole.identity()
    np.testing.assert_array_equal(whole.prepare(rgb, 0.2), whole.prepare(rgb))


def test_what_a_window_cannot_see_is_refused(rgb: Bytes, tmp_path: Path) -> None:
    seen = Preprocessor(size=20, window=13.0, **PLAIN)
    with pytest.raises(ImageError, match="not known") as unknown:
        seen.prepare(rgb, where="cell.png")
    assert unknown.value.where == "cell.png"
    assert "--mpp" in unknown.value.mend
    with pytest.raises(ImageError, match=r"shows 12\.0 micrometres, the encoder sees 13"):
        seen.prepare(rgb, 0.2)
    assert seen.prepare(rgb, 13 / 61).shape == (20, 20, 3)  # a pixel too few is rounding
    for wrong in (0.0, -1.0, float("nan"), 5, "5", 1e9):
        with pytest.raises(RecipeError):
            Preprocessor(size=20, window=wrong, **PLAIN)  # type: ignore[arg-type]


def test_the_scale_comes_from_the_caller_the_table_or_the_file(rgb: Bytes, tmp_path: Path) -> None:
    """The first that knows it, in this order; arrays have the caller's alone."""
    Image.fromarray(rgb).save(tmp_path / "a.png", dpi=(INCH / 0.25,) * 2)
    Image.fromarray(rgb).save(tmp_path / "b.png")
    seen = Preprocessor(size=20, window=4.0, **PLAIN)

    def of(source: Any, um: float | None = None) -> Any:
        (found,) = each_prepared([source], seen, um_per_pixel=um)
        return found

    by_file, by_table = ImageRef(tmp_path / "a.png"), ImageRef(tmp_path / "b.png", None, None, None)
    np.testing.assert_array_equal(of(by_file), seen.prepare(rgb, 0.25))
    np.testing.assert_array_equal(of(by_file, 0.2), seen.prepare(rgb, 0.2))
    known = ImageRef(tmp_path / "a.png", um_per_pixel=0.2)
    np.testing.assert_array_equal(of(known), seen.prepare(rgb, 0.2))
    np.testing.assert_array_equal(of(rgb, 0.2), seen.prepare(rgb, 0.2))
    for unknown in (by_table, rgb):
        assert isinstance(of(unknown), ImageError)
    cut_out = ImageRef(tmp_path / "a.png", box=(10, 10, 50, 50))
    np.testing.assert_array_equal(of(cut_out), seen.prepare(rgb[10:50, 10:50], 0.25))


def test_a_table_says_the_scale_of_its_images(rgb: Bytes, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(rgb).save(tmp_path / name)
    table = tmp_path / "labels.csv"
    table.write_text("file,label,um_per_pixel\na.png,lymphoblast,0.1\nb.png,normal,\n")
    data = datasets.open(tmp_path)
    assert [s.image.um_per_pixel for s in data] == [0.1, None]
    saved = datasets.save(data, tmp_path.with_name("saved.json"))
    assert [s.image.um_per_pixel for s in datasets.open(saved)] == [0.1, None]
    for wrong in ("x", "-1", "0", "nan", "inf"):
        table.write_text(f"file,label,um_per_pixel\na.png,lymphoblast,{wrong}\nb.png,normal,\n")
        with pytest.raises(LabelError, match="no number of micrometres"):
            datasets.open(tmp_path)


# --- an atlas that sees micrometres ------------------------------------------------------------


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five drawn fields of five pixels a micrometre."""
    from test_differential import drawn

    folder = tmp_path_factory.mktemp("fields")
    kinds = ("lymphoblast", "neutrophil") * 3
    for seed in range(5):
        Image.fromarray(drawn(seed, kinds)).save(folder / f"f{seed}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def crops(fields: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their cells, squares of 24 micrometres, labelled in turn."""
    from cellkin.smear.window import Window

    folder = tmp_path_factory.mktemp("cut") / "crops"
    found = [find(path, um_per_pixel=0.2) for path in fields]
    write_crops(found, folder, window=Window.given(24.0))
    table = folder / "labels.csv"
    head, *rows = table.read_text().splitlines()
    named = [
        r.replace(",,", f",{('lymphoblast', 'normal')[i % 2]},", 1) for i, r in enumerate(rows)
    ]
    table.write_text("\n".join([head, *named]))
    return folder


@pytest.fixture(scope="module")
def seeing(crops: Path, small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = small_recipe.with_changes(window=20.0, epochs=1, k=3)
    out = tmp_path_factory.mktemp("seeing") / "atlas"
    return train(datasets.open(crops), recipe, seed=0, out=out)


def test_an_atlas_of_cut_cells_decides_crops_and_fields(
    seeing: Path, crops: Path, fields: list[Path], rgb: Bytes
) -> None:
    dss = DecisionSupport.open(seeing, device="cpu")
    assert dss.atlas.encoder.preprocessor.window == 20.0
    assert (dss.window.um, dss.window.source) == (20.0, "recipe")
    known = dss.decide(sorted(crops.glob("*.png"))[0])
    assert known.neighbors
    assert dss.decide(rgb, um_per_pixel=0.4).neighbors
    with pytest.raises(ImageError, match="scale of this image is not known"):
        dss.decide(rgb)
    with pytest.raises(ImageError, match=r"shows 12\.0 micrometres"):
        dss.decide(rgb, um_per_pixel=0.2)
    found = find(fields[0], um_per_pixel=0.2)
    whites = [cell for cell in found.cells if cell.kind == "white cell"]
    count = dss.count([found])
    decided = {(c.x, c.y): c.decision for c in count.cells if c.decision is not None}
    assert len(decided) == len(whites)
    (square,) = cut(found, whites[:1], dss.window)
    alone = dss.decide(square, um_per_pixel=0.2)
    counted = decided[round(whites[0].x, 1), round(whites[0].y, 1)]
    assert [n.id for n in alone.neighbors] == [n.id for n in counted.neighbors]


def test_a_scale_says_nothing_to_an_atlas_that_takes_pictures_whole(
    support: DecisionSupport, rgb: Bytes
) -> None:
    with pytest.raises(DecisionError, match="takes every picture whole"):
        support.decide(rgb, um_per_pixel=0.1)


def test_the_command_takes_the_scale(seeing: Path, rgb: Bytes, tmp_path: Path) -> None:
    Image.fromarray(rgb).save(tmp_path / "cell.png")
    asked = ["decide", str(seeing), str(tmp_path / "cell.png"), "--json"]
    assert isinstance(CliRunner().invoke(app, asked).exception, ImageError)
    told = CliRunner().invoke(app, [*asked, "--mpp", "0.4"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["neighbors"]


def test_the_workstation_reads_the_scale_of_an_upload(rgb: Bytes) -> None:
    seen = Preprocessor(size=20, window=4.0, **PLAIN)
    decoders = Decoders(seen, Settings())
    try:
        made = decoders.prepare(png_of(rgb, 0.2), "cell.png")
        np.testing.assert_array_equal(made.image, seen.prepare(rgb, 0.2))
        again = decoders.prepare(png_of(made.image, seen.um_per_pixel), "reference cell")
        np.testing.assert_array_equal(again.image, made.image)
        with pytest.raises(ImageError, match="not known") as refused:
            decoders.prepare(png_of(rgb), "cell.png")
        assert refused.value.where == "cell.png"
    finally:
        decoders.close()


def test_recipes_without_a_window_keep_their_ids() -> None:
    quick = load_recipe("quick")
    assert "window" not in quick.to_json()
    assert quick.with_changes(window=30.0).id != quick.id
    with pytest.raises(RecipeError, match="window"):
        quick.with_changes(window=-3.0)
