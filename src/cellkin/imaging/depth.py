"""Colour images of 16 bits per channel, scaled to 8 bits by the depth that the file declares.

Pillow reads them as 8 bits by dropping the low byte, which turns a 12-bit camera's image (0 to
4095 in 16-bit samples) almost black. They are therefore read through OpenCV at full depth. The
scale comes from what the file declares, never from the brightest pixel of the image: two images of
one camera must stay comparable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellkin.core.errors import ImageError
from cellkin.imaging.formats import png_chunks

__all__ = ["is_deep", "read_deep"]

BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281
FULL = 65535
TWELVE_BITS = 4095
UNDECLARED = (
    "export it as 8-bit PNG, or declare its depth: the sBIT chunk in a PNG, tag 281 "
    "(MaxSampleValue) in a TIFF"
)


def is_deep(data: bytes, kind: str, image: Image.Image) -> bool:
    """Whether the file holds more than 8 bits per channel, by its own header."""
    if kind == "PNG":
        return data[24] > 8
    if kind == "TIFF":
        bits = _numbers(image.tag_v2.get(BITS_PER_SAMPLE, 8))  # type: ignore[attr-defined]
        return max(bits, default=8) > 8
    return False


def read_deep(
    data: bytes, kind: str, image: Image.Image, where: str
) -> tuple[NDArray[np.uint8], bool]:
    """Read a 16-bit colour image at full depth and scale it by its declared depth.

    Args:
        data: the file's bytes. kind: "PNG" or "TIFF". image: the same file, opened by Pillow.

    Returns:
        (H, W, 3) uint8 RGB, and whether every pixel is opaque. A TIFF is upright already, a PNG
        is as stored.

    Raises:
        ImageError: the depth is ambiguous or contradicts the pixels, or the file is of a kind
            that OpenCV does not read at full depth.
    """
    samples = _samples(data, where)
    colour = samples[..., :3]
    full = _full_scale(data, kind, image, colour, where)
    # OpenCV also hands over a TIFF's "unspecified" fourth channel, which is no alpha.
    has_alpha = samples.shape[2] == 4 and (
        image.mode in {"RGBA", "RGBa"} or "transparency" in image.info
    )
    opaque = not has_alpha or bool((samples[..., 3] >= full).all())
    scaled = (colour.astype(np.uint32) * 255 + full // 2) // full
    return np.ascontiguousarray(scaled.astype(np.uint8)), opaque


def _samples(data: bytes, where: str) -> NDArray[np.uint16]:
    """(H, W, 3 or 4) uint16 in RGB(A) order."""
    import cv2

    found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[2] not in (3, 4):
        raise ImageError(
            "this image has more than 8 bits per channel in a layout that cannot be read",
            where=where,
            mend="export it as PNG or TIFF in RGB, with 8 or 16 bits per channel",
        )
    order = [2, 1, 0, 3][: found.shape[2]]
    return np.asarray(found[..., order], np.uint16)


def _full_scale(
    data: bytes, kind: str, image: Image.Image, colour: NDArray[np.uint16], where: str
) -> int:
    """The sample value that means full light."""
    brightest = int(colour.max())
    if kind == "PNG":
        declared = _png_declares(data, brightest, colour, where)
    else:
        declared = _tiff_declares(image, brightest, where)
    if declared is None and brightest <= TWELVE_BITS:
        raise ImageError(
            f"the depth of this 16-bit image is ambiguous: its brightest sample is {brightest} "
            "and the file does not say of how many",
            where=where,
            mend=UNDECLARED,
        )
    return FULL if declared is None else declared


def _png_declares(
    data: bytes, brightest: int, colour: NDArray[np.uint16], where: str
) -> int | None:
    """Full scale by the sBIT chunk, None where there is none.

    The PNG specification wants samples of fewer significant bits scaled up to 16; cameras also
    write them unscaled, in the low bits. A sample above the declared depth proves the first. At 12
    bits and below its absence proves the second (the image would be black otherwise); in between,
    only samples whose low bits are not mere padding do.
    """
    content = next((body for name, body in png_chunks(data, where) if name == b"sBIT"), None)
    if content is None:
        return None
    bits = set(content[:3])
    if len(content) < 3 or len(bits) != 1 or not 1 <= content[0] <= 16:
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


def _tiff_declares(image: Image.Image, brightest: int, where: str) -> int | None:
    """Full scale by tag 281, None where there is none.

    Some writers put the brightest sample found there, which says nothing about the camera: only
    2^n - 1 is a depth.
    """
    found = image.tag_v2.get(MAX_SAMPLE_VALUE)  # type: ignore[attr-defined]
    if found is None:
        return None
    values = set(_numbers(found)[:3])
    value = max(values, default=0)
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


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(value),)
