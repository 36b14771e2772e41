"""Does an atlas fit a batch of new cells? Asked before any call on them.

Features: how far a new cell lies from its kin, over what is usual for held-out cells of the class
that it is called. The references themselves would not do: the training has pulled them together.
Light, scale, stain and focus: measures of the prepared pictures beside those of the atlas's own,
drawn so that their classes are as the new cells are called: a batch of lymphocytes is not compared
with neutrophils. Every measure gets a test; all are corrected together; effects decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from cellkin.atlas import Atlas
from cellkin.atlas.opening import PREDICTIONS
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.artifacts import read_json
from cellkin.core.decisions import SAME_IMAGE, Decision
from cellkin.core.errors import DataError, DecisionError
from cellkin.core.fits import CARE, DISTANCE, FITS, MEASURES, UNFIT, Expected, Fits, Shift, Side
from cellkin.core.numbers import number, percent
from cellkin.core.progress import Progress, silent
from cellkin.imaging.appearance import APPEARANCE, appearance
from cellkin.measures.expected import LEAST, expected_accuracy
from cellkin.measures.intervals import middle
from cellkin.measures.shift import corrected, shift

T = TypeVar("T")

MOST = 400  # new cells that are measured
FEWEST = 20  # new cells: fewer show no more than their own chance
SEEN = 300  # pictures of the atlas that are measured
SHOWN = 12  # pictures of either side
FAR = 0.95  # share of the held-out cells that a cell must lie beyond to be far
FAR_CARE, FAR_UNFIT = 0.15, 0.3  # share of far cells from which on there is care, or no fit
LOSS_CARE, LOSS_UNFIT = 0.03, 0.15  # points of accuracy that are expected to be lost

TOO_FAR = (
    "not said: these cells lie too far from all that was held out, and such an estimate was found "
    "up to 60 points too high there"
)

Seen = Sequence[tuple[Bytes, Decision]]
"""New cells: prepared picture (S, S, 3) uint8 and decision."""


def fits(
    atlas: Atlas, seen: Seen, *, notes: Sequence[str] = (), progress: Progress = silent
) -> Fits:
    """Compare new cells with an atlas.

    Args:
        notes: what is to be said of the batch besides.

    Raises:
        DataError: fewer than 20 cells.
        DecisionError: the atlas has no held-out cells to compare with.
    """
    if len(seen) < FEWEST:
        raise DataError(
            f"{len(seen)} cells are too few to say whether an atlas fits them",
            where="the new cells",
            mend=f"give {FEWEST} cells or more, as they come, from one place",
        )
    decisions = [decision for _, decision in seen]
    calls = Counter(decision.label for decision in decisions)
    rows = matched(atlas.cells.labels, calls)
    (pictures,) = atlas.pictures([rows])
    own, new = pictures, [image for image, _ in seen]
    looks = measured([*own, *new], progress)
    values = {**_distances(atlas, decisions), **_looks(looks[: len(own)], looks[len(own) :])}
    shifts = corrected([shift(name, *pair) for name, pair in values.items()])
    far = float(np.mean([decision.is_far(FAR) for decision in decisions]))
    expected, absent = expected_calls(atlas, decisions)
    if far >= FAR_UNFIT:
        expected, absent = None, TOO_FAR
    verdict, reasons = judged(shifts, far, expected)
    sides = [
        Side({name: pair[i] for name, pair in values.items()}, typical(some, found))
        for i, (some, found) in enumerate(((own, looks[: len(own)]), (new, looks[len(own) :])))
    ]
    return Fits(
        verdict=verdict,
        reasons=reasons,
        cells=len(seen),
        shifts=shifts,
        far=far,
        expected=expected,
        expected_absent=absent,
        calls={name: calls[name] for name in atlas.labels.names if calls[name]},
        notes=(*notes, *_notes(decisions, values)),
        atlas=atlas.id,
        old=sides[0],
        new=sides[1],
    )


def chosen(images: Sequence[T]) -> tuple[list[T], list[str]]:
    """Up to `MOST` of the images, evenly over their order, and what is to be said of that."""
    if len(images) <= MOST:
        return list(images), []
    rows = np.linspace(0, len(images) - 1, MOST).round().astype(int)
    return [images[i] for i in rows], [f"{MOST} of {len(images)} cells were measured"]


def matched(labels: Sequence[str], calls: Mapping[str, int], most: int = SEEN) -> list[int]:
    """Positions of up to `most` cells whose classes are as frequent as those called, as far as
    there are so many; drawn evenly over their order.
    """
    total, chosen = sum(calls.values()), list[int]()
    for name, count in calls.items():
        rows = [i for i, label in enumerate(labels) if label == name]
        wanted = min(len(rows), max(round(most * count / total), 1))
        chosen += [rows[i] for i in np.linspace(0, len(rows) - 1, wanted).round().astype(int)]
    return sorted(chosen)


def usual(atlas: Atlas) -> dict[str, tuple[float, float]]:
    """Between which ends the middle 95 % of the atlas's own pictures lie, by measure."""
    rows = matched(atlas.cells.labels, Counter(atlas.cells.labels))
    (pictures,) = atlas.pictures([rows])
    looks = measured(pictures, silent)
    return {name: middle(old) for name, (old, _) in _looks(looks, looks).items()}


def measured(pictures: Sequence[Bytes], progress: Progress) -> list[dict[str, float]]:
    """The appearance of each picture."""
    found = []
    for i, picture in enumerate(pictures):
        found.append(appearance(picture))
        progress("measuring light, stain and focus", i + 1, len(pictures))
    return found


