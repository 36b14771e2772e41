"""How far the neighbours of an atlas are alike by their kind, and not by their laboratory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.decision import Index
from cellkin.measures.robustness import Robustness, robustness_index

MOST = 200  # cells of one class and place: more tell little more, and bound how uneven they are


def robustness_of(atlas: Atlas, *, seed: int) -> Robustness | None:
    """The robustness index of the reference cells, a cell's own unit left out, with the k and the
    distance of the vote.

    Returns:
        None where fewer than two places are known, or it is not defined (see `robustness_index`).
    """
    if len({*atlas.cells.places} - {None}) < 2:
        return None
    rows = _drawn(atlas, seed)
    owners = atlas.cells.owners(atlas.unit).part(rows)
    own = _own(owners.names) if owners.several else [{i} for i in range(len(rows))]
    k = min(atlas.k, len(rows) - max(map(len, own)))
    if k < 1:
        return None
    scaled = atlas.scaled[rows]
    index = Index(scaled, [atlas.cells.ids[i] for i in rows], atlas.distance)
    near, _ = index.nearest(scaled, k, exclude=own)
    classes = [atlas.cells.labels[i] for i in rows]
    places = [str(atlas.cells.places[i]) for i in rows]
    return robustness_index(near, classes, places, owners, seed=seed)


def _drawn(atlas: Atlas, seed: int) -> list[int]:
    """Positions of cells whose place is known, at most `MOST` of a class and place."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (label, place) in enumerate(zip(atlas.cells.labels, atlas.cells.places, strict=True)):
        if place is not None:
            found[label, place].append(i)
    generator = np.random.default_rng(seed)
    return sorted(
        i for _, own in sorted(found.items()) for i in generator.permutation(own)[:MOST].tolist()
    )


def _own(names: Sequence[str | None]) -> list[set[int]]:
    """For each of N cells the positions of those of the same owner, its own among them."""
    positions: dict[str | None, set[int]] = defaultdict(set)
    for i, name in enumerate(names):
        positions[name].add(i)
    return [positions[name] for name in names]
