"""From fields to a differential: find the white cells, cut them, decide each, count.

Nothing decides here but `DecisionSupport.decide`, and its gate is always asked. Cells that the edge
cuts, smudges, pictures that fail the gate and cells that fit no class are left out by name; what
the prediction set leaves open is counted as called, as the held-out calls are by which errors are
taken off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from cellkin.atlas import Atlas
from cellkin.core.arrays import Bytes
from cellkin.core.counts import (
    Correction,
    Count,
    CountedCell,
    CountedField,
    Differential,
    Foreseen,
    ShareFound,
)
from cellkin.core.errors import DataError, DecisionError, ImageError
from cellkin.core.kinds import ERYTHROBLAST, NOTHING, PLATELET, kind
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, LabelSet
from cellkin.imaging.loading import BLOCK, unusable
from cellkin.imaging.preprocess import Prepared
from cellkin.measures.counting import HeldOutCalls, corrected_shares, foreseen
from cellkin.measures.differential import Counted, differential
from cellkin.measures.intervals import Interval, clopper_pearson
from cellkin.smear.cutting import cuts
from cellkin.smear.evened import Evened, overview
from cellkin.smear.field import Field
from cellkin.smear.finding import find_each
from cellkin.smear.found import Cell, FoundField
from cellkin.smear.listing import fields_inside
from cellkin.smear.suitable import SURE
from cellkin.smear.window import Window
from cellkin.system.verdicts import classes_of, judged, require_reviewed

WHOLE, SHOWN = "white cell", ("white cell", "border", "smudge")
Fields = Path | str | FoundField | Sequence[Path | str | FoundField]
"""Files, folders of them, or fields that were searched already."""

NOT_LEUKOCYTES = (NOTHING, PLATELET, ERYTHROBLAST)
NO_BLASTS = "not available: this atlas knows no lymphoblasts"
NOTHING_COUNTED = "not available: no cell is counted"
NOBODY = "not available: no cell was reviewed"


class Album(Protocol):
    """Who keeps pictures while they are at hand, for a page."""

    def field(self, name: str, view: Bytes) -> None:
        """A field in its even light, (H, W, 3) uint8 RGB, at a glance."""

    def cell(self, name: str, picture: Bytes) -> None:
        """A white cell as the network saw it, (S, S, 3) uint8 RGB."""


@dataclass(frozen=True)
class Caller:
    """Who calls the cells.

    Attributes:
        decide: `DecisionSupport.decide` on several pictures. facts: what the atlas is.
        window: how much of a field one of its pictures shows, told when it is asked for.
    """

    atlas: Atlas
    decide: Callable[[Sequence[Prepared]], list[Decision]]
    facts: Mapping[str, Any]
    window: Callable[[], Window]


@dataclass(frozen=True)
class CountOptions:
    """How fields are counted.

    Attributes:
        um_per_pixel: where it is known better than by the files or the red cells.
        subject: the person, where known: reference cells of the same person do not vote.
        reviewed: cell id -> class (name or title) that a person gave it, or one of
            `verdicts.SET_ASIDE`.
        every_field: count fields too that do not look like a blood smear.
    """

    um_per_pixel: float | None = None
    subject: str | None = None
    reviewed: Mapping[str, str] | None = None
    every_field: bool = False


def count(
    caller: Caller,
    fields: Fields,
    how: CountOptions,
    *,
    album: Album | None = None,
    progress: Progress = silent,
) -> Count:
    """See `DecisionSupport.count`."""
    fields = _listed(fields)
    verdicts = classes_of(how.reviewed or {}, caller.atlas.labels)
    names = _names([f.path if isinstance(f, FoundField) else Path(f) for f in fields])
    found = _found(fields, how, progress)
    cells = [
        _cell(name, cell)
        for name, field in zip(names, found, strict=True)
        if isinstance(field, FoundField)
        for cell in field.cells
        if cell.kind in SHOWN
    ]
    told = tuple(_field(name, field) for name, field in zip(names, found, strict=True))
    _require_whole(cells, told)
    require_reviewed(verdicts, cells)
    whole = sum(cell.kind == WHOLE for cell in cells)
    decisions: dict[str, Decision] = {}
    pictures = _pictures(caller, dict(zip(names, found, strict=True)), album)
    while block := list(islice(pictures, BLOCK)):
        answers = caller.decide(block)
        decisions.update((answer.query, answer) for answer in answers)
        progress("deciding", len(decisions), whole)
    labels = caller.atlas.labels
    called = [_called(cell, decisions.get(cell.id), labels) for cell in cells]
    return _count(caller, told, called, verdicts, how)


# finding --------------------------------------------------------------------------------------


def _listed(fields: Fields) -> list[Path | FoundField]:
    """One field or several, with folders replaced by the fields in them."""
    several = [fields] if isinstance(fields, str | Path | FoundField) else fields
    found: list[Path | FoundField] = []
    for field in several:
        if isinstance(field, FoundField):
            found.append(field)
        else:
            path = Path(field).expanduser()
            found += fields_inside(path) if path.is_dir() else [path]
    if not found:
        raise DecisionError("no field was given", where="fields", mend="give at least one")
    return found


@dataclass(frozen=True)
class _Unread:
    """A field that cannot be read."""

    path: Path
    fault: ImageError


def _found(
    fields: Sequence[Path | str | FoundField], how: CountOptions, progress: Progress
) -> list[FoundField | _Unread]:
    paths = [Path(f) for f in fields if not isinstance(f, FoundField)]
    fresh = zip(
        paths, find_each(paths, um_per_pixel=how.um_per_pixel, progress=progress), strict=True
    )
    found: list[FoundField | _Unread] = []
    for field in fields:
        path, answer = (field.path, field) if isinstance(field, FoundField) else next(fresh)
        if isinstance(answer, FoundField) and not (answer.suitable or how.every_field):
            mend = "give fields of blood smears; if it is one, count it with --every-field"
            answer = ImageError(answer.notes[0], where=path, mend=mend)
        found.append(_Unread(path, answer) if isinstance(answer, ImageError) else answer)
    faults = [field.fault for field in found if isinstance(field, _Unread)]
    if len(faults) == len(found):
        raise unusable(faults, "fields cannot be read")
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of files, with as much of their folders as tells them apart.

    Raises:
        DataError: one is there twice.
    """
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    full = [path.resolve() for path in paths]
    if len(set(full)) < len(full):
        twice = next(str(p) for p in paths if full.count(p.resolve()) > 1)
        raise DataError("a field is given twice", where=twice, mend="give each field once")
    root = os.path.commonpath([path.parent for path in full])
    return [path.relative_to(root).as_posix() for path in full]


