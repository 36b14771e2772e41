"""Marks of other programs, and fitting the finder to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cellkin
from cellkin.cli.fitting import _tell_marks
from cellkin.cli.main import app
from cellkin.core.errors import (
    ArtifactError,
    CellkinError,
    DataError,
    LabelError,
    OutputError,
    RecipeError,
    TrainingError,
)
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.smear import fitting
from cellkin.smear.finding import find
from cellkin.smear.fitting import FitOptions, fit_finder, matched, parted
from cellkin.smear.jobs import packaged_finder
from cellkin.smear.mark_files import read_groups
from cellkin.smear.marks import UNCLEAR, kinds_of, read_marks
from cellkin.smear.network import FinderNetwork
from cellkin.smear.scenes import Picture
from cellkin.smear.training import loss_of

Box = tuple[float, float, float, float]
CELLS: tuple[tuple[str, Box], ...] = (("WBC", (10, 20, 50, 70)), ("RBC", (100, 30, 130, 60)))
SIZE = (200, 100)


def blank(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (235, 230, 235)).save(path)
    return path


# --- writers of the formats ----------------------------------------------------------------------


def as_voc(folder: Path, field: Path, cells: Sequence[tuple[str, Box]]) -> Path:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in cells
    )
    size = "<size><width>200</width><height>100</height></size>"
    text = f"<annotation><filename>{field.name}</filename>{size}{objects}</annotation>"
    return put(folder / "Annotations" / f"{field.stem}.xml", text)


def as_yolo(folder: Path, field: Path, cells: Sequence[tuple[str, Box]]) -> Path:
    names = sorted({name for name, _ in cells})
    put(folder / "classes.txt", "\n".join(names))
    lines = [
        f"{names.index(name)} {(a + c) / 400} {(b + d) / 200} {(c - a) / 200} {(d - b) / 100}"
        for name, (a, b, c, d) in cells
    ]
    return put(folder / "labels" / f"{field.stem}.txt", "\n".join(lines))


def as_coco(folder: Path, field: Path, cells: Sequence[tuple[str, Box]]) -> Path:
    names = sorted({name for name, _ in cells})
    told = {
        "images": [{"id": 7, "file_name": f"images/{field.name}", "width": 200, "height": 100}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": 7, "category_id": names.index(n), "bbox": [a, b, c - a, d - b]}
            for n, (a, b, c, d) in cells
        ],
    }
    return put(folder / "instances.json", json.dumps(told))


def as_geojson(folder: Path, field: Path, cells: Sequence[tuple[str, Box]]) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[a, b], [c, b], [c, d], [a, d]]]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, (a, b, c, d) in cells
    ]
    told = {"type": "FeatureCollection", "features": features}
    return put(folder / f"{field.stem}.geojson", json.dumps(told))


def as_table(folder: Path, field: Path, cells: Sequence[tuple[str, Box]]) -> Path:
    rows = [f"{field.name},{a},{b},{c},{d},{name}" for name, (a, b, c, d) in cells]
    return put(folder / "boxes.csv", "\n".join(["file,left,top,right,bottom,label", *rows]))


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


Writer = Callable[[Path, Path, Sequence[tuple[str, Box]]], Path]
WRITERS: dict[str, Writer] = {
    "Pascal VOC": as_voc,
    "YOLO": as_yolo,
    "COCO": as_coco,
    "GeoJSON": as_geojson,
    "table": as_table,
}
every_format = pytest.mark.parametrize("format_", list(WRITERS))


# --- reading -------------------------------------------------------------------------------------


@every_format
def test_every_format_gives_the_same_marks(format_: str, tmp_path: Path) -> None:
    field, other = (blank(tmp_path / "images" / name) for name in ("a.1.png", "without.png"))
    WRITERS[format_](tmp_path, field, CELLS)
    put(tmp_path / "README.md", "no marks")
    put(tmp_path / "settings.json", '{"zoom": 3}')
    put(tmp_path / "notes.txt", "no marks either")
    marks = read_marks([tmp_path])
    (one,) = marks.fields
    assert marks.formats == (format_,)
    assert marks.unmarked == (other,)
    assert one.path == field
    assert marks.names == ("RBC", "WBC")
    found = {m.name: m.box for m in one.marks}
    assert {name: pytest.approx(box) for name, box in CELLS} == found


def test_middles_in_a_table_and_in_geojson(tmp_path: Path) -> None:
    blank(tmp_path / "a.png"), blank(tmp_path / "b.png")
    put(tmp_path / "middles.csv", "File,X,Y,group,who\na.png,50,60,slide 1,me\n")
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [20, 30]}}
    put(tmp_path / "b.geojson", json.dumps([point]))
    first, second = read_marks([tmp_path]).fields
    assert [m.box for m in first.marks] == [(50, 60, 50, 60)]
    assert first.marks[0].point
    assert (first.marks[0].name, first.group) == ("white cell", "slide 1")
    assert [m.box for m in second.marks] == [(20, 30, 20, 30)]
    assert second.marks[0].name == "unclassified"


def test_outlines_of_yolo_and_names_in_yaml(tmp_path: Path) -> None:
    blank(tmp_path / "images" / "a.png")
    put(tmp_path / "labels" / "a.txt", "1 0.1 0.2 0.3 0.2 0.2 0.6\n0 0.5 0.5 0.1 0.1\n\n")
    for text in (
        "path: .\nnames: ['RBC', \"WBC\"]\nnc: 2\n",
        "names:\n  0: RBC\n  1: WBC\ntrain: images\n",
        "names:\n- RBC\n- WBC\n",
    ):
        put(tmp_path / "data.yaml", text)
        (one,) = read_marks([tmp_path]).fields
        assert [m.name for m in one.marks] == ["WBC", "RBC"], text
        assert one.marks[0].box == pytest.approx((20, 20, 60, 60))
        assert one.marks[1].box == pytest.approx((90, 45, 110, 55))


def test_a_field_marked_as_empty_is_a_field_without_cells(tmp_path: Path) -> None:
    blank(tmp_path / "a.png")
    put(tmp_path / "a.txt", "")
    marks = read_marks([tmp_path])
    assert [len(f.marks) for f in marks.fields] == [0]
    assert marks.unmarked == ()


BROKEN: dict[str, tuple[Writer, str, str]] = {
    "xml": (as_voc, "</annotation>", "no whole XML"),
    "voc number": (as_voc, "<xmin>10", "no number"),
    "yolo": (as_yolo, "\n", "no line of YOLO"),
    "coco": (as_coco, '"image_id": 7', "no image has the id"),
    "json": (as_geojson, "}]", "no whole JSON"),
    "geojson": (as_geojson, "[10, 20], [50, 20]", "no number"),
}
TO = {"voc number": "<xmin>x", "yolo": "\n1 2\n", "coco": '"image_id": 8'}
TO["geojson"] = '["x", 20], [50, 20]'


@pytest.mark.parametrize("how", list(BROKEN))
def test_a_broken_file_is_named(how: str, tmp_path: Path) -> None:
    writer, old, told = BROKEN[how]
    path = writer(tmp_path, blank(tmp_path / "images" / "a.png"), CELLS)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, TO.get(how, ""), 1))
    with pytest.raises(DataError, match=told) as error:
        read_marks([tmp_path])
    assert str(path) in error.value.where
    assert error.value.mend


def feature(**changed: object) -> str:
    point = {"type": "Point", "coordinates": [10, 20]}
    one = {"type": "Feature", "geometry": point, "properties": {}} | changed
    return json.dumps({"type": "FeatureCollection", "features": [one]})


def coco_of(**changed: object) -> str:
    mark = {"image_id": 7, "category_id": 1, "bbox": [10, 20, 40, 50]}
    image = {"id": 7, "file_name": "a.png", "width": 200, "height": 100}
    told = {"images": [image], "annotations": [mark], "categories": [{"id": 1, "name": "WBC"}]}
    for name, value in changed.items():
        one = next(o for o in (mark, image, told) if name in o)
        one[name] = value  # type: ignore[index]
    return json.dumps(told)


def voc_of(width: object = 200, xmin: object = 10, xmax: object = 50) -> str:
    return (
        f"<annotation><size><width>{width}</width><height>100</height></size><object><name>WBC"
        f"</name><bndbox><xmin>{xmin}</xmin><ymin>20</ymin><xmax>{xmax}</xmax><ymax>70</ymax>"
        "</bndbox></object></annotation>"
    )


LINE, MANY = "0 0.5 0.5 0.1 0.1\n", int("9" * 400)
SPOILT: dict[str, list[str]] = {
    "a.xml": [
        *(voc_of(width=w) for w in ("²", "9" * 5000, "nan", "-200", "200.5", "1e999", "0")),
        *(voc_of(xmin=x) for x in ("²", "9" * 5000, "nan", "inf", "60", "")),
        "<annotation>" * 10,
    ],
    "a.txt": [
        *(LINE.replace("0 ", f"{c} ", 1) for c in ("nan", "inf", "-1", "0.5", "²", "9" * 5000)),
        *("0 0.5 0.5 " + size for size in ("-0.1 0.1", "0.1 -0.1", "nan 0.1", "inf 0.1")),
    ],
    "a.json": [
        *(coco_of(width=w) for w in (float("inf"), float("nan"), "x", None, 0, -1, MANY, 200.5)),
        *(coco_of(bbox=b) for b in ([10, 20, -4, 5], [1], "x", 3, [10, 20, float("inf"), MANY])),
        *(coco_of(image_id=i) for i in ([1], 8)),
        *(coco_of(categories=c) for c in ([{"name": "a"}], [1], 5)),
        *(coco_of(annotations=a) for a in ([1], 5, [{}])),
        *(coco_of(images=i) for i in ([1], 5, [{}])),
        "[" * 100_000,
        '{"a": ' * 100_000,
        "9" * 5000,
        "{bad",
    ],
    "a.geojson": [
        *(feature(geometry=g) for g in ("x", [1], 5, None, {}, {"coordinates": "x"})),
        *(
            feature(geometry={"coordinates": c})
            for c in (
                [10],
                [[10], [20]],
                [MANY, 1],
                [float("nan"), 1],
                [None, 1],
                [{}],
                [[1, 2], 3],
            )
        ),
        *(feature(properties=p) for p in ([1], "x", 5)),
        *(
            feature(properties={"classification": c})
            for c in ("WBC", [1], 5, {"names": [1, 2]}, {"names": 7})
        ),
        feature(geometry={"coordinates": [10, 20]}).replace("10", "[" * 500 + "10" + "]" * 500),
    ],
    "a.csv": [
        "file,left,top,right,bottom\na.png," + row + "\n"
        for row in ("50,20,10,70", "10,70,50,20", "nan,1,2,3", "²,1,2,3", f"{'9' * 5000},1,2,3")
    ],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in SPOILT.items() for text in texts],
    ids=lambda value: value[:40],
)
def test_whatever_a_file_of_marks_holds_is_told_of_that_file(
    name: str, text: str, tmp_path: Path
) -> None:
    blank(tmp_path / "a.png")
    path = put(tmp_path / name, text)
    with pytest.raises(DataError) as error:
        read_marks([tmp_path])
    assert str(path) in error.value.where
    assert error.value.mend


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("notes.json", text)
            for text in (
                '{"categories": [1]}',
                '{"categories": [{"name": "a"}]}',
                '{"categories": [{"id": 1e999, "name": "a"}]}',
                '{"categories": 5}',
                "{bad",
                "[1]",
                "[" * 100_000,
            )
        ),
        *(
            ("data.yaml", text)
            for text in ("", "nc: 2\n", "names: 5\n", "names: [a\n", "names: [[a]]\n", "- a\n",
                         "names: {x: a}\n", "names: " + "[" * 5000, "names: &a [*a]\n")
        ),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_names_of_yolo_that_are_none_are_told_of_their_file(
    name: str, text: str, tmp_path: Path
) -> None:
    blank(tmp_path / "in" / "a.png")
    put(tmp_path / "in" / "a.txt", LINE)
    path = put(tmp_path / name, text)
    with pytest.raises(DataError) as error:
        read_marks([tmp_path / "in"])
    assert str(path) in error.value.where


@pytest.mark.parametrize(
    "text",
    [
        "# names: [x, y]\nnames: [RBC, 'WBC: all']  # two, in this order\n",
        "names:\n  0: RBC  # red\n  # white\n  1: 'WBC: all'\nnc: 2\n",
        "names:\n- RBC # red\n- 'WBC: all'\npath: a, b\n",
        "{names: {1: 'WBC: all', 0: RBC}, nc: 2}\n",
    ],
)
def test_yaml_is_read_as_yaml(text: str, tmp_path: Path) -> None:
    blank(tmp_path / "a.png")
    put(tmp_path / "a.txt", LINE + LINE.replace("0 ", "1 ", 1).replace("0.5", "0.3"))
    put(tmp_path / "data.yaml", text)
    (one,) = read_marks([tmp_path]).fields
    assert [mark.name for mark in one.marks] == ["RBC", "WBC: all"]


@every_format
def test_a_cell_that_is_marked_twice_is_one(format_: str, tmp_path: Path) -> None:
    field = blank(tmp_path / "images" / "a.png")
    WRITERS[format_](tmp_path, field, [*CELLS, *CELLS])
    (one,) = read_marks([tmp_path]).fields
    assert len(one.marks) == len(CELLS)
    WRITERS[format_](tmp_path, field, [*CELLS, ("RBC", CELLS[0][1])])
    with pytest.raises(DataError, match="one place is marked as 'WBC' and as 'RBC'"):
        read_marks([tmp_path])


def test_groups_of_what_is_no_field_are_refused(tmp_path: Path) -> None:
    as_voc(tmp_path, blank(tmp_path / "images" / "a.png"), CELLS)
    assert read_marks([tmp_path], {"a.png": "one"}).fields[0].group == "one"
    with pytest.raises(DataError, match=r"1 files of the groups are no fields here, first: b\.png"):
        read_marks([tmp_path], {"a.png": "one", "b.png": "two"})


@every_format
def test_marks_that_do_not_belong_to_the_field_are_refused(format_: str, tmp_path: Path) -> None:
    field = blank(tmp_path / "images" / "a.png")
    WRITERS[format_](tmp_path, field, [("WBC", (150, 20, 260, 70))])
    with pytest.raises(DataError, match=r"lies outside a"):
        read_marks([tmp_path])
    WRITERS[format_](tmp_path, field, CELLS)
    field.rename(tmp_path / "images" / "b.png")
    if format_ == "YOLO":  # its files have no other name than their field's
        with pytest.raises(DataError, match="there are no marks"):
            read_marks([tmp_path])
        return
    with pytest.raises(DataError, match="not here") as error:
        read_marks([tmp_path])
    assert "a" in error.value.where


def test_marks_of_another_size_twice_or_of_two_fields_are_refused(tmp_path: Path) -> None:
    field = blank(tmp_path / "one" / "a.png", (400, 200))
    as_voc(tmp_path, field, CELLS)
    with pytest.raises(DataError, match="measures 400 x 200 pixels, its marks"):
        read_marks([tmp_path])
    blank(field)
    as_geojson(tmp_path, field, CELLS)
    with pytest.raises(DataError, match="two files mark a"):
        read_marks([tmp_path])
    (tmp_path / "a.geojson").unlink()
    blank(tmp_path / "two" / "a.png")
    with pytest.raises(DataError, match="2 fields are called a"):
        read_marks([tmp_path])


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fields"):
        read_marks([tmp_path])
    blank(tmp_path / "a.png")
    with pytest.raises(DataError, match="no marks"):
        read_marks([tmp_path])
    with pytest.raises(DataError, match="no such"):
        read_marks([tmp_path / "nowhere"])


# --- classes -------------------------------------------------------------------------------------


def test_usual_names_are_known() -> None:
    usual = {
        "white cell": "WBC wbc Leukocyte leucocytes White_Blood_Cell lymphoblast Neutrophils",
        "red cell": "RBC red-blood-cells erythrocyte",
        "platelet": "Platelets PLT thrombocyte",
        "smudge": "smudge smudge_cell",
        "artefact": "artifact debris",
        UNCLEAR: "unclear ignore",
    }
    names = {name: kind for kind, words in usual.items() for name in words.split()}
    assert kinds_of(tuple(names), {}) == names
    assert kinds_of(("Erythroblast",), {}) == {"Erythroblast": "white cell"}


def test_unknown_names_are_asked_for_and_given_ones_count_first() -> None:
    with pytest.raises(LabelError, match="'leukocite'") as error:
        kinds_of(("WBC", "leukocite"), {})
    assert "leukocyte" in error.value.mend
    assert "--class 'leukocite=white cell'" in error.value.mend
    kinds = kinds_of(("WBC", "7"), {"7": "white cell", "WBC": "unclear"})
    assert kinds == {"WBC": "unclear", "7": "white cell"}
    for given, told in (({"7": "whit cell"}, "no kind"), ({"8": "smudge"}, "no mark is called")):
        with pytest.raises(LabelError, match=told):
            kinds_of(("WBC", "7"), given)
    with pytest.raises(LabelError, match="no white cell is marked"):
        kinds_of(("RBC",), {})


# --- fitting -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "PAINTED", replace(fitting.PAINTED, size=64))
        yield


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn fields with boxes of their white cells, of three groups."""
    folder = tmp_path_factory.mktemp("own")
    rows = ["file,left,top,right,bottom,label,group"]
    for number in range(6):
        rng = np.random.default_rng([21, number])
        style = subject_style(rng).in_field(rng, 1.0)
        rgb, _, placed = draw_field(["lymphoblast"] * 2, rng, style, Canvas((160, 200), 4.0), 0.5)
        Image.fromarray(rgb).save(folder / f"{number}.png")
        rows += [
            f"{number}.png,{','.join(f'{v:.1f}' for v in c.box)},blast,g{number // 2}"
            for c in placed
        ]
    put(folder / "boxes.csv", "\n".join(rows))
    return folder


