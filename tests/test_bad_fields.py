"""Kinds of bad field, and what is said of each: an error, or that it is no smear, never a count."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from cellkin.cli.main import app
from cellkin.core.errors import DataError, ImageError
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.drawing.tissue import _patch
from cellkin.smear.finding import SCALES, find
from cellkin.smear.found import FoundField
from cellkin.smear.ruler import RED_CELL
from cellkin.smear.surveying import FINEST
from cellkin.system import DecisionSupport

Bytes = NDArray[np.uint8]
Make = Callable[[Path, Bytes], Path]


def smear(seed: int, cells: int, density: float = 0.8, scale: float = 7.0) -> tuple[Bytes, float]:
    """A drawn field of lymphoblasts, and its micrometres per pixel."""
    rng = np.random.default_rng([36, seed])
    style = subject_style(rng).in_field(rng, 1.0)
    shape = (int(60 * scale), int(80 * scale))
    rgb, _, _ = draw_field(["lymphoblast"] * cells, rng, style, Canvas(shape, scale), density)
    return rgb, RED_CELL / (2 * style.red_radius * scale)


@pytest.fixture(scope="module")
def good() -> Bytes:
    return smear(0, 4)[0]


def saved(folder: Path, rgb: NDArray[np.generic], name: str = "field.png") -> Path:
    Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(folder / name)
    return folder / name


def like(rgb: NDArray[np.generic]) -> Make:
    return lambda folder, good: saved(folder, rgb)


def of(change: Callable[[NDArray[np.float64]], NDArray[np.generic]]) -> Make:
    return lambda folder, good: saved(folder, change(good.astype(float)))


def text_page() -> Bytes:
    page = Image.new("RGB", (560, 420), (255, 255, 250))
    draw = ImageDraw.Draw(page)
    for line in range(24):
        draw.text(
            (20, 10 + 17 * line), "Lorem ipsum dolor sit amet, consectetur " * 2, (20, 20, 60)
        )
    return np.asarray(page)


def histology(seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    style = subject_style(rng)
    codes = ("E",) if seed else ("M",)
    return np.asarray(_patch(codes, rng, style, 272)[0], np.uint8)


def sheet(folder: Path, good: Bytes) -> Path:
    parts = [smear(seed, 1)[0][100:240, 200:340] for seed in range(6)]
    return saved(folder, np.vstack([np.hstack(parts[:3]), np.hstack(parts[3:])]))


RNG = np.random.default_rng(0)
GRADIENT = np.broadcast_to(np.linspace(10, 250, 400)[None, :, None] * [1, 0.8, 0.9], (300, 400, 3))
NO_SMEAR = "does not look like a blood smear"
READ: dict[str, tuple[Make, str]] = {
    "white": (like(np.broadcast_to([255, 254, 255], (300, 400, 3))), "nothing lies on the ground"),
    "empty ground": (like(RNG.normal((235, 228, 220), 2, (300, 400, 3))), "nothing lies"),
    "overexposed": (of(lambda rgb: rgb * 4 + [90, 91, 92]), "lies on|" + NO_SMEAR),
    "far out of focus": (of(lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 25)), NO_SMEAR + "|lies on"),
    "histology": (like(histology(0)), NO_SMEAR),
    "other histology": (like(histology(1)), NO_SMEAR),
    "gradient": (like(GRADIENT), NO_SMEAR),
    "text": (like(text_page()), NO_SMEAR),
    "colour noise": (like(RNG.integers(0, 256, (300, 400, 3))), NO_SMEAR),
    "blots": (like(cv2.resize(RNG.uniform(0, 256, (12, 16, 3)), (400, 300))), NO_SMEAR),
    "negative": (of(lambda rgb: 255 - rgb), NO_SMEAR),
    "fluorescence": (of(lambda rgb: (255 - rgb) * [0.1, 1.6, 0.2] - 20), NO_SMEAR),
    "sheet of crops": (sheet, NO_SMEAR),
}


@pytest.mark.parametrize("kind", READ)
def test_what_is_no_smear_is_told(tmp_path: Path, good: Bytes, kind: str) -> None:
    make, match = READ[kind]
    found = find(make(tmp_path, good))
    assert re.search(match, found.notes[0]), found.notes
    assert found.suitable == (NO_SMEAR not in found.notes[0])
    assert not (found.suitable and found.cells)


def written(data: bytes, name: str) -> Make:
    def make(folder: Path, good: Bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def cut(name: str, share: float, **options: object) -> Make:
    def make(folder: Path, good: Bytes) -> Path:
        if name.endswith(".tif"):
            tifffile.imwrite(folder / name, good, photometric="rgb", **options)
        else:
            saved(folder, good, name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])
        return folder / name

    return make


def tiff(change: Callable[[Bytes], NDArray[np.generic]], **options: object) -> Make:
    def make(folder: Path, good: Bytes) -> Path:
        tifffile.imwrite(folder / "field.tif", change(good), **options)
        return folder / "field.tif"

    return make


def animated(folder: Path, good: Bytes) -> Path:
    pages = [Image.fromarray(good), Image.fromarray(255 - good)]
    pages[0].save(folder / "field.png", save_all=True, append_images=pages[1:])
    return folder / "field.png"


def renamed(folder: Path, good: Bytes) -> Path:
    return saved(folder, good, "field.png").rename(folder / "field.jpg")


def forbidden(folder: Path, good: Bytes) -> Path:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = saved(folder, good)
    path.chmod(0)
    return path


def lost_level(folder: Path, good: Bytes) -> Path:
    """A pyramid whose second level points past the end of the file."""
    path = folder / "field.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(good, subifds=1, tile=(64, 64), photometric="rgb")
        small = np.ascontiguousarray(good[::2, ::2])
        file.write(small, subfiletype=1, tile=(64, 64), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        offsets = file.series[0].levels[1].keyframe.tags["TileOffsets"]
        offsets.overwrite([10**9] * len(offsets.value))
    return path


TILED = {"tile": (64, 64)}
REFUSED: dict[str, tuple[Make, str]] = {
    "black": (like(np.broadcast_to([3, 2, 4], (300, 400, 3))), "black"),
    "underexposed": (of(lambda rgb: rgb * 0.12), "black"),
    "greyscale": (of(lambda rgb: rgb.mean(axis=2)), "greyscale"),
    "two pixels": (like(np.array([[[9, 200, 3], [4, 5, 200]]])), "too small"),
    "two pixels in a TIFF": (tiff(lambda rgb: rgb[:1, :2], photometric="rgb"), "too small"),
    "forty pixels": (lambda f, rgb: saved(f, rgb[:40, :40]), "too small"),
    "small tiled": (tiff(lambda rgb: rgb[:40, :60], photometric="rgb", **TILED), "too small"),
    "cut PNG": (cut("field.png", 0.6), "cut off|damaged"),
    "cut JPEG": (cut("field.jpg", 0.6), "cut off|damaged"),
    "cut TIFF": (cut("field.tif", 0.6), "cut off|damaged"),
    "cut tiled TIFF": (cut("field.tif", 0.6, tile=(64, 64)), "cut off|damaged"),
    "lost level": (lost_level, "cut off|damaged"),
    "animation": (animated, "frames"),
    "pages": (tiff(lambda rgb: np.stack([rgb] * 3), photometric="rgb"), "pages"),
    "grey tiles": (tiff(lambda rgb: rgb[..., 0], **TILED), "greyscale"),
    "wrong extension": (renamed, "PNG"),
    "text called svs": (written(b"hello, I am a slide", "field.svs"), "kind that is not read"),
    "text called png": (written(b"hello, I am a picture", "field.png"), "no|not|header"),
    "empty file": (written(b"", "field.png"), "empty"),
    "empty slide": (written(b"", "field.svs"), "empty"),
    "no permission": (forbidden, "permission"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(
    tmp_path: Path, good: Bytes, kind: str
) -> None:
    make, match = REFUSED[kind]
    path = make(tmp_path, good)
    if path.suffix == ".svs":
        pytest.importorskip("openslide")
    with pytest.raises(ImageError, match=match) as error:
        find(path)
    assert str(path) in error.value.where
    assert error.value.mend


def test_smears_of_every_density_and_colour_are_smears(tmp_path: Path) -> None:
    """From a few red cells to a marrow of blasts with hardly a red cell, in any lamp's colour."""
    for number, (cells, density) in enumerate(((1, 0.9), (1, 0.1), (10, 0.3), (12, 0.0))):
        rgb, _ = smear(10 + number, cells, density)
        for cast in ([1, 1, 1], [0.5, 1, 0.6]) if number in (0, 3) else ([1, 1, 1],):
            found = find(saved(tmp_path, rgb * cast))
            assert found.suitable, found.notes
            assert sum(c.kind in ("white cell", "border") for c in found.cells) >= 0.9 * cells


