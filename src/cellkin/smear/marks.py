"""Marks that people made in fields: boxes or middles of cells, whichever program wrote them.

Recognised by what is in the files: Pascal VOC (XML), YOLO (text), COCO (JSON), GeoJSON of QuPath,
and tables of middles or boxes (CSV). The classes in them are other people's words; `kinds_of` says
which kind of the finder each means.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellkin.core.errors import DataError, LabelError, did_you_mean
from cellkin.core.names import likeness
from cellkin.smear.field import Field, is_field
from cellkin.smear.mark_files import FORMATS, MarkedFile, RawMark, whole

UNCLEAR = "unclear"
"""What is neither learned as a cell nor as ground."""

WORDS = {
    "white cell": r"wbcs?|white( blood)? cells?|leu[ck]ocytes?|nucleated cells?|\w*blasts?|"
    r"(\w+ )*(lymphocyte|monocyte|neutrophil|eosinophil|basophil|granulocyte|plasma cell|"
    r"(pro|meta)?myelocyte|prolymphocyte)s?",
    "smudge": r"smudges?( cells?)?|smear(ed)? cells?|basket cells?|gumprecht( shadows?)?",
    "platelet": r"platelets?|thrombocytes?|plts?",
    "artefact": r"art[ei]facts?|debris|dirt|dust|stain precipitates?",
    "red cell": r"rbcs?|red( blood)? cells?|erythrocytes?",
    UNCLEAR: r"unclear|unknown|ignored?|uncertain|difficult",
}
"""Kind of the finder -> what other people call it, by likeness; erythroblasts are nucleated."""

SHOWN = 5
OUTSIDE = 0.02  # share of the field's size by which a box may reach over its edge


@dataclass(frozen=True)
class Mark:
    """One cell: its class in its file's words and its box in pixels of the field. Where only its
    middle was marked, left = right and top = bottom.
    """

    name: str
    box: tuple[float, float, float, float]

    @property
    def point(self) -> bool:
        return self.box[0] == self.box[2]


@dataclass(frozen=True)
class MarkedField:
    """A field of width x height pixels and what was marked in it, from the file `source`; nothing:
    it holds no such cell. `group`: what fields share (a slide, a patient), where known.
    """

    path: Path
    width: int
    height: int
    marks: tuple[Mark, ...]
    source: Path
    group: str | None = None


@dataclass(frozen=True)
class Marks:
    """Fields with their marks, and the fields that no file of marks names.

    Attributes:
        formats: that were found, in words.
    """

    fields: tuple[MarkedField, ...]
    unmarked: tuple[Path, ...]
    formats: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All classes, sorted."""
        return tuple(sorted({mark.name for field in self.fields for mark in field.marks}))


def read_marks(paths: Sequence[Path], groups: Mapping[str, str] | None = None) -> Marks:
    """The marks of fields.

    Args:
        paths: folders, or single fields and files of marks.
        groups: name of a field's file -> its group.

    Raises:
        DataError: no field, no marks, or marks of a field that is not there, that two files mark,
            that lie outside it, or that were made on a picture of another size.
        ImageError: a field cannot be read.
    """
    files = sorted(_files(paths))
    fields = [path for path in files if is_field(path)]
    found = [marked for path in files if not is_field(path) for marked in _read(path, fields)]
    if not fields or not found:
        what = "marks" if fields else "fields"
        raise DataError(
            f"there are no {what} here",
            where=", ".join(map(str, paths)),
            mend="give photographs with Pascal VOC (.xml), YOLO (.txt), COCO (.json), QuPath "
            "(.geojson) or a table (.csv with columns file,x,y,label)",
        )
    _require_known(groups or {}, fields)
    owned = _owners(found, fields)
    marked = [_whole(path, own, groups or {}) for path, own in sorted(owned.items())]
    unmarked = tuple(path for path in fields if path not in owned)
    return Marks(tuple(marked), unmarked, tuple(sorted({m.format for m in found})))


def _require_known(groups: Mapping[str, str], fields: Sequence[Path]) -> None:
    """
    Raises:
        DataError: a group is given to what is no field here.
    """
    known = {name for path in fields for name in (path.name, path.stem)}
    if strange := [name for name in groups if name not in known]:
        raise DataError(
            f"{len(strange)} files of the groups are no fields here, first: {strange[0]}",
            where="--groups",
            mend=did_you_mean(strange[0], known) or "name the fields as their files are called",
        )


