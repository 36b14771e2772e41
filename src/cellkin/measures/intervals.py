"""How sure is a number? One interval and one bootstrap, over whatever is independent.

Cells of one person are alike, and the same cell decided twice is one cell. So whatever repeats (the
subject, the slide, the cell) is drawn as a whole. Resampling cannot show the uncertainty of "all
right": an interval of length zero is refused where it would be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cellkin.core.arrays import Array, Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.core.plain import Plain, plain_fields
from cellkin.core.units import Owners, plural

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_UNITS = 10  # per class; below it a bootstrap over units promises too much
BLOCK = 50  # resamples drawn at once
ROUNDING = 1e-12  # ends no farther apart than this share of their size are the same number
ALIKE = "score alike: resampling them cannot show the uncertainty"


@dataclass(frozen=True)
class Interval(Plain):
    """Where a number may lie. Both ends, or neither and a `note` that says why not.

    Attributes:
        low, high: its ends, low < high; of a share they are in [0, 1].
        method: "Wilson", "Clopper-Pearson", "bootstrap over subjects" (slides, fields, cells).
        level: its coverage. note: what it takes for granted, or why there is none.

    Raises:
        DecisionError: a length of zero (or of nothing but rounding), ends that are crossed, one
            end alone, no number, or neither ends nor a note.
    """

    low: float | None
    high: float | None
    method: str
    level: float = LEVEL
    note: str = ""

    def __post_init__(self) -> None:
        if self.low is None and self.high is None and self.note:
            return
        if self.low is not None and self.high is not None and _apart(self.low, self.high):
            return
        raise DecisionError(
            "this is no interval",
            where=f"{self.low} to {self.high} ({self.method})",
            mend="give a lower and an upper end that differ, or neither and a note that says why",
        )

    @classmethod
    def none(cls, method: str, note: str) -> Interval:
        """No interval, and why."""
        return cls(None, None, method, LEVEL, note)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        return self.low, self.high


def _apart(low: float, high: float) -> bool:
    """False for infinite ends and for those that are no numbers as well."""
    return ROUNDING * max(abs(low), abs(high)) < high - low < math.inf


@dataclass(frozen=True)
class Share:
    """`count` of `n`; `share` is None where n is 0. The interval takes the n as independent."""

    count: int
    n: int
    share: float | None
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Flat: the ends stand beside the share."""
        return {**plain_fields(self, without=("interval",)), **self.interval.to_json()}


