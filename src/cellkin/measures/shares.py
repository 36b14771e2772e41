"""Draws of the shares of classes in a smear, where calls are wrong as often as rows of calls say.

The posterior of the shares pi and the rows M, given that the cells called each class are
n ~ Multinomial(N, pi M), with Jeffreys' prior on pi and Dirichlet rows: many chains at once.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from cellkin.core.arrays import Floats, Ints
from cellkin.measures.spread import PRIOR, TINY, dirichlet

WARMING, KEPT, APART = 60, 20, 2
"""Sweeps of each chain before, and for and between, the draws that are kept."""
SINGULAR = 1e-9  # a determinant below it: calls that tell nothing apart


def sampled(counts: Ints, sure: Ints, rows: Floats, rng: Generator) -> Floats:
    """(C, KEPT, K) draws of shares, in C chains that start apart and walk at once.

    A sweep draws the hidden table of true by called cells, then shares and rows given it (Gibbs).
    It moves little where many cells fix what is called and not what is true; so it ends with a
    step along that ridge, and one across to where the cells are of another class.

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
        if rows.shape[1] > 1:
            shares, mixing = _across(shares, mixing, (counts, sure, rows), rng)
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


def _across(
    shares: Floats, mixing: Floats, given: tuple[Ints, Ints, Floats], rng: Generator
) -> tuple[Floats, Floats]:
    """Two true classes with other rows of calls, from their prior, and with their shares swapped
    or divided anew, half of the time each; taken or not by the chance of what is called.

    If all cells are called one class, nearly all may be of it, or of another that this unit's
    calls mistake for it: the table, which is drawn cell by cell, does not come from here to there.
    """
    counts, sure, rows = given
    chains, size = np.arange(len(shares)), shares.shape[1]
    first = rng.integers(size, size=len(shares))
    second = (first + rng.integers(1, size, size=len(shares))) % size
    one, two = shares[chains, first], shares[chains, second]
    some = rng.beta(PRIOR + sure[chains, first], PRIOR + sure[chains, second]) * (one + two)
    swap = rng.random(len(shares)) < 0.5
    moved, other = shares.copy(), mixing.copy()
    moved[chains, first] = np.where(swap, two, some)
    moved[chains, second] = np.where(swap, one, one + two - some)
    for place in (first, second):
        other[chains, place] = dirichlet(rows[chains, place], rng)
    before, after = np.log(shares + TINY), np.log(moved + TINY)
    gain = np.where(swap, (sure * (after - before)).sum(axis=1), 0.0)
    said = (
        np.log(np.einsum("ck,ckj->cj", *each) + TINY) for each in ((moved, other), (shares, mixing))
    )
    gain += (counts * np.subtract(*said)).sum(axis=1)
    taken = np.log(rng.random(len(shares))) < gain
    return (
        np.where(taken[:, None], moved, shares),
        np.where(taken[:, None, None], other, mixing),
    )
