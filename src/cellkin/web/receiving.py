"""Uploads as they come in: all of one lie in one unnamed temporary file, never in memory.

A place for the whole upload is had before its first byte is read (`Rooms.spool`), so that nobody
fills the disk with uploads that were begun.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, cast

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import UploadFile

from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings
from cellkin.web.station import Station
from cellkin.web.uploads import FIELD, too_many

LONGEST_HEADER = 8 * 1024  # bytes of the headers of one part
MAX_FIELDS = 20  # parts that are no files
TOGETHER = 2**20  # bytes that are written at once


@asynccontextmanager
async def read_form(request: Request, station: Station) -> AsyncIterator[list[UploadFile]]:
    """The files of an upload; they lie in one unnamed temporary file until the block ends.

    Raises:
        ProblemError: 413 for too many files, 422 for what is no form or holds no file, 503 where
            too many uploads are under way, 507 on a full disk.
    """
    boundary = _boundary(request)
    promised = request.headers.get("content-length", "")
    size = int(promised) if promised.isdecimal() else station.settings.max_upload_bytes
    async with station.rooms.spool.place(size):
        with tempfile.TemporaryFile() as spool:
            form = _Form(cast(BinaryIO, spool), station.settings)
            await _receive(request, form, boundary)
            if not form.files:
                raise _no_form(f"no file in the field {FIELD!r}")
            yield form.files


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise _no_form(f"content type {kind.decode('latin-1') or 'missing'}")
    if not options.get(b"boundary"):
        raise _no_form("it names no boundary")
    return options[b"boundary"]


async def _receive(request: Request, form: _Form, boundary: bytes) -> None:
    try:
        parser = MultipartParser(boundary, cast(Any, form.callbacks()))
        async for chunk in request.stream():
            parser.write(chunk)
            if len(form.unwritten) >= TOGETHER:
                await to_thread.run_sync(form.write)
        parser.finalize()
    except FormParserError as error:
        raise _no_form(str(error)) from None
    await to_thread.run_sync(form.write)


class _Form:
    """What the parser finds, written into the spool as it comes; parts that are no files are
    counted and dropped.
    """

    def __init__(self, spool: BinaryIO, settings: Settings) -> None:
        self._spool, self._settings = spool, settings
        self.files: list[UploadFile] = []
        self.unwritten = bytearray()
        self._written = self._fields = self._count = 0
        self._begin()

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
        }

    def write(self) -> None:
        """Put what has come into the spool."""
        self._spool.write(self.unwritten)
        self._spool.flush()
        self._written += len(self.unwritten)
        self.unwritten.clear()

    def _begin(self) -> None:
        self._disposition = b""
        self._name, self._value = b"", b""
        self._file: str | None = None
        self._headers = self._start = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += self._header(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._header(data[start:end])

    def _header(self, piece: bytes) -> bytes:
        self._headers += len(piece)
        if self._headers > LONGEST_HEADER:
            raise _no_form(f"the headers of a part have more than {LONGEST_HEADER} bytes")
        return piece

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _no_form(f"more than {MAX_FIELDS} parts that are no files")
            return
        self._count += 1
        if self._count > self._settings.max_files:
            raise too_many(self._settings)
        if options.get(b"name") == FIELD.encode():
            self._file = _decoded(options[b"filename"])
            self._start = self._written + len(self.unwritten)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self.unwritten += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            size = self._written + len(self.unwritten) - self._start
            part = cast(BinaryIO, _Part(self._spool.fileno(), self._start, size))
            self.files.append(UploadFile(part, size=size, filename=self._file))


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


class _Part(io.RawIOBase):
    """A part of an open file, as a file to read; without a buffer: there are many."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        got = os.pread(self._descriptor, wanted, self._start + self._at)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


def _no_form(why: str) -> ProblemError:
    return ProblemError(
        422,
        "no-images",
        f"this upload cannot be read: {why}",
        where="body",
        mend=f"send multipart/form-data with images, or zips of images, in the field {FIELD!r}",
    )
