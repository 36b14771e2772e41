"""Decoding and preparing images: every faulty file is refused in words, every good one is exact."""

from __future__ import annotations

import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from cellkin.core.arrays import Array
from cellkin.core.errors import CellkinError, DataError, ImageError, RecipeError
from cellkin.core.records import ImageRef
from cellkin.imaging.decode import Limits, decode
from cellkin.imaging.formats import refuse_missing_rows
from cellkin.imaging.preprocess import LITE0_MEAN, LITE0_STD, Preprocessor, packaged_lite0

ORIENTATION = 274


def cell(height: int = 40, width: int = 50, seed: int = 0) -> Array:
    """A random colour image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 64, width: int = 48) -> Array:
    """A colour ramp, which JPEG keeps within a few grey levels."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], 2).astype("u1")


def encoded(array: Array, kind: str, mode: str | None = None, **options: Any) -> bytes:
    file = BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


# --- files written by hand, since Pillow writes no 16-bit colour -----------------------------


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(header: tuple[int, int, int, int, int], rows: bytes) -> bytes:
    """A PNG of width, height, depth, colour type and interlacing around rows as they are given."""
    wide, high, depth, colour, interlaced = header
    ihdr = struct.pack(">IIBBBBB", wide, high, depth, colour, 0, 0, interlaced)
    parts = [(b"IHDR", ihdr), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def adam7_bytes(wide: int, high: int, bits: int) -> int:
    """Bytes of an interlaced PNG, counted pixel by pixel by the picture in its specification."""
    odd = "77777777"
    pattern = ["16462646", odd, "56565656", odd, "36463646", odd, "56565656", odd]
    rows: dict[tuple[int, int], int] = {}
    for y in range(high):
        for x in range(wide):
            key = int(pattern[y % 8][x % 8]), y
            rows[key] = rows.get(key, 0) + bits
    return sum(1 + -(-count // 8) for count in rows.values())


def png(samples: Array, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W, 3 or 4) uint8 or uint16 samples, with extra chunks before the pixels."""
    height, width, channels = samples.shape
    depth, colour = samples.dtype.itemsize * 8, {3: 2, 4: 6}[channels]
    big = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def tiff(samples: Array, order: str = "<", **tags: list[int]) -> bytes:
    """An uncompressed RGB(A) TIFF of uint16 samples with extra tags (t281=[4095], ...)."""
    height, width, channels = samples.shape
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    wanted = {256: [width], 257: [height], 258: [16] * channels, 259: [1], 262: [2], 273: [0]}
    wanted |= {277: [channels], 278: [height], 279: [len(pixels)]}
    wanted |= {int(key[1:]): value for key, value in tags.items()}
    after = 8 + 2 + 12 * len(wanted) + 4
    wide = sorted(tag for tag, values in wanted.items() if len(values) > 2)
    places = {tag: after + sum(2 * len(wanted[t]) for t in wide if t < tag) for tag in wide}
    wanted[273] = [after + sum(2 * len(wanted[t]) for t in wide)]
    entries = b""
    for tag, values in sorted(wanted.items()):
        code = "I" if tag in (273, 279) else "H"
        raw = struct.pack(f"{order}{len(values)}{code}", *values).ljust(4, b"\0")
        raw = struct.pack(f"{order}I", places[tag]) if tag in places else raw
        entries += struct.pack(f"{order}HHI", tag, 4 if code == "I" else 3, len(values)) + raw
    magic = b"II*\0" if order == "<" else b"MM\0*"
    blob = b"".join(struct.pack(f"{order}{len(wanted[t])}H", *wanted[t]) for t in wide)
    head = magic + struct.pack(f"{order}IH", 8, len(wanted))
    return head + entries + struct.pack(f"{order}I", 0) + blob + pixels


def deep(high: int = 65535, height: int = 20, width: int = 24, channels: int = 3) -> Array:
    rng = np.random.default_rng(7)
    samples = rng.integers(0, high + 1, (height, width, channels), dtype=np.uint16)
    samples[0, 0] = high
    return samples


def to_8_bits(samples: Array, full: int) -> Array:
    """Naive scaling, halves away from zero."""
    return np.floor(samples.astype(float) * 255 / full + 0.5).astype(np.uint8)


# --- what is refused -------------------------------------------------------------------------


def apng() -> bytes:
    frames = [Image.fromarray(cell(seed=s)) for s in (1, 2)]
    file = BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


def pages() -> bytes:
    file = BytesIO()
    Image.fromarray(cell()).save(
        file, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    )
    return file.getvalue()


def pictures() -> bytes:
    file = BytesIO()
    Image.fromarray(cell()).save(
        file, "MPO", save_all=True, append_images=[Image.fromarray(cell(seed=1))]
    )
    return file.getvalue()


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", b""), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def see_through() -> bytes:
    rgba = np.dstack([cell(), np.full((40, 50), 255, np.uint8)])
    rgba[5, 5, 3] = 254
    return encoded(rgba, "PNG")


def palette_with_hole() -> bytes:
    image = Image.fromarray(cell()).quantize(16)
    file = BytesIO()
    image.save(file, "PNG", transparency=int(np.asarray(image)[0, 0]))
    return file.getvalue()


def grey_rgb() -> bytes:
    return encoded(np.repeat(cell()[..., :1], 3, axis=2), "PNG")


def bad_crc() -> bytes:
    """Whole pixels under a checksum that says otherwise: only verifying finds it."""
    data = bytearray(png(cell()))
    data[data.index(b"IEND") - 5] ^= 255
    return bytes(data)


def deep_see_through() -> bytes:
    samples = deep(channels=4)
    samples[..., 3] = 65535
    samples[3, 4, 3] = 65534
    return png(samples)


def padded_14_bits() -> bytes:
    return png(deep(4095) << 2, (b"sBIT", b"\x0e\x0e\x0e"))


def damaged_exif() -> bytes:
    return encoded(smooth(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01")


def grey16() -> bytes:
    return encoded(deep()[..., 0], "PNG")


Make = Callable[[], bytes]

BAD: dict[str, tuple[str, Make, str]] = {
    "empty": ("a.png", lambda: b"", "empty"),
    "text called png": ("a.png", lambda: b"not an image\n", "it holds text"),
    "web page called jpg": ("a.jpg", lambda: b"<!DOCTYPE html><html>", "a web page"),
    "gif": ("a.gif", lambda: encoded(cell(), "GIF"), "a GIF image"),
    "webp called png": ("a.png", lambda: encoded(cell(), "WEBP"), "a WebP image"),
    "pdf": ("a.pdf", lambda: b"%PDF-1.7\n\xff", "a PDF document"),
    "zip called tif": ("a.tif", lambda: b"PK\x03\x04" + bytes(40), "a zip archive"),
    "noise": ("a.bmp", lambda: bytes(range(128, 250)), "bytes of no known format"),
    "jpeg called png": ("a.png", lambda: encoded(smooth(), "JPEG"), "called .png but holds a JPEG"),
    "png called tif": ("a.TIF", lambda: png(cell()), "called .tif but holds a PNG"),
    "bmp called jpg": ("a.jpg", lambda: encoded(cell(), "BMP"), "called .jpg but holds a BMP"),
    "tiff called bmp": ("a.bmp", lambda: encoded(cell(), "TIFF"), "called .bmp but holds a TIFF"),
    "png cut": ("a.png", lambda: png(cell())[:-300], "cut off"),
    "png without last byte": ("a.png", lambda: png(cell())[:-1], "cut off"),
    "png rows missing": (
        "a.png",
        lambda: png_of((50, 40, 8, 2, 0), b"".join(b"\0" + bytes(row) for row in cell()[:8])),
        "fewer rows than the 40 it says",
    ),
    "png signature only": ("a.png", lambda: png(cell())[:8], "cut off"),
    "jpeg cut": ("a.jpg", lambda: encoded(cell(), "JPEG")[:-400], "truncated"),
    "jpeg without end mark": ("a.jpg", lambda: encoded(cell(), "JPEG")[:-2], "truncated"),
    "progressive jpeg cut": (
        "a.jpg",
        lambda: encoded(cell(), "JPEG", progressive=True)[:-400],
        "truncated",
    ),
    "bmp cut": ("a.bmp", lambda: encoded(cell(), "BMP")[:-50], "truncated"),
    "tiff cut": ("a.tif", lambda: tiff(deep())[:-50], "cut off"),
    "tiff header only": ("a.tif", lambda: tiff(deep())[:20], "cut off"),
    "png checksum": ("a.png", bad_crc, "damaged"),
    "damaged exif": ("a.jpg", damaged_exif, "EXIF data that say .* are damaged"),
    "animated png": ("a.png", apng, "animated"),
    "tiff pages": ("a.tif", pages, "ambiguous: it holds 2 pages"),
    "huge header": ("a.png", huge_png, "too large"),
    "too small": ("a.png", lambda: png(cell(15, 40)), "too small"),
    "grey png": ("a.png", lambda: encoded(cell(), "PNG", "L"), "greyscale"),
    "grey jpeg": ("a.jpg", lambda: encoded(cell(), "JPEG", "L"), "greyscale"),
    "grey with alpha": ("a.png", lambda: encoded(cell(), "PNG", "LA"), "greyscale"),
    "black and white": ("a.bmp", lambda: encoded(cell(), "BMP", "1"), "greyscale"),
    "grey tiff": ("a.tif", lambda: encoded(cell(), "TIFF", "L"), "greyscale"),
    "grey float tiff": ("a.tif", lambda: encoded(cell(), "TIFF", "F"), "greyscale"),
    "grey 16 bits": ("a.png", grey16, "greyscale"),
    "grey stored as rgb": ("a.png", grey_rgb, "greyscale"),
    "grey palette": ("a.png", lambda: encoded(cell()[..., 0], "PNG", "P"), "greyscale"),
    "transparent": ("a.png", see_through, "transparent"),
    "transparent palette": ("a.png", palette_with_hole, "transparent"),
    "transparent 16 bits": ("a.png", deep_see_through, "transparent"),
    "lab": ("a.tif", lambda: encoded(cell(), "TIFF", "LAB"), r"\(LAB\) that cannot be turned"),
    "16-bit png either way": ("a.png", padded_14_bits, "declares 14 bits"),
    "sbit of other length": ("a.png", lambda: png(deep(), (b"sBIT", b"\x0c")), "sBIT"),
    "sbit unequal": ("a.png", lambda: png(deep(), (b"sBIT", b"\x0c\x0c\x0a")), "sBIT"),
    "tiff exceeds its depth": (
        "a.tif",
        lambda: tiff(deep(5000), t281=[4095] * 3),
        "up to 4095 but holds 5000",
    ),
    "12-bit packed tiff": ("a.tif", lambda: tiff(deep(), t258=[12] * 3), "12 bits, packed"),
    "16-bit cmyk": (
        "a.tif",
        lambda: tiff(deep(channels=4), t262=[5]),
        "more than 8 bits per channel",
    ),
    "several pictures in a jpeg": ("a.jpg", pictures, "ambiguous: it holds 2"),
    "tiff maximum is nothing": ("a.tif", lambda: tiff(deep(), t281=[0] * 3), "no depth"),
    "tiff maximum is a statistic": (
        "a.tif",
        lambda: tiff(deep(3871), t281=[3871] * 3),
        "no depth.*3871",
    ),
}


def assert_said(error: CellkinError, name: str) -> None:
    assert error.what
    assert error.mend
    assert name in error.where


@pytest.mark.parametrize("case", BAD)
def test_a_faulty_file_is_refused_in_words(case: str, tmp_path: Path) -> None:
    name, make, words = BAD[case]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(ImageError, match=words) as caught:
        decode(path)
    assert_said(caught.value, name)


@pytest.mark.parametrize("case", BAD)
def test_faulty_bytes_are_refused_in_the_same_words(case: str) -> None:
    name, make, words = BAD[case]
    with pytest.raises(ImageError, match=words) as caught:
        decode(make(), name=name)
    assert_said(caught.value, name)


def test_a_mislabelled_file_is_told_its_right_name() -> None:
    with pytest.raises(ImageError) as caught:
        decode(encoded(smooth(), "JPEG"), name="cell 7.png")
    assert "rename it to cell 7.jpg" in caught.value.mend


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "cell_01.png").write_bytes(png(cell()))
    with pytest.raises(ImageError, match="no such file") as caught:
        decode(tmp_path / "cel_01.png")
    assert_said(caught.value, "cel_01.png")
    assert "cell_01.png" in caught.value.mend


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, words in [
        ("folder.png", "folder"),
        ("pipe.png", "no regular file"),
        ("loop.png", "cannot be read"),
        ("x" * 300 + ".png", "cannot be read"),
        ("a\0b.png", "cannot be read"),
        ("folder.png/none/cell.png", "no such file"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            decode(tmp_path / name)
        assert_said(caught.value, name)


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(self: Path) -> bytes:  # chmod does not stop the superuser, who may run these tests
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "locked.png").write_bytes(png(cell()))
    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(ImageError, match="no permission") as caught:
        decode(tmp_path / "locked.png")
    assert_said(caught.value, "locked.png")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_bytes=100), "bytes, more than the 100 allowed"),
        (Limits(max_pixels=1999), "too large: 50 x 40"),
        (Limits(min_side=41), "too small: 50 x 40"),
    ],
)
def test_limits_can_be_set_and_are_sharp(limits: Limits, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(cell()))
    with pytest.raises(ImageError, match=words):
        decode(path, limits=limits)
    size = path.stat().st_size
    exact = Limits(max_bytes=size, max_pixels=2000, min_side=40)
    assert np.array_equal(decode(path, limits=exact), cell())


def test_a_large_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: Path) -> bytes:
        raise AssertionError("read before its size was checked")

    (tmp_path / "slide.tif").write_bytes(GOOD["TIFF"])
    monkeypatch.setattr(Path, "read_bytes", explode)
    with pytest.raises(ImageError, match="more than the 99 allowed") as caught:
        decode(tmp_path / "slide.tif", limits=Limits(max_bytes=99))
    assert_said(caught.value, "slide.tif")


def test_size_is_read_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: Any) -> None:
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", explode)
    with pytest.raises(ImageError, match="too large"):
        decode(encoded(cell(), "BMP"), limits=Limits(max_pixels=10))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "PNG16", "TIFF16"]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.floats(0.02, 1),
)
def test_damaged_bytes_give_an_image_or_an_image_error(
    kind: str, edits: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(GOOD[kind])
    for place, value in edits:
        data[int(place * min(len(data), 700))] = value
    try:
        rgb = decode(bytes(data[: int(cut * len(data))]), name="x", limits=Limits(max_pixels=10**6))
    except ImageError as error:
        assert_said(error, "x")
    else:
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3


def test_no_global_state_is_changed() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    def work() -> None:
        for data in GOOD.values():
            decode(data)
        for case in ("damaged exif", "jpeg cut", "tiff cut"):
            with pytest.raises(ImageError):
                decode(BAD[case][1]())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    assert after == before


@pytest.mark.parametrize("case", ["jpeg cut", "bmp cut", "tiff cut"])
def test_a_switch_of_another_library_fills_nothing_in(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match="cut off"):
        decode(BAD[case][1]())
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_threads_do_not_put_back_each_others_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to come leaves first: unguarded, the second would put back the first's filters."""
    opened = Image.open
    naps = {"first": 0.05, "second": 0.1}

    def slow(*args: Any, **options: Any) -> Image.Image:
        time.sleep(naps[threading.current_thread().name])
        return opened(*args, **options)

    monkeypatch.setattr(Image, "open", slow)
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode, args=(GOOD["PNG"],), name=name) for name in naps]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("colour", [2, 3, 6])
@pytest.mark.parametrize("interlaced", [0, 1])
@given(wide=st.integers(1, 20), high=st.integers(1, 20), deep=st.booleans())
def test_a_png_with_all_its_rows_passes_and_one_byte_less_does_not(
    colour: int, interlaced: int, wide: int, high: int, deep: bool
) -> None:
    depth = (1 if deep else 4) if colour == 3 else (16 if deep else 8)
    bits = depth * {2: 3, 3: 1, 6: 4}[colour]
    plain = high * (1 + -(-wide * bits // 8))
    whole = adam7_bytes(wide, high, bits) if interlaced else plain
    header = (wide, high, depth, colour, interlaced)
    refuse_missing_rows(png_of(header, bytes(whole)), "a.png")
    with pytest.raises(ImageError, match=f"fewer rows than the {high} it says"):
        refuse_missing_rows(png_of(header, bytes(whole - 1)), "a.png")


# --- what is decoded -------------------------------------------------------------------------

GOOD: dict[str, bytes] = {
    "PNG": png(cell()),
    "JPEG": encoded(smooth(), "JPEG", quality=95),
    "BMP": encoded(cell(), "BMP"),
    "TIFF": encoded(cell(), "TIFF"),
    "TIFF lzw": encoded(cell(), "TIFF", compression="tiff_lzw"),
    "PNG16": png(deep()),
    "TIFF16": tiff(deep()),
}


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "TIFF lzw"])
def test_lossless_formats_come_back_exactly(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "no_extension"
    path.write_bytes(GOOD[kind])
    for rgb in (decode(path), decode(ImageRef(path)), decode(GOOD[kind])):
        assert np.array_equal(rgb, cell())
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous
        assert rgb.flags.writeable


def test_jpeg_comes_back_closely() -> None:
    difference = np.abs(decode(GOOD["JPEG"]).astype(int) - smooth())
    assert difference.mean() < 3


RED = np.zeros((20, 24, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
REDS: dict[str, bytes] = {
    "PNG": png(RED),
    "PNG with alpha": encoded(RED, "PNG", "RGBA"),
    "PNG palette": encoded(RED, "PNG", "P"),
    "PNG 16 bits": png(RED.astype(np.uint16) * 257),
    "PNG 16 bits with alpha": png(
        np.dstack([RED, np.full((20, 24), 255)]).astype(np.uint16) * np.uint16(257)
    ),
    "BMP": encoded(RED, "BMP"),
    "BMP palette": encoded(RED, "BMP", "P"),
    "TIFF": encoded(RED, "TIFF"),
    "TIFF CMYK": encoded(RED, "TIFF", "CMYK"),
    "TIFF 16 bits": tiff(RED.astype(np.uint16) * 257),
    "TIFF 16 bits, big-endian": tiff(RED.astype(np.uint16) * 257, ">"),
    "JPEG": encoded(RED, "JPEG", quality=100, subsampling=0),
    "JPEG CMYK": encoded(RED, "JPEG", "CMYK", quality=100),
}


@pytest.mark.parametrize("kind", REDS)
def test_fault_06_images_are_rgb_never_bgr(kind: str) -> None:
    """The published explanations read BGR: here red is red in every format."""
    rgb = decode(REDS[kind])
    lossy = 2 if kind.startswith("JPEG") else 0
    assert rgb.shape == (20, 24, 3)
    assert np.abs(rgb.astype(int) - (255, 0, 0)).max() <= lossy


def test_palette_and_opaque_alpha_keep_the_colours() -> None:
    quantized = Image.fromarray(cell()).quantize(32)
    file = BytesIO()
    quantized.save(file, "PNG")
    assert np.array_equal(decode(file.getvalue()), np.asarray(quantized.convert("RGB")))
    rgba = np.dstack([cell(), np.full((40, 50), 255, np.uint8)])
    assert np.array_equal(decode(encoded(rgba, "PNG")), cell())


def test_cmyk_jpeg_keeps_the_colours() -> None:
    rgb = decode(encoded(smooth(), "JPEG", "CMYK", quality=95))
    assert np.abs(rgb.astype(int) - smooth()).mean() < 3


def upright(array: Array, orientation: int) -> Array:
    """EXIF's definition, pixel by pixel: where row 0 and column 0 of the stored image belong."""
    height, width = array.shape[:2]
    swap = orientation >= 5
    turned = np.zeros((width, height, 3) if swap else (height, width, 3), array.dtype)
    for y in range(height):
        for x in range(width):
            down, right = height - 1 - y, width - 1 - x
            place = [(y, x), (y, right), (down, right), (down, x)]
            place += [(x, y), (x, down), (right, down), (right, y)]
            turned[place[orientation - 1]] = array[y, x]
    return turned


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    wanted = upright(cell(), orientation)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode(encoded(cell(), kind, exif=exif)), wanted)
    jpeg = decode(encoded(smooth(), "JPEG", quality=95, exif=exif))
    assert np.abs(jpeg.astype(int) - upright(smooth(), orientation)).mean() < 3
    samples = deep()
    wanted = to_8_bits(upright(samples, orientation), 65535)
    assert np.array_equal(decode(tiff(samples, t274=[orientation])), wanted)
    assert np.array_equal(decode(png(samples, (b"eXIf", exif.tobytes()[6:]))), wanted)


@pytest.mark.parametrize(
    ("data", "samples", "full"),
    [
        (png(deep()), deep(), 65535),
        (png(deep(32768)), deep(32768), 65535),
        (png(deep(4095), (b"sBIT", b"\x0c\x0c\x0c")), deep(4095), 4095),
        (png(deep(1000), (b"sBIT", b"\x0c\x0c\x0c")), deep(1000), 4095),
        (png(deep(4095) << 4, (b"sBIT", b"\x0c\x0c\x0c")), deep(4095) << 4, 65535),
        (png(deep(9000), (b"sBIT", b"\x0e\x0e\x0e")), deep(9000), 16383),
        (png(deep(1000), (b"sBIT", b"\x10\x10\x10")), deep(1000), 65535),
        (tiff(deep()), deep(), 65535),
        (tiff(deep(), ">"), deep(), 65535),
        (tiff(deep(4095), t281=[4095] * 3), deep(4095), 4095),
        (tiff(deep(1000), ">", t281=[4095] * 3), deep(1000), 4095),
        (tiff(deep(1000), t281=[65535] * 3), deep(1000), 65535),
    ],
)
def test_16_bits_are_scaled_by_the_declared_depth(data: bytes, samples: Array, full: int) -> None:
    assert np.array_equal(decode(data), to_8_bits(samples, full))


@pytest.mark.parametrize("bits", range(9, 17))
@pytest.mark.parametrize("make", [png, tiff])
def test_an_undeclared_depth_is_not_taken_for_16_bits(
    make: Callable[..., bytes], bits: int
) -> None:
    """One rule for 9 to 15 bits: a camera's samples in the low bits would come out too dark."""
    samples = deep((1 << bits) - 1)
    if bits == 16:
        assert np.array_equal(decode(make(samples)), to_8_bits(samples, 65535))
        return
    with pytest.raises(ImageError, match=f"ambiguous.*{samples.max()}") as caught:
        decode(make(samples))
    assert "MaxSampleValue" in caught.value.mend
    declared = (b"sBIT", bytes([bits] * 3))
    data = png(samples, declared) if make is png else tiff(samples, t281=[samples.max()] * 3)
    assert np.array_equal(decode(data), to_8_bits(samples, (1 << bits) - 1))


def test_16_bits_known_values() -> None:
    """0, half and full light of a 12-bit camera, whatever else is in the image."""
    samples = np.zeros((16, 16, 3), np.uint16)
    samples[0, 0], samples[0, 1] = (0, 2048, 4095), (4095, 16, 8)
    rgb = decode(tiff(samples, t281=[4095] * 3))
    assert rgb[0, 0].tolist() == [0, 128, 255]
    assert rgb[0, 1].tolist() == [255, 1, 0]


def test_16_bits_opaque_alpha_is_dropped() -> None:
    samples = deep(4095, channels=4)
    samples[..., 3] = 4095
    wanted = to_8_bits(samples[..., :3], 4095)
    assert np.array_equal(decode(tiff(samples, t281=[4095] * 4, t338=[2])), wanted)
    assert np.array_equal(decode(png(samples, (b"sBIT", b"\x0c" * 4))), wanted)


def test_16_bits_unspecified_fourth_channel_is_no_alpha() -> None:
    samples = deep(channels=4)
    assert np.array_equal(decode(tiff(samples, t338=[0])), to_8_bits(samples[..., :3], 65535))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_that_no_pixel_has_is_no_transparency(depth: int) -> None:
    samples = cell() if depth == 8 else deep()
    key = struct.pack(">HHH", 1, 2, 3)
    wanted = samples if depth == 8 else to_8_bits(samples, 65535)
    assert np.array_equal(decode(png(samples, (b"tRNS", key))), wanted)
    key = struct.pack(">HHH", *samples[3, 3].tolist())
    with pytest.raises(ImageError, match="transparent"):
        decode(png(samples, (b"tRNS", key)))


def test_a_box_is_cut_from_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "field.png"
    path.write_bytes(encoded(cell(60, 80), "PNG", exif=exif))
    box = (3, 40, 33, 80)
    rgb = decode(ImageRef(path, box=box))
    assert np.array_equal(rgb, upright(cell(60, 80), 6)[40:80, 3:33])
    assert rgb.flags.c_contiguous
    assert rgb.flags.owndata


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 51, 40), "does not lie in"),
        ((-1, 0, 40, 40), "does not lie in"),
        ((30, 0, 10, 40), "does not lie in"),
        ((0, 0, 50, 15), "too small"),
    ],
)
def test_an_impossible_box_is_refused(
    box: tuple[int, int, int, int], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "field.png"
    path.write_bytes(png(cell()))
    with pytest.raises(ImageError, match=words) as caught:
        decode(ImageRef(path, box=box))
    assert_said(caught.value, "field.png")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    images = np.stack([cell(28, 28, seed) for seed in range(5)])
    path = tmp_path / "cells.npz"
    np.savez_compressed(path, images=images, one=cell(), grey=images[..., 0], f=images / 255)
    return path


def test_rows_of_a_container(container: Path) -> None:
    for row in (0, 3, 4):
        rgb = decode(ImageRef(container, member="images", row=row))
        assert np.array_equal(rgb, cell(28, 28, row))
    assert np.array_equal(decode(ImageRef(container, member="one")), cell())
    box = ImageRef(container, member="images", row=1, box=(2, 3, 20, 21))
    assert np.array_equal(decode(box), cell(28, 28, 1)[3:21, 2:20])


@pytest.mark.parametrize(
    ("member", "row", "words"),
    [
        ("images", 5, "no row 5"),
        ("images", -1, "no row -1"),
        ("imagse", 0, "no array 'imagse'"),
        (None, 0, "need the member's name"),
        ("grey", 0, "holds no RGB images"),
        ("f", 0, "holds no RGB images"),
        ("images", None, "holds no RGB image: shape"),
        ("one", 0, "holds no RGB images"),
    ],
)
def test_an_impossible_row_is_refused(
    member: str | None, row: int | None, words: str, container: Path
) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decode(ImageRef(container, member=member, row=row))
    assert_said(caught.value, "cells.npz")


def test_a_damaged_container_is_refused(container: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(container.read_bytes()[:-60])
    (tmp_path / "cells.zip").write_bytes(container.read_bytes())
    for name, words in [
        ("cut.npz", "damaged"),
        ("none.npz", "no such file"),
        ("cells.zip", r"only"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            decode(ImageRef(tmp_path / name, member="images", row=4))
        assert_said(caught.value, name)


# --- preparing -------------------------------------------------------------------------------

sides = st.integers(16, 70)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, size=st.integers(8, 64), seed=st.integers(0, 99))
def test_prepare_has_its_size_and_is_idempotent(
    height: int, width: int, size: int, seed: int
) -> None:
    preprocessor = packaged_lite0(size)
    image = cell(height, width, seed)
    kept = image.copy()
    once = preprocessor.prepare(image)
    assert once.shape == (size, size, 3)
    assert once.dtype == np.uint8
    assert once.flags.c_contiguous
    assert np.array_equal(preprocessor.prepare(once), once)
    assert not np.shares_memory(preprocessor.prepare(once), once)
    assert np.array_equal(image, kept)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(16, 40), extra=st.integers(0, 21), tall=st.booleans())
def test_the_crop_is_centred_with_offsets_rounded_down(size: int, extra: int, tall: bool) -> None:
    height, width = (size + extra, size) if tall else (size, size + extra)
    image = cell(height, width)
    y, x = (extra // 2, 0) if tall else (0, extra // 2)
    wanted = image[y : y + size, x : x + size]
    assert np.array_equal(packaged_lite0(size).prepare(image), wanted)


def test_the_border_outside_the_crop_is_never_seen() -> None:
    image = cell(100, 60)
    framed = image.copy()
    framed[:20], framed[80:] = 255, 0
    preprocessor = packaged_lite0(32)
    assert np.array_equal(preprocessor.prepare(framed), preprocessor.prepare(image))


def test_shrinking_is_antialiased() -> None:
    """A checkerboard of single pixels shrinks to its mean; without antialiasing it would not."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    image = np.stack([board, 255 - board, board], 2)
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        small = packaged_lite0(32, interpolation).prepare(image)
        assert np.abs(small.astype(int) - 127).max() <= 3


def test_prepare_many_equals_one_by_one() -> None:
    images = [cell(30, 50, 1), cell(64, 40, 2), cell(24, 24, 3)]
    preprocessor = packaged_lite0(24)
    many = preprocessor.prepare_many(images)
    assert np.array_equal(many, np.stack([preprocessor.prepare(image) for image in images]))
    assert preprocessor.prepare_many([]).shape == (0, 24, 24, 3)


def test_normalize_equals_a_naive_loop() -> None:
    preprocessor = Preprocessor(size=6, mean=(10.5, 200.25, 99), std=(31.7, 5, 255))
    prepared = cell(12, 6).reshape(2, 6, 6, 3)
    scores = preprocessor.normalize(prepared)
    assert scores.shape == (2, 3, 6, 6)
    assert scores.dtype == np.float32
    assert scores.transpose(0, 2, 3, 1).flags.c_contiguous
    for n, c, y, x in np.ndindex(2, 3, 6, 6):
        value = (int(prepared[n, y, x, c]) - preprocessor.mean[c]) / preprocessor.std[c]
        assert scores[n, c, y, x] == np.float32(value)


def test_packaged_weights_get_their_own_scale() -> None:
    prepared = np.zeros((1, 2, 2, 3), np.uint8)
    prepared[0, 0, 0], prepared[0, 0, 1] = 255, 127
    scores = packaged_lite0(2).normalize(prepared)
    assert scores[0, :, 0, 0].tolist() == [1.0] * 3
    assert scores[0, :, 0, 1].tolist() == [0.0] * 3
    assert (LITE0_MEAN, LITE0_STD) == ((127,) * 3, (128,) * 3)


def test_fit_equals_numpy_over_all_pixels() -> None:
    rng = np.random.default_rng(3)
    high = np.array([256, 90, 20])
    prepared = (rng.random((150, 8, 8, 3)) * high).astype(np.uint8)
    fitted = Preprocessor.fit(prepared, 8, "bilinear")
    pixels = prepared.reshape(-1, 3).astype(np.float64)
    assert fitted.mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert fitted.std == pytest.approx(pixels.std(axis=0), rel=1e-12)
    assert (fitted.size, fitted.interpolation) == (8, "bilinear")
    assert Preprocessor.fit(prepared[::-1], 8, "bilinear") == fitted
    scores = fitted.normalize(prepared).astype(np.float64)
    assert scores.mean(axis=(0, 2, 3)) == pytest.approx([0] * 3, abs=1e-6)
    assert scores.std(axis=(0, 2, 3)) == pytest.approx([1] * 3, abs=1e-6)


def test_a_constant_channel_is_refused() -> None:
    prepared = np.stack([cell(8, 8), cell(8, 8, 1)])
    prepared[..., 1] = 7
    with pytest.raises(DataError, match="the same in every pixel") as caught:
        Preprocessor.fit(prepared, 8)
    assert "2 images" in caught.value.where


def test_identity_goes_through_json_and_tells_preprocessors_apart() -> None:
    import json

    base: dict[str, Any] = {"size": 32, "mean": (1.1, 2, 3), "std": (4, 5, 6.6)}
    preprocessor = Preprocessor(**base)
    saved = json.loads(json.dumps(preprocessor.identity()))
    assert Preprocessor.from_json(saved) == preprocessor
    others = [{"size": 33}, {"mean": (1.1, 2, 4)}, {"std": (4, 5, 6.7)}]
    for change in [*others, {"interpolation": "bilinear"}]:
        assert Preprocessor(**{**base, **change}).identity() != preprocessor.identity()
    missing = {key: value for key, value in saved.items() if key != "std"}
    for broken in (missing, {**saved, "gamma": 2}, {**saved, "crop": "random"}, ["size"]):
        with pytest.raises(RecipeError, match="saved form"):
            Preprocessor.from_json(broken)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": 224.0}, "size"),
        ({"size": True}, "size"),
        ({"size": 100_000}, "size"),
        ({"interpolation": "bicubik"}, "interpolation"),
        ({"mean": (1, 2)}, "mean"),
        ({"mean": 127}, "mean"),
        ({"mean": (1, 2, 256)}, "mean"),
        ({"mean": (1, 2, float("nan"))}, "mean"),
        ({"std": (1, 2, 0)}, "std"),
        ({"std": (1, 2, float("inf"))}, "std"),
        ({"std": ("a", 2, 3)}, "std"),
        ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, "mean and std"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], field: str) -> None:
    settings_ = {"size": 32, "mean": (100, 100, 100), "std": (50, 50, 50), **change}
    with pytest.raises(RecipeError, match=f"^{field} of the preprocessor") as caught:
        Preprocessor(**settings_)
    assert_said(caught.value, field)


def test_a_near_miss_of_the_interpolation_is_suggested() -> None:
    with pytest.raises(RecipeError, match="did you mean 'bicubic'"):
        packaged_lite0(32, "bicubik")


def test_other_arrays_are_refused() -> None:
    preprocessor = packaged_lite0(8)
    for array in (cell(9, 9)[..., 0], cell() / 255, cell()[None], cell()[:0], [[1]]):
        with pytest.raises(ImageError, match="no RGB image"):
            preprocessor.prepare(array)  # type: ignore[arg-type]
    for array in (cell(8, 8), cell(9, 9)[None], cell(8, 8)[None] / 255, None):
        with pytest.raises(DataError, match="no prepared images"):
            preprocessor.normalize(array)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no prepared images"):
        Preprocessor.fit(np.empty((0, 8, 8, 3), np.uint8), 8)


# --- real images -----------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("folder", ["cnmc2019/all", "cnmc2019/hem", "pbc/monocyte", "pbc/platelet"])
def test_real_cells_decode_as_pillow_reads_them(folder: str, real_data: Path) -> None:
    paths = sorted((real_data / folder).iterdir())[:12]
    assert paths
    for path in paths:
        rgb = decode(path)
        with Image.open(path) as image:
            assert np.array_equal(rgb, np.asarray(image.convert("RGB")))
        assert packaged_lite0().prepare(rgb).shape == (224, 224, 3)
