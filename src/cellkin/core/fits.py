"""The records of a comparison of new cells with an atlas: does it fit them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cellkin.core.arrays import Bytes, Floats
from cellkin.core.plain import Plain, plain_fields

ALPHA = 0.05
EFFECTS = ((0.147, "none"), (0.33, "small"), (0.474, "medium"), (float("inf"), "large"))
"""Bounds of Cliff's delta and their words, after Romano et al. (2006)."""

FITS, CARE, UNFIT = "fits", "fits with care", "does not fit"
DISTANCE = "distance"
MEASURES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        DISTANCE: ("Distance to the kin", "times what is usual", "farther"),
        "white": ("Light", "brightness of the empty ground, 0 to 255", "brighter"),
        "cast": ("Colour cast", "red over blue of the empty ground", "redder"),
        "nucleus": ("Scale", "diameter of the nucleus, share of the picture", "larger"),
        "stain": ("Stain strength", "optical density of the nuclei", "stronger"),
        "hue": ("Stain hue", "red over green that nuclei absorb", "bluer"),
        "focus": ("Focus", "1 sharp, 0 blurred", "sharper"),
    }
)
"""What is compared: a title, the unit, and what more of it means."""
LESS: Mapping[str, str] = MappingProxyType(
    {
        "farther": "nearer",
        "brighter": "darker",
        "redder": "bluer",
        "larger": "smaller",
        "stronger": "paler",
        "bluer": "redder",
        "sharper": "more blurred",
    }
)


@dataclass(frozen=True)
class Shift(Plain):
    """How one measure of new cells differs from that of an atlas's cells.

    Attributes:
        name: of the measure. before, after: medians of the atlas's cells and of the new ones.
        n_before, n_after: cells measured.
        delta: Cliff's delta in [-1, 1]: chance that a new cell has more than one of the atlas,
            less the chance that it has less. outside: share of the new cells beyond the middle
            95 % of the atlas's.
        p: of the two-sample test. adjusted: after Holm, over all measures of the comparison.
    """

    name: str
    before: float
    after: float
    n_before: int
    n_after: int
    delta: float
    outside: float
    p: float
    adjusted: float

    @property
    def effect(self) -> str:
        """How large it is, in a word of `EFFECTS`."""
        return next(word for bound, word in EFFECTS if abs(self.delta) < bound)

    @property
    def words(self) -> str:
        """What is found, in words: "much darker", or "alike"."""
        if not self.found:
            return "alike"
        more = MEASURES[self.name][2]
        how = {"small": "slightly ", "medium": "", "large": "much "}[self.effect]
        return how + (more if self.delta > 0 else LESS[more])

    @property
    def found(self) -> bool:
        """Whether it is there after correction, and more than nothing."""
        return self.adjusted <= ALPHA and self.effect != "none"

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "effect": self.effect, "words": self.words}


@dataclass(frozen=True)
class Expected(Plain):
    """The accuracy to expect without a label.

    Attributes:
        accuracy: share in [0, 1] of the new calls that should be right. low, high: ends of its
            95 % interval over the draw of both batches, not over that they may differ in kind;
            None where all cells are called alike.
        held_out: accuracy of the `n` held-out calls that it rests on.
    """

    accuracy: float
    low: float | None
    high: float | None
    held_out: float
    n: int


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two batches, for pictures.

    Attributes:
        values: measure -> its values. typical: up to a dozen pictures (S, S, 3) uint8 that lie in
            the middle of the batch.
    """

    values: Mapping[str, Floats]
    typical: tuple[Bytes, ...]


@dataclass(frozen=True, eq=False)
class Fits:
    """Does an atlas fit a batch of new cells?

    Attributes:
        verdict: `FITS`, `CARE` or `UNFIT`. reasons: why, one sentence each; empty where it fits.
        cells: new cells measured.
        shifts: one for each measure.
        far: share of the new cells that lie farther from their kin than 95 % of the held-out cells
            of the class that they are called.
        expected: None where there is none; `expected_absent` then says why.
        calls: class -> new cells called so.
        notes: what was left out, is missing in this atlas, or must be known besides.
        atlas: its id.
        old, new: the two batches, for the page; not part of the data.
    """

    verdict: str
    reasons: tuple[str, ...]
    cells: int
    shifts: tuple[Shift, ...]
    far: float
    expected: Expected | None
    expected_absent: str
    calls: Mapping[str, int]
    notes: tuple[str, ...]
    atlas: str
    old: Side = field(repr=False)
    new: Side = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return plain_fields(self, without=("old", "new"))
