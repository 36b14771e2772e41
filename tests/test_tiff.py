"""TIFFs: what is decoded equals what tifffile reads; the rest is refused for its true reason."""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cellkin.core.arrays import Array
from cellkin.core.errors import ImageError
from cellkin.imaging.decode import Limits, decode
from cellkin.imaging.tiff import MOST_PAGES

HIGH, WIDE = 21, 37
LOSSLESS = [None, "lzw", "deflate", "adobe_deflate", "packbits", "zstd", "lzma"]
PIECES: list[dict[str, Any]] = [{}, {"rowsperstrip": 8}, {"tile": (16, 32)}]
EXTRA = {"rgba": "unassalpha", "rgb + alpha": "assocalpha", "rgbx": "unspecified"}


def drawn(samples: int, bits: int) -> Array:
    """(HIGH, WIDE, samples) of bright noise over a ramp; a fourth sample is all full."""
    full = (1 << bits) - 1
    y, x = np.mgrid[0:HIGH, 0:WIDE]
    noise = np.random.default_rng(5).integers(0, full // 4, (HIGH, WIDE, 3))
    ramp = np.stack([x / WIDE, y / HIGH, 1 - x / WIDE], axis=-1) * full * 3 / 4
    colour = ramp.astype(int) + noise
    return np.dstack([colour, np.full((HIGH, WIDE, samples - 3), full)]).astype(f"u{bits // 8}")


def smooth() -> Array:
    """(HIGH, WIDE, 3) uint8: a ramp that JPEG keeps."""
    y, x = np.mgrid[0:HIGH, 0:WIDE]
    return np.stack([x * 6, y * 11, 230 - x * 5], axis=-1).astype(np.uint8)


def written(array: Array, photometric: str = "rgb", **options: Any) -> bytes:
    file = BytesIO()
    if options.get("planarconfig") == "separate":
        array = np.moveaxis(array, -1, 0)
    tifffile.imwrite(file, array, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def oracle(data: bytes, planar: str) -> Array:
    """The samples by tifffile, (H, W, samples)."""
    found = tifffile.imread(BytesIO(data))
    return np.moveaxis(found, 0, -1) if planar == "separate" else found


def to_8_bits(samples: Array) -> Array:
    full = np.iinfo(samples.dtype).max
    return np.floor(samples[..., :3].astype(float) * 255 / full + 0.5).astype(np.uint8)


def refusal(data: bytes, name: str = "") -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, name=name)
    assert caught.value.mend
    return caught.value


def twice(data: bytes) -> Array:
    """The decoded image; a decoder that leaves memory as it found it gives others each time."""
    first, other = decode(data), decode(data)
    assert np.array_equal(first, other)
    return first


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["rgb", *EXTRA])
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_equals_a_second_decoder(bits: int, kind: str, planar: str) -> None:
    array = drawn(3 if kind == "rgb" else 4, bits)
    extra = {} if kind == "rgb" else {"extrasamples": [EXTRA[kind]]}
    for compression, pieces, order, predictor, big in product(
        LOSSLESS, PIECES, "<>", [False, True], [False, True]
    ):
        if predictor and compression is None:
            continue
        how: dict[str, Any] = {"compression": compression, "byteorder": order, "bigtiff": big}
        how |= {"planarconfig": planar, "predictor": predictor, **pieces, **extra}
        data = written(array, **how)
        if predictor and compression == "packbits":  # the two decoders differ
            assert "predictor" in refusal(data).what
            continue
        assert np.array_equal(oracle(data, planar), array)
        assert np.array_equal(twice(data), to_8_bits(array)), how


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["rgb", "rgbx"])
def test_jpeg_in_rgb_equals_a_second_decoder(kind: str, planar: str) -> None:
    if (kind, planar) == ("rgbx", "contig"):
        return  # JPEG of four channels in one is written by nobody
    array = smooth() if kind == "rgb" else np.dstack([smooth(), smooth()[..., 0]])
    extra = {} if kind == "rgb" else {"extrasamples": ["unspecified"]}
    for pieces, order in product(PIECES, "<>"):
        how = {"compression": "jpeg", "byteorder": order, "planarconfig": planar}
        data = written(array, **how, **pieces, **extra)
        assert np.array_equal(twice(data), oracle(data, planar)[..., :3]), how


