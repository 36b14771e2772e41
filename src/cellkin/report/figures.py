"""The paper's Figs. 7 to 10 for one decision, as figures that stand by themselves.

Every figure carries what it shows in words, its scale in numbers, and the notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cellkin.core.arrays import Array
from cellkin.core.numbers import number
from cellkin.core.records import NOTICE, DifferenceMap, Evidence, PairMap
from cellkin.report.canvas import FONT, new_figure, printable
from cellkin.report.cell_maps import contrast_scale, density, opponents, pictures
from cellkin.report.heatmaps import Scale, color_bar, overlay, peak, resized, shared_scale, status
from cellkin.report.scatter import COLORS, MARKERS, MapView, map_view, style
from cellkin.report.telling import share_words
from cellkin.report.words import inside_words, shown_name, trust_words

TILE, GAP, LEFT = 1.9, 0.16, 0.25  # inches
PIXELS = 300  # of a tile, a little more than it covers at the figure's resolution
HEAD, FOOT = 0.46, 0.4
LINE, CAPTION = 0.14, 0.5
ASIDE, SEAM = 0.62, 0.08
COLUMNS = 7
INK, MUTED, EDGE = "#1b1f24", "#57606a", "#1b1f2499"
ACCENT, WARNING = "#0b5cad", "#8a4b00"
DRAWN = "Drawn cells: synthetic, no real blood"


def neighbors_figure(evidence: Evidence) -> Figure:
    """The query beside its k neighbours and the nearest of the other side (Fig. 7)."""
    images = (evidence.query_image, *evidence.reference_images, *_against_images(evidence))
    captions = [_query_caption(evidence), *kin_captions(evidence), *against_captions(evidence)]
    title = "The query and its closest kin"
    if opponents(evidence):
        title = "The query, its closest kin, and the nearest of the other side"
    figure, tiles = _grid(title, [c[0] for c in captions], evidence)
    for (axes,), image, caption in zip(tiles, images, captions, strict=True):
        picture(axes, resized(image, PIXELS), *caption)
    frame(tiles[0][0])
    return figure


def contrast_figure(evidence: Evidence) -> Figure:
    """Why this side and not the other, on every picture, one scale."""
    title = "Why this side and not the other: the contrast map"
    why = evidence.contrast
    if why is None:
        return _absent(title, evidence.contrast_absent or "no reason was given", evidence)
    cells = pictures(evidence)
    found = (why.on_query, *why.on_others)[: len(cells)]
    scale = contrast_scale(found)
    captions = [_query_caption(evidence), *kin_captions(evidence), *against_captions(evidence)]
    heads = [head for head, _ in captions]
    bar = (scale, "red speaks for the verdict, blue (dashed) for the other side")
    figure, tiles = _grid(title, heads, evidence, bar=bar)
    for (axes,), cell, one, head in zip(tiles, cells, found, heads, strict=True):
        values = density(one.values)
        drawn = overlay(cell.image, values, scale, PIXELS, cell.outline)
        inside = one.refused or status(values, pair=True)
        below = f"margin {number(one.margin)}\n{printable(inside_words(values, cell.outline), 40)}"
        picture(axes, resized(cell.image, PIXELS) if one.refused else drawn, head,
                 "" if one.refused else below, inside=inside)  # fmt: skip
    frame(tiles[0][0])
    return _warn(figure, why.warning)


def grad_cam_figure(evidence: Evidence) -> Figure:
    """Grad-CAM of the voted class on the query and each neighbour, one scale (Fig. 8)."""
    title = f"Grad-CAM for {evidence.labels.title(evidence.decision.label)}"
    if evidence.heatmap is None:
        return _absent(title, evidence.heatmap_absent, evidence)
    heatmaps = (evidence.heatmap, *evidence.reference_heatmaps)
    maps = [h.values for h in heatmaps]
    scale = shared_scale(maps, signed=any(h.signed for h in heatmaps))
    heads = ["Query", *(head for head, _ in kin_captions(evidence))]
    bar = (scale, "evidence for the class, by position")
    figure, tiles = _grid(title, heads, evidence, bar=bar)
    _warn(figure, evidence.heatmap.warning)
    cells = pictures(evidence)[: len(heads)]
    for (axes,), cell, values, head in zip(tiles, cells, maps, heads, strict=True):
        empty = status(values)
        below = "" if empty else f"peak {number(peak(values), 2)}"
        drawn = overlay(cell.image, values, scale, PIXELS, cell.outline)
        picture(axes, drawn, head, below, inside=empty)
    frame(tiles[0][0])
    return figure


def metric_grad_cam_figure(evidence: Evidence) -> Figure:
    """Where the query is like each neighbour, and like the other side: both maps (Fig. 9)."""
    title = "Metric-Grad-CAM: where the query and each of its kin are alike"
    if not evidence.pairs:
        return _absent(title, evidence.pairs_absent, evidence)
    counter = evidence.counter.pairs[: opponents(evidence)] if evidence.counter else ()
    found = [
        (pair.on_query(), pair.on_reference(), pair.refused, _pair_caption(pair))
        for pair in (*evidence.pairs, *counter)
    ]
    note = "share of the likeness: red speaks for it, blue (dashed) against it"
    return _warn(_two_sided(evidence, title, found, note), evidence.pairs[0].warning)


def difference_figure(evidence: Evidence) -> Figure:
    """What makes the query and each neighbour differ: the distance that voted, by position."""
    title = "What makes them differ: the distance that voted, by position"
    if not evidence.differences:
        return _absent(title, "no reason was given", evidence)
    counter = evidence.counter.differences[: opponents(evidence)] if evidence.counter else ()
    found = [
        (d.on_query, d.on_reference, d.refused, _difference_caption(d))
        for d in (*evidence.differences, *counter)
    ]
    figure = _two_sided(evidence, title, found, "red drives them apart, blue (dashed) together")
    return _warn(figure, evidence.differences[0].warning)


def _two_sided(
    evidence: Evidence, title: str, found: Sequence[tuple[Array, Array, str, str]], note: str
) -> Figure:
    """Two maps per reference cell, one scale; a refused map is named and not drawn."""
    good = [m for *maps, refused, _ in found for m in maps if not refused]
    scale = shared_scale(good, signed=True)
    heads = [head for head, _ in (*kin_captions(evidence), *against_captions(evidence))]
    query, *others = pictures(evidence)
    figure, tiles = _grid(title, heads, evidence, tall=2, bar=(scale, note))
    for i, (on_query, on_other, refused, caption) in enumerate(found):
        sides = ((query, on_query), (others[i], on_other))
        for axes, (cell, values), row in zip(tiles[i], sides, (0, 1), strict=True):
            drawn = resized(cell.image, PIXELS)
            if not refused:
                drawn = overlay(cell.image, values, scale, PIXELS, cell.outline)
            inside = refused or status(values, pair=True)
            picture(axes, drawn, "" if row else heads[i], caption if row else "", inside=inside)
    for column in tiles[::COLUMNS]:
        _name_side(column[0], "on the\nquery")
        _name_side(column[1], "on the\nother")
    return figure


def _against_images(evidence: Evidence) -> tuple[Array, ...]:
    if evidence.counter is None:
        return ()
    return tuple(evidence.counter.images[i] for i in range(opponents(evidence)))


def against_captions(evidence: Evidence) -> list[tuple[str, str]]:
    """What stands above and below each cell of the other side."""
    if evidence.counter is None:
        return []
    return [
        (
            printable(f"against: {evidence.labels.title(n.label)}", 24),
            f"distance {number(n.distance)}\nnearest of the other side",
        )
        for n in evidence.counter.neighbors[: opponents(evidence)]
    ]


def map_figure(evidence: Evidence) -> Figure:
    """The t-SNE map with the query and its kin, whole and close up (Fig. 10)."""
    width, height = 11.0, 6.7
    figure = new_figure(width, height)
    _titles(figure, "Place on the map of the atlas (t-SNE)", evidence)
    whole = map_view(evidence, 640, 520)
    near = map_view(evidence, 340, 340, closeup=True)
    bottom = height - 0.58
    for view, left, wide in ((whole, LEFT, 6.7), (near, 7.15, 3.6)):
        tall = wide * view.height / view.width
        place = (left / width, (bottom - tall) / height, wide / width, tall / height)
        draw_map(figure.add_axes(place), view)
    figure.text(7.15 / width, (bottom + 0.04) / height, "around the query, kin by rank",
                va="bottom", fontsize=7.5, color=MUTED, family=FONT)  # fmt: skip
    trust = printable(trust_words(evidence.atlas_facts.get("map")), 150)
    figure.text(LEFT / width, 0.36 / height, trust, va="bottom", fontsize=7, color=MUTED,
                family=FONT)  # fmt: skip
    _legend(figure, evidence, whole)
    return figure


def _query_caption(evidence: Evidence) -> tuple[str, str]:
    return "Query", printable(shown_name(evidence.decision.query), 24, 2)


def kin_captions(evidence: Evidence) -> list[tuple[str, str]]:
    """What stands above and below each of the kin."""
    captions = []
    shares = evidence.influence.shares if evidence.influence else ()
    for kin in evidence.decision.neighbors:
        label = printable(f"{kin.rank} · {evidence.labels.title(kin.label)}", 24)
        subject = f"\nsubject {printable(kin.subject[:16])}" if kin.subject is not None else ""
        share = f", share {share_words(shares[kin.rank - 1])}" if shares else ""
        captions.append((label, f"distance {number(kin.distance)}{share}{subject}"))
    return captions


def _pair_caption(pair: PairMap) -> str:
    error = number(pair.completeness, 2)
    return f"similarity {number(pair.similarity)}\ncompleteness error {error}"


def _difference_caption(found: DifferenceMap) -> str:
    error = number(found.completeness, 2)
    return f"{found.measure} {number(found.total)}\ncompleteness error {error}"


def _titles(figure: Figure, title: str, evidence: Evidence) -> None:
    width, height = figure.get_size_inches()
    place: dict[str, Any] = {"x": LEFT / width, "ha": "left", "family": FONT, "parse_math": False}
    figure.text(y=1 - 0.16 / height, s=printable(title), va="top", fontsize=11, weight="bold",
                color=INK, **place)  # fmt: skip
    figure.text(y=0.1 / height, s=NOTICE, va="bottom", fontsize=6, color=MUTED, **place)
    if evidence.provenance.drawn:
        figure.text(y=0.22 / height, s=DRAWN, va="bottom", fontsize=6.5, weight="bold",
                    color=WARNING, **place)  # fmt: skip


def _warn(figure: Figure, warning: str) -> Figure:
    """The same figure, with what verifying found wrong with its method over it."""
    if warning:
        width, height = figure.get_size_inches()
        figure.text(LEFT / width, 1 - 0.33 / height, printable(warning.split(":")[0]), va="top",
                    fontsize=7.5, weight="bold", color=WARNING, family=FONT)  # fmt: skip
    return figure


def _tile(figure: Figure, left: float, bottom: float) -> Axes:
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, TILE / width, TILE / height))


def _grid(
    title: str,
    heads: Sequence[str],
    evidence: Evidence,
    *,
    tall: int = 1,
    bar: tuple[Scale, str] | None = None,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column of `tall` tiles under every head, wrapped after `COLUMNS` of them."""
    columns, rows = min(len(heads), COLUMNS), -(-len(heads) // COLUMNS)
    aside = ASIDE if tall > 1 else 0.0
    width = 2 * LEFT + aside + max(columns, 4) * (TILE + GAP) - GAP
    head = 0.12 + LINE * max(text.count("\n") + 1 for text in heads)
    column = tall * (TILE + SEAM) - SEAM
    under = FOOT + (0.5 if bar else 0.0)
    step = head + column + CAPTION
    figure = new_figure(width, HEAD + rows * step + under)
    _titles(figure, title, evidence)
    if bar:
        _draw_bar(figure, *bar)
    tiles = []
    for i in range(len(heads)):
        left = LEFT + aside + (i % COLUMNS) * (TILE + GAP)
        top = under + (rows - i // COLUMNS) * step - head
        steps = range(1, tall + 1)
        tiles.append([_tile(figure, left, top - n * TILE - (n - 1) * SEAM) for n in steps])
    return figure, tiles


def picture(axes: Axes, image: Array, above: str, below: str = "", inside: str = "") -> None:
    """A picture with words above, below and in it."""
    axes.imshow(image, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    _write(axes, (0, 1.03), above, va="bottom", fontsize=8, weight="bold")
    _write(axes, (0, -0.03), below, va="top", fontsize=7.5)
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    if inside:
        wrapped = printable(inside, 32)
        _write(axes, (0.03, 0.03), wrapped, va="bottom", fontsize=7, style="italic", bbox=box)


def _write(axes: Axes, at: tuple[float, float], text: str, **manner: Any) -> None:
    axes.text(*at, text, transform=axes.transAxes, family=FONT, parse_math=False, color=INK,
              **manner)  # fmt: skip


def _name_side(axes: Axes, name: str) -> None:
    _write(axes, (-0.05, 0.5), name, ha="right", va="center", fontsize=8)


def frame(axes: Axes) -> None:
    """The frame of the query."""
    for side in axes.spines.values():
        side.set(visible=True, linewidth=2.4, edgecolor=ACCENT)


def _draw_bar(figure: Figure, scale: Scale, name: str) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((LEFT / width, (FOOT + 0.26) / height, 2.6 / width, 0.13 / height))
    axes.imshow(color_bar(scale), aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks(np.linspace(0, 1, len(scale.ticks())), [number(t, 2) for t in scale.ticks()])
    axes.tick_params(labelsize=6.5, length=2, pad=1.5, colors=MUTED)
    note = name if scale.limit else "every map of this row is empty"
    axes.text(1.06, 0.5, note, transform=axes.transAxes, va="center", fontsize=7.5, color=MUTED,
              family=FONT)  # fmt: skip


def _absent(title: str, reason: str, evidence: Evidence) -> Figure:
    figure = new_figure(8.6, 1.5)
    _titles(figure, title, evidence)
    figure.text(LEFT / 8.6, 0.55, printable(f"Not available: {reason}", 100), fontsize=9,
                va="center", color=INK, family=FONT, parse_math=False)  # fmt: skip
    return figure


def draw_map(axes: Axes, view: MapView, scale: float = 1.0) -> None:
    """The place on the map; `scale`: of the marks, in area."""
    size = scale * (46.0 if view.closeup else 20.0)
    for index, lines in view.outlines:
        for line in lines:
            axes.plot(line[:, 0], line[:, 1], color=COLORS[style(index)[0]], lw=1.1, alpha=0.75,
                      zorder=1)  # fmt: skip
    for points in view.held_out:
        faint = COLORS[style(points.index)[0]]
        axes.scatter(
            points.xy[:, 0], points.xy[:, 1], s=size / 6, c=faint, alpha=0.4, linewidths=0, zorder=1
        )
    for points in view.references:
        color, marker = style(points.index)
        axes.scatter(points.xy[:, 0], points.xy[:, 1], s=size, c=COLORS[color],
                     marker=MARKERS[marker], linewidths=0.35, edgecolors=EDGE,
                     zorder=2)  # fmt: skip
    x, y = view.query
    for kin in view.kin:
        axes.plot([x, kin.xy[0]], [y, kin.xy[1]], color=INK, lw=0.8, alpha=0.55, zorder=3)
        axes.scatter(
            kin.xy[0],
            kin.xy[1],
            s=130 * scale,
            facecolors="none",
            edgecolors=INK,
            linewidths=1.4,
            zorder=4,
        )
        if view.closeup:
            axes.text(*kin.number_xy, str(kin.rank), fontsize=8, weight="bold", ha="center",
                      va="center", color=INK, family=FONT, zorder=6)  # fmt: skip
    axes.scatter(x, y, s=150 * scale, marker="s", facecolors="#ffffffcc", edgecolors=INK,
                 linewidths=2.2, zorder=5)  # fmt: skip
    axes.set(xlim=(0, view.width), ylim=(view.height, 0), xticks=[], yticks=[], aspect="equal")
    for side in axes.spines.values():
        side.set(edgecolor="#d0d7de")


def _legend(figure: Figure, evidence: Evidence, view: MapView) -> None:
    handles = [class_handle(p.index) for p in view.references]
    titles = [evidence.labels.title(p.label) for p in view.references]
    handles += [
        Line2D([], [], ls="", marker="s", ms=9, mfc="white", mec=INK, mew=2),
        Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec=INK, mew=1.3),
    ]
    titles += ["query", "its closest kin"]
    if view.held_out:
        handles.append(Line2D([], [], ls="", marker="o", ms=2.5, mfc=MUTED, mec="none", alpha=0.6))
        titles.append("held-out cells, in the colour of their class")
    size = 7.5 if len(titles) <= 22 else 4.5
    legend = figure.legend(handles, _wrapped(titles), loc="upper left",
                           bbox_to_anchor=(0.635, 0.325), frameon=False, ncols=2,
                           prop={"family": FONT, "size": size}, handletextpad=0.3,
                           columnspacing=1.0)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def class_handle(index: int) -> Line2D:
    """The mark of a class in a legend."""
    color, marker = style(index)
    return Line2D([], [], ls="", marker=MARKERS[marker], ms=6, mfc=COLORS[color], mec=INK, mew=0.4)


def _wrapped(titles: Sequence[str]) -> list[str]:
    return [printable(title, 30) for title in titles]