def _looks(
    old: Sequence[dict[str, float]], new: Sequence[dict[str, float]]
) -> dict[str, tuple[Floats, Floats]]:
    """Values of both sides by measure, where both have enough of them."""
    found = {}
    for name in APPEARANCE:
        sides = [np.array([m[name] for m in side if name in m]) for side in (old, new)]
        if min(map(len, sides)) >= FEWEST / 2:
            found[name] = (sides[0], sides[1])
    return found


def _distances(atlas: Atlas, decisions: Sequence[Decision]) -> dict[str, tuple[Floats, Floats]]:
    """Mean distances to the kin, over the median of held-out cells of the class.

    Raises:
        DecisionError: no class that the cells are called has held-out cells.
    """
    known = atlas.calibration.distances
    usual = {name: max(float(np.median(cells)), 1e-12) for name, cells in known.items()}
    new = [d.mean_distance / usual[d.label] for d in decisions if d.label in usual]
    called = {d.label for d in decisions}
    old = [x / usual[name] for name, cells in known.items() if name in called for x in cells]
    if min(len(old), len(new)) < 2:
        raise DecisionError(
            "this atlas keeps no held-out cells of the classes that the new cells are called",
            where="calibration",
            mend="cellkin index ATLAS CELLS --out OTHER holds cells out; more labelled cells help",
        )
    return {DISTANCE: (np.array(old), np.array(new))}


def typical(pictures: Sequence[Bytes], looks: Sequence[Mapping[str, float]]) -> tuple[Bytes, ...]:
    """Pictures from the middle of a batch: whose measures lie nearest to its medians."""
    names = [n for n in APPEARANCE if all(n in look for look in looks)]
    table = np.array([[look[n] for n in names] for look in looks]).reshape(len(looks), -1)
    away = np.abs(table - np.median(table, axis=0))
    unusual = (away / np.maximum(np.median(away, axis=0), 1e-9)).sum(axis=1)
    return tuple(np.asarray(pictures[i]) for i in np.argsort(unusual, kind="stable")[:SHOWN])


# expected accuracy ------------------------------------------------------------------------------


def confidence(decision: Decision) -> float:
    """How sure a call is, in [-1, 1]: agreement of the kin less the share of the held-out cells of
    its class that lie nearer to theirs. It held best of a dozen (docs/decisions/042).
    """
    percentile = decision.distance_percentile
    return decision.agreement - (100.0 if percentile is None else percentile) / 100


def expected_calls(atlas: Atlas, decisions: Sequence[Decision]) -> tuple[Expected | None, str]:
    """The accuracy to expect of calls, however far they are; or None and why."""
    stood = atlas.standpoint
    if stood is not None and stood.own < len(atlas.cells):
        return None, "no cell of an adopted place was set aside to test it"
    path = None if atlas.folder is None else atlas.folder / PREDICTIONS
    rows = read_json(path) if path and path.is_file() else []
    if len(rows) < LEAST:
        return None, f"needs {LEAST} held-out test calls, this atlas keeps {len(rows)}"
    held = [Decision.from_json(_bare(row)) for row in rows]
    right = [atlas.labels.right(d.label, row["truth"]) for d, row in zip(held, rows, strict=True)]
    sure, new = (np.array([confidence(d) for d in some]) for some in (held, decisions))
    there, here = (Counter(d.label for d in some) for some in (held, decisions))
    weights = np.array([here[d.label] / there[d.label] for d in held])
    if not weights.any():
        return None, "no held-out test call is of a class that these cells are called"
    return expected_accuracy(sure, np.array(right), new, weights), ""


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kept test decision without what is known of the cell besides."""
    return {key: value for key, value in row.items() if key not in ("truth", "group")}


# the verdict ------------------------------------------------------------------------------------


def judged(
    shifts: Sequence[Shift], far: float, expected: Expected | None
) -> tuple[str, tuple[str, ...]]:
    """The verdict, and why it is not `FITS`."""
    lost = 0.0 if expected is None else expected.held_out - expected.accuracy
    hard, soft = list[str](), list[str]()
    if far >= FAR_CARE:
        words = f"{percent(far, 0)} of the new cells lie farther from their kin than 95 % of the "
        (hard if far >= FAR_UNFIT else soft).append(words + "held-out cells of this atlas")
    if expected is not None and lost >= LOSS_CARE:
        words = f"{percent(expected.accuracy, 0)} of the calls are expected to be right, "
        (hard if lost >= LOSS_UNFIT else soft).append(
            words + f"{percent(expected.held_out, 0)} were on its held-out cells"
        )
    for one in shifts:
        if one.found and one.effect == "large" and one.name != DISTANCE:
            soft.append(_shifted(one))
    return (UNFIT if hard else CARE if soft else FITS), (*hard, *soft)


def _shifted(one: Shift) -> str:
    title, unit, _ = MEASURES[one.name]
    there, here = number(one.before), number(one.after)
    return f"{title}: {one.words} than in this atlas ({unit}: {there} there, {here} here)"


def _notes(decisions: Sequence[Decision], values: Mapping[str, Any]) -> list[str]:
    notes = []
    if twins := sum(d.twin == SAME_IMAGE for d in decisions):
        notes.append(f"{twins} of the cells are reference cells of this atlas: they flatter it")
    if missing := [MEASURES[n][0].lower() for n in APPEARANCE if n not in values]:
        notes.append(f"not compared, too few pictures show it: {', '.join(missing)}")
    return notes
