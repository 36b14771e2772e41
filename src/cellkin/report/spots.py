"""Matched spots on two cells, numbered: legible in grey and on any stain."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cellkin.core.arrays import Array, Floats
from cellkin.core.records import Evidence
from cellkin.report.canvas import data_uri, font_file
from cellkin.report.cell_maps import pictures
from cellkin.report.heatmaps import SIDE, resized

RADIUS = 0.032  # sides of the picture
NAME = (
    "Spots that look alike by the first two stages of the network, each the other's nearest, on "
    "the cells alone. No part of the distance that voted: the exact maps are above."
)


def spotted(image: Array, places: Floats, side: int = SIDE) -> Array:
    """An image with numbered spots.

    Args:
        image: (S, S, 3) uint8. places: (n, 2), row and column in sides of the picture.

    Returns:
        (side, side, 3) uint8.
    """
    picture = Image.fromarray(np.ascontiguousarray(resized(image, side)))
    draw, radius = ImageDraw.Draw(picture), RADIUS * side
    font = ImageFont.truetype(font_file(), round(1.25 * radius))
    for number, (row, column) in enumerate(places, start=1):
        x, y = column * side, row * side
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill="white", outline="black", width=max(side // 200, 1))
        draw.text((x, y), str(number), fill="black", font=font, anchor="mm")
    return np.asarray(picture)


def spot_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """For each kin and each cell of the other side that is shown, both pictures with spots."""
    query, *others = pictures(evidence)
    rows = []
    for cell, found in zip(others, evidence.spots, strict=False):
        here, there = found.points[:, :2], found.points[:, 2:]
        rows.append(
            {
                "absent": found.absent,
                "query": data_uri(spotted(query.image, here), lossless=False),
                "other": data_uri(spotted(cell.image, there), lossless=False),
                "words": f"{len(found.points)} of {found.all} matches",
            }
        )
    return rows
