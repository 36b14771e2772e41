"""How much do calls of one class differ from unit to unit (subject, slide, field)?

The counts of a unit are Dirichlet-multinomial with parameters c m: m is the mean over units, and
c = 1 / rho - 1 with the correlation rho of calls within a unit. What is drawn is their posterior,
with Jeffreys' prior on m and any rho as likely as any other.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from cellkin.core.arrays import Floats, Ints

PRIOR = 0.5  # Jeffreys, on shares and on rows of calls
CLIPPED = (1e-3, 0.95)  # correlations within a unit that are considered
TRIES, RANGES, LOOKS = 4000, 24, 2  # draws of m and rho that are weighted, from ranges of rho
WALK = 40  # steps of each chosen draw: with many classes few of the weighted ones carry the weight
TINY, LEAST = 1e-300, 1e-12  # the least of a draw, and of the mean of a row


def row_of_a_new_unit(counts: Ints, rng: Generator, draws: int) -> Floats:
    """(D, K) Dirichlet parameters c m from their posterior, of one true class in (U, K) units.

    Weighted draws: a look at all correlations says in which ranges the next one draws most, as
    with many units the likely ones are few of those between 0 and 1. Then each chosen one walks.
    """
    held = counts[counts.sum(axis=1) > 0]
    edges = np.geomspace(*CLIPPED, RANGES + 1)
    chances = np.full(RANGES, 1 / RANGES)
    for _ in range(LOOKS):
        place = rng.choice(RANGES, TRIES, p=chances)
        width = np.diff(edges)[place]
        rho = edges[place] + width * rng.random(TRIES)
        mean, weight = _weighed(held, rho, rng)
        weight += np.log(width / chances[place])  # the prior is flat
        weight = np.exp(weight - weight.max())
        weight /= weight.sum()
        chances = 0.9 * np.bincount(place, weight, RANGES) + 0.1 / RANGES
    even = (np.arange(draws) + rng.random()) / draws  # each as often as its weight says
    order = np.argsort(rho)
    places = np.searchsorted(np.cumsum(weight[order]), even).clip(max=TRIES - 1)
    chosen = rng.permutation(order[places])
    rho, mean = walked(held, rho[chosen], mean[chosen], rng)
    return (1 / rho - 1)[:, None] * mean


def walked(held: Ints, rho: Floats, mean: Floats, rng: Generator) -> tuple[Floats, Floats]:
    """(D,) correlations and (D, K) means after a random walk (Metropolis) of the log odds."""
    from scipy.special import expit, logit, polygamma

    odds, logs = logit(rho), np.log(mean)
    spread = np.sqrt(polygamma(1, _alike(held, np.array([np.median(rho)]))))[0]
    density = _density(held, rho, mean)
    for _ in range(WALK):
        size = np.exp(rng.normal(-0.7, 0.8, len(rho))) / np.sqrt(len(spread))
        steps = logs + size[:, None] * spread * rng.standard_normal(logs.shape)
        steps -= np.logaddexp.reduce(steps, axis=1, keepdims=True)
        other = odds + size * rng.standard_normal(len(odds))
        there = _density(held, expit(other), np.exp(steps))
        taken = np.log(rng.random(len(rho))) + density < there
        odds, density = np.where(taken, other, odds), np.where(taken, there, density)
        logs = np.where(taken[:, None], steps, logs)
    return expit(odds), np.exp(logs)


def _density(held: Ints, rho: Floats, mean: Floats) -> Floats:
    """(D,) log of the posterior of the log odds of rho and of m."""
    inside = (rho > CLIPPED[0]) & (rho < CLIPPED[1]) & (mean > LEAST).all(axis=1)
    rho, mean = np.where(inside, rho, 0.5), np.where(inside[:, None], mean, 1.0)
    found = _likelihood(held, rho, mean) + PRIOR * np.log(mean).sum(axis=1)
    return np.asarray(np.where(inside, found + np.log(rho * (1 - rho)), -np.inf))


def _weighed(held: Ints, rho: Floats, rng: Generator) -> tuple[Floats, Floats]:
    """For (T,) correlations: (T, K) means from near their posterior, and log of what is missing
    to it.
    """
    alike = _alike(held, rho)
    mean = np.maximum(dirichlet(alike, rng), LEAST)
    weight = _likelihood(held, rho, mean) + (PRIOR - 1) * np.log(mean).sum(axis=1)
    return mean, weight - _log_dirichlet(mean, alike)


def _alike(held: Ints, rho: Floats) -> Floats:
    """(T, K) parameters of a mean, if each unit of n cells were n / (1 + (n - 1) rho) that are
    independent.
    """
    sizes = held.sum(axis=1)
    return np.asarray(PRIOR + (1 / (1 + (sizes - 1) * rho[:, None])) @ held)


def _likelihood(held: Ints, rho: Floats, mean: Floats) -> Floats:
    """(T,) log of the chance of the (U, K) counts (Dirichlet-multinomial)."""
    strength = (1 / rho - 1)[:, None]
    whole = held.sum(axis=1, keepdims=True)
    return np.asarray(_rising(strength * mean, held) - _rising(strength, whole))


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
