"""Taking on labelled cells of a new place: which alignment serves them best, and what is usual.

Nothing is trained. Every alignment is judged by decisions on the cells themselves, each without its
own unit (slide, subject): the alignment is fitted anew without it, and it is called by the vote of
the references that are left. Where a class lies in one unit alone, its cells are left out one by
one; a class with a single cell is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellkin.atlas.adopted import Adopted
from cellkin.atlas.atlas import Atlas
from cellkin.atlas.cells import Cells
from cellkin.atlas.map import place as place_on
from cellkin.core.arrays import Floats, Singles
from cellkin.core.progress import Progress, silent
from cellkin.core.units import GROUP, IMAGE, SUBJECT
from cellkin.decision import Calibration, ClassIndex, Conformal, NearestByClass, vote
from cellkin.decision.alignment import Cloud, Fit, centred, class_means, coral
from cellkin.measures.counting import HeldOutCalls
from cellkin.measures.scores import score

CLEARLY = 2.0  # standard errors of a paired difference
MOST = 200  # cells that are judged: more tell little more, and take long


@dataclass(frozen=True)
class Alignment:
    """One way to compare cells of a new place: how they are moved, and who votes.

    Attributes:
        fit: None: as they are. home: whether the atlas's own references vote.
    """

    name: str
    fit: Fit | None = None
    home: bool = True


AS_THEY_ARE = Alignment("as they are")
CLASS_MEANS = Alignment("class means", class_means)
ALIGNMENTS = (
    AS_THEY_ARE,
    Alignment("references of the place alone", home=False),
    Alignment("centred", centred),
    Alignment("CORAL", coral),
    CLASS_MEANS,
)
"""The simplest first."""


@dataclass(frozen=True, eq=False)
class Judged:
    """How the cells of a new place were called with one alignment, each without its own unit.

    Attributes:
        rows: positions of the J cells that could be judged. called: their called classes.
        right: share of the k votes for their own class. mean_distances: to the k nearest.
        odd: nonconformity for the own class, see `NearestByClass`.
    """

    alignment: Alignment
    rows: tuple[int, ...]
    called: tuple[str, ...]
    right: Floats
    mean_distances: Floats
    odd: Floats

    @property
    def share(self) -> float:
        """Mean share of the votes for the own class: finer than counting right calls."""
        return float(self.right.mean()) if len(self.rows) else float("nan")


def adopt(
    atlas: Atlas, place: str, cells: Cells, vectors: Singles, *, progress: Progress = silent
) -> Adopted:
    """Cells of a new place, aligned as serves them best; without quality gate and images.

    Args:
        atlas: whose references are its own. cells: n labelled cells. vectors: their raw features
            (n, C).

    Raises:
        DecisionError: no cell.
    """
    new, home = Cloud(atlas.scale.apply(vectors), cells.labels), _home(atlas)
    left_out = _left_out(cells)
    tried: list[Judged] = []
    for alignment in ALIGNMENTS:
        progress("trying alignments", len(tried), len(ALIGNMENTS))
        tried.append(judge(atlas, alignment, new, home, left_out))
    progress("trying alignments", len(ALIGNMENTS), len(ALIGNMENTS))
    chosen = best(tried)
    fit = chosen.alignment.fit
    moved = None if fit is None else fit(new, home).before(atlas.scale)
    adopted = Adopted(
        place=place,
        cells=cells,
        vectors=vectors,
        xy=np.zeros((len(cells), 2)),
        alignment=moved,
        home=chosen.alignment.home,
        facts=_facts(atlas, cells, chosen, tried),
        quality=None,
        **_limits(atlas, cells, chosen),
    )
    spots = place_on(atlas.scale.apply(adopted.aligned), atlas.index, atlas.xy)
    return replace(adopted, xy=spots)


def _home(atlas: Atlas) -> Cloud:
    return Cloud(atlas.scaled, atlas.cells.labels)


def unit_of(cells: Cells) -> str:
    """The largest unit that every cell names, and of which there are several."""
    for unit in (SUBJECT, GROUP):
        owners = cells.owners(unit)
        if owners.known and len(set(owners.names)) > 1:
            return unit
    return IMAGE


def _left_out(cells: Cells) -> list[tuple[list[int], list[int]]]:
    """Rows that are judged together, and the rows that are left out for them."""
    owners, labels = cells.owners(unit_of(cells)).names, np.array(cells.labels, dtype=object)
    names = np.array(owners, dtype=object)
    rows = np.unique(np.linspace(0, len(cells) - 1, min(len(cells), MOST)).astype(int)).tolist()
    together: dict[tuple[Any, ...], tuple[list[int], list[int]]] = {}
    for row in rows:
        own, alike = names == names[row], labels == labels[row]
        if alike.sum() < 2:
            continue
        elsewhere = bool((alike & ~own).any())
        out = np.flatnonzero(own).tolist() if elsewhere else [row]
        together.setdefault(tuple(out), ([], out))[0].append(row)
    return list(together.values())


def judge(
    atlas: Atlas,
    alignment: Alignment,
    new: Cloud,
    home: Cloud,
    left_out: Sequence[tuple[list[int], list[int]]],
) -> Judged:
    """Call the cells of a new place, each without its own unit (see `_left_out`).

    Args:
        new, home: scaled features of the new place, and of the atlas's references.
    """
    rows: list[int] = []
    found: list[tuple[str, float, float, float]] = []
    for asked, out in left_out:
        kept = [i for i in range(len(new.labels)) if i not in set(out)]
        if len(kept) < (2 if alignment.home else atlas.k):
            continue
        near = _nearest(atlas, alignment, new.part(kept), new.vectors[asked], home)
        truth = [new.labels[i] for i in asked]
        found += _called(atlas, near, truth)
        rows += asked
    called, right, distances, odd = zip(*found, strict=True) if found else ((), (), (), ())
    return Judged(
        alignment, tuple(rows), called, *(np.array(v, float) for v in (right, distances, odd))
    )


def _nearest(
    atlas: Atlas, alignment: Alignment, new: Cloud, queries: Floats, home: Cloud
) -> NearestByClass:
    """The nearest of every class, among the references of both or of one place."""
    moved = None if alignment.fit is None else alignment.fit(new, home)
    own, asked = (v if moved is None else moved.apply(v) for v in (new.vectors, queries))
    names = [f"{i:09d}" for i in range(len(own))]
    near = ClassIndex(own, names, new.labels, atlas.distance).nearest(asked, atlas.k, None)
    if alignment.home:
        near = atlas.class_index.nearest(asked, atlas.k, None).joined(near, len(home.labels))
    return near


def _called(
    atlas: Atlas, near: NearestByClass, truth: Sequence[str]
) -> list[tuple[str, float, float, float]]:
    """Of each query the called class, the share of votes for its own, its distance and oddity."""
    odd, answers = near.nonconformity(), []
    for row, label in enumerate(truth):
        labels, distances = near.overall(row, atlas.k)
        called = vote(labels, distances, atlas.labels).label
        own = near.classes.index(label)
        right = labels.count(label) / len(labels)
        answers.append((called, right, float(np.mean(distances)), float(odd[row, own])))
    return answers


def best(tried: Sequence[Judged]) -> Judged:
    """The most votes for the own class, where the class means have fewer beyond `CLEARLY` standard
    errors; else they, which served new places best (docs/decisions/041). A tie among the others
    goes to the simplest.
    """
    usual = next(one for one in tried if one.alignment is CLASS_MEANS)
    better = [one for one in tried if one.rows == usual.rows and _clearly(one, usual)]
    return max(better, key=lambda one: round(one.share, 9), default=usual)


def _clearly(one: Judged, other: Judged) -> bool:
    """Whether more votes are right on the same cells, beyond what chance may do."""
    more = one.right - other.right
    if len(more) < 2 or more.mean() <= 0:
        return False
    return bool(more.mean() > CLEARLY * more.std(ddof=1) / np.sqrt(len(more)))


def _limits(atlas: Atlas, cells: Cells, chosen: Judged) -> dict[str, Any]:
    truth = [cells.labels[i] for i in chosen.rows]
    owners = cells.owners(unit_of(cells)).part(chosen.rows)
    unit = owners.unit if owners.several else IMAGE
    finite = [i for i in range(len(truth)) if np.isfinite(chosen.odd[i])]
    sets = Conformal.from_cells(
        [truth[i] for i in finite],
        [str(owners.names[i]) for i in finite],
        [float(chosen.odd[i]) for i in finite],
        unit="cell" if unit == IMAGE else unit,
        note="calibrated on the adopted cells, each without its own",
    )
    return {
        "calibration": Calibration.from_cells(truth, chosen.mean_distances.tolist()),
        "conformal": sets,
        "calls": HeldOutCalls.of(
            truth, chosen.called, owners.names, names=atlas.labels.names, unit=unit
        ),
    }


def _facts(atlas: Atlas, cells: Cells, chosen: Judged, tried: Sequence[Judged]) -> dict[str, Any]:
    """How it was adopted, as plain data."""
    unit = unit_of(cells)
    return {
        "cells": len(cells),
        "classes": {name: cells.labels.count(name) for name in atlas.labels.names},
        "unit": unit,
        "units": len(set(cells.owners(unit).names)),
        "alignment": chosen.alignment.name,
        "judged": _scores(atlas, cells, chosen),
        "tried": [_told(atlas, cells, one) for one in tried],
    }


def _told(atlas: Atlas, cells: Cells, one: Judged) -> dict[str, Any]:
    scores = _scores(atlas, cells, one)
    measured = {} if scores is None else {k: scores[k] for k in ("accuracy", "interval")}
    votes = one.share if len(one.rows) else None
    return {"name": one.alignment.name, "judged": len(one.rows), "votes": votes, **measured}


def _scores(atlas: Atlas, cells: Cells, one: Judged) -> dict[str, Any] | None:
    if not one.rows:
        return None
    owners = cells.owners(unit_of(cells)).part(one.rows)
    truth = [cells.labels[i] for i in one.rows]
    names = owners.names if owners.several else None
    return score(truth, one.called, atlas.labels, subjects=names, unit=owners.unit).to_json()
