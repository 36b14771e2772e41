"""Training, validation, calibration and test parts (section 5.2), seeded and stratified.

The paper splits by image. Cells of one subject are alike, so here subjects (or slides or fields)
stay on one side wherever they are known; `unit="image"` gives the paper's way, and says so.

Calibration cells are cut from the validation part: cells that were neither trained on nor looked
at for selection. Where that part is too small to share, it calibrates as well; the note says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cellkin.core.errors import SplitError, did_you_mean
from cellkin.core.records import Dataset, Sample, Split
from cellkin.datasets.balance import Unit, deal_cells, deal_units

__all__ = [
    "SHARED_CALIBRATION",
    "UNITS",
    "folds",
    "official",
    "refuse_subjects_in_two_folds",
    "single",
    "split_unit",
    "verify_split",
]

SUBJECT, GROUP, IMAGE = "subject", "slide/field", "image"
UNITS = (SUBJECT, GROUP, "slide", "field", IMAGE)
SHARED_CALIBRATION = "calibrated on the selection set"


def split_unit(dataset: Dataset) -> str:
    """What to keep on one side: "subject", else "slide/field", where every image has one, else
    "image".

    Raises:
        SplitError: only some of the images have a subject, or none has and only some a slide or
            field.
    """
    for unit in (SUBJECT, GROUP):
        lacking = sum(_unit_of(sample, unit) is None for sample in dataset)
        if lacking == 0 and len(dataset):
            return unit
        if lacking < len(dataset):
            raise SplitError(
                f"{lacking} of {len(dataset)} images have no {unit}, the others have one",
                where=dataset.root,
                mend=f"complete the {unit} of every image, or take the unit 'image', which leaves "
                f"cells of one {unit} on both sides",
            )
    return IMAGE


def folds(dataset: Dataset, *, n: int = 5, seed: int = 0, unit: str = "auto") -> tuple[Split, ...]:
    """n-fold cross-validation: fold i is tested, fold i + 1 selects and calibrates, the rest train.

    With n = 5 about 3/5 train, 1/5 validate and 1/5 are tested (section 5.2). The same seed gives
    the same folds, in whatever order the files are listed.

    Args:
        unit: "auto" (see `split_unit`), "subject", "slide/field" ("slide", "field") or "image".

    Returns:
        n splits; every image is tested exactly once.

    Raises:
        SplitError: n below 3 or above the number of units; an unknown unit, or one that not every
            image has; a class that would be missing from a training part.
    """
    unit = _checked_unit(dataset, unit)
    _check_numbers(n, seed)
    units = _units(dataset.samples, unit)
    if n > len(units):
        raise SplitError(
            f"{n} folds cannot be cut from {len(units)} {unit}s",
            where=dataset.root,
            mend=f"take at most {len(units)} folds" if len(units) > 2 else "add data",
        )
    _refuse_rare_classes(dataset, unit)
    dealt = _deal(dataset.samples, unit, n, np.random.default_rng([seed, 0]))
    splits = []
    for i in range(n):
        j = (i + 1) % n
        train = [sample for k, part in enumerate(dealt) if k not in (i, j) for sample in part]
        rng = np.random.default_rng([seed, 1, i])
        splits.append(_finish(dataset, (train, dealt[j], dealt[i]), unit, (seed, rng)))
    return tuple(splits)


def single(dataset: Dataset, *, seed: int = 0, unit: str = "auto", n: int = 5) -> Split:
    """One split: the first of `folds`. Raises what `folds` raises."""
    return folds(dataset, n=n, seed=seed, unit=unit)[0]


def official(dataset: Dataset, *, test_fold: str | None = None, seed: int = 0) -> Split:
    """Test on one of the publisher's own folds (the last by default).

    The other folds are divided 3 : 1 into training and validation part, by subject where known.

    Raises:
        SplitError: images without a fold, fewer than two folds, no fold of this name, a subject in
            two folds, or a class that would be missing from the training part.
    """
    _check_numbers(3, seed)
    names = sorted({sample.fold for sample in dataset if sample.fold is not None})
    lacking = sum(sample.fold is None for sample in dataset)
    if lacking or len(names) < 2:
        raise SplitError(
            f"{lacking} of {len(dataset)} images have no official fold"
            if lacking
            else f"the publisher's folds are {len(names)}, two are needed",
            where=dataset.root,
            mend="cut folds of your own: datasets.folds(...)",
        )
    chosen = test_fold if test_fold is not None else names[-1]
    if chosen not in names:
        raise SplitError(
            f"there is no official fold {chosen!r}",
            where=f"{dataset.root} (folds: {', '.join(names)})",
            mend=did_you_mean(chosen, names) or "name one of these folds",
        )
    refuse_subjects_in_two_folds(dataset.samples, where=dataset.root)
    unit = split_unit(dataset)
    rest = [sample for sample in dataset if sample.fold != chosen]
    test = [sample for sample in dataset if sample.fold == chosen]
    quarters = _deal(rest, unit, 4, np.random.default_rng([seed, 2]))
    train = [sample for part in quarters[1:] for sample in part]
    rng = np.random.default_rng([seed, 3])
    return _finish(dataset, (train, quarters[0], test), unit, (seed, rng))


def verify_split(split: Split, dataset: Dataset) -> None:
    """Check that a split belongs to a data set and that nothing lies on two sides.

    Raises:
        SplitError: an id that the data set does not have, an id in two parts or twice in one, or
            a subject, slide or field in two parts although the split is by that unit.
    """
    by_id = {sample.id: sample for sample in dataset}
    parts = split.parts()
    places: dict[str, list[str]] = defaultdict(list)
    for part, ids in parts.items():
        for i in ids:
            places[i].append(part)
    unknown = [i for i in places if i not in by_id]
    if unknown:
        raise SplitError(
            f"{len(unknown)} images of this split are not in the data set",
            where=f"{unknown[0]} ({dataset.root})",
            mend="use the split with the data set it was cut from, or cut a new one",
        )
    _refuse_shared(places, "image")
    if split.unit == IMAGE:
        return
    sides: dict[str, list[str]] = defaultdict(list)
    for part, ids in parts.items():
        names = {_required_unit(by_id[i], split.unit) for i in ids}
        for name in names:
            sides[name].append(part)
    _refuse_shared(sides, split.unit)


def refuse_subjects_in_two_folds(samples: Iterable[Sample], *, where: object) -> None:
    """Raise where the publisher's folds share a subject.

    Raises:
        SplitError: a subject lies in two folds.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.subject is not None and sample.fold is not None:
            found[sample.subject].add(sample.fold)
    shared = sorted(subject for subject, names in found.items() if len(names) > 1)
    if shared:
        raise SplitError(
            f"{len(shared)} subjects lie in two official folds, first {shared[0]!r} in "
            f"{' and '.join(sorted(found[shared[0]]))}",
            where=where,
            mend="restore the publisher's folds: all cells of a subject lie in one",
        )


