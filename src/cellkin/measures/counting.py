"""How many cells of each class are there, if some calls are wrong?

A share of calls is biased: at sensitivity 0.87 and specificity 0.80 a smear with 5 % lymphoblasts
reads as 23 %. What an atlas calls held-out cells, subject by subject, says how often a true class i
is called j, and how much that differs from person to person. A new smear has rows of its own, drawn
from that spread: M[i] ~ Dirichlet(c_i m_i), c_i = 1 / rho_i - 1, with the mean m_i and the
correlation rho_i of calls within a subject from their posterior (Dirichlet-multinomial likelihood,
rho_i flat in (0, 1), so that few subjects leave it wide). The counts of the smear are
n ~ Multinomial(N, pi M), and the posterior of the shares pi is sampled.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from cellkin.core.arrays import Bools, Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.core.units import IMAGE, plural
from cellkin.measures.intervals import LEVEL, Interval, clopper_pearson, unit_index
from cellkin.measures.shares import sampled
from cellkin.measures.spread import PRIOR, TINY, dirichlet, row_of_a_new_unit

FEWEST, ENTRIES = 400, 16_000  # chains, each with a draw of m and rho; entries of M in all of them
HELD = 0.96  # of the draws: the shortest of many windows over them flatters a little
NEARLY, END = 1.1, 1 / 3  # as short as the shortest; how near an end they must lie to reach it
MANY = 20_000  # cells that leave the errors of calls as the only doubt
MOST = 10**9  # cells: more than any smear has, and what double precision tells apart


@dataclass(frozen=True)
class HeldOutCalls:
    """What an atlas called cells of known class that it had not seen.

    Attributes:
        names: the K classes.
        counts: (U, K, K) cells by unit, true class and called class. Where the unit is "image",
            all cells together are the one unit.
        unit: "subject", "slide/field", "slide", "field"; or "image" where none is known: what
            rests on it then holds for cells like these only.
    """

    names: tuple[str, ...]
    counts: Ints
    unit: str

    def __post_init__(self) -> None:
        """Raises DecisionError: counts that are no whole numbers from 0, or not (U, K, K)."""
        counts, size = whole(self.counts), len(self.names)
        if counts is None or counts.ndim != 3 or counts.shape[1:] != (size, size):
            shape = "unknown" if counts is None else counts.shape
            raise DecisionError(
                "these held-out calls cannot be counted",
                where=f"held-out calls of {size} classes, counts of shape {shape}",
                mend="give whole numbers from 0, by unit, true class and called class",
            )
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(
        cls,
        truth: Sequence[str],
        called: Sequence[str],
        owners: Sequence[Hashable],
        *,
        names: Sequence[str],
        unit: str,
    ) -> HeldOutCalls:
        """Count the calls of N cells, each with a true class, a called one, and an owner.

        Raises:
            DecisionError: lists of different lengths, or a class that is not among `names`.
        """
        place = {name: i for i, name in enumerate(names)}
        unknown = sorted({*truth, *called} - place.keys())
        if unknown or not len(truth) == len(called) == len(owners):
            raise DecisionError(
                "these calls cannot be counted",
                where=f"{len(truth)} true and {len(called)} called classes, {len(owners)} owners"
                + (f"; unknown: {', '.join(unknown)}" if unknown else ""),
                mend=f"give a true and a called class and an owner per cell, of {', '.join(names)}",
            )
        owner = unit_index([IMAGE] * len(truth) if unit == IMAGE else owners)
        counts = np.zeros((int(owner.max(initial=-1)) + 1, len(names), len(names)), np.int64)
        cells = (np.array([place[name] for name in each], np.int64) for each in (truth, called))
        np.add.at(counts, (owner, *cells), 1)
        return cls(tuple(names), counts, unit)

    @property
    def cells(self) -> tuple[int, ...]:
        """Held-out cells of each class."""
        return tuple(self.counts.sum(axis=(0, 2)).tolist())

    @property
    def units(self) -> dict[str, int]:
        """How many units each class was held out in; cells where the unit is the image."""
        held = self.cells if self.unit == IMAGE else (self.counts.sum(axis=2) > 0).sum(axis=0)
        return {name: int(n) for name, n in zip(self.names, held, strict=True)}

    @property
    def note(self) -> str:
        """What limits an interval that rests on these calls; empty where nothing does."""
        without = [name for name, cells in zip(self.names, self.cells, strict=True) if not cells]
        told = [f"how {' and '.join(without)} is called is not known: no held-out cell"]
        whose = ["no subjects are known: it holds for cells like those of the atlas only"]
        return "; ".join((told if without else []) + (whose if self.unit == IMAGE else []))


@dataclass(frozen=True)
class Corrected:
    """True shares, errors of calls taken out: posterior medians, each with its interval.

    Attributes:
        shares: of each class. positive: of the positive classes together; None without any.
    """

    shares: tuple[tuple[float, Interval], ...]
    positive: tuple[float, Interval] | None


def corrected_shares(
    called: Sequence[int],
    known: HeldOutCalls,
    *,
    confirmed: Sequence[int] | None = None,
    positive: Sequence[int] = (),
    seed: int = 0,
) -> Corrected:
    """The true share of each class in a smear, and where it may lie (shortest 95 % interval).

    An interval begins at exactly 0 (or ends at 1) where it reaches the densest end of the scale, or
    where a smear without such cells (with no others) would have as many called so in 5 % of new
    units. Where every cell is confirmed no call can be wrong: the intervals are then Clopper and
    Pearson's.

    Args:
        called: (K,) cells that the atlas called each class and nobody confirmed.
        known: how it calls cells of known class. A class without held-out cells may be called
            anything: the intervals are wide, and say so in their note.
        confirmed: (K,) cells whose class a person confirmed: they carry no error of a call.
        positive: places of the classes whose shares are to be summed, e.g. of lymphoblasts.

    Raises:
        DecisionError: no cell, counts that do not fit or are no whole numbers, more than 10^9
            cells, no held-out call at all, or no class beside the positive ones.
    """
    counts, sure = _checked(called, confirmed, known, positive)
    groups = [*np.eye(len(counts), dtype=bool)]
    groups += [np.isin(np.arange(len(counts)), positive)] if len(positive) else []
    if counts.any():
        told = _judged(groups, counts, sure, known, np.random.default_rng(seed))
    else:
        total, parts = int(sure.sum()), [int(sure[group].sum()) for group in groups]
        told = [(part / total, clopper_pearson(part, total)) for part in parts]
    return Corrected(tuple(told[: len(counts)]), told[-1] if len(positive) else None)


def foreseen(
    called: Sequence[int],
    known: HeldOutCalls,
    *,
    positive: Sequence[int],
    sizes: Sequence[int] = (50, 100, 200, 500),
    seed: int = 0,
) -> tuple[tuple[int | None, Interval], ...]:
    """How far would more cells help? Intervals of the summed positive share for smears that are
    called in the same proportions.

    Args:
        called: (K,) cells called each class. sizes: how many cells there might be.

    Returns:
        (cells, interval) for each size; at last (None, interval) for however many cells: only the
        errors of calls are left.

    Raises:
        DecisionError: as `corrected_shares`; or no positive class, or a size that is no number
            of cells.
    """
    counts, _ = _checked(called, None, known, positive)
    cells = whole(sizes)
    if not len(positive) or cells is None or not cells.all():
        raise DecisionError(
            "there is no share to foresee",
            where=f"positive {[*positive]}, sizes {[*sizes]}",
            mend="name one positive class or more, and sizes of one cell or more",
        )
    found: list[tuple[int | None, Interval]] = []
    for size in (*sizes, None):
        scaled = np.rint(counts * ((size or MANY) / counts.sum())).astype(int).tolist()
        share = corrected_shares(scaled, known, positive=positive, seed=seed).positive
        found += [(size, share[1])] if share else []
    return tuple(found)


def _checked(
    called: Sequence[int],
    confirmed: Sequence[int] | None,
    known: HeldOutCalls,
    positive: Sequence[int],
) -> tuple[Ints, Ints]:
    """(K,) called and (K,) confirmed cells, if they can be counted."""
    size = len(known.names)
    if not known.counts.any():
        raise DecisionError(
            "how this atlas calls cells that it has not seen is not known",
            where="no held-out cell",
            mend="cellkin index ATLAS CELLS --out OTHER: its cells, or a part, are held out",
        )
    counts, sure = whole(called), whole([0] * size if confirmed is None else confirmed)
    if (
        counts is None
        or sure is None
        or not counts.shape == sure.shape == (size,)
        or not 0 < counts.sum() + sure.sum() <= MOST
        or not {*positive} <= {*range(size)}
    ):
        told = "none" if confirmed is None else [*confirmed]
        raise DecisionError(
            "these cells cannot be counted",
            where=f"{[*called]} called, {told} confirmed, positive {[*positive]}",
            mend=f"give {size} whole numbers from 0, one for each of {', '.join(known.names)}, not "
            f"all 0 and {MOST:,} at most, and places of positive classes",
        )
    if size == 1 or len({*positive}) == size:
        raise DecisionError(
            "with no other class the share says nothing: it is 100 %",
            where=f"classes {', '.join(known.names)}, positive {[*positive]}",
            mend="count among two classes or more, of which at least one is not positive",
        )
    return counts, sure


def whole(values: ArrayLike) -> Ints | None:
    """The same as int64; None where one is no whole number from 0 to 10^9."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        return None
    if array.dtype.kind not in "iuf" or not ((array >= 0) & (array <= MOST)).all():
        return None
    return None if (array != np.rint(array)).any() else array.astype(np.int64)


