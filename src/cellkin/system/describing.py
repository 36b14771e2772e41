"""Morphology in words: attributes that the packaged encoder has learned, measured geometry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import softmax

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.descriptions import Attribute, Description
from cellkin.core.errors import ArtifactError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef
from cellkin.imaging.decode import decode
from cellkin.imaging.geometry import geometry
from cellkin.imaging.scale import um_per_pixel
from cellkin.learning.encoder import Encoder
from cellkin.learning.packaged import HAEMATOLOGY, PACKAGED

OTHERS = ("class", "subtype", "lineage")
"""Heads of the packaged encoder that are no attributes of WBCAtt."""
TRAINED_ON = (
    "PBC: basophils, eosinophils, lymphocytes, monocytes and neutrophils of healthy blood after "
    "May-Gruenwald-Giemsa; on other cells, lymphoblasts among them, the attributes are extrapolated"
)
TOGETHER = 32  # images in memory at once


def describe(
    images: Sequence[ImageRef], *, encoder: Encoder | None = None, progress: Progress = silent
) -> tuple[Description, ...]:
    """What each cell looks like, in the words of WBCAtt (Tsutsui et al., 2023) and in numbers.

    Args:
        images: of one cell each. encoder: one with heads for attributes; by default the packaged
            haematology encoder.

    Raises:
        ImageError: an image cannot be read. ArtifactError: the encoder has no such heads.
    """
    encoder = encoder or _packaged()
    found: list[Description] = []
    for start in range(0, len(images), TOGETHER):
        refs = images[start : start + TOGETHER]
        pictures = [decode(ref) for ref in refs]
        shares = attribute_shares(encoder, encoder.preprocessor.prepare_many(pictures))
        for row, (ref, picture) in enumerate(zip(refs, pictures, strict=True)):
            named = {name: _likeliest(codes, s[row]) for name, (codes, s) in shares.items()}
            measured = geometry(picture, um_per_pixel(ref))
            found.append(Description(str(ref.path), named, measured, TRAINED_ON))
        progress("describing cells", len(found), len(images))
    return tuple(found)


def attribute_shares(
    encoder: Encoder, prepared: Bytes
) -> dict[str, tuple[tuple[str, ...], Singles]]:
    """For every attribute its words, and the share of belief on each: (N, words), rows sum to 1.

    Args:
        prepared: (N, S, S, 3) uint8, by the preprocessor of the encoder.

    Raises:
        ArtifactError: the encoder has no heads for attributes.
    """
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
def _packaged() -> Encoder:
    return Encoder.open(PACKAGED / HAEMATOLOGY)


def _likeliest(codes: tuple[str, ...], shares: Singles) -> Attribute:
    best = int(shares.argmax())
    return Attribute(codes[best], float(shares[best]))
