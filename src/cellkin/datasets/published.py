"""What is known of a published data set: its layout, its counts, and what must be said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellkin.core.plain import Plain
from cellkin.core.records import Dataset, LabelSet, Sample


@dataclass(frozen=True)
class Published(Plain):
    """One published data set, as a reader contributes it to the registry.

    Attributes:
        name: as its publisher calls it. layout: `Dataset.layout` of what is read from it.
        files: how it lies on disk, in words.
        counts: class (or code) -> images in the whole data set; empty where only `total` is known.
        total: images in the whole data set.
        source: where the counts stand ("Table 3 of the paper", "publisher").
        subjects: persons in the whole data set, None where it names none.
        levels: codes of each label level, for several labels per image.
        specimen, stain: what the publisher states, None where nothing.
        access: how to get it. about: what its user must know.
    """

    name: str
    layout: str
    files: str
    total: int
    source: str
    citation: str
    licence: str
    access: str
    counts: Mapping[str, int] = field(default_factory=dict)
    subjects: int | None = None
    levels: tuple[int, ...] = ()
    specimen: str | None = None
    stain: str | None = None
    about: str = ""

    def describes(self, dataset: Dataset) -> bool:
        """Whether a data set is this one, or a part of it: by layout and classes, and not drawn."""
        if dataset.drawn or dataset.layout != self.layout:
            return False
        return not self.counts or set(self.counts) == set(dataset.labels.names)

    def dataset(
        self,
        samples: Sequence[Sample],
        labels: LabelSet,
        *,
        root: Path,
        notes: Sequence[str],
        levels: tuple[tuple[str, ...], ...] = (),
    ) -> Dataset:
        """What a reader found of it, sorted by id, with all that the publisher states."""
        return Dataset(
            name=self.layout,
            samples=tuple(sorted(samples, key=lambda sample: sample.id)),
            labels=labels,
            citation=self.citation,
            licence=self.licence,
            layout=self.layout,
            root=root,
            specimen=self.specimen,
            stain=self.stain,
            levels=levels,
            notes=tuple(notes),
        )

    def missing(self, dataset: Dataset) -> list[str]:
        """What a data set lacks, or has too much, against the published counts; empty: complete."""
        found = found_by_class(dataset)
        lines = [
            _difference(found.get(name, 0), whole, name) for name, whole in self.counts.items()
        ]
        if not self.counts:
            lines.append(_difference(len(dataset), self.total, "images"))
        if self.subjects is not None:
            lines.append(_difference(len(dataset.subjects()), self.subjects, "subjects"))
        here = tuple(len(level) for level in dataset.levels)
        if here != self.levels:
            lines.append(f"label levels of {_listed(here)} codes, published {_listed(self.levels)}")
        return [line for line in lines if line]

    def lines(self) -> list[str]:
        """Everything for people, line by line; the first line is the name."""
        counts = ", ".join(f"{n:,} {name}" for name, n in self.counts.items())
        facts = {
            "layout": self.files,
            "images": f"{self.total:,}" + (f": {counts}" if counts else "") + f" ({self.source})",
            "levels": f"{_listed(self.levels)} codes" if self.levels else "",
            "subjects": "none named" if self.subjects is None else str(self.subjects),
            "specimen": self.specimen or "not stated",
            "stain": self.stain or "not stated",
            "get it": self.access,
            "licence": self.licence,
            "cite": self.citation,
            "know": self.about,
        }
        return [self.name, *(f"  {key + ':':<10}{value}" for key, value in facts.items() if value)]


def found_by_class(dataset: Dataset) -> dict[str, int]:
    """Images per class; with several labels per image, per code of the deepest level."""
    names = dataset.levels[-1] if dataset.levels else dataset.labels.names
    found = Counter(name for sample in dataset for name in sample.labels[-1])
    return {name: found.get(name, 0) for name in names}


def _difference(found: int, whole: int, what: str) -> str:
    if found == whole:
        return ""
    if found < whole:
        return f"{whole - found:,} of {whole:,} {what} missing"
    return f"{found - whole:,} {what} more than the {whole:,} published"


def _listed(numbers: tuple[int, ...]) -> str:
    return " / ".join(map(str, numbers)) or "no"