# the posterior ---------------------------------------------------------------------------------


def _judged(
    groups: Sequence[Bools], counts: Ints, sure: Ints, known: HeldOutCalls, rng: Generator
) -> list[tuple[float, Interval]]:
    """Median and interval of the share of each group of classes."""
    by = "image by image" if known.unit == IMAGE else f"by {plural(known.unit)}"
    rows = rows_of_a_new_unit(known, rng)
    drawn = sampled(counts, sure, rows, rng), dirichlet(rows, rng)
    method = f"posterior, calls held out {by}"
    ends = [ends_of(group, counts, sure, drawn, rng) for group in groups]
    medians = [float(np.median(drawn[0][..., group].sum(axis=-1))) for group in groups]
    told = (Interval(low, high, method, LEVEL, known.note) for low, high in ends)
    return list(zip(medians, told, strict=True))


def ends_of(
    group: Bools, counts: Ints, sure: Ints, drawn: tuple[Floats, Floats], rng: Generator
) -> tuple[float, float]:
    """The ends of the interval of the share of some classes.

    Args:
        group: (K,) which classes. counts, sure: (K,) cells called and confirmed.
        drawn: shares, as `sampled` gives them, and (C, K, K) rows of calls of new units.
    """
    share = drawn[0][..., group].sum(axis=-1).ravel()
    low, high = shortest(share)
    if sure[group].any():  # such cells there are
        low = max(low, float(share.min()))
    if sure[~group].any():
        high = min(high, float(share.max()))
    low = 0.0 if _none_of(group, counts, sure, drawn, rng) else low
    return low, 1.0 if _none_of(~group, counts, sure, drawn, rng) else high


