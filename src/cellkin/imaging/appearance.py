"""What the picture of a cell looks like before anybody asks which cell it is: light, scale, stain,
focus. By these a batch of new cells is compared with the cells of an atlas.
"""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Bools, Bytes
from cellkin.imaging.checks import BLACK, brightest
from cellkin.imaging.focus import focus_score
from cellkin.imaging.stain import CUT_OUT, nuclei, nuclei_mask

APPEARANCE = ("white", "cast", "nucleus", "stain", "hue", "focus")
"""The measures, as `cellkin.core.fits.MEASURES` tells them."""


def appearance(prepared: Bytes) -> dict[str, float]:
    """The measures of one prepared picture (S, S, 3) uint8 RGB, by their names in `APPEARANCE`.

    Left out is what the picture does not show: the ground of a cell that was cut out on black, the
    nucleus and its stain where there is none. The ground is the 95th percentile of each channel.

    Raises:
        ImageError: the array is no RGB image of 16 pixels a side or more.
    """
    found = {"focus": focus_score(prepared)}  # refuses what is no picture
    black = brightest(prepared) <= BLACK
    light = np.full(3, 255.0)
    if black.mean() < CUT_OUT:
        light = np.percentile(prepared[::2, ::2][~black[::2, ::2]], 95, axis=0)
        found["white"] = float(light.mean())
        found["cast"] = float((light[0] + 1) / (light[2] + 1))
    if kernels := nuclei(prepared):
        found["nucleus"] = 2 * kernels[0].radius / min(prepared.shape[:2])
        found |= _stain(prepared, nuclei_mask(prepared) & ~black, light)
    return {name: found[name] for name in APPEARANCE if name in found}


def _stain(prepared: Bytes, inside: Bools, light: np.ndarray) -> dict[str, float]:
    """Strength and hue of what the nuclei take out of the light."""
    density = -np.log((prepared[inside] + 1.0) / (light + 1)).mean(axis=0)
    red, green, blue = density.tolist()
    return {"stain": (red + green + blue) / 3, "hue": red / max(green, 0.05)}
