"""The finder: what it learns from, what it finds, and how it is written."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.cli.main import app
from cellkin.core.errors import (
    CellkinError,
    DataError,
    ImageError,
    LabelError,
    OutputError,
    RecipeError,
    WeightsError,
)
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import PlacedCell, draw_field
from cellkin.smear import jobs, searching
from cellkin.smear.field import Field
from cellkin.smear.finding import find, find_all
from cellkin.smear.found import KINDS, Cell
from cellkin.smear.listing import fields_inside
from cellkin.smear.network import FinderNetwork
from cellkin.smear.ruler import RED_CELL
from cellkin.smear.scenes import CutCell, Marked, Painter, Picture
from cellkin.smear.seeing import CHANNELS
from cellkin.smear.training import FinderTraining, loss_of, targets_of, teach
from cellkin.smear.varying import SceneOptions, vary
from cellkin.smear.writing import _names, to_geojson, to_json, write_crops, write_geojson

Bytes = NDArray[np.uint8]


def drawn(
    seed: int, scale: float, shape: tuple[int, int], cells: int
) -> tuple[Bytes, tuple[PlacedCell, ...], float]:
    """A field of touching lymphoblasts, where they are, and micrometres per pixel by red cells."""
    rng = np.random.default_rng([9, seed])
    style = subject_style(rng).in_field(rng, 1.0)
    kinds = ["lymphoblast"] * (cells - 2) + ["neutrophil", "lymphocyte"]
    rgb, _, placed = draw_field(kinds, rng, style, Canvas(shape, scale), 0.8)
    return rgb, placed, RED_CELL / (2 * style.red_radius * scale)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[PlacedCell, ...], float]:
    rgb, placed, um = drawn(0, 6.0, (620, 800), 16)
    path = tmp_path_factory.mktemp("field") / "blasts.png"
    Image.fromarray(rgb).save(path)
    return path, placed, um


def hits(cells: tuple[Cell, ...], placed: tuple[PlacedCell, ...]) -> int:
    """Drawn cells in whose box the middle of a found white cell lies that no other has taken."""
    middles = [(c.x, c.y) for c in cells if c.kind in ("white cell", "border")]
    found = 0
    for cell in placed:
        left, top, right, bottom = cell.box
        inside = [m for m in middles if left <= m[0] <= right and top <= m[1] <= bottom]
        if inside:
            x, y = (left + right) / 2, (top + bottom) / 2
            middles.remove(min(inside, key=lambda m: (m[0] - x) ** 2 + (m[1] - y) ** 2))
            found += 1
    return found


# --- what is found ---------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "scale"), [(1, 4.0), (2, 7.0), (3, 13.0)])
def test_touching_lymphoblasts_are_found_at_any_magnification(
    tmp_path: Path, seed: int, scale: float
) -> None:
    shape = (int(90 * scale), int(120 * scale))
    rgb, placed, _ = drawn(seed, scale, shape, 20)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    found = find(tmp_path / "a.png")
    whites = [c for c in found.cells if c.kind in ("white cell", "border")]
    assert hits(found.cells, placed) >= 19
    assert len(whites) <= 21


def test_the_record_of_a_field(field: tuple[Path, tuple[PlacedCell, ...], float]) -> None:
    path, _, um = field
    written = json.loads(json.dumps(to_json([find(path)])))
    (one,) = written["fields"]
    assert (one["field"], one["width"], one["height"]) == (str(path), 800, 620)
    assert one["um_per_pixel"] == pytest.approx(um, rel=0.05)
    assert one["ruler"] == "red cells"
    for cell in one["cells"]:
        assert {"x", "y", "left", "top", "right", "bottom", "kind", "score"} == set(cell)
        assert 0 <= cell["left"] < cell["right"] <= 800
        assert 0 <= cell["top"] < cell["bottom"] <= 620
        assert cell["kind"] in KINDS
        assert 0 <= cell["score"] <= 1


def test_tiles_do_not_change_what_is_found(
    field: tuple[Path, tuple[PlacedCell, ...], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find(field[0])
    monkeypatch.setattr(searching, "TILE", 224)
    parts = find(field[0])
    assert len(whole.cells) > 10
    kinds = [[c.kind for c in f.cells if c.score > 0.5] for f in (whole, parts)]
    assert abs(len(kinds[0]) - len(kinds[1])) <= 1
    assert hits(parts.cells, field[1]) >= hits(whole.cells, field[1]) - 1


def test_a_given_scale_is_believed_and_an_impossible_one_refused(
    field: tuple[Path, tuple[PlacedCell, ...], float],
) -> None:
    path, placed, um = field
    found = find(path, um_per_pixel=um * 1.1)
    assert found.ruler is not None
    assert (found.ruler.source, found.ruler.um_per_pixel) == ("given", um * 1.1)
    assert hits(found.cells, placed) >= len(placed) - 1
    for wrong in (0.0, -1.0, 50.0, float("nan")):
        with pytest.raises(RecipeError):
            find(path, um_per_pixel=wrong)


def test_cells_that_the_edge_cuts_are_border_cells(tmp_path: Path) -> None:
    rgb, placed, _ = drawn(4, 7.0, (630, 840), 12)
    cell = placed[0]
    left, top, right, bottom = cell.box
    cut = rgb[:, (left + right) // 2 :] if cell.x < 420 else rgb[:, : (left + right) // 2]
    Image.fromarray(np.ascontiguousarray(cut)).save(tmp_path / "cut.png")
    found = find(tmp_path / "cut.png")
    at_edge = [
        c for c in found.cells if min(c.left, found.width - c.right) < 1 and top < c.y < bottom
    ]
    assert [c.kind for c in at_edge] == ["border"]


def test_outlines_lie_around_their_cells(
    field: tuple[Path, tuple[PlacedCell, ...], float],
) -> None:
    found = find(field[0])
    for cell, outline in zip(found.cells, found.outlines, strict=True):
        if cell.kind != "white cell":
            continue
        assert outline.body is not None
        assert outline.nucleus
        for points in (outline.body, np.concatenate(outline.nucleus)):
            middle = (points.min(axis=0) + points.max(axis=0)) / 2
            assert np.hypot(*(middle - [cell.x, cell.y])) < 0.35 * (cell.right - cell.left)
        assert np.ptp(outline.nucleus[0], axis=0).max() <= np.ptp(outline.body, axis=0).max() + 1


def test_fields_of_one_size_share_a_ruler(tmp_path: Path) -> None:
    """Small fields have too few red cells each; three of them have enough."""
    rgb, _, um = drawn(20, 7.0, (420, 840), 3)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, left in zip(paths, (0, 280, 560), strict=True):
        Image.fromarray(np.ascontiguousarray(rgb[:, left : left + 280])).save(path)
    assert find(paths[0]).ruler is None
    rulers = [f.ruler for f in find_all(paths)]
    assert sum(r is not None for r in rulers) >= 2
    for ruler in rulers:
        if ruler is not None:
            assert ruler.fields == 3
            assert ruler.um_per_pixel == pytest.approx(um, rel=0.06)


def painted(kind: str, rng: np.random.Generator) -> Bytes:
    shape = (300, 400, 3)
    if kind == "noise":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if kind == "black":
        return np.clip(rng.integers(0, 4, shape), 0, 255).astype(np.uint8)
    if kind == "ground":
        return (rng.normal((235, 228, 220), 2, shape)).clip(0, 255).astype(np.uint8)
    return np.broadcast_to(np.linspace(10, 250, 400)[None, :, None] * [1, 0.8, 0.9], shape).astype(
        np.uint8
    )


@pytest.mark.parametrize("kind", ["noise", "ground", "ramp"])
def test_fields_without_cells_have_none(
    tmp_path: Path, kind: str, rng: np.random.Generator
) -> None:
    Image.fromarray(painted(kind, rng)).save(tmp_path / "a.png")
    found = find(tmp_path / "a.png")
    assert [c for c in found.cells if c.kind == "white cell"] == []
    assert found.ruler is None


def test_a_black_field_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    Image.fromarray(painted("black", rng)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="black"):
        find(tmp_path / "a.png")


def test_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        find(tmp_path / "a.png")


def test_all_unreadable_fields_are_named(
    field: tuple[Path, tuple[PlacedCell, ...], float], tmp_path: Path
) -> None:
    bad = [tmp_path / "first.png", tmp_path / "second.tif"]
    for path in bad:
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="2 fields cannot be read") as error:
        find_all([bad[0], field[0], bad[1]])
    assert all(str(path) in error.value.where for path in bad)


def test_a_slide_is_searched_tile_by_tile(tmp_path: Path) -> None:
    """A slide of 12,000 x 9,000 pixels, empty but for one drawn field; its scale is in the file."""
    rgb, placed, um = drawn(6, 6.0, (512, 768), 10)
    slide = np.full((9000, 12000, 3), rgb.reshape(-1, 3).max(axis=0), np.uint8)
    slide[4096 : 4096 + 512, 6144 : 6144 + 768] = rgb
    path = tmp_path / "slide.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": um, "PhysicalSizeXUnit": "µm"}
    tile: dict[str, Any] = {"tile": (512, 512), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, slide, metadata=metadata, **tile)
    del slide
    found = find(path)
    assert found.ruler is not None
    assert found.ruler.source == "metadata"
    moved = tuple(
        PlacedCell(
            c.kind,
            c.x + 6144,
            c.y + 4096,
            (c.box[0] + 6144, c.box[1] + 4096, c.box[2] + 6144, c.box[3] + 4096),
        )
        for c in placed
    )
    whites = [c for c in found.cells if c.kind in ("white cell", "border")]
    assert hits(found.cells, moved) >= 9
    assert len(whites) <= 11


# --- how it is written -----------------------------------------------------------------------


def test_geojson_has_a_closed_ring_for_every_cell(
    field: tuple[Path, tuple[PlacedCell, ...], float], tmp_path: Path
) -> None:
    found = find(field[0])
    written = to_geojson(found)
    assert written["type"] == "FeatureCollection"
    assert len(written["features"]) == len(found.cells)
    for feature, cell in zip(written["features"], found.cells, strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        xs = [x for x, _ in ring]
        assert cell.left - 12 < min(xs) < cell.x < max(xs) < cell.right + 12
        assert feature["properties"]["classification"]["name"] == cell.kind
    (path,) = write_geojson([found], tmp_path)
    assert json.loads(path.read_text()) == written


def test_crops_are_a_data_set_that_waits_for_its_labels(
    field: tuple[Path, tuple[PlacedCell, ...], float], tmp_path: Path
) -> None:
    found = find(field[0])
    folder = write_crops([found], tmp_path / "crops")
    whites = [c for c in found.cells if c.kind == "white cell"]
    with pytest.raises(LabelError, match=r"label of blasts-001\.png is empty") as refused:
        datasets.open(folder)
    assert f"decide ATLAS {folder}" in refused.value.mend
    head, *rows = (folder / "labels.csv").read_text().splitlines()
    assert len(rows) == len(whites)
    called = [
        row.replace(",,", f",{('lymphoblast', 'normal')[k % 2]},", 1) for k, row in enumerate(rows)
    ]
    (folder / "labels.csv").write_text("\n".join([head, *called]))
    data = datasets.open(folder)
    assert len(data) == len(whites)
    assert {s.group for s in data} == {"blasts"}
    with Field(tmp_path / "crops" / "blasts-001.png") as crop:
        side = max(whites[0].right - whites[0].left, whites[0].bottom - whites[0].top)
        assert crop.width == crop.height == pytest.approx(1.6 * side, abs=1)
        assert np.percentile(crop.read(), 95) == pytest.approx(240, abs=6)  # one white
        assert found.ruler is not None
        assert crop.um_per_pixel == pytest.approx(found.ruler.um_per_pixel, rel=1e-4)


# --- what it learns from ---------------------------------------------------------------------


def library(rng: np.random.Generator) -> Painter:
    ground = np.full((160, 200, 3), 240, np.uint8)
    ground[40:80, 50:100] = (120, 60, 140)
    box = np.array([[50, 40, 100, 80]], np.float32)
    unknown = np.array([[150, 100, 190, 150]], np.float32)
    marked = Marked(ground, 0.2, box, np.array([0]), unknown, (True, True, False, True, False))
    cell = np.full((50, 50, 3), (90, 40, 130), np.uint8)
    alpha = np.zeros((50, 50), np.uint8)
    alpha[5:45, 5:45] = 255
    cut = CutCell(cell, alpha, 0.2, (0, 0, 50, 50))
    return Painter({"a": [marked]}, {"b": [cut]}, {"a": 1.0, "cut b": 1.0}, SceneOptions(size=96))


def test_pictures_depend_on_their_random_numbers_alone(rng: np.random.Generator) -> None:
    painter = library(rng)
    first, again = (painter.paint(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert any(
        not np.array_equal(painter.paint(np.random.default_rng(k)).rgb, first.rgb) for k in (4, 5)
    )


def test_marks_lie_where_cells_are(rng: np.random.Generator) -> None:
    """Before stain and lens vary, what is inside a box is darker than the ground."""
    painter = library(rng)
    plain = Painter(
        painter.fields,
        painter.cells,
        {"a": 1.0, "cut b": 1.0},
        SceneOptions(size=96, plain=1.0),
    )
    seen = 0
    for seed in range(20):
        picture = plain.paint(np.random.default_rng(seed))
        assert picture.known.shape == (len(CHANNELS), 24, 24)
        assert not picture.known[CHANNELS.index("platelet")].all()
        for (left, top, right, bottom), kind in zip(picture.boxes, picture.kinds, strict=True):
            assert 0 <= left < right <= 96
            assert 0 <= top < bottom <= 96
            if CHANNELS[kind] == "white cell":
                x, y = int((left + right) / 2), int((top + bottom) / 2)
                assert picture.rgb[min(y, 95), min(x, 95)].mean() < 215
                seen += 1
    assert seen > 10


def test_varied_pictures_keep_their_shape(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for seed in range(20):
        other = vary(rgb, np.random.default_rng(seed), SceneOptions(size=64))
        assert other.shape == rgb.shape
        assert other.dtype == np.uint8


def test_targets_against_a_loop() -> None:
    boxes = np.array([[8, 8, 40, 32], [40, 40, 60, 64]], np.float32)
    picture = Picture(
        np.zeros((64, 64, 3), np.uint8), boxes, np.array([0, 4]), np.ones((5, 16, 16), bool)
    )
    heat, _, places, shapes = targets_of(picture)
    assert places == [(5, 6), (13, 12)]
    np.testing.assert_allclose(shapes[0], [0, 0, np.log(8), np.log(6)], rtol=1e-6)
    np.testing.assert_allclose(shapes[1], [0.5, 0, np.log(5), np.log(6)], rtol=1e-6)
    for row in range(16):
        for column in range(16):
            spread = (0.11 * 8, 0.11 * 6)
            wanted = np.exp(
                -((column - 6) ** 2) / 2 / spread[0] ** 2 - (row - 5) ** 2 / 2 / spread[1] ** 2
            )
            assert heat[0, row, column] == pytest.approx(wanted, abs=1e-6)
    assert heat[1:4].max() == 0


def test_nothing_is_asked_of_places_of_which_nothing_is_known() -> None:
    torch.manual_seed(0)
    network = FinderNetwork().eval()
    nothing = np.zeros((0, 4), np.float32)
    rgb = np.full((64, 64, 3), 200, np.uint8)
    known = np.zeros((5, 16, 16), bool)
    blind = Picture(rgb, nothing, np.zeros(0, int), known)
    assert loss_of(network, [blind]).item() == 0
    seeing = Picture(rgb, nothing, np.zeros(0, int), ~known)
    assert loss_of(network, [seeing]).item() > 0


def test_a_stopped_training_ends_as_an_undisturbed_one(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    painter = library(rng)
    options = FinderTraining(steps=4, batch=2, kept=2)
    straight = teach(painter, options, tmp_path / "a.pt")

    def stop(task: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(painter, options, tmp_path / "b.pt", progress=stop)
    resumed = teach(painter, options, tmp_path / "b.pt")
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = FinderNetwork().eval()
    network.save(tmp_path / "a.safetensors")
    again = FinderNetwork.open(tmp_path / "a.safetensors")
    x = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        for one, other in zip(network(x), again(x), strict=True):
            assert torch.allclose(one, other, atol=0.05)
    from cellkin.core.artifacts import write_arrays

    write_arrays(tmp_path / "b.safetensors", {"other": np.zeros(3)})
    with pytest.raises(WeightsError):
        FinderNetwork.open(tmp_path / "b.safetensors")
    with pytest.raises(CellkinError):
        FinderNetwork.open(tmp_path / "none.safetensors")


def test_the_packaged_finder_is_small_and_has_a_card() -> None:
    assert jobs.WEIGHTS.stat().st_size < 8 * 2**20
    card = jobs.WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    for needed in ("CC BY", "MIT", "BCCD", "C-NMC", "PBC", "Chula", "recall", "precision"):
        assert needed in card


# --- real fields, held back from its training ------------------------------------------------


def held_back(name: str) -> bool:
    """As `tools/finder/library.py` parts them."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0


