"""The search where it is not known how many cells of a class a fold holds.

Folds that were cut at random hold a class in uneven shares. Where few cells are wrong, every mix of
the folds that chance gives is tried: only the folds with wrong cells matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, product

import numpy as np

from cellkin.core.arrays import Ints
from cellkin.printed.fixed_folds import ROWS, Column, Found, allowed_totals, witness_of

FEW = 12  # wrong cells up to which all mixes are tried
COMBINATIONS = 5000  # of fold sizes of two groups, until the search is cut


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
    for looked, choice in enumerate(product(*lists)):
        if looked >= COMBINATIONS:
            return Found(None, False)
        filled = _filled(task, choice)
        if filled is not None and (np.sum(filled, axis=0) > task.whole).any():
            complete = False  # another way to deal out the other cells might do
        elif filled is not None:
            return Found(witness_of([*filled, task.whole], [*wrong, row]), True)
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
    return found


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
