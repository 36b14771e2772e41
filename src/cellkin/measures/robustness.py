"""Is a feature space about the kind of a cell, or about the laboratory that it comes from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Ints
from cellkin.core.plain import Plain
from cellkin.core.units import IMAGE, Owners
from cellkin.measures.intervals import Interval, bootstrap, too_few, unit_index


@dataclass(frozen=True)
class Robustness(Plain):
    """The robustness index of a space, from the k nearest of each cell.

    Attributes:
        index: in [0, 1]; 1 is perfect: nothing is near for its place alone. None where it is not
            defined: no neighbour of either kind.
        chance: what neighbours drawn at random from the same cells would give, in [0, 1].
        same_class: neighbours that share the class but not the place. same_place: those that share
            the place but not the class.
        cells: that were asked. k: neighbours of each. unit: what was left out and resampled.
    """

    index: float | None
    chance: float
    same_class: int
    same_place: int
    cells: int
    k: int
    unit: str
    interval: Interval


def robustness_index(
    near: Ints, classes: Sequence[str], places: Sequence[str], owners: Owners, *, seed: int
) -> Robustness | None:
    """The robustness index (PathoROB, Koemen et al. 2025), with a bootstrap over owners.

    With N_k(i) the k nearest of cell i, y its class and c its place:

        R_k = sum_i sum_{j in N_k(i)} [y_j = y_i, c_j != c_i]
              / sum_i sum_{j in N_k(i)} ([y_j = y_i, c_j != c_i] + [y_j != y_i, c_j = c_i])

    Neighbours that share both, or neither, say nothing and count nowhere. Summed over the cells i
    that can have both kinds: another place has their class, and their place has another class.

    Args:
        near: (N, k) positions among the same N cells, none of a cell's own unit.
        classes, places: of the N cells.

    Returns:
        None where no cell can have both kinds of neighbours.
    """
    kind, home = (
        np.unique(np.asarray(names), return_inverse=True)[1] for names in (classes, places)
    )
    relatives, housemates = _possible(kind, home)
    able = np.flatnonzero((relatives > 0) & (housemates > 0))
    if not len(able):
        return None
    kin, own = near[able], able[:, None]
    alike, together = kind[kin] == kind[own], home[kin] == home[own]
    counts = np.column_stack([(alike & ~together).sum(1), (~alike & together).sum(1)])
    same_class, same_place = counts.sum(axis=0).tolist()
    several = owners.several
    names = owners.names if several else range(len(classes))
    unit = owners.unit if several else "cell"
    owner = unit_index([names[i] for i in able])
    return Robustness(
        index=_ratio(np.array([same_class, same_place])),
        chance=float(relatives[able].sum() / (relatives + housemates)[able].sum()),
        same_class=same_class,
        same_place=same_place,
        cells=len(able),
        k=near.shape[1],
        unit=unit if several else IMAGE,
        interval=bootstrap(
            _ratio, owner, unit, seed=seed, rows=counts, refusal=too_few(owner, None, unit)
        ),
    )


def _possible(kind: Ints, home: Ints) -> tuple[Ints, Ints]:
    """How many cells share the class but not the place of each of N cells; and the reverse."""
    table = np.zeros((int(kind.max(initial=0)) + 1, int(home.max(initial=0)) + 1), np.int64)
    np.add.at(table, (kind, home), 1)
    both = table[kind, home]
    return table.sum(1)[kind] - both, table.sum(0)[home] - both


def _ratio(sums: Ints) -> float | None:
    return float(sums[0] / sums.sum()) if sums.sum() else None