@pytest.mark.real
def test_white_cells_of_bccd_are_found(real_data: Path) -> None:
    there = found = said = 0
    names = sorted(p.stem for p in (real_data / "bccd" / "Annotations").glob("*.xml"))
    for name in [n for n in names if held_back(n)][:20]:
        tree = ElementTree.parse(real_data / "bccd" / "Annotations" / f"{name}.xml")
        boxes = [
            tuple(int(v.text or 0) for v in node.find("bndbox") or ())
            for node in tree.getroot().iter("object")
            if node.findtext("name") == "WBC"
        ]
        placed = tuple(PlacedCell("", 0, 0, box) for box in boxes)  # type: ignore[arg-type]
        cells = find(real_data / "bccd" / "JPEGImages" / f"{name}.jpg").cells
        there += len(boxes)
        found += hits(cells, placed)
        said += sum(c.kind in ("white cell", "border") for c in cells)
    assert there >= 20
    assert found >= 0.98 * there
    assert found >= 0.9 * said


@pytest.mark.real
def test_marked_cells_of_unseen_slides_of_chula_are_found(real_data: Path) -> None:
    with (real_data / "chula" / "cells" / "labels.csv").open(encoding="utf-8") as file:
        slides = {
            Path(row["file"]).stem.rsplit("_", 1)[0]: row["group"] for row in csv.DictReader(file)
        }
    there = found = 0
    with (real_data / "chula" / "boxes.csv").open(encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if held_back(slides.get(Path(row["field"]).stem, ""))
        ]
    for row in rows[::2]:
        x, y, w, h = (float(row[k]) for k in ("cx", "cy", "w", "h"))
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        box = tuple(round(v * side) for v, side in zip(corners, (1440, 900) * 2, strict=True))
        cells = find(real_data / "chula" / row["field"]).cells
        there += 1
        found += hits(cells, (PlacedCell("", 0, 0, box),))  # type: ignore[arg-type]
    assert there >= 10
    assert found >= there - 1


