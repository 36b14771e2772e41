"""Where nuclei are, told from the stain alone: for smears stained after Romanowsky.

Nuclei bind azure and eosin together and turn violet: they take red and green out of the light and
leave blue. Red cells take green and blue and leave red. So on the scale of optical density (Beer
and Lambert) `red + green - 2 blue` is large in nuclei, small in basophilic cytoplasm, and about
zero or below in red cells and on the empty ground, whatever the strength of the lamp. A nucleus is
a stretch of that stain that is dense and large enough; a platelet is dense but small.

Not for haematoxylin and eosin, and not for cells without a stain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Singles
from cellkin.imaging.checks import BLACK, brightest, require_rgb

NUCLEAR = 0.8
"""Stain (optical density) from which on a stretch of a nucleus's size is called a nucleus."""

DOUBTFUL = 0.5
"""Stain above which a stretch might be a nucleus: pale, out of focus, or half outside."""

LEAST_SHARE = 0.055
"""Radius of the smallest nucleus that is looked for, as a share of the image's shorter side, where
none is given: the image of one cell. The nucleus of a small lymphocyte measures 0.09."""

CUT_OUT = 0.3  # share of black from which on no empty ground is left to tell the light from
DENSEST = 2.5  # optical density: darker pixels are as good as black
CLOSED = 0.5  # gaps up to this share of the least radius are bridged: lobes of one nucleus
SMOOTH = 1 / 6  # width of the smoothing, in least radii
HALF = 0.5  # of a nucleus's own stain: where its edge is drawn


@dataclass(frozen=True)
class Nucleus:
    """One nucleus, or the lobes of one, in pixels of the image.

    Attributes:
        x, y: of its centre of mass. radius: of the disc of the same area.
        stain: its mean stain, in optical density.
    """

    x: float
    y: float
    radius: float
    stain: float


def nuclear_stain(rgb: Bytes) -> Singles:
    """Nuclear stain of each pixel: (H, W) float32, optical density, about 0 outside nuclei.

    The light is the 95th percentile of each channel, or white where a cell was cut out on black.
    Black itself carries no stain.

    Args:
        rgb: (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the array is no RGB image.
    """
    require_rgb(rgb, "in which nuclei were looked for")
    black = brightest(rgb) <= BLACK
    light = np.full(3, 255.0)
    if black.mean() < CUT_OUT:
        light = np.percentile(rgb[::2, ::2][~black[::2, ::2]], 95, axis=0)
    densities = -np.log(np.arange(1, 257)[:, None] / (light + 1))
    tables = (np.clip(densities, 0, DENSEST) * (1, 1, -2)).astype(np.float32)
    stain = sum(tables[:, channel][rgb[..., channel]] for channel in range(3))
    return np.where(black, np.float32(0), np.asarray(stain, np.float32))


def nuclei(rgb: Bytes, *, least_radius: float | None = None) -> tuple[Nucleus, ...]:
    """The nuclei in an image, the largest first.

    Nuclei that touch count as one; so do the lobes of one nucleus.

    Args:
        rgb: (H, W, 3) uint8 RGB: one cell, or a field of many.
        least_radius: of the smallest nucleus that counts, in pixels; `LEAST_SHARE` of the shorter
            side where it is not given, which suits the image of one cell, not a field.

    Raises:
        ImageError: the array is no RGB image.
    """
    radius = _least_radius(rgb, least_radius)
    stain = _smoothed(rgb, radius)
    found = [_measured(stain, *stretch) for stretch in _stretches(stain, radius)]
    return tuple(sorted(found, key=lambda nucleus: -nucleus.radius))


def nuclei_mask(rgb: Bytes, *, least_radius: float | None = None) -> Bools:
    """Where the nuclei lie: (H, W) bool; arguments and errors as in `nuclei`."""
    radius = _least_radius(rgb, least_radius)
    mask = np.zeros(rgb.shape[:2], bool)
    for place, inside in _stretches(_smoothed(rgb, radius), radius):
        mask[place] |= inside
    return mask


def nucleus_score(rgb: Bytes, *, least_radius: float | None = None) -> float:
    """How much there is of a nucleus: the mean stain of the disc of the least radius, laid where
    the stain is densest.

    Above `NUCLEAR` there is a nucleus, below `DOUBTFUL` none. Arguments and errors as in `nuclei`.
    """
    return float(_over_discs(rgb, _least_radius(rgb, least_radius)).max())


def doubtful_mask(rgb: Bytes, *, least_radius: float | None = None) -> Bools:
    """Every pixel that a nucleus might cover, (H, W) bool: those within a disc of the least radius
    whose mean stain is above `DOUBTFUL`. Arguments and errors as in `nuclei`.
    """
    radius = _least_radius(rgb, least_radius)
    elsewhere = (_over_discs(rgb, radius) <= DOUBTFUL).astype(np.uint8)
    if elsewhere.all():
        return np.zeros(elsewhere.shape, bool)
    away = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away <= radius, bool)


Stretch = tuple[tuple[slice, slice], Bools]
"""A rectangle of the image, and which of its pixels belong."""


def _stretches(stain: Singles, radius: float) -> Iterator[Stretch]:
    """Dense stretches of a nucleus's size, each with its edge at half of its own stain."""
    dense = (stain > NUCLEAR).astype(np.uint8)
    joined = cv2.morphologyEx(dense, cv2.MORPH_CLOSE, _disc(CLOSED * radius))
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    least = np.pi * radius**2
    margin = int(np.ceil(radius))
    for part in range(1, count):
        left, top, width, height, area = (int(value) for value in boxes[part])
        if area < least:
            continue
        place = (
            slice(max(top - margin, 0), top + height + margin),
            slice(max(left - margin, 0), left + width + margin),
        )
        own = parts[place] == part
        inside = _to_its_edge(stain[place], own, parts[place])
        if np.count_nonzero(inside) >= least:
            yield place, inside


def _to_its_edge(stain: Singles, own: Bools, parts: Array) -> Bools:
    """The stretch up to half of its own stain (the 90th percentile), others left out."""
    edge = HALF * float(np.percentile(stain[own], 90))
    inside = ((stain > edge) & (own | (parts == 0))).astype(np.uint8)
    _, pieces = cv2.connectedComponents(inside, connectivity=8)
    kept = np.unique(pieces[own & (inside > 0)])
    return np.asarray(np.isin(pieces, kept) & (inside > 0), bool)


def _measured(stain: Singles, place: tuple[slice, slice], inside: Bools) -> Nucleus:
    rows, columns = np.nonzero(inside)
    return Nucleus(
        x=float(columns.mean()) + place[1].start,
        y=float(rows.mean()) + place[0].start,
        radius=float(np.sqrt(len(rows) / np.pi)),
        stain=float(stain[place][inside].mean()),
    )


def _over_discs(rgb: Bytes, radius: float) -> Singles:
    """Mean stain (H, W) of the disc around each pixel."""
    disc = _disc(radius).astype(np.float32)
    means = cv2.filter2D(
        nuclear_stain(rgb), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101
    )
    return np.asarray(means, np.float32)


def _smoothed(rgb: Bytes, radius: float) -> Singles:
    return np.asarray(cv2.GaussianBlur(nuclear_stain(rgb), (0, 0), max(SMOOTH * radius, 0.5)))


def _disc(radius: float) -> Bytes:
    side = 2 * max(round(radius), 1) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _least_radius(rgb: Bytes, given: float | None) -> float:
    require_rgb(rgb, "in which nuclei were looked for")
    radius = LEAST_SHARE * min(rgb.shape[:2]) if given is None else float(given)
    return max(radius, 1.0)
