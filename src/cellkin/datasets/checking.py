"""Look through a data set before it is used: every image is decoded, every file hashed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellkin.core.artifacts import file_sha256
from cellkin.core.errors import ImageError
from cellkin.core.numbers import percent
from cellkin.core.records import Dataset, Sample
from cellkin.datasets.check_report import CheckReport, Table
from cellkin.datasets.known import published_as
from cellkin.datasets.listing import shown
from cellkin.datasets.opening import open_dataset
from cellkin.datasets.parts.places import place_warnings
from cellkin.datasets.published import found_by_class
from cellkin.datasets.readers.allidb1 import BLASTS
from cellkin.imaging.fingerprints import pixels_sha256
from cellkin.imaging.series import Series, in_reading_order, is_shared

__all__ = ["CheckReport", "check"]

Progress = Callable[[int, int], None]
UNEVEN = 0.1


def check(data: Dataset | str | Path, *, progress: Progress | None = None) -> CheckReport:
    """Decode every image of a data set and say what is in it.

    Args:
        data: a data set, or the folder of one.
        progress: called with (done, total) after each image.

    Raises:
        DataError: the folder cannot be opened as a data set (see `open_dataset`). A single image
            that cannot be read is no error here: it is listed in `CheckReport.unreadable`.
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    looks: dict[int, _Look] = {}
    with Series() as series:
        order = in_reading_order([sample.image for sample in dataset])
        for done, i in enumerate(order, start=1):
            looks[i] = _look(dataset.samples[i], series)
            if progress is not None:
                progress(done, len(dataset))
    return _report(dataset, [looks[i] for i in sorted(looks)])


@dataclass(frozen=True)
class _Look:
    """One image, looked at. `sha256` is of the file, None for a part of a file."""

    sample: Sample
    bytes: int = 0
    sha256: str | None = None
    pixels: str = ""
    format: str = ""
    size: str = ""
    error: str = ""
    misplaced: str = ""


def _look(sample: Sample, series: Series) -> _Look:
    ref = sample.image
    try:
        image = series.decode(ref, name=sample.id)
    except ImageError as error:
        return _Look(sample, bytes=_file_bytes(ref.path), error=error.what)
    height, width = image.shape[:2]
    return _Look(
        sample,
        bytes=_file_bytes(ref.path),
        sha256=None if is_shared(ref) else file_sha256(ref.path),
        pixels=pixels_sha256(image),
        format=ref.path.suffix.lower().lstrip(".").replace("jpeg", "jpg").replace("tiff", "tif"),
        size=f"{width} x {height}",
        misplaced=_misplaced(sample, width, height),
    )


def _misplaced(sample: Sample, width: int, height: int) -> str:
    points = sample.annotations.get(BLASTS, ())
    outside = [(x, y) for x, y in points if not (0 <= x < width and 0 <= y < height)]
    if not outside:
        return ""
    x, y = outside[0]
    return f"{len(outside)} of {len(points)} centroids lie outside of it, first ({x:g}, {y:g})"


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link: it is listed as unreadable
        return 0


