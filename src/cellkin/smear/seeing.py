"""What a finder sees in a picture: the kinds that it tells, and at what scale. No torch."""

from __future__ import annotations

from typing import Protocol

from cellkin.core.arrays import Bytes, Singles

CHANNELS = ("white cell", "smudge", "platelet", "artefact", "red cell")
"""Kinds that have a heat map, in the order of the maps."""

STRIDE = 4
"""Pixels of the picture per place of a heat map."""

RED_PIXELS = 24.0
"""Diameter of a red cell, in pixels of the picture, at the scale that the network was taught."""


class Finder(Protocol):
    """A finder's network, in torch or compiled."""

    def seen(self, pictures: Bytes) -> tuple[Singles, Singles]:
        """Heat maps (N, kinds, h, w) in [0, 1] of pictures (N, H, W, 3) uint8, H and W multiples of
        16; and shapes (N, 4, h, w), see `FinderNetwork.forward`.
        """
        ...
