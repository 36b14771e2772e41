"""Paired tests that own up to what is independent: whatever repeats is flipped as a whole."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cellkin.core.errors import DecisionError
from cellkin.core.units import plural
from cellkin.measures.intervals import Interval, mean_interval, unit_index

FLIPS = 9999
EXACT_UNITS = 13  # up to so many units all 2 ** units sign patterns are counted


@dataclass(frozen=True)
class Difference:
    """How much more often one method is right than another, on the same cells.

    Attributes:
        difference: of the shares right, first minus second, -1 to 1. n: cells.
        only_first, only_second: cells that only one of them has right.
        interval: of the difference, from a paired bootstrap over units.
        p_value: two-sided. test: how it was found: "McNemar, exact" or "sign flips over subjects".
        units: how many independent units there are.
    """

    difference: float
    n: int
    only_first: int
    only_second: int
    interval: Interval
    p_value: float
    test: str
    units: int


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test: the binomial test of the cells that differ.

    Args:
        only_first, only_second: cells that only one of two methods has right. No such cell: 1.

    Raises:
        DecisionError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise DecisionError(
            "a count of cells is negative",
            where=f"{only_first} and {only_second}",
            mend="count the cells that only one of the two has right",
        )
    from scipy.stats import binomtest  # takes long to import

    differing = only_first + only_second
    if not differing:
        return 1.0
    return float(binomtest(only_first, differing, 0.5).pvalue)


def sign_flips(sums: ArrayLike, *, seed: int, flips: int = FLIPS) -> float:
    """Two-sided p-value that sums per unit are as often positive as negative.

    Under the null hypothesis which of the two methods is which is a coin flip for each unit. All
    sign patterns are counted for up to 13 units that differ, else `flips` random ones and the found
    one; exact for units that are independent.

    Args:
        sums: one number per unit: cells that only the first has right, less those only the second.
    """
    values = np.asarray(sums, np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    found = abs(float(values.sum()))
    if len(values) <= EXACT_UNITS:
        patterns = (np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1
        totals = np.abs((2.0 * patterns - 1.0) @ values)
        return float(np.mean(totals >= found - 1e-9))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, len(values)))
    as_far = int((np.abs(signs @ values) >= found - 1e-9).sum())
    return (as_far + 1) / (flips + 1)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    owners: Sequence[Hashable],
    *,
    unit: str,
    seed: int,
    refusal: str = "",
) -> Difference:
    """Compare two methods on the same cells.

    Args:
        first, second: (N,) booleans, right or wrong. owners: (N,) unit of each cell.
        unit: "image" where every cell is its own unit (McNemar's exact test), else what `owners`
            are: "subject", "slide", "field" or "cell" (sign flips over them).
        refusal: a reason for no interval, e.g. from `too_few`.

    Raises:
        DecisionError: no cells, or lists that do not fit.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if not len(a) or not len(a) == len(b) == len(owners):
        raise DecisionError(
            "there is nothing to compare" if not len(a) else "the lists to compare do not fit",
            where=f"{len(a)} and {len(b)} cells, {len(owners)} owners",
            mend="give the same cells, decided by both methods",
        )
    gain = a.astype(np.int64) - b.astype(np.int64)
    owner = unit_index(owners)
    single = "cell" if unit == "image" else unit
    interval = mean_interval(gain, owner, single, seed=seed, refusal=refusal)
    ups, downs = int((gain > 0).sum()), int((gain < 0).sum())
    if unit == "image":
        p_value, test = mcnemar(ups, downs), "McNemar, exact"
    else:
        p_value = sign_flips(np.bincount(owner, weights=gain), seed=seed)
        test = f"sign flips over {plural(unit)}"
    return Difference(
        float(gain.mean()), len(a), ups, downs, interval, p_value, test, int(owner.max()) + 1
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values after Holm's step-down correction for so many tests, in their order.

    Raises:
        DecisionError: a value outside [0, 1].
    """
    if any(not 0 <= p <= 1 or math.isnan(p) for p in p_values):
        raise DecisionError(
            "these are no p-values", where=str(list(p_values)), mend="give numbers from 0 to 1"
        )
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, worst = [0.0] * len(p_values), 0.0
    for done, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = worst
    return tuple(corrected)