def _refuse_shared(places: Mapping[str, Sequence[str]], unit: str) -> None:
    for name, parts in places.items():
        if len(parts) > 1:
            raise SplitError(
                f"{unit} {name!r} is on two sides of the split: {' and '.join(parts)}",
                where=name,
                mend="cut the split anew: datasets.folds(...)",
            )


def _unit_of(sample: Sample, unit: str) -> str | None:
    if unit == IMAGE:
        return sample.id
    return sample.subject if unit == SUBJECT else sample.group


def _required_unit(sample: Sample, unit: str) -> str:
    name = _unit_of(sample, unit)
    if name is None:
        raise SplitError(
            f"this image has no {unit}",
            where=sample.id,
            mend=f"complete the {unit} of every image, or take the unit 'image'",
        )
    return name


def _checked_unit(dataset: Dataset, unit: str) -> str:
    if not len(dataset):
        raise SplitError("the data set has no images", where=dataset.root, mend="add images")
    if unit == "auto":
        return split_unit(dataset)
    if unit not in UNITS:
        raise SplitError(
            f"unknown unit {unit!r}",
            where="unit",
            mend=did_you_mean(unit, UNITS) or f"use one of: auto, {', '.join(UNITS)}",
        )
    lacking = sum(_unit_of(sample, unit) is None for sample in dataset)
    if lacking:
        raise SplitError(
            f"{lacking} of {len(dataset)} images have no {unit}",
            where=dataset.root,
            mend=f"name the {unit} of every image in labels.csv, or take unit 'auto'",
        )
    return unit


def _check_numbers(n: int, seed: int) -> None:
    if n < 3:
        raise SplitError(
            f"{n} folds are too few",
            where="n",
            mend="take 3 or more: one to test, one to select, the rest to train",
        )
    if seed < 0:
        raise SplitError(f"a seed of {seed}", where="seed", mend="take 0 or a positive number")


def _units(samples: Iterable[Sample], unit: str) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[_required_unit(sample, unit)].append(sample)
    return dict(found)


def _units_per_class(samples: Iterable[Sample], unit: str) -> Counter[str]:
    return Counter(label for label, _ in {(s.label, _required_unit(s, unit)) for s in samples})