def test_a_crop_of_one_cell_is_a_small_field(tmp_path: Path) -> None:
    rgb, _ = smear(3, 1)
    (white,) = [c for c in find(saved(tmp_path, rgb)).cells if c.kind == "white cell"]
    side, x, y = 90, int(white.x), int(white.y)
    found = find(saved(tmp_path, rgb[max(y - side, 0) : y + side, max(x - side, 0) : x + side]))
    assert len([c for c in found.cells if c.kind == "white cell"]) <= 1


@pytest.mark.parametrize("factor", [0.4, 0.5, 2.0, 2.5])
@pytest.mark.parametrize("source", ["given", "file"])
def test_a_scale_that_the_red_cells_contradict_is_said(
    tmp_path: Path, factor: float, source: str
) -> None:
    rgb, um = smear(5, 3)
    path = saved(tmp_path, rgb)
    if source == "file":
        path = tmp_path / "told.png"
        Image.fromarray(rgb).save(path, dpi=(25_400 / um / factor,) * 2)
    for told, contradicted in ((factor, True), (1.0, False)):
        if source == "file" and told == 1.0:
            Image.fromarray(rgb).save(path, dpi=(25_400 / um,) * 2)
        found = find(path, um_per_pixel=um * told if source == "given" else None)
        assert any("check the scale" in note for note in found.notes) == contradicted