def _field(name: str, found: FoundField | _Unread) -> CountedField:
    if isinstance(found, _Unread):
        return CountedField(name, str(found.path), fault=found.fault.what)
    kinds, ruler = [cell.kind for cell in found.cells], found.ruler
    return CountedField(
        name=name,
        path=str(found.path),
        width=found.width,
        height=found.height,
        um_per_pixel=None if ruler is None else ruler.um_per_pixel,
        ruler="" if ruler is None else ruler.source,
        red_cells=len(found.red_cells),
        platelets=kinds.count("platelet"),
        artefacts=kinds.count("artefact"),
        even_light=found.light is not None,
    )


def _cell(field: str, cell: Cell) -> CountedCell:
    numbers = {
        name: round(getattr(cell, name), 1) for name in ("x", "y", "left", "top", "right", "bottom")
    }
    return CountedCell(
        id=_id(field, cell), field=field, **numbers, kind=cell.kind, score=round(cell.score, 4)
    )


def _id(field: str, cell: Cell) -> str:
    return f"{field}@{round(cell.x)},{round(cell.y)}"


def _require_whole(cells: Sequence[CountedCell], fields: Sequence[CountedField]) -> None:
    if any(cell.kind == WHOLE for cell in cells):
        return
    kinds = [cell.kind for cell in cells]
    seen = {
        "isolated red cells": sum(field.red_cells for field in fields),
        "platelets": sum(field.platelets for field in fields),
        "white cells cut off by the edge": kinds.count("border"),
        "smudges": kinds.count("smudge"),
        "artefacts": sum(field.artefacts for field in fields),
    }
    read = sum(not field.fault for field in fields)
    raise DecisionError(
        f"no whole white cell was found in {read} {'field' if read == 1 else 'fields'}",
        where="seen: " + (", ".join(f"{n} {name}" for name, n in seen.items() if n) or "nothing"),
        mend="give fields with white cells; where cells are there, say the scale (--mpp, "
        "um_per_pixel)",
    )


# deciding -------------------------------------------------------------------------------------


def _pictures(
    caller: Caller, found: Mapping[str, FoundField | _Unread], album: Album | None
) -> Iterator[Prepared]:
    """The white cells of all fields, cut at the scale and in the light of the atlas and prepared.

    Those of one field that lie near each other follow one another.
    """
    prepare = caller.atlas.encoder.preprocessor.prepare
    read = {name: one for name, one in found.items() if isinstance(one, FoundField)}
    window = caller.window().settled([*read.values()])
    for name, one in read.items():
        with Field(one.path) as field:
            view, _ = overview(field)
            even = Evened(field, one.light, one.white)
            if album is not None:
                album.field(name, even.overview(view))
            whites = [cell for cell in one.cells if cell.kind == WHOLE]
            for cell, square in cuts(even, one, whites, window):
                picture = Prepared(_id(name, cell), prepare(square, one.cut_um_per_pixel))
                if album is not None:
                    album.cell(picture.name, picture.image)
                yield picture


