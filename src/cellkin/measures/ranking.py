"""Telling what does not belong: refusals with their intervals, and how well a score separates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from cellkin.core.errors import DecisionError
from cellkin.measures.scores import wilson

__all__ = ["Rate", "auroc", "rate"]


@dataclass(frozen=True)
class Rate:
    """`count` of `n` with a 95 % Wilson interval, which takes the cells as independent.

    `share`, `low` and `high` are None where n is 0.
    """

    count: int
    n: int
    share: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def rate(hits: Sequence[bool]) -> Rate:
    """How many of these are true."""
    count, n = int(sum(map(bool, hits))), len(hits)
    if not n:
        return Rate(0, 0, None, None, None)
    low, high = wilson(count, n)
    return Rate(count, n, count / n, low, high)


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Chance that something from outside scores higher than something from inside; ties half.

    Args:
        inside, outside: one finite oddness each, larger is odder; at least one of both.

    Raises:
        DecisionError: one of them is empty, or a score is no number.
    """
    scores = np.array([*inside, *outside], np.float64)
    if not (len(inside) and len(outside) and np.isfinite(scores).all()):
        raise DecisionError(
            "nothing can be told apart here",
            where=f"{len(inside)} scores inside, {len(outside)} outside",
            mend="give at least one finite score of both",
        )
    above = float(rankdata(scores)[len(inside) :].sum()) - len(outside) * (len(outside) + 1) / 2
    return above / (len(inside) * len(outside))
