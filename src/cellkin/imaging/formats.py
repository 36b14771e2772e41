"""What a file holds, told by its bytes, and whether its name says the same."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePath

from cellkin.core.errors import ImageError
from cellkin.imaging.checks import FIELDS

KINDS: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
}
"""The formats that are read, each with the extensions that promise it."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# of an interlaced PNG's seven passes: first column and row, then the steps of both
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
PIECE = 1 << 16
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LOSSLESS_JPEG = {0xC3, 0xC7, 0xCB, 0xCF, 0xF7}
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that a frame's header follows
BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}

# Offset and signature of what people hand over in place of an image.
STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"\0\0\1\0", "a Windows icon"),
    (0, b"\0\0\2\0", "a Windows cursor"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"P5\n", "a portable greymap"),
    (0, b"P6\n", "a portable pixmap"),
    (0, b"ZISRAWFILE", "a microscope's own file (Zeiss CZI)"),
    (0, b"\xda\xce\xbe\x0a", "a microscope's own file (Nikon ND2)"),
    (0, b"\x70\0\0\0", "a microscope's own file (Leica LIF)"),
    (0, b"\xd0\xcf\x11\xe0", "an OLE file (an old microscope's or Office document)"),
    (0, b"\x89HDF", "an HDF5 file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"SQLite format 3", "an SQLite database"),
)


def kind_of(data: bytes, where: str) -> str:
    """The format of an image's bytes: one of `KINDS`.

    Raises:
        ImageError: the bytes are none of these formats; the message says what they are.
    """
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(TIFF_SIGNATURES):
        return "TIFF"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in BMP_HEADER_SIZES:
        return "BMP"
    raise ImageError(
        f"this is no PNG, JPEG, BMP or TIFF image: it holds {_stranger(data)}",
        where=where,
        mend="give the image itself, exported as PNG, JPEG, BMP or TIFF in RGB by the program that "
        f"made it; {FIELDS}",
    )


def _stranger(data: bytes) -> str:
    for offset, signature, words in STRANGERS:
        if data[offset : offset + len(signature)] == signature:
            return words
    try:
        text = data[:512].decode("ascii").lstrip().lower()
    except UnicodeDecodeError:
        return "bytes of no known format"
    if text.startswith(("<!doctype html", "<html")):
        return "a web page"
    if text.startswith(("<?xml", "<svg")):
        return "XML text"
    return "text" if text.isprintable() or "\n" in text else "bytes of no known format"


def refuse_other_name(kind: str, name: str, where: str) -> None:
    """Raise where a file's extension promises another format than its bytes hold.

    An unknown extension, or none, promises nothing and passes.

    Raises:
        ImageError: the name and the content disagree.
    """
    suffix = PurePath(name).suffix.lower()
    promised = next((k for k, suffixes in KINDS.items() if suffix in suffixes), kind)
    if promised != kind:
        renamed = PurePath(name).with_suffix(KINDS[kind][0]).name
        raise ImageError(
            f"this file is called {suffix} but holds a {kind} image",
            where=where,
            mend=f"if it is the right image, rename it to {renamed}; else export it again as "
            f"{promised}",
        )


def refuse_other_jpeg(data: bytes, where: str) -> None:
    """Raise where a JPEG is of a kind that Pillow does not decode: 12 bits, or lossless.

    Raises:
        ImageError: it is one of the two.
    """
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, size, bits = (
            data[at + 1],
            int.from_bytes(data[at + 2 : at + 4], "big"),
            data[at + 4],
        )
        if marker in LOSSLESS_JPEG or (marker in JPEG_FRAMES and bits != 8):
            what = "lossless" if marker in LOSSLESS_JPEG else f"of {bits} bits per channel"
            raise ImageError(
                f"this JPEG is {what}, which is not read",
                where=where,
                mend="export it in RGB as 8-bit PNG, or as 16-bit TIFF that declares its depth "
                "(tag 281, MaxSampleValue)",
            )
        if marker in JPEG_FRAMES:
            return
        at += 1 if marker == 0xFF else 2 + size


def png_chunks(data: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk of a PNG, up to its end mark.

    Raises:
        ImageError: the file ends before its end mark.
    """
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        yield data[at + 4 : at + 8], data[at + 8 : end]
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end + 4
    raise ImageError(
        "this PNG file is cut off: its end is missing",
        where=where,
        mend="copy it again from its source",
    )


def refuse_missing_rows(data: bytes, where: str) -> None:
    """Raise where a whole PNG holds fewer rows than it says; its decoder would leave them black.

    Raises:
        ImageError: rows are missing, or the file ends before its end mark.
    """
    chunks = list(png_chunks(data, where))
    wide, high, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    bits = depth * PNG_CHANNELS[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(wide - x) // dx), -(-(high - y) // dy)) for x, y, dx, dy in passes]
    missing = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0)
    inflate = zlib.decompressobj()
    for packed in (body for name, body in chunks if name == b"IDAT"):
        while packed and missing > 0:
            missing -= len(inflate.decompress(packed, PIECE))
            packed = inflate.unconsumed_tail
    if missing > 0:
        raise ImageError(
            f"this PNG file holds fewer rows than the {high} it says",
            where=where,
            mend="copy it again from its source, or export it again",
        )