def _refuse_rare_classes(dataset: Dataset, unit: str) -> None:
    found = _units_per_class(dataset.samples, unit)
    needed = 3 if unit == IMAGE else 2
    rare = [f"{name!r} ({found[name]})" for name in dataset.labels.names if found[name] < needed]
    if rare:
        raise SplitError(
            f"too few {unit}s for a split: class {', '.join(rare)}",
            where=dataset.root,
            mend=f"a class needs cells of {needed} {unit}s or more, to be trained in every fold",
        )


def _deal(
    samples: Sequence[Sample], unit: str, parts: int, rng: np.random.Generator
) -> list[list[Sample]]:
    by_id = {sample.id: sample for sample in samples}
    if unit == IMAGE:
        classes: dict[str, list[str]] = defaultdict(list)
        for sample in samples:
            classes[sample.label].append(sample.id)
        return [[by_id[i] for i in ids] for ids in deal_cells(classes, parts, rng)]
    names = sorted({sample.label for sample in samples})
    units = [
        Unit(name, tuple(s.id for s in members), _class_counts(members, names))
        for name, members in _units(samples, unit).items()
    ]
    dealt = deal_units(units, parts, rng, train=parts > 2)
    return [[by_id[i] for u in part for i in u.ids] for part in dealt]


def _class_counts(samples: Iterable[Sample], names: Sequence[str]) -> tuple[int, ...]:
    counts = Counter(sample.label for sample in samples)
    return tuple(counts[name] for name in names)


def _finish(
    dataset: Dataset,
    parts: tuple[Sequence[Sample], Sequence[Sample], Sequence[Sample]],
    unit: str,
    randomness: tuple[int, np.random.Generator],
) -> Split:
    train, held_out, test = parts
    seed, rng = randomness
    _refuse_empty_part(dataset, parts, unit)
    _refuse_untrained_class(dataset, train)
    val, calibration = _cut_calibration(held_out, unit, rng)
    notes = [*_unit_notes(dataset, unit), *_absent_notes(dataset, held_out, test)]
    if not calibration:
        notes.append(SHARED_CALIBRATION)
    split = Split(
        train=_ids(train),
        val=_ids(val),
        calibration=_ids(calibration),
        test=_ids(test),
        unit=unit,
        seed=seed,
        note="; ".join(notes),
    )
    verify_split(split, dataset)
    return split


def _ids(samples: Iterable[Sample]) -> tuple[str, ...]:
    return tuple(sorted(sample.id for sample in samples))


def _cut_calibration(
    held_out: Sequence[Sample], unit: str, rng: np.random.Generator
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    classes = {sample.label for sample in held_out}
    found = _units_per_class(held_out, unit)
    if classes and min(found.values()) >= 2:
        first, second = _deal(held_out, unit, 2, rng)
        if {s.label for s in first} == classes == {s.label for s in second}:
            return first, second
    return held_out, ()


def _refuse_empty_part(dataset: Dataset, parts: Sequence[Sequence[Sample]], unit: str) -> None:
    for name, samples in zip(("training", "validation", "test"), parts, strict=True):
        if not samples:
            raise SplitError(
                f"the {name} part would be empty: too few {unit}s",
                where=dataset.root,
                mend="add data, or cut by a smaller unit",
            )


def _refuse_untrained_class(dataset: Dataset, train: Iterable[Sample]) -> None:
    trained = {sample.label for sample in train}
    missing = [name for name in dataset.labels.names if name not in trained]
    if missing:
        raise SplitError(
            f"class {', '.join(map(repr, missing))} would have no cell to train on",
            where=dataset.root,
            mend="take more folds or another seed, or add subjects of this class",
        )


def _unit_notes(dataset: Dataset, unit: str) -> list[str]:
    notes = []
    if unit != SUBJECT and any(sample.subject is not None for sample in dataset):
        notes.append(
            f"by {unit} although subjects are known: cells of one subject are on both sides"
        )
    elif unit == IMAGE and any(sample.group is not None for sample in dataset):
        notes.append("by image although slides or fields are known: cells of one are on both sides")
    return notes


def _absent_notes(
    dataset: Dataset, held_out: Iterable[Sample], test: Iterable[Sample]
) -> list[str]:
    notes = []
    for part, samples in (("validation", held_out), ("test", test)):
        present = {sample.label for sample in samples}
        absent = [name for name in dataset.labels.names if name not in present]
        if absent:
            notes.append(f"class {', '.join(map(repr, absent))} is absent from the {part} part")
    return notes
