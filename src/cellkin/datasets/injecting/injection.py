"""Class injection (section 3.2 of the paper): a class of cell-free windows, or two halves of one.

Both make a new data set over images that stay where they are; `datasets.save` writes it down.
Floor 2 knows no network: the halves of a class come from outside, as ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.errors import DataError, LabelError, did_you_mean
from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.core.records import NO_CELL, Dataset, ImageRef, LabelSet, Sample
from cellkin.datasets.injecting.cell_free import (
    CellScale,
    FieldSurvey,
    Window,
    blasts_of,
    cell_scale,
    survey,
    windows_of,
)
from cellkin.datasets.listing import list_folder, no_images
from cellkin.datasets.opening import READERS, open_dataset
from cellkin.datasets.parts.splits import split_unit
from cellkin.datasets.readers import folders
from cellkin.imaging.decode import decode

NOTHING = "nothing"
SAME_SCALE = (0.75, 1.33)  # nuclei of the fields against those of the cells


@dataclass(frozen=True)
class Found:
    """Cell-free windows, and what was measured on the way.

    Attributes:
        samples: the windows as samples of the class, in the order of the fields.
        facts: plain data for the record: scale, focus, radii, counts by field.
        notes: what a user should know, one sentence each.
    """

    samples: tuple[Sample, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...]


def open_fields(source: str | Path) -> Dataset:
    """Field images: a data set whose samples carry centroids, or any folder of images.

    A layout that cellkin knows (a description, `labels.csv`, a published one) is read as such, with
    its subjects and its `annotations["blasts"]`; of class folders and loose images only the images
    are taken, each a field of its own.

    Raises:
        DataError: see `cellkin.datasets.open`.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".json" and not path.is_dir():
        return open_dataset(path)
    listing = list_folder(path)
    known = [r for r in READERS if r.LAYOUT != folders.LAYOUT and r.recognises(listing)]
    if known:
        return open_dataset(path)
    if not listing.images:
        raise no_images(listing)
    samples = tuple(Sample(id=i, image=ImageRef(path / i), labels=()) for i in listing.images)
    labels = LabelSet((), {})
    return Dataset(path.resolve().name, samples, labels, layout="a folder of fields", root=path)


def find_windows(
    cells: Dataset,
    fields: Dataset,
    *,
    seed: int,
    count: int | None = None,
    side: int | None = None,
    progress: Progress = silent,
) -> Found:
    """Find windows without a white cell, as many as the other classes have on average.

    Fields give a window each in turn, so that the windows come from as many fields as possible.

    Args:
        count: of windows. side: of a window in pixels; by default that of the cells' images, so
            that the scale is the cells'.
        seed: of the order in which fields and places are tried.

    Raises:
        DataError: fewer windows than asked for (it says how many), no nucleus in the cells.
    """
    count = round(float(np.mean(list(cells.counts().values())))) if count is None else count
    if count < 1 or (side is not None and side < 16):
        raise DataError(
            f"{count} windows of {side or 'the usual'} pixels cannot be cut",
            where="count, window",
            mend="ask for at least 1 window of at least 16 pixels",
        )
    scale = cell_scale([s.image for s in cells.samples], seed=seed, progress=progress)
    _require_nuclei(scale, cells)
    side = side or scale.side
    per_field, surveys = _surveyed(fields, scale, side, (seed, count), progress)
    chosen = _in_turn(per_field, count, seed)
    if len(chosen) < count:
        raise DataError(
            f"only {len(chosen)} windows are free of white cells, {count} were asked for",
            where=f"{len(fields)} fields in {fields.root}, windows of {side} pixels with a focus "
            f"of {scale.focus[0]:.2f} to {scale.focus[1]:.2f}",
            mend=f"ask for --count {len(chosen)}, give more fields, or a smaller --window"
            if chosen
            else "give fields of the same smears, or a smaller --window",
        )
    by_subject = split_unit(cells) == "subject"
    samples = tuple(_sample(fields.samples[i], window, by_subject) for i, window in chosen)
    focus = [window.focus for _, window in chosen]
    facts = _facts(scale, side, surveys, focus)
    return Found(samples, facts, _notes(cells, fields, facts, samples))


