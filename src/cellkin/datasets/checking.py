"""Look through a data set before it is used: every image is decoded, every file hashed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import file_sha256
from cellkin.core.errors import ImageError
from cellkin.core.records import Dataset, ImageRef, Sample
from cellkin.datasets import cnmc, pbc
from cellkin.datasets.listing import shown
from cellkin.datasets.opening import open_dataset
from cellkin.imaging.decode import decode

__all__ = ["CheckReport", "check"]

Progress = Callable[[int, int], None]
Table = Mapping[str, Mapping[str, int]]

PUBLISHED = {cnmc.LAYOUT: cnmc.PUBLISHED_COUNTS, pbc.LAYOUT: pbc.PUBLISHED_COUNTS}
PUBLISHED_SUBJECTS = {cnmc.LAYOUT: cnmc.PUBLISHED_SUBJECTS}
UNEVEN = 0.1


@dataclass(frozen=True)
class CheckReport:
    """What was found in a data set.

    Attributes:
        counts: class -> images. titles, clinical: class -> the words people read, clinical class.
        subjects: class -> subjects with at least one image of it; empty where none are named.
        folds, formats, sizes: class -> official fold, file format, "width x height" -> images.
        total_bytes: of all files. total_subjects: persons named in the data set.
        unreadable: (id, reason) of images that cannot be decoded.
        duplicates: groups of ids whose files are equal byte for byte (SHA-256).
        same_pixels: further groups of ids with equal pixels in different files.
        conflicts: those of both kinds whose images carry different labels.
        shared: those of both kinds whose images belong to different subjects or official folds.
        published: class -> images in the publisher's full data set (Tables 3 and 4 of the paper);
            empty for other data sets. published_subjects: the same for subjects, None if unknown.
        warnings: what may make a result better or worse than it is, in words.
        notes: how the folder was read.
    """

    name: str
    layout: str
    root: str
    drawn: bool
    counts: Mapping[str, int]
    titles: Mapping[str, str]
    clinical: Mapping[str, str]
    subjects: Mapping[str, int]
    total_subjects: int
    folds: Table
    formats: Table
    sizes: Table
    total_bytes: int
    unreadable: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    same_pixels: tuple[tuple[str, ...], ...] = ()
    conflicts: tuple[tuple[str, ...], ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)
    published_subjects: int | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every image can be read and no image carries two labels."""
        return not self.unreadable and not self.conflicts

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, with `ok`."""
        return {"ok": self.ok, **{key: _plain(value) for key, value in self.__dict__.items()}}

    def lines(self) -> list[str]:
        """The report for people, line by line."""
        drawn = " (drawn, synthetic cells)" if self.drawn else ""
        total = sum(self.counts.values())
        lines = [
            f"{self.name}{drawn}, read as {self.layout}: {total} images, "
            f"{self.total_bytes / 2**20:.1f} MiB, {self.total_subjects or 'no'} subjects named"
        ]
        lines += [self._class_line(name) for name in self.counts]
        lines += [f"unreadable: {image}: {reason}" for image, reason in self.unreadable[:5]]
        if len(self.unreadable) > 5:
            lines.append(f"unreadable: and {len(self.unreadable) - 5} more")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return lines + [f"note: {note}" for note in self.notes]

    def _class_line(self, name: str) -> str:
        title = self.titles[name]
        told = f"{name} ({title})" if title != name else name
        facts = [f"{self.counts[name]} images"]
        if name in self.published:
            facts[0] += f" of {self.published[name]} published"
        if name in self.subjects:
            facts.append(f"{self.subjects[name]} subjects")
        for table in (self.folds, self.formats, self.sizes):
            facts += [", ".join(f"{n} {what}" for what, n in list(table[name].items())[:4])]
        return f"  {told}, {self.clinical[name]}: " + "; ".join(fact for fact in facts if fact)


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
    looks: list[_Look] = []
    for done, sample in enumerate(dataset, start=1):
        looks.append(_look(sample))
        if progress is not None:
            progress(done, len(dataset))
    return _report(dataset, looks)


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


def _look(sample: Sample) -> _Look:
    ref = sample.image
    try:
        image = decode(ref, name=sample.id)
    except ImageError as error:
        return _Look(sample, bytes=_file_bytes(ref.path), error=error.what)
    height, width = image.shape[:2]
    pixels = hashlib.sha256(f"{width}x{height}".encode())
    pixels.update(image.data)
    return _Look(
        sample,
        bytes=_file_bytes(ref.path),
        sha256=file_sha256(ref.path) if _is_whole_file(ref) else None,
        pixels=pixels.hexdigest(),
        format=ref.path.suffix.lower().lstrip(".").replace("jpeg", "jpg").replace("tiff", "tif"),
        size=f"{width} x {height}",
    )


def _is_whole_file(ref: ImageRef) -> bool:
    return ref.member is None and ref.row is None and ref.box is None


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link: it is listed as unreadable
        return 0


def _report(dataset: Dataset, looks: Sequence[_Look]) -> CheckReport:
    names = dataset.labels.names
    good = [look for look in looks if not look.error]
    duplicates = _groups(good, lambda look: look.sha256)
    pixels = _groups(good, lambda look: look.pixels)
    same_pixels = tuple(g for g in pixels if g not in duplicates)
    by_id = {sample.id: sample for sample in dataset}
    formats = _table(names, ((look.sample.label, look.format) for look in good))
    sizes = _table(names, ((look.sample.label, look.size) for look in good))
    every = (*duplicates, *same_pixels)
    conflicts = tuple(g for g in every if len({by_id[i].label for i in g}) > 1)
    shared = tuple(g for g in every if _apart([by_id[i] for i in g]))
    report = {"formats": formats, "sizes": sizes}
    warnings = [
        *_duplicate_warnings(duplicates, same_pixels, conflicts, shared),
        *(line for what, table in report.items() for line in _uneven_warnings(what, table)),
        *_published_warnings(dataset),
    ]
    return CheckReport(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        drawn=dataset.drawn,
        counts=dataset.counts(),
        titles={name: dataset.labels.title(name) for name in names},
        clinical=dict(dataset.labels.clinical),
        subjects=_subjects(dataset),
        total_subjects=len(dataset.subjects()),
        folds=_table(names, ((s.label, s.fold) for s in dataset if s.fold is not None)),
        formats=formats,
        sizes=sizes,
        total_bytes=_total_bytes(looks),
        unreadable=tuple((look.sample.id, look.error) for look in looks if look.error),
        duplicates=duplicates,
        same_pixels=same_pixels,
        conflicts=conflicts,
        shared=shared,
        published=PUBLISHED.get(dataset.layout, {}),
        published_subjects=PUBLISHED_SUBJECTS.get(dataset.layout),
        warnings=tuple(warnings),
        notes=dataset.notes,
    )


def _total_bytes(looks: Iterable[_Look]) -> int:
    return sum({look.sample.image.path: look.bytes for look in looks}.values())


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


def _subjects(dataset: Dataset) -> dict[str, int]:
    found: dict[str, set[str]] = {name: set() for name in dataset.labels.names}
    for sample in dataset:
        if sample.subject is not None:
            found[sample.label].add(sample.subject)
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
    told = ", ".join(f"{100 * share:.0f} % of {name}" for name, share in shares.items())
    return [
        f"image {what} depend on the class, which a network may learn instead of the cell: "
        f"{value} is {told}"
    ]


def _published_warnings(dataset: Dataset) -> list[str]:
    published = PUBLISHED.get(dataset.layout)
    if published is None:
        return []
    found, whole = len(dataset), sum(published.values())
    lines = []
    if dataset.counts() != published:
        lines.append(f"not the published counts by class: {found} images here, {whole} published")
    subjects = PUBLISHED_SUBJECTS.get(dataset.layout)
    if subjects is not None and len(dataset.subjects()) != subjects:
        lines.append(f"{len(dataset.subjects())} subjects are here, {subjects} were published")
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
