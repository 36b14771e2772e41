"""The audit of a data set: one look at every image, then pairs, conflicts and shortcuts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import cellkin
from cellkin.core.arrays import Singles
from cellkin.core.errors import DataError
from cellkin.core.findings import CROSSED, AuditReport, Cue, DuplicatePair
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Sample, Split
from cellkin.core.units import GROUP, IMAGE, SUBJECT, Owners
from cellkin.datasets.auditing.pairs import FIELDS, Match, duplicates
from cellkin.datasets.auditing.shortcuts import measure
from cellkin.datasets.auditing.sides import sides_of
from cellkin.datasets.auditing.views import CUES, View, view_all
from cellkin.datasets.parts.grouping import clusters
from cellkin.datasets.parts.places import PLACE, cells_by_place, place_warnings, places_of
from cellkin.datasets.published import found_by_class

KINDS = ("same file", "same pixels", "near duplicate", "overlap")


def audit(
    dataset: Dataset,
    *,
    splits: Sequence[Split] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> AuditReport:
    """Find duplicates, conflicting labels, leakage and shortcuts in a data set.

    Args:
        splits: one, or the folds, whose parts no pair should cross; by default the split that
            training would make.
        seed: of the default split and of the random deals of the shortcut meter.

    Raises:
        SplitError: a split does not belong to this data set.
        DataError: no image of it can be read.
    """
    sides, words = sides_of(dataset, splits, seed)
    views = view_all(dataset.samples, progress)
    good = [seen for seen in views if not seen.error]
    if not good:
        raise DataError(
            "none of the images can be read",
            where=dataset.root,
            mend="cellkin check DATA says why; the first: " + (views[0].error if views else ""),
        )
    matches, proposed = duplicates(good, progress)
    pairs = _pairs(matches, good, sides)
    return AuditReport(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        drawn=dataset.drawn,
        specimen=dataset.specimen,
        stain=dataset.stain,
        images=len(dataset),
        counts=found_by_class(dataset),
        titles={name: dataset.labels.title(name) for name in dataset.labels.names},
        subjects=len(dataset.subjects()),
        unreadable=tuple((seen.sample.id, seen.error) for seen in views if seen.error),
        pairs=pairs,
        groups=clusters((good[m.first].sample.id, good[m.second].sample.id) for m in matches),
        split=words,
        cues=_class_cues(good, seed, progress),
        subject_cues=_colour_cues(good, SUBJECT, (GROUP,), seed, progress),
        place_cues=_colour_cues(good, PLACE, (SUBJECT, GROUP), seed, progress),
        places=cells_by_place(dataset),
        place_warnings=place_warnings(dataset),
        proposed=proposed,
        compared=len(good) * (len(good) - 1) // 2,
        notes=_notes(dataset, good),
        seed=seed,
        version=cellkin.__version__,
    )


def _label(sample: Sample) -> str:
    """The label, or the codes of the finest level where there are several."""
    return "+".join(sample.labels[-1]) if sample.labels else ""


def _pairs(
    matches: Sequence[Match], views: Sequence[View], sides: dict[str, str]
) -> tuple[DuplicatePair, ...]:
    found = []
    for match in matches:
        a, b = views[match.first].sample, views[match.second].sample
        found.append(
            DuplicatePair(
                first=a.id,
                second=b.id,
                labels=(_label(a), _label(b)),
                subjects=(a.subject, b.subject),
                places=(a.place, b.place),
                sides=(sides.get(a.id), sides.get(b.id)),
                kind=match.kind,
                relation=match.relation,
                score=match.score,
                overlap=match.overlap,
                difference=match.difference,
            )
        )
    return tuple(sorted(found, key=_rank))


def _rank(pair: DuplicatePair) -> tuple[int, int, float, str, str]:
    worst = min((CROSSED.index(name) for name in pair.crosses), default=len(CROSSED))
    return worst, KINDS.index(pair.kind), -pair.score, pair.first, pair.second


def _owners(samples: Sequence[Sample], among: Sequence[str] = (SUBJECT, GROUP)) -> Owners:
    """What belongs together: subjects, else slides or fields, else every image by itself."""
    found = (Owners.of(samples, unit) for unit in (*among, IMAGE))
    return next(owners for owners in found if owners.known)


def _class_cues(views: Sequence[View], seed: int, progress: Progress) -> tuple[Cue, ...]:
    samples = [seen.sample for seen in views]
    if any(len(s.labels) != 1 or len(s.labels[0]) != 1 for s in samples):
        return ()
    owners = _owners(samples)
    found = [
        measure(
            name,
            _values(views, name),
            [s.label for s in samples],
            list(map(str, owners.names)),
            about=("class", owners.unit, seed),
            progress=progress,
        )
        for name in (*CUES, *([PLACE] if len(places_of(samples)) > 1 else []))
    ]
    return tuple(cue for cue in found if cue is not None)


def _colour_cues(
    views: Sequence[View], target: str, among: Sequence[str], seed: int, progress: Progress
) -> tuple[Cue, ...]:
    """Whether the mean colour gives the subject or the place away: never within one of `among`,
    where known.
    """
    samples = [seen.sample for seen in views]
    named = [getattr(s, target) for s in samples]
    if None in named:
        return ()
    owners = _owners(samples, among)
    cue = measure(
        "mean colour",
        _values(views, "mean colour"),
        named,
        list(map(str, owners.names)),
        about=(target, owners.unit, seed),
        progress=progress,
    )
    return () if cue is None else (cue,)


def _values(views: Sequence[View], name: str) -> Singles:
    if name == PLACE:  # one column for each, so that all are equally far from each other
        named = np.array([str(seen.sample.place) for seen in views])
        return np.asarray(named[:, None] == np.unique(named)[None], np.float32)
    return np.stack([seen.cues[name] for seen in views if seen.cues is not None])


def _notes(dataset: Dataset, views: Sequence[View]) -> tuple[str, ...]:
    notes = list(dataset.notes)
    if (fields := sum(seen.field is not None for seen in views)) > FIELDS:
        notes.append(
            f"{fields} whole fields of view are too many to compare each with every other "
            f"(up to {FIELDS}): only whole duplicates of them were sought, no overlaps"
        )
    if dataset.levels:
        notes.append("images carry several labels: the shortcut meter was left out")
    elif not dataset.subjects() and not any(s.group for s in dataset):
        notes.append(
            "no subjects or fields are named: the shortcut meter leaves out single images, and "
            "what two pictures of one slide share counts as a cue"
        )
    return tuple(notes)
