"""Training, validation, calibration and test parts (section 5.2), seeded and stratified.

The paper splits by image. Cells of one subject are alike, so here subjects (or slides or fields)
stay on one side wherever they are known; `unit="image"` gives the paper's way, and says so.

Images that are known to be equal, or documented as duplicates, stay on one side when images are
dealt; where a split by a larger unit or the publisher's folds part them, its note says LEAK.

Calibration cells are cut from the validation part: cells that were neither trained on nor looked
at for selection. Where that part is too small to share, it calibrates as well; the note says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from cellkin.core.errors import SplitError, did_you_mean
from cellkin.core.records import Dataset, Sample, Split
from cellkin.core.units import IMAGE, UNITS, Owners, plural
from cellkin.datasets.listing import shown
from cellkin.datasets.parts.balance import Unit, deal_cells, deal_units
from cellkin.datasets.parts.leakage import leaders, leaks, twins
from cellkin.datasets.parts.places import PLACE, in_no_other_place, known_places
from cellkin.datasets.parts.split_units import (
    absent_notes,
    refuse_subjects_in_two_folds,
    required_unit,
    split_unit,
    unit_notes,
    verify_split,
)

__all__ = [
    "SHARED_CALIBRATION",
    "cut",
    "folds",
    "left_out",
    "official",
    "refuse_subjects_in_two_folds",
    "single",
    "split_unit",
    "verify_split",
]

PARTS = ("train", "val", "test")
SHARED_CALIBRATION = "calibrated on the selection set"


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
    _refuse_few_units(dataset, unit, n)
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


def cut(dataset: Dataset, *, n: int = 5, seed: int = 0, unit: str = "auto") -> tuple[Split, ...]:
    """`folds`, or `single` for n = 1; for the unit "official" the publisher's own folds, for
    "place" every place left out in turn.

    With n = 1 the last official fold (place) is tested; otherwise n must be their number, and each
    is tested once.

    Raises:
        SplitError, LabelError: as they do, and for another number of official folds or places.
    """
    if unit == PLACE:
        places = known_places(dataset)
        _refuse_other_number(dataset, n, places, "places")
        return tuple(
            left_out(dataset, name, seed=seed) for name in (places if n > 1 else places[-1:])
        )
    if unit != "official":
        return (
            (single(dataset, seed=seed, unit=unit),)
            if n == 1
            else folds(dataset, n=n, seed=seed, unit=unit)
        )
    if n == 1:
        return (official(dataset, seed=seed),)
    names = _official_folds(dataset)
    _refuse_other_number(dataset, n, names, "official ones")
    return tuple(official(dataset, test_fold=name, seed=seed) for name in names)


def _refuse_other_number(dataset: Dataset, n: int, names: Sequence[str], what: str) -> None:
    as_parts = set(names) == set(PARTS)
    if n != 1 and (n != len(names) or as_parts):
        raise SplitError(
            f"{n} folds cannot be cut from the {what}: {', '.join(names)}",
            where=dataset.root,
            mend="take --folds 1" + ("" if as_parts else f", or --folds {len(names)}"),
        )


def left_out(dataset: Dataset, place: str, *, seed: int = 0) -> Split:
    """A test on all cells of one place; those of the others train and validate, 3 : 1, by subject
    (slide, field) where known. Cells of a subject that is tested do neither.

    Raises:
        SplitError: there is no such place, no other one, or a class that no other one has.
        LabelError: several labels per image.
    """
    dataset.require_cells()
    _check_numbers(3, seed)
    known_places(dataset, place)
    unit = split_unit(dataset)
    test = [sample for sample in dataset if sample.place == place]
    others = [sample for sample in dataset if sample.place != place]
    if alone := sorted({s.label for s in test} - {s.label for s in others}):
        raise SplitError(
            f"{shown([*map(repr, alone)])}: no other place than {place!r} has this class",
            where=dataset.root,
            mend="take its cells away, or add some of another place",
        )
    rest, gone = in_no_other_place(test, others, unit)
    quarters = _quartered(rest, unit, seed)
    rng = np.random.default_rng([seed, 3])
    split = _finish(dataset, (*quarters, test), unit, (seed, rng))
    notes = [f"place {place!r} is left out", *gone, *([split.note] if split.note else [])]
    return replace(split, note="; ".join(notes))


def _quartered(
    samples: Sequence[Sample], unit: str, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Three quarters that train, and one that validates."""
    quarters = _deal(samples, unit, 4, np.random.default_rng([seed, 2]))
    return [sample for part in quarters[1:] for sample in part], quarters[0]


def official(dataset: Dataset, *, test_fold: str | None = None, seed: int = 0) -> Split:
    """The publisher's own parts, or a test on one of the publisher's folds (the last by default).

    Where the folds are named train, val and test (BloodMNIST), they are taken as they are.
    Elsewhere the other folds are divided 3 : 1 into training and validation part, by subject where
    known.

    Raises:
        SplitError: images without a fold, fewer than two folds, no fold of this name, a subject in
            two folds, or a class that would be missing from the training part.
        LabelError: several labels per image.
    """
    dataset.require_cells()
    _check_numbers(3, seed)
    names = _official_folds(dataset)
    chosen = test_fold if test_fold is not None else names[-1]
    as_parts = set(names) == set(PARTS)
    if chosen not in names or (as_parts and test_fold not in (None, PARTS[-1])):
        raise SplitError(
            f"there is no official fold {chosen!r}"
            if chosen not in names
            else f"the publisher tests on {PARTS[-1]!r}, not on {chosen!r}",
            where=f"{dataset.root} (folds: {', '.join(names)})",
            mend=did_you_mean(chosen, names) or "name one of these folds",
        )
    refuse_subjects_in_two_folds(dataset.samples, where=dataset.root)
    unit = split_unit(dataset)
    by_fold = {name: [s for s in dataset if s.fold == name] for name in names}
    if as_parts:
        parts = (by_fold["train"], by_fold["val"], by_fold["test"])
    else:
        rest = [sample for sample in dataset if sample.fold != chosen]
        parts = (*_quartered(rest, unit, seed), by_fold[chosen])
    rng = np.random.default_rng([seed, 3])
    return _finish(dataset, parts, unit, (seed, rng))


