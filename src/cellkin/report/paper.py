"""The figure of one decision for a paper or a report: the paper's Figs. 7 to 10 and 13 to 15, and
the contrast, on one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellkin.core.arrays import Array
from cellkin.core.records import NOTICE, Evidence
from cellkin.report.canvas import FONT, new_figure, printable, write_figure
from cellkin.report.cell_maps import contrast_scale, density, opponents, pictures
from cellkin.report.figures import (
    DRAWN,
    INK,
    MUTED,
    against_captions,
    class_handle,
    draw_map,
    frame,
    kin_captions,
    picture,
)
from cellkin.report.heatmaps import Scale, overlay, resized, shared_scale, status
from cellkin.report.scatter import map_view
from cellkin.report.telling import tell
from cellkin.report.words import inside_words

DPI = 300
WIDTH, EDGE, GAP = 9.5, 0.35, 0.1  # inches
QUERY = 2.75  # side of the query, the largest thing on the page
PIXELS, LARGE = 420, 830  # of a tile, and of the query, at 300 dpi
MARKS = 0.4  # area of the marks on a map, of those on one that fills a figure


class Sheet:
    """A page that is filled from above, in inches."""

    def __init__(self, height: float) -> None:
        self.figure: Figure = new_figure(WIDTH, height)
        self.height, self.top = height, 0.3

    def axes(self, left: float, down: float, wide: float, tall: float) -> Axes:
        """Axes whose upper left corner lies so far below what was filled."""
        bottom = self.height - self.top - down - tall
        place = left / WIDTH, bottom / self.height, wide / WIDTH, tall / self.height
        return self.figure.add_axes(place)

    def say(self, words: str, *, size: float = 8, bold: bool = False, color: str = INK) -> None:
        """A line from the left edge."""
        manner: dict[str, Any] = {"weight": "bold"} if bold else {}
        self.figure.text(EDGE / WIDTH, 1 - self.top / self.height, words, va="top", fontsize=size,
                         color=color, family=FONT, parse_math=False, **manner)  # fmt: skip
        self.top += size / 72 * 1.3 * (words.count("\n") + 1)

    def row(self, letter: str, title: str) -> None:
        """The head of a row."""
        self.say(f"{letter}  {title}", size=8.5, bold=True)
        self.top += 0.22


def paper_figure(evidence: Evidence) -> Figure:
    """Query, kin and other side; contrast, Grad-CAM, Metric-Grad-CAM; the place on the map."""
    others = len(evidence.decision.neighbors) + opponents(evidence)
    side = min((WIDTH - 2 * EDGE - others * GAP) / (others + 1), 1.5)
    page = Sheet(QUERY + 5 * side + 5.75)
    told = tell(evidence.decision, evidence.labels, evidence.influence)
    page.say(printable(told.line, 82), size=12, bold=True)
    page.say(printable(" ".join(told.verdict), 120), size=8)
    page.top += 0.1
    heads = [*kin_captions(evidence), *against_captions(evidence)]
    _cells(page, evidence, heads)
    titles = [printable(head, 17, 1) for head, _ in heads]
    _contrast(page, evidence, titles, side)
    _grad_cam(page, evidence, titles, side)
    _pairs(page, evidence, titles, side)
    _places(page, evidence)
    page.say(f"{DRAWN}. {NOTICE}" if evidence.provenance.drawn else NOTICE, size=6.5, color=MUTED)
    return page.figure


def save_paper(evidence: Evidence, folder: Path, dpi: int = DPI) -> list[Path]:
    """Write `figure.png` and `figure.svg`.

    Raises:
        OutputError: a file cannot be written.
    """
    figure = paper_figure(evidence)
    return [write_figure(figure, folder / f"figure.{kind}", dpi) for kind in ("png", "svg")]


def _cells(page: Sheet, evidence: Evidence, heads: Sequence[tuple[str, str]]) -> None:
    """The query, large, and the others in two rows beside it (Figs. 7 and 13)."""
    page.row("a", "The cell, its closest kin, and the nearest of the other side")
    query, *others = pictures(evidence)
    large = page.axes(EDGE, 0, QUERY, QUERY)
    picture(large, resized(query.image, LARGE), "Query")
    frame(large)
    columns = -(-len(others) // 2)
    left, tall = EDGE + QUERY + 0.3, (QUERY - 0.45) / 2
    step = max((WIDTH - EDGE - left) / columns, tall)
    for i, (cell, (head, below)) in enumerate(zip(others, heads, strict=True)):
        at = left + (i % columns) * step, (i // columns) * (tall + 0.45)
        axes = page.axes(*at, tall, tall)
        picture(axes, resized(cell.image, PIXELS), head, below.split("\n")[0])
    page.top += QUERY + 0.5


def _row(
    page: Sheet, side: float, tiles: Sequence[tuple[Array, str, str, str]], start: int = 0
) -> None:
    """Tiles of (image, above, below, inside); the first has the frame of the query."""
    for i, (image, above, below, inside) in enumerate(tiles, start):
        axes = page.axes(EDGE + i * (side + GAP), 0, side, side)
        picture(axes, image, above, below, inside)
        if not i:
            frame(axes)


def _contrast(page: Sheet, evidence: Evidence, heads: Sequence[str], side: float) -> None:
    page.row("b", "Why this side and not the other: red for the verdict, blue (dashed) against it")
    why = evidence.contrast
    if why is None:
        return page.say(f"Not available: {evidence.contrast_absent or 'no reason was given'}")
    cells = pictures(evidence)
    found = (why.on_query, *why.on_others)[: len(cells)]
    scale, tiles = contrast_scale(found), []
    for cell, one, head in zip(cells, found, ["Query", *heads], strict=True):
        values = density(one.values)
        inside = one.refused or status(values, pair=True)
        below = printable(inside_words(values, cell.outline), 18)
        tiles.append((_drawn(cell, values, scale, one.refused), head, below, inside))
    _row(page, side, tiles)
    page.top += side + 0.6


def _grad_cam(page: Sheet, evidence: Evidence, heads: Sequence[str], side: float) -> None:
    title = evidence.labels.title(evidence.decision.label)
    page.row("c", printable(f"Grad-CAM: what speaks for {title}, on each picture by itself"))
    if evidence.heatmap is None:
        return page.say(f"Not available: {evidence.heatmap_absent}")
    maps = [h.values for h in (evidence.heatmap, *evidence.reference_heatmaps)]
    scale = shared_scale(maps)
    shown = zip(pictures(evidence), maps, ["Query", *heads], strict=False)
    tiles = [(_drawn(cell, v, scale), head, "", status(v)) for cell, v, head in shown]
    _row(page, side, tiles)
    page.top += side + 0.2


def _pairs(page: Sheet, evidence: Evidence, heads: Sequence[str], side: float) -> None:
    page.row("d", "Metric-Grad-CAM: where the cell (above) and each of the others are alike")
    if not evidence.pairs:
        return page.say(f"Not available: {evidence.pairs_absent}")
    counter = evidence.counter.pairs[: opponents(evidence)] if evidence.counter else ()
    pairs = (*evidence.pairs, *counter)
    sides = [(pair.on_query(), pair.on_reference()) for pair in pairs]
    good = [m for pair, both in zip(pairs, sides, strict=True) if not pair.refused for m in both]
    scale = shared_scale(good, signed=True)
    query, *others = pictures(evidence)
    for at in (0, 1):
        cells = [query] * len(others) if at == 0 else others
        shown = zip(cells, pairs, sides, heads, strict=True)
        tiles = [
            (_drawn(cell, both[at], scale, pair.refused), "" if at else head, "",
             pair.refused or status(both[at], pair=True))
            for cell, pair, both, head in shown
        ]  # fmt: skip
        _row(page, side, tiles, start=1)
        page.top += side + 0.06
    page.top += 0.15


def _drawn(cell: Any, values: Array, scale: Scale, refused: str = "") -> Array:
    if refused:
        return resized(cell.image, PIXELS)
    return overlay(cell.image, values, scale, PIXELS, cell.outline)


def _places(page: Sheet, evidence: Evidence) -> None:
    """The map, whole and close up (Figs. 10 and 15)."""
    page.row("e", "Place among the cells of the atlas (t-SNE), and around it, kin by rank")
    page.top -= 0.12
    whole = map_view(evidence, 640, 640)
    near = map_view(evidence, 640, 640, closeup=True)
    tall = QUERY - 0.35
    for i, view in enumerate((whole, near)):
        draw_map(page.axes(EDGE + i * (tall + 0.2), 0, tall, tall), view, MARKS)
    titles = [printable(evidence.labels.title(p.label), 24) for p in whole.references]
    legend = page.figure.legend(
        [class_handle(p.index) for p in whole.references], titles, loc="upper left",
        bbox_to_anchor=((EDGE + 2 * (tall + 0.2)) / WIDTH, 1 - page.top / page.height),
        frameon=False, prop={"family": FONT, "size": 7.5}, ncols=1 if len(titles) < 14 else 2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    page.top += tall + 0.15
