"""A left-out place laid over the references of a study's atlas, without a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cellkin.core.records import Features
from cellkin.decision.alignment import Cloud, Fit, centred, coral

if TYPE_CHECKING:
    from cellkin.atlas import Atlas

ALIGNMENTS: Mapping[str, Fit] = {"centred": centred, "CORAL": coral}
"""Those that need no label; see `cellkin.decision.alignment`."""


def aligned(how: str, features: Features, atlas: Atlas) -> Features:
    """Features of all cells of a place (N, C), as they lie over the atlas's references: what moves
    them is fitted on themselves, as one batch, and knows no class.

    Args:
        how: a name of `ALIGNMENTS`.
    """
    unlabelled = ("",) * len(features)
    place = Cloud(atlas.scale.apply(features.vectors), unlabelled)
    fitted = ALIGNMENTS[how](place, Cloud(atlas.scaled, atlas.cells.labels))
    moved = fitted.before(atlas.scale).apply(features.vectors)
    return Features(features.ids, moved.astype(np.float32), atlas.space)
