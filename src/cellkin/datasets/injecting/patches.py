"""ALL-IDB Patches: windows over fields, labelled by the white cells inside (section 5.1, Table 2).

A window holds the centroids that lie in it: blasts, as the fields list them, and other white cells,
from a list of the user's. Blasts alone make it "lymphoblast", other white cells alone "normal"; a
window with both is dropped (the paper's single-class filter). A window without a centroid is
"nothing" only where the field's list of other white cells is declared complete: elsewhere it may
hold a cell that nobody marked, and it is dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from cellkin.core.errors import LabelError, LayoutError, RecipeError, did_you_mean
from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.core.records import LYMPHOBLAST, NO_CELL, Dataset, LabelSet, Sample
from cellkin.datasets.injecting.centroids import OtherCells
from cellkin.datasets.listing import shown
from cellkin.datasets.published import Published
from cellkin.datasets.readers import allidb, allidb1
from cellkin.imaging.decode import decode

LAYOUT = "ALL-IDB Patches"
NOTHING = "nothing"
CLINICAL = {NOTHING: NO_CELL, **allidb.CLINICAL}
SMALLEST = 16

_BEFORE = Published(
    name=LAYOUT,
    counts={NOTHING: 6921, allidb.NORMAL: 1829, LYMPHOBLAST: 568},
    total=9318,
    source="Table 2 of the paper, its two lymphoblast classes taken together",
    layout=LAYOUT,
    files="cellkin patches ALL-IDB1 --others CSV makes it: windows of 256 x 256 pixels that "
    "overlap by 25 %, described by one json file",
    citation="Genovese A., Piuri V., Scotti F. (2023). ALL-IDB patches: whole slide imaging for "
    "acute lymphoblastic leukemia detection using deep learning. ICASSPW 2023; " + allidb.CITATION,
    licence=allidb.LICENCE,
    specimen=allidb.SPECIMEN,
    stain=allidb.STAIN,
    access="made from ALL-IDB1 and a list of its other white cells",
    about="Windows of one field overlap: split by field. The paper's list of other white cells "
    "is not published: other lists give other counts.",
)
_AFTER = replace(
    _BEFORE,
    name="ALL-IDB Patches after class injection",
    counts={
        NOTHING: 6921,
        allidb.NORMAL: 1829,
        "lymphoblast (1)": 232,
        "lymphoblast (2)": 336,
    },
    source="Table 2 of the paper",
)
PUBLISHED = (_BEFORE, _AFTER)

Point = Sequence[float]
Box = tuple[int, int, int, int]
BOTH, UNSURE = "both kinds of white cells", "no centroid, and no complete list"


@dataclass(frozen=True)
class _Field:
    """One field with everything that labels its windows."""

    sample: Sample
    blasts: Sequence[Point]
    others: Sequence[Point]
    complete: bool

    def label(self, box: Box) -> str:
        """The class of a window, or why it is dropped."""
        blasts = any(_inside(point, box) for point in self.blasts)
        others = any(_inside(point, box) for point in self.others)
        if blasts and others:
            return BOTH
        if blasts or others:
            return LYMPHOBLAST if blasts else allidb.NORMAL
        return NOTHING if self.complete else UNSURE


def cut_patches(
    fields: Dataset,
    others: OtherCells,
    *,
    window: int = 256,
    overlap: float = 0.25,
    progress: Progress = silent,
) -> Dataset:
    """Lay windows over fields; the result is a data set of boxes, no file is written.

    The windows start at the upper left corner and step by `window * (1 - overlap)`, rounded; what
    is left at the right and lower border and narrower than a step is not covered. A field of
    2592 x 1944 pixels has 13 x 9 windows by default.

    Args:
        fields: whole images with `annotations["blasts"]` where the person has blasts (ALL-IDB1).
        others: centroids of other white cells by field (see `datasets.injecting.centroids`).
        window: side in pixels. overlap: share of a window that the next one repeats, in [0, 1).
        progress: called once per field (each is decoded, to know its size).

    Returns:
        the windows, sorted by id (`<field>/x0192_y0384`), in the group of their field.

    Raises:
        RecipeError: a window below 16 pixels, or an overlap outside of [0, 1).
        LayoutError: these are no fields, or a window does not fit into one.
        LabelError: a field that is not there, a centroid outside of its field, a field of a person
            with blasts whose blasts are not listed, or no window of two classes or more.
        ImageError: a field cannot be read.
    """
    _refuse_strange_numbers(window, overlap)
    _refuse_other_data(fields)
    known = _by_field(fields, others)
    samples: list[Sample] = []
    dropped: Counter[str] = Counter()
    for done, field in enumerate(known, start=1):
        for box in _boxes(field, window, overlap):
            label = field.label(box)
            if label in CLINICAL:
                samples.append(_patch(field.sample, box, label))
            else:
                dropped[label] += 1
        progress("cutting fields", done, len(known))
    return _dataset(
        fields, samples, (f"{window} pixels, {percent(overlap, None)} overlap", dropped)
    )


def _refuse_strange_numbers(window: int, overlap: float) -> None:
    if window < SMALLEST or not 0 <= overlap < 1 or round(window * (1 - overlap)) < 1:
        raise RecipeError(
            f"a window of {window} pixels with an overlap of {overlap:g} is not possible",
            where="--window, --overlap",
            mend=f"take a window of {SMALLEST} pixels or more and an overlap from 0 to below 1",
        )


def _refuse_other_data(fields: Dataset) -> None:
    if fields.levels or not any(allidb1.BLASTS in sample.annotations for sample in fields):
        raise LayoutError(
            f"{fields.name} marks no blasts in fields (read as {fields.layout})",
            where=fields.root,
            mend="give the folder of ALL-IDB1, with im/ and xyc/",
        )


def _by_field(fields: Dataset, others: OtherCells) -> list[_Field]:
    names = {PurePosixPath(sample.id).stem: sample for sample in fields}
    unknown = sorted(set(others.points) - set(names) - {s.id for s in fields})
    if unknown:
        raise LabelError(
            f"{len(unknown)} fields of the list are not in the data set: {shown(unknown)}",
            where=others.where,
            mend=did_you_mean(unknown[0], names) or f"fields are named as {next(iter(names))}",
        )
    unmarked = [
        sample.id
        for sample in fields
        if allidb1.BLASTS not in sample.annotations and fields.labels.is_positive(sample.label)
    ]
    if unmarked:
        raise LabelError(
            f"{len(unmarked)} fields of persons with blasts list none: {shown(unmarked)}",
            where=fields.root,
            mend="restore their .xyc files: their windows cannot be labelled",
        )
    keys = {name if name in others.points else s.id: s for name, s in names.items()}
    return [
        _Field(
            sample,
            sample.annotations.get(allidb1.BLASTS, ()),
            others.points.get(key, ()),
            key in others.complete,
        )
        for key, sample in keys.items()
    ]


def _boxes(field: _Field, window: int, overlap: float) -> Iterator[Box]:
    height, width = decode(field.sample.image, name=field.sample.id).shape[:2]
    _refuse_points_outside(field, width, height)
    if min(width, height) < window:
        raise LayoutError(
            f"a window of {window} pixels does not fit into a field of {width} x {height}",
            where=field.sample.id,
            mend="take a smaller --window",
        )
    step = round(window * (1 - overlap))
    for top in range(0, height - window + 1, step):
        for left in range(0, width - window + 1, step):
            yield left, top, left + window, top + window


def _refuse_points_outside(field: _Field, width: int, height: int) -> None:
    for what, points in (("blast", field.blasts), ("other white cell", field.others)):
        outside = [p for p in points if not _inside(p, (0, 0, width, height))]
        if outside:
            x, y = outside[0]
            raise LabelError(
                f"{len(outside)} centroids of {what}s lie outside of their field of {width} x "
                f"{height} pixels, first ({x:g}, {y:g})",
                where=field.sample.id,
                mend="positions are x (from the left) and y (from the top), in pixels of this file",
            )


def _inside(point: Point, box: Box) -> bool:
    left, top, right, bottom = box
    return left <= point[0] < right and top <= point[1] < bottom


def _patch(sample: Sample, box: Box, label: str) -> Sample:
    return Sample(
        id=f"{PurePosixPath(sample.id).stem}/x{box[0]:04d}_y{box[1]:04d}",
        image=replace(sample.image, box=box),
        labels=((label,),),
        subject=sample.subject,
        group=sample.group or sample.id,
        specimen=sample.specimen,
        annotations={"field": sample.id},
    )


def _dataset(
    fields: Dataset, samples: Sequence[Sample], how: tuple[str, Mapping[str, int]]
) -> Dataset:
    words, dropped = how
    found: Collection[str] = {sample.label for sample in samples}
    names = tuple(name for name in CLINICAL if name in found)
    if len(names) < 2:
        raise LabelError(
            f"the windows are of {len(names)} class{'es' if not names else ''}: {shown(names)}",
            where=fields.root,
            mend="list other white cells, and declare the list complete where it is",
        )
    ours = fields.layout == allidb1.LAYOUT
    notes = [f"windows over {len(fields)} fields, {words}"]
    notes += [f"{n} windows are left out: {why}" for why, n in sorted(dropped.items())]
    notes.append("a window is labelled by the centroids inside: its border may cut a cell")
    return replace(
        fields,
        name=LAYOUT if ours else f"patches of {fields.name}",
        samples=tuple(sorted(samples, key=lambda sample: sample.id)),
        labels=LabelSet(names, {name: CLINICAL[name] for name in names}),
        layout=LAYOUT if ours else f"patches of {fields.layout}",
        notes=(*notes, *fields.notes),
    )
