"""The directory of a TIFF: what its pixels are, and the same pixels under their own tags alone.

Pillow decodes the pixels. It is given a file that holds nothing but what describes them, written
anew: private tags, metadata and a wrong orientation among them can then neither stop nor turn it.
EXIF is such a directory too.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from mmap import mmap
from typing import NamedTuple

from cellkin.core.errors import ImageError
from cellkin.imaging.checks import AGAIN

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, ROWS, PLANAR = 274, 277, 278, 284
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, UNIT = 270, 282, 283, 296
MAX_SAMPLE_VALUE, PREDICTOR, COLOUR_MAP, EXTRA, FORMAT = 281, 317, 320, 338, 339
PIXELS = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR, EXTRA, FORMAT),
    *(STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, PREDICTOR, COLOUR_MAP),
    *(266, 292, 293, 332, 347),  # order of bits, fax options, inks, JPEG tables
    *(512, 513, 514, 515, 517, 518, 519, 520, 521),  # JPEG as TIFF first had it
    *(529, 530, 531, 532),  # YCbCr
}
SAID = {ORIENTATION, MAX_SAMPLE_VALUE}  # read, not handed on
OFFSETS = {STRIPS, TILES, 513, 519, 520, 521}
MOST_PAGES, MOST_VALUES = 100, 4_000_000  # that are counted; of a tag

# Of each type of value: its struct code, how many there are in one, how a classic TIFF has it.
TYPES = {
    1: ("B", 1, 1), 2: ("B", 1, 2), 3: ("H", 1, 3), 4: ("I", 1, 4), 5: ("I", 2, 5),
    6: ("b", 1, 6), 7: ("B", 1, 7), 8: ("h", 1, 8), 9: ("i", 1, 9), 10: ("i", 2, 10),
    11: ("f", 1, 11), 12: ("d", 1, 12), 13: ("I", 1, 4), 16: ("Q", 1, 4), 17: ("q", 1, 9),
    18: ("Q", 1, 4),
}  # fmt: skip


class Form(NamedTuple):
    """Where the first directory's place stands, and the struct codes of its parts."""

    first: int
    length: str
    entry: str
    place: str


CLASSIC, BIG = Form(4, "H", "HHI4s", "I"), Form(8, "Q", "HHQ8s", "Q")


class Tag(NamedTuple):
    """The type of a tag's values as a classic TIFF has it, and the values."""

    kind: int
    values: tuple[int, ...]


class Resolution(NamedTuple):
    """What a TIFF says of its scale: dots per unit across and down, 0 where it does not say; the
    unit (2 inch, 3 centimetre); and its description, where OME metadata stand.
    """

    across: float
    down: float
    unit: int
    description: str


@dataclass(frozen=True)
class Page:
    """One image of a TIFF.

    Attributes:
        data: the whole file.
        order: "<" or ">", of bytes.
        tags: those that describe pixels, and what is said of them.
    """

    data: bytes | mmap
    order: str
    tags: Mapping[int, Tag]

    def values(self, tag: int) -> tuple[int, ...]:
        """All values of a tag; empty where there is none."""
        return self.tags[tag].values if tag in self.tags else ()

    def value(self, tag: int, default: int = 1) -> int:
        """The first value of a tag."""
        return next(iter(self.values(tag)), default)

    @property
    def bits(self) -> int:
        """The most bits of a sample."""
        return max(self.values(BITS), default=1)

    @property
    def grey(self) -> bool:
        """Whether its pixels are of one grey sample."""
        return self.value(PHOTOMETRIC, 0) in (0, 1) and self.value(SAMPLES) <= 2

    @property
    def in_planes(self) -> bool:
        """Whether red, green and blue are stored one after another."""
        return self.value(PLANAR) == 2 and self.value(PHOTOMETRIC) == 2

    @property
    def alpha(self) -> int | None:
        """Which sample of an RGB pixel is its opacity; None where none is."""
        samples = self.value(SAMPLES)
        extra = self.values(EXTRA) or (1,) * (samples - 3)
        return next((3 + i for i, kind in enumerate(extra[: samples - 3]) if kind in (1, 2)), None)

    def parts_needed(self) -> int:
        """How many strips or tiles its pixels take."""
        width, height = self.value(WIDTH, 0), self.value(HEIGHT, 0)
        if TILES in self.tags:
            each = self.value(TILE_WIDTH, 0), self.value(TILE_HEIGHT, 0)
        else:
            each = width, min(self.value(ROWS, height), height)
        planes = self.value(SAMPLES) if self.value(PLANAR) == 2 else 1
        return ceil(width / max(1, each[0])) * ceil(height / max(1, each[1])) * planes

    def alone(self) -> bytes:
        """A TIFF of the same pixels that says nothing else; as stored, not turned."""
        tags = {number: tag for number, tag in self.tags.items() if number in PIXELS}
        if self.bits > 8 and EXTRA in tags:  # Pillow would divide by the opacity, byte by byte
            kinds = tuple(2 if kind == 1 else kind for kind in tags[EXTRA].values)
            tags[EXTRA] = Tag(3, kinds)
        return _written(self.data[:], self.order, tags)

    def planes(self) -> Iterator[bytes]:
        """A grey TIFF of each of red, green, blue and, where there is one, the opacity."""
        one = {BITS: self.bits, SAMPLES: 1, PHOTOMETRIC: 1, PLANAR: 1}
        kept = {number: tag for number, tag in self.tags.items() if number not in (EXTRA, FORMAT)}
        kept |= {number: Tag(3, (value,)) for number, value in one.items()}
        samples = self.value(SAMPLES)
        for plane in [0, 1, 2, *([] if self.alpha is None else [self.alpha])]:
            for number in {STRIPS, STRIP_BYTES, TILES, TILE_BYTES} & set(self.tags):
                kind, values = self.tags[number]
                each = len(values) // samples
                kept[number] = Tag(kind, values[plane * each : (plane + 1) * each])
            yield replace(self, tags=kept).alone()


