"""Crops are found where they were cut, in every pose, and never where they were not."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.cli.main import app
from cellkin.core.arrays import Bytes, Singles
from cellkin.core.errors import DataError, ImageError, LayoutError, OutputError, RecipeError
from cellkin.datasets.locating.located import write_labels
from cellkin.datasets.locating.locating import FOUND, locate
from cellkin.datasets.locating.matching import (
    ORIENTATIONS,
    Hit,
    Piece,
    Poses,
    search_field,
    upright,
)
from cellkin.datasets.locating.notebook import Notebook
from cellkin.drawing import scene
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.drawn import subject_style
from cellkin.drawing.scene import WHITE_CELLS

WIDTH, HEIGHT, SIDE = 520, 400, 129
WIDE = Poses(tuple(np.geomspace(0.8, 1.25, 13).tolist()), ORIENTATIONS, 16)


def draw_field(seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    kinds = [sorted(WHITE_CELLS)[i] for i in rng.integers(len(WHITE_CELLS), size=4)]
    canvas = Canvas((HEIGHT, WIDTH), 7)
    return scene.draw_field(kinds, rng, subject_style(rng), canvas)[0]


FIELDS = {f"F{seed}": draw_field(seed) for seed in range(4)}
STRANGERS = [draw_field(seed) for seed in (100, 101)]


def pose(part: Bytes, scale: float, rotation: int, mirrored: bool) -> Bytes:
    size = tuple(round(n * scale) for n in part.shape[1::-1])
    made = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    made = made[:, ::-1] if mirrored else made
    return np.ascontiguousarray(np.rot90(made, rotation // 90))


def coded(rgb: Bytes, quality: int = 85) -> Bytes:
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def brighter(rgb: Bytes) -> Bytes:
    return np.clip(1.06 * rgb.astype(np.float32) - 6, 0, 255).astype(np.uint8)


def green(rgb: Bytes) -> Singles:
    return np.ascontiguousarray(rgb[..., 1], np.float32)


def off_by(hit: Hit, box: tuple[int, int, int, int]) -> float:
    told = (hit.left, hit.top, hit.right, hit.bottom)
    return max(abs(a - b) for a, b in zip(told, box, strict=True))


def box_of(rng: np.random.Generator, side: int) -> tuple[int, int, int, int]:
    left, top = int(rng.integers(0, WIDTH - side)), int(rng.integers(0, HEIGHT - side))
    return left, top, left + side, top + side


def part(field: Bytes, box: tuple[int, int, int, int]) -> Bytes:
    return field[box[1] : box[3], box[0] : box[2]]


# --- one field -------------------------------------------------------------------------------


def test_crops_of_every_pose_are_found_within_two_pixels(rng: np.random.Generator) -> None:
    """All 8 orientations, scales over the whole range, re-encoded and brightened; and their
    detail agrees nowhere else.
    """
    pieces, truth = [], {}
    scales = (0.8, 0.87, 0.95, 1.0, 1.04, 1.13, 1.25)
    for at, ((name, field), orientation) in enumerate(
        itertools.product(FIELDS.items(), ORIENTATIONS)
    ):
        scale = scales[at % len(scales)]
        box = box_of(rng, round(SIDE / scale))
        crop = coded(brighter(pose(part(field, box), scale, *orientation)))
        truth[str(at)] = (name, box, scale, orientation)
        pieces.append(Piece(str(at), green(crop)))
    right, wrong = 0, []
    for name, field in FIELDS.items():
        for hit in search_field(green(field), pieces, WIDE):
            home, box, scale, orientation = truth[hit.piece]
            if home != name:
                wrong.append(hit.score)
                continue
            right += hit.score >= FOUND and off_by(hit, box) <= 2
            assert (hit.rotation, hit.mirrored) == orientation
            assert hit.scale == pytest.approx(scale, rel=0.015)
    assert right == len(pieces)
    assert max(wrong, default=0) < FOUND


def test_crops_of_other_fields_agree_with_none(rng: np.random.Generator) -> None:
    pieces = [
        Piece(f"{i}", green(part(stranger, box_of(rng, SIDE))))
        for i in range(8)
        for stranger in STRANGERS
    ]
    for field in FIELDS.values():
        assert all(hit.score < FOUND for hit in search_field(green(field), pieces, WIDE))


def test_a_crop_as_it_is_comes_back_to_a_tenth_of_a_pixel(rng: np.random.Generator) -> None:
    box = box_of(rng, SIDE)
    (hit,) = search_field(
        green(FIELDS["F1"]), [Piece("x", green(part(FIELDS["F1"], box)))], Poses()
    )
    assert off_by(hit, box) < 0.1
    assert (hit.scale, hit.rotation, hit.mirrored) == (pytest.approx(1, abs=1e-3), 0, False)
    assert hit.score > 0.999


def test_crops_at_the_border_and_of_any_shape_are_found() -> None:
    boxes = [(0, 0, 120, 120), (WIDTH - 130, HEIGHT - 90, WIDTH, HEIGHT), (0, 210, 90, 400)]
    field = FIELDS["F2"]
    pieces = [Piece(str(i), green(pose(part(field, b), 1, 90, True))) for i, b in enumerate(boxes)]
    hits = search_field(green(field), pieces, Poses((1.0,), ORIENTATIONS, 16))
    assert len(hits) == len(boxes)
    for hit in hits:
        assert off_by(hit, boxes[int(hit.piece)]) < 1
        assert min(hit.left, hit.top) >= 0
        assert hit.right <= WIDTH
        assert hit.bottom <= HEIGHT


def test_flat_pieces_and_pieces_larger_than_the_field_are_nowhere() -> None:
    flat = np.full((SIDE, SIDE), 200, np.float32)
    large = np.tile(green(FIELDS["F0"]), (2, 2))
    field = green(FIELDS["F0"])
    assert search_field(field, [Piece("flat", flat)], WIDE) == []
    assert all(hit.score < FOUND for hit in search_field(field, [Piece("large", large)], Poses()))
    assert search_field(flat, [Piece("cell", field[:SIDE, :SIDE])], WIDE) == []


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_upright_undoes_a_pose(orientation: tuple[int, bool], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    turned = pose(image, 1.0, *orientation)
    assert np.array_equal(upright(turned.astype(np.float32), orientation), image)


# --- folders ---------------------------------------------------------------------------------


def save(path: Path, rgb: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three fields, of which two overlap; crops of two classes, one of them a stranger's."""
    crops, fields = tmp_path / "crops", tmp_path / "fields"
    save(fields / "a.png", FIELDS["F0"][:, :400])
    save(fields / "b.png", FIELDS["F1"])
    save(fields / "c.png", coded(FIELDS["F0"][:, 100:], 92))
    save(crops / "lymphocyte" / "a1.png", part(FIELDS["F0"], (10, 20, 139, 149)))
    save(crops / "lymphocyte" / "ac.png", part(FIELDS["F0"], (230, 200, 359, 329)))
    save(
        crops / "neutrophil" / "b1.png",
        pose(part(FIELDS["F1"], (30, 40, 159, 169)), 1.0, 270, True),
    )
    save(crops / "neutrophil" / "x1.png", part(STRANGERS[0], (30, 40, 159, 169)))
    return crops, fields


