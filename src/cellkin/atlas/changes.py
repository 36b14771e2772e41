"""What changes when an atlas looks by another engine: the same cells, decided by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.core.plain import Plain
from cellkin.core.records import Decision, DifferenceMap, Evidence, PairMap
from cellkin.core.units import IMAGE, Owners
from cellkin.measures.intervals import Share, share_of
from cellkin.measures.paired import Difference, paired_difference


@dataclass(frozen=True)
class Changes(Plain):
    """How the decisions on N cells differ, before and after.

    Attributes:
        calls: cells that are called otherwise, or are of a known kind for one of the two alone.
        right: how much more often the first is right than the second, by a paired test.
        sets: cells with another prediction set. states: with another state.
        percentile: largest change of a distance percentile, 0 to 100; None where none is known.
        distance: largest change of a mean distance, as a share of it.
        kin: share of the voting kin that both name, 0 to 1.
    """

    calls: Share
    right: Difference
    sets: int
    states: int
    percentile: float | None
    distance: float
    kin: float


@dataclass(frozen=True)
class EvidenceChanges(Plain):
    """How far the maps of N cells add up afterwards, and how alike they are.

    Attributes:
        cells: N. completeness: largest error of any map after, see `PairMap`. before: the same of
            the maps before. likeness: smallest correlation of a cell's map of its nearest kin with
            that before, where both name the same kin; None where none do.
    """

    cells: int
    completeness: float
    before: float
    likeness: float | None


def changes(
    before: Sequence[Decision], after: Sequence[Decision], truth: Sequence[str], owners: Owners
) -> Changes:
    """Compare two decisions on each of N cells, one or more.

    Args:
        truth: the N labels. owners: whose the cells are; cells of one owner are not independent.

    Raises:
        DecisionError: lists that do not fit.
    """
    pairs = list(zip(before, after, strict=True))
    right = [[d.label == label for d, label in zip(some, truth, strict=True)]
             for some in (before, after)]  # fmt: skip
    unit = owners.unit if owners.several else IMAGE
    names = owners.names if owners.several else [str(row) for row in range(len(pairs))]
    distances = [abs(b.mean_distance - a.mean_distance) / max(b.mean_distance, 1e-12)
                 for b, a in pairs]  # fmt: skip
    return Changes(
        calls=share_of([_called(b) != _called(a) for b, a in pairs]),
        right=paired_difference(right[0], right[1], names, unit=unit, seed=0),
        sets=sum(_set(b) != _set(a) for b, a in pairs),
        states=sum(b.state != a.state for b, a in pairs),
        percentile=_largest([(b.distance_percentile, a.distance_percentile) for b, a in pairs]),
        distance=max(distances),
        kin=float(np.mean([_shared(b, a) for b, a in pairs])),
    )


def evidence_changes(before: Sequence[Evidence], after: Sequence[Evidence]) -> EvidenceChanges:
    """Compare the evidence on each of N cells, one or more."""
    alike = [_alike(b, a) for b, a in zip(before, after, strict=True)]
    known = [value for value in alike if value is not None]
    return EvidenceChanges(
        cells=len(alike),
        completeness=max(map(_gap, after)),
        before=max(map(_gap, before)),
        likeness=min(known, default=None),
    )


def _called(decision: Decision) -> tuple[str, bool]:
    return decision.label, decision.novelty is not None and decision.novelty.unknown


def _set(decision: Decision) -> object:
    found = decision.prediction_set
    return None if found is None else frozenset(found.labels)


def _shared(before: Decision, after: Decision) -> float:
    names = [{n.id for n in one.neighbors} for one in (before, after)]
    return len(names[0] & names[1]) / len(names[0])


def _largest(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    known = [abs(b - a) for b, a in pairs if b is not None and a is not None]
    return max(known, default=None)


def _gap(evidence: Evidence) -> float:
    maps: tuple[PairMap | DifferenceMap, ...] = (*evidence.pairs, *evidence.differences)
    return max((one.completeness for one in maps), default=0.0)


def _alike(before: Evidence, after: Evidence) -> float | None:
    """The correlation of two maps of one pair; None where it is another pair, or flat."""
    first, second = before.pairs[0], after.pairs[0]
    if first.reference != second.reference:
        return None
    maps: list[Floats] = [np.asarray(one.on_query(), np.float64).ravel() for one in (first, second)]
    spread: Callable[[Floats], float] = np.std
    if not min(map(spread, maps)):
        return None
    return float(np.corrcoef(maps[0], maps[1])[0, 1])
