"""The records of the contrast: why this side and not the other; and how much of a map is inside.

They are part of `cellkin.core.records` and imported from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellkin.core.arrays import Array, Bools, Floats
from cellkin.core.labels import frozen
from cellkin.core.plain import plain_fields

CLOSES = 1e-4
"""A map that claims to be exact and misses its target by more than this is never shown."""

FEW = 1 / 3
"""A map with less of its positive part on the cell says so."""


@dataclass(frozen=True)
class ContrastMap:
    """What in one picture speaks for the verdict, and what for the other side.

    Attributes:
        image: id of the cell whose picture the map lies on.
        values: (h, w), signed: above 0 where a position speaks for the verdict, below where it
            speaks for the other side; what both sides share cancels.
        margin: what they add up to: the mean distance of this cell to the opponents, less that to
            the kin, in `Contrast.measure`.
        completeness: |sum - margin| over the norms of the features that are compared.
        exact: True where the sum is the margin by construction.
    """

    image: str
    values: Array
    margin: float
    completeness: float
    exact: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen(self.values))

    @property
    def refused(self) -> str:
        """Why this map must not be shown, or an empty string."""
        return refusal(self.exact, self.completeness)

    def to_json(self) -> dict[str, Any]:
        """Without values that are refused."""
        told = plain_fields(self)
        return {**told, "refused": self.refused or None} | (
            {"values": None} if self.refused else {}
        )


@dataclass(frozen=True)
class Contrast:
    """The contrast of one decision.

    Attributes:
        kin, opponents: ids of those that voted, and of as many of the other side, the nearest.
        measure: in what the margin is told: "squared distance", ...
        on_query: the map of the query. on_others: on each of the kin, and on each opponent that
            is shown, in their order: what the same contrast says of them.
        pairs: of the query, for each of the kin alone against the nearest opponent alone.
        looks: passes of the network that the map of the query comes from; margins: the least and
            the largest margin of these looks.
        warning: see `Heatmap`.
    """

    kin: tuple[str, ...]
    opponents: tuple[str, ...]
    measure: str
    on_query: ContrastMap
    on_others: tuple[ContrastMap, ...]
    pairs: tuple[ContrastMap, ...]
    looks: int = 1
    margins: tuple[float, float] | None = None
    warning: str = ""

    def finer(self, values: Array, margins: Floats, completeness: float) -> Contrast:
        """The same with a finer map of the query, the mean of as many looks as there are margins.

        Its margin is the mean of theirs; `completeness` is the worst of the looks.
        """
        own = replace(
            self.on_query, values=values, margin=float(margins.mean()), completeness=completeness
        )
        ends = float(margins.min()), float(margins.max())
        return replace(self, on_query=own, looks=len(margins), margins=ends)

    def to_json(self) -> dict[str, Any]:
        return {**plain_fields(self), "warning": self.warning or None}


def coverage(regions: Bools, shape: tuple[int, int]) -> Floats:
    """(M, h, w) share in [0, 1] of the pixels below each position that belong to the region.

    Args:
        regions: (M, H, W).
    """
    down, across = (_parts(n, size) for n, size in zip(shape, regions.shape[1:], strict=True))
    return np.asarray(down @ regions.astype(np.float64) @ across.T)


def _parts(count: int, size: int) -> Floats:
    """(count, size): how much of each position lies on each pixel; a row adds up to 1."""
    ends = np.arange(count + 1)[:, None] * (size / count)
    pixels = np.arange(size)
    shared = np.minimum(ends[1:], pixels + 1) - np.maximum(ends[:-1], pixels)
    return np.asarray(np.clip(shared, 0, None) * (count / size))


def share_inside(values: Array, mask: Bools | None) -> float | None:
    """Of what is positive in a map (h, w), how much lies on the cell, in [0, 1].

    None where no outline was found, or nothing is positive.
    """
    positive = np.maximum(np.asarray(values, np.float64), 0.0)
    if mask is None or not np.isfinite(positive).all() or not positive.any():
        return None
    covered = coverage(mask[None], (positive.shape[0], positive.shape[1]))[0]
    return float((positive * covered).sum() / positive.sum())


def refusal(exact: bool, completeness: float) -> str:
    """Why a map must not be shown, or an empty string."""
    if not exact or completeness <= CLOSES:
        return ""
    return f"refused: it does not add up to what it explains (error {completeness:.1g})"
