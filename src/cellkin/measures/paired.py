"""Intervals and paired tests that own up to what is independent.

Cells of one person are alike, and the same cell decided twice is one cell. So whatever repeats (the
subject, the slide, the cell) is drawn, flipped or left out as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from cellkin.core.errors import DecisionError
from cellkin.measures.scores import FEWEST_SUBJECTS, LEVEL, RESAMPLES, Interval

__all__ = [
    "Difference",
    "bootstrap",
    "holm",
    "mcnemar",
    "paired_difference",
    "percentiles",
    "sign_flips",
    "too_few",
    "unit_index",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
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


def unit_index(owners: Sequence[Hashable]) -> Ints:
    """(N,) number of the unit that owns each cell, by first appearance."""
    place: dict[Hashable, int] = {}
    return np.array([place.setdefault(owner, len(place)) for owner in owners], np.int64)


def too_few(owner: Ints, classes: Sequence[str], unit: str) -> str:
    """Why a bootstrap over these units promises too much; empty where it does not.

    Each class that is present needs cells from at least 10 units.
    """
    counts: dict[str, set[int]] = {}
    for number, name in zip(owner.tolist(), classes, strict=True):
        counts.setdefault(name, set()).add(number)
    few = {name: len(held) for name, held in sorted(counts.items()) if len(held) < FEWEST_SUBJECTS}
    if not few:
        return ""
    listed = ", ".join(f"{name}: {count}" for name, count in few.items())
    return f"too few {unit}s for an interval ({listed}; {FEWEST_SUBJECTS} per class needed)"


def bootstrap(
    measure: Callable[[Ints], float | None],
    owner: Ints,
    unit: str,
    *,
    seed: int,
    refusal: str = "",
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap of any measure of cells: whole units are drawn with replacement.

    Args:
        measure: takes (N,) int64, how often each cell is drawn (0, 1, 2, ...); None where it is
            not defined for them; such draws are left out and counted in the note.
        owner: (N,) unit of each cell, see `unit_index`. unit: "subject", "slide", "field", "cell".
        refusal: a reason for no interval, e.g. from `too_few`.
    """
    name = f"bootstrap over {unit}s"
    if refusal:
        return Interval(None, None, name, LEVEL, refusal)
    units = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(units, size=units), minlength=units)
        value = measure(drawn[owner])
        if value is not None:
            found.append(value)
    lost = resamples - len(found)
    if not found:
        return Interval(None, None, name, LEVEL, "not defined in any resample")
    note = f"not defined in {lost} of {resamples} resamples, left out" if lost else ""
    return percentiles(found, name, note)


def percentiles(values: ArrayLike, method: str, note: str = "") -> Interval:
    """The middle 95 % of resampled values; none where they all agree."""
    low, high = np.quantile(np.asarray(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if low == high:
        why = "all resamples agree: drawing anew cannot show the uncertainty"
        return Interval(None, None, method, LEVEL, why)
    return Interval(float(low), float(high), method, LEVEL, note)


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
    interval = _bootstrap_mean(gain, owner, single, seed, refusal)
    ups, downs = int((gain > 0).sum()), int((gain < 0).sum())
    if unit == "image":
        p_value, test = mcnemar(ups, downs), "McNemar, exact"
    else:
        p_value = sign_flips(np.bincount(owner, weights=gain), seed=seed)
        test = f"sign flips over {unit}s"
    return Difference(
        float(gain.mean()), len(a), ups, downs, interval, p_value, test, int(owner.max()) + 1
    )


def _bootstrap_mean(gain: Ints, owner: Ints, unit: str, seed: int, refusal: str) -> Interval:
    """Of a mean over cells; units of equal sum and size are drawn together, as one multinomial."""
    method = f"bootstrap over {unit}s"
    if refusal:
        return Interval(None, None, method, LEVEL, refusal)
    each = np.column_stack([np.bincount(owner, weights=gain), np.bincount(owner)])
    kinds, many = np.unique(each, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(each), many / len(each), size=RESAMPLES)
    return percentiles((drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]), method)


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
