"""Counting right and wrong decisions (section 5.3.1), with intervals that own up to their unit.

Classes are read by name, never by position: sensitivity and specificity come from the clinical
meaning of the classes, and the confusion matrix keeps its rows and columns for classes that a fold
does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellkin.core.arrays import Bools, Ints
from cellkin.core.errors import DecisionError
from cellkin.core.plain import Plain
from cellkin.core.records import LabelSet, Sample, frozen
from cellkin.core.units import IMAGE, SUBJECT, UNITS, Owners
from cellkin.measures import matrices
from cellkin.measures.intervals import Interval, share_interval

Subjects = Sequence[str | None]


@dataclass(frozen=True)
class ClassScore(Plain):
    """One true class: n cells, `correct` of them found. `recall` is None where n is 0."""

    n: int
    correct: int
    recall: float | None
    interval: Interval


@dataclass(frozen=True, eq=False)
class Scores(Plain):
    """How many decisions were right. All shares are in [0, 1].

    Attributes:
        n, correct, accuracy: over all cells, by fine class (`LabelSet.exact`). interval: of the
            accuracy.
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
            unknown subject come last, as subject None. Empty where no subject is known, and where
            the unit is a slide or field.
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
    truth, called = ([label_set.index(name) for name in names] for names in (true, predicted))
    counts = matrices.confusion(true, predicted, label_set.names)
    counting = _Counting(np.array(truth), np.array(called), label_set.names, subjects, unit, seed)
    return Scores(
        n=len(truth),
        correct=int(np.trace(counts)),
        accuracy=matrices.accuracy(counts) or 0.0,
        balanced_accuracy=matrices.balanced_accuracy(counts) or 0.0,
        per_class=counting.per_class(counts),
        **_clinical(counts, label_set),
        names=label_set.names,
        confusion=counts,
        interval=counting.interval(np.ones(len(truth), bool)),
        by_subject=counting.by_subject(),
        unit=unit,
    )


def score_samples(
    samples: Sequence[Sample],
    predicted: Sequence[str],
    label_set: LabelSet,
    *,
    unit: str,
    seed: int = 0,
) -> Scores:
    """`score` of decisions on samples whose split was by this unit.

    Raises:
        DecisionError, LabelError: as `score`.
    """
    owners = Owners.of(samples, SUBJECT if unit == IMAGE else unit)
    true = [sample.label for sample in samples]
    return score(true, predicted, label_set, subjects=owners.names, unit=unit, seed=seed)


def _clinical(counts: Ints, label_set: LabelSet) -> dict[str, Any]:
    keys = ("tp", "fn", "fp", "tn", "clinical_accuracy", "sensitivity", "specificity")
    if label_set.positive is None:
        return dict.fromkeys(keys)
    sides = matrices.sides(counts, label_set)
    shares = matrices.accuracy(sides), *matrices.recalls(sides)
    return dict(zip(keys, (*sides.ravel().tolist(), *shares), strict=True))


@dataclass(frozen=True)
class _Counting:
    """The cells of one table: numbers of their true and called classes (N each), their units."""

    truth: Ints
    called: Ints
    names: tuple[str, ...]
    subjects: tuple[str | None, ...] | None
    unit: str
    seed: int

    def per_class(self, counts: Ints) -> Mapping[str, ClassScore]:
        rows = zip(counts.sum(axis=1), np.diag(counts), matrices.recalls(counts), strict=True)
        return {
            self.names[i]: ClassScore(int(n), int(right), recall, self.interval(self.truth == i))
            for i, (n, right, recall) in enumerate(rows)
        }

    def interval(self, cells: Bools) -> Interval:
        """Of the share of these cells (a mask) that are right."""
        owners = self.subjects
        return share_interval(
            (self.truth == self.called)[cells],
            [self.names[i] for i in self.truth[cells]],
            None if owners is None else [owners[i] for i in np.flatnonzero(cells)],
            unit=self.unit,
            seed=self.seed,
        )

    def by_subject(self) -> tuple[Mapping[str, Any], ...]:
        if self.subjects is None or self.unit not in (SUBJECT, IMAGE):
            return ()
        cells: dict[str | None, list[int]] = {}
        for i, subject in enumerate(self.subjects):
            cells.setdefault(subject, []).append(i)
        order = sorted(cells, key=lambda subject: (subject is None, subject or ""))
        return tuple(self._row(subject, cells[subject]) for subject in order)

    def _row(self, subject: str | None, cells: list[int]) -> Mapping[str, Any]:
        correct = int((self.truth == self.called)[cells].sum())
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
    if unit not in (*UNITS, "cell"):
        raise DecisionError(
            f"unknown unit {unit!r}", where="unit", mend=f"use one of: {', '.join(UNITS)}, cell"
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
