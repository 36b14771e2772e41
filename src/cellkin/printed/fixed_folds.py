"""Which wrong cells, in which folds, give the printed numbers: the search behind `check_rows`.

A column is a recall or an accuracy, printed as a mean over folds with a standard deviation. In a
fold of m cells with k wrong ones it is 1 - k/m, with whole k: that is what printed numbers betray.
Means and deviations are windows, as wide as their last digit leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Bools, Floats, Ints

Window = tuple[float, float]

TOLERANCE = 1e-9
ROWS = 1_000_000  # partial allocations kept at once; beyond, the search is cut
SPARSE = 60_000  # of them with more than six folds, where no search is complete anyhow
PAIRS = 100_000_000  # joint allocations looked at; beyond, the search is cut
CHUNK = 2_000_000
SLACK = 1e-7  # of a first look; every witness is checked exactly


@dataclass(frozen=True)
class Column:
    """A printed column.

    Attributes:
        name: "accuracy", "sensitivity" or "specificity".
        wrong: window of the mean share of wrong cells, 0 to 1.
        deviation: window of the standard deviation, as a share; None where none is printed.
        ddofs: which definitions are allowed: of 0 (population) and 1 (sample).
        total: least and most wrong cells over all folds, where known from elsewhere.
    """

    name: str
    wrong: Window
    deviation: Window | None
    ddofs: tuple[int, ...] = (0, 1)
    total: tuple[int, int] | None = None

    def fits(self, shares: Floats) -> Bools:
        """Whether wrong shares per fold, (..., F), give the printed mean and deviation."""
        means = shares.mean(axis=-1)
        good = (means >= self.wrong[0] - TOLERANCE) & (means <= self.wrong[1] + TOLERANCE)
        if self.deviation is None:
            return np.asarray(good)
        return np.asarray(good & np.any([self._near(shares, d) for d in self.ddofs], axis=0))

    def _near(self, shares: Floats, ddof: int) -> Bools:
        if self.deviation is None or shares.shape[-1] <= ddof:
            return np.zeros(shares.shape[:-1], bool)
        low, high = self.deviation
        found = shares.std(axis=-1, ddof=ddof)
        return np.asarray((found >= low - TOLERANCE) & (found <= high + TOLERANCE))

    def counts_fit(self, wrong: Ints) -> Bools:
        """Whether totals of wrong cells per fold, (..., F), are as known from elsewhere."""
        if self.total is None:
            return np.ones(wrong.shape[:-1], bool)
        sums = wrong.sum(axis=-1)
        return np.asarray((sums >= self.total[0]) & (sums <= self.total[1]))

    def largest_population_deviation(self, folds: int) -> float:
        """Of the allowed definitions, as ddof = 0; infinite where no deviation is printed."""
        if self.deviation is None:
            return math.inf
        high = self.deviation[1]
        return high if 0 in self.ddofs else high * math.sqrt((folds - 1) / folds)


@dataclass(frozen=True)
class Witness:
    """One way in which the numbers come about: for each column (F,) cells and wrong cells."""

    sizes: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Found:
    """A witness, or None; then `complete` tells a proof that there is none from a search cut."""

    witness: Witness | None
    complete: bool


def allowed_totals(column: Column, least: int, most: int, folds: int) -> tuple[int, int]:
    """Fewest and most wrong cells over all folds, for fold sizes from `least` to `most`."""
    low = math.ceil(folds * column.wrong[0] * least - TOLERANCE)
    high = math.floor(folds * column.wrong[1] * most + TOLERANCE)
    if column.total is not None:
        low, high = max(low, column.total[0]), min(high, column.total[1])
    return max(0, low), high


# folds of known sizes ------------------------------------------------------------------------


def allocations(column: Column, sizes: Ints, *, alike: Sequence[int] = ()) -> tuple[Ints, bool]:
    """Every (S, F) allocation of wrong cells to folds of these sizes that fits one column.

    Args:
        alike: (F,) for each fold the last one before it that is interchangeable with it, or -1:
            of allocations that differ only in the order of such folds one is given.

    Returns:
        the allocations, and whether they are all.
    """
    folds = len(sizes)
    center, half = sum(column.wrong) / 2, (column.wrong[1] - column.wrong[0]) / 2
    largest = column.largest_population_deviation(folds)
    bounded = math.isfinite(largest)
    complete = bounded or folds == 1  # the mean of one fold is that fold
    reach = largest * math.sqrt(folds - 1) + half if bounded else 4.0 / sizes.min()
    room = folds * (largest**2 + half**2) * (1 + 1e-9) + TOLERANCE if bounded else math.inf
    rows = np.zeros((1, 0), np.int64)
    sums, squares = np.zeros(1), np.zeros(1)
    for fold, size in enumerate(sizes[:-1]):
        options = _options(int(size), center, reach)
        shares = options / size
        away = sums[:, None] + shares - (fold + 1) * center
        owed = np.maximum(np.abs(away) - folds * half, 0) ** 2 / (folds - fold - 1)
        good = squares[:, None] + (shares - center) ** 2 + owed <= room  # the others make up for it
        if alike and alike[fold] >= 0:
            good &= options >= rows[:, alike[fold], None]
        old, new = np.nonzero(good)
        most = ROWS if folds <= 6 else SPARSE
        if len(old) > most:  # a thinned-out choice, so that all kinds are among it
            kept = np.linspace(0, len(old) - 1, most).astype(np.int64)
            old, new, complete = old[kept], new[kept], False
        rows = np.column_stack([rows[old], options[new]])
        sums, squares = sums[old] + shares[new], squares[old] + (shares[new] - center) ** 2
    rows = _last_fold(rows, sums, int(sizes[-1]), column, folds)
    if alike and alike[-1] >= 0:
        rows = rows[rows[:, -1] >= rows[:, alike[-1]]]
    good = column.fits(rows / sizes) & column.counts_fit(rows)
    return rows[good], complete


def _options(size: int, center: float, reach: float) -> Ints:
    low = max(0, math.ceil(size * (center - reach) - TOLERANCE))
    high = min(size, math.floor(size * (center + reach) + TOLERANCE))
    return np.arange(low, high + 1, dtype=np.int64)


def _last_fold(rows: Ints, sums: Floats, size: int, column: Column, folds: int) -> Ints:
    """The mean leaves the last fold no more than a few values."""
    low = np.ceil(size * (folds * column.wrong[0] - sums) - 1e-6).astype(np.int64)
    high = np.floor(size * (folds * column.wrong[1] - sums) + 1e-6).astype(np.int64)
    found = []
    for step in range(int((high - low).max(initial=-1)) + 1):
        value = low + step
        good = (value <= high) & (value >= 0) & (value <= size)
        found.append(np.column_stack([rows[good], value[good]]))
    return np.concatenate(found) if found else np.zeros((0, folds), np.int64)


def search_fixed(
    parts: Sequence[Column], whole: Column | None, sizes: Sequence[Ints], rest: Ints
) -> Found:
    """Recalls of disjoint groups of cells, and the accuracy over all, with folds of known sizes.

    Args:
        parts: columns of the groups. whole: the accuracy, where printed.
        sizes: (F,) cells of each group. rest: (F,) cells of neither, whose wrong cells are free.
    """
    total = np.asarray(sum(sizes) + rest) if len(sizes) else rest
    if whole is not None and not _totals_meet(parts, whole, [*sizes, total], rest):
        return Found(None, True)
    alike, complete = _alike([*sizes, rest]), True
    lists: list[Ints] = []
    for column, size in zip(parts, sizes, strict=True):
        rows, all_of_them = allocations(column, size, alike=() if lists else alike)
        if not len(rows):
            return Found(None, all_of_them)
        complete &= all_of_them
        lists.append(rows)
    groups = [*sizes, total] if whole is not None else [*sizes]
    if whole is None:
        return Found(witness_of(groups, [rows[0] for rows in lists]), True)
    whole_rows = np.zeros((0, len(total)), np.int64)
    if rest.any() or not lists:
        whole_rows, all_of_them = allocations(whole, total)
        if not len(whole_rows):
            return Found(None, all_of_them)
        complete &= all_of_them
    found, looked_at_all = _joined(lists, whole, whole_rows, total, rest)
    if found is None:
        return Found(None, complete and looked_at_all)
    return Found(witness_of(groups, found), True)


def _totals_meet(parts: Sequence[Column], whole: Column, sizes: Sequence[Ints], rest: Ints) -> bool:
    """Whether the wrong cells of the groups can add up to those of the accuracy."""
    ranges = [
        allowed_totals(column, int(size.min()), int(size.max()), len(size))
        for column, size in zip([*parts, whole], sizes, strict=True)
    ]
    if any(low > high for low, high in ranges):
        return False
    low, high = sum(r[0] for r in ranges[:-1]), sum(r[1] for r in ranges[:-1])
    return low <= ranges[-1][1] and high + int(rest.sum()) >= ranges[-1][0]


def _alike(sizes: Sequence[Ints]) -> list[int]:
    """For each fold the last one before it with the same sizes, or -1."""
    last: dict[tuple[int, ...], int] = {}
    found = []
    for fold, key in enumerate(zip(*[size.tolist() for size in sizes], strict=True)):
        found.append(last.get(key, -1))
        last[key] = fold
    return found


def witness_of(sizes: Sequence[Ints], wrong: Sequence[Ints]) -> Witness:
    return Witness(
        tuple(tuple(map(int, s)) for s in sizes), tuple(tuple(map(int, w)) for w in wrong)
    )


def _joined(
    lists: Sequence[Ints], whole: Column, whole_rows: Ints, total: Ints, rest: Ints
) -> tuple[list[Ints] | None, bool]:
    """One allocation of each group that together fit the accuracy."""
    if not lists:
        return [whole_rows[0]], True
    first = lists[0]
    second = lists[1] if len(lists) > 1 else np.zeros((1, len(total)), np.int64)
    each = len(second) * (len(whole_rows) if rest.any() else 1)
    rows = max(1, min(len(first), PAIRS // each))
    find = _with_rest if rest.any() else _covering
    for start in range(0, rows, max(1, CHUNK // each)):
        part = first[start : min(rows, start + max(1, CHUNK // each))]
        found = find(part, second, whole, (whole_rows, total, rest))
        if found is not None:
            one, other, wrong = found
            return [*[one, other][: len(lists)], wrong], True
    return None, rows == len(first)


Triple = tuple[Ints, Ints, Ints]


def _covering(first: Ints, second: Ints, whole: Column, sizes: Triple) -> Triple | None:
    """A pair whose sum fits the accuracy; mean and deviation of all sums by one product."""
    total = sizes[1]
    a, b = first / total, second / total
    a, b = a - whole.wrong[0], b * 1.0
    folds = len(total)
    means = (a.sum(axis=1)[:, None] + b.sum(axis=1)) / folds
    squares = ((a**2).sum(axis=1)[:, None] + 2 * a @ b.T + (b**2).sum(axis=1)) / folds
    good = (means >= -SLACK) & (means <= whole.wrong[1] - whole.wrong[0] + SLACK)
    if whole.deviation is not None:
        variance = squares - means**2
        factors = [folds / (folds - d) for d in whole.ddofs]
        low, high = max(whole.deviation[0] - SLACK, 0.0) ** 2, (whole.deviation[1] + SLACK) ** 2
        good &= (variance >= low / max(factors) - SLACK**2) & (
            variance <= high / min(factors) + SLACK**2
        )
    for i, j in np.argwhere(good):
        wrong = first[i] + second[j]
        if whole.fits(wrong / total) and whole.counts_fit(wrong):
            return first[i], second[j], wrong
    return None


def _with_rest(first: Ints, second: Ints, whole: Column, sizes: Triple) -> Triple | None:
    """A pair to which the rest can add wrong cells so that the accuracy fits."""
    whole_rows, _, rest = sizes
    for one in first:
        for other in second:
            free = whole_rows - one - other
            good = np.nonzero(((free >= 0) & (free <= rest)).all(axis=1))[0]
            if len(good):
                return one, other, whole_rows[good[0]]
    return None
