"""Files of marks, format by format: Pascal VOC, YOLO, COCO, QuPath's GeoJSON, tables.

Each reader gives what a file marks, field by field, or None where it is none of its format.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from cellkin.core.errors import DataError, LabelError
from cellkin.datasets.csv_rows import columns_of, read_rows

BOX = ("left", "top", "right", "bottom")
NAMES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml", "notes.json")
"""Files beside YOLO's labels, or above them, that name its classes."""

NO_CLASS = "unclassified"
MENDED = "export it again, or mend that line"


@dataclass(frozen=True)
class RawMark:
    """A mark as its file has it: left, top, right, bottom; a middle has left = right, top = bottom.

    `where`: its line or number in the file, for people.
    """

    name: str
    box: tuple[float, ...]
    where: str = ""


@dataclass(frozen=True)
class MarkedFile:
    """What one file marks in one field.

    Attributes:
        field: path or name of the field, as the file has it. relative: boxes in shares of its size.
        size: width and height of the field, where the file says it.
    """

    source: Path
    field: str
    marks: tuple[RawMark, ...]
    format: str
    relative: bool = False
    size: tuple[int, int] | None = None
    group: str | None = None


Found = list[MarkedFile] | None


def _fault(what: str, path: Path, where: str = "") -> DataError:
    return DataError(what, where=f"{path}{where}", mend=MENDED)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Whatever is wrong with what a file of marks holds is told of that file.

    Raises:
        DataError: something in the block met what no such file has.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise _fault(f"{path.name} is no whole file of marks: {error!r:.200}", path) from None
    except RecursionError:
        raise _fault(f"{path.name} is no file of marks: it is nested too deep", path) from None
    except yaml.YAMLError as error:
        raise _fault(f"{path.name} is no whole YAML: {error}", path) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise _fault(f"{path.name} cannot be read: {error}", path) from None