def options(**given: object) -> FitOptions:
    return FitOptions(**{"steps": 2, "um_per_pixel": 0.25, **given})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(fields: Path, tmp_path_factory: pytest.TempPathFactory) -> fitting.Fit:
    out = tmp_path_factory.mktemp("fit") / "finder"
    return fit_finder(read_marks([fields]), out, options())


def test_a_fit_is_written_whole_and_used(fields: Path, fitted: fitting.Fit) -> None:
    assert sorted(p.name for p in fitted.folder.iterdir()) == ["finder.json", "finder.safetensors"]
    assert all(p.stat().st_mode & 0o044 == 0o044 for p in fitted.folder.iterdir())
    assert not fitted.folder.with_name("finder.training").exists()
    card = json.loads((fitted.folder / "finder.json").read_text())
    assert card["kinds"] == {"blast": "white cell"}
    assert {*card["learned"], *card["held_out"]} == {f"{n}.png" for n in range(6)}
    assert card["before"]["found"]["n"] == 2 * len(card["held_out"])
    network = FinderNetwork.of(fitted.folder)
    start = dict(packaged_finder().named_parameters())
    assert any(not torch.equal(v, start[k]) for k, v in network.named_parameters())
    path = fields / fitted.held_out[0]
    by_path = cellkin.find(path, um_per_pixel=0.25, finder=fitted.folder)
    assert by_path.cells == find(path, um_per_pixel=0.25, finder=network).cells
    assert by_path.cells != find(path, um_per_pixel=0.25).cells


