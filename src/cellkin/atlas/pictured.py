"""What only the picture of a cell tells, beside the vote of its kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.atlas.novelty import novel
from cellkin.atlas.recognising import recognised
from cellkin.core.arrays import Bytes
from cellkin.core.decisions import Decision
from cellkin.imaging.quality import Measures


def pictured(
    atlas: Atlas,
    decisions: Sequence[Decision],
    images: Sequence[Bytes],
    measured: Sequence[Measures] | None,
    *,
    coverage: float,
) -> list[Decision]:
    """The decisions with the cells that are the query itself marked, whether its kind is known,
    and what the quality gate finds.

    Args:
        images: prepared, (S, S, 3) uint8 each. measured: of each; None asks no gate.

    Raises:
        ArtifactError: see `novel`.
    """
    found = [recognised(atlas, d, image) for d, image in zip(decisions, images, strict=True)]
    found = novel(atlas, found, np.stack(images), coverage)
    if measured is None:
        return found
    gate = atlas.quality
    return [
        d.gated(None if gate is None else gate.reasons(m))
        for d, m in zip(found, measured, strict=True)
    ]
