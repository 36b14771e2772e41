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

from cellkin.core.arrays import Bools, Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.core.units import IMAGE, plural
from cellkin.measures.intervals import LEVEL, Interval, clopper_pearson, unit_index

CHAINS, WARMING, KEPT, APART = 400, 50, 8, 5
"""Chains, each with a draw of m and rho; their sweeps before, between and for the kept draws."""
TRIES, RANGES = 1000, 24  # draws of m and rho that are weighted, from ranges of rho
PRIOR = 0.5  # Jeffreys, on shares and on rows of calls
CLIPPED = (1e-3, 0.95)  # correlations within a subject that are considered
SINGULAR = 1e-9  # a determinant below it: calls that tell nothing apart
TINY = 1e-300
HELD = 0.96  # of the draws: the shortest of many windows over them flatters a little
MANY = 20_000  # cells that leave the errors of calls as the only doubt


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
        DecisionError: no cell, counts that do not fit, or no held-out call at all.
    """
    counts = np.asarray(called, np.int64)
    sure = np.zeros_like(counts) if confirmed is None else np.asarray(confirmed, np.int64)
    _check(counts, sure, known, positive)
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
        DecisionError: as `corrected_shares`; or no positive class.
    """
    counts = np.asarray(called, np.int64)
    _check(counts, np.zeros_like(counts), known, positive)
    if not len(positive):
        raise DecisionError(
            "there is no share to foresee", where="positive", mend="name one class or more"
        )
    found: list[tuple[int | None, Interval]] = []
    for size in (*sizes, None):
        scaled = np.rint(counts * ((size or MANY) / counts.sum())).astype(int).tolist()
        share = corrected_shares(scaled, known, positive=positive, seed=seed).positive
        found += [(size, share[1])] if share else []
    return tuple(found)


def _check(counts: Ints, sure: Ints, known: HeldOutCalls, positive: Sequence[int]) -> None:
    size = len(known.names)
    if not known.counts.any():
        raise DecisionError(
            "how this atlas calls cells that it has not seen is not known",
            where="no held-out cell",
            mend="cellkin index ATLAS CELLS --out OTHER: its cells, or a part, are held out",
        )
    whole = counts.shape == sure.shape == (size,) and (counts >= 0).all() and (sure >= 0).all()
    if not whole or not (counts.sum() + sure.sum()) or not {*positive} <= {*range(size)}:
        raise DecisionError(
            "these cells cannot be counted",
            where=f"{counts.tolist()} called, {sure.tolist()} confirmed, positive {[*positive]}",
            mend=f"give {size} counts, one for each of {', '.join(known.names)}, not all 0",
        )


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
    shares, mixing = drawn
    others = np.where(group, 0.0, shares)
    whole = others.sum(axis=-1)
    if sure[group].any() or not whole.all():
        return False
    chance = np.einsum("cnk,ck->cn", others, mixing[..., group].sum(axis=-1)) / whole
    called = rng.binomial(int(counts.sum()), np.clip(chance, 0.0, 1.0))
    return bool((called >= counts[group].sum()).mean() >= 1 - LEVEL)


def rows_of_a_new_unit(known: HeldOutCalls, rng: Generator, draws: int = CHAINS) -> Floats:
    """(D, K, K): Dirichlet parameters of how each true class is called in one new unit."""
    if known.unit == IMAGE:
        one = known.counts.sum(axis=0) + PRIOR
        return np.broadcast_to(one, (draws, *one.shape))
    rows = range(len(known.names))
    return np.stack([_row(known.counts[:, true], rng, draws) for true in rows], axis=1)


def _row(counts: Ints, rng: Generator, draws: int) -> Floats:
    """(D, K) from the posterior of c m, of one true class in (U, K) units, by weighted draws.

    A first look at all correlations says in which ranges the second one draws most: with many
    units the likely ones are few of those between 0 and 1.
    """
    held = counts[counts.sum(axis=1) > 0]
    edges = np.geomspace(*CLIPPED, RANGES + 1)
    chances = np.full(RANGES, 1 / RANGES)
    for _ in range(2):
        place = rng.choice(RANGES, TRIES, p=chances)
        width = np.diff(edges)[place]
        parameters, weight = _weighed(held, edges[place] + width * rng.random(TRIES), rng)
        weight += np.log(width / chances[place])  # the prior is flat
        weight = np.exp(weight - weight.max())
        weight /= weight.sum()
        chances = 0.9 * np.bincount(place, weight, RANGES) + 0.1 / RANGES
    return parameters[rng.choice(TRIES, draws, p=weight)]


def _weighed(held: Ints, rho: Floats, rng: Generator) -> tuple[Floats, Floats]:
    """For (T,) correlations: (T, K) parameters c m with m from near its posterior (each unit of n
    cells counts as n / (1 + (n - 1) rho) independent ones), and log of what is missing to it.
    """
    sizes = held.sum(axis=1)
    alike = PRIOR + (1 / (1 + (sizes - 1) * rho[:, None])) @ held
    mean = np.maximum(dirichlet(alike, rng), 1e-12)
    strength = 1 / rho - 1
    parameters = strength[:, None] * mean
    weight = _rising(parameters, held) - _rising(strength[:, None], sizes[:, None])
    return parameters, weight - _log_dirichlet(mean, alike) + (PRIOR - 1) * np.log(mean).sum(axis=1)


