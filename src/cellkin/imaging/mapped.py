"""Prepared images in a memory-mapped file, for sets that do not fit into memory.

The file is written under another name and renamed when it is whole, and the key of what is in it is
written after that: a process killed at any moment leaves a file that is not taken for a whole one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np

from cellkin.core.arrays import Bytes, Ints
from cellkin.core.artifacts import digest, guarded_writes, read_json, write_json
from cellkin.core.records import ImageRef

SHARE = 0.5  # of the free memory that images may take; training needs the rest
PIXELS, KEY = "prepared.bin", "prepared.json"

Shape = tuple[int, ...]


class Rows(Sequence[Bytes]):
    """Some rows of an array, each read when somebody asks for it; none is copied before."""

    def __init__(self, array: Bytes, rows: Sequence[int] | Ints) -> None:
        self._array, self._rows = array, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Bytes]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Rows(self._array, self._rows[index])
        return np.asarray(self._array[self._rows[index]])


def free_memory() -> int | None:
    """Bytes that this process may still take: what Linux calls available, or what its control
    group leaves where that is less; None where the system does not say.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(v.split()[1]) for v in lines if v.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return free


def fits(shape: Shape) -> bool:
    """Whether uint8 pixels of this shape take at most half of the free memory."""
    free = free_memory()
    return free is None or math.prod(shape) <= SHARE * free


def key(sources: Sequence[ImageRef], preparation: Mapping[str, Any]) -> str:
    """Hash of where the images lie, how large and how old their files are, and how they are
    prepared; a file that is not there any more gives another one.
    """
    ages = {path: _age(path) for path in {str(source.path) for source in sources}}
    scales = [s.um_per_pixel for s in sources] if "window" in preparation else []
    places = [[str(s), s.box, ages[str(s.path)]] for s in sources]
    return digest([*places, *([scales] if scales else []), dict(preparation)])


def _age(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def stored(folder: Path, shape: Shape, wanted: str) -> Bytes | None:
    """The images of an earlier call, read-only; None where they are others or not whole."""
    if not (folder / KEY).is_file() or not (folder / PIXELS).is_file():
        return None
    if read_json(folder / KEY) != {"key": wanted, "shape": list(shape)}:
        return None
    return np.memmap(folder / PIXELS, np.uint8, "r", shape=shape)


@contextmanager
def new(folder: Path, shape: Shape, own: str) -> Iterator[Bytes]:
    """A new file to fill; it counts once the block has ended well.

    Raises:
        OutputError: no room on the disk. All of it is asked for at once: a mapped file that runs
            out of disk later would kill the process.
    """
    part = folder / f"{PIXELS}.{os.getpid()}"
    with guarded_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEY).unlink(missing_ok=True)
        for left in folder.glob(f"{PIXELS}*"):
            if not _at_work(left):
                left.unlink()
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        except OSError:
            part.unlink(missing_ok=True)
            raise
    pixels = np.memmap(part, np.uint8, "r+", shape=shape)
    try:
        yield pixels
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    pixels.flush()
    with guarded_writes(folder):
        os.replace(part, folder / PIXELS)
        write_json(folder / KEY, {"key": own, "shape": list(shape)})


def _at_work(part: Path) -> bool:
    """Whether a process that fills this file is running on this machine."""
    owner = part.suffix.removeprefix(".")
    if not owner.isdigit():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