def test_groups_are_held_back_whole(fields: Path, tmp_path: Path) -> None:
    marks = read_marks([fields])
    learned, held = parted(marks.fields, options(held_back=0.5))
    assert {f.group for f in learned}.isdisjoint({f.group for f in held})
    assert len(learned) + len(held) == 6 > len(held) > 0
    table = put(tmp_path / "g.csv", "file,group\n" + "\n".join(f"{n}.png,all" for n in range(6)))
    one = read_marks([fields], read_groups(table))
    with pytest.raises(DataError, match="one group"):
        parted(one.fields, options())
    with pytest.raises(LabelError, match="two groups"):
        read_groups(put(tmp_path / "h.csv", "file,group\na.png,1\na.png,2\n"))


def test_a_stopped_fit_goes_on_and_ends_the_same(
    fields: Path, fitted: fitting.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = read_marks([fields])

    def stop(task: str, done: int, total: int) -> None:
        if task.startswith("teaching") and done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "KEPT", 1)
    with pytest.raises(KeyboardInterrupt):
        fit_finder(marks, tmp_path / "finder", options(), progress=stop)
    assert not (tmp_path / "finder").exists()
    with pytest.raises(TrainingError, match="another training"):
        fit_finder(marks, tmp_path / "finder", options(partial=True))
    steps: list[int] = []

    def tell(task: str, done: int, total: int) -> None:
        if task.startswith("teaching"):
            steps.append(done)

    again = fit_finder(marks, tmp_path / "finder", options(), progress=tell)
    assert steps == [2]
    name = "finder.safetensors"
    assert (again.folder / name).read_bytes() == (fitted.folder / name).read_bytes()
    with pytest.raises(OutputError, match="something here already"):
        fit_finder(marks, tmp_path / "finder", options())


