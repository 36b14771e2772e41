"""Model randomisation: would a network that knows nothing draw the same map?

Adebayo et al., Sanity checks for saliency maps (NeurIPS 2018). Compared are ranks within the cell,
so that the easy part, cell against background, cannot pass for agreement or hide it. Signs do not
count: a random network's class weights point anywhere.

The rule, fixed before anything was measured: a method *can be told from random networks* where the
95 % interval of the mean |rank correlation| lies below 0.5 as a whole, less than a quarter of the
ranks' variance in common. Otherwise every map of the method carries a warning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from cellkin.core.arrays import Bools, Floats
from cellkin.core.plain import Plain
from cellkin.measures.intervals import FEWEST_UNITS, Mean, mean_of

LIMIT = 0.5
"""The upper end of the interval must stay below it."""

LEAST = 8  # positions within a cell; of fewer, ranks agree by chance alone


@dataclass(frozen=True)
class Randomisation(Plain):
    """The test of one method.

    Attributes:
        similarity: mean |rank correlation| of the trained network's maps with those of random
            networks, over cells; None where no cell covers positions enough.
        among: the same of the random networks among themselves. chance: of maps that have nothing
            to do with each other, about.
        networks: how many. left_out: cells that cover fewer than `LEAST` positions.
        told_apart: whether the method can be told from random networks; None where `note` says
            why nothing can be said.
    """

    similarity: Mean | None
    among: float | None
    chance: float | None
    networks: int
    left_out: int
    told_apart: bool | None
    note: str = ""


def randomisation(
    trained: Floats, random: Floats, inside: Bools, *, seed: int = 0
) -> Randomisation:
    """Compare maps of one method, cell by cell, within the cell.

    Args:
        trained: (M, h, w). random: (N, M, h, w) of N random networks on the same cells.
        inside: (M, h, w), which positions belong to the cell.
        seed: of the interval, a bootstrap over cells.
    """
    networks, (h, w) = len(random), trained.shape[1:]
    kept = [m for m in range(len(trained)) if inside[m].sum() >= LEAST]
    left_out = len(trained) - len(kept)
    if not kept:
        note = f"no cell covers {LEAST} of the {h} x {w} positions of the map"
        return Randomisation(None, None, None, networks, left_out, None, note)
    own, others, sizes = [], [], []
    for m in kept:
        maps = [trained[m], *random[:, m]]
        table = np.abs([[rank_correlation(a, b, inside[m]) for b in maps] for a in maps])
        own.append(table[0, 1:].mean())
        if networks > 1:
            others.append(table[1:, 1:][~np.eye(networks, dtype=bool)].mean())
        sizes.append(int(inside[m].sum()))
    found = mean_of(np.array(own), seed=seed)
    return Randomisation(
        similarity=found,
        among=float(np.mean(others)) if others else None,
        chance=float(np.mean([np.sqrt(2 / np.pi / (n - 1)) for n in sizes])),
        networks=networks,
        left_out=left_out,
        told_apart=_told_apart(found),
        note=found.interval.note,
    )


def _told_apart(found: Mean) -> bool | None:
    """By the rule; where all cells are alike there is no interval, and a network that would be
    told apart by it is left open.
    """
    if found.interval.high is not None:
        return found.interval.high < LIMIT
    return False if found.units >= FEWEST_UNITS and found.mean >= LIMIT else None


def rank_correlation(a: Floats, b: Floats, inside: Bools) -> float:
    """Spearman's of two maps over some positions; 0 where one of them is the same everywhere."""
    x, y = (rankdata(values[inside]) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else 0.0
