"""What the fields of a count are called; none is there twice, under whatever name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cellkin.core.artifacts import file_sha256
from cellkin.smear.listing import given_twice, require_once

T = TypeVar("T")
HEAD = 1 << 16  # bytes that tell most files of one size apart


def names_of(paths: Sequence[Path]) -> list[str]:
    """Names of files, with as much of their folders as tells them apart.

    Raises:
        DataError: one is there twice: as the same file, by a link, or as a file of equal content.
    """
    require_once(paths)
    full = [path.resolve() for path in paths]
    _require_different(full)
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    root = os.path.commonpath([path.parent for path in full])
    return [path.relative_to(root).as_posix() for path in full]


def _require_different(full: Sequence[Path]) -> None:
    """No two files of equal content."""
    readable = [path for path in full if path.is_file() and os.access(path, os.R_OK)]
    there = [path for path in readable if path.stat().st_size]
    for sized in _alike(there, lambda path: path.stat().st_size):
        for begun in _alike(sized, _head):
            for same in _alike(begun, file_sha256):
                raise given_twice(*same)


def _alike(some: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Those with one key, group by group; not those that are alone."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for one in some:
        groups[key(one)].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
