"""Ways to read a printed row, from what its caption says to what its authors may have done."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from cellkin.core.arrays import Ints
from cellkin.core.numbers import percent
from cellkin.printed.fixed_folds import Column, Window
from cellkin.printed.tables import COLUMNS, PrintedRow

DEVIATIONS = 4.0  # how far random folds may be from their expected mix, in standard deviations
WAYS = 20_000  # compositions of folds looked at
KEPT = 200  # different ones that are searched
SLANTS = (0.5, 1.0, 2.0, 3.0)
DRAWN = 3  # mixes of random folds that are tried where not all can be


@dataclass(frozen=True)
class Reading:
    """One way to read a row.

    Attributes:
        sensitivity, specificity: classes whose recall the column prints; () where it is not there.
        swapped: sensitivity is the recall of the negative classes and the other way round.
        cut: digits were cut off, not rounded.
        half: each test set holds half of the cells, not 1 / folds of them.
        ddofs: of the standard deviations of accuracy, sensitivity and specificity.
    """

    sensitivity: tuple[str, ...]
    specificity: tuple[str, ...]
    swapped: bool = False
    cut: bool = False
    half: bool = False
    ddofs: tuple[int, int, int] = (0, 0, 0)

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """`(column, classes)` of the recalls that are printed."""
        both = (("sensitivity", self.sensitivity), ("specificity", self.specificity))
        return tuple((name, classes) for name, classes in both if classes)

    def departures(self, row: PrintedRow) -> tuple[str, ...]:
        """What departs from the caption, in words; the fewer, the more credible the reading."""
        words = []
        first, second = self._sides(row)
        if self.swapped:
            words.append(
                "the classes are swapped: its sensitivity is the recall of "
                f"{_all(first)}, its specificity that of {_all(second)}"
            )
        for name, classes, side in (
            ("sensitivity", self.sensitivity, first),
            ("specificity", self.specificity, second),
        ):
            if classes and classes != side:
                words.append(f"{name} is the recall of {_all(classes)} alone, not of {_all(side)}")
        if len(set(self._used(row))) > 1:
            each = ", ".join(
                f"{name} {_ddof(ddof)}"
                for name, ddof in zip(COLUMNS, self.ddofs, strict=True)
                if _has_deviation(row, name)
            )
            words.append(f"standard deviations of two definitions: {each}")
        if self.cut:
            words.append("digits cut off, not rounded")
        if self.half:
            words.append(f"{row.folds} test sets of half the cells each, not {row.folds} folds")
        return tuple(words)

    def definition(self, row: PrintedRow) -> str:
        """The definition of the standard deviation where there is one for all columns."""
        used = set(self._used(row))
        return f"all standard deviations {_ddof(used.pop())}" if len(used) == 1 else ""

    def _used(self, row: PrintedRow) -> list[int]:
        return [
            ddof
            for name, ddof in zip(COLUMNS, self.ddofs, strict=True)
            if _has_deviation(row, name)
        ]

    def _sides(self, row: PrintedRow) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (row.negative, row.positive) if self.swapped else (row.positive, row.negative)


def _has_deviation(row: PrintedRow, name: str) -> bool:
    printed = row.printed().get(name)
    return printed is not None and bool(printed.deviation)


def _ddof(ddof: int) -> str:
    return "with n - 1 (ddof = 1)" if ddof else "with n (ddof = 0)"


def _all(classes: Sequence[str]) -> str:
    return " + ".join(classes)


def readings(row: PrintedRow) -> Iterator[Reading]:
    """Every reading, without the definitions of the deviations."""
    printed = row.printed()
    recalls = [name for name in ("sensitivity", "specificity") if name in printed]
    for swapped in (False, True) if recalls else (False,):
        sides = (row.negative, row.positive) if swapped else (row.positive, row.negative)
        choices = [
            _subsets(side) if name in printed else [()]
            for name, side in zip(("sensitivity", "specificity"), sides, strict=True)
        ]
        for first, second in product(*choices):
            for cut, half in product((False, True), (False, True) if row.folds > 1 else (False,)):
                yield Reading(first, second, swapped, cut, half)


def _subsets(classes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All of them, and parts: every part of up to four classes, else single classes."""
    sizes = range(1, len(classes)) if len(classes) <= 4 else (1,)
    parts = [part for size in sizes for part in combinations(classes, size)]
    return [classes, *parts]


def column(row: PrintedRow, name: str, reading: Reading, ddofs: tuple[int, ...]) -> Column:
    """A printed column as windows; total wrong cells where a confusion matrix tells them."""
    printed = row.printed()[name]
    wrong: Window = printed.wrong(cut=reading.cut)
    spread = printed.spread(cut=reading.cut)
    classes = dict(reading.parts).get(name, tuple(row.classes))
    known = crossing(row)
    total = None if known is None else sum(known[n] for n in classes)
    return Column(name, wrong, spread, ddofs, None if total is None else (total, total))


def crossing(row: PrintedRow) -> dict[str, int] | None:
    """Cells of each class on the wrong side (lymphoblast or not), by the printed confusion
    matrix; None where none is printed.
    """
    if not row.confusion:
        return None
    names = tuple(row.classes)
    found = {}
    for name, line in zip(names, row.confusion, strict=True):
        across = [
            round(float(text) * row.cells / 100)
            for other, text in zip(names, line, strict=True)
            if (other in row.positive) != (name in row.positive)
        ]
        found[name] = sum(across)
    return found