def _report(dataset: Dataset, looks: Sequence[_Look]) -> CheckReport:
    counts = found_by_class(dataset)
    names = tuple(counts)
    good = [look for look in looks if not look.error]
    duplicates = _groups(good, lambda look: look.sha256)
    pixels = _groups(good, lambda look: look.pixels)
    same_pixels = tuple(g for g in pixels if g not in duplicates)
    by_id = {sample.id: sample for sample in dataset}
    formats = _table(names, ((name, k.format) for k in good for name in k.sample.labels[-1]))
    sizes = _table(names, ((name, k.size) for k in good for name in k.sample.labels[-1]))
    every = (*duplicates, *same_pixels)
    conflicts = tuple(g for g in every if len({by_id[i].labels for i in g}) > 1)
    shared = tuple(g for g in every if _apart([by_id[i] for i in g]))
    uneven = {} if dataset.levels else {"formats": formats, "sizes": sizes}
    whole = published_as(dataset)
    return CheckReport(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        drawn=dataset.drawn,
        images=len(dataset),
        counts=counts,
        titles={name: dataset.labels.title(name) for name in names},
        clinical=dict(dataset.labels.clinical),
        subjects=_subjects(dataset, names),
        total_subjects=len(dataset.subjects()),
        total_groups=len({s.group for s in dataset if s.group is not None}),
        folds=_table(names, _known(dataset, "fold")),
        places=_table(names, _known(dataset, "place")),
        formats=formats,
        sizes=sizes,
        total_bytes=sum({look.sample.image.path: look.bytes for look in looks}.values()),
        unreadable=tuple((look.sample.id, look.error) for look in looks if look.error),
        duplicates=duplicates,
        same_pixels=same_pixels,
        conflicts=conflicts,
        shared=shared,
        misplaced=tuple((look.sample.id, look.misplaced) for look in looks if look.misplaced),
        published_as=f"{whole.name}, {whole.source}" if whole else "",
        published=whole.counts if whole else {},
        published_subjects=whole.subjects if whole else None,
        missing=tuple(whole.missing(dataset)) if whole else (),
        warnings=(
            *_duplicate_warnings(duplicates, same_pixels, conflicts, shared),
            *(line for what, table in uneven.items() for line in _uneven_warnings(what, table)),
            *place_warnings(dataset),
        ),
        notes=dataset.notes,
    )


def _known(dataset: Dataset, field: str) -> Iterable[tuple[str, str]]:
    """Class and fold (place) of every image that names one."""
    return (
        (name, known)
        for sample in dataset
        if (known := getattr(sample, field)) is not None
        for name in sample.labels[-1]
    )


def _groups(
    looks: Iterable[_Look], key: Callable[[_Look], str | None]
) -> tuple[tuple[str, ...], ...]:
    found: dict[str, list[str]] = defaultdict(list)
    for look in looks:
        value = key(look)
        if value is not None:
            found[value].append(look.sample.id)
    return tuple(sorted(tuple(sorted(ids)) for ids in found.values() if len(ids) > 1))


def _apart(samples: Sequence[Sample]) -> bool:
    subjects = {sample.subject for sample in samples}
    official = {sample.fold for sample in samples}
    return len(subjects) > 1 or len(official) > 1


def _table(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counted: dict[str, Counter[str]] = {name: Counter() for name in names}
    for name, value in pairs:
        counted[name][value] += 1
    return {
        name: dict(sorted(c.items(), key=lambda x: (-x[1], x[0]))) for name, c in counted.items()
    }


def _subjects(dataset: Dataset, names: Iterable[str]) -> dict[str, int]:
    found: dict[str, set[str]] = {name: set() for name in names}
    for sample in dataset:
        if sample.subject is not None:
            for name in sample.labels[-1]:
                found[name].add(sample.subject)
    return {name: len(subjects) for name, subjects in found.items()} if any(found.values()) else {}


def _duplicate_warnings(
    duplicates: Sequence[tuple[str, ...]],
    same_pixels: Sequence[tuple[str, ...]],
    conflicts: Sequence[tuple[str, ...]],
    shared: Sequence[tuple[str, ...]],
) -> list[str]:
    kinds = (
        (duplicates, "equal byte for byte"),
        (same_pixels, "equal in every pixel, in different files"),
        (conflicts, "equal and labelled differently"),
        (shared, "equal and of different subjects or official folds"),
    )
    return [
        f"{len(groups)} groups of images are {what}: "
        + shown([" = ".join(group) for group in groups], 3)
        for groups, what in kinds
        if groups
    ]


def _uneven_warnings(what: str, table: Table) -> list[str]:
    """One line where a format's or size's share differs by 10 points or more between classes."""
    totals = {name: sum(row.values()) for name, row in table.items() if row}
    values = sorted({value for row in table.values() for value in row})
    uneven = []
    for value in values:
        shares = {name: table[name].get(value, 0) / total for name, total in totals.items()}
        if max(shares.values()) - min(shares.values()) >= UNEVEN:
            uneven.append((value, shares))
    if not uneven:
        return []
    value, shares = max(uneven, key=lambda item: max(item[1].values()) - min(item[1].values()))
    told = ", ".join(f"{percent(share, 0)} of {name}" for name, share in shares.items())
    return [
        f"image {what} depend on the class, which a network may learn instead of the cell: "
        f"{value} is {told}"
    ]
