"""Colour images of 16 bits per channel, scaled to 8 bits by the depth that the file declares.

Pillow hands over one byte of each sample. Dropping the low one turns a 12-bit camera's image (0 to
4095 in 16-bit samples) almost black, so both are asked for. The scale comes from what the file
declares, never from the brightest pixel of the image: two images of one camera must stay
comparable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.formats import png_chunks

Samples = NDArray[np.uint16]

FULL = 65535
FIFTEEN_BITS = 32767
UNDECLARED = (
    "export it as 8-bit PNG, or declare its depth: the sBIT chunk in a PNG, tag 281 "
    "(MaxSampleValue) in a TIFF"
)
# By the order of bytes that Pillow's raw mode ends with; N is the machine's own.
OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def both_bytes(high: Image.Image, low: Image.Image) -> Samples:
    """The samples of an image of 16 bits per channel, (H, W, 3 or 4).

    Args:
        high, low: the same image, opened twice by Pillow, nothing decoded yet.
    """
    low.tile = [tile._replace(args=_of_the_other_byte(tile.args)) for tile in low.tile]  # type: ignore[attr-defined]
    return np.asarray(np.asarray(high, np.uint16) << 8 | np.asarray(low), np.uint16)


def _of_the_other_byte(args: Any) -> Any:
    mode, *rest = [args] if isinstance(args, str) else args
    other = mode[:-1] + OTHER_BYTE[mode[-1]]
    return other if isinstance(args, str) else (other, *rest)


def scaled(samples: NDArray[np.unsignedinteger[Any]], full: int) -> tuple[Bytes, bool]:
    """Samples (H, W, 3 or 4) of 0 to `full` as (H, W, 3) uint8, and whether all are opaque."""
    table = ((np.arange(full + 1) * 255 + full // 2) // full).astype(np.uint8)
    return table[samples[..., :3]], bool((samples[..., 3:] >= full).all())


def _undeclared(brightest: int, where: str) -> int:
    """Full scale where the file does not say: 16 bits, if a sample needs them all.

    Raises:
        ImageError: the samples fit 15 bits or fewer, as a camera of 9 to 15 bits writes them.
    """
    if brightest <= FIFTEEN_BITS:
        raise ImageError(
            f"the depth of this 16-bit image is ambiguous: its brightest sample is {brightest} "
            "and the file does not say of how many",
            where=where,
            mend=UNDECLARED,
        )
    return FULL


def png_full_scale(data: bytes, colour: Samples, where: str) -> int:
    """The sample value that means full light, by the sBIT chunk.

    The PNG specification wants samples of fewer significant bits scaled up to 16; cameras also
    write them unscaled, in the low bits. A sample above the declared depth proves the first. At 12
    bits and below its absence proves the second (the image would be black otherwise); in between,
    only samples whose low bits are not mere padding do.

    Raises:
        ImageError: the depth is ambiguous, or the chunk makes no sense.
    """
    brightest = int(colour.max())
    content = next((body for name, body in png_chunks(data, where) if name == b"sBIT"), None)
    if content is None:
        return _undeclared(brightest, where)
    if len(content) < 3 or len(set(content[:3])) != 1 or not 1 <= content[0] <= 16:
        raise ImageError(
            f"the sBIT chunk of this PNG makes no sense for RGB: {list(content)}",
            where=where,
            mend=UNDECLARED,
        )
    depth = content[0]
    unscaled = (1 << depth) - 1
    if brightest > unscaled:
        return FULL
    padding = 16 - depth
    if depth > 12 and padding and not (colour & ((1 << padding) - 1)).any():
        raise ImageError(
            f"the depth of this image is ambiguous: it declares {depth} bits, and its samples "
            "fit both the low and the high bits",
            where=where,
            mend="export it as 8-bit PNG",
        )
    return unscaled


def tiff_full_scale(declared: Sequence[int], colour: Samples, where: str) -> int:
    """The sample value that means full light, by the values of tag 281, which may be none.

    Some writers put the brightest sample found there, which says nothing about the camera: only
    2^n - 1 is a depth.

    Raises:
        ImageError: the depth is ambiguous, no depth, or contradicts the pixels.
    """
    brightest = int(colour.max())
    if not declared:
        return _undeclared(brightest, where)
    values = set(declared[:3])
    value = max(values)
    if len(values) != 1 or value & (value + 1) or not 255 <= value <= FULL:
        raise ImageError(
            f"the TIFF tag 281 (MaxSampleValue) of this image is no depth: {sorted(values)}",
            where=where,
            mend="write 2^bits - 1 there (4095 for a 12-bit camera), or export as 8-bit PNG",
        )
    if brightest > value:
        raise ImageError(
            f"this TIFF declares samples up to {value} but holds {brightest}",
            where=where,
            mend="write the camera's depth into tag 281 (MaxSampleValue), or export as 8-bit PNG",
        )
    return value
