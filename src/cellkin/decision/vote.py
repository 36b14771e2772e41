"""What the neighbours say (section 4.1, Eq. 7): a vote in two steps, and its ties by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from cellkin.core.errors import DecisionError
from cellkin.core.records import CLINICAL_CLASSES, LabelSet

Name = TypeVar("Name")


@dataclass(frozen=True)
class Vote:
    """The outcome of a vote among k neighbours; the fields go into `Decision` as they are.

    Attributes:
        label: the fine class. clinical: its clinical class, or None where no class of the label
            set means lymphoblast.
        votes: fine class -> number of neighbours, in class order, classes without votes left out.
        clinical_votes: the same by clinical class, or None where `clinical` is None.
        agreement: share in (0, 1] of the k neighbours on the winning side of the question
            "lymphoblast or not", or of the winning fine class where that question is not asked.
        tie: None, "clinical" (the sides were equal in number) or "label" (fine classes were);
            "clinical" is named where both were.
    """

    label: str
    clinical: str | None
    votes: Mapping[str, int]
    clinical_votes: Mapping[str, int] | None
    agreement: float
    tie: str | None


def vote(labels: Sequence[str], distances: Sequence[float], label_set: LabelSet) -> Vote:
    """Vote among the k neighbours (section 4.1, Eq. 7).

    Where a class means lymphoblast, all k first vote on lymphoblast or not, so that two kinds of
    lymphoblast never lose against one other class that outnumbers each of them; then the winning
    side votes on the fine class. The largest number of votes wins. A tie goes to the smaller mean
    distance; if these are equal too, to the lymphoblasts (a missed lymphoblast is the graver
    mistake), and between fine classes to the first in class order. The paper met no tie and
    leaves it open (its footnote 4). The order of the neighbours does not matter.

    Args:
        labels: the neighbours' k fine classes. distances: their k distances.

    Raises:
        DecisionError: no neighbour, or distances that do not fit or are NaN or infinite.
        LabelError: a class that is not in `label_set`.
    """
    _check(labels, distances)
    groups: dict[str, list[float]] = {}
    for label, distance in sorted(
        zip(labels, distances, strict=True), key=lambda pair: label_set.index(pair[0])
    ):
        groups.setdefault(label, []).append(float(distance))
    side, side_tied = groups, False
    if label_set.positive is not None:
        side, side_tied = _winning_side(groups, label_set)
    label, label_tied = _winner(side)
    standing = side if label_set.positive is not None else {label: side[label]}
    return Vote(
        label=label,
        clinical=None if label_set.positive is None else label_set.clinical[label],
        votes={name: len(group) for name, group in groups.items()},
        clinical_votes=_clinical_votes(labels, label_set),
        agreement=sum(map(len, standing.values())) / len(labels),
        tie="clinical" if side_tied else "label" if label_tied else None,
    )


def _winning_side(
    groups: Mapping[str, list[float]], label_set: LabelSet
) -> tuple[dict[str, list[float]], bool]:
    """The fine classes of the side that wins "lymphoblast or not", and whether it was a tie."""
    sides = {
        is_positive: {n: g for n, g in groups.items() if label_set.is_positive(n) is is_positive}
        for is_positive in (True, False)  # lymphoblasts first: the first wins a complete tie
    }
    merged = {name: [*chain.from_iterable(side.values())] for name, side in sides.items() if side}
    winner, tied = _winner(merged)
    return sides[winner], tied


def _winner(groups: Mapping[Name, list[float]]) -> tuple[Name, bool]:
    """The largest group, and whether others were as large; then the nearest, then the first."""
    most = max(map(len, groups.values()))
    largest = [name for name, group in groups.items() if len(group) == most]
    # fsum rounds once, so the mean is the same in whatever order the neighbours come
    return min(largest, key=lambda name: math.fsum(groups[name]) / most), len(largest) > 1


def _clinical_votes(labels: Sequence[str], label_set: LabelSet) -> dict[str, int] | None:
    if label_set.positive is None:
        return None
    counted = Counter(label_set.clinical[label] for label in labels)
    return {name: counted[name] for name in CLINICAL_CLASSES if counted[name]}


def _check(labels: Sequence[str], distances: Sequence[float]) -> None:
    if not len(labels):
        raise DecisionError(
            "there is no neighbour to vote", where="k = 0", mend="ask for at least one neighbour"
        )
    if len(labels) != len(distances):
        raise DecisionError(
            "every neighbour needs one label and one distance",
            where=f"{len(labels)} labels and {len(distances)} distances",
            mend="give both in the same order",
        )
    if not all(math.isfinite(distance) for distance in distances):
        raise DecisionError(
            "a distance is NaN or infinite",
            where=", ".join(str(float(distance)) for distance in distances),
            mend="look at the vectors that were compared",
        )
