"""Micrometres per pixel of a picture, as its file says them, where these can be a microscope's.

PNG (pHYs), JPEG (density, EXIF) and BMP give dots per metre or inch; TIFF gives them in its tags,
or OME metadata. Most files carry 72 or 96 dots per inch, or none at all: those are a screen's, and
say nothing. So do pixels that are not square.
"""

from __future__ import annotations

from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.core.records import ImageRef
from cellkin.imaging.formats import TIFF_SIGNATURES
from cellkin.imaging.tiff import Resolution, resolution_of

INCH = 25_400.0
"""Micrometres of an inch."""

LIKELY = (0.02, 2.0)  # micrometres per pixel of a microscope's picture; 72 dots per inch is none
SQUARE = 0.01  # by which the sides of a pixel may differ
UNITS = {2: INCH, 3: 1e4}  # of a TIFF's resolution, in micrometres
TO_MICROMETRES = {"m": 1e6, "mm": 1e3, "cm": 1e4, "µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3}


def um_per_pixel(source: Path | ImageRef | bytes) -> float | None:
    """Micrometres per pixel of a picture; None where they are not known.

    Args:
        source: a file, its bytes, or a reference: what is known of it comes first, and a row or
            member of a container says nothing.
    """
    if isinstance(source, ImageRef):
        if source.um_per_pixel is not None or source.member is not None or source.row is not None:
            return source.um_per_pixel
        source = source.path
    try:
        if isinstance(source, bytes):
            return _of(source, BytesIO(source))
        with source.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _of(data, file)
    except (OSError, ValueError, SyntaxError, ImageError, Image.DecompressionBombError):
        return None  # what is wrong with it is said by whoever decodes it


def png_of(image: Bytes, um_per_pixel: float | None = None) -> bytes:
    """An image (H, W, 3) uint8 RGB as lossless PNG, with its micrometres per pixel where known."""
    buffer = BytesIO()
    dots = {} if um_per_pixel is None else {"dpi": (INCH / um_per_pixel,) * 2}
    Image.fromarray(image).save(buffer, format="PNG", compress_level=4, **dots)
    return buffer.getvalue()


def likely(um: float | None) -> float | None:
    """Micrometres per pixel that a file says, None where no microscope's picture has them."""
    return um if um is not None and LIKELY[0] <= um <= LIKELY[1] else None


def um_of_tiff(said: Resolution) -> float | None:
    """Micrometres per pixel as a TIFF says them: its OME metadata first, then its resolution."""
    if (um := _of_ome(said.description)) is not None:
        return um
    unit = UNITS.get(said.unit)
    return None if unit is None else _likely(said.across / unit, said.down / unit)


def _of(data: bytes | mmap, file: BinaryIO) -> float | None:
    if data[:4] in TIFF_SIGNATURES:
        return um_of_tiff(resolution_of(data, "the file"))
    with Image.open(file, formats=("PNG", "JPEG", "BMP")) as image:
        across, down = image.info.get("dpi", (0, 0))
    return _likely(float(across) / INCH, float(down) / INCH)


def _likely(across: float, down: float) -> float | None:
    """Of pixels per micrometre, where the pixels are square and can be a microscope's."""
    if not across > 0 or not abs(down / across - 1) <= SQUARE:
        return None
    return likely(1 / across)


def _of_ome(description: str) -> float | None:
    if "<OME" not in description:
        return None
    try:
        root = ElementTree.fromstring(description.encode())
        pixels = next(node for node in root.iter() if node.tag.endswith("Pixels"))
        size = float(pixels.attrib["PhysicalSizeX"])
    except (ElementTree.ParseError, StopIteration, KeyError, ValueError):
        return None
    unit = pixels.attrib.get("PhysicalSizeXUnit", "µm").replace("μ", "µ")
    factor = TO_MICROMETRES.get(unit)
    return None if factor is None else likely(factor * size)