def test_unmarked_ground_of_partly_marked_fields_is_not_negative(fields: Path) -> None:
    marks = read_marks([fields])
    kinds = kinds_of(marks.names, {})
    one = marks.fields[0]
    seen = find(one.path, um_per_pixel=0.25)
    whole, part = (fitting.marked(one, seen, kinds, partial) for partial in (False, True))
    assert whole.known == (True, False, False, False, False)
    assert part.known == (False,) * 5
    # what the loss says of a white cell that nobody marked, beside one that is
    picture = np.full((192, 192, 3), 230, np.uint8)
    yy, xx = np.mgrid[:192, :192]
    for x in (50, 140):
        picture[(xx - x) ** 2 + (yy - 96) ** 2 < 20**2] = (90, 40, 120)
    box = np.array([[30, 76, 70, 116]], np.float32)
    known = np.zeros((5, 48, 48), bool)
    known[0, 19:29, 7:18] = True
    start = packaged_finder()
    losses = [
        loss_of(start, [Picture(picture, box, np.array([0]), all_)], start).item()
        for all_ in (known, np.ones_like(known))
    ]
    assert losses[0] < losses[1]


def test_middles_take_the_size_of_what_was_found_or_the_usual_one(fields: Path) -> None:
    marks = read_marks([fields])
    one = marks.fields[0]
    seen = find(one.path, um_per_pixel=0.25)
    cell = next(c for c in seen.cells if c.kind == "white cell")
    point = fitting.Mark("blast", (cell.x, cell.y, cell.x, cell.y))
    assert fitting.box_of(point, "white cell", seen.cells, 0.25) == (
        cell.left,
        cell.top,
        cell.right,
        cell.bottom,
    )
    assert fitting.box_of(point, "white cell", (), 0.25) == (
        cell.x - 26,
        cell.y - 26,
        cell.x + 26,
        cell.y + 26,
    )