def test_jpeg_as_tiff_first_had_it_equals_a_second_decoder() -> None:
    file = BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG", quality=95, subsampling=0)
    jpeg = file.getvalue()
    rows = [(256, WIDE), (257, HIGH), (258, 8), (259, 6), (262, 6), (273, 0), (277, 3), (278, HIGH)]
    rows += [(279, len(jpeg)), (512, 1), (513, 0), (514, len(jpeg)), (530, 0x10001)]
    start = 8 + 2 + 12 * len(rows) + 4
    body = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 530 else 4, 2 if tag == 530 else 1, value or start)
        for tag, value in rows
    )
    data = b"II*\0" + struct.pack("<IH", 8, len(rows)) + body + bytes(4) + jpeg
    assert np.abs(twice(data).astype(int) - oracle(data, "contig")).max() <= 1


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_equals_a_second_decoder(planar: str) -> None:
    array = np.dstack([255 - smooth(), np.full((HIGH, WIDE), 30, np.uint8)])
    for compression, pieces, order in product([*LOSSLESS, "jpeg"], PIECES, "<>"):
        how: dict[str, Any] = {"compression": compression, "byteorder": order}
        data = written(array, "separated", planarconfig=planar, **how, **pieces)
        samples = np.ascontiguousarray(oracle(data, planar))
        wanted = Image.frombytes("CMYK", (WIDE, HIGH), samples.tobytes()).convert("RGB")
        assert np.array_equal(twice(data), np.asarray(wanted)), how


def test_ycbcr_equals_the_formula() -> None:
    array = np.asarray(Image.fromarray(smooth()).convert("YCbCr"))
    for compression, pieces in product(LOSSLESS, PIECES):
        data = written(array, "ycbcr", compression=compression, subsampling=(1, 1), **pieces)
        assert np.abs(twice(data).astype(int) - smooth()).max() <= 3


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_palette_equals_a_second_decoder(order: str) -> None:
    places = np.random.default_rng(2).integers(0, 256, (HIGH, WIDE), dtype=np.uint8)
    colours = np.random.default_rng(3).integers(0, 256, (3, 256), dtype=np.uint16)
    for factor, compression in product([256, 257], LOSSLESS):
        how = {"compression": compression, "byteorder": order}
        data = written(places, "palette", colormap=colours * factor, **how)
        assert np.array_equal(twice(data), colours.T[places])
    narrow = refusal(written(places, "palette", colormap=colours))
    assert "palette whose 16-bit values are all below 256" in narrow.what


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_declared_depth_counts_in_every_layout(planar: str) -> None:
    array = drawn(3, 16) >> 4
    for order, compression in product("<>", LOSSLESS):
        how: dict[str, Any] = {"planarconfig": planar, "compression": compression}
        tags = [(281, "H", 3, [4095] * 3, True)]
        data = written(array, byteorder=order, extratags=tags, **how)
        wanted = np.floor(array.astype(float) * 255 / 4095 + 0.5)
        assert np.array_equal(twice(data), wanted)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_parts_that_are_seen_through_are_refused(bits: int, planar: str) -> None:
    array = drawn(4, bits)
    array[3, 4, 3] -= 1
    for kind in ("unassalpha", "assocalpha"):
        data = written(array, planarconfig=planar, extrasamples=[kind])
        assert "transparent" in refusal(data).what


# --- the true reason -------------------------------------------------------------------------