def test_folders_to_places_groups_and_labels(folders: tuple[Path, Path], tmp_path: Path) -> None:
    crops, fields = folders
    steps: list[tuple[str, int, int]] = []
    located = locate(crops, fields, scales=(1, 1), progress=lambda *step: steps.append(step))
    both = "a.png+c.png"
    assert located.groups == {"a.png": both, "b.png": "b.png", "c.png": both}
    by_name = {place.crop.split("/")[1]: place for place in located.crops}
    assert by_name["a1.png"].field == "a.png"
    assert by_name["ac.png"].field in ("a.png", "c.png")
    assert {by_name[n].group for n in ("a1.png", "ac.png")} == {both}
    assert (by_name["b1.png"].field, by_name["b1.png"].hit.rotation) == ("b.png", 270)  # type: ignore[union-attr]
    assert (by_name["x1.png"].state, by_name["x1.png"].field) == ("none", None)
    assert located.counts() == {"found": 3, "none": 1, "ambiguous": 0}
    assert ("searching fields for crops as they are", 3, 3) in steps
    file = write_labels(located, datasets.open(crops), crops / "labels.csv")
    again = datasets.open(file.parent)
    groups = {sample.id.split("/")[1]: sample.group for sample in again.samples}
    assert groups["a1.png"] == groups["ac.png"] == both
    assert len(set(groups.values())) == 3
    assert {s.label for s in again.samples} == {"lymphocyte", "neutrophil"}
    fewer = replace(located, crops=located.crops[1:])
    with pytest.raises(DataError, match="not among the crops"):
        write_labels(fewer, again, tmp_path / "other.csv")


