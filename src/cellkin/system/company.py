"""Reference cells that are worth a look beside the kin: no picture twice, the class's typical cell,
and its nearest one at the border.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cellkin.atlas import Atlas
from cellkin.core.arrays import Floats, Ints
from cellkin.core.records import Beside, Decision, Neighbor
from cellkin.decision import pair_distances


@dataclass(frozen=True)
class Company:
    """Who stands beside the kin, in an atlas."""

    atlas: Atlas

    def groups(self, found: Iterable[Neighbor]) -> list[int]:
        """What nearly equal pictures share, of each cell."""
        return [self._group(self.atlas.cells.positions[one.id]) for one in found]

    def copies(self, kin: Sequence[Neighbor]) -> tuple[str, ...]:
        """For each the id of the nearer one that is nearly the same picture, or ""."""
        first: dict[int, str] = {}
        named = zip(kin, self.groups(kin), strict=True)
        return tuple("" if first.setdefault(g, one.id) == one.id else first[g] for one, g in named)

    def different(self, found: Sequence[Neighbor], beside: Sequence[Neighbor]) -> list[Neighbor]:
        """Those that are no near copies of each other, nor of a cell that is shown already."""
        taken, kept = set(self.groups(beside)), []
        for one, group in zip(found, self.groups(found), strict=True):
            if group not in taken:
                taken.add(group)
                kept.append(one)
        return kept

    def beside(
        self, decision: Decision, order: Sequence[int], query: Floats, shown: Sequence[Neighbor]
    ) -> tuple[Beside, ...]:
        """Cells worth a look that are not shown yet; none where the atlas has no portrait.

        Args:
            order: positions of all references, nearest first. query: (C,), scaled. shown: what is.
        """
        if self.atlas.portrait is None:
            return ()
        ranks = {p: rank for rank, p in enumerate(order, start=1)}
        taken = set(self.groups(shown))
        copies = sum(map(bool, self.copies(decision.neighbors)))
        wanted = [("next kin", order)] * copies
        wanted += [("typical", [p for p in self._typical[decision.label] if p in ranks])]
        wanted += [("borderline", list(self._borderline(decision.label, order)))]
        found = []
        for role, positions in wanted:
            fresh = next((p for p in positions if self._group(p) not in taken), None)
            if fresh is not None:
                taken.add(self._group(fresh))
                found.append(Beside(role, self._neighbor(fresh, query, ranks[fresh])))
        return tuple(found)

    def _group(self, position: int) -> int:
        kept = self.atlas.portrait
        return position if kept is None else kept.group(position)

    def _neighbor(self, position: int, query: Floats, rank: int) -> Neighbor:
        cells, atlas = self.atlas.cells, self.atlas
        (distance,) = pair_distances(query, atlas.scaled[position][None], atlas.distance)
        named = cells.ids[position], cells.labels[position]
        return Neighbor(*named, float(distance), rank, cells.subjects[position],
                        place=cells.places[position])  # fmt: skip

    def _borderline(self, label: str, order: Sequence[int]) -> Iterator[int]:
        kept, labels = self.atlas.portrait, self.atlas.cells.labels
        border = () if kept is None else kept.border
        return (p for p in order if labels[p] == label and p < len(border) and border[p])

    @cached_property
    def _typical(self) -> dict[str, Ints]:
        """Positions of the cells of each class, those with the least mean squared distance to the
        others first: the medoid, then those next to it.
        """
        owner, found = np.array(self.atlas.cells.labels, dtype=object), {}
        for name in set(self.atlas.cells.labels):
            rows = np.flatnonzero(owner == name)
            vectors = self.atlas.scaled[rows]
            away = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1)
            found[name] = np.asarray(rows[np.argsort(away, kind="stable")])
        return found
