"""Files of other formats, and of rare kinds of the known ones, are called by their names."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cellkin.core.errors import ImageError
from cellkin.imaging.decode import decode

COLOUR = np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def saved(kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(COLOUR).save(file, kind)
    return file.getvalue()


def ico() -> bytes:
    file = BytesIO()
    Image.fromarray(COLOUR).save(file, "ICO", sizes=[(16, 16)])
    return file.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "a.czi": (b"ZISRAWFILE" + bytes(200), "Zeiss CZI"),
    "a.nd2": (b"\xda\xce\xbe\x0a" + bytes(200), "Nikon ND2"),
    "a.lif": (b"\x70\0\0\0\x10\0\0\0\x2a" + bytes(200), "Leica LIF"),
    "a.oib": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200), "OLE"),
    "a.ims": (b"\x89HDF\r\n\x1a\n" + bytes(200), "HDF5"),
    "a.jxl": (b"\xff\x0a" + bytes(range(128, 250)), "JPEG XL"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200), "JPEG XL"),
    "a.jp2": (saved("JPEG2000"), "JPEG 2000"),
    "a.j2k": (b"\xff\x4f\xff\x51" + bytes(200), "JPEG 2000"),
    "a.ico": (ico(), "Windows icon"),
    "a.ppm": (saved("PPM"), "portable pixmap"),
    "a.psd": (b"8BPS\0\1" + bytes(200), "Photoshop"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("called", ["", "cell.tif"])
def test_another_format_is_called_by_its_name(name: str, called: str) -> None:
    data, words = OTHERS[name]
    with pytest.raises(ImageError, match=words) as caught:
        decode(data, name=called or name)
    assert "exported as PNG, JPEG, BMP or TIFF in RGB" in caught.value.mend


@pytest.mark.parametrize("frame", [0xC0, 0xC1, 0xC2, 0xC9])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_jpeg_of_more_bits_says_so(bits: int, frame: int) -> None:
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = frame, bits
    with pytest.raises(ImageError, match=f"this JPEG is of {bits} bits per channel") as caught:
        decode(bytes(data))
    assert "tag 281" in caught.value.mend


@pytest.mark.parametrize("frame", [0xC3, 0xC7, 0xCB, 0xCF, 0xF7])
def test_a_lossless_jpeg_says_so(frame: int) -> None:
    data = bytearray(saved("JPEG"))
    data[data.index(b"\xff\xc0") + 1] = frame
    with pytest.raises(ImageError, match="this JPEG is lossless"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("bits", "compression", "words"),
    [(32, 3, "bitfields layout"), (16, 3, "bitfields layout"), (24, 5, "compression")],
)
def test_a_bmp_that_is_not_read_is_not_called_damaged(
    bits: int, compression: int, words: str
) -> None:
    masks = struct.pack("<III", 0x0000FF, 0x00FF01, 0xFF0000)
    pixels = bytes(20 * 24 * 4)
    head = struct.pack("<IiiHHIIiiII", 40, 24, 20, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    start = 14 + len(head) + len(masks)
    data = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + head + masks + pixels
    with pytest.raises(ImageError, match=f"of a kind that is not read: .*{words}") as caught:
        decode(data)
    assert "export it as PNG or TIFF" in caught.value.mend
