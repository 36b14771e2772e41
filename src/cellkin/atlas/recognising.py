"""Is the query one of the reference cells? By pixels, never by a distance of zero: another machine
or number of threads rounds otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.core.arrays import Bytes
from cellkin.core.decisions import NEAR_COPY, SAME_IMAGE, Decision
from cellkin.imaging.fingerprints import fingerprint

NEAR = 0.25
"""A near copy lies nearer than this share of the distance of the next cell: new cells of PBC had
0.57 at least, copies that were brighter by 2 of 255 a median of 0.11 (docs/decisions/030)."""


def recognised(atlas: Atlas, decision: Decision, image: Bytes) -> Decision:
    """The decision with those of its neighbours marked that are the query itself.

    Neighbours with the same prepared pixels are the same image. The nearest are near copies where
    the next neighbour is at least 1 / `NEAR` times as far as they are.

    Args:
        image: the query, prepared (S, S, 3) uint8.
    """
    own, positions = fingerprint(image), atlas.cells.positions
    near = _near_copies(atlas, decision)
    neighbors = tuple(
        replace(kin, twin=SAME_IMAGE if atlas.mark(positions[kin.id]) == own else likely)
        for kin, likely in zip(decision.neighbors, near, strict=True)
    )
    return replace(decision, neighbors=neighbors)


def _near_copies(atlas: Atlas, decision: Decision) -> list[str]:
    lengths = np.array([kin.distance for kin in decision.neighbors])
    if atlas.distance == "cosine":  # a squared length
        lengths = np.sqrt(lengths)
    gaps = np.flatnonzero(lengths[:-1] < NEAR * lengths[1:])
    copies = int(gaps[-1]) + 1 if gaps.size else 0
    return [NEAR_COPY if i < copies else "" for i in range(len(lengths))]
