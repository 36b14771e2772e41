"""Uploads: files and zips of strangers to pictures, within limits, one refusal at a time.

Names are only ever shown: nothing is unpacked to the disk. What a zip's directory claims is not
believed; bytes are counted as they come out.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from starlette.datastructures import UploadFile

from cellkin.core.errors import CellkinError, ImageError
from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings

FIELD = "files"
ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
ZIP64 = b"PK\x06\x07"  # only directories of 65,535 entries or 4 GiB need it
END_BYTES = 22  # of the record that ends a zip; a comment of up to 64 KiB may follow
LONGEST_END = END_BYTES + 0xFFFF
ENTRY_BYTES = 1024  # of the directory, for one file
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
LONGEST_NAME = 200
PIECE = 1 << 16
# control characters, lone surrogates, and marks that turn the direction of writing
UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
JUNK = re.compile(r"(^|/)(__MACOSX/|\.[^./]|Thumbs\.db$)", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """One image as it was sent: its shown name and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Refusal:
    """One image that was not taken, and why."""

    name: str
    what: str
    where: str
    mend: str

    @classmethod
    def of(cls, name: str, error: CellkinError) -> Refusal:
        return cls(name, error.what, error.where, error.mend)


def shown_name(name: str | None) -> str:
    """A name fit to be shown and stored: no path out of its folder, nothing invisible, not long."""
    plain = UNSHOWN.sub("", (name or "").replace("\\", "/"))
    parts = [part.strip() for part in plain.split("/") if part.strip(". ")]
    shown = "/".join(parts)
    return shown[-LONGEST_NAME:] or "unnamed"


def too_many(settings: Settings) -> ProblemError:
    """The refusal of an upload of more images than one may hold."""
    return ProblemError(
        413,
        "too-many",
        f"more than {settings.max_files} images in one upload",
        where="body",
        mend="upload them in several parts",
    )


def unpacked(files: Sequence[UploadFile], settings: Settings) -> Iterator[Upload | Refusal]:
    """Every image in an upload, zips opened, in order; one at a time in memory.

    Raises:
        ProblemError: 413, more images or bytes in all than one upload may hold.
    """
    count, total = 0, 0
    for file in files:
        name = shown_name(file.filename)
        for one in _images(file.file, name, settings):
            count += 1
            if count > settings.max_files:
                raise too_many(settings)
            if isinstance(one, Upload):
                total += len(one.data)
                if total > settings.max_unpacked_bytes:
                    raise ProblemError(
                        413,
                        "too-large",
                        f"this upload unpacks to more than {settings.max_unpacked_bytes} bytes",
                        where=name,
                        mend="upload it in several parts",
                    )
            yield one


def _images(stream: BinaryIO, name: str, settings: Settings) -> Iterator[Upload | Refusal]:
    size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(4)
    stream.seek(0)
    if start in (ZIP, EMPTY_ZIP):
        yield from _zipped(stream, name, settings)
        return
    if size > settings.max_file_bytes:  # none of it is read
        yield Refusal.of(name, _too_large(name, settings))
        return
    yield Upload(name, _bytes_of(stream, name, settings))


def _bytes_of(stream: BinaryIO, name: str, settings: Settings) -> bytes:
    """All bytes of a stream, counted while they are read."""
    got = bytearray()
    while piece := stream.read(PIECE):
        got += piece
        if len(got) > settings.max_file_bytes:
            raise _too_large(name, settings)
    return bytes(got)


def _too_large(name: str, settings: Settings) -> ImageError:
    return ImageError(
        f"this image has more than {settings.max_file_bytes} bytes",
        where=name,
        mend="give the crop of one cell",
    )


def _zipped(stream: BinaryIO, name: str, settings: Settings) -> Iterator[Upload | Refusal]:
    try:
        _check_directory(stream, name, settings)
        with zipfile.ZipFile(stream) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            members = [m for m in members if not JUNK.search(m.filename)]
            if len(members) > settings.max_files:
                raise too_many(settings)
            if not members:
                mend = "put images into it"
                raise ImageError("this zip holds no images", where=name, mend=mend)
            for member in members:
                yield _member(archive, member, settings)
    except ImageError as error:
        yield Refusal.of(name, error)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        told = ImageError(f"this zip cannot be read: {error}", where=name, mend="pack it again")
        yield Refusal.of(name, told)


def _check_directory(stream: BinaryIO, name: str, settings: Settings) -> None:
    """Refuse a directory of more entries than an upload may hold before it is read into memory."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - LONGEST_END))
    tail = stream.read()
    stream.seek(0)
    plain = tail[-END_BYTES:-18] == EMPTY_ZIP and tail.endswith(b"\0\0")  # without a comment
    at = len(tail) - END_BYTES if plain else tail.rfind(EMPTY_ZIP)
    if at < 0 or len(tail) - at < END_BYTES:
        raise ImageError("this zip is cut off", where=name, mend="pack it again")
    entries, length = struct.unpack("<HI", tail[at + 10 : at + 16])
    large = tail[max(0, at - 20) : at].startswith(ZIP64)
    if large or length > ENTRY_BYTES * settings.max_files or entries == 0xFFFF:
        raise too_many(settings)


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, settings: Settings
) -> Upload | Refusal:
    name = shown_name(member.filename)
    try:
        _check_member(member, name, settings)
        if member.file_size > settings.max_file_bytes:
            raise _too_large(name, settings)
        with archive.open(member) as stream:
            data = _bytes_of(stream, name, settings)  # type: ignore[arg-type]  # it can read
    except ImageError as error:
        return Refusal.of(name, error)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        told = ImageError(
            f"this part of the zip is damaged: {error}", where=name, mend="pack again"
        )
        return Refusal.of(name, told)
    if data[:4] in (ZIP, EMPTY_ZIP):
        mend = "unpack the inner zip first"
        return Refusal.of(
            name, ImageError("a zip inside a zip is not opened", where=name, mend=mend)
        )
    return Upload(name, data)


def _check_member(member: zipfile.ZipInfo, name: str, settings: Settings) -> None:
    """Refuse what a zip's directory already gives away."""
    path = member.filename.replace("\\", "/")
    fault, mend = "", "pack the images again, plainly"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        fault = "its path leads out of the zip"
    elif member.flag_bits & ENCRYPTED:
        fault, mend = "it is encrypted", "pack it without a password"
    elif member.compress_type not in METHODS:
        fault = "it is packed by a method that is not opened here"
    elif member.file_size > settings.zip_ratio * max(member.compress_size, 1):
        fault = f"it unpacks to more than {settings.zip_ratio} times its size"
        mend = "images are never packed that much; upload the file itself"
    if fault:
        raise ImageError(f"this part of the zip is not taken: {fault}", where=name, mend=mend)
