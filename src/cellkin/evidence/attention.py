"""Where a heatmap points, against masks of nucleus and cytoplasm.

A map that points at the cell need not be right, and one that points elsewhere may be honest about
a network that looks elsewhere: this describes, it does not judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Bools, Floats
from cellkin.core.contrast import coverage
from cellkin.core.plain import Plain
from cellkin.core.units import Owners
from cellkin.measures.intervals import Mean, mean_of


@dataclass(frozen=True)
class Attention(Plain):
    """One method on M cells; all shares in [0, 1].

    Attributes:
        share: of what is positive in the map, how much lies on the region. over_uniform: how much
            more than of a uniform map, cell by cell.
        pointing: how often the strongest position lies on the region (its centre pixel); of a
            uniform map how often a random position would.
        empty: cells whose map has nothing positive; they are in none of the means.
    """

    share: Mean
    over_uniform: Mean
    pointing: Mean
    empty: int


def attention(
    maps: Floats, regions: Bools, owners: Owners | None = None, *, seed: int = 0
) -> Attention | None:
    """Measure one method on one kind of region; None where every map is empty.

    Args:
        maps: (M, h, w). regions: (M, S, S), the pixels of the region, at least one in each cell.
        owners: see `mean_of`.
    """
    shape = (maps.shape[1], maps.shape[2])
    shares = coverage(regions, shape)
    positive = np.maximum(maps, 0.0)
    kept = np.flatnonzero(positive.any(axis=(1, 2)))
    if not len(kept):
        return None
    mass = positive[kept].sum(axis=(1, 2))
    own = (positive[kept] * shares[kept]).sum(axis=(1, 2)) / mass
    whose = None if owners is None else owners.part(kept)
    return Attention(
        share=mean_of(own, whose, seed=seed),
        over_uniform=mean_of(own - shares[kept].mean(axis=(1, 2)), whose, seed=seed),
        pointing=mean_of(_hits(positive[kept], regions[kept]), whose, seed=seed),
        empty=len(maps) - len(kept),
    )


def _hits(maps: Floats, regions: Bools) -> Floats:
    """(M,) chance that one of the strongest positions, drawn at random, has its centre inside."""
    h, w = maps.shape[1:]
    rows, columns = (((np.arange(n) + 0.5) * regions.shape[1] / n).astype(int) for n in (h, w))
    centres = regions[:, rows][:, :, columns]
    best = maps == maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((centres & best).sum(axis=(1, 2)) / best.sum(axis=(1, 2)))
