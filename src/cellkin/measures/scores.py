"""Counting right and wrong decisions (section 5.3.1), with intervals that own up to their unit.

Classes are read by name, never by position: sensitivity and specificity come from the clinical
meaning of the classes, and the confusion matrix keeps its rows and columns for classes that a fold
does not hold.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.core.errors import DecisionError
from cellkin.core.records import LabelSet, frozen

__all__ = [
    "FEWEST_SUBJECTS",
    "LEVEL",
    "RESAMPLES",
    "ClassScore",
    "Interval",
    "Scores",
    "score",
    "wilson",
]

LEVEL = 0.95
RESAMPLES = 2000
UNITS = ("image", "subject", "slide", "field", "slide/field", "cell")
FEWEST_SUBJECTS = 10  # per class; below it a bootstrap over subjects promises too much

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Subjects = Sequence[str | None]


@dataclass(frozen=True)
class Interval:
    """An interval of a share. `low` and `high` are in [0, 1], or None where `note` says why not.

    `method` is "Wilson" or "bootstrap over subjects" (slides, fields); `level` is its coverage.
    """

    low: float | None
    high: float | None
    method: str
    level: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class ClassScore:
    """One true class: n cells, `correct` of them found. `recall` is None where n is 0."""

    n: int
    correct: int
    recall: float | None
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "interval": self.interval.to_json()}


@dataclass(frozen=True, eq=False)
class Scores:
    """How many decisions were right. All shares are in [0, 1].

    Attributes:
        n, correct, accuracy: over all cells, by fine class. interval: of the accuracy.
        balanced_accuracy: mean recall over the classes that are present in the truth.
        per_class: one `ClassScore` for each name of the label set, in class order.
        clinical_accuracy: after merging the classes to lymphoblast or not, as Table 5 does.
        sensitivity: share of the lymphoblasts called lymphoblast. specificity: share of the other
            cells not called so. None where the truth holds no such cell.
        tp, fn, tn, fp: the counts behind these. All seven clinical values are None where no class
            means lymphoblast.
        names: the classes. confusion: (K, K) int64 counts, rows true, columns predicted, over all
            K names, present or not.
        by_subject: one row (subject, classes, n, correct, accuracy) per subject, sorted; cells of
            unknown subject come last, as subject None. Empty where no subject is known.
        unit: what the intervals take as independent: "image", "subject", "slide", "field", or
            "cell" where the same cell was decided several times.
    """

    n: int
    correct: int
    accuracy: float
    balanced_accuracy: float
    per_class: Mapping[str, ClassScore]
    clinical_accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    tp: int | None
    fn: int | None
    tn: int | None
    fp: int | None
    names: tuple[str, ...]
    confusion: Ints
    interval: Interval
    by_subject: tuple[Mapping[str, Any], ...]
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "confusion", frozen(self.confusion))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            **self.__dict__,
            "per_class": {name: entry.to_json() for name, entry in self.per_class.items()},
            "names": list(self.names),
            "confusion": self.confusion.tolist(),
            "interval": self.interval.to_json(),
            "by_subject": [{**row, "classes": list(row["classes"])} for row in self.by_subject],
        }


def wilson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The Wilson score interval of a share, for n independent trials.

    Args:
        correct: 0 to n. n: at least 1. level: its coverage, between 0 and 1.

    Raises:
        DecisionError: counts or level out of these ranges.
    """
    if not (n >= 1 and 0 <= correct <= n and 0 < level < 1):
        raise DecisionError(
            "there is no Wilson interval of these counts",
            where=f"{correct} of {n} at level {level}",
            mend="give 0 <= correct <= n, n >= 1 and a level between 0 and 1",
        )
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    middle = correct + z2 / 2
    half = math.sqrt(z2 * (correct * (n - correct) / n + z2 / 4))
    low = 0.0 if correct == 0 else (middle - half) / (n + z2)
    high = 1.0 if correct == n else (middle + half) / (n + z2)
    return low, high