def test_the_same_picture_in_two_fields_that_do_not_overlap_is_ambiguous(tmp_path: Path) -> None:
    """A part pasted into another field is no overlap: what lies around it differs."""
    pasted = FIELDS["F1"].copy()
    cell = part(FIELDS["F0"], (150, 20, 240, 110))
    pasted[150:240, 270:360] = cell
    save(tmp_path / "fields" / "a.png", FIELDS["F0"])
    save(tmp_path / "fields" / "b.png", pasted)
    save(tmp_path / "crops" / "one.png", cell)
    located = locate(tmp_path / "crops", tmp_path / "fields", scales=(1, 1), all_orientations=False)
    assert [place.state for place in located.crops] == ["ambiguous"]
    assert set(located.groups.values()) == {"a.png", "b.png"}


def test_a_stopped_search_goes_on_with_the_same_result(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    crops, fields = folders
    notebook = tmp_path / "places.csv.partial"

    def stop(task: str, done: int, total: int) -> None:
        if task.startswith("searching") and done == 2:
            raise KeyboardInterrupt

    kwargs = {"scales": (1, 1), "all_orientations": False, "notebook": notebook}
    with pytest.raises(KeyboardInterrupt):
        locate(crops, fields, progress=stop, **kwargs)  # type: ignore[arg-type]
    kept = notebook.read_text().splitlines()
    assert [json.loads(line)["field"] for line in kept[1:]] == ["a.png", "b.png"]
    notebook.write_text("\n".join([*kept, '{"how": "as th']))  # and a line that was cut off
    (fields / "a.png").write_bytes((fields / "a.png").read_bytes())
    resumed = locate(crops, fields, **kwargs)  # type: ignore[arg-type]
    assert not notebook.exists()
    assert resumed == locate(crops, fields, scales=(1, 1), all_orientations=False)


def test_a_notebook_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    Notebook(path, {"crops": 1})
    with pytest.raises(OutputError, match="something else"):
        Notebook(path, {"crops": 2})
    path.write_text("crop,field\n")
    with pytest.raises(OutputError, match="something else"):
        Notebook(path, {"crops": 1})


def test_faults_of_folders_and_scales(folders: tuple[Path, Path], tmp_path: Path) -> None:
    crops, fields = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="empty"):
        locate(crops, tmp_path / "empty")
    with pytest.raises(LayoutError):
        locate(tmp_path / "missing", fields)
    for scales in ((1.25, 0.8), (0.1, 1), (1, 9)):
        with pytest.raises(RecipeError, match="scales"):
            locate(crops, fields, scales=scales)
    (fields / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        locate(crops, fields)
    assert "b.png" in caught.value.where


# --- the verb --------------------------------------------------------------------------------


def test_the_verb_writes_the_table_and_labels(folders: tuple[Path, Path], tmp_path: Path) -> None:
    crops, fields = folders
    out, labels = tmp_path / "places.csv", tmp_path / "labels.csv"
    words = [str(crops), str(fields), "--out", str(out), "--labels", str(labels), "--scales", "1"]
    done = CliRunner().invoke(app, ["locate", *words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert "crops without a field: 1" in done.stderr
    with out.open() as file:
        table = {row["crop"]: row for row in csv.DictReader(file)}
    assert told["counts"] == {"found": 3, "none": 1, "ambiguous": 0}
    assert [row["crop"] for row in told["crops"]] == list(table)
    first, lost = table["lymphocyte/a1.png"], table["neutrophil/x1.png"]
    assert [first[e] for e in ("left", "top", "right", "bottom")] == [
        "10.0",
        "20.0",
        "139.0",
        "149.0",
    ]
    assert (lost["field"], lost["left"], lost["state"]) == ("none", "", "none")
    assert table["neutrophil/b1.png"]["mirrored"] == "1"
    assert labels.read_text().startswith(
        "file,label,group\nlymphocyte/a1.png,lymphocyte,a.png+c.png\n"
    )
    again = CliRunner().invoke(app, ["locate", *words])
    assert isinstance(again.exception, OutputError)


@pytest.mark.parametrize("words", [("--scales", "wide"), ("--orientations", "some")])
def test_the_verb_refuses_words_it_does_not_know(
    words: tuple[str, str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    paths = [str(folders[0]), str(folders[1]), "--out", str(tmp_path / "o.csv")]
    done = CliRunner().invoke(app, ["locate", *paths, *words])
    assert isinstance(done.exception, RecipeError)
    assert words[1] in str(done.exception)