def _official_folds(dataset: Dataset) -> list[str]:
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
    return names


def _checked_unit(dataset: Dataset, unit: str) -> str:
    dataset.require_cells()
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
    lacking = Owners.of(dataset, unit).names.count(None)
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
            where="the number of folds (--folds)",
            mend="take 1 for a single split, or 3 or more: one to test, one to select, the rest to "
            "train",
        )
    if seed < 0:
        raise SplitError(f"a seed of {seed}", where="seed", mend="take 0 or a positive number")


def _units(samples: Iterable[Sample], unit: str) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[required_unit(sample, unit)].append(sample)
    return dict(found)


def _units_per_class(samples: Iterable[Sample], unit: str) -> Counter[str]:
    return Counter(label for label, _ in {(s.label, required_unit(s, unit)) for s in samples})


def _refuse_few_units(dataset: Dataset, unit: str, n: int) -> None:
    """Refuse what cannot be cut, and say what can be; known copies of an image count once."""
    samples = dataset.samples
    if unit == IMAGE:
        first = leaders(samples)
        samples = tuple(sample for sample in samples if first[sample.id] == sample.id)
    count = len({required_unit(sample, unit) for sample in samples})
    if count >= 3:
        _refuse_rare_classes(dataset, samples, unit)
    if count >= n:
        return
    kind, more = unit, f"add cells of other {plural(unit)}: 3 are the least, with --folds 3"
    if unit == IMAGE:
        kind, more = "different image", "add other images: a class needs 3"
    fewer = " or ".join(f"--folds {k}" for k in sorted({3, count}))
    raise SplitError(
        f"{n} folds cannot be cut from {count} {kind if count == 1 else plural(kind)}"
        + (" (a single split is the first of 5 folds)" if n == 5 else "")
        + _copies(dataset, unit),
        where=dataset.root,
        mend=(f"take at most {count} folds ({fewer}), or " if count >= 3 else "")
        + more
        + _by_image(unit),
    )


def _refuse_rare_classes(dataset: Dataset, samples: Iterable[Sample], unit: str) -> None:
    found = _units_per_class(samples, unit)
    needed = 3 if unit == IMAGE else 2
    rare = [f"{name!r} ({found[name]})" for name in dataset.labels.names if found[name] < needed]
    if rare:
        raise SplitError(
            f"too few {plural(unit)} for a split: class {', '.join(rare)}{_copies(dataset, unit)}",
            where=dataset.root,
            mend=f"a class needs cells of {needed} {plural(unit)} or more, "
            "to be trained in every fold" + _by_image(unit),
        )


def _by_image(unit: str) -> str:
    return "" if unit == IMAGE else f"; --by image leaves cells of one {unit} on both sides"


def _copies(dataset: Dataset, unit: str) -> str:
    """The images that count once because they are known to be equal, where images are dealt."""
    found = twins(dataset.samples).values() if unit == IMAGE else ()
    named = [shown(ids, 3).replace(", ", " = ") for ids in found]
    return f"; these are copies and count once: {shown(named, 3)}" if named else ""


def _deal(
    samples: Sequence[Sample], unit: str, parts: int, rng: np.random.Generator
) -> list[list[Sample]]:
    by_id = {sample.id: sample for sample in samples}
    if unit == IMAGE:
        return _deal_images(samples, parts, rng)
    names = sorted({sample.label for sample in samples})
    units = []
    for name, members in _units(samples, unit).items():
        counts = Counter(s.label for s in members)
        units.append(Unit(name, tuple(s.id for s in members), tuple(counts[n] for n in names)))
    dealt = deal_units(units, parts, rng, train=parts > 2)
    return [[by_id[i] for u in part for i in u.ids] for part in dealt]


def _deal_images(
    samples: Sequence[Sample], parts: int, rng: np.random.Generator
) -> list[list[Sample]]:
    """Deal images; known twins (see `leakage`) follow the first of them into its part."""
    first = leaders(tuple(samples))
    followers: dict[str, list[Sample]] = defaultdict(list)
    classes: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        followers[first[sample.id]].append(sample)
        if first[sample.id] == sample.id:
            classes[sample.label].append(sample.id)
    return [[s for i in ids for s in followers[i]] for ids in deal_cells(classes, parts, rng)]


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
    notes = [*unit_notes(dataset, unit), *absent_notes(dataset, held_out, test)]
    if not calibration:
        notes.append(SHARED_CALIBRATION)
    split = Split(
        train=_ids(train),
        val=_ids(val),
        calibration=_ids(calibration),
        test=_ids(test),
        unit=unit,
        seed=seed,
    )
    verify_split(split, dataset)
    notes += [f"LEAK, {sentence}" for sentence in leaks(split, dataset)]
    return replace(split, note="; ".join(notes))


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
                f"the {name} part would be empty: too few {plural(unit)}",
                where=dataset.root,
                mend="add data" if unit == IMAGE else "add data, or cut by a smaller unit",
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
