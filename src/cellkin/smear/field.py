"""A field: one thing for a photograph through the microscope and for a whole slide.

Photographs (PNG, JPEG, BMP, plain TIFF) are decoded once, as every image. Tiled and pyramidal TIFF,
OME-TIFF among them, and the formats of slide scanners are read by parts, so memory does not grow
with the slide.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tifffile

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.checks import (
    AGAIN,
    DEFAULT_LIMITS,
    Limits,
    check_size,
    grey,
    require_file,
    told,
)
from cellkin.imaging.decode import decode
from cellkin.imaging.formats import KINDS
from cellkin.imaging.scale import likely, um_of_tiff, um_per_pixel
from cellkin.imaging.tiff import Resolution
from cellkin.smear.dicom import SUFFIX, DicomSlide

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the whole field."""

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".vms", ".vmu", ".svslide")
"""Extensions of the slide formats that OpenSlide reads."""

ASSOCIATED, UNASSOCIATED = 1, 2  # alpha: colours are multiplied by it already, or not
AT_ONCE = 40_000_000  # pixels of a level that are read at once, where a part is averaged down


def is_field(path: Path) -> bool:
    """Whether a file's name is that of a photograph or a slide."""
    return path.suffix.lower() in {*SLIDES, *(s for suffixes in KINDS.values() for s in suffixes)}


class _Pixels(Protocol):
    """What lies behind a field: its resolutions, and how a part of one is read."""

    sizes: tuple[tuple[int, int], ...]
    um_per_pixel: float | None

    def part(self, left: int, top: int, right: int, bottom: int, level: int) -> Bytes: ...

    def close(self) -> None: ...


