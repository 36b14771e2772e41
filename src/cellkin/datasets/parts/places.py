"""Places: the laboratory or scanner that cells come from, and what it may tell in their stead.

A place is the largest unit: its slides and subjects lie in it. Cells of one place share stain,
camera and light, so a network learns the place where it tells the class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from cellkin.core.errors import SplitError, did_you_mean
from cellkin.core.records import Dataset, Sample
from cellkin.core.units import GROUP, SUBJECT, owner_of, plural
from cellkin.datasets.listing import shown

PLACE = "place"


def places_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The known places, sorted; empty where none is named."""
    return tuple(sorted({s.place for s in samples if s.place is not None}))


def cells_by_place(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Place -> class -> cells, of those whose place is known."""
    found: dict[str, dict[str, int]] = {}
    for sample in samples:
        if sample.place is not None:
            for name in sample.labels[-1]:
                row = found.setdefault(sample.place, {})
                row[name] = row.get(name, 0) + 1
    return {place: dict(sorted(row.items())) for place, row in sorted(found.items())}


def place_warnings(samples: Iterable[Sample]) -> tuple[str, ...]:
    """What must be said of the places of cells: classes that come from one alone, and subjects,
    slides or fields that lie in several. Empty where fewer than two places are known.
    """
    cells = tuple(samples)
    if len(places_of(cells)) < 2:
        return ()
    return (*_confounded(cells), *_straddling(cells))


def _confounded(cells: Iterable[Sample]) -> list[str]:
    homes: dict[str, set[str | None]] = defaultdict(set)
    for sample in cells:
        for name in sample.labels[-1]:
            homes[name].add(sample.place)
    alone: dict[str, list[str]] = defaultdict(list)
    for name, places in sorted(homes.items()):
        if len(places) == 1 and None not in places:
            alone[str(next(iter(places)))].append(name)
    return [
        f"every cell of {'class' if len(names) == 1 else 'classes'} {shown(names)} comes from "
        f"place {place}: what tells the class may be the place"
        for place, names in sorted(alone.items())
    ]


def _straddling(cells: Iterable[Sample]) -> list[str]:
    said = []
    for unit in (SUBJECT, GROUP):
        found: dict[str, set[str]] = defaultdict(set)
        for sample in cells:
            if sample.place is not None and (owner := owner_of(sample, unit)) is not None:
                found[owner].add(sample.place)
        if several := sorted(name for name, places in found.items() if len(places) > 1):
            first = several[0]
            many = f"{len(several)} {plural(unit)} lie" if len(several) > 1 else f"a {unit} lies"
            said.append(
                f"{many} in more than one place, first {first!r} in "
                f"{' and '.join(sorted(found[first]))}: taken as one; if the name stands for "
                f"others in each place, put the place before it"
            )
    return said


def known_places(dataset: Dataset, place: str | None = None) -> tuple[str, ...]:
    """The places of a data set of which each can be left out.

    Args:
        place: one that must be among them.

    Raises:
        SplitError: fewer than two places, images without one, or no such place.
    """
    places = places_of(dataset)
    lacking = sum(sample.place is None for sample in dataset)
    if lacking:
        raise SplitError(
            f"{lacking} of {len(dataset)} images have no place",
            where=dataset.root,
            mend="name the place of every image: column place of labels.csv (laboratory, scanner)",
        )
    if len(places) < 2:
        raise SplitError(
            f"no place can be left out: all cells come from {shown([*map(repr, places)])}",
            where=dataset.root,
            mend="add cells of another place",
        )
    if place not in (None, *places):
        raise SplitError(
            f"there is no place {place!r}",
            where=f"{dataset.root} (places: {', '.join(places)})",
            mend=did_you_mean(str(place), places) or "name one of these places",
        )
    return places


def in_no_other_place(
    test: Iterable[Sample], others: Iterable[Sample], unit: str
) -> tuple[list[Sample], list[str]]:
    """The cells that may train beside a test in another place: none of a subject, slide or field
    that is tested; and in words how many were taken away.
    """
    tested = {owner_of(sample, unit) for sample in test} - {None}
    kept = list[Sample]()
    gone = list[str]()
    for sample in others:
        owner = owner_of(sample, unit)
        if owner in tested:
            gone.append(str(owner))
        else:
            kept.append(sample)
    many = f"{len(gone)} cells of {len(set(gone))} {plural(unit)} that are tested do not train"
    return kept, [many] if gone else []
