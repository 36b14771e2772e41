"""Files to (H, W, 3) uint8 RGB arrays, safely: refused rather than guessed.

The format is told by the content (PNG, JPEG, BMP, TIFF). Whatever would need a guess is an
`ImageError` that says how to mend it: a name that promises another format, several pages, pixels
that are not opaque, greyscale, an undeclared depth, a file that is cut off. Colour profiles are not
applied, as in the published work: RGB values are taken as they stand in the file.
"""

from __future__ import annotations

import stat
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cellkin.core.errors import CellkinError, ImageError, did_you_mean
from cellkin.core.records import ImageRef
from cellkin.imaging.depth import is_deep, read_deep
from cellkin.imaging.formats import kind_of, png_chunks, refuse_other_name

__all__ = ["DEFAULT_LIMITS", "Limits", "decode"]

Rgb = NDArray[np.uint8]

ORIENTATION = 274  # the EXIF tag
GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
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


def decode(
    source: Path | ImageRef | bytes, *, name: str = "", limits: Limits = DEFAULT_LIMITS
) -> Rgb:
    """Decode one image.

    EXIF's orientation is applied, palettes and CMYK become RGB, opaque alpha is dropped, 16 bits
    per channel are scaled by the declared depth (see `cellkin.imaging.depth`).

    Args:
        source: a file; a reference (its `box` is cut out after the orientation was applied; its
            `member` and `row` name an image in a `.npz`); or the bytes of a file.
        name: what to call it in messages; for bytes also the name whose extension is checked.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous, its own memory.

    Raises:
        ImageError: the image cannot be read, or not without guessing.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        where = name or "the bytes that were given"
        return _from_bytes(bytes(source), name, where, limits)
    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    where = name or str(ref)
    if ref.member is None and ref.row is None:
        rgb = _from_bytes(_read(ref.path, where, limits), ref.path.name, where, limits)
    else:
        rgb = _from_npz(ref, where, limits)
    return rgb if ref.box is None else _cut(rgb, ref.box, where, limits)


# --- files -----------------------------------------------------------------------------------


def _read(path: Path, where: str, limits: Limits) -> bytes:
    _require_file(path, where)
    try:
        size = path.stat().st_size
        _check_bytes(size, where, limits)
        return path.read_bytes()
    except PermissionError:
        raise _no_permission(where) from None
    except OSError as error:
        raise _unreadable(error, where) from error


def _require_file(path: Path, where: str) -> None:
    """Raise unless `path` is a regular file: reading a pipe or a device might never end."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("there is no such file", where=where, mend=_near(path)) from None
    except PermissionError:
        raise _no_permission(where) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error, where) from error
    if not stat.S_ISREG(mode):
        what = "this is a folder" if stat.S_ISDIR(mode) else "this is no regular file"
        raise ImageError(f"{what}, not an image", where=where, mend="give one image file")


def _near(path: Path) -> str:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        siblings = []
    return did_you_mean(path.name, siblings) or "check the path and the name"


def _no_permission(where: str) -> ImageError:
    return ImageError(
        "no permission to read this file",
        where=where,
        mend="give yourself the right to read it (chmod u+r), or copy it",
    )


def _unreadable(error: Exception, where: str) -> ImageError:
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"this file cannot be read: {reason}", where=where, mend="check the path")


def _check_bytes(size: int, where: str, limits: Limits) -> None:
    if size == 0:
        raise ImageError("this file is empty (0 bytes)", where=where, mend=AGAIN)
    if size > limits.max_bytes:
        raise ImageError(
            f"this file has {size} bytes, more than the {limits.max_bytes} allowed",
            where=where,
            mend="give the crop of one cell, or raise max_bytes",
        )


def _check_size(width: int, height: int, where: str, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            f"this image is too large: {width} x {height} pixels, more than {limits.max_pixels} "
            "in all",
            where=where,
            mend="give the crop of one cell, or raise max_pixels",
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            f"this image is too small: {width} x {height} pixels, at least {limits.min_side} a "
            "side are needed",
            where=where,
            mend="give a crop that holds the whole cell",
        )


# --- one image -------------------------------------------------------------------------------


def _from_bytes(data: bytes, name: str, where: str, limits: Limits) -> Rgb:
    _check_bytes(len(data), where, limits)
    kind = kind_of(data, where)
    refuse_other_name(kind, name, where)
    with _told(kind, where):
        image = _opened(data, kind, where, limits)
        image.load()  # turns a TIFF upright; the other formats are turned below
        with _strict_pillow():
            orientation = image.getexif().get(ORIENTATION, 1)
        rgb = _upright(_colours(data, kind, image, where), orientation)
    _refuse_grey(rgb, where)
    return rgb


def _upright(rgb: Rgb, orientation: object) -> Rgb:
    """Undo EXIF's orientation (2 to 8; every other value leaves the array as it is)."""
    turned = rgb.transpose(1, 0, 2) if orientation in (5, 6, 7, 8) else rgb
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


