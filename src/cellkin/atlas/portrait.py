"""What an atlas keeps of its reference cells as pictures, see `cellkin.atlas.portraying`.

Nothing here decides. It says which reference cells are nearly the same picture, so that they do not
take all places on a page; which lie at the border of their class; and what the cells of a class
look like, so that a new cell can be told in percentiles (docs/evidence.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Ints, Singles
from cellkin.core.errors import damaged

NOTHING = -1.0  # what is measured is 0 at least
NAMES = ("groups", "border", "rows", "measures", "codes")


@dataclass(frozen=True, eq=False)
class Portrait:
    """Of N reference cells.

    Attributes:
        groups: (N,) a number that nearly equal pictures share.
        border: (N,) bool: not all of its k nearest stand on its side (its own subject, slide or
            field left out).
        rows: (R,) positions of the cells that are described, at most `MOST` of a class.
        measures: (R, 5) float32 of `MEASURES`; `NOTHING` where nothing was found.
        codes: (R, A) uint8, the likeliest word of each attribute. words: attribute -> its words.
    """

    groups: Ints
    border: Bools
    rows: Ints
    measures: Singles
    codes: Bytes
    words: Mapping[str, tuple[str, ...]]

    def arrays(self) -> dict[str, Array]:
        """What is written as arrays."""
        return {f"portrait_{name}": np.asarray(getattr(self, name)) for name in NAMES}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None, arrays: Mapping[str, Array]) -> Portrait | None:
        """What was written; None where an atlas was made without.

        Raises:
            ArtifactError: this is no such data.
        """
        if told is None:
            return None
        try:
            words = {str(name): tuple(map(str, codes)) for name, codes in told.items()}
            kept: Any = {name: np.asarray(arrays[f"portrait_{name}"]) for name in NAMES}
            return cls(**kept, words=words)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged("the portrait of the references", error, where="portrait") from error

    def group(self, position: int) -> int:
        """What nearly equal pictures share; cells of adopted places stand for themselves."""
        return int(self.groups[position]) if position < len(self.groups) else -1 - position
