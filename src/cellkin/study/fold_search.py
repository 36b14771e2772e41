"""Which wrong cells, in which folds, give the printed numbers: the search behind `audit_table`.

A column is a recall or an accuracy, printed as a mean over folds with a standard deviation. In a
fold of m cells with k wrong ones it is 1 - k/m, with whole k: that is what printed numbers betray.
Means and deviations are windows, as wide as their last digit leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Column",
    "Found",
    "Window",
    "Witness",
    "allowed_totals",
    "search_fixed",
    "search_random",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Window = tuple[float, float]

TOLERANCE = 1e-9
ROWS = 1_000_000  # partial allocations kept at once; beyond, the search is cut
PAIRS = 100_000_000  # joint allocations looked at; beyond, the search is cut
CHUNK = 2_000_000
SLACK = 1e-7  # of a first look; every witness is checked exactly
FEW = 12  # wrong cells up to which folds of unknown mix are searched


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

    def fits(self, shares: Floats) -> NDArray[np.bool_]:
        """Whether wrong shares per fold, (..., F), give the printed mean and deviation."""
        means = shares.mean(axis=-1)
        good = (means >= self.wrong[0] - TOLERANCE) & (means <= self.wrong[1] + TOLERANCE)
        if self.deviation is None:
            return np.asarray(good)
        return np.asarray(good & np.any([self._near(shares, d) for d in self.ddofs], axis=0))

    def _near(self, shares: Floats, ddof: int) -> NDArray[np.bool_]:
        if self.deviation is None or shares.shape[-1] <= ddof:
            return np.zeros(shares.shape[:-1], bool)
        low, high = self.deviation
        found = shares.std(axis=-1, ddof=ddof)
        return np.asarray((found >= low - TOLERANCE) & (found <= high + TOLERANCE))

    def definitions(self, shares: Floats) -> tuple[int, ...]:
        """The definitions of the deviation that these shares, (F,), agree with."""
        return tuple(d for d in self.ddofs if bool(self._near(shares, d)))

    def counts_fit(self, wrong: Ints) -> NDArray[np.bool_]:
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
    complete = math.isfinite(largest)
    reach = largest * math.sqrt(folds - 1) + half if complete else 4.0 / sizes.min()
    room = folds * (largest**2 + half**2) * (1 + 1e-9) + TOLERANCE if complete else math.inf
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
        if len(old) > ROWS:
            old, new, complete = old[:ROWS], new[:ROWS], False
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
    alike, complete, lists = _alike([*sizes, rest]), True, []
    for column, size in zip(parts, sizes, strict=True):
        rows, all_of_them = allocations(column, size, alike=() if lists else alike)
        if not len(rows):
            return Found(None, all_of_them)
        complete &= all_of_them
        lists.append(rows)
    groups = [*sizes, total] if whole is not None else [*sizes]
    if whole is None:
        return Found(_witness(groups, [rows[0] for rows in lists]), True)
    whole_rows = np.zeros((0, len(total)), np.int64)
    if rest.any() or not lists:
        whole_rows, all_of_them = allocations(whole, total)
        if not len(whole_rows):
            return Found(None, all_of_them)
        complete &= all_of_them
    found, looked_at_all = _joined(lists, whole, whole_rows, total, rest)
    if found is None:
        return Found(None, complete and looked_at_all)
    return Found(_witness(groups, found), True)


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


def _witness(sizes: Sequence[Ints], wrong: Sequence[Ints]) -> Witness:
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


# folds of unknown mix ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mixed:
    """Groups whose cells per fold are only known within windows; their sum over folds is known.

    `sums`: cells over all folds, or None where test sets overlap. `whole`: (F,) cells per fold.
    """

    parts: tuple[Column, ...]
    accuracy: Column
    windows: tuple[tuple[int, int], ...]
    sums: tuple[int | None, ...]
    whole: Ints
    covering: bool
    known: dict[tuple[int, tuple[int, ...]], tuple[Ints, bool]] = field(default_factory=dict)

    def sizes_for(self, part: int, wrong: Ints) -> tuple[Ints, bool]:
        """`fold_sizes` of a group, worked out once for all orders of the same wrong cells."""
        order = np.argsort(-wrong, kind="stable")
        key = (part, tuple(wrong[order].tolist()))
        if key not in self.known:
            self.known[key] = fold_sizes(self.parts[part], wrong[order], self.windows[part])
        sorted_sizes, complete = self.known[key]
        sizes = np.zeros_like(sorted_sizes)
        sizes[:, order] = sorted_sizes
        return sizes, complete


def search_random(
    parts: Sequence[Column],
    accuracy: Column,
    windows: Sequence[tuple[int, int]],
    sums: Sequence[int | None],
    whole: Ints,
    covering: bool,
) -> Found:
    """The same with folds that were drawn at random: how many cells of a group a fold holds is
    only known within `windows`. Searched where the accuracy leaves at most 12 wrong cells.

    Args:
        windows: least and most cells of each group in a fold. sums: cells of each group over all
            folds, None where the test sets overlap. whole: (F,) cells per fold.
        covering: whether every cell is in one of the groups.
    """
    task = _Mixed(tuple(parts), accuracy, tuple(windows), tuple(sums), whole, covering)
    least, most = allowed_totals(accuracy, int(whole.min()), int(whole.max()), len(whole))
    if least > FEW:
        return Found(None, False)
    complete = most <= FEW
    for wrong in range(least, min(most, FEW) + 1):
        for row in _spread_out(wrong, whole):
            if accuracy.fits(row / whole) and accuracy.counts_fit(row):
                found = _split_wrong(task, row)
                if found.witness is not None:
                    return found
                complete &= found.complete
    return Found(None, complete)


def _spread_out(wrong: int, whole: Ints) -> Iterator[Ints]:
    """Ways to deal wrong cells to folds, once for folds of equal size."""
    seen = set()
    for places in combinations_with_replacement(range(len(whole)), wrong):
        row = np.bincount(np.array(places, np.int64), minlength=len(whole))
        key = tuple(sorted(zip(whole.tolist(), row.tolist(), strict=True)))
        if key not in seen:
            seen.add(key)
            yield row


def _split_wrong(task: _Mixed, row: Ints) -> Found:
    """Deal the wrong cells of each fold to the groups (and to the rest, where there is one)."""
    complete, seen = True, set()
    for choice in product(*[_shares_of(int(k), len(task.parts), task.covering) for k in row]):
        key = tuple(sorted(zip(task.whole.tolist(), row.tolist(), choice, strict=True)))
        if key in seen:
            continue
        seen.add(key)
        wrong = [np.array([fold[i] for fold in choice], np.int64) for i in range(len(task.parts))]
        if all(c.counts_fit(w) for c, w in zip(task.parts, wrong, strict=True)):
            found = _sized(task, row, wrong)
            if found.witness is not None:
                return found
            complete &= found.complete
    return Found(None, complete)


def _shares_of(wrong: int, groups: int, covering: bool) -> list[tuple[int, ...]]:
    ways = product(range(wrong + 1), repeat=groups)
    return [way for way in ways if (sum(way) == wrong if covering else sum(way) <= wrong)]


def _sized(task: _Mixed, row: Ints, wrong: Sequence[Ints]) -> Found:
    """Sizes of the folds with wrong cells that give the printed recalls; then fill up the rest."""
    lists, complete = [], True
    for part, counts in enumerate(wrong):
        sizes, all_of_them = task.sizes_for(part, counts)
        if not len(sizes):
            return Found(None, all_of_them)
        complete &= all_of_them
        lists.append(sizes)
    looked = 0
    for choice in product(*lists):
        looked += 1
        if looked > 5000:
            return Found(None, False)
        filled = _filled(task, choice)
        if filled is not None:
            return Found(_witness([*filled, task.whole], [*wrong, row]), True)
    return Found(None, complete)


def fold_sizes(column: Column, wrong: Ints, window: tuple[int, int]) -> tuple[Ints, bool]:
    """(S, F) sizes of folds that give a column with these wrong cells; 0 where any size will do,
    as no cell is wrong there. Those nearest to the middle of the window come first.
    """
    folds, places = len(wrong), np.nonzero(wrong)[0]
    low, high = window
    if not len(places):
        fits = bool(column.fits(np.zeros(folds)))
        return np.zeros((int(fits), folds), np.int64), True
    span = np.arange(low, high + 1, dtype=np.int64)
    if len(span) ** (len(places) - 1) > ROWS:
        return np.zeros((0, folds), np.int64), False
    grids = np.meshgrid(*[span] * (len(places) - 1), indexing="ij")
    rows = np.stack([g.ravel() for g in grids], axis=1) if grids else np.zeros((1, 0), np.int64)
    sums = (wrong[places[:-1]] / rows).sum(axis=1)
    found = []
    with np.errstate(divide="ignore"):
        nearest = wrong[places[-1]] / (folds * np.array(column.wrong)[:, None] - sums)
    start = np.floor(np.where(nearest[1] > 0, nearest[1], high + 1.0)).clip(low, high + 1.0)
    stop = np.ceil(np.where(nearest[0] > 0, nearest[0], high + 0.0)).clip(low - 1.0, high)
    for step in range(int((stop - start).max(initial=-1.0)) + 1):
        last = (start + step).astype(np.int64)
        good = last <= stop
        found.append(np.column_stack([rows[good], last[good]]))
    sizes = np.zeros((sum(map(len, found)), folds), np.int64)
    if len(sizes):
        sizes[:, places] = np.concatenate(found)
    shares = np.divide(wrong, sizes, where=sizes > 0, out=np.zeros(sizes.shape))
    sizes = sizes[column.fits(shares)]
    away = np.abs(np.where(sizes > 0, sizes - (low + high) / 2, 0)).sum(axis=1)
    return sizes[np.argsort(away, kind="stable")], True


def _filled(task: _Mixed, choice: Sequence[Ints]) -> list[Ints] | None:
    """Sizes for the folds where any would do, so that all cells are dealt out; None if none can."""
    if task.covering and len(choice) == 2:
        first, second = choice
        both = (first > 0) & (second > 0)
        if (first[both] + second[both] != task.whole[both]).any():
            return None
        known = np.where(first > 0, first, np.where(second > 0, task.whole - second, 0))
        filled = _fill(known, task.windows[0], task.sums[0])
        return None if filled is None else [filled, task.whole - filled]
    found = []
    for known, window, total in zip(choice, task.windows, task.sums, strict=True):
        filled = _fill(known, window, total)
        if filled is None:
            return None
        found.append(filled)
    return found if (np.sum(found, axis=0) <= task.whole).all() else None


def _fill(known: Ints, window: tuple[int, int], total: int | None) -> Ints | None:
    low, high = window
    free = np.nonzero(known == 0)[0]
    filled = known.copy()
    if ((known > 0) & ((known < low) | (known > high))).any():
        return None
    if total is None:
        filled[free] = (low + high) // 2
        return filled
    left = total - int(known.sum())
    if not len(free):
        return filled if left == 0 else None
    share, extra = divmod(left, len(free))
    if share < low or share + (extra > 0) > high:
        return None
    filled[free] = share
    filled[free[:extra]] += 1
    return filled
