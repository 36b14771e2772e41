"""What must stay on one side of a split, and the check that it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cellkin.core.errors import SplitError
from cellkin.core.records import Dataset, Sample, Split
from cellkin.core.units import GROUP, IMAGE, SUBJECT, Owners, owner_of
from cellkin.datasets.identity import refuse_strange_names
from cellkin.datasets.parts.places import place_warnings


def split_unit(dataset: Dataset) -> str:
    """What to keep on one side: "subject", else "slide/field", where every image has one, else
    "image". Where only some images have a subject and all have a slide or field, it is the latter,
    and the note of the split says that subjects are on both sides.

    Raises:
        SplitError: only some of the images have a subject, or a slide or field, and nothing larger
            than an image is known of all.
    """
    lacking = {unit: Owners.of(dataset, unit).names.count(None) for unit in (SUBJECT, GROUP)}
    for unit, count in lacking.items():
        if count == 0 and len(dataset):
            return unit
    for unit, count in lacking.items():
        if count < len(dataset):
            raise SplitError(
                f"{count} of {len(dataset)} images have no {unit}, the others have one",
                where=dataset.root,
                mend=f"complete the {unit} of every image, or split by image (--by image), which "
                f"leaves cells of one {unit} on both sides",
            )
    return IMAGE


def verify_split(split: Split, dataset: Dataset) -> None:
    """Check that a split belongs to a data set and that nothing lies on two sides.

    Raises:
        SplitError: an id that the data set does not have, an id in two parts or twice in one, or
            a subject, slide or field in two parts although the split is by that unit.
        LabelError: one subject, slide, field or fold in two spellings, see `identity`.
    """
    refuse_strange_names(dataset.samples, where=dataset.root)
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
        names = {required_unit(by_id[i], split.unit) for i in ids}
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


def required_unit(sample: Sample, unit: str) -> str:
    """The subject, slide or field of an image, or the image itself (see `owner_of`).

    Raises:
        SplitError: this image has none.
    """
    name = owner_of(sample, unit)
    if name is None:
        raise SplitError(
            f"this image has no {unit}",
            where=sample.id,
            mend=f"complete the {unit} of every image, or cut a split by image",
        )
    return name


def unit_notes(dataset: Dataset, unit: str) -> list[str]:
    """What must be said of a split by this unit, and of the places of its cells."""
    notes = []
    if unit != SUBJECT and _parted(dataset, SUBJECT, unit):
        notes.append(
            f"by {unit} although subjects are known: cells of one subject are on both sides"
        )
    elif unit == IMAGE and _parted(dataset, GROUP, unit):
        notes.append("by image although slides or fields are known: cells of one are on both sides")
    return [*notes, *place_warnings(dataset)]


def _parted(dataset: Dataset, larger: str, unit: str) -> bool:
    """Whether one of the larger units has cells of several owners in this unit."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for sample in dataset:
        if (name := owner_of(sample, larger)) is not None:
            found[name].add(owner_of(sample, unit))
    return any(len(owners) > 1 for owners in found.values())


def absent_notes(dataset: Dataset, held_out: Iterable[Sample], test: Iterable[Sample]) -> list[str]:
    """Classes that the validation or the test part does not hold, in words."""
    notes = []
    for part, samples in (("validation", held_out), ("test", test)):
        present = {sample.label for sample in samples}
        absent = [name for name in dataset.labels.names if name not in present]
        if absent:
            named = ", ".join(map(repr, absent))
            said = f"class {named} is" if len(absent) == 1 else f"classes {named} are"
            notes.append(f"{said} absent from the {part} part")
    return notes
