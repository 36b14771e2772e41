"""Across places: all data sets of an experiment as one, and the parts that leave out each place.

Every data set is a place, or holds some (`Sample.place`). The cells of one place are tested by what
was trained on the others, in the classes that both have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from cellkin.core.errors import LabelError, SplitError
from cellkin.core.records import Dataset, LabelSet, Sample, Split
from cellkin.core.units import GROUP, IMAGE, SUBJECT, Owners, owner_of
from cellkin.datasets.identity import refuse_strange_names
from cellkin.datasets.listing import shown
from cellkin.datasets.parts import splits
from cellkin.datasets.parts.places import known_places

PLACES = "places"
"""The name of the data sets of an experiment across places, as one."""


def joined(datasets: Mapping[str, Dataset]) -> Dataset:
    """Several data sets as one. A cell whose data set names no places is of the place that has the
    data set's name; ids, subjects, slides and fields of several data sets begin with it.

    Raises:
        LabelError: a class of two clinical meanings, or a place in two spellings.
    """
    several = len(datasets) > 1
    samples = [_placed(sample, name, several) for name, data in datasets.items() for sample in data]
    every = list(datasets.values())
    root = Path(os.path.commonpath([data.root.expanduser().resolve() for data in every]))
    refuse_strange_names(samples, where=root)
    return Dataset(
        name=PLACES,
        samples=_with_units(samples),
        labels=_labels(datasets),
        citation="; ".join(dict.fromkeys(d.citation for d in every if d.citation)),
        licence="; ".join(dict.fromkeys(d.licence for d in every if d.licence)),
        layout=", ".join(dict.fromkeys(data.layout for data in every)),
        root=root,
        drawn=any(data.drawn for data in every),
        notes=tuple(f"{name}: {note}" for name, data in datasets.items() for note in data.notes),
    )


def _placed(sample: Sample, name: str, several: bool) -> Sample:
    place = sample.place or name
    if not several:
        return replace(sample, place=place)
    subject, group = (None if n is None else f"{name}: {n}" for n in (sample.subject, sample.group))
    return replace(sample, id=f"{name}/{sample.id}", place=place, subject=subject, group=group)


def _with_units(samples: list[Sample]) -> tuple[Sample, ...]:
    """Where not every cell names a subject, each place is split by the largest unit that all its
    cells have: subject, else slide or field, else the cell; it stands as the cell's group.
    """
    if all(sample.subject is not None for sample in samples):
        return tuple(samples)
    by_place: dict[str | None, list[Sample]] = {}
    for sample in samples:
        by_place.setdefault(sample.place, []).append(sample)
    units = (SUBJECT, GROUP, IMAGE)
    unit = {
        place: next(unit for unit in units if Owners.of(own, unit).known)
        for place, own in by_place.items()
    }
    return tuple(replace(s, group=owner_of(s, unit[s.place])) for s in samples)


def _labels(datasets: Mapping[str, Dataset]) -> LabelSet:
    meant: dict[str, tuple[str, str]] = {}
    for name, data in datasets.items():
        for label, clinical in data.labels.clinical.items():
            first, known = meant.setdefault(label, (name, clinical))
            if known != clinical:
                raise LabelError(
                    f"{label!r} means {known} in {first!r}, and {clinical} in {name!r}",
                    where=f"[data.{name}]",
                    mend="say what it means: clinical = { ... } in an experiment's [data.NAME]",
                )
    return reduce(LabelSet.joined, [data.labels for data in datasets.values()])


@dataclass(frozen=True)
class Part:
    """One fold: its split, the classes that take part, and the place that is left out, if any."""

    split: Split
    classes: tuple[str, ...] = ()
    place: str = ""

    def of(self, unseen: Split) -> Part:
        """This part where `unseen` has put what the first weights have learned from into training;
        of a place that is left out nothing trains: such cells take no part.
        """
        tested = {*self.split.test} if self.place else set()
        gone = tuple(i for i in unseen.train if i in tested)
        if not gone:
            return replace(self, split=unseen)
        told = f"{len(gone)} of them are of {self.place!r} and take no part at all"
        kept = tuple(i for i in unseen.train if i not in tested)
        return replace(self, split=replace(unseen, train=kept).noted(told))


def parts_by_place(dataset: Dataset, seed: int) -> Iterator[Part]:
    """Every place left out in turn, by the classes that it shares with the others.

    Raises:
        SplitError: fewer than two places, or fewer than two classes that a place shares.
    """
    for place in known_places(dataset):
        here = {s.label for s in dataset if s.place == place}
        there = {s.label for s in dataset if s.place != place}
        shared = tuple(name for name in dataset.labels.names if name in here & there)
        if len(shared) < 2:
            raise SplitError(
                f"place {place!r} shares {len(shared)} classes with the others, 2 are needed",
                where=f"{place}: {shown(sorted(here))}; others: {shown(sorted(there))}",
                mend="take it away, or say which classes are one: merge = { NEW = [OLD, ...] } in "
                "an experiment's [data.NAME]",
            )
        samples = tuple(s for s in dataset if s.label in shared)
        own = replace(dataset, samples=samples, labels=dataset.labels.only(shared))
        split = splits.left_out(own, place, seed=seed)
        told = [
            f"{shown(sorted(alone))} of {where} {'take' if len(alone) > 1 else 'takes'} no part"
            for where, alone in ((f"place {place!r}", here - there), ("the others", there - here))
            if alone
        ]
        yield Part(split.noted(*told), shared, place)