def first_page(data: bytes, where: str) -> tuple[Page, int, bool]:
    """The first page of a TIFF, how many there are (`MOST_PAGES` at most), and if all are grey.

    Raises:
        ImageError: a directory, or a value in it that describes pixels, is cut off or damaged.
    """
    with _whole("the directory of this TIFF file is damaged or cut off", where):
        first = next(_directories(data, PIXELS | SAID))
        others = list(islice(_directories(data, {PHOTOMETRIC, SAMPLES}), MOST_PAGES))
    return first, len(others), all(page.grey for page in others)


def orientation_of(exif: bytes, where: str) -> int:
    """How an image is turned, by its EXIF data (1 to 8); 1 where they do not say.

    Raises:
        ImageError: the EXIF data are damaged or cut off.
    """
    with _whole("the EXIF data that say how this image is turned are damaged or cut off", where):
        return next(_directories(exif, {ORIENTATION})).value(ORIENTATION)


def resolution_of(data: bytes | mmap, where: str) -> Resolution:
    """What the first page of a TIFF says of its scale.

    Raises:
        ImageError: its directory is damaged or cut off.
    """
    with _whole("the directory of this TIFF file is damaged or cut off", where):
        page = next(_directories(data, {DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, UNIT}))
    across, down = (_ratio(page.values(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    text = bytes(value & 255 for value in page.values(DESCRIPTION)).rstrip(b"\0")
    return Resolution(across, down, page.value(UNIT, 2), text.decode("utf-8", "replace"))


def _ratio(values: tuple[int, ...]) -> float:
    return values[0] / values[1] if len(values) == 2 and values[1] else 0.0


@contextmanager
def _whole(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, KeyError, OverflowError, StopIteration) as error:
        raise ImageError(what, where=where, mend=AGAIN) from error


def _directories(data: bytes | mmap, wanted: Collection[int]) -> Iterator[Page]:
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    form = BIG if struct.unpack_from(f"{order}H", data, 2) == (43,) else CLASSIC
    (at,) = struct.unpack_from(order + form.place, data, form.first)
    seen = set()
    while at and at not in seen:
        seen.add(at)
        (count,) = struct.unpack_from(order + form.length, data, at)
        at += struct.calcsize(order + form.length)
        end = at + count * struct.calcsize(order + form.entry)
        after = struct.unpack_from(order + form.place, data, end)
        rows = list(struct.iter_unpack(order + form.entry, data[at:end]))
        found = (row for row in reversed(rows) if row[0] in wanted)  # of two, the first counts
        yield Page(data, order, {row[0]: _tag(data, order, *row[1:]) for row in found})
        (at,) = after


def _tag(data: bytes | mmap, order: str, kind: int, count: int, field: bytes) -> Tag:
    code, each, classic = TYPES[kind]
    if count > MOST_VALUES:
        raise OverflowError
    form = f"{order}{count * each}{code}"
    if struct.calcsize(form) <= len(field):
        return Tag(classic, struct.unpack_from(form, field))
    place = int.from_bytes(field, "little" if order == "<" else "big")
    return Tag(classic, struct.unpack_from(form, data, place))


def _written(data: bytes, order: str, tags: Mapping[int, Tag]) -> bytes:
    """A classic TIFF: header, directory, values, then the old file, which offsets are moved by.

    What is cut off at the end stays cut off.
    """
    after = 8 + 2 + 12 * len(tags) + 4
    tags = {n: Tag(4 if n in OFFSETS else tag.kind, tag.values) for n, tag in tags.items()}
    codes = {n: f"{order}{len(tag.values)}{TYPES[tag.kind][0]}" for n, tag in tags.items()}
    room = {n: struct.calcsize(code) + 3 & ~3 for n, code in codes.items()}
    shift = after + sum(size for size in room.values() if size > 4)
    entries = values = b""
    for number, (kind, found) in sorted(tags.items()):
        moved = [value + shift for value in found] if number in OFFSETS else found
        packed = struct.pack(codes[number], *moved).ljust(room[number], b"\0")
        if room[number] > 4:
            place = struct.pack(f"{order}I", after + len(values))
            values, packed = values + packed, place
        count = len(found) // TYPES[kind][1]
        entries += struct.pack(f"{order}HHI", number, kind, count) + packed.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    head = magic + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + values + data
