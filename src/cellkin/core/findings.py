"""What an audit finds in a data set: pairs that belong together, and cues that tell the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellkin.core.plain import Plain, plain_fields

__all__ = ["ALARM", "CROSSED", "FAINT", "SILENT", "AuditReport", "Cue", "DuplicatePair"]

CROSSED = ("class", "split", "subject", "place")
"""What a pair may cross, the gravest first."""

ALARM, FAINT, SILENT = "alarm", "faint", "silent"
"""States of a cue: it tells the class; it does a little better than chance; it tells nothing."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same thing, or share a part of it.

    Attributes:
        first, second: ids. labels, subjects, places, sides: of both; None where not known. A side
            is the part of the split that an image lies in.
        kind: "same file", "same pixels", "near duplicate" or "overlap".
        relation: in words how the second differs: "rotated by 90 degrees", "cropped", ...
        score: correlation of the fine detail where both overlap, -1 to 1 (1 for exact ones).
        overlap: shared area over the area of the smaller image, 0 to 1.
        difference: mean absolute difference in grey levels, 0 to 255, after alignment.
    """

    first: str
    second: str
    labels: tuple[str, str]
    subjects: tuple[str | None, str | None]
    sides: tuple[str | None, str | None]
    kind: str
    relation: str
    score: float
    overlap: float
    difference: float
    places: tuple[str | None, str | None] = (None, None)

    @property
    def crosses(self) -> tuple[str, ...]:
        """What the pair crosses, of `CROSSED`."""
        known = (self.labels, self.sides, self.subjects, self.places)
        sides = dict(zip(CROSSED, known, strict=True))
        return tuple(
            name for name, (a, b) in sides.items() if a is not None and b is not None and a != b
        )

    def to_json(self) -> dict[str, Any]:
        return {**plain_fields(self), "crosses": list(self.crosses)}


@dataclass(frozen=True)
class Cue(Plain):
    """How well a target can be told from something that is not the cell.

    Attributes:
        name: "corners", "border", "size and format", "mean colour", "focus", "place".
        target: "class", "subject" or "place".
        balanced_accuracy, accuracy: cross-validated, 0 to 1.
        chance: 1 / number of classes. majority: accuracy of always naming the largest class.
        null: the middle 95 % of the balanced accuracy when labels are dealt out by chance.
        p_value: share of 999 such deals that did at least as well, the found one counted.
        state: `ALARM`, `FAINT` or `SILENT`. verdict: one sentence.
        unit: what was left out together: "subject", "slide/field" or "image".
        units: how many there are.
        told: class -> recall, 0 to 1.
    """

    name: str
    target: str
    balanced_accuracy: float
    accuracy: float
    chance: float
    majority: float
    null: tuple[float, float]
    p_value: float
    state: str
    verdict: str
    unit: str
    units: int
    told: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditReport:
    """Everything an audit found.

    Attributes:
        name, layout, root, drawn, specimen, stain: of the data set.
        images: how many there are. counts: class -> images. titles: class -> words.
        subjects: how many persons are named, 0 where none.
        unreadable: (id, reason).
        pairs: conflicting labels first, then crossing the split, then subjects, then the others.
        groups: clusters of ids that belong on one side, by pairs.
        split: what the sides are, in words; empty where there is no split.
        cues: the shortcut meter. subject_cues, place_cues: how well the subject or the place is
            told by the colour.
        places: place -> class -> images. place_warnings: what must be said of them.
        proposed: pairs that were laid over each other. compared: all pairs there are.
        notes: what could not be measured, and why. seed, version: to make it again.
    """

    name: str
    layout: str
    root: str
    drawn: bool
    specimen: str | None
    stain: str | None
    images: int
    counts: Mapping[str, int]
    titles: Mapping[str, str]
    subjects: int
    unreadable: tuple[tuple[str, str], ...]
    pairs: tuple[DuplicatePair, ...]
    groups: tuple[tuple[str, ...], ...]
    split: str
    cues: tuple[Cue, ...]
    subject_cues: tuple[Cue, ...]
    proposed: int
    compared: int
    notes: tuple[str, ...]
    seed: int
    version: str
    place_cues: tuple[Cue, ...] = ()
    places: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    place_warnings: tuple[str, ...] = ()

    def crossing(self, what: str) -> tuple[DuplicatePair, ...]:
        """The pairs that cross one of `CROSSED`."""
        return tuple(pair for pair in self.pairs if what in pair.crosses)

    def kinds(self) -> dict[str, int]:
        """Kind of pair -> how many, in the order of `DuplicatePair.kind`."""
        names = ("same file", "same pixels", "near duplicate", "overlap")
        return {name: sum(pair.kind == name for pair in self.pairs) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, with the counts of what was found."""
        found = {
            **self.kinds(),
            **{f"across {what}": len(self.crossing(what)) for what in CROSSED},
            "alarms": sum(cue.state == ALARM for cue in self.cues),
            "images in pairs": sum(len(group) for group in self.groups),
        }
        return {**plain_fields(self), "found": found}