def _rising(start: Floats, counts: Ints) -> Floats:
    """(T,) log of the product over units u and columns k of start (start + 1) ... (counts[u, k]
    factors), for (T, K) starts.
    """
    from scipy.special import gammaln  # takes long to import, and only counts need it

    total = np.zeros(len(start))
    for column, cells in zip(start.T, counts.T, strict=True):
        many, times = np.unique(cells[cells > 0], return_counts=True)
        total += (gammaln(column[:, None] + many) - gammaln(column)[:, None]) @ times
    return total


def _log_dirichlet(shares: Floats, alpha: Floats) -> Floats:
    from scipy.special import gammaln

    constant = gammaln(alpha.sum(axis=1)) - gammaln(alpha).sum(axis=1)
    return np.asarray(constant + ((alpha - 1) * np.log(shares)).sum(axis=1))


def dirichlet(alpha: Floats, rng: Generator) -> Floats:
    """One draw for each last axis of alpha."""
    drawn = rng.standard_gamma(alpha) + TINY
    return np.asarray(drawn / drawn.sum(axis=-1, keepdims=True))


def sampled(counts: Ints, sure: Ints, rows: Floats, rng: Generator) -> Floats:
    """(C, KEPT, K) draws of shares, in C chains that start apart and walk at once.

    A sweep draws the hidden table of true by called cells, then shares and rows given it (Gibbs).
    It moves little where many cells fix what is called and not what is true; so it ends with a
    step along that ridge.

    Args:
        counts, sure: (K,), or (C, K), cells called and confirmed.
        rows: (C, K, K) Dirichlet parameters of calls.
    """
    counts, sure = (np.broadcast_to(each, rows.shape[:2]) for each in (counts, sure))
    mixing = dirichlet(rows, rng)
    shares = _likely(counts.astype(np.float64), sure, mixing)
    kept = np.empty((len(rows), KEPT, rows.shape[1]))
    for sweep in range(WARMING + KEPT * APART):
        joint = shares[:, :, None] * mixing + TINY
        chances = np.swapaxes(joint / joint.sum(axis=1, keepdims=True), 1, 2)
        table = np.swapaxes(rng.multinomial(counts, chances), 1, 2)
        shares = dirichlet(PRIOR + table.sum(axis=2) + sure, rng)
        mixing = dirichlet(rows + table, rng)
        true = sweep % rows.shape[1]
        shares, mixing = _along_the_ridge(shares, mixing, sure, (true, rows[:, true]), rng)
        kept[:, max(0, sweep - WARMING) // APART] = shares
    return kept


def _likely(counts: Floats, sure: Ints, mixing: Floats) -> Floats:
    """(C, K) shares near the likeliest, where the chains start: expectation maximisation."""
    shares = np.full(mixing.shape[:2], 1 / mixing.shape[1])
    for _ in range(30):
        expected = np.einsum("ck,ckj->cj", shares, mixing) + TINY
        shares = shares * np.einsum("ckj,cj->ck", mixing, counts / expected) + sure + 0.1
        shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _along_the_ridge(
    shares: Floats,
    mixing: Floats,
    sure: Ints,
    proposal: tuple[int, Floats],
    rng: Generator,
) -> tuple[Floats, Floats]:
    """Other rows of calls for one true class, and the shares that leave what is called as it was.

    With q = pi M fixed the likelihood of the calls stays; the new pi = q / M' is taken with the
    ratio of the prior densities of pi (and of its confirmed cells) times |det M| / |det M'|.
    """
    true, parameters = proposal
    other = mixing.copy()
    other[:, true] = dirichlet(parameters, rng)
    before, after = (np.abs(np.linalg.det(each)) for each in (mixing, other))
    fit = (after > SINGULAR) & (before > SINGULAR)
    called = np.einsum("ck,ckj->cj", shares, mixing)
    solvable = np.where(fit[:, None, None], other, np.eye(mixing.shape[1]))
    moved = np.linalg.solve(np.swapaxes(solvable, 1, 2), called[:, :, None])[:, :, 0]
    fit &= (moved > 0).all(axis=1)
    safe = np.where(fit[:, None], moved, 1.0)
    gain = ((PRIOR - 1 + sure) * (np.log(safe) - np.log(shares))).sum(axis=1)
    gain += np.log(np.where(fit, before, 1.0)) - np.log(np.where(fit, after, 1.0))
    taken = fit & (np.log(rng.random(len(shares))) < gain)
    return (
        np.where(taken[:, None], moved, shares),
        np.where(taken[:, None, None], other, mixing),
    )


def shortest(draws: Floats) -> tuple[float, float]:
    """The shortest interval that holds 96 % of the draws; the ends of the scale are in reach."""
    ordered = np.concatenate([[0.0], np.sort(draws), [1.0]])
    span = int(np.ceil(HELD * len(draws)))
    widths = ordered[span:] - ordered[: len(ordered) - span]
    start = int(widths.argmin())
    return float(ordered[start]), float(ordered[start + span])
