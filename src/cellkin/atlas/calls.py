"""What a finished atlas calls cells that it has not seen: what counting with errors rests on.

Held out are the cells of the parts "test" and "calibration", which decide nothing and trained
nothing, and every reference cell whose unit (subject, slide, field) holds no image that the network
was trained or selected on: all of them where `index` made the atlas with a foreign encoder. A
cell's own references do not vote on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.atlas.cells import Cells
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.records import Features
from cellkin.core.units import IMAGE, Owners
from cellkin.decision import vote
from cellkin.imaging.fingerprints import fingerprints
from cellkin.measures.counting import HeldOutCalls

PARTS = ("test", "calibration")
MOST = 5000  # reference cells that are called, whole units: more tell little more


def calls_of(
    atlas: Atlas, held_out: Sequence[tuple[Cells, Features]], images: Bytes
) -> HeldOutCalls:
    """Call every held-out cell by the vote of its kin.

    Args:
        held_out: cells that are no references, with their features, by part.
        images: (N, S, S, 3) uint8 of the references.
    """
    rows, cells = _unseen_references(atlas, images), atlas.cells
    own = cells.owners(atlas.unit).part(rows)
    parts = [([cells.labels[row] for row in rows], own, atlas.scaled[rows])]
    for part, features in held_out:
        if part.part in PARTS:
            scaled = atlas.scale.apply(features.vectors)
            parts.append((list(part.labels), part.owners(atlas.unit), scaled))
    truth = [label for labels, _, _ in parts for label in labels]
    called = [label for _, owned, scaled in parts for label in _called(atlas, scaled, owned)]
    owners = Owners(atlas.unit, tuple(name for _, owned, _ in parts for name in owned.names))
    unit = atlas.unit if owners.several else IMAGE
    return HeldOutCalls.of(truth, called, owners.names, names=atlas.labels.names, unit=unit)


def _unseen_references(atlas: Atlas, images: Bytes) -> list[int]:
    """Positions of the references that can be called as if they were new."""
    trained = set(atlas.encoder.trained_on)
    owners = atlas.cells.owners(atlas.unit).names
    seen = {o for o, mark in zip(owners, fingerprints(images), strict=True) if mark in trained}
    positions: dict[str, list[int]] = {}
    for position, owner in enumerate(owners):
        if owner is not None and owner not in seen:
            positions.setdefault(owner, []).append(position)
    units, chosen = list(positions.values()), list[int]()
    for i in np.random.default_rng(0).permutation(len(units)).tolist():
        if len(owners) - len(units[i]) >= atlas.k and len(chosen) < MOST:
            chosen += units[i]
    return sorted(chosen)


def _called(atlas: Atlas, scaled: Floats, owners: Owners) -> list[str]:
    if not len(owners):
        return []
    found, distances = atlas.index.nearest(scaled, atlas.k, exclude=atlas.own(owners))
    labels = atlas.cells.labels
    return [
        vote([labels[i] for i in kin], near, atlas.labels).label
        for kin, near in zip(found.tolist(), distances.tolist(), strict=True)
    ]