def add_class(dataset: Dataset, found: Found, *, name: str = NOTHING) -> Dataset:
    """The data set with one class more, of windows that show no white cell.

    Where the cells name no subject and no field, each cell becomes a field of its own: splits by
    field then keep the windows of one field together and treat the cells as before.

    Raises:
        LabelError: the data set has a class of this name already.
    """
    if name in dataset.labels.names:
        raise LabelError(
            f"this data set has a class {name!r} already",
            where=dataset.root,
            mend="use it as it is, or leave that class out first",
        )
    labels = LabelSet(
        (name, *dataset.labels.names),
        {name: NO_CELL, **dataset.labels.clinical},
        dataset.labels.titles,
    )
    by_image = split_unit(dataset) == "image"
    samples = [replace(s, group=s.id) for s in dataset.samples] if by_image else dataset.samples
    notes = [*dataset.notes, *found.notes]
    if by_image:
        notes.append("the cells name no field: each is taken as a field of its own")
    windows = tuple(replace(s, labels=((name,),)) for s in found.samples)
    return replace(
        dataset,
        samples=(*samples, *windows),
        labels=labels,
        layout=f"{dataset.layout} with cell-free windows",
        notes=tuple(notes),
    )


def halved(dataset: Dataset, name: str, second: Sequence[str] | Mapping[str, int]) -> Dataset:
    """The data set in which a class has become "NAME (1)" and "NAME (2)", two imaging groups of
    the same clinical meaning (for lymphoblasts never the subtypes L1 and L2).

    Args:
        second: ids of the second half, or id -> 0 or 1.

    Raises:
        LabelError: no such class, or a class of a new name is there already.
    """
    names = require_class(dataset, name)
    later = {i for i, half in second.items() if half} if isinstance(second, Mapping) else {*second}
    pair = tuple(f"{name} ({k})" for k in (1, 2))
    if taken := [new for new in pair if new in dataset.labels.names]:
        raise LabelError(
            f"this data set has a class {taken[0]!r} already", where=dataset.root, mend="rename it"
        )
    place = names.index(name)
    old, title = dataset.labels, dataset.labels.title(name)
    labels = LabelSet(
        (*names[:place], *pair, *names[place + 1 :]),
        {
            **{n: old.clinical[n] for n in names if n != name},
            **dict.fromkeys(pair, old.clinical[name]),
        },
        {
            **{n: t for n, t in old.titles.items() if n != name},
            **{new: f"{title} ({k})" for k, new in enumerate(pair, start=1)},
        },
    )
    samples = tuple(
        replace(s, labels=((pair[s.id in later],),)) if s.label == name else s
        for s in dataset.samples
    )
    note = f"class {name!r} was split in two imaging groups, which are no subtypes"
    return replace(dataset, samples=samples, labels=labels, notes=(*dataset.notes, note))


def require_class(dataset: Dataset, name: str) -> tuple[str, ...]:
    """The names of the classes, of which `name` is one.

    Raises:
        LabelError: it is none.
    """
    names = dataset.labels.names
    if name not in names:
        raise LabelError(
            f"there is no class {name!r}",
            where=f"classes {', '.join(names)}",
            mend=did_you_mean(name, names) or "name one of these classes",
        )
    return names


# windows ---------------------------------------------------------------------------------------


def _require_nuclei(scale: CellScale, cells: Dataset) -> None:
    if scale.nucleus_radius is None:
        raise DataError(
            "no nucleus is found in most of these cells, so none can be excluded in a field",
            where=cells.root,
            mend="use cells and fields with a Romanowsky stain (Wright, Giemsa, ...)",
        )