def _called(cell: CountedCell, decision: Decision | None, labels: LabelSet) -> CountedCell:
    if decision is None:
        return replace(cell, left_out=cell.kind)
    return replace(cell, decision=decision, left_out=_why_not(decision, cell.score, labels))


def _why_not(decision: Decision, score: float, labels: LabelSet) -> str:
    """A key of `LEFT_OUT`, or an empty string where the call counts."""
    if decision.quality:
        return "clump" if set(decision.quality) == {"several cells"} else "quality"
    if "unlike" in decision.reasons:
        return "unlike"
    no_white_cell = kind(decision.label, labels) in (NOTHING, PLATELET)
    return "doubted" if no_white_cell and score >= SURE else ""


# counting -------------------------------------------------------------------------------------


def _count(
    caller: Caller,
    fields: tuple[CountedField, ...],
    called: Sequence[CountedCell],
    verdicts: Mapping[str, str],
    how: CountOptions,
) -> Count:
    labels = caller.atlas.labels
    seen = tuple(judged(cell, verdicts) for cell in called)
    return Count(
        fields=fields,
        cells=seen,
        labels=labels,
        differential=_table(seen, labels),
        naive=_share(called, labels),
        corrected=_corrected(caller, seen),
        reviewed=_share(seen, labels) if verdicts else ShareFound(None, note=NOBODY),
        facts=caller.facts,
        provenance=caller.atlas.provenance.to_json(),
        subject=how.subject,
    )


def _table(cells: Sequence[CountedCell], labels: LabelSet) -> Differential:
    names = [cell.label for cell in cells if cell.label is not None]
    objects = [Counted(labels.group_title(name), kind(name, labels), "cell") for name in names]
    return differential(objects, consecutive=True)


def _leukocytes(cells: Sequence[CountedCell], labels: LabelSet) -> list[CountedCell]:
    """Those that are counted as white cells."""
    return [
        cell
        for cell in cells
        if cell.label is not None and kind(cell.label, labels) not in NOT_LEUKOCYTES
    ]


def _share(cells: Sequence[CountedCell], labels: LabelSet) -> ShareFound:
    """Lymphoblasts over white cells counted, with the exact interval of that count."""
    if labels.positive is None:
        return ShareFound(None, note=NO_BLASTS)
    white = _leukocytes(cells, labels)
    if not white:
        return ShareFound(None, note=NOTHING_COUNTED)
    blasts = sum(labels.is_positive(cell.label or "") for cell in white)
    interval = clopper_pearson(blasts, len(white))
    by_person = sum(cell.reviewed is not None for cell in white)
    note = f"{blasts} of {len(white)}"
    if by_person:
        note += f"; {by_person} reviewed by a person" + ", the others as called" * (
            by_person < len(white)
        )
    return ShareFound(blasts / len(white), *interval.ends, interval.method, note)


def _corrected(caller: Caller, cells: Sequence[CountedCell]) -> Correction:
    """With the errors of the atlas taken off. Cells that a person reviewed carry none."""
    labels = caller.atlas.labels
    names = [name for name in labels.names if kind(name, labels) not in NOT_LEUKOCYTES]
    white = _leukocytes(cells, labels)
    if labels.positive is None or not white:
        return Correction(ShareFound(None, note=NOTHING_COUNTED if labels.positive else NO_BLASTS))
    called = [sum(c.label == name and c.reviewed is None for c in white) for name in names]
    sure = [sum(c.label == name and c.reviewed is not None for c in white) for name in names]
    positive = [place for place, name in enumerate(names) if labels.is_positive(name)]
    try:
        known = _among(caller.atlas.held_out_calls(), names)
        found = corrected_shares(called, known, confirmed=sure, positive=positive)
        more = foreseen(called, known, positive=positive) if any(called) else ()
    except DecisionError as error:
        return Correction(ShareFound(None, note=f"not available: {error.what}"))
    told = {labels.group_title(n): _told(s) for n, s in zip(names, found.shares, strict=True)}
    blasts = ShareFound(None) if found.positive is None else _told(found.positive)
    told |= {labels.group_title(names[place]): blasts for place in positive}
    return Correction(blasts, told, tuple(Foreseen(n, *interval.ends) for n, interval in more))


def _among(known: HeldOutCalls, names: Sequence[str]) -> HeldOutCalls:
    """Those calls of white cells that name a white cell: the others are not counted either."""
    rows = [known.names.index(name) for name in names]
    return replace(known, names=tuple(names), counts=known.counts[:, rows][:, :, rows])


def _told(found: tuple[float, Interval]) -> ShareFound:
    share, interval = found
    return ShareFound(share, *interval.ends, interval.method, interval.note)
