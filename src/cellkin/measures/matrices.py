"""Measures of a table of decisions, by class name (section 5.3.1), and their spread over folds.

All of them are read from a confusion matrix whose rows (true) and columns (called) keep their
places, whether a fold holds the class or not. A measure that a fold cannot give (no lymphoblast in
it: no sensitivity) is None there, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.core.labels import CLINICAL_CLASSES, NO_CELL, LabelSet
from cellkin.core.studies import Mixup

BINARY = LabelSet(
    ("lymphoblast", "not lymphoblast"),
    {"lymphoblast": "lymphoblast", "not lymphoblast": "other cell"},
)
"""The two sides of sensitivity and specificity."""


@dataclass(frozen=True)
class Spread:
    """Values of one measure over folds.

    Attributes:
        mean: of the folds that have the measure; None where none has.
        sd_population: ddof = 0, the folds are all there is. sd_sample: ddof = 1, the folds are a
            sample; None for one fold. Tables in print use either, and seldom say which.
        folds: how many folds have the measure. missing: how many do not.
    """

    mean: float | None
    sd_population: float | None
    sd_sample: float | None
    folds: int
    missing: int


def confusion(truth: Sequence[str], called: Sequence[str], names: Sequence[str]) -> Ints:
    """(K, K) counts, rows true, columns called, in the order of `names`, present or not.

    Raises:
        DecisionError: the lists do not fit, or hold a class that is not in `names`.
    """
    size = len(names)
    counts = np.bincount(places(truth, called, names), minlength=size * size)
    return counts.reshape(size, size).astype(np.int64)


def places(truth: Sequence[str], called: Sequence[str], names: Sequence[str]) -> Ints:
    """(N,) where each cell stands in the flattened confusion matrix.

    Raises:
        DecisionError: as `confusion`.
    """
    place = {name: i for i, name in enumerate(names)}
    unknown = sorted({*truth, *called} - place.keys())
    if len(truth) != len(called) or unknown:
        raise DecisionError(
            "these decisions make no confusion matrix",
            where=f"{len(truth)} true and {len(called)} called classes"
            + (f"; unknown: {', '.join(unknown)}" if unknown else ""),
            mend=f"give one true and one called class per cell, of: {', '.join(names)}",
        )
    size = len(names)
    flat = [place[a] * size + place[b] for a, b in zip(truth, called, strict=True)]
    return np.array(flat, np.int64)


def merged(counts: Ints, labels: LabelSet) -> tuple[tuple[str, ...], Ints]:
    """The confusion matrix after merging to the clinical classes that the label set has.

    Returns:
        their names, in the order of `CLINICAL_CLASSES`, and the (C, C) counts.
    """
    names = tuple(name for name in CLINICAL_CLASSES if name in labels.clinical.values())
    into = np.array(
        [[labels.clinical[fine] == name for name in names] for fine in labels.names], np.int64
    )
    return names, into.T @ counts @ into


def percentages(counts: Ints) -> Floats:
    """Counts as percent of all cells, as Table 6 prints them; zeros where there is no cell."""
    total = counts.sum()
    return np.asarray(100.0 * counts / total if total else np.zeros(counts.shape))


def accuracy(counts: Ints) -> float | None:
    """Share of all cells that are right; None without cells."""
    total = int(counts.sum())
    return int(np.trace(counts)) / total if total else None


def balanced_accuracy(counts: Ints) -> float | None:
    """Mean recall over the classes that hold a cell; None without cells."""
    held = [recall for recall in recalls(counts) if recall is not None]
    return math.fsum(held) / len(held) if held else None


def weighted_f1(counts: Ints) -> float | None:
    """F1 of each class, weighted by its true cells; a class never called has F1 zero.

    None without cells.
    """
    rows, columns, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    total = int(rows.sum())
    if not total:
        return None
    denominators = rows + columns
    f1 = np.divide(2.0 * right, denominators, where=denominators > 0, out=np.zeros(len(rows)))
    return math.fsum(f1 * rows) / total


def sides(counts: Ints, labels: LabelSet) -> Ints:
    """(2, 2) counts of lymphoblast or not: `[[tp, fn], [fp, tn]]`."""
    blast = np.array([labels.is_positive(name) for name in labels.names])
    into = np.column_stack([blast, ~blast]).astype(np.int64)
    return into.T @ counts @ into


def recalls(counts: Ints) -> tuple[float | None, ...]:
    """Of each class, the share of its cells that are called so; None where it has no cell."""
    return tuple(
        int(right) / int(total) if total else None
        for right, total in zip(np.diag(counts), counts.sum(axis=1), strict=True)
    )


def sensitivity(counts: Ints, labels: LabelSet) -> float | None:
    """Share of the lymphoblasts called lymphoblast, whichever imaging group was called.

    None where no class means lymphoblast, or no cell is one.
    """
    return recalls(sides(counts, labels))[0]


def specificity(counts: Ints, labels: LabelSet) -> float | None:
    """Share of the other cells (and cell-free patches) not called lymphoblast; None as above."""
    return None if labels.positive is None else recalls(sides(counts, labels))[1]


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and both standard deviations of the folds that have a value."""
    known = [value for value in values if value is not None]
    missing = len(values) - len(known)
    if not known:
        return Spread(None, None, None, 0, missing)
    mean = math.fsum(known) / len(known)
    squares = math.fsum((value - mean) ** 2 for value in known)
    sample = math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else None
    return Spread(mean, math.sqrt(squares / len(known)), sample, len(known), missing)


def mixups(counts: Ints, labels: LabelSet) -> tuple[Mixup, ...]:
    """The claims of section 5.3.1 that can be checked with these classes.

    No cell-free patch is called a cell nor a cell "nothing", and the imaging groups of the
    lymphoblast are never confused with each other.
    """
    empty = [n for n in labels.names if labels.clinical[n] == NO_CELL]
    cells = [n for n in labels.names if labels.clinical[n] != NO_CELL]
    blasts = [n for n in labels.names if labels.is_positive(n)]
    found = []
    if empty and cells:
        title = " and ".join(f"“{labels.title(n)}”" for n in empty)
        pairs = [(a, b) for a in empty for b in cells]
        both = [*pairs, *((b, a) for a, b in pairs)]
        found.append(_mixup(f"{title} and a cell are never confused", both, counts, labels))
    if len(blasts) > 1:
        groups = [(a, b) for a in blasts for b in blasts if a != b]
        name = "the lymphoblast groups are never confused with each other"
        found.append(_mixup(name, groups, counts, labels))
    return tuple(found)


def _mixup(name: str, pairs: Sequence[tuple[str, str]], counts: Ints, labels: LabelSet) -> Mixup:
    place: Mapping[str, int] = {n: i for i, n in enumerate(labels.names)}
    which = tuple((a, b, int(counts[place[a], place[b]])) for a, b in pairs)
    rows = sorted({place[a] for a, _ in pairs})
    wrong = tuple(entry for entry in which if entry[2])
    return Mixup(name, int(counts[rows].sum()), sum(n for _, _, n in wrong), wrong)
