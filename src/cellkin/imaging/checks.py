"""What every image is checked for, and how a fault is said: files, sizes, colours."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cellkin.core.arrays import Array, Bytes
from cellkin.core.errors import CellkinError, ImageError, did_you_mean

BLACK = 12
"""Grey level of 255 up to which all channels of a black ground lie: JPEG leaves a little there."""

OTHER_KIND = "export it as PNG or TIFF in RGB, with 8 bits per channel"
FIELDS = "whole fields and slides are for cellkin differential and cellkin find"
AGAIN = "copy it again from its source, or export it again as PNG, JPEG, BMP or TIFF in RGB"


@dataclass(frozen=True)
class Limits:
    """How large and how small an image may be.

    Attributes:
        max_bytes: of the file (of one image inside a container).
        max_pixels: width x height, read from the header before anything is decoded. Pillow's
            own limit (twice `PIL.Image.MAX_IMAGE_PIXELS`) holds as well.
        min_side: smallest width and height in pixels, of the image and of the box cut from it.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 100_000_000
    min_side: int = 16


DEFAULT_LIMITS = Limits()


def require_file(path: Path, where: str) -> None:
    """Raise unless `path` is a regular file: reading a pipe or a device might never end."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("there is no such file", where=where, mend=_near(path)) from None
    except PermissionError:
        raise no_permission(where) from None
    except (OSError, ValueError) as error:
        raise unreadable(error, where) from error
    if not stat.S_ISREG(mode):
        what = "this is a folder" if stat.S_ISDIR(mode) else "this is no regular file"
        raise ImageError(f"{what}, not an image", where=where, mend="give one image file")


def _near(path: Path) -> str:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        siblings = []
    return did_you_mean(path.name, siblings) or "check the path and the name"


def no_permission(where: str) -> ImageError:
    """The error for a file that may not be read."""
    return ImageError(
        "no permission to read this file",
        where=where,
        mend="give yourself the right to read it (chmod u+r), or copy it",
    )


def unreadable(error: Exception, where: str) -> ImageError:
    """The error for a file that the system refuses to read."""
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"this file cannot be read: {reason}", where=where, mend="check the path")


def check_bytes(size: int, where: str, limits: Limits) -> None:
    """Refuse an empty file and one above `limits.max_bytes`.

    Raises:
        ImageError: it is one of the two.
    """
    if size == 0:
        raise ImageError("this file is empty (0 bytes)", where=where, mend=AGAIN)
    if size > limits.max_bytes:
        raise ImageError(
            f"this file has {size} bytes, more than the {limits.max_bytes} allowed",
            where=where,
            mend=f"give the crop of one cell, or raise max_bytes; {FIELDS}",
        )


def check_size(width: int, height: int, where: str, limits: Limits) -> None:
    """Refuse an image of too many pixels or too short a side.

    Raises:
        ImageError: it is one of the two.
    """
    if width * height > limits.max_pixels:
        raise ImageError(
            f"this image is too large: {width} x {height} pixels, more than {limits.max_pixels} "
            "in all",
            where=where,
            mend=f"give the crop of one cell, or raise max_pixels; {FIELDS}",
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            f"this image is too small: {width} x {height} pixels, at least {limits.min_side} a "
            "side are needed",
            where=where,
            mend="give a crop that holds the whole cell",
        )


@contextmanager
def told(kind: str, where: str) -> Iterator[None]:
    """Whatever a decoder raises on hostile bytes becomes an `ImageError` with its reason."""
    try:
        yield
    except CellkinError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"this image is too large: {error}", where=where, mend="give the crop of one cell"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"the header of this {kind} file is cut off, damaged or of a kind that cannot be read",
            where=where,
            mend=AGAIN,
        ) from None
    except MemoryError:
        raise ImageError(
            "there is not enough memory for this image",
            where=where,
            mend="give the crop of one cell",
        ) from None
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        other = first.startswith("Unsupported")  # what Pillow says of whole files
        state = "of a kind that is not read" if other else "damaged, cut off or of another kind"
        raise ImageError(
            f"this {kind} file is {state}: {first}",
            where=where,
            mend=OTHER_KIND if other else AGAIN,
        ) from error


def require_rgb(array: Array, what: str, *, least: int = 1) -> None:
    """Refuse what is no array (H, W, 3) uint8 of at least `least` pixels a side.

    Args:
        what: what the array was given for, in words: "whose focus was asked for".

    Raises:
        ImageError: it is none.
    """
    shape: tuple[int, ...] = getattr(array, "shape", ())
    kind = str(getattr(array, "dtype", type(array).__name__))
    where = f"the array {what}"
    if kind != "uint8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ImageError(
            f"this array is no RGB image: shape {shape}, {kind}",
            where=where,
            mend="give (height, width, 3) uint8 in the order red, green, blue",
        )
    if min(shape[:2]) < least:
        raise ImageError(
            f"this image is too small: {shape[1]} x {shape[0]} pixels",
            where=where,
            mend=f"give at least {least} pixels a side",
        )


def refuse_grey(rgb: Bytes, where: str) -> None:
    """Refuse an image whose three channels are equal.

    Raises:
        ImageError: they are.
    """
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        raise grey(where)


def grey(where: str) -> ImageError:
    """The error for an image without colour."""
    return ImageError(
        "this image is greyscale: the stain's colours, which the network was trained on, are gone",
        where=where,
        mend="give the original colour image",
    )


_AT_WORK = threading.Lock()
_decoding, _found = 0, False


@contextmanager
def truncation_refused() -> Iterator[None]:
    """Pillow fills what is missing with grey where a library has switched on
    `ImageFile.LOAD_TRUNCATED_IMAGES` (WeasyPrint does); here it raises, whatever was switched on.

    The switch is put back when the last of several threads is done.
    """
    global _decoding, _found
    with _AT_WORK:
        if _decoding == 0:
            _found, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        _decoding += 1
    try:
        yield
    finally:
        with _AT_WORK:
            _decoding -= 1
            if _decoding == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _found


def brightest(rgb: Bytes) -> Bytes:
    """(H, W): the largest of the three channels; numpy's maximum along so short an axis is slow."""
    return np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
