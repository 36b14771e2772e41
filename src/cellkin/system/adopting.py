"""Taking on labelled cells of another place: `adopt`. Nothing is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cellkin
from cellkin.atlas import Atlas, Cells, adopted_oddness, seen_from
from cellkin.atlas.adopted import PART
from cellkin.atlas.adopting import adopt as adopt_cells
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import refuse_existing
from cellkin.core.errors import DataError, DecisionError, LabelError
from cellkin.core.names import is_unknown, likeness, plain
from cellkin.core.records import Dataset, LabelSet
from cellkin.imaging.fingerprints import fingerprints
from cellkin.imaging.quality import LEAST, QualityGate, measure
from cellkin.system.cards import atlas_card, documents
from cellkin.system.runs import AdoptOptions, learned_from, load_images

FEW, FEW_OF_A_CLASS = 5, 2  # cells below which it is said that they are few
COPIED = ("log.jsonl", "training.png", "predictions.json", "split.json")


def adopt(
    atlas: str | Path,
    data: Dataset,
    *,
    out: str | Path,
    place: str | None = None,
    options: AdoptOptions = AdoptOptions(),
) -> Path:
    """A new atlas that also decides on cells of another place: its cells join the references.

    The features of the new place are laid over the atlas's as serves its own cells best, found by
    leaving out one slide or subject after the other; percentiles, prediction sets and the limits
    of the quality gate are new, for that place. On cells of its own place the new atlas decides as
    the old one does.

    Args:
        atlas: the folder of the atlas. data: labelled cells of the new place, of its classes.
        out: the folder to write. place: the name of the new place; by default that which the data
            set gives to all its cells, or the name of the data set.

    Returns:
        the folder.

    Raises:
        DecisionError: the atlas knows this place already. LabelError: a class that it does not
            know, or knows with another meaning. DataError: cells that are in the atlas, or twice
            among these. OutputError: `out` exists. Others: see `cellkin.core.errors`.
    """
    data.require_cells()
    out = Path(out).expanduser()
    if not options.overwrite:
        refuse_existing(out)
    parent = Atlas.open(atlas, device=options.device)
    name = _named(place or _place_of(data), parent)
    refuse_strange_classes(parent, data)
    images = load_images(data, parent.encoder.preprocessor, options.progress)
    _refuse_known(parent, data, fingerprints(images))
    ids = tuple(f"{name}/{sample.id}" for sample in data)
    features = parent.encoder.embed(images, ids, progress=options.progress)
    cells = _cells(name, ids, data)
    found = adopt_cells(parent, name, cells, features.vectors, progress=options.progress)
    facts = {**found.facts, **_made(parent, data, images)}
    odd, gate = adopted_oddness(parent, cells, images), _gate(parent.quality, images)
    found = replace(found, images=images, quality=gate, odd=odd, facts=facts)
    adopted = replace(parent, adopted=(*parent.adopted, found))
    texts = documents(atlas_card(adopted, "atlas"))
    copied = [path for n in COPIED if (path := Path(parent.folder or "") / n).is_file()]
    adopted.save(out, extra=copied, texts=texts, overwrite=options.overwrite)
    return out


def _place_of(data: Dataset) -> str:
    """The one place of all cells, where they name one; else the name of the data set."""
    named = {sample.place for sample in data}
    if named == {None}:
        return data.name
    if None in named or len(named) > 1:
        raise DataError(
            "these cells are of several places, or of an unknown one",
            where=f"{data.name}: {', '.join(sorted(str(one or 'not known') for one in named))}",
            mend="adopt the cells of one place at a time; --place NAME calls them all of one",
        )
    return str(named.pop())


def _named(place: str, atlas: Atlas) -> str:
    """The plain name of a new place.

    Raises:
        DecisionError: it names none, or one that the atlas knows.
    """
    name = plain(place)
    if is_unknown(name):
        raise DecisionError(
            f"{place!r} names no place", where="--place", mend="name the laboratory or the scanner"
        )
    for known in atlas.places:
        if likeness(known) == likeness(name):
            raise DecisionError(
                f"this atlas knows cells of {known!r} already",
                where=f"{atlas.folder}, --place {place}",
                mend="name another place; more cells of an adopted one are adopted together with "
                "the first, by the atlas that it was adopted into",
            )
    return name


def refuse_strange_classes(atlas: Atlas, data: Dataset) -> None:
    """Refuse classes that an atlas has no reference cell of, or knows with another meaning.

    Raises:
        LabelError: there is one.
    """
    known, found = set(atlas.cells.labels), Counter(sample.label for sample in data)
    if strange := [name for name in found if name not in known]:
        raise LabelError(
            f"this atlas has no cell of {', '.join(map(repr, strange))}",
            where=f"{data.name}; {atlas.folder} knows {', '.join(sorted(known))}",
            mend="leave these cells away, rename their class to one of the atlas's, or make an "
            "atlas that knows it: cellkin index ATLAS CELLS --out OTHER",
        )
    _refuse_other_meanings(atlas.labels, data.labels.only(found))


def _refuse_other_meanings(labels: LabelSet, given: LabelSet) -> None:
    for name in given.names:
        if given.clinical[name] != labels.clinical[name]:
            raise LabelError(
                f"{name!r} means {labels.clinical[name]!r} to this atlas, and "
                f"{given.clinical[name]!r} in these cells",
                where="classes.csv, --clinical",
                mend="give both the same meaning, or the class another name",
            )


def _refuse_known(atlas: Atlas, data: Dataset, marks: tuple[str, ...]) -> None:
    """Refuse cells that are in the atlas already, or twice among the new ones: by their pixels."""
    known = {atlas.mark(i): name for i, name in enumerate(atlas.cells.ids)}
    for one in atlas.adopted:
        seen = seen_from(atlas, one.place)
        known |= {seen.mark(i): name for i, name in enumerate(seen.cells.ids)}
    for sample, mark in zip(data, marks, strict=True):
        if mark in known:
            raise DataError(
                "this cell is in the atlas already, or twice among these: its own label would "
                "vote on it",
                where=f"{sample.id}, the same picture as {known[mark]}",
                mend="take it away; cellkin audit DATA lists the pictures that are there twice",
            )
        known[mark] = sample.id


def _cells(place: str, ids: tuple[str, ...], data: Dataset) -> Cells:
    return Cells(
        PART + place,
        ids,
        tuple(s.label for s in data),
        tuple(s.subject for s in data),
        tuple(s.group for s in data),
        (place,) * len(ids),
    )


def _gate(gate: QualityGate | None, images: Bytes) -> QualityGate | None:
    """The limits of quality of the new place; none where the atlas has none and cells are few."""
    if gate is None:
        return QualityGate.fit(images) if len(images) >= LEAST else None
    return gate.moved([measure(image) for image in images])


def _made(parent: Atlas, data: Dataset, images: Bytes) -> dict[str, Any]:
    """Where it comes from."""
    return {
        "parent": parent.id,
        "version": cellkin.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": data.name,
        "citation": data.citation,
        "licence": data.licence,
        "drawn": data.drawn,
        "trained_on": len(learned_from(data, images, parent.encoder)),
        "notes": _notes(data),
    }


def _notes(data: Dataset) -> list[str]:
    notes = []
    if len(data) < FEW:
        notes.append(f"{len(data)} cells are few: {FEW} or more tell what is usual")
    few = [name for name, n in data.counts().items() if 0 < n < FEW_OF_A_CLASS]
    if few:
        notes.append(f"one cell alone of {', '.join(few)}: how it is called is not measured")
    return notes