# --- the verb --------------------------------------------------------------------------------


def test_the_verb_writes_what_was_found(
    field: tuple[Path, tuple[PlacedCell, ...], float], tmp_path: Path
) -> None:
    folder = tmp_path / "fields"
    folder.mkdir()
    (folder / "a.png").write_bytes(field[0].read_bytes())
    (folder / "notes.txt").write_text("no field")
    out, crops, outlines = tmp_path / "cells.json", tmp_path / "crops", tmp_path / "qupath"
    words = ["--out", str(out), "--crops", str(crops), "--geojson", str(outlines), "--json"]
    done = CliRunner().invoke(app, ["find", str(folder), *words])
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["fields"]
    assert one["field"] == str(folder / "a.png")
    assert json.loads(out.read_text())["fields"][0]["cells"] == one["cells"]
    whites = [cell for cell in one["cells"] if cell["kind"] == "white cell"]
    assert len(list(crops.glob("*.png"))) == len(whites)
    assert [p.name for p in outlines.iterdir()] == ["a.geojson"]
    again = CliRunner().invoke(app, ["find", str(folder), "--out", str(out)])
    assert isinstance(again.exception, OutputError)


@pytest.mark.parametrize("given", ["nothing", "empty"])
def test_the_verb_refuses_what_holds_no_fields(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(
        app, ["find", str(tmp_path / given), "--out", str(tmp_path / "a.json")]
    )
    assert isinstance(done.exception, DataError)


@pytest.mark.parametrize(
    "paths",
    [
        ["x/a.jpg", "y/a.jpg", "z/0002-a.jpg"],
        ["x/a.jpg", "0001-a.jpg", "0002-a.jpg", "0003-a.jpg", "y/a.jpg"],
        ["x/a b.jpg", "x/a_b.jpg", "x/a?b.jpg"],
        ["x/A.jpg", "y/a.jpg", "z/0001-A.jpg", "z/0001-a.jpg"],
    ],
)
def test_every_field_has_a_name_of_its_own(paths: list[str]) -> None:
    names = _names([Path(path) for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)


def refused(*words: object) -> CellkinError:
    """What the command says before it searches: nothing is found in these fields."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellkin.smear.finding.searched", None)
        done = CliRunner().invoke(app, ["find", *map(str, words)])
    assert isinstance(done.exception, CellkinError), done.exception
    return done.exception


@pytest.mark.parametrize("how", ["same", "dots", "link", "folder"])
def test_a_field_counts_once(tmp_path: Path, how: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (80, 80)).save(tmp_path / "in" / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "in" / "a.png")
    other = {"same": "in/a.png", "dots": "in/../in/a.png", "link": "link.png", "folder": "in"}[how]
    error = refused(tmp_path / "in" / "a.png", tmp_path / other, "--out", tmp_path / "c.json")
    assert "given twice" in error.what


def test_what_is_there_is_not_written_over_and_told_before_the_search(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png", "b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 80)).save(tmp_path / "in" / name)
    words = (tmp_path / "in", "--out", tmp_path / "c.json")
    for made in ("b.geojson", "0003-a.geojson"):
        outlines = tmp_path / made[:1]
        outlines.mkdir()
        (outlines / made).write_text("by hand")
        error = refused(*words, "--geojson", outlines)
        assert (error.where, "--geojson" in error.mend) == (str(outlines / made), True)
        assert (outlines / made).read_text() == "by hand"
        error = refused(*words, "--crops", outlines)
        assert "--crops" in error.mend


@pytest.mark.parametrize("option", ["--crops", "--geojson"])
@pytest.mark.parametrize("place", ["file/x", "file/x/y", "/proc/x"])
def test_a_place_that_cannot_be_written_is_told_before_the_search(
    tmp_path: Path, option: str, place: str
) -> None:
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    out = tmp_path / "c.json"
    error = refused(tmp_path / "a.png", "--out", out, option, tmp_path / place)
    assert isinstance(error, OutputError)
    assert error.mend == f"choose another {option}"


def test_outlines_made_by_hand_stay(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("by hand")
    Image.new("RGB", (80, 80), (240, 235, 240)).save(tmp_path / "a.png")
    found = find(tmp_path / "a.png")
    with pytest.raises(OutputError, match="there already"):
        write_geojson([found], tmp_path)
    write_geojson([found], tmp_path, overwrite=True)
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


def test_masks_below_a_folder_and_what_macos_adds_are_no_fields(tmp_path: Path) -> None:
    inside = tmp_path / "masks" / "lab"
    for name in ("a.png", "masks/a.png", "sub/masks/a.png", "._a.png", "sub/._b.png", "sub/b.png"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(b"")
    assert fields_inside(inside) == [inside / "a.png", inside / "sub" / "b.png"]