COLOUR = drawn(3, 16)
REASONS: dict[str, tuple[Array, dict[str, Any], str, str]] = {
    "float32": (COLOUR.astype("f4"), {}, "floating-point numbers of 32 bits", "full light"),
    "float16": (COLOUR.astype("f2"), {}, "floating-point numbers of 16 bits", "full light"),
    "float64": (COLOUR.astype("f8"), {}, "floating-point numbers of 64 bits", "full light"),
    "uint32": (COLOUR.astype("u4"), {}, "integers of 32 bits", "full light"),
    "int16": ((COLOUR >> 1).astype("i2"), {}, "signed integers of 16 bits", "full light"),
    "int8": ((COLOUR >> 9).astype("i1"), {}, "signed integers of 8 bits", "full light"),
    "complex": (COLOUR.astype("c8"), {}, "complex numbers", "full light"),
    "jpeg 2000": (smooth(), {"compression": "jpeg2000"}, "not read: JPEG 2000", "LZW"),
    "jpeg 2000, 16 bits": (COLOUR, {"compression": "jpeg2000"}, "not read: JPEG 2000", "LZW"),
    "lerc": (smooth(), {"compression": "lerc"}, "not read: LERC", "LZW"),
    "jpeg xl": (smooth(), {"compression": "jpegxl"}, "not read: JPEG XL", "LZW"),
    "jpeg xr": (smooth(), {"compression": "jpegxr"}, "not read: JPEG XR", "LZW"),
    "webp": (smooth(), {"compression": "webp"}, "not read: WebP", "LZW"),
    "png": (smooth(), {"compression": "png"}, "not read: PNG", "LZW"),
    "cmyk, 16 bits": (
        drawn(4, 16),
        {"photometric": "separated"},
        "16 bits per channel in CMYK of 4 samples",
        "RGB",
    ),
    "five samples, 16 bits": (
        np.dstack([drawn(4, 16), COLOUR[..., :1]]),
        {"extrasamples": ["unspecified"] * 2},
        "16 bits per channel in RGB of 5 samples",
        "RGB",
    ),
    "channels called grey": (
        np.moveaxis(smooth(), -1, 0),
        {"photometric": "minisblack", "planarconfig": "separate"},
        "its 3 channels are grey",
        "RGB",
    ),
    "lab": (smooth(), {"photometric": "cielab"}, r"colours \(LAB\)", "RGB"),
    "raw camera": (smooth()[..., 0], {"photometric": "cfa"}, "raw camera", "RGB"),
    "grey": (smooth()[..., 0], {"photometric": "minisblack"}, "greyscale", "original colour"),
    "grey float": (
        smooth()[..., 0].astype("f4"),
        {"photometric": "minisblack"},
        "greyscale",
        "original colour",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_is_not_read_is_refused_for_its_true_reason(case: str) -> None:
    array, options, words, mend = REASONS[case]
    file = BytesIO()
    how = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(file, array, **how)
    error = refusal(file.getvalue())
    with pytest.raises(ImageError, match=words):
        raise error
    assert mend in error.mend
    assert "damaged" not in error.what


@pytest.mark.parametrize("axes", ["CYX", "ZYX"])
def test_three_grey_pages_are_told_how_to_become_one_colour_image(axes: str) -> None:
    file = BytesIO()
    metadata = {"axes": axes, "mode": "composite"} if axes == "CYX" else {"axes": axes}
    tifffile.imwrite(file, np.moveaxis(smooth(), -1, 0), imagej=True, metadata=metadata)
    error = refusal(file.getvalue())
    assert "3 grey pages" in error.what
    assert "RGB Color" in error.mend


def test_pages_in_colour_are_counted() -> None:
    for count, words in [(2, "holds 2 pages"), (MOST_PAGES + 9, f"holds {MOST_PAGES} or more")]:
        error = refusal(written(np.stack([smooth()] * count)))
        assert words in error.what
        assert "RGB Color" not in error.mend


# --- what is beside the pixels ---------------------------------------------------------------


def entry_of(data: bytes, tag: int) -> tuple[int, str, bool]:
    """Where the entry of a tag begins, the order of bytes, whether the TIFF is a big one."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    size = 20 if big else 12
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    at += 8 if big else 2
    while struct.unpack_from(f"{order}H", data, at)[0] != tag:
        at += size
    return at, order, big


def past_the_end(data: bytes, tag: int) -> bytes:
    """The file with the values of a tag somewhere behind its end."""
    at, order, big = entry_of(data, tag)
    changed = bytearray(data)
    struct.pack_into(order + ("HQQ" if big else "HII"), changed, at + 2, 12, 9, len(data) + 999)
    return bytes(changed)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_private_tags_do_not_touch_the_pixels(bits: int, order: str, big: bool) -> None:
    array = drawn(3, bits)
    tags: list[Any] = [(code, "d", 9, (1.5,) * 9, True) for code in (271, 305, 33434, 65325)]
    data = written(array, byteorder=order, bigtiff=big, extratags=tags)
    for code in (271, 305, 33434, 65325):  # before the strips' places, and after them
        assert np.array_equal(decode(past_the_end(data, code)), to_8_bits(array))
        at, *_ = entry_of(data, code)
        unknown = data[: at + 2] + b"\xee\xee" + data[at + 4 :]
        assert np.array_equal(decode(unknown), to_8_bits(array))


@pytest.mark.parametrize("tag", [258, 273, 279, 281])
def test_tags_that_describe_pixels_must_be_whole(tag: int) -> None:
    tags = [(281, "H", 3, [65535] * 3, True)]
    data = written(drawn(3, 16), rowsperstrip=2, extratags=tags)
    assert "damaged or cut off" in refusal(past_the_end(data, tag)).what


def exif_with(make_at: int, maker_note_at: int, orientation: int) -> bytes:
    """EXIF of a maker's name, an orientation and a maker's note, the texts wherever one likes."""
    rows = [(271, 2, 40, make_at), (274, 3, 1, orientation), (37500, 7, 500, maker_note_at)]
    body = b"".join(struct.pack("<HHII", *row) for row in rows)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + body + bytes(4) + bytes(540)


@pytest.mark.parametrize(
    "places", [(50, 90), (9999, 90), (50, 9999), (9999, 9999), (2**31, 2**32 - 1)]
)
@pytest.mark.parametrize("orientation", [1, 3])
def test_a_makers_note_past_the_end_of_the_exif_data_is_passed_over(
    orientation: int, places: tuple[int, int]
) -> None:
    wanted = smooth() if orientation == 1 else smooth()[::-1, ::-1]
    exif = exif_with(*places, orientation)
    for kind, near in [("JPEG", 12), ("PNG", 0)]:
        file = BytesIO()
        Image.fromarray(smooth()).save(file, kind, exif=exif, **({"quality": 95} if near else {}))
        assert np.abs(decode(file.getvalue()).astype(int) - wanted).max() <= near


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["TIFF", "TIFF of 16 bits", "PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [None, 3])
def test_images_are_turned_by_exif_and_never_by_xmp(kind: str, orientation: int | None) -> None:
    file = BytesIO()
    exif = Image.Exif()
    exif[305] = "cellkin"  # without it Pillow asks XMP at another time
    if orientation is not None:
        exif[274] = orientation
    if kind.startswith("TIFF"):
        array = drawn(3, 16 if "16" in kind else 8)
        tags: list[Any] = [(700, 1, len(XMP), XMP, True)]
        tags += [] if orientation is None else [(274, "H", 1, orientation, True)]
        data, near = written(array, extratags=tags), 0
    else:
        array, near = smooth(), 12
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        how: dict[str, Any] = {"pnginfo": info} if kind == "PNG" else {"xmp": XMP, "quality": 95}
        Image.fromarray(array).save(file, kind, exif=exif, **how)
        data = file.getvalue()
    wanted = to_8_bits(array).astype(int)
    wanted = wanted if orientation is None else wanted[::-1, ::-1]
    assert np.abs(decode(data) - wanted).max() <= near


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_missing_pixels_are_never_filled_in(bits: int, planar: str) -> None:
    for compression, pieces in product([None, "lzw", "deflate"], PIECES):
        array = drawn(3, bits)
        data = written(array, planarconfig=planar, compression=compression, **pieces)
        refusal(data[: -len(data) // 3])
        for missing in (1, 40, 300):  # it may be a checksum, or the part of a tile that is outside
            try:
                rgb = decode(data[:-missing])
            except ImageError:
                continue
            assert np.array_equal(rgb, to_8_bits(array))
    fewer = written(drawn(3, bits), planarconfig=planar, rowsperstrip=4)
    at, order, _ = entry_of(fewer, 278)
    changed = bytearray(fewer)
    struct.pack_into(f"{order}H", changed, at + 8, 3)
    assert "strips or tiles" in refusal(bytes(changed)).what


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_limits_hold_in_every_layout(bits: int, planar: str) -> None:
    data = written(drawn(3, bits), planarconfig=planar)
    with pytest.raises(ImageError, match=f"too large: {WIDE} x {HIGH}"):
        decode(data, limits=Limits(max_pixels=WIDE * HIGH - 1))
    assert decode(data, limits=Limits(max_pixels=WIDE * HIGH)).shape == (HIGH, WIDE, 3)