class Field:
    """A photograph or a slide, opened; use it in a `with` block or close it.

    Attributes:
        path: of its file. width, height: of its finest level, in pixels.
        um_per_pixel: micrometres per pixel as the file says, None where it does not.
        by_parts: whether parts are read without the rest; else the whole picture is in memory.
        downsamples: of each level, 1 first: pixels of the field per pixel of the level.

    Raises:
        ImageError: the file cannot be read, or not without guessing; or a package that reads its
            format is not installed.
    """

    def __init__(self, path: Path, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = Path(path)
        require_file(self.path, str(path))
        if not self.path.stat().st_size:
            raise ImageError("this file is empty (0 bytes)", where=path, mend=AGAIN)
        self._pixels = _opened(self.path, limits)
        self.width, self.height = self._pixels.sizes[0]
        self.um_per_pixel = self._pixels.um_per_pixel
        self.by_parts = not isinstance(self._pixels, _Photo)
        self.downsamples = tuple(self.width / width for width, _ in self._pixels.sizes)

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._pixels.close()

    def read(self, box: Box | None = None, level: int = 0) -> Bytes:
        """A part of the field.

        Args:
            box: left, top, right, bottom in pixels of the finest level; the whole field if None.
            level: position in `downsamples`.

        Returns:
            (h, w, 3) uint8 RGB at the resolution of the level.

        Raises:
            ImageError: the box does not lie in the field, there is no such level, or the file is
                damaged there.
        """
        left, top, right, bottom = box or (0, 0, self.width, self.height)
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            raise ImageError(
                f"the box {box} does not lie in this field of {self.width} x {self.height} pixels",
                where=self.path,
                mend="give the box as left, top, right, bottom in pixels of the field",
            )
        if not 0 <= level < len(self.downsamples):
            raise ImageError(
                f"this field has no level {level}",
                where=self.path,
                mend=f"use a level from 0 to {len(self.downsamples) - 1}",
            )
        width, height = self._pixels.sizes[level]
        across, down = self.width / width, self.height / height
        x0, y0 = min(int(left / across), width - 1), min(int(top / down), height - 1)
        x1 = min(max(round(right / across), x0 + 1), width)
        y1 = min(max(round(bottom / down), y0 + 1), height)
        return self._pixels.part(x0, y0, x1, y1, level)

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is as fine as `downsample` pixels of the field per pixel."""
        fine = [k for k, d in enumerate(self.downsamples) if d <= downsample * 1.01]
        return max(fine, key=lambda k: self.downsamples[k], default=0)

    def scaled(self, box: Box, downsample: float) -> Bytes:
        """A part of the field at any resolution, averaged down from the nearest finer level.

        A large part is read band by band.
        """
        left, top, right, bottom = box
        width, height = (max(round(n / downsample), 1) for n in (right - left, bottom - top))
        level = self.level_for(downsample)
        pixels = (right - left) * (bottom - top) / self.downsamples[level] ** 2
        bands = min(int(pixels // AT_ONCE) + 1, height)
        rows = np.linspace(0, height, bands + 1).round().astype(int)  # of the answer
        edges = (top + rows * (bottom - top) / height).round().astype(int)  # in the field
        found = [
            self._shrunk((left, int(first), right, int(last)), level, width, int(high))
            for first, last, high in zip(edges[:-1], edges[1:], np.diff(rows), strict=True)
        ]
        return found[0] if bands == 1 else np.concatenate(found)

    def _shrunk(self, box: Box, level: int, width: int, height: int) -> Bytes:
        part = self.read(box, level)
        smaller = width < part.shape[1]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)

    def tiles(self, side: int, overlap: int) -> Iterator[Box]:
        """Boxes of at most `side` pixels that cover the field, neighbours overlapping."""
        step = max(side - overlap, 1)
        for top in range(0, max(self.height - overlap, 1), step):
            for left in range(0, max(self.width - overlap, 1), step):
                yield left, top, min(left + side, self.width), min(top + side, self.height)


def _opened(path: Path, limits: Limits) -> _Pixels:
    where = str(path)
    suffix = path.suffix.lower()
    if suffix in SLIDES:
        try:
            return _Slide(path, where, limits)
        except ImageError:
            if suffix != SUFFIX:
                raise
        return DicomSlide(path, where)
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"II", b"MM"):
        with told("TIFF", where):
            tiled = _Tiled.of(path, where, limits)
        if tiled is not None:
            return tiled
    return _Photo(path, where, limits)


class _Photo:
    """One picture, decoded whole."""

    def __init__(self, path: Path, where: str, limits: Limits) -> None:
        self._rgb = decode(path, limits=limits)
        self.sizes: tuple[tuple[int, int], ...] = ((self._rgb.shape[1], self._rgb.shape[0]),)
        self.um_per_pixel = um_per_pixel(path)

    def part(self, left: int, top: int, right: int, bottom: int, level: int) -> Bytes:
        return self._rgb[top:bottom, left:right].copy()

    def close(self) -> None:
        self._rgb = np.empty((0, 0, 3), np.uint8)


class _Tiled:
    """A tiled or pyramidal TIFF: only the tiles under a part are read."""

    def __init__(self, tiff: Any, pages: list[Any], where: str, limits: Limits) -> None:
        self._tiff, self._pages, self._where = tiff, pages, where
        for page in pages:
            _require_rgb(page, where, limits)
        self.sizes = tuple((int(p.imagewidth), int(p.imagelength)) for p in pages)
        self.um_per_pixel = um_of_tiff(_resolution(pages[0]))

    @classmethod
    def of(cls, path: Path, where: str, limits: Limits) -> _Tiled | None:
        """None for a TIFF of one page in strips: a photograph."""
        tiff = tifffile.TiffFile(path)
        try:
            series = max(tiff.series, key=lambda s: s.size)
            pages = [level.keyframe for level in series.levels]
            if pages[0].is_tiled or len(pages) > 1:
                _require_plane(series.axes, where)
                return cls(tiff, pages, where, limits)
        except BaseException:
            tiff.close()
            raise
        tiff.close()
        return None

    def part(self, left: int, top: int, right: int, bottom: int, level: int) -> Bytes:
        page = self._pages[level]
        down, across = int(page.chunks[0]), int(page.chunks[1])
        columns = -(-int(page.imagewidth) // across)
        found = np.full(
            (bottom - top, right - left, 3), 255, np.uint8
        )  # unwritten tiles are ground
        with told("TIFF", self._where):
            for row in range(top // down, -(-bottom // down)):
                for column in range(left // across, -(-right // across)):
                    tile = self._tile(page, row * columns + column)
                    if tile is not None:
                        _lay(found, tile, column * across - left, row * down - top)
        return found

    def _tile(self, page: Any, index: int) -> Bytes | None:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0:
            return None
        handle = self._tiff.filehandle
        handle.seek(offset)
        data = handle.read(count)
        if len(data) < count:
            raise ImageError(
                "this TIFF file is cut off: a part of the picture lies past its end",
                where=self._where,
                mend="copy it again from its source",
            )
        tile, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        if tile is None:
            return None
        whole = np.asarray(tile[0])
        return _over_white(whole, page.extrasamples[0]) if whole.shape[2] == 4 else whole

    def close(self) -> None:
        self._tiff.close()


def _over_white(rgba: Bytes, kind: int) -> Bytes:
    """What a viewer shows of a tile that is transparent in places: white behind it."""
    share = rgba[..., 3:].astype(np.uint16)
    colour = rgba[..., :3].astype(np.uint16)
    if kind != ASSOCIATED:
        colour = (colour * share + 127) // 255
    return np.asarray(np.minimum(colour + 255 - share, 255), np.uint8)


def _lay(found: Bytes, tile: Bytes, left: int, top: int) -> None:
    """Copy a tile to its place, as far as it lies in the part."""
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + tile.shape[1], found.shape[1]), min(top + tile.shape[0], found.shape[0])
    if x1 > x0 and y1 > y0:
        found[y0:y1, x0:x1] = tile[y0 - top : y1 - top, x0 - left : x1 - left]


def _require_plane(axes: str, where: str) -> None:
    if axes not in ("YXS", "YX"):
        raise ImageError(
            f"this TIFF holds a stack of pictures (axes {axes}), not one field",
            where=where,
            mend="export the one plane that you mean, in RGB",
        )


def _require_rgb(page: Any, where: str, limits: Limits) -> None:
    """Refuse grey pages, more than 8 bits, separate planes, and tiles that do not fit in memory."""
    if page.samplesperpixel < 3:
        raise grey(where)
    extra = tuple(page.extrasamples)
    known = not extra or (len(extra) == 1 and extra[0] in (ASSOCIATED, UNASSOCIATED))
    if page.bitspersample != 8 or page.planarconfig != 1 or not known:
        raise ImageError(
            f"this tiled TIFF has {page.samplesperpixel} channels of {page.bitspersample} bits",
            where=where,
            mend="export it as RGB with 8 bits a channel, interleaved",
        )
    check_size(int(page.chunks[1]), int(page.chunks[0]), where, limits)


def _resolution(page: Any) -> Resolution:
    """What a page says of its scale, by its tags."""
    tags = page.tags

    def dots(name: str) -> float:
        top, bottom = tags[name].value if name in tags else (0, 1)
        return top / bottom if bottom else 0.0

    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    return Resolution(dots("XResolution"), dots("YResolution"), unit, str(page.description))


class _Slide:
    """A slide of a scanner, read by OpenSlide."""

    def __init__(self, path: Path, where: str, limits: Limits) -> None:
        self._openslide, self._where = _openslide(where), where
        with self._said():
            self._slide = self._openslide.OpenSlide(str(path))
        self.sizes = tuple((int(w), int(h)) for w, h in self._slide.level_dimensions)
        self._downsamples = self._slide.level_downsamples
        self.um_per_pixel = _said_um(self._slide.properties.get("openslide.mpp-x"))

    def part(self, left: int, top: int, right: int, bottom: int, level: int) -> Bytes:
        factor = self._downsamples[level]
        corner = (round(left * factor), round(top * factor))
        with self._said():
            image = self._slide.read_region(corner, level, (right - left, bottom - top))
        return _over_white(np.asarray(image, np.uint8), UNASSOCIATED)

    def close(self) -> None:
        self._slide.close()

    def _said(self) -> Any:
        return told("slide", self._where)


def _said_um(text: str | None) -> float | None:
    try:
        return likely(float(text or 0))
    except ValueError:
        return None


def _openslide(where: str) -> Any:
    try:
        return importlib.import_module("openslide")
    except ImportError:
        raise ImageError(
            "slides of scanners are read by OpenSlide, which is not installed",
            where=where,
            mend="pip install 'cellkin[slides]'",
        ) from None
