"""How many calls on new cells will be right, when nobody has labelled them.

Average thresholded confidence (Garg et al., ICLR 2022): on held-out cells with known classes a
threshold of the confidence is sought above which as many calls lie as are right; the share of new
calls above it is the accuracy that may be expected. It is exact where the new cells are like the
held-out ones, and only a guess where they are not: no method can know more without labels.
"""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Array, Bools, Floats
from cellkin.core.errors import DecisionError
from cellkin.core.fits import Expected
from cellkin.measures.intervals import bootstrap

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
    held, every = len(right), len(right) + len(new)

    def drawn(times: Array) -> float | None:
        if not times[held:].any():
            return None
        return above(confidence, right, new, weights * times[:held], times[held:])

    ends = bootstrap(drawn, np.arange(every), "cell", seed=seed).ends
    share = above(confidence, right, new, weights, np.ones(len(new)))
    return Expected(share, *ends, float(weights @ right / weights.sum()), held)


def above(confidence: Floats, right: Bools, new: Floats, weights: Floats, times: Array) -> float:
    """Share of the new confidences above the threshold; calls that are just as sure count in the
    share in which they count among the held-out ones. 0 where all weights are.

    Args:
        times: (M,) how often each new call counts, not all 0.
    """
    wanted = float(weights @ right)
    order = np.argsort(-confidence, kind="stable")
    filled = np.cumsum(weights[order])
    if wanted <= 0:
        return 0.0
    limit = confidence[order[np.searchsorted(filled, wanted * (1 - ROUNDING))]]
    surer, tied = (float(weights[some].sum()) for some in (confidence > limit, confidence == limit))
    share = (wanted - surer) / tied
    return float(times @ ((new > limit) + share * (new == limit)) / times.sum())
