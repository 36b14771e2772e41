"""Is this a blood smear at all? Told by what the finder itself recognises of what lies there.

On a smear red and white cells make up most of what is darker than the ground. Of tissue, text or
noise the finder recognises little. A field that is none is said to be none: what was found in it is
told with that doubt, and a differential leaves it out by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from statistics import median

import cv2
import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.numbers import percent
from cellkin.smear.found import Cell
from cellkin.smear.ruler import RED_CELL, RedCells, Ruler
from cellkin.smear.seeing import RED_PIXELS

COVERED = 213  # of 255: where a channel is darker, something lies on the ground
SURE = 0.6  # score from which on a white cell is recognised without doubt
LEAST, DOUBTFUL = 0.17, 0.3  # of what is covered that must be recognised; beside many unsure cells
UNSURE, MANY = 0.6, 5  # middle score of the white cells that tissue seems to hold; so many of them
EMPTY, LITTLE = (
    0.004,
    0.06,
)  # of the field; where less is covered, nothing or hardly anything is there
BRIGHTER = 252  # of 255 in every channel: brighter than the ground
MOST_BRIGHT = 0.1  # of a field; smears have 0.06 and less
SEAM = 5.0  # difference across a line, over those near it; smears have 3.1 and less
NEAR, EDGE = 6, 3  # lines to either side of one; lines that are left out along the edge
FEW, SOME = 3, 10  # isolated red cells, or those the finder sees, that can contradict a scale
OFF, SEEN_OFF = 1.8, 1.5  # by how much they do; the finder sees sizes drawn towards its own

NO_SMEAR = "this does not look like a blood smear: "


@dataclass(frozen=True)
class Tally:
    """What was recognised: areas in pixels of the field, and red cells with their sizes.

    Attributes:
        seen, covered: searched, and darker than the ground. red: by red cells. reds: their number,
            each by its score. sizes: the sum of their sizes, in pixels of what the finder saw.
    """

    seen: float = 0.0
    covered: float = 0.0
    red: float = 0.0
    reds: float = 0.0
    sizes: float = 0.0

    @classmethod
    def total(cls, tallies: Iterable[Sequence[float]]) -> Tally:
        """Those of several parts, added up."""
        return cls(*map(sum, zip(*tallies, strict=True)))

    def to_json(self) -> list[float]:
        return list(astuple(self))


@dataclass(frozen=True)
class Glance:
    """What a field shows at a glance.

    Attributes:
        brighter: share that is brighter than the ground. seam: how sharp the second straight line
            through the whole field is, against what is near it.
    """

    brighter: float = 0.0
    seam: float = 0.0

    @classmethod
    def of(cls, view: Bytes, even: Bytes) -> Glance:
        """Of the field as it is and in even light, (H, W, 3) uint8."""
        brighter = float((even.min(axis=2) >= BRIGHTER).mean())
        return cls(brighter, max(_seam(view, axis) for axis in (0, 1)))


def _seam(view: Bytes, axis: int) -> float:
    lines = view.astype(np.float32)
    steps = np.abs(np.diff(lines, axis=axis)).mean(axis=(1 - axis, 2))
    if len(steps) < 2 * (NEAR + EDGE):
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(steps, NEAR, "edge"), 2 * NEAR + 1)
    sharp = steps / np.maximum(np.median(windows, axis=1), 0.5)
    return float(np.sort(sharp[EDGE:-EDGE])[-2])


def covered_in(rgb: Bytes) -> int:
    """Pixels of a picture in even light in which something lies on the ground."""
    free = cv2.countNonZero(cv2.inRange(rgb, (COVERED,) * 3, (255,) * 3))
    return int(rgb.shape[0] * rgb.shape[1] - free)


def unsuitable(tally: Tally, glance: Glance, cells: Sequence[Cell]) -> str:
    """Why a field is no blood smear; an empty string where it can be one."""
    if glance.seam > SEAM:
        return (
            f"{NO_SMEAR}straight lines run through all of it, as through a sheet of several "
            f"pictures, a page or a screen"
        )
    if glance.brighter > MOST_BRIGHT:
        return (
            f"{NO_SMEAR}{percent(glance.brighter, 0)} of it is brighter than its ground, as in a "
            f"negative, a dark field or fluorescence"
        )
    whites = [c for c in cells if c.kind in ("white cell", "border")]
    sure = sum((c.right - c.left) * (c.bottom - c.top) for c in whites if c.score >= SURE)
    unsure = len(whites) >= MANY and median(c.score for c in whites) < UNSURE
    known = (tally.red + sure) / max(tally.covered, 1.0)
    if tally.covered > LITTLE * tally.seen and known < (DOUBTFUL if unsure else LEAST):
        return (
            f"{NO_SMEAR}red and white cells make up {percent(known, 0)} of what lies there (or it "
            f"is out of focus, or at another scale than is told)"
        )
    return ""


def notes_of(tally: Tally, ruler: Ruler | None, reds: RedCells) -> list[str]:
    """What else is to be said of a field: that it is empty, or that its scale cannot be right."""
    notes = []
    if tally.covered <= EMPTY * tally.seen:
        notes.append(
            "nothing lies on the ground of this field: an empty place, out of focus or overexposed"
        )
    elif tally.covered <= LITTLE * tally.seen and tally.red < LEAST * tally.covered:
        notes.append(
            "hardly anything lies on this field, and no red cells that tell its scale: look at it"
        )
    if ruler is not None and (ruler.refuted is not None or ruler.source != "red cells"):
        notes += _contradicted(tally, ruler, reds)
    return notes


def _contradicted(tally: Tally, ruler: Ruler, reds: RedCells) -> list[str]:
    um = ruler.refuted or ruler.um_per_pixel
    if len(reds) >= FEW:
        size, most = reds.mean * um, OFF
    elif tally.reds >= SOME:
        size, most = RED_CELL * tally.sizes / tally.reds / RED_PIXELS, SEEN_OFF
    else:
        return []
    if 1 / most < size / RED_CELL < most:
        return []
    told = "given" if ruler.source == "given" else "told by the file"
    return [
        f"at the {um:.3g} micrometres per pixel that are {told} its red cells "
        f"measure {size:.1f} micrometres, not {RED_CELL}: check the scale (--mpp)"
        + "; the red cells are believed"
        * (ruler.refuted is not None)
    ]