@dataclass(frozen=True)
class Mean:
    """The mean of something measured on n cells.

    Attributes:
        n: cells. units: how many subjects (or cells) were drawn from. unit: "subject",
            "slide/field", "slide", "field" or "cell".
    """

    mean: float
    n: int
    units: int
    unit: str
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Flat: the ends stand beside the mean."""
        return {**plain_fields(self, without=("interval",)), **self.interval.to_json()}


def wilson(correct: int, n: int, level: float = LEVEL, *, note: str = "") -> Interval:
    """The Wilson score interval of a share, for n independent trials.

    Args:
        correct: 0 to n. n: at least 1. level: its coverage, between 0 and 1.

    Raises:
        DecisionError: counts or level out of these ranges.
    """
    _check_counts(correct, n, level, "Wilson")
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    centre = correct + z2 / 2
    half = math.sqrt(z2 * (correct * (n - correct) / n + z2 / 4))
    low = 0.0 if correct == 0 else (centre - half) / (n + z2)
    high = 1.0 if correct == n else (centre + half) / (n + z2)
    return Interval(low, high, "Wilson", level, note)


def clopper_pearson(count: int, n: int, level: float = LEVEL) -> Interval:
    """The exact interval of a share, for n independent trials: never less than its level.

    Args:
        count: 0 to n. n: at least 1. level: its coverage, between 0 and 1.

    Raises:
        DecisionError: counts or level out of these ranges.
    """
    from scipy.special import betaincinv  # takes long to import, and only counts need it

    _check_counts(count, n, level, "Clopper-Pearson")
    tail = (1 - level) / 2
    low = float(betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return Interval(low, high, "Clopper-Pearson", level)


def _check_counts(count: int, n: int, level: float, name: str) -> None:
    if not (n >= 1 and 0 <= count <= n and 0 < level < 1):
        raise DecisionError(
            f"there is no {name} interval of these counts",
            where=f"{count} of {n} at level {level}",
            mend="give 0 <= count <= n, n >= 1 and a level between 0 and 1",
        )


def share_of(hits: Sequence[bool]) -> Share:
    """How many of these are true, with a Wilson interval."""
    count, n = int(sum(map(bool, hits))), len(hits)
    if not n:
        return Share(0, 0, None, Interval.none("Wilson", "there is nothing to count"))
    return Share(count, n, count / n, wilson(count, n))


def unit_index(owners: Sequence[Hashable]) -> Ints:
    """(N,) number of the unit that owns each cell, by first appearance."""
    place: dict[Hashable, int] = {}
    return np.array([place.setdefault(owner, len(place)) for owner in owners], np.int64)


def too_few(owner: Ints, classes: Sequence[str] | None, unit: str) -> str:
    """Why a bootstrap over these units promises too much; empty where it does not.

    Each class that is present needs cells from at least 10 units; without classes, all together.
    """
    if classes is None:
        units = len(np.unique(owner))
        enough = units >= FEWEST_UNITS
        many = f"{units}, {FEWEST_UNITS} needed"
        return "" if enough else f"too few {plural(unit)} for an interval: {many}"
    counts: dict[str, set[int]] = {}
    for number, name in zip(owner.tolist(), classes, strict=True):
        counts.setdefault(name, set()).add(number)
    few = {name: len(held) for name, held in sorted(counts.items()) if len(held) < FEWEST_UNITS}
    if not few:
        return ""
    listed = ", ".join(f"{name}: {count}" for name, count in few.items())
    return f"too few {plural(unit)} for an interval ({listed}; {FEWEST_UNITS} per class needed)"


def bootstrap(
    measure: Callable[[Array], float | None],
    owner: Ints,
    unit: str,
    *,
    seed: int,
    rows: Array | None = None,
    refusal: str = "",
) -> Interval:
    """Percentile bootstrap: whole units are drawn with replacement, 2000 times.

    Args:
        measure: takes (C,) sums of `rows` over the drawn cells; without `rows` it takes (N,) how
            often each cell is drawn (0, 1, 2, ...). None where it is not defined for them; such
            draws are left out and counted in the note.
        owner: (N,) unit of each cell, see `unit_index`. unit: "subject", "slide", "field", "cell".
        rows: (N, C), what each cell adds. Units of equal counts (whole numbers) are drawn
            together, which is much the faster.
        refusal: a reason for no interval, e.g. from `too_few`.
    """
    method = f"bootstrap over {plural(unit)}"
    if refusal:
        return Interval.none(method, refusal)
    found = [value for drawn in _draws(owner, rows, seed) if (value := measure(drawn)) is not None]
    if not found:
        return Interval.none(method, "not defined in any resample")
    low, high = middle(found)
    if not _apart(low, high):
        return Interval.none(method, f"the {plural(unit)} {ALIKE}")
    lost = RESAMPLES - len(found)
    note = f"not defined in {lost} of {RESAMPLES} resamples, left out" if lost else ""
    return Interval(low, high, method, LEVEL, note)


def _draws(owner: Ints, rows: Array | None, seed: int) -> Iterator[Array]:
    units = int(owner.max()) + 1
    many = np.ones(units, np.int64)
    if rows is not None:
        each = np.zeros((units, rows.shape[1]), rows.dtype)
        np.add.at(each, owner, rows)
        if np.issubdtype(rows.dtype, np.integer):
            each, many = np.unique(each, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES // BLOCK):
        drawn = generator.multinomial(units, many / units, size=BLOCK)
        yield from drawn[:, owner] if rows is None else drawn @ each


def middle(values: ArrayLike) -> tuple[float, float]:
    """Between which ends the middle 95 % of the values lie."""
    low, high = np.quantile(np.asarray(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def share_interval(
    hits: ArrayLike,
    classes: Sequence[str],
    owners: Sequence[Hashable] | None,
    *,
    unit: str,
    seed: int,
) -> Interval:
    """Of the share of N cells that are hits.

    Args:
        hits: (N,) booleans. classes: (N,) of each cell.
        owners: (N,) subject (slide, field) of each cell; None where no cell names one.
        unit: "image" gives a Wilson interval, and a note that it takes cells as independent; all
            else a bootstrap over the owners, or none where a class has fewer than 10 of them.

    Raises:
        DecisionError: a unit other than "image", and no owners.
    """
    hit = np.asarray(hits, np.int64)
    method = "Wilson" if unit == "image" else f"bootstrap over {plural(unit)}"
    if not len(hit):
        return Interval.none(method, "no cells of this class")
    if unit == "image":
        alike = ", which cells of one subject are not"
        why = ": the data set names no subjects" if owners is None else alike
        return wilson(int(hit.sum()), len(hit), note=f"cells taken as independent{why}")
    if owners is None:
        raise DecisionError(
            f"the {unit} of these cells is not known",
            where=f"unit = {unit}",
            mend='measure these cells with unit = "image"',
        )
    owner = unit_index(owners)
    return mean_interval(hit, owner, unit, seed=seed, refusal=too_few(owner, classes, unit))


def mean_interval(
    values: Array, owner: Ints, unit: str, *, seed: int, refusal: str = ""
) -> Interval:
    """Bootstrap of the mean of (N,) values over cells, whole units drawn; see `bootstrap`."""
    rows = np.column_stack([values, np.ones(len(values), values.dtype)])
    return bootstrap(
        lambda sums: float(sums[0] / sums[1]), owner, unit, seed=seed, rows=rows, refusal=refusal
    )


def mean_of(
    values: Sequence[float] | Floats,
    owners: Owners | None = None,
    *,
    seed: int = 0,
) -> Mean:
    """Mean of n values with its bootstrap.

    Args:
        values: one finite number per cell, n at least 1.
        owners: of each cell. Where every cell has one (a subject, a slide or field), these are
            drawn as a whole, and below 10 of them there is no interval; otherwise, and by image,
            cells are drawn as if independent.

    Raises:
        DecisionError: no value, one that is no number, or owners that do not match.
    """
    cells = np.asarray(values, np.float64)
    if not cells.size or not np.isfinite(cells).all():
        raise DecisionError(
            "there is no mean of these values",
            where=f"{cells.size} values, {int((~np.isfinite(cells)).sum())} of them no numbers",
            mend="give at least one finite value",
        )
    if owners is not None and len(owners) != len(cells):
        raise DecisionError(
            "every value needs one owner",
            where=f"{len(cells)} values, {len(owners)} owners",
            mend=f"give one {owners.unit} (or None) per value",
        )
    if owners is None or not owners.several:
        owners = Owners("cell", tuple(map(str, range(len(cells)))))
    owner, unit = unit_index(owners.names), owners.unit
    refusal = too_few(owner, None, unit)
    interval = mean_interval(cells, owner, unit, seed=seed, refusal=refusal)
    return Mean(float(cells.mean()), len(cells), int(owner.max()) + 1, unit, interval)