def score(
    true: Sequence[str],
    predicted: Sequence[str],
    label_set: LabelSet,
    *,
    subjects: Subjects | None = None,
    unit: str = "image",
    seed: int = 0,
) -> Scores:
    """Count right and wrong decisions, with 95 % intervals.

    Args:
        true, predicted: N fine classes each. label_set: their names, order and clinical meaning.
        subjects: N names of persons (or of slides or fields, whichever `unit` says), where known.
        unit: "image" gives Wilson intervals, which hold only for independent cells; "subject",
            "slide", "field" or "cell" (decided several times) give percentile bootstraps over
            these (2000 resamples, `seed`), or none where a class that is present has fewer than 10
            of them.

    Raises:
        DecisionError: no cell, lengths that do not fit, an unknown unit, or a unit other than
            "image" with cells whose subject is not known.
        LabelError: a class that is not in `label_set`.
    """
    subjects = _checked_subjects(len(true), len(predicted), subjects, unit)
    size = len(label_set.names)
    truth = np.array([label_set.index(name) for name in true], np.int64)
    called = np.array([label_set.index(name) for name in predicted], np.int64)
    confusion = np.bincount(truth * size + called, minlength=size * size).reshape(size, size)
    counting = _Counting(truth, called == truth, label_set.names, subjects, unit, seed)
    per_class = counting.per_class()
    recalls = [entry.recall for entry in per_class.values() if entry.recall is not None]
    return Scores(
        n=len(truth),
        correct=int(counting.right.sum()),
        accuracy=float(counting.right.mean()),
        balanced_accuracy=math.fsum(recalls) / len(recalls),
        per_class=per_class,
        **_clinical(confusion, label_set),
        names=label_set.names,
        confusion=confusion.astype(np.int64),
        interval=counting.interval(),
        by_subject=counting.by_subject(),
        unit=unit,
    )


