"""The records of a count: the white cells of fields, each with its call or why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cellkin.core.decisions import Decision
from cellkin.core.kinds import ERYTHROBLAST, NOTHING, PLATELET, kind
from cellkin.core.labels import NOTICE, LabelSet
from cellkin.core.plain import Plain, plain_fields
from cellkin.core.reading import read_record

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "border": "cut off by the edge of the field",
        "smudge": "smudges: burst nuclei without a body",
        "clump": "clumps that could not be parted into cells",
        "quality": "failed the quality gate",
        "unlike": "do not fit: unlike anything in this atlas",
        "doubted": "called no white cell, where the finder is sure of one",
        "set aside": "set aside by the person who reviewed them",
    }
)
"""Why a cell was not counted, by the name that data carry, in words."""

NOT_LEUKOCYTES = (NOTHING, PLATELET, ERYTHROBLAST)

UNITS = (
    "positions and boxes in pixels of the field; shares in 0 to 1; distances in the scaled "
    "feature space; micrometres per pixel where known"
)


@dataclass(frozen=True)
class ClassCount(Plain):
    """One class: `n` cells, their share of the white cells and its interval, all in [0, 1]."""

    title: str
    n: int
    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Differential(Plain):
    """Counts over leukocytes.

    Attributes:
        n: white cells counted. rows: by class, the largest first.
        level: of the Clopper-Pearson intervals, each class by itself.
        erythroblasts: how many. per_100: of them per 100 white cells, None without white cells.
        excluded: why -> objects that were not counted.
        consecutive: whether this is a differential at all.
        warnings: what must be said with it.
    """

    n: int
    rows: tuple[ClassCount, ...]
    level: float
    erythroblasts: int
    per_100: float | None
    excluded: Mapping[str, int]
    consecutive: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ShareFound(Plain):
    """The share of lymphoblasts, told in one way.

    Attributes:
        share: in [0, 1]; None where it is not available, and `note` says why.
        low, high: its interval, None where there is none. method: of the interval.
        note: what limits it, or an empty string.
    """

    share: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    note: str = ""


@dataclass(frozen=True)
class Foreseen(Plain):
    """Where the corrected share might lie if so many cells were called in the same proportions;
    `cells` None: however many, so that only the errors of calls are left.
    """

    cells: int | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Correction(Plain):
    """Shares with the errors of the atlas taken off, as held-out cells tell them.

    Attributes:
        blasts: of lymphoblasts. by_class: title -> share; empty where there is none.
        foreseen: what more cells would be worth.
    """

    blasts: ShareFound
    by_class: Mapping[str, ShareFound] = field(default_factory=lambda: MappingProxyType({}))
    foreseen: tuple[Foreseen, ...] = ()


@dataclass(frozen=True)
class CountedField(Plain):
    """One field that was searched.

    Attributes:
        name: of the file, as short as tells it from the others. path: of the file.
        width, height: in pixels; 0 where it cannot be read. um_per_pixel: None where unknown.
        ruler: how the micrometres are known, empty where they are not.
        red_cells: how many isolated ones were measured. platelets, artefacts: how many were found.
        even_light: whether empty ground told the light.
        fault: why it could not be read, no_smear: why it is no blood smear, or empty strings.
    """

    name: str
    path: str
    width: int = 0
    height: int = 0
    um_per_pixel: float | None = None
    ruler: str = ""
    red_cells: int = 0
    platelets: int = 0
    artefacts: int = 0
    even_light: bool = False
    fault: str = ""
    no_smear: str = ""

    @property
    def why_not(self) -> str:
        """Why its cells are not counted, or an empty string."""
        return self.fault or self.no_smear


@dataclass(frozen=True)
class CountedCell:
    """One white cell or smudge of a field.

    Attributes:
        id: "FIELD@X,Y": where it lies tells it from all others, run after run.
        field: name of its field. x, y, left, top, right, bottom: in pixels of the field.
        kind: as it was found, see `cellkin.smear.found.KINDS`. score: of the finding, in [0, 1].
        decision: None where it was not asked for: border cells and smudges.
        left_out: why it is not counted, a key of `LEFT_OUT`; empty where it is.
        reviewed: the class that a person gave it, None where nobody did.
    """

    id: str
    field: str
    x: float
    y: float
    left: float
    top: float
    right: float
    bottom: float
    kind: str
    score: float
    decision: Decision | None = None
    left_out: str = ""
    reviewed: str | None = None

    @property
    def label(self) -> str | None:
        """The class that it is counted as: a person's word, else the call; None: not counted."""
        if self.left_out or self.decision is None:
            return None
        return self.reviewed or self.decision.label

    def to_json(self) -> dict[str, Any]:
        return {**plain_fields(self), "label": self.label}

    @classmethod
    def from_json(cls, data: Any) -> CountedCell:
        plain = {key: value for key, value in data.items() if key not in ("label", "decision")}
        decision = None if data["decision"] is None else Decision.from_json(data["decision"])
        return cls(**{**vars(read_record(cls, plain)), "decision": decision})