def _surveyed(
    fields: Dataset, scale: CellScale, side: int, drawn: tuple[int, int], progress: Progress
) -> tuple[list[list[Window]], list[FieldSurvey]]:
    """The windows of each field, no more than are needed, and what was seen in it."""
    seed, count = drawn
    radius = scale.nucleus_radius or 0.0
    per_field, surveys = [], []
    for i, field in enumerate(fields.samples):
        rgb = decode(field.image)
        seen = survey(rgb, blasts_of(field), radius)
        rng = np.random.default_rng([seed, 1, i])
        windows = windows_of(rgb, seen.free, side=side, focus=scale.focus, rng=rng)
        per_field.append([window for window, _ in zip(windows, range(count), strict=False)])
        surveys.append(replace(seen, free=np.zeros((0, 0), bool)))
        progress("looking through the fields", i + 1, len(fields))
    return per_field, surveys


def _in_turn(
    per_field: Sequence[Sequence[Window]], count: int, seed: int
) -> list[tuple[int, Window]]:
    """One window of each field after the other, fields in an order of chance, until there are
    enough; then in the order of the fields.
    """
    order = np.random.default_rng([seed, 2]).permutation(len(per_field)).tolist()
    longest = max(map(len, per_field), default=0)
    turns = [
        (i, per_field[i][turn])
        for turn in range(longest)
        for i in order
        if turn < len(per_field[i])
    ]
    return sorted(turns[:count], key=lambda pair: (pair[0], pair[1].box))


def _sample(field: Sample, window: Window, by_subject: bool) -> Sample:
    left, top = window.box[:2]
    group = field.group or field.id
    subject = field.subject
    if subject is None and by_subject:
        subject = f"field {group}"
    return Sample(
        id=f"{NOTHING}/{field.id}/{left}-{top}",
        image=replace(field.image, box=window.box),
        labels=((NOTHING,),),
        subject=subject,
        group=group,
        specimen=field.specimen,
    )


def _facts(
    scale: CellScale, side: int, surveys: Sequence[FieldSurvey], focus: Sequence[float]
) -> dict[str, Any]:
    from scipy.stats import mannwhitneyu  # takes long to import

    greater = mannwhitneyu(focus, scale.scores).statistic / (len(focus) * len(scale.scores))
    return {
        "window": side,
        "cells": {
            "side": scale.side,
            "nucleus_radius": scale.nucleus_radius,
            "focus": list(scale.focus),
        },
        "fields": {
            "surveyed": len(surveys),
            "nucleus_radius": float(np.median([s.nucleus_radius for s in surveys])),
            "measured": sum(s.measured for s in surveys),
            "cell_radius": float(np.median([s.cell_radius for s in surveys])),
            "nuclei": sum(s.nuclei for s in surveys),
            "centroids_without_nucleus": sum(s.unseen for s in surveys),
        },
        "focus_of_windows": [min(focus), max(focus)],
        "told_by_focus": float(max(greater, 1 - greater)),
    }


def _notes(
    cells: Dataset, fields: Dataset, facts: Mapping[str, Any], samples: Sequence[Sample]
) -> tuple[str, ...]:
    formats = [
        sorted({s.image.path.suffix.lower() for s in part}) for part in (samples, cells.samples)
    ]
    own, theirs = facts["fields"]["nucleus_radius"], facts["cells"]["nucleus_radius"]
    fitting = round(facts["window"] * own / theirs)
    ratio = own / theirs * facts["cells"]["side"] / facts["window"]
    stands = any(s.subject is None for s in fields) and split_unit(cells) == "subject"
    checks = (
        (True, f"{len(samples)} cell-free windows of {fields.name}, each within its field's group"),
        (
            formats[0] != formats[1],
            f"the windows come from {' '.join(formats[0])} files, the cells from "
            f"{' '.join(formats[1])}: traces of the format may tell them apart",
        ),
        (
            facts["told_by_focus"] > 0.75,
            "focus alone tells windows from cells in "
            f"{percent(facts['told_by_focus'], 0)} of pairs",
        ),
        (
            facts["fields"]["measured"] and not SAME_SCALE[0] < ratio < SAME_SCALE[1],
            f"nuclei in the fields are {ratio:.2f} times as large as in the cells: "
            f"a window of {fitting} pixels would show the same scale",
        ),
        (stands, "fields that name no subject stand as subjects of their own"),
        (fields.drawn and not cells.drawn, "the windows are drawn, the cells are not"),
    )
    return tuple(note for holds, note in checks if holds)