def _numbers(values: Sequence[Any], path: Path, where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise _fault("a mark has a place that is no number", path, where)
    return numbers


def _size(width: Any, height: Any, path: Path) -> tuple[int, int]:
    """Width and height of the field as a file says them.

    Raises:
        DataError: they are no whole numbers above zero.
    """
    sides = _numbers((width, height), path, ", size of the field")
    if any(side < 1 or side != int(side) for side in sides):
        raise _fault(f"a field cannot measure {width} x {height} pixels", path)
    return int(sides[0]), int(sides[1])


# Pascal VOC ------------------------------------------------------------------------------------


def voc(path: Path, fields: Sequence[Path]) -> Found:
    """`<annotation>` with a `<bndbox>` for each `<object>`."""
    if path.suffix.lower() != ".xml":
        return None
    try:
        root = ElementTree.fromstring(_text(path))
    except ElementTree.ParseError as error:
        raise _fault(f"{path.name} is no whole XML: {error}", path) from None
    if root.tag != "annotation":
        return None
    named = [path.stem, root.findtext("filename") or ""]
    known = {p.stem for p in fields} | {p.name for p in fields}
    field = next((name for name in named if name in known), named[1] or named[0])
    width, height = (root.findtext(f"size/{side}") or "0" for side in ("width", "height"))
    size = (
        None if width == height == "0" else _size(width, height, path)
    )  # some programs leave it out
    marks = []
    for number, found in enumerate(root.iter("object"), start=1):
        where = f", object {number}"
        corners = [found.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
        marks.append(RawMark(found.findtext("name") or "", _numbers(corners, path, where), where))
    return [MarkedFile(path, field, tuple(marks), "Pascal VOC", size=size)]


# YOLO ------------------------------------------------------------------------------------------


def yolo(path: Path, fields: Sequence[Path]) -> Found:
    """A text file of a field's name: class number, middle, width and height (or an outline), all in
    shares of the field's size.
    """
    if path.suffix.lower() != ".txt" or path.stem not in {p.stem for p in fields}:
        return None
    names = _yolo_names(path)
    marks = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f", line {number}"
        first, *rest = _numbers(line.split(), path, where)
        formed = len(rest) == 4 or (len(rest) >= 6 and len(rest) % 2 == 0)
        if first < 0 or first != int(first) or not formed:
            raise _fault(f"this is no line of YOLO: {line.strip():.60}", path, where)
        if len(rest) == 4:
            x, y, w, h = rest
            box: tuple[float, ...] = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        else:
            box = (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
        marks.append(RawMark(names.get(int(first), str(int(first))), box, where))
    return [MarkedFile(path, path.stem, tuple(marks), "YOLO", relative=True)]


def _yolo_names(path: Path) -> dict[int, str]:
    """Class number -> name, from a file beside the labels or in the next two folders above."""
    for folder in list(path.parents)[:3]:
        for name in NAMES:
            if (folder / name).is_file():
                return _named(folder / name)
    return {}


def _named(path: Path) -> dict[int, str]:
    with whole(path):
        return _names_in(path, _text(path))


def _names_in(path: Path, text: str) -> dict[int, str]:
    if path.suffix == ".json":
        return {int(c["id"]): str(c["name"]) for c in json.loads(text).get("categories", [])}
    if path.suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    names = yaml.load(text, Loader=yaml.BaseLoader)["names"]  # BaseLoader: all are texts
    numbered = names.items() if isinstance(names, dict) else enumerate(names)
    found = {int(number): name for number, name in numbered}
    if not isinstance(names, dict | list) or not all(isinstance(n, str) for n in found.values()):
        raise _fault(f"{path.name} names no classes", path)
    return found


# COCO and GeoJSON ------------------------------------------------------------------------------


def coco(path: Path, fields: Sequence[Path]) -> Found:
    """`images`, `annotations` with `bbox`, and `categories`."""
    told = _json(path)
    if not isinstance(told, dict) or not {"images", "annotations"} <= told.keys():
        return None
    names = {c["id"]: str(c["name"]) for c in told.get("categories", [])}
    boxes: dict[Any, list[RawMark]] = defaultdict(list)
    for number, mark in enumerate(told["annotations"], start=1):
        where = f", annotation {number}"
        x, y, w, h = _numbers(mark["bbox"], path, where)
        name = names.get(mark["category_id"], str(mark["category_id"]))
        name = "ignore" if mark.get("iscrowd") else name
        boxes[mark["image_id"]].append(RawMark(name, (x, y, x + w, y + h), where))
    pictures = {image["id"]: image for image in told["images"]}
    if strange := set(boxes) - set(pictures):
        raise _fault(f"no image has the id {sorted(map(str, strange))[0]}", path)
    return [
        MarkedFile(
            path,
            str(image["file_name"]),
            tuple(boxes[key]),
            "COCO",
            size=_size(image["width"], image["height"], path) if "width" in image else None,
        )
        for key, image in pictures.items()
    ]


def geojson(path: Path, fields: Sequence[Path]) -> Found:
    """A FeatureCollection as QuPath writes it, beside the field whose name it has."""
    told = _json(path)
    features = told.get("features") if isinstance(told, dict) else told
    if not isinstance(features, list) or not all(_is_feature(f) for f in features):
        return None
    if isinstance(told, list) and not told:
        return None
    marks = []
    for number, feature in enumerate(features, start=1):
        where = f", feature {number}"
        points = list(_points((feature.get("geometry") or {}).get("coordinates"), path, where))
        if not points:
            raise _fault("a feature has no place", path, where)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        marks.append(RawMark(_class_of(feature), (min(xs), min(ys), max(xs), max(ys)), where))
    stems = {p.stem for p in fields} | {p.name for p in fields}
    field = path.stem if path.stem in stems else path.name.split(".")[0]
    return [MarkedFile(path, field, tuple(marks), "GeoJSON")]


def _is_feature(one: Any) -> bool:
    return isinstance(one, dict) and one.get("type") == "Feature"


def _class_of(feature: dict[str, Any]) -> str:
    told = feature.get("properties") or {}
    named = told.get("classification") or {}
    names = named.get("names") or []
    return str(named.get("name") or ": ".join(names) or told.get("name") or NO_CLASS)


def _points(coordinates: Any, path: Path, where: str) -> Iterator[tuple[float, float]]:
    """All points of a geometry, however deep its rings lie."""
    if not coordinates:
        return
    if not isinstance(coordinates, list):
        raise _fault("a feature has a place that is none", path, where)
    if isinstance(coordinates[0], list):
        for inner in coordinates:
            yield from _points(inner, path, where)
    else:
        x, y = _numbers(coordinates[:2], path, where)
        yield x, y


def _json(path: Path) -> Any:
    if path.suffix.lower() not in (".json", ".geojson"):
        return None
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise _fault(f"{path.name} is no whole JSON: {error}", path) from None


# tables ----------------------------------------------------------------------------------------


def table(path: Path, fields: Sequence[Path]) -> Found:
    """A CSV file with `file` and `x`, `y` or `left`, `top`, `right`, `bottom`, in pixels."""
    if path.suffix.lower() != ".csv":
        return None
    boxed = {*BOX} <= {*columns_of(path)}
    if not boxed and not {"x", "y"} <= {*columns_of(path)}:
        return None
    places = BOX if boxed else ("x", "y")
    rows = read_rows(path, required=("file", *places), optional=("label", "group"))
    marks: dict[str, list[RawMark]] = defaultdict(list)
    groups: dict[str, str] = {}
    for line, row in rows.rows:
        where = f", line {line}"
        at = _numbers([row[name] for name in places], path, where)
        box = at if boxed else (*at, *at)
        marks[row["file"]].append(RawMark(row.get("label") or "white cell", box, where))
        if groups.setdefault(row["file"], row.get("group", "")) != row.get("group", ""):
            raise _fault(f"{row['file']} is in two groups", path, where)
    return [
        MarkedFile(path, name, tuple(found), "table", group=groups[name] or None)
        for name, found in marks.items()
    ]


FORMATS: tuple[Callable[[Path, Sequence[Path]], Found], ...] = (voc, yolo, coco, geojson, table)


def read_groups(path: Path) -> dict[str, str]:
    """Name of a field's file -> its group, from a CSV file with columns `file,group`.

    Raises:
        LabelError: no such table, or a file in two groups.
    """
    found: dict[str, str] = {}
    for line, row in read_rows(path, required=("file", "group"), optional=()).rows:
        name = Path(row["file"]).name
        if found.setdefault(name, row["group"]) != row["group"]:
            raise LabelError(
                f"{name} is in two groups", where=f"{path}, line {line}", mend="name one of them"
            )
    return found
