"""The focus of a data set as one picture: cells before and after sharpening, scores by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.records import NOTICE
from cellkin.report.canvas import FONT, new_figure, printable, write_figure
from cellkin.report.scatter import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1f24", "#57606a", "#e4e8ec"
BINS = 24
PLAIN: dict[str, Any] = {"color": INK, "family": FONT}
SOFT: dict[str, Any] = {"color": MUTED, "family": FONT}

Sharpened = tuple[str, Bytes, float, Bytes, float]
"""Title, image (S, S, 3) uint8 as it is and its score, the same sharpened and its score."""


def focus_figure(
    title: str, cells: Sequence[Sharpened], scores: Mapping[str, Sequence[float]], path: Path
) -> Path:
    """Draw cells before (upper row) and after sharpening, and histograms of the score as one PNG.

    Args:
        cells: 1 to 9 cells, from the most blurred to the sharpest.
        scores: class -> focus scores of its images, in (0, 1], none of them empty.

    Raises:
        OutputError: the file cannot be written.
    """
    width = 1.45 * max(len(cells), 6) + 0.6
    tall = 0.34 * len(scores) + 0.9
    height = 4.3 + tall
    figure = new_figure(width, height)
    figure.text(0.02, 1 - 0.12 / height, printable(title), va="top", size=12, **PLAIN)
    _cells(figure, cells, (1 - 0.75 / height, 1.45 / height, 1 / width))
    _histograms(figure, scores, (0.75 / height, tall / height))
    figure.text(0.02, 0.08 / height, printable(NOTICE), size=7.5, **SOFT)
    return write_figure(figure, path)


def _cells(figure: Figure, cells: Sequence[Sharpened], room: tuple[float, float, float]) -> None:
    top, row, inch = room
    for at, (name, before, score, after, sharper) in enumerate(cells):
        for down, (image, value) in enumerate(((before, score), (after, sharper))):
            place = ((0.5 + 1.45 * at) * inch, top - (down + 1) * row * 1.1, 1.3 * inch, row * 0.9)
            axes = figure.add_axes(place)
            axes.imshow(image)
            axes.set_axis_off()
            label = f"{value:.2f}" if down == 0 or value != score else f"{value:.2f} (as it was)"
            axes.set_title(label, size=8, pad=2, **PLAIN)
            if down == 0:
                manner = {"transform": axes.transAxes, "ha": "center", "size": 8, **SOFT}
                axes.text(0.5, 1.2, printable(name, 22, 2), **manner)
    for down, word in enumerate(("before", "after")):
        middle = top - (down + 0.65) * row * 1.1
        figure.text(0.1 * inch, middle, word, rotation=90, va="center", size=8.5, **PLAIN)


def _histograms(
    figure: Figure, scores: Mapping[str, Sequence[float]], room: tuple[float, float]
) -> None:
    bottom, tall = room
    edges = np.linspace(0, 1, BINS + 1)
    each = (tall - 0.08) / len(scores)
    for at, (name, values) in enumerate(scores.items()):
        axes = figure.add_axes((0.24, bottom + tall - 0.06 - (at + 1) * each, 0.72, each * 0.86))
        axes.hist(values, bins=edges.tolist(), color=COLORS[at % len(COLORS)])
        axes.axvline(float(np.median(values)), color=INK, linewidth=1)
        axes.set_xlim(0, 1)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        named = printable(f"{name} ({len(values)})", 32, 2)
        axes.text(-0.01, 0.3, named, ha="right", size=8, transform=axes.transAxes, **PLAIN)
        last = at == len(scores) - 1
        axes.tick_params(labelbottom=last, bottom=last, labelsize=8, colors=MUTED)
        if last:
            axes.set_xlabel("focus score at 224 pixels; the line is the median", size=8.5, **PLAIN)
