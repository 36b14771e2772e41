"""Many images one after another: a container or a field that many share is opened once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellkin.core.arrays import Bytes
from cellkin.core.records import ImageRef
from cellkin.imaging.checks import DEFAULT_LIMITS, Limits
from cellkin.imaging.decode import cut, decode
from cellkin.imaging.npz import Member


def is_shared(ref: ImageRef) -> bool:
    """Whether an image is a part of a file that may hold others (a member, a row, a box)."""
    return ref.member is not None or ref.row is not None or ref.box is not None


def in_reading_order(refs: Sequence[ImageRef]) -> list[int]:
    """Positions of `refs` in the order in which `Series` opens every file once.

    Whole files keep their order and come first.
    """

    def place(i: int) -> tuple[bool, str, str, int]:
        ref = refs[i]
        if not is_shared(ref):
            return False, "", "", 0
        return True, str(ref.path), ref.member or "", ref.row or 0

    return sorted(range(len(refs)), key=place)


class Series:
    """`decode` for images asked for one after another, by one thread; the arrays are the same.

    It keeps the last `.npz` member open (rows in ascending order inflate it once in all) and the
    last file from which boxes were cut (a field of 2592 x 1944 pixels takes 15 MiB).
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._member: tuple[Path, str | None, Member] | None = None
        self._field: tuple[Path, Bytes] | None = None

    def __enter__(self) -> Series:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._member is not None:
            self._member[2].close()
        self._member = self._field = None

    def decode(self, ref: ImageRef, *, name: str = "") -> Bytes:
        """Decode one image, as `cellkin.imaging.decode.decode` does.

        Raises:
            ImageError: the image cannot be read, or not without guessing.
        """
        where = name or str(ref)
        if ref.member is None and ref.row is None:
            if ref.box is None:
                return decode(ref, name=name, limits=self._limits)
            rgb = self._whole(ref.path, where)
        else:
            rgb = self._opened(ref, where).read(ref.row, where, self._limits)
        return rgb if ref.box is None else cut(rgb, ref.box, where, self._limits)

    def _whole(self, path: Path, where: str) -> Bytes:
        if self._field is None or self._field[0] != path:
            self._field = (path, decode(path, name=where, limits=self._limits))
        return self._field[1]

    def _opened(self, ref: ImageRef, where: str) -> Member:
        if self._member is None or self._member[:2] != (ref.path, ref.member):
            self.close()
            self._member = (ref.path, ref.member, Member(ref.path, ref.member, where))
        return self._member[2]