@contextmanager
def _told(kind: str, where: str) -> Iterator[None]:
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
        raise ImageError(
            f"this {kind} file is damaged, cut off or of a kind that cannot be read: {first}",
            where=where,
            mend=AGAIN,
        ) from error


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Pillow's warnings (damaged EXIF, short reads) as errors, for this block only.

    The filters touch only what Pillow itself warns about and are put back; the lock keeps two
    threads from putting back each other's. `Limits.max_pixels` stands for the size warning.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")
        yield


def _opened(data: bytes, kind: str, where: str, limits: Limits) -> Image.Image:
    """The opened image, its checksums, size and number of pages checked, nothing decoded yet."""
    if kind == "PNG":
        for _ in png_chunks(data, where):
            pass
    with _strict_pillow():
        header = Image.open(BytesIO(data), formats=(kind,))
        _check_size(*header.size, where, limits)
        header.verify()  # leaves the image unusable
        image = Image.open(BytesIO(data), formats=(kind,))
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        what = "is animated: it" if kind == "PNG" else "is ambiguous: it"
        raise ImageError(
            f"this {kind} {what} holds {frames} pages or frames, not one image",
            where=where,
            mend="export the one that you mean as a file of its own",
        )
    return image


def _colours(data: bytes, kind: str, image: Image.Image, where: str) -> Rgb:
    if image.mode in GREY_MODES:
        raise _grey(where)
    if image.mode not in COLOUR_MODES:
        raise ImageError(
            f"the colours of this image ({image.mode}) cannot be turned into RGB",
            where=where,
            mend="export it in RGB",
        )
    if is_deep(data, kind, image):
        rgb, opaque = read_deep(data, kind, image, where)
    else:
        rgb, opaque = _shallow(image)
    if not opaque:
        raise ImageError(
            "parts of this image are transparent: what is behind them is not known",
            where=where,
            mend="export it without transparency (flattened, no alpha channel)",
        )
    return rgb


def _shallow(image: Image.Image) -> tuple[Rgb, bool]:
    if image.mode in {"PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), bool((rgba[..., 3] == 255).all())
    return np.array(image.convert("RGB")), True


def _refuse_grey(rgb: Rgb, where: str) -> None:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        raise _grey(where)


def _grey(where: str) -> ImageError:
    return ImageError(
        "this image is greyscale: the stain's colours, which the network was trained on, are gone",
        where=where,
        mend="give the original colour image",
    )


def _cut(rgb: Rgb, box: tuple[int, int, int, int], where: str, limits: Limits) -> Rgb:
    left, top, right, bottom = box
    height, width = rgb.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ImageError(
            f"the box {box} does not lie in this image of {width} x {height} pixels",
            where=where,
            mend="give the box as left, top, right, bottom in pixels of the upright image",
        )
    _check_size(right - left, bottom - top, where, limits)
    return rgb[top:bottom, left:right].copy()


# --- .npz ------------------------------------------------------------------------------------


def _from_npz(ref: ImageRef, where: str, limits: Limits) -> Rgb:
    """One image of an array (N, H, W, 3) uint8, or an array (H, W, 3) without a row.

    Only the asked row is kept, but a compressed member is inflated up to it: readers of a whole
    container should open it once themselves.
    """
    if ref.row is not None:
        where = f"{where}, row {ref.row}"
    if ref.path.suffix.lower() != ".npz" or ref.member is None:
        raise ImageError(
            "members and rows are read from .npz files only, and need the member's name",
            where=where,
            mend="give an image file, or a .npz with its member and row",
        )
    _require_file(ref.path, where)
    with _told(".npz", where), zipfile.ZipFile(ref.path) as archive:
        members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        if ref.member not in members:
            raise ImageError(
                f"there is no array {ref.member!r} in this file",
                where=where,
                mend=did_you_mean(ref.member, members) or f"it holds: {', '.join(members)}",
            )
        with archive.open(f"{ref.member}.npy") as stream:
            rgb = _row(stream, ref.row, where, limits)
    _refuse_grey(rgb, where)
    return rgb


def _row(stream: IO[bytes], row: int | None, where: str, limits: Limits) -> Rgb:
    version = np.lib.format.read_magic(stream)
    header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = header(stream)
    wanted = 3 if row is None else 4
    if dtype != np.uint8 or fortran or len(shape) != wanted or shape[-1] != 3:
        raise ImageError(
            f"this array holds no RGB image{'' if row is None else 's'}: shape {shape}, {dtype}",
            where=where,
            mend="name a uint8 array of shape (N, H, W, 3) and a row, or (H, W, 3) without one",
        )
    if row is not None and not 0 <= row < shape[0]:
        raise ImageError(
            f"there is no row {row}", where=where, mend=f"rows run from 0 to {shape[0] - 1}"
        )
    height, width = shape[-3:-1]
    _check_size(width, height, where, limits)
    size = height * width * 3
    stream.seek((row or 0) * size, 1)
    pixels = stream.read(size)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
