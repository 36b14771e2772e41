"""How many calls on new cells will be right, when nobody has labelled them.

Average thresholded confidence (Garg et al., ICLR 2022): on held-out cells with known classes a
threshold of the confidence is sought above which as many calls lie as are right; the share of new
calls above it is the accuracy that may be expected. It is exact where the new cells are like the
held-out ones, and only a guess where they are not: no method can know more without labels.
"""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Bools, Floats
from cellkin.core.errors import DecisionError
from cellkin.core.fits import Expected
from cellkin.measures.intervals import RESAMPLES, middle

ROUNDING = 1e-12
LEAST = 20
"""Held-out cells that a threshold can rest on."""


def expected_accuracy(
    confidence: Floats, right: Bools, new: Floats, weights: Floats, *, seed: int = 0
) -> Expected:
    """From the confidences (N,) of held-out calls and which of them were right, and those of new
    calls (M,). Larger is surer; only their order matters.

    Args:
        weights: (N,) of the held-out calls, so that their classes are as frequent as among the new
            calls; not all of them 0.

    Raises:
        DecisionError: fewer than `LEAST` held-out calls, no new one, or a value that is no number.
    """
    if (
        len(right) < LEAST
        or not len(new)
        or not weights.any()
        or not np.isfinite([*confidence, *new]).all()
    ):
        raise DecisionError(
            "nothing can be expected without held-out calls",
            where=f"{len(right)} held-out calls, {len(new)} new ones",
            mend=f"give {LEAST} held-out calls or more, and one new call or more",
        )
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        old = generator.integers(len(right), size=len(right))
        some = generator.integers(len(new), size=len(new))
        drawn.append(above(confidence[old], right[old], new[some], weights[old]))
    low, high = middle(drawn)
    ends: tuple[float | None, float | None] = (low, high) if high > low else (None, None)
    share = above(confidence, right, new, weights)
    return Expected(share, *ends, float(weights @ right / weights.sum()), len(right))


def above(confidence: Floats, right: Bools, new: Floats, weights: Floats) -> float:
    """Share of the new confidences above the threshold; calls that are just as sure count in the
    share in which they count among the held-out ones. 0 where all weights are.
    """
    wanted = float(weights @ right)
    order = np.argsort(-confidence, kind="stable")
    filled = np.cumsum(weights[order])
    if wanted <= 0:
        return 0.0
    limit = confidence[order[np.searchsorted(filled, wanted * (1 - ROUNDING))]]
    surer, tied = (float(weights[some].sum()) for some in (confidence > limit, confidence == limit))
    share = (wanted - surer) / tied
    return float((new > limit).mean() + share * (new == limit).mean())
