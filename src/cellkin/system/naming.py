"""What the fields of a count are called; none is there twice, under whatever name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cellkin.core.artifacts import file_sha256
from cellkin.core.errors import DataError

T = TypeVar("T")
HEAD = 1 << 16  # bytes that tell most files of one size apart


def names_of(paths: Sequence[Path]) -> list[str]:
    """Names of files, with as much of their folders as tells them apart.

    Raises:
        DataError: one is there twice: as the same file, by a link, or as a file of equal content.
    """
    full = [path.resolve() for path in paths]
    _require_different(paths, full)
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    root = os.path.commonpath([path.parent for path in full])
    return [path.relative_to(root).as_posix() for path in full]


def _require_different(paths: Sequence[Path], full: Sequence[Path]) -> None:
    for one in _alike(range(len(paths)), lambda i: full[i]):
        raise _twice(str(paths[i]) for i in one)
    readable = [path for path in full if path.is_file() and os.access(path, os.R_OK)]
    there = [path for path in readable if path.stat().st_size]
    for sized in _alike(there, lambda path: path.stat().st_size):
        for begun in _alike(sized, _head):
            for same in _alike(begun, file_sha256):
                raise _twice(map(str, same))


def _alike(some: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Those with one key, group by group; not those that are alone."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for one in some:
        groups[key(one)].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _twice(named: Iterable[str]) -> DataError:
    where = " and ".join(dict.fromkeys(named))
    return DataError("a field is given twice", where=where, mend="give each field once")
