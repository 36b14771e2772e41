"""Telling what does not belong: how well a score separates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellkin.core.errors import DecisionError


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
    at = [np.searchsorted(np.sort(inside), outside, side) for side in ("left", "right")]
    return float(np.sum(at)) / (2 * len(inside) * len(outside))