@pytest.mark.parametrize("factor", [0.3, 0.45, 0.6, 1.0, 1.7, 2.5])
def test_red_cells_win_over_a_file_that_they_contradict_by_a_factor_of_two(
    tmp_path: Path, factor: float
) -> None:
    rgb, um = smear(5, 3)
    own = find(saved(tmp_path, rgb))
    path = tmp_path / "told.png"
    Image.fromarray(rgb).save(path, dpi=(25_400 / um / factor,) * 2)
    found = find(path)
    assert own.ruler is not None
    assert found.ruler is not None
    wins = not 0.5 <= factor <= 2
    assert found.ruler.source == ("red cells" if wins else "metadata")
    if wins:
        assert found.cells == own.cells
        (note,) = found.notes
        assert f"at the {um * factor:.3g} micrometres per pixel that are told by the file" in note
        assert note.endswith("check the scale (--mpp); the red cells are believed")


def test_no_scale_makes_the_finder_see_more_than_is_there(tmp_path: Path) -> None:
    path = saved(tmp_path, smear(5, 3)[0])
    assert find(path, um_per_pixel=SCALES[1]).downsample == FINEST


def test_the_command_says_it(tmp_path: Path, good: Bytes) -> None:
    (tmp_path / "fields").mkdir()
    saved(tmp_path / "fields", histology(0), "tissue.png")
    done = CliRunner().invoke(
        app, ["find", str(tmp_path / "fields"), "--out", str(tmp_path / "a.json")]
    )
    assert done.exit_code == 0
    assert NO_SMEAR in done.output.replace("\n", " ")
    empty = tmp_path / "none"
    empty.mkdir()
    done = CliRunner().invoke(app, ["find", str(empty), "--out", str(tmp_path / "b.json")])
    assert isinstance(done.exception, DataError)


def test_a_differential_leaves_out_what_is_no_smear(
    tmp_path: Path, support: DecisionSupport
) -> None:
    tissue = saved(tmp_path, histology(0), "tissue.png")
    with pytest.raises(ImageError, match=NO_SMEAR):
        support.count([tissue])
    count = support.count([tissue, saved(tmp_path, smear(0, 4)[0], "smear.png")])
    assert [field.name for field in count.fields_left_out] == ["tissue.png"]
    assert NO_SMEAR in count.fields_left_out[0].no_smear
    asked = support.count([tissue, saved(tmp_path, smear(0, 4)[0], "smear.png")], every_field=True)
    assert asked.fields_left_out == ()
    assert {cell.field for cell in count.cells} == {"smear.png"}


@pytest.mark.real
def test_tissue_is_no_smear_and_smears_are(real_data: Path) -> None:
    """Every tenth of them; all are measured in docs/find.md."""

    def some(pattern: str, every: int) -> list[FoundField]:
        return [find(path) for path in sorted(real_data.glob(pattern))[::every]]

    assert [f.path for f in some("nct_crc_he/*/*", 7) if f.suitable] == []
    for smears in ("bccd/JPEGImages/*.jpg", "chula/fields/*.jpg", "aslan/**/*.png"):
        assert [f.path for f in some(smears, 60) if not f.suitable] == []
