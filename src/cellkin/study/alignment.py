"""Features of several places laid over each other, without a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellkin.atlas import Atlas
from cellkin.core.arrays import Singles
from cellkin.core.records import Features
from cellkin.decision import MinMaxScale

CENTRED = "centred by place"


def centred(vectors: Singles, places: Sequence[str | None]) -> Singles:
    """Features (N, C), those of each place less their mean; a single cell becomes zero."""
    moved = np.array(vectors, np.float32)
    homes = np.array([str(place) for place in places])
    for home in np.unique(homes):
        rows = homes == home
        moved[rows] -= moved[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
    return moved


def centred_atlas(atlas: Atlas) -> Atlas:
    """The atlas with its references centred by place: another space, of another name."""
    vectors = centred(atlas.vectors, atlas.cells.places)
    space = f"{atlas.space}, {CENTRED}"
    return replace(atlas, vectors=vectors, scale=MinMaxScale.fit(vectors), space=space)


def centred_features(features: Features, places: Sequence[str | None], space: str) -> Features:
    """Features of queries, centred by place: a place is known by its batch, not cell by cell."""
    return Features(features.ids, centred(features.vectors, places), space)
