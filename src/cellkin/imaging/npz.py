"""Images inside a `.npz`: rows of an array (N, H, W, 3) uint8, or one array (H, W, 3)."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError, did_you_mean
from cellkin.imaging.checks import Limits, check_size, refuse_grey, require_file, told

Header = tuple[tuple[int, ...], bool, np.dtype[np.generic]]


class Member:
    """One open array of a `.npz`.

    Rows may be read in any order. A compressed member is inflated up to the row asked for and goes
    on from there: in ascending order it is inflated once in all, and only one row is in memory.

    Raises:
        ImageError: the file is missing, no `.npz`, damaged, or holds no such array.
    """

    def __init__(self, path: Path, member: str | None, where: str) -> None:
        if path.suffix.lower() != ".npz" or member is None:
            raise ImageError(
                "members and rows are read from .npz files only, and need the member's name",
                where=where,
                mend="give an image file, or a .npz with its member and row",
            )
        require_file(path, where)
        with told(".npz", where), ExitStack() as opened:
            archive = opened.enter_context(zipfile.ZipFile(path))
            self._stream = opened.enter_context(_stream(archive, member, where))
            self.shape, self._fortran, self.dtype = _header(self._stream)
            self._start = self._stream.tell()
            self._opened = opened.pop_all()

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def read(self, row: int | None, where: str, limits: Limits) -> Bytes:
        """One image: a row of (N, H, W, 3), or all of (H, W, 3).

        Returns:
            (H, W, 3) uint8 RGB, its own memory.

        Raises:
            ImageError: the array holds no RGB images, has no such row, or is damaged.
        """
        if row is not None:
            where = f"{where}, row {row}"
        self._refuse_other_shape(row, where)
        if row is not None and not 0 <= row < self.shape[0]:
            raise ImageError(
                f"there is no row {row}",
                where=where,
                mend=f"rows run from 0 to {self.shape[0] - 1}",
            )
        height, width = self.shape[-3:-1]
        check_size(width, height, where, limits)
        size = height * width * 3
        with told(".npz", where):
            self._stream.seek(self._start + (row or 0) * size)
            pixels = self._stream.read(size)
            rgb = np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
        refuse_grey(rgb, where)
        return rgb

    def _refuse_other_shape(self, row: int | None, where: str) -> None:
        wanted = 3 if row is None else 4
        if (
            self.dtype != np.uint8
            or self._fortran
            or len(self.shape) != wanted
            or self.shape[-1] != 3
        ):
            raise ImageError(
                f"this array holds no RGB image{'' if row is None else 's'}: "
                f"shape {self.shape}, {self.dtype}",
                where=where,
                mend="name a uint8 array of shape (N, H, W, 3) and a row, or (H, W, 3) without one",
            )


def shape_of(path: Path, member: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of an array in a `.npz`, from its header; its values are not read.

    Raises:
        ImageError: the file is missing, damaged, or holds no such array.
    """
    with Member(path, member, str(path)) as opened:
        return opened.shape, opened.dtype


def _stream(archive: zipfile.ZipFile, member: str, where: str) -> IO[bytes]:
    members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    if member not in members:
        raise ImageError(
            f"there is no array {member!r} in this file",
            where=where,
            mend=did_you_mean(member, members) or f"it holds: {', '.join(members)}",
        )
    return archive.open(f"{member}.npy")


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(stream)
