"""The words of morphology that an encoder has learned: its heads for the attributes of WBCAtt
(Tsutsui et al., 2023), and the packaged one that has them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.errors import ArtifactError
from cellkin.learning.encoder import Encoder
from cellkin.learning.packaged import HAEMATOLOGY, PACKAGED

OTHERS = ("class", "subtype", "lineage")
"""Heads of the packaged encoder that are no attributes of WBCAtt."""


def attribute_shares(
    encoder: Encoder, prepared: Bytes
) -> dict[str, tuple[tuple[str, ...], Singles]]:
    """For every attribute its words, and the share of belief on each: (N, words), rows sum to 1.

    Args:
        prepared: (N, S, S, 3) uint8, by the preprocessor of the encoder.

    Raises:
        ArtifactError: the encoder has no heads for attributes.
    """
    from scipy.special import softmax  # takes long to import

    if not set(encoder.tasks) - set(OTHERS):
        raise ArtifactError(
            "this encoder has learned no attributes",
            where=f"its heads: {', '.join(encoder.tasks) or 'classes alone'}",
            mend="use the packaged one: leave the encoder away",
        )
    logits = encoder.view(prepared).logits
    ends = np.cumsum([len(codes) for codes in encoder.heads])[:-1]
    parts = zip(encoder.tasks, encoder.heads, np.split(logits, ends, axis=1), strict=True)
    return {name: (codes, softmax(own, axis=1)) for name, codes, own in parts if name not in OTHERS}


@lru_cache(maxsize=1)
def attribute_encoder() -> Encoder:
    """The packaged encoder with heads for attributes, opened once."""
    return Encoder.open(PACKAGED / HAEMATOLOGY)
