"""A field in one even light, read at any resolution."""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.smear.field import Box, Field
from cellkin.smear.light import DARKEST, WHITE, Light

OVERVIEW = 1600  # longer side, in pixels, of a field at a glance

Colour = tuple[float, float, float]
"""Red, green, blue in [1, 255]."""


class Evened:
    """A field whose ground is `WHITE`.

    Args:
        light: of the field. white: the ground's colour, where there is no light; see `white_of`.
    """

    def __init__(self, field: Field, light: Light | None, white: Colour) -> None:
        self.field, self.light, self.white = field, light, white

    def overview(self, view: Bytes) -> Bytes:
        """The overview of the same field."""
        return self._lit(view, (0, 0, self.field.width, self.field.height))

    def part(self, box: Box, downsample: float) -> Bytes:
        """A part of the field."""
        return self._lit(self.field.scaled(box, downsample), box)

    def _lit(self, rgb: Bytes, box: Box) -> Bytes:
        if self.light is not None:
            return self.light.even(rgb, box, (self.field.width, self.field.height))
        return np.asarray(np.clip(rgb * (WHITE / np.array(self.white)), 0, 255), np.uint8)


def overview(field: Field) -> tuple[Bytes, float]:
    """The whole field at a glance, and pixels of the field per pixel of it."""
    step = max(max(field.width, field.height) / OVERVIEW, 1.0)
    return field.scaled((0, 0, field.width, field.height), step), step


def white_of(view: Bytes, where: object) -> Colour:
    """The brightest twentieth of a field at a glance, taken for its ground.

    Raises:
        ImageError: the field is black.
    """
    white = np.maximum(np.percentile(view.reshape(-1, 3), 95, axis=0), 1)
    if white.max() < DARKEST:
        raise ImageError(
            f"this field is black: its brightest parts have {white.max():.0f} of 255",
            where=where,
            mend="take the picture again, with light",
        )
    red, green, blue = (float(v) for v in white)
    return red, green, blue
