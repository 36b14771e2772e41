"""Morphology in words: attributes that the packaged encoder has learned, measured geometry."""

from __future__ import annotations

from collections.abc import Sequence

from cellkin.core.arrays import Singles
from cellkin.core.descriptions import TRAINED_ON, Attribute, Description
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef
from cellkin.imaging.decode import decode
from cellkin.imaging.geometry import geometry
from cellkin.imaging.scale import um_per_pixel
from cellkin.learning.attributes import attribute_encoder, attribute_shares
from cellkin.learning.encoder import Encoder

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
    encoder = encoder or attribute_encoder()
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


def _likeliest(codes: tuple[str, ...], shares: Singles) -> Attribute:
    best = int(shares.argmax())
    return Attribute(codes[best], float(shares[best]))
