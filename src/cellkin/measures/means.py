"""The mean of something measured on cells, with an interval that owns up to its unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.core.errors import DecisionError
from cellkin.measures.scores import FEWEST_SUBJECTS, LEVEL, RESAMPLES

__all__ = ["MeanInterval", "mean_interval"]


@dataclass(frozen=True)
class MeanInterval:
    """A mean over n cells and its bootstrap interval.

    Attributes:
        low, high: None where `note` says why there is no interval.
        n: cells. units: how many subjects (or cells) were drawn from. unit: "subject" or "cell".
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    units: int
    unit: str
    level: float = LEVEL
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def mean_interval(
    values: Sequence[float] | NDArray[np.float64],
    subjects: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> MeanInterval:
    """Mean of n values with a 95 % percentile bootstrap (2000 resamples).

    Args:
        values: one finite number per cell, n at least 1.
        subjects: the person of each cell. Where every cell names one, whole persons are drawn, and
            below 10 persons there is no interval; otherwise cells are drawn as if independent.

    Raises:
        DecisionError: no value, one that is no number, or subjects that do not match.
    """
    cells = np.asarray(values, np.float64)
    if not cells.size or not np.isfinite(cells).all():
        raise DecisionError(
            "there is no mean of these values",
            where=f"{cells.size} values, {int((~np.isfinite(cells)).sum())} of them no numbers",
            mend="give at least one finite value",
        )
    if subjects is not None and len(subjects) != len(cells):
        raise DecisionError(
            "every value needs one subject",
            where=f"{len(cells)} values, {len(subjects)} subjects",
            mend="give one subject (or None) per value",
        )
    known = subjects is not None and all(subject is not None for subject in subjects)
    owners = np.array(subjects if known else range(len(cells)))
    _, owner = np.unique(owners, return_inverse=True)
    sums, sizes = np.bincount(owner, weights=cells), np.bincount(owner)
    unit, mean = "subject" if known else "cell", float(cells.mean())
    found = MeanInterval(mean, None, None, len(cells), len(sums), unit)
    if len(sums) < FEWEST_SUBJECTS:
        note = f"too few {unit}s for an interval: {len(sums)}, {FEWEST_SUBJECTS} needed"
        return MeanInterval(**{**found.to_json(), "note": note})
    drawn = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return MeanInterval(**{**found.to_json(), "low": float(low), "high": float(high)})
