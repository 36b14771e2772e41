"""Data sets with several labels per image (section 3.1): their targets, and a part to select on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellkin.core.arrays import Bytes, Floats, Ints
from cellkin.core.errors import LabelError, SplitError
from cellkin.core.records import Dataset, Sample, Split
from cellkin.datasets.parts.split_units import required_unit, split_unit

TRAIN, VAL = 0, 1


def levels_of(dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """The codes of every label level; cells with one class each are one level, their classes."""
    return dataset.levels or (dataset.labels.names,)


def target_matrix(dataset: Dataset) -> Bytes:
    """(N, C) of 0 and 1, the levels' codes beside each other in the order of `levels_of`.

    Raises:
        LabelError: an image has another number of levels than the data set, or a code that its
            level does not know.
    """
    levels = levels_of(dataset)
    starts = np.cumsum([0, *(len(codes) for codes in levels)])
    place = [
        {code: int(start) + i for i, code in enumerate(codes)}
        for start, codes in zip(starts, levels, strict=False)
    ]
    targets = np.zeros((len(dataset), int(starts[-1])), np.uint8)
    for row, sample in zip(targets, dataset.samples, strict=True):
        row[_columns(sample, place)] = 1
    return targets


def _columns(sample: Sample, place: list[dict[str, int]]) -> list[int]:
    if len(sample.labels) != len(place):
        raise LabelError(
            f"this image has {len(sample.labels)} label levels, the data set {len(place)}",
            where=sample.id,
            mend="give every image one set of codes per level; an empty set is possible",
        )
    for number, (codes, known) in enumerate(zip(sample.labels, place, strict=True), 1):
        if unknown := [code for code in codes if code not in known]:
            raise LabelError(
                f"the code {unknown[0]!r} is none of level {number}",
                where=sample.id,
                mend=f"known codes of this level: {', '.join(known)}",
            )
    return [known[c] for codes, known in zip(sample.labels, place, strict=True) for c in codes]


def hold_out(dataset: Dataset, *, seed: int, share: float = 0.2) -> Split:
    """A training and a validation part; images of one subject, slide or field stay together.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over such units: the code that
    is rarest among the units still to be dealt goes first, each of its units to the part that
    lacks most of this code.

    Args:
        share: of the images that the validation part should hold.

    Raises:
        SplitError: there are fewer than two units.
    """
    unit = split_unit(dataset)
    names = [required_unit(sample, unit) for sample in dataset.samples]
    units = sorted(set(names))
    if len(units) < 2:
        raise SplitError(
            f"one {unit} cannot be in two parts",
            where=dataset.root,
            mend=f"give images of at least two: the unit here is {unit}",
        )
    index = {name: i for i, name in enumerate(units)}
    rows = np.array([index[name] for name in names])
    counts = np.zeros((len(units), 1 + target_matrix(dataset).shape[1]))
    np.add.at(counts, rows, np.column_stack([np.ones(len(rows)), target_matrix(dataset)]))
    homes = _deal(counts, share, np.random.default_rng(seed))
    parts: Mapping[int, tuple[str, ...]] = {
        part: tuple(s.id for s, r in zip(dataset.samples, rows, strict=True) if homes[r] == part)
        for part in (TRAIN, VAL)
    }
    return Split(parts[TRAIN], parts[VAL], (), (), unit=unit, seed=seed)


def _deal(counts: Floats, share: float, rng: np.random.Generator) -> Ints:
    """The part of every unit. Column 0 of `counts` are its images, the others those of a code."""
    homes = np.full(len(counts), -1, np.int64)
    lacking = np.outer([1 - share, share], counts.sum(axis=0))
    order = rng.permutation(len(counts))
    while (homes < 0).any():
        waiting = order[homes[order] < 0]
        left = counts[waiting].sum(axis=0)
        left[0] = np.inf if (left[1:] > 0).any() else left[0]  # images alone decide only at the end
        column = int(np.argmin(np.where(left > 0, left, np.inf)))
        for row in waiting[counts[waiting, column] > 0]:
            need = [(lacking[part, column], lacking[part, 0]) for part in (TRAIN, VAL)]
            homes[row] = VAL if need[VAL] > need[TRAIN] else TRAIN
            lacking[homes[row]] -= counts[row]
    for part in (TRAIN, VAL):  # few and large units: neither part may stay empty
        if not (homes == part).any():
            homes[order[np.argmin(counts[order, 0])]] = part
    return homes
