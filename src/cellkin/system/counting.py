"""From fields to a differential: find the white cells, cut them, decide each, count.

Nothing decides here but `DecisionSupport.decide`, and its gate is always asked. Cells that the edge
cuts, smudges, pictures that fail the gate and cells that fit no class are left out by name; what
the prediction set leaves open is counted as called, as the held-out calls are by which errors are
taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from cellkin.atlas import Atlas
from cellkin.core.arrays import Bytes
from cellkin.core.counts import (
    NOT_LEUKOCYTES,
    Correction,
    Count,
    CountedCell,
    CountedField,
    Differential,
    Foreseen,
    ShareFound,
    leukocytes,
)
from cellkin.core.errors import DecisionError, ImageError, NoCellError
from cellkin.core.kinds import NOTHING, PLATELET, kind
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, LabelSet
from cellkin.imaging.loading import BLOCK, unusable
from cellkin.imaging.outline import empty
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
from cellkin.system.naming import names_of
from cellkin.system.verdicts import classes_of, judged, of_cells, require_fields

WHOLE, SHOWN = "white cell", ("white cell", "border", "smudge")
OUTLOOK = (50, 100, 200, 500, 1000)  # cells that might be counted; the next two are foreseen

Fields = Path | str | FoundField | Sequence[Path | str | FoundField]
"""Files, folders of them, or fields that were searched already."""

NO_BLASTS = "not available: this atlas knows no lymphoblasts"
NOTHING_COUNTED = "not available: no cell is counted"
NOBODY = "not available: no cell was reviewed"
ONLY_BLASTS = "not available: this atlas knows no other white cell: the share says nothing"
LEFT_OUT_AS = {True: "fields do not look like a blood smear", False: "fields cannot be read"}
MENDS = {
    True: "give fields of blood smears; if it is one, count it with --every-field",
    False: "mend or remove this file: the other fields are counted",
}
"""Of fields that are no smear, and of those that cannot be read."""
NO_CALLS = "not available: this atlas does not know how it calls white cells"


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
    names = names_of([f.path if isinstance(f, FoundField) else Path(f) for f in fields])
    require_fields(verdicts, names)
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
    verdicts = of_cells(verdicts, cells)
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
class _LeftOut:
    """A field that cannot be read, or is no blood smear."""

    path: Path
    fault: ImageError
    no_smear: bool = False


def _found(
    fields: Sequence[Path | str | FoundField], how: CountOptions, progress: Progress
) -> list[FoundField | _LeftOut]:
    paths = [Path(f) for f in fields if not isinstance(f, FoundField)]
    fresh = zip(
        paths, find_each(paths, um_per_pixel=how.um_per_pixel, progress=progress), strict=True
    )
    found: list[FoundField | _LeftOut] = []
    for field in fields:
        path, answer = (field.path, field) if isinstance(field, FoundField) else next(fresh)
        if isinstance(answer, FoundField) and not (answer.suitable or how.every_field):
            fault = ImageError(answer.notes[0], where=path, mend=MENDS[True])
            found.append(_LeftOut(path, fault, no_smear=True))
        else:
            found.append(_LeftOut(path, answer) if isinstance(answer, ImageError) else answer)
    out = [field for field in found if isinstance(field, _LeftOut)]
    if len(out) == len(found):
        raise _together([(field.fault, field.no_smear) for field in out])
    return found


def left_out(count: Count) -> ImageError | None:
    """The one error that names the fields of a count that were left out; None where none was."""
    faults = [
        (ImageError(f.why_not, where=f.path, mend=MENDS[bool(f.no_smear)]), bool(f.no_smear))
        for f in count.fields_left_out
    ]
    return _together(faults) if faults else None


def _together(faults: Sequence[tuple[ImageError, bool]]) -> ImageError:
    """Of faults, each with whether the field is no smear."""
    kinds = {no_smear for _, no_smear in faults}
    words = "fields are left out" if len(kinds) > 1 else LEFT_OUT_AS[kinds.pop()]
    return unusable([fault for fault, _ in faults], words)


def _field(name: str, found: FoundField | _LeftOut) -> CountedField:
    if isinstance(found, _LeftOut):
        why, path = found.fault.what, str(found.path)
        if found.no_smear:
            return CountedField(name, path, no_smear=why)
        return CountedField(name, path, fault=why)
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
    read = sum(not field.why_not for field in fields)
    told = ", ".join(f"{n} {name}" for name, n in seen.items() if n) or "nothing"
    out = [f"{field.name} ({field.why_not})" for field in fields if field.why_not]
    raise DecisionError(
        f"no whole white cell was found in {read} {'field' if read == 1 else 'fields'}",
        where=f"seen: {told}" + f"; left out: {', '.join(out[:5])}" * bool(out),
        mend="give fields with white cells; where cells are there, say the scale (--mpp, "
        "um_per_pixel)",
    )


# deciding -------------------------------------------------------------------------------------


def _pictures(
    caller: Caller, found: Mapping[str, FoundField | _LeftOut], album: Album | None
) -> Iterator[Prepared]:
    """The white cells of all fields, cut at the scale and in the light of the atlas and prepared.

    Those of one field that lie near each other follow one another. Where a cell is to be shown
    alone and has no outline, empty ground stands for it, which no quality gate lets pass.
    """
    preprocessor = caller.atlas.encoder.preprocessor
    read = {name: one for name, one in found.items() if isinstance(one, FoundField)}
    window = caller.window().settled([*read.values()])
    for name, one in read.items():
        with Field(one.path) as field:
            even = Evened(field, one.light, one.white)
            if album is not None:
                album.field(name, even.overview(overview(field)[0]))
            whites = [cell for cell in one.cells if cell.kind == WHOLE]
            for cell, square in cuts(even, one, whites, window):
                try:
                    image = preprocessor.prepare(square, one.cut_um_per_pixel)
                except NoCellError:
                    image = empty(preprocessor.size)
                picture = Prepared(_id(name, cell), image)
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
    if {"unlike", "unknown"} & {*decision.reasons}:
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
        reviewed=_after_review(seen, labels) if verdicts else ShareFound(None, note=NOBODY),
        facts=caller.facts,
        provenance=caller.atlas.provenance.to_json(),
        subject=how.subject,
    )


def _table(cells: Sequence[CountedCell], labels: LabelSet) -> Differential:
    names = [cell.label for cell in cells if cell.label is not None]
    objects = [Counted(labels.group_title(name), kind(name, labels), "cell") for name in names]
    return differential(objects, consecutive=True)


def _share(cells: Sequence[CountedCell], labels: LabelSet) -> ShareFound:
    """Lymphoblasts over white cells counted, with the exact interval of that count."""
    if labels.positive is None:
        return ShareFound(None, note=NO_BLASTS)
    white = leukocytes(cells, labels)
    if not white:
        return ShareFound(None, note=NOTHING_COUNTED)
    blasts = sum(labels.is_positive(cell.label or "") for cell in white)
    interval = clopper_pearson(blasts, len(white))
    note = f"{blasts} of {len(white)}"
    return ShareFound(blasts / len(white), *interval.ends, interval.method, note)


def _after_review(cells: Sequence[CountedCell], labels: LabelSet) -> ShareFound:
    """The share with a person's word for calls; without an interval where calls are left in it,
    since that of the count alone would be too narrow.
    """
    found, white = _share(cells, labels), leukocytes(cells, labels)
    if found.share is None:
        return found
    by_person = sum(cell.reviewed is not None for cell in white)
    note = f"{found.note}; {by_person} reviewed by a person"
    if by_person == len(white):
        return replace(found, note=note)
    return ShareFound(found.share, note=f"{note}, the others as called: no interval")


def _corrected(caller: Caller, cells: Sequence[CountedCell]) -> Correction:
    """With the errors of the atlas taken off. Cells that a person reviewed carry none."""
    labels, white = caller.atlas.labels, leukocytes(cells, caller.atlas.labels)
    names = [name for name in labels.names if kind(name, labels) not in NOT_LEUKOCYTES]
    known = _known(caller, names)
    if labels.positive is None or not white or isinstance(known, str):
        why = known if isinstance(known, str) else NOTHING_COUNTED
        return Correction(ShareFound(None, note=why))
    called = [sum(c.label == name and c.reviewed is None for c in white) for name in names]
    sure = [sum(c.label == name and c.reviewed is not None for c in white) for name in names]
    positive = [place for place, name in enumerate(names) if labels.is_positive(name)]
    found = corrected_shares(called, known, confirmed=sure, positive=positive)
    sizes = [size for size in OUTLOOK if size > sum(called)][:2]  # each takes as long as the share
    more = foreseen(called, known, positive=positive, sizes=sizes) if any(called) else ()
    told = {labels.group_title(n): _told(s) for n, s in zip(names, found.shares, strict=True)}
    blasts = ShareFound(None) if found.positive is None else _told(found.positive)
    told |= {labels.group_title(names[place]): blasts for place in positive}
    return Correction(blasts, told, tuple(Foreseen(n, *interval.ends) for n, interval in more))


def _known(caller: Caller, names: Sequence[str]) -> HeldOutCalls | str:
    """Its calls of held-out white cells that name a white cell: the others are not counted either;
    or why no share can be corrected.
    """
    labels = caller.atlas.labels
    if labels.positive is None:
        return NO_BLASTS
    if all(map(labels.is_positive, names)):
        return ONLY_BLASTS
    try:
        known = caller.atlas.held_out_calls()
    except DecisionError as error:  # nothing was held out
        return f"not available: {error.what}"
    rows = [known.names.index(name) for name in names]
    among = replace(known, names=tuple(names), counts=known.counts[:, rows][:, :, rows])
    return among if among.counts.any() else NO_CALLS


def _told(found: tuple[float, Interval]) -> ShareFound:
    share, interval = found
    return ShareFound(share, *interval.ends, interval.method, interval.note)
