"""Is a confidence of 0.8 right in 80 of 100? Calibration of a confidence against what was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellkin.core.errors import DecisionError
from cellkin.core.plain import Plain

BINS = 10


@dataclass(frozen=True)
class Reliability(Plain):
    """How far a confidence can be taken at its word.

    Attributes:
        n: cells. ece: expected calibration error, the mean over the cells of |confidence -
            share right| by bin, in [0, 1]. brier: mean squared difference between the confidence
            and 1 (right) or 0 (wrong), in [0, 1].
        bins: one row per bin with cells in it: `low`, `high`, `n`, `confidence` (mean), `right`
            (share); confidences in (low, high], the first bin holding 0 as well.
    """

    n: int
    ece: float
    brier: float
    accuracy: float
    confidence: float
    bins: tuple[dict[str, Any], ...]


def reliability(confidence: Sequence[float], right: Sequence[bool]) -> Reliability:
    """Ten bins of equal width over [0, 1].

    Args:
        confidence: N numbers in [0, 1], N at least 1. right: whether each call was right.

    Raises:
        DecisionError: no cell, lengths that differ, or a confidence outside of [0, 1].
    """
    sure, hit = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if not sure.size or sure.shape != hit.shape or not ((sure >= 0) & (sure <= 1)).all():
        raise DecisionError(
            "there is no calibration of these confidences",
            where=f"{sure.size} confidences, {hit.size} calls",
            mend="give one confidence in [0, 1] per call, and at least one",
        )
    place = np.clip(np.ceil(sure * BINS - 1e-9).astype(int) - 1, 0, BINS - 1)
    rows = []
    for i in np.unique(place):
        own = place == i
        rows.append(
            {
                "low": i / BINS,
                "high": (i + 1) / BINS,
                "n": int(own.sum()),
                "confidence": float(sure[own].mean()),
                "right": float(hit[own].mean()),
            }
        )
    gaps = [row["n"] * abs(row["confidence"] - row["right"]) for row in rows]
    return Reliability(
        n=len(sure),
        ece=float(sum(gaps) / len(sure)),
        brier=float(((sure - hit) ** 2).mean()),
        accuracy=float(hit.mean()),
        confidence=float(sure.mean()),
        bins=tuple({**row, "low": float(row["low"]), "high": float(row["high"])} for row in rows),
    )