@dataclass(frozen=True)
class Count:
    """The white cells of fields, and the share of lymphoblasts among them.

    Attributes:
        fields: in the order given. cells: white cells, border cells and smudges, field by field.
        labels: the atlas's classes. differential: over the cells that are counted.
        naive: lymphoblasts called over cells counted, with an interval of the count alone.
        corrected: with the errors of the atlas taken off; cells that were reviewed carry none.
        reviewed: with the classes that a person gave in the place of the calls; it has an interval
            when a person reviewed every white cell that is counted.
        facts: of the atlas. provenance: of the atlas and its calls, as plain data.
        subject: the person, where named: reference cells of the same person did not vote.
    """

    fields: tuple[CountedField, ...]
    cells: tuple[CountedCell, ...]
    labels: LabelSet
    differential: Differential
    naive: ShareFound
    corrected: Correction
    reviewed: ShareFound
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    subject: str | None = None

    @property
    def counted(self) -> tuple[CountedCell, ...]:
        """The cells that are counted."""
        return tuple(cell for cell in self.cells if cell.label is not None)

    @property
    def left_out(self) -> dict[str, int]:
        """Why -> cells that are not counted, in the order of `LEFT_OUT`."""
        why = [cell.left_out for cell in self.cells]
        return {name: why.count(name) for name in LEFT_OUT if name in why}

    @property
    def leukocytes(self) -> list[CountedCell]:
        """The cells that are counted as white cells."""
        return leukocytes(self.cells, self.labels)

    @property
    def fields_left_out(self) -> tuple[CountedField, ...]:
        """Those that cannot be read, or are no blood smear."""
        return tuple(one for one in self.fields if one.why_not)

    def called(self) -> dict[str, int]:
        """Class -> cells that are counted as it, in class order."""
        found = [cell.label for cell in self.counted]
        return {name: found.count(name) for name in self.labels.names if name in found}

    def to_json(self) -> dict[str, Any]:
        return {
            **plain_fields(self),
            "labels": self.labels.to_json(),
            "counts": self.called(),
            "left_out": self.left_out,
            "units": UNITS,
            "notice": NOTICE,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Count:
        """The count that `to_json` wrote.

        Raises:
            ArtifactError: this is no such data.
        """
        return cls(
            fields=_each(CountedField, data["fields"]),
            cells=tuple(CountedCell.from_json(cell) for cell in data["cells"]),
            labels=LabelSet.from_json(data["labels"]),
            differential=read_record(Differential, data["differential"]),
            naive=read_record(ShareFound, data["naive"]),
            corrected=read_record(Correction, data["corrected"]),
            reviewed=read_record(ShareFound, data["reviewed"]),
            facts=data["facts"],
            provenance=data["provenance"],
            subject=data["subject"],
        )


def leukocytes(cells: Sequence[CountedCell], labels: LabelSet) -> list[CountedCell]:
    """Those that are counted as white cells."""
    return [
        cell
        for cell in cells
        if cell.label is not None and kind(cell.label, labels) not in NOT_LEUKOCYTES
    ]


def _each(record: type[CountedField], rows: Sequence[Any]) -> tuple[CountedField, ...]:
    return tuple(read_record(record, row) for row in rows)