def strange_shares(row: PrintedRow) -> tuple[str, ...]:
    """Percentages of the confusion matrix that are no whole number of cells, in words."""
    found = []
    for name, line in zip(row.classes, row.confusion, strict=True) if row.confusion else ():
        for text in line:
            unit = 10.0 ** -len(text.partition(".")[2])
            nearest = round(float(text) * row.cells / 100)
            share = nearest / row.cells
            exact = 100 * share
            rounded = abs(exact - float(text)) <= unit / 2 + 1e-9
            cut = -1e-9 <= exact - float(text) < unit
            if not rounded:
                how = "cut off" if cut else "neither rounded nor cut off"
                found.append(
                    f"{name}: {text} % for {nearest} of {row.cells} ({percent(share, 3)}), {how}"
                )
    return tuple(found)


def window_of(row: PrintedRow, classes: Sequence[str], reading: Reading) -> tuple[int, int]:
    """Least and most cells of some classes in a test set drawn at random: within 4 standard
    deviations of the hypergeometric distribution.
    """
    cells, held = row.cells, sum(row.classes[name] for name in classes)
    drawn = cells / 2 if reading.half else cells / row.folds
    share = held / cells
    spread = math.sqrt(drawn * share * (1 - share) * (cells - drawn) / max(cells - 1, 1))
    low = max(1, math.ceil(drawn * share - DEVIATIONS * spread))
    high = min(held, math.floor(drawn * share + DEVIATIONS * spread))
    return low, max(low, high)


def whole_sizes(row: PrintedRow, reading: Reading) -> Ints:
    """(F,) cells per test set, as equal as they can be."""
    if reading.half:
        return np.full(row.folds, row.cells // 2, np.int64)
    base, extra = divmod(row.cells, row.folds)
    return np.array([base + (i < extra) for i in range(row.folds)], np.int64)


def compositions(
    row: PrintedRow, groups: Sequence[Sequence[str]], reading: Reading
) -> tuple[list[tuple[Ints, ...]], bool]:
    """Cells of each group of classes per fold, stratified: every class as equal as it can be.

    Returns:
        the different ones up to the order of the folds, and whether they are all.
    """
    choices, complete = [], True
    for classes in groups:
        ways, all_of_them = _ways([row.classes[name] for name in classes], row.folds, reading.half)
        choices.append(ways)
        complete &= all_of_them
    found: dict[tuple[tuple[int, ...], ...], tuple[Ints, ...]] = {}
    for looked, choice in enumerate(product(*choices)):
        if looked >= WAYS or len(found) >= KEPT:
            return list(found.values()), False
        found.setdefault(tuple(sorted(zip(*[c.tolist() for c in choice], strict=True))), choice)
    return list(found.values()), complete


def drawn_mixes(
    row: PrintedRow, groups: Sequence[Sequence[str]], reading: Reading
) -> list[tuple[Ints, ...]]:
    """Cells of each group of classes per test set, as random splits give them; always the same.

    Mixes in which the first group grows evenly from fold to fold, by half, one, two and three
    standard deviations, then drawn ones.
    """
    counts = np.array([sum(row.classes[name] for name in classes) for classes in groups])
    whole = whole_sizes(row, reading)
    found = [_slanted(row, counts, whole, scale) for scale in SLANTS]
    generator = np.random.default_rng(0)
    for _ in range(DRAWN):
        left, folds = counts.copy(), []
        for size in whole:
            held = generator.multivariate_hypergeometric(left, int(size))
            folds.append(held)
            left = counts.copy() if reading.half else left - held
        found.append(tuple(np.array(folds).T))
    return [sizes for sizes in found if all(int(size.min()) > 0 for size in sizes[:-1])]


def _slanted(row: PrintedRow, counts: Ints, whole: Ints, scale: float) -> tuple[Ints, ...]:
    """Two groups (and a rest) in proportion, cells of the second given for some of the first."""
    shares = counts / row.cells
    spread = scale * math.sqrt(float(whole[0]) * shares[0] * (1 - shares[0]))
    slope = np.linspace(-1.4, 1.4, len(whole)) * spread
    first = np.round(whole * shares[0] + slope).astype(np.int64)
    rest = np.round(whole * shares[-1]).astype(np.int64)
    if len(whole) * whole.max() >= row.cells:  # folds: every cell is in one of them
        first[len(whole) // 2] += counts[0] - first.sum() if counts.sum() == whole.sum() else 0
        rest[0] += counts[-1] - rest.sum() if counts.sum() == whole.sum() else 0
    middle = whole - first - rest
    return (first, middle, rest) if len(counts) == 3 else (first, middle + rest)


def _ways(counts: Sequence[int], folds: int, half: bool) -> tuple[list[Ints], bool]:
    """Cells per fold of some classes together: whole shares, and the left-over cells dealt out."""
    parts = 2 if half else folds
    base = sum(count // parts for count in counts)
    left = [count % parts for count in counts if count % parts]
    if (len(left) + 1) ** folds > WAYS:
        even = np.array([base + (i < sum(left) % folds) for i in range(folds)], np.int64)
        return [even + (0 if half else sum(left) // folds)], False
    ways = []
    for extra in product(range(len(left) + 1), repeat=folds):
        if half or (sum(extra) == sum(left) and _dealt(extra, left)):
            ways.append(base + np.array(extra, np.int64))
    return ways, True


def _dealt(extra: Sequence[int], left: Sequence[int]) -> bool:
    """Whether folds can get so many left-over cells, at most one of each class (Gale-Ryser)."""
    ordered = sorted(extra, reverse=True)
    return all(
        sum(ordered[:j]) <= sum(min(count, j) for count in left) for j in range(1, len(ordered) + 1)
    )
