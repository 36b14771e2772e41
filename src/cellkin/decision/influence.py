"""How a verdict hangs on single reference cells: shares of support, and how far from flipping.

All of it reads one list: the labels of the reference cells a query may see, nearest first. The
*deciding question* is that of `vote`: lymphoblast or not where the atlas knows lymphoblasts,
otherwise the fine class. A reference cell *matches* where it stands with the verdict on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Bools, Floats
from cellkin.core.records import LabelSet


@dataclass(frozen=True)
class Flips:
    """The smallest changes to the atlas that change the deciding class; a tie counts as changed.

    Attributes:
        removals: positions in the list, nearest first, of a smallest set of cells whose removal
            changes it; empty where the vote is tied already, None where no removal can.
        relabellings: the same for cells given another label.
    """

    removals: tuple[int, ...] | None
    relabellings: tuple[int, ...] | None


def matching(labels: Sequence[str], verdict: str, label_set: LabelSet) -> Bools:
    """(N,) whether each reference cell stands with the verdict on the deciding question."""
    with_it = {n for n in label_set.names if label_set.side(n) == label_set.side(verdict)}
    return np.array([label in with_it for label in labels], dtype=bool)


def shares_of_support(matches: Bools, k: int) -> Floats:
    """Shapley values of N reference cells, nearest first: (N,) float64.

    The game is v(S) = matches among the min(k, |S|) nearest cells of S, over k, v(empty) = 0. Its
    values have a closed form (Jia et al., 2019, for k-nearest-neighbour utilities):

        s_N = 1_N min(k, N) / (k N),   s_i = s_{i+1} + (1_i - 1_{i+1}) / k * min(k, i) / i

    and add up to v(all), the agreement. A cell that stands against the verdict has a share of 0 or
    less; cells far down the list have small shares, since they vote only where nearer ones miss.
    """
    N = len(matches)
    if N == 0:
        return np.zeros(0)
    ones = matches.astype(np.float64)
    i = np.arange(1, N)
    steps = (ones[:-1] - ones[1:]) / k * np.minimum(k, i) / i
    last = ones[-1] * min(k, N) / (k * N)
    return np.asarray(np.append(last + np.cumsum(steps[::-1])[::-1], last))


def flips(labels: Sequence[str], k: int, verdict: str, label_set: LabelSet) -> Flips:
    """The exact answer for the two-level vote (see `Flips`).

    Removing r cells can do no more than take r matching cells out of the first k + r: whoever is
    removed, the k + r - r nearest vote, and taking a matching one lowers the verdict's count
    without lowering a rival's. So the smallest r is found by one walk down the list. Relabelling a
    matching voter as the strongest rival moves the difference by two, and nothing moves it more.

    Args:
        labels: all reference cells a query may see, nearest first. k: how many vote; where fewer
            are left, those vote. verdict: the fine class that was voted.
    """
    of = {name: label_set.side(name) for name in label_set.names}
    sides, own, possible = [of[label] for label in labels], of[verdict], set(of.values())
    return Flips(_removals(sides, k, own), _relabellings(sides[:k], own, possible))


def _removals(sides: Sequence[object], k: int, own: object) -> tuple[int, ...] | None:
    seen, supporters = Counter(sides[:k]), [i for i, side in enumerate(sides) if side == own]
    for removed in range(len(supporters) + 1):
        if removed and k + removed <= len(sides):
            seen[sides[k + removed - 1]] += 1
        rival = max((n for side, n in seen.items() if side != own), default=0)
        if rival and rival >= seen[own] - removed:
            return tuple(supporters[:removed])
    return None


def _relabellings(
    voters: Sequence[object], own: object, possible: set[object]
) -> tuple[int, ...] | None:
    if possible == {own}:
        return None
    counted = Counter(voters)
    rival = max((n for side, n in counted.items() if side != own), default=0)
    needed = max(0, -(-(counted[own] - rival) // 2))
    return tuple(i for i, side in enumerate(voters) if side == own)[:needed]
