"""A field at a glance: its light, its ruler, and the scale at which it is to be searched."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.smear.evened import Colour, Evened, overview, white_of
from cellkin.smear.field import Box, Field
from cellkin.smear.light import Light
from cellkin.smear.ruler import LEAST, RED_CELL, RedCells, Ruler, red_cells
from cellkin.smear.searching import looked, red_cells_seen
from cellkin.smear.seeing import RED_PIXELS, Finder
from cellkin.smear.suitable import FEW, SOME, Glance

LEAST_SIDE = 64  # pixels: no cell that can be told is smaller
PROBE = 480  # side of the part, in pixels of what the network sees, in which the scale is told
PHOTO = 60_000_000  # pixels up to which a field is a photograph, lit by one lamp
SHRUNK = 1.5  # pixels of a field per pixel of its overview: small red cells may be lost in it
WINDOW = 2400  # side of the part, in pixels, that stands for a slide
EMPTY = 0.98  # of the brightest part's green: where it is darker, something lies
FINEST = 1 / 3  # pixels of the field per pixel of what the network sees: more is not in it
GUESSES = (5.0, 9.0, 16.0, 28.0, 50.0)  # red cells along the shorter side, where nothing tells it
AGREES = 0.12  # of the scale: nearer than this it is not asked again


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of a field before it is searched; see `FoundField`."""

    light: Light | None
    white: Colour
    ruler: Ruler | None
    red_cells: RedCells
    downsample: float
    glance: Glance


def survey(field: Field, given: float | None, network: Finder) -> Survey:
    """Look at a field as a whole; of a slide, red cells are measured in a part that is not empty.

    Raises:
        ImageError: it cannot be read, is black or too small.
    """
    if min(field.width, field.height) < LEAST_SIDE:
        raise ImageError(
            f"this field is too small: {field.width} x {field.height} pixels, at least "
            f"{LEAST_SIDE} a side are needed",
            where=field.path,
            mend="give the picture as the camera took it",
        )
    even, box, reds, glance = _measured(field)
    ruler = _ruler(field, given, reds)
    if ruler is not None:
        downsample = max(RED_CELL / ruler.um_per_pixel / RED_PIXELS, FINEST)
    else:
        downsample = _told_by_network(even, box, network, reds)
    return Survey(even.light, even.white, ruler, reds, downsample, glance)


def red_cells_of(field: Field) -> RedCells:
    """The isolated round red cells of a field, diameters in its pixels.

    Raises:
        ImageError: it cannot be read, or is black.
    """
    return _measured(field)[2]


def _measured(field: Field) -> tuple[Evened, Box, RedCells, Glance]:
    """A field in its light, the part in which red cells are measured, and these; seams and what is
    brighter than the ground are told of photographs.
    """
    view, step = overview(field)
    white = white_of(view, field.path)
    if field.width * field.height <= PHOTO:
        even, box = Evened(field, Light.of(view), white), (0, 0, field.width, field.height)
        seen = even.overview(view)
        reds = RedCells(red_cells(seen).diameters * np.float32(step))
        if len(reds) < LEAST and step > SHRUNK:  # too small to be told at a glance
            reds = max(reds, red_cells(even.part(_full(view, field, step), 1.0)), key=len)
        return even, box, reds, Glance.of(view, seen)
    even, box = Evened(field, None, white), _full(view, field, step)
    return even, box, red_cells(even.part(box, 1.0)), Glance()


def _full(view: Bytes, field: Field, step: float) -> Box:
    """A part of a slide on which as much lies as on most that are not empty, by its overview."""
    columns, rows = (max(n // WINDOW, 1) for n in (field.width, field.height))
    green = cv2.resize(view[..., 1], (columns, rows), interpolation=cv2.INTER_AREA).ravel()
    covered = np.flatnonzero(green <= max(EMPTY * green.max(), green.min()))
    middle = covered[np.argsort(green[covered], kind="stable")[len(covered) // 2]]
    top, left = (int(n) * WINDOW for n in divmod(int(middle), columns))
    return left, top, min(left + WINDOW, field.width), min(top + WINDOW, field.height)


def _ruler(field: Field, given: float | None, reds: RedCells) -> Ruler | None:
    if given is not None:
        return Ruler(given, "given")
    if field.um_per_pixel is not None:
        return Ruler.told(field.um_per_pixel, reds)
    return Ruler.by(reds)


def _told_by_network(even: Evened, box: Box, network: Finder, reds: RedCells) -> float:
    """Pixels of the field per pixel at which the network sees red cells of their right size."""
    shorter = min(box[2] - box[0], box[3] - box[1])
    starts = [reds.mean / RED_PIXELS] if len(reds) >= FEW else []
    if len(reds) < SOME:
        starts += [max(shorter / guess / RED_PIXELS, FINEST) for guess in GUESSES]
    seen = [(*_reds_seen(even, box, start, network), start) for start in starts]
    share, size, best = max(seen)
    for _ in range(3):
        if share == 0 or abs(np.log(size / RED_PIXELS)) < AGREES:
            break
        best = max(best * size / RED_PIXELS, FINEST)
        share, size = _reds_seen(even, box, best, network)
    return best


def _reds_seen(even: Evened, box: Box, downsample: float, network: Finder) -> tuple[float, float]:
    """In the middle of a box: the share that the network calls red cells of their right size, and
    the middle size in its pixels of all that it calls red cells.
    """
    rgb = even.part(_middle(box, PROBE * downsample), downsample)
    scores, sizes = red_cells_seen(*looked(network, rgb, mirrored=False))
    if not len(sizes):
        return 0.0, RED_PIXELS
    fits = np.exp(-((np.log(sizes / RED_PIXELS) / 0.4) ** 2))
    share = (scores * fits * sizes**2).sum() / (rgb.shape[0] * rgb.shape[1])
    return float(share), float(np.median(sizes))


def _middle(box: Box, side: float) -> Box:
    """A square around the middle of a box, as far as the box reaches."""
    left, top, right, bottom = box
    x, y, reach = (left + right) // 2, (top + bottom) // 2, int(side / 2)
    return max(x - reach, left), max(y - reach, top), min(x + reach, right), min(y + reach, bottom)