def _clinical(confusion: Ints, label_set: LabelSet) -> dict[str, Any]:
    keys = ("tp", "fn", "tn", "fp", "clinical_accuracy", "sensitivity", "specificity")
    if label_set.positive is None:
        return dict.fromkeys(keys)
    positive = np.array([label_set.is_positive(name) for name in label_set.names])
    tp, fn = confusion[positive][:, positive].sum(), confusion[positive][:, ~positive].sum()
    tn, fp = confusion[~positive][:, ~positive].sum(), confusion[~positive][:, positive].sum()
    shares = ((tp + tn, confusion.sum()), (tp, tp + fn), (tn, tn + fp))
    return {
        **dict(zip(keys, map(int, (tp, fn, tn, fp)), strict=False)),
        **dict(zip(keys[4:], (_share(int(a), int(b)) for a, b in shares), strict=True)),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class _Counting:
    """The cells of one table: true class index and right or wrong (N each), and their units."""

    truth: Ints
    right: Bools
    names: tuple[str, ...]
    subjects: tuple[str | None, ...] | None
    unit: str
    seed: int

    def per_class(self) -> Mapping[str, ClassScore]:
        return {name: self._one(i) for i, name in enumerate(self.names)}

    def _one(self, index: int) -> ClassScore:
        cells = self.truth == index
        n, correct = int(cells.sum()), int(self.right[cells].sum())
        return ClassScore(n, correct, _share(correct, n), self.interval(only=index))

    def interval(self, only: int | None = None) -> Interval:
        """Of the accuracy over all cells, or of the recall of one class (by index)."""
        cells = np.ones(len(self.truth), bool) if only is None else self.truth == only
        if not cells.any():
            method = "Wilson" if self.unit == "image" else self._bootstrap_name
            return Interval(None, None, method, LEVEL, "no cells of this class")
        if self.unit == "image":
            low, high = wilson(int(self.right[cells].sum()), int(cells.sum()))
            return Interval(low, high, "Wilson", LEVEL, self._note_on_cells())
        few = self._classes_with_few_subjects(only)
        if few:
            listed = ", ".join(f"{name}: {count}" for name, count in few.items())
            needed = f"{FEWEST_SUBJECTS} per class needed"
            note = f"too few {self.unit}s for an interval ({listed}; {needed})"
            return Interval(None, None, self._bootstrap_name, LEVEL, note)
        return self._bootstrap(cells)

    @property
    def _bootstrap_name(self) -> str:
        return f"bootstrap over {self.unit}s"

    def _note_on_cells(self) -> str:
        if self.subjects is None:
            return "cells taken as independent: the data set names no subjects"
        return "cells taken as independent, which cells of one subject are not"

    def _classes_with_few_subjects(self, only: int | None) -> dict[str, int]:
        """Classes that are present, but in fewer than 10 subjects, with their number."""
        pairs = set(zip(self.truth.tolist(), self.subjects or (), strict=True))
        counts = Counter(index for index, _ in pairs if only is None or index == only)
        return {
            self.names[index]: counts[index]
            for index in sorted(counts)
            if counts[index] < FEWEST_SUBJECTS
        }

    def _bootstrap(self, cells: Bools) -> Interval:
        """Percentile bootstrap: whole subjects are drawn with replacement."""
        owners = np.array(self.subjects)[cells]
        _, owner = np.unique(owners, return_inverse=True)
        totals = np.bincount(owner)
        hits = np.bincount(owner, weights=self.right[cells])
        drawn = np.random.default_rng(self.seed).integers(
            len(totals), size=(RESAMPLES, len(totals))
        )
        shares = hits[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
        low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        if low < high:
            return Interval(float(low), float(high), self._bootstrap_name, LEVEL)
        note = f"all {self.unit}s score alike: resampling them cannot show the uncertainty"
        return Interval(None, None, self._bootstrap_name, LEVEL, note)

    def by_subject(self) -> tuple[Mapping[str, Any], ...]:
        if self.subjects is None:
            return ()
        cells: dict[str | None, list[int]] = {}
        for i, subject in enumerate(self.subjects):
            cells.setdefault(subject, []).append(i)
        order = sorted(cells, key=lambda subject: (subject is None, subject or ""))
        return tuple(self._row(subject, cells[subject]) for subject in order)

    def _row(self, subject: str | None, cells: list[int]) -> Mapping[str, Any]:
        correct = int(self.right[cells].sum())
        classes = tuple(self.names[index] for index in np.unique(self.truth[cells]))
        return {
            "subject": subject,
            "classes": classes,
            "n": len(cells),
            "correct": correct,
            "accuracy": correct / len(cells),
        }


def _checked_subjects(
    n_true: int, n_predicted: int, subjects: Subjects | None, unit: str
) -> tuple[str | None, ...] | None:
    """The subjects, or None where not one is known.

    Raises:
        DecisionError: no cell, lengths that do not fit, or a unit that these subjects cannot give.
    """
    if unit not in UNITS:
        raise DecisionError(
            f"unknown unit {unit!r}", where="unit", mend=f"use one of: {', '.join(UNITS)}"
        )
    lengths = {n_true, n_predicted, n_true if subjects is None else len(subjects)}
    if len(lengths) > 1 or not n_true:
        given = "no" if subjects is None else str(len(subjects))
        raise DecisionError(
            "there is nothing to score" if lengths == {0} else "the lists to score do not fit",
            where=f"{n_true} true classes, {n_predicted} predicted, {given} subjects",
            mend="give one true and one predicted class (and one subject) per cell",
        )
    known = subjects is not None and any(subject is not None for subject in subjects)
    if unit != "image" and (subjects is None or None in subjects):
        missing = n_true if subjects is None else sum(subject is None for subject in subjects)
        raise DecisionError(
            f"the {unit} of {missing} of {n_true} cells is not known",
            where=f"unit = {unit}",
            mend='score these cells with unit = "image"',
        )
    return tuple(subjects) if subjects is not None and known else None
