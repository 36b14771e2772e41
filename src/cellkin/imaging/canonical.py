"""A canonical view of one picture: one white, one strength of stain, whatever laboratory made it.

A cell's picture alone tells little of its light and stain, so this is a choice of the recipe, never
silent: the light of a whole field is measured on the field (see `cellkin.smear.light`).
"""

from __future__ import annotations

import cv2
import numpy as np

from cellkin.core.arrays import Bytes, Singles

VIEWS = ("raw", "white", "density")
"""As it is; one white; one white and one strength of stain."""

WHITE = 245.0  # what the ground becomes in every channel
BRIGHT = 97  # percentile that stands for the ground, by channel
DARKEST_GROUND = 40.0  # a ground darker than this is none: it is brightened no further
STRENGTH = 2.4  # optical density, summed over the channels, that the dense parts are brought to
DENSE = 97  # percentile that stands for the dense parts
CHANGES = (0.4, 4.0)  # what a density is multiplied by, at least and at most
BLACK = 12  # a pixel whose channels are all below this was cut away
FRAMED = 0.8  # share of the picture's edge that is black where a cell was cut from its ground


def canonical(rgb: Bytes, view: str) -> Bytes:
    """The canonical view of a picture.

    White: every channel is scaled so that its 97th percentile becomes 245; where the cell was cut
    from its ground and lies on black (C-NMC), the black becomes 245 and the cell stays as it is.
    Density: after that, the optical density -log(value / 245) is scaled so that the 97th percentile
    of its sum over the channels, in the middle of the picture where the cell is, is one number
    (2.4); by 0.4 to 4 at the most, so that a picture of nothing stays one.

    Args:
        rgb: (S, S, 3) uint8 RGB. view: one of `VIEWS`.

    Returns:
        (S, S, 3) uint8; the picture itself for "raw".
    """
    if view == "raw":
        return rgb
    values = _whitened(rgb)
    if view == "density":
        density = -np.log(np.clip(values, 1.0, WHITE) / WHITE)
        dense = float(np.percentile(_middle(density.sum(axis=2)), DENSE))
        values = WHITE * np.exp(-density * float(np.clip(STRENGTH / max(dense, 0.1), *CHANGES)))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def cut_out(rgb: Bytes) -> Bytes | None:
    """Where a cell was cut from its ground and lies on black: (H, W) bool, True where it is black.

    None for a picture with a ground of its own.
    """
    black = rgb.max(axis=2) < BLACK
    edge = np.concatenate([black[0], black[-1], black[:, 0], black[:, -1]])
    return black if edge.mean() >= FRAMED else None


def _middle(values: Singles) -> Singles:
    """The middle half of (S, S), each way."""
    quarter = len(values) // 4
    return values[quarter : len(values) - quarter, quarter : len(values) - quarter]


def _whitened(rgb: Bytes) -> Singles:
    black = cut_out(rgb)
    values = rgb.astype(np.float32)
    if black is not None:
        # The rim of a cut mixes cell and black: a pixel beside the black belongs to neither.
        wide = cv2.dilate(black.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        values[wide] = WHITE
        return values
    ground = np.percentile(rgb.reshape(-1, 3), BRIGHT, axis=0)
    return (values * (WHITE / np.maximum(ground, DARKEST_GROUND))).astype(np.float32)
