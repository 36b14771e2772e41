"""What `check` finds in a data set, as data and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellkin.core.plain import plain_fields

Table = Mapping[str, Mapping[str, int]]

SHOWN = 5


@dataclass(frozen=True)
class CheckReport:
    """What was found in a data set.

    Attributes:
        images: how many there are. counts: class -> images; with several labels per image, code ->
            images. titles, clinical: class -> the words people read, clinical class.
        subjects: class -> subjects with at least one image of it; empty where none are named.
        folds, places, formats, sizes: class -> official fold, place, file format, "width x height"
            -> images.
        total_bytes: of all files. total_subjects: persons named in the data set. total_groups:
            slides or fields named in it.
        unreadable: (id, reason) of images that cannot be decoded.
        duplicates: groups of ids whose files are equal byte for byte (SHA-256).
        same_pixels: further groups of ids with equal pixels in different files.
        conflicts: those of both kinds whose images carry different labels.
        shared: those of both kinds whose images belong to different subjects or official folds.
        misplaced: (id, why) of fields with a centroid outside of the image.
        published_as: the published data set that this is, or is a part of (Tables 1 to 4 of the
            paper and others, see `cellkin.datasets.known`); empty for other data sets.
        published: class -> images in the whole of it. published_subjects: None where it names none.
        missing: what lacks against it, in words; empty where the data set is complete.
        warnings: what may make a result better or worse than it is, in words.
        notes: how the folder was read.
    """

    name: str
    layout: str
    root: str
    drawn: bool
    images: int
    counts: Mapping[str, int]
    titles: Mapping[str, str]
    clinical: Mapping[str, str]
    subjects: Mapping[str, int]
    total_subjects: int
    folds: Table
    formats: Table
    sizes: Table
    total_bytes: int
    total_groups: int = 0
    places: Table = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    same_pixels: tuple[tuple[str, ...], ...] = ()
    conflicts: tuple[tuple[str, ...], ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    misplaced: tuple[tuple[str, str], ...] = ()
    published_as: str = ""
    published: Mapping[str, int] = field(default_factory=dict)
    published_subjects: int | None = None
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every image can be read, and no image carries two labels or strays centroids."""
        return not self.unreadable and not self.conflicts and not self.misplaced

    @property
    def complete(self) -> bool | None:
        """Whether it is the whole of a published data set; None where it is none of them."""
        return not self.missing if self.published_as else None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, with `ok` and `complete`."""
        return {"ok": self.ok, "complete": self.complete, **plain_fields(self)}

    def lines(self) -> list[str]:
        """The report for people, line by line."""
        drawn = " (drawn, synthetic cells)" if self.drawn else ""
        groups = f", {self.total_groups} slides or fields" if self.total_groups else ""
        lines = [
            f"{self.name}{drawn}, read as {self.layout}: {self.images} images, "
            f"{self.total_bytes / 2**20:.1f} MiB, {self.total_subjects or 'no'} subjects named"
            f"{groups}{self._place_words()}"
        ]
        lines += [self._class_line(name) for name in self.counts]
        lines += self._published_lines()
        for what, rows in (("unreadable", self.unreadable), ("misplaced", self.misplaced)):
            lines += [f"{what}: {image}: {reason}" for image, reason in rows[:SHOWN]]
            if len(rows) > SHOWN:
                lines.append(f"{what}: and {len(rows) - SHOWN} more")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return lines + [f"note: {note}" for note in self.notes]

    def _place_words(self) -> str:
        found = {place for row in self.places.values() for place in row}
        return f", {len(found)} place{'s' * (len(found) > 1)}" if found else ""

    def _published_lines(self) -> list[str]:
        if not self.published_as:
            return []
        if not self.missing:
            return [f"complete: the counts are those of {self.published_as}"]
        return [f"not complete, against {self.published_as}: {'; '.join(self.missing)}"]

    def _class_line(self, name: str) -> str:
        title = self.titles[name]
        told = f"{name} ({title})" if title != name else name
        facts = [f"{self.counts[name]} images"]
        if name in self.published:
            facts[0] += f" of {self.published[name]} published"
        if name in self.subjects:
            facts.append(f"{self.subjects[name]} subjects")
        for table in (self.folds, self.places, self.formats, self.sizes):
            row = table.get(name, {})
            facts += [", ".join(f"{n} {what}" for what, n in list(row.items())[:4])]
        if name in self.clinical:
            told += f", {self.clinical[name]}"
        return f"  {told}: " + "; ".join(fact for fact in facts if fact)