def test_each_box_takes_one_middle() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (6.0, 0.0, 16.0, 10.0)]
    assert matched([(5, 5), (11, 5), (5, 6)], boxes) == {0, 1}
    assert matched([(8, 5)], boxes) == {0}
    assert matched([(30, 5)], boxes) == set()


def test_what_cannot_be_fitted_is_refused(fields: Path, tmp_path: Path) -> None:
    marks = read_marks([fields])
    for wrong in (options(steps=0), options(held_back=0.0), options(held_back=1.0)):
        with pytest.raises(RecipeError, match="no fit"):
            fit_finder(marks, tmp_path / "f", wrong)
    slide = replace(marks.fields[0], width=60_000, height=60_000)
    with pytest.raises(DataError, match="60000 x 60000"):
        fit_finder(fitting.Marks((slide, *marks.fields[1:]), (), ()), tmp_path / "f", options())
    alone = fitting.Marks(marks.fields[:1], (), ())
    with pytest.raises(DataError, match="one group"):
        fit_finder(alone, tmp_path / "f", options())
    with pytest.raises(LabelError):
        fit_finder(marks, tmp_path / "f", options(kinds={"blast": "cell"}))
    assert not list(tmp_path.iterdir())


def test_a_finder_that_is_none_or_damaged_is_refused(fitted: fitting.Fit, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finder"):
        FinderNetwork.of(tmp_path)
    copy = Path(shutil.copytree(fitted.folder, tmp_path / "copy"))
    weights = bytearray((copy / "finder.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "finder.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ArtifactError, match="changed after it was written"):
        find(fitted.folder / "x.png", finder=copy)


def test_the_command(fields: Path, fitted: fitting.Fit, tmp_path: Path) -> None:
    run = CliRunner().invoke
    shutil.copytree(fields, tmp_path / "own")
    blank(tmp_path / "own" / "bare.png")
    out = tmp_path / "finder"
    given = ["fit-finder", str(tmp_path / "own"), "--out", str(out), "--mpp", "0.25", "--json"]
    done = run(app, [*given, "--steps", "1", "--class", "blast=white cell"])
    assert done.exit_code == 0, done.output
    assert "1 fields have no marks and are left out: bare.png" in done.stderr
    assert "before" in done.stderr
    assert "after" in done.stderr
    assert json.loads(done.stdout)["before"]["found"]["n"] > 0
    found = run(
        app,
        ["find", str(fields / "0.png"), "--out", str(tmp_path / "c.json"), "--finder", str(out)],
    )
    assert found.exit_code == 0, found.output
    wrong = run(app, [*given, "--overwrite", "--class", "blast"])
    assert isinstance(wrong.exception, CellkinError)


def test_fields_without_a_group_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        as_voc(tmp_path, blank(tmp_path / "images" / f"{name}.png"), CELLS)
    marks, told = read_marks([tmp_path], {"a.png": "one"}), []
    monkeypatch.setattr("cellkin.cli.fitting.talk", told.append)
    _tell_marks(marks, grouped=True)
    assert any("2 fields have no group" in line and "b.png, c.png" in line for line in told)
    told.clear()
    _tell_marks(marks, grouped=False)
    assert not any("group" in line for line in told)
