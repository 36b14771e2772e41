"""Where the cells of an evidence lie in their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

from cellkin.core.arrays import Bools, Bytes
from cellkin.imaging.outline import cell_mask


class Outlines(Sequence[Bools | None]):
    """The cell in the middle of each picture, (S, S) bool; None where no outline is found. They are
    sought, once, when somebody looks at them.

    Args:
        groups: pictures (S, S, 3) uint8, one group after the other.
    """

    def __init__(self, *groups: Sequence[Bytes]) -> None:
        self._groups = groups

    @cached_property
    def _found(self) -> tuple[Bools | None, ...]:
        return tuple(cell_mask(image) for group in self._groups for image in group)

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    @overload
    def __getitem__(self, index: int) -> Bools | None: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Bools | None]: ...

    def __getitem__(self, index: int | slice) -> Bools | Sequence[Bools | None] | None:
        return self._found[index]