def _files(paths: Sequence[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, mend="check the path")
        inside = path.rglob("*") if path.is_dir() else [path]
        yield from {p for p in inside if p.is_file() and not p.name.startswith(".")}


def _read(path: Path, fields: Sequence[Path]) -> list[MarkedFile]:
    """What a file marks; nothing where it is no file of marks."""
    for reader in FORMATS:
        with whole(path):
            found = reader(path, fields)
        if found is not None:
            return found
    return []


def _owners(found: Sequence[MarkedFile], fields: Sequence[Path]) -> dict[Path, MarkedFile]:
    """Field -> what marks it.

    Raises:
        DataError: see `read_marks`.
    """
    by_name, by_stem = defaultdict(list), defaultdict(list)
    for path in fields:
        by_name[path.name].append(path)
        by_stem[path.stem].append(path)
    owned: dict[Path, MarkedFile] = {}
    lost = []
    for marked in found:
        name = re.split(r"[/\\]", marked.field)[-1]
        near = by_name[name] or by_stem[name] or by_stem[Path(name).stem]
        ends = [p for p in near if p.as_posix().endswith(marked.field.replace("\\", "/"))]
        near = ends if len(ends) == 1 else near
        if len(near) > 1:
            raise DataError(
                f"{len(near)} fields are called {name}",
                where=f"{marked.source}: {near[0]}, {near[1]}",
                mend="give them names of their own, or run on one folder at a time",
            )
        if not near:
            lost.append(f"{marked.field} ({marked.source.name})")
        elif near[0] in owned:
            raise DataError(
                f"two files mark {name}",
                where=f"{owned[near[0]].source}, {marked.source}",
                mend="take one of them away",
            )
        else:
            owned[near[0]] = marked
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise DataError(
            f"{len(lost)} fields that are marked are not here",
            where=", ".join(lost[:SHOWN]) + more,
            mend="put them beside their marks, or take their marks away",
        )
    return owned


def _whole(path: Path, marked: MarkedFile, groups: Mapping[str, str]) -> MarkedField:
    """A field with its marks in its pixels."""
    with Field(path) as field:
        width, height = field.width, field.height
    if marked.size is not None and marked.size != (width, height):
        raise DataError(
            f"{path.name} measures {width} x {height} pixels, its marks were made on "
            f"{marked.size[0]} x {marked.size[1]}",
            where=marked.source,
            mend="give the field that was marked, or mark this one anew",
        )
    scale = (width, height, width, height) if marked.relative else (1, 1, 1, 1)
    marks = [_placed(mark, scale, (width, height), marked) for mark in marked.marks]
    group = groups.get(path.name) or groups.get(path.stem) or marked.group
    return MarkedField(path, width, height, _once(marks, marked), marked.source, group)


def _once(marks: Sequence[Mark], marked: MarkedFile) -> tuple[Mark, ...]:
    """Marks without those that stand there twice: two cells cannot lie in one box.

    Raises:
        DataError: one box has two classes.
    """
    names: dict[tuple[float, ...], str] = {}
    for mark in marks:
        if names.setdefault(mark.box, mark.name) != mark.name:
            raise DataError(
                f"one place is marked as {names[mark.box]!r} and as {mark.name!r}",
                where=f"{marked.source}: {', '.join(f'{v:.6g}' for v in mark.box)}",
                mend="take one of the two marks away",
            )
    return tuple(dict.fromkeys(marks))


def _placed(raw: RawMark, scale: Sequence[int], size: tuple[int, int], marked: MarkedFile) -> Mark:
    box = np.array(raw.box, np.float64) * scale
    low, high = box[:2], box[2:]
    if (low > high).any():
        raise DataError(
            "a mark ends before it begins: its width or height is below zero",
            where=f"{marked.source}{raw.where}: {', '.join(f'{v:.6g}' for v in box)}",
            mend="mend that mark: left, top come before right, bottom",
        )
    over = OUTSIDE * np.array(size)
    if (low < -over).any() or (high > size + over).any():
        raise DataError(
            f"a mark lies outside {Path(marked.field).name} ({size[0]} x {size[1]} pixels)",
            where=f"{marked.source}{raw.where}: {', '.join(f'{v:.6g}' for v in box)}",
            mend="check the units (pixels of the whole field) and which field the marks belong to",
        )
    left, top = np.clip(low, 0, size)
    right, bottom = np.clip(high, 0, size)
    return Mark(raw.name, (float(left), float(top), float(right), float(bottom)))


def kinds_of(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Class in the marks -> kind of the finder, or `UNCLEAR`.

    Args:
        names: the classes in the marks. given: some of them with their kinds, which count first.

    Raises:
        LabelError: a class that nobody knows, a kind that there is not, a class given that is not
            in the marks, or no class that means a white cell.
    """
    for name, kind in given.items():
        if kind not in WORDS:
            raise LabelError(
                f"{kind!r} is no kind that the finder knows",
                where=f"--class {name}={kind}",
                mend=did_you_mean(kind, WORDS) or f"one of: {', '.join(WORDS)}",
            )
        if name not in names:
            raise LabelError(
                f"no mark is called {name!r}",
                where=f"--class {name}={kind}",
                mend=did_you_mean(name, names) or f"the marks are called: {', '.join(names)}",
            )
    found = {name: given.get(name) or _known(name) for name in names}
    if unknown := [name for name, kind in found.items() if kind is None]:
        near = did_you_mean(likeness(unknown[0]), [*WORDS, "wbc", "rbc", "platelets", "leukocyte"])
        raise LabelError(
            f"what the marks called {', '.join(map(repr, unknown[:SHOWN]))} are is not known",
            where=f"{len(unknown)} of {len(names)} classes",
            mend=f"{near} ".lstrip() + f"Say it: --class '{unknown[0]}=white cell' "
            f"(or one of: {', '.join(list(WORDS)[1:])})",
        )
    kinds = {name: kind for name, kind in found.items() if kind is not None}
    if "white cell" not in kinds.values():
        raise LabelError(
            "no white cell is marked",
            where=f"classes: {', '.join(names) or 'none'}",
            mend="say which class it is: --class 'NAME=white cell'",
        )
    return kinds


def _known(name: str) -> str | None:
    alike = likeness(name)
    return next((kind for kind, words in WORDS.items() if re.fullmatch(words, alike)), None)