def _none_of(
    group: Bools, counts: Ints, sure: Ints, drawn: tuple[Floats, Floats], rng: Generator
) -> bool:
    """Whether a smear without any cell of these classes would often enough (in 5 % of new units)
    have as many cells called so.
    """
    from scipy.special import bdtrc

    shares, mixing = drawn
    others = np.where(group, 0.0, shares)
    whole = others.sum(axis=-1)
    if sure[group].any() or not whole.all():
        return False
    chance = np.einsum("cnk,ck->cn", others, mixing[..., group].sum(axis=-1)) / whole
    as_many = bdtrc(counts[group].sum() - 1.0, counts.sum(), np.clip(chance, 0.0, 1.0))
    return bool(as_many.mean() >= 1 - LEVEL)


def rows_of_a_new_unit(known: HeldOutCalls, rng: Generator, draws: int | None = None) -> Floats:
    """(D, K, K): Dirichlet parameters of how each true class is called in one new unit; as many
    as it takes to steady an interval where `draws` does not say it.
    """
    draws = draws or max(FEWEST, ENTRIES // len(known.names) ** 2)
    if known.unit == IMAGE:
        one = known.counts.sum(axis=0) + PRIOR
        return np.broadcast_to(one, (draws, *one.shape))
    rows = range(len(known.names))
    return np.stack([row_of_a_new_unit(known.counts[:, true], rng, draws) for true in rows], axis=1)


def shortest(draws: Floats) -> tuple[float, float]:
    """The shortest interval that holds 96 % of the draws; the ends of the scale are in reach.

    Where many are nearly as short (flat tails on both sides) the middle one of them, so that it
    does not hang on chance which it is.
    """
    ordered = np.concatenate([[0.0], np.sort(draws), [1.0]])
    span = int(np.ceil(HELD * len(draws)))
    widths = ordered[span:] - ordered[: len(ordered) - span]
    near, last = np.maximum(NEARLY * widths.min() - widths, 0.0), len(widths) - 1
    middle = float(np.average(np.arange(last + 1), weights=near + TINY))
    start = round(middle)
    if near[0] and middle < END * last:
        start = 0
    elif near[-1] and middle > (1 - END) * last:
        start = last
    return float(ordered[start]), float(ordered[start + span])
