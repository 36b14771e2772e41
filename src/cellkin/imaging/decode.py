"""Files to (H, W, 3) uint8 RGB arrays, safely: refused rather than guessed.

The format is told by the content (PNG, JPEG, BMP, TIFF). Whatever would need a guess is an
`ImageError` that says how to mend it: a name that promises another format, several pages, pixels
that are not opaque, greyscale, an undeclared depth, a file that is cut off. Colour profiles are not
applied, as in the published work: RGB values are taken as they stand in the file.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.core.records import ImageRef
from cellkin.imaging import tiff
from cellkin.imaging.checks import (
    DEFAULT_LIMITS,
    Limits,
    check_bytes,
    check_size,
    grey,
    no_permission,
    refuse_grey,
    require_file,
    told,
    truncation_refused,
    unreadable,
)
from cellkin.imaging.depth import both_bytes, png_full_scale, scaled, tiff_full_scale
from cellkin.imaging.formats import (
    kind_of,
    png_chunks,
    refuse_missing_rows,
    refuse_other_jpeg,
    refuse_other_name,
)
from cellkin.imaging.npz import Member
from cellkin.imaging.readable import only_page
from cellkin.imaging.tiff import orientation_of

__all__ = ["DEFAULT_LIMITS", "Limits", "cut", "decode"]


GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def decode(
    source: Path | ImageRef | bytes, *, name: str = "", limits: Limits = DEFAULT_LIMITS
) -> Bytes:
    """Decode one image.

    EXIF's orientation is applied (that of XMP is not), palettes and CMYK become RGB, opaque alpha
    is dropped, 16 bits per channel are scaled by the declared depth (`cellkin.imaging.depth`).

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
        with Member(ref.path, ref.member, where) as member:
            rgb = member.read(ref.row, where, limits)
    return rgb if ref.box is None else cut(rgb, ref.box, where, limits)


# --- files -----------------------------------------------------------------------------------


def _read(path: Path, where: str, limits: Limits) -> bytes:
    require_file(path, where)
    try:
        size = path.stat().st_size
        check_bytes(size, where, limits)
        return path.read_bytes()
    except PermissionError:
        raise no_permission(where) from None
    except OSError as error:
        raise unreadable(error, where) from error


# --- one image -------------------------------------------------------------------------------


def _from_bytes(data: bytes, name: str, where: str, limits: Limits) -> Bytes:
    check_bytes(len(data), where, limits)
    kind = kind_of(data, where)
    refuse_other_name(kind, name, where)
    with told(kind, where), truncation_refused():
        read = _from_tiff if kind == "TIFF" else _from_other
        rgb, opaque, orientation = read(data, kind, where, limits)
        if not opaque:
            raise ImageError(
                "parts of this image are transparent: what is behind them is not known",
                where=where,
                mend="export it without transparency (flattened, no alpha channel)",
            )
        rgb = _upright(rgb, orientation)
    refuse_grey(rgb, where)
    return rgb


def _from_tiff(data: bytes, kind: str, where: str, limits: Limits) -> tuple[Bytes, bool, int]:
    """The pixels as stored, whether all are opaque, and how the image is turned."""
    page = only_page(data, where)
    check_size(page.value(tiff.WIDTH), page.value(tiff.HEIGHT), where, limits)
    if page.in_planes:
        planes = [np.asarray(_opened(plane, kind, where, limits)) for plane in page.planes()]
        samples = np.stack(planes, axis=-1)
    else:
        alone = page.alone()
        image = _opened(alone, kind, where, limits)
        if page.bits <= 8:
            return *_shallow(image), page.value(tiff.ORIENTATION)
        samples = both_bytes(image, _open(alone, kind))
    full = 255
    if page.bits > 8:
        full = tiff_full_scale(page.values(tiff.MAX_SAMPLE_VALUE), samples[..., :3], where)
    return *scaled(samples, full), page.value(tiff.ORIENTATION)


def _from_other(data: bytes, kind: str, where: str, limits: Limits) -> tuple[Bytes, bool, int]:
    """The pixels as stored, whether all are opaque, and how the image is turned."""
    if kind == "JPEG":
        refuse_other_jpeg(data, where)
    image = _opened(data, kind, where, limits)
    image.load()
    if kind == "PNG" and _ends_black(image):  # or its last row was never there
        refuse_missing_rows(data, where)
    if image.mode in GREY_MODES:
        raise grey(where)
    if kind == "PNG" and data[24] > 8:  # bits per sample
        rgb, opaque = _deep_png(data, image, where)
    else:
        rgb, opaque = _shallow(image)
    return rgb, opaque, _orientation(image, where)


def _ends_black(image: Image.Image) -> bool:
    """Whether all samples of the last row are zero; only that row is copied."""
    return not any(image.crop((0, image.height - 1, *image.size)).tobytes())


def _orientation(image: Image.Image, where: str) -> int:
    """EXIF's orientation. That of XMP is not asked for: other programs do not turn by it."""
    exif = image.info.get("exif", b"")
    if not exif and "Raw profile type exif" in image.info:  # as ImageMagick writes it into PNG
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    exif = re.sub(b"^(Exif\0\0){1,2}", b"", exif)
    return orientation_of(exif, where) if exif else 1


def _upright(rgb: Bytes, orientation: object) -> Bytes:
    """Undo EXIF's orientation (2 to 8; every other value leaves the array as it is)."""
    turned = rgb.transpose(1, 0, 2) if orientation in (5, 6, 7, 8) else rgb
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Pillow's warnings (short reads, a broken animation) as errors, for this block only.

    The filters touch only what Pillow itself warns about and are put back; the lock keeps two
    threads from putting back each other's. `Limits.max_pixels` stands for the size warning, and
    `cellkin.imaging.tiff` reads what counts in EXIF, where Pillow warns of private tags too.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
        yield


def _open(data: bytes, kind: str) -> Image.Image:
    with _strict_pillow():
        return Image.open(BytesIO(data), formats=(kind,))


def _opened(data: bytes, kind: str, where: str, limits: Limits) -> Image.Image:
    """The opened image, its checksums, size and number of pages checked, nothing decoded yet."""
    if kind == "PNG":
        for _ in png_chunks(data, where):
            pass
    with _strict_pillow():
        header = Image.open(BytesIO(data), formats=(kind,))
        check_size(*header.size, where, limits)
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


def _deep_png(data: bytes, image: Image.Image, where: str) -> tuple[Bytes, bool]:
    samples = both_bytes(image, _open(data, "PNG"))
    colour = samples[..., :3]
    rgb, opaque = scaled(samples, png_full_scale(data, colour, where))
    if "transparency" in image.info:  # one colour that stands for nothing
        opaque = not (colour == image.info["transparency"]).all(axis=-1).any()
    return rgb, opaque


def _shallow(image: Image.Image) -> tuple[Bytes, bool]:
    if image.mode in {"PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), bool((rgba[..., 3] == 255).all())
    return np.array(image.convert("RGB")), True


def cut(
    rgb: Bytes, box: tuple[int, int, int, int], where: str, limits: Limits = DEFAULT_LIMITS
) -> Bytes:
    """The part of an upright image inside a box (left, top, right, bottom), its own memory.

    Raises:
        ImageError: the box does not lie in the image, or is smaller than `limits.min_side`.
    """
    left, top, right, bottom = box
    height, width = rgb.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ImageError(
            f"the box {box} does not lie in this image of {width} x {height} pixels",
            where=where,
            mend="give the box as left, top, right, bottom in pixels of the upright image",
        )
    check_size(right - left, bottom - top, where, limits)
    return rgb[top:bottom, left:right].copy()
