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
from numpy.typing import NDArray

from cellkin.core.records import NOTICE, Evidence
from cellkin.report.canvas import FONT, new_figure, printable
from cellkin.report.heatmaps import Scale, color_bar, overlay, resized, shared_scale, status
from cellkin.report.scatter import COLORS, MARKERS, MapView, map_view, style
from cellkin.report.words import number, shown_name

__all__ = ["grad_cam_figure", "map_figure", "metric_grad_cam_figure", "neighbors_figure"]

Array = NDArray[Any]

TILE, GAP, LEFT = 1.9, 0.16, 0.25  # inches
HEAD, FOOT = 0.62, 0.42
CAPTION = 0.62
COLUMNS = 6
INK, MUTED = "#1b1f24", "#57606a"


def neighbors_figure(evidence: Evidence) -> Figure:
    """The query beside its k neighbours, with labels and distances (Fig. 7)."""
    images = (evidence.query_image, *evidence.reference_images)
    captions = [_query_caption(evidence), *_kin_captions(evidence)]
    figure, tiles = _gallery("The query and its closest kin", len(images), evidence)
    for axes, image, caption in zip(tiles, images, captions, strict=True):
        _picture(axes, resized(image), *caption)
    _frame(tiles[0])
    return figure


def grad_cam_figure(evidence: Evidence) -> Figure:
    """Grad-CAM of the voted class on the query and each neighbour, one scale (Fig. 8)."""
    title = f"Grad-CAM for {evidence.labels.title(evidence.decision.label)}"
    if evidence.heatmap is None:
        return _absent(title, evidence.heatmap_absent, evidence)
    heatmaps = (evidence.heatmap, *evidence.reference_heatmaps)
    maps = [h.values for h in heatmaps]
    scale = shared_scale(maps, signed=any(h.signed for h in heatmaps))
    images = (evidence.query_image, *evidence.reference_images)
    captions = [_query_caption(evidence), *_kin_captions(evidence)]
    figure, tiles = _gallery(title, len(maps), evidence, bar=scale)
    for axes, image, values, (head, _) in zip(tiles, images, maps, captions, strict=False):
        _picture(axes, overlay(image, values, scale), head, status(values))
    _frame(tiles[0])
    return figure


def metric_grad_cam_figure(evidence: Evidence) -> Figure:
    """Where the query and each neighbour are alike: both maps of every pair (Fig. 9)."""
    title = "Metric-Grad-CAM: where the query and each of its kin are alike"
    if not evidence.pairs:
        return _absent(title, evidence.pairs_absent, evidence)
    maps = [(pair.on_query(), pair.on_reference()) for pair in evidence.pairs]
    scale = shared_scale([m for both in maps for m in both], signed=True)
    captions = _kin_captions(evidence)
    figure, upper, lower = _paired_rows(title, len(maps), evidence, scale)
    for i, (pair, (on_query, on_kin)) in enumerate(zip(evidence.pairs, maps, strict=True)):
        below = f"similarity {number(pair.similarity)}\ncompleteness error " + number(
            pair.completeness, 2
        )
        query_image = overlay(evidence.query_image, on_query, scale)
        _picture(upper[i], query_image, captions[i][0], status(on_query, pair=True))
        kin_image = overlay(evidence.reference_images[i], on_kin, scale)
        _picture(lower[i], kin_image, "", status(on_kin, pair=True) or below)
    return figure


def map_figure(evidence: Evidence) -> Figure:
    """The t-SNE map with the query and its kin, whole and close up (Fig. 10)."""
    figure = new_figure(11.6, 6.9)
    _titles(figure, "Place on the map of the atlas (t-SNE)", evidence)
    whole = map_view(evidence, 640, 520)
    near = map_view(evidence, 340, 340, closeup=True)
    _draw_map(figure.add_axes((0.02, 0.16, 0.585, 0.755)), whole)
    axes = figure.add_axes((0.63, 0.36, 0.35, 0.53))
    _draw_map(axes, near)
    axes.set_title("around the query", loc="left", fontsize=8.5, color=MUTED, family=FONT)
    _legend(figure, evidence, whole)
    return figure


def _query_caption(evidence: Evidence) -> tuple[str, str]:
    return "Query", printable(shown_name(evidence.decision.query)[:48], 24)


def _kin_captions(evidence: Evidence) -> list[tuple[str, str]]:
    captions = []
    for kin in evidence.decision.neighbors:
        label = printable(f"{kin.rank} · {evidence.labels.title(kin.label)}"[:60], 24)
        subject = f"\nsubject {printable(kin.subject[:16])}" if kin.subject is not None else ""
        captions.append((label, f"distance {number(kin.distance)}{subject}"))
    return captions


def _titles(figure: Figure, title: str, evidence: Evidence) -> None:
    width, height = figure.get_size_inches()
    drawn = " · Drawn cells: synthetic, no real blood" if evidence.provenance.drawn else ""
    place: dict[str, Any] = {"ha": "left", "family": FONT, "parse_math": False}
    figure.text(LEFT / width, 1 - 0.16 / height, printable(title), va="top", fontsize=11,
                weight="bold", color=INK, **place)  # fmt: skip
    figure.text(LEFT / width, 0.14 / height, f"{NOTICE}{drawn}", va="bottom", fontsize=6,
                color=MUTED, **place)  # fmt: skip


def _tile(figure: Figure, left: float, bottom: float) -> Axes:
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, TILE / width, TILE / height))


def _gallery(
    title: str, count: int, evidence: Evidence, *, bar: Scale | None = None
) -> tuple[Figure, list[Axes]]:
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    width = 2 * LEFT + max(columns, 3) * (TILE + GAP) - GAP
    step = TILE + CAPTION + 0.42
    under = FOOT + (0.5 if bar else 0.0)
    figure = new_figure(width, HEAD + rows * step + under)
    _titles(figure, title, evidence)
    tiles = []
    for i in range(count):
        bottom = under + (rows - 1 - i // COLUMNS) * step + CAPTION
        tiles.append(_tile(figure, LEFT + (i % COLUMNS) * (TILE + GAP), bottom))
    if bar:
        _draw_bar(figure, bar, "evidence for the class, per position")
    return figure, tiles


def _paired_rows(
    title: str, count: int, evidence: Evidence, scale: Scale
) -> tuple[Figure, list[Axes], list[Axes]]:
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    aside = 0.62
    width = 2 * LEFT + aside + max(columns, 3) * (TILE + GAP) - GAP
    step = 2 * TILE + 0.08 + CAPTION + 0.42
    under = FOOT + 0.5
    figure = new_figure(width, HEAD + rows * step + under)
    _titles(figure, title, evidence)
    upper, lower = [], []
    for i in range(count):
        left = LEFT + aside + (i % COLUMNS) * (TILE + GAP)
        bottom = under + (rows - 1 - i // COLUMNS) * step + CAPTION
        lower.append(_tile(figure, left, bottom))
        upper.append(_tile(figure, left, bottom + TILE + 0.08))
    for axes, name in ((upper, "on the\nquery"), (lower, "on the\nkin")):
        for first in axes[::COLUMNS]:
            first.text(-0.05, 0.5, name, transform=first.transAxes, ha="right", va="center",
                       fontsize=8, color=INK, family=FONT)  # fmt: skip
    _draw_bar(figure, scale, "share of the likeness: red speaks for it, blue against it")
    return figure, upper, lower


def _picture(axes: Axes, image: Array, above: str, below: str) -> None:
    axes.imshow(image, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    text: dict[str, Any] = {
        "transform": axes.transAxes,
        "family": FONT,
        "parse_math": False,
        "color": INK,
    }
    axes.text(0, 1.03, above, va="bottom", fontsize=8, weight="bold", **text)
    wrapped = "\n".join(printable(line, 30) for line in below.splitlines())
    axes.text(0, -0.03, wrapped, va="top", fontsize=7.5, **text)


def _frame(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set(visible=True, linewidth=2.2, edgecolor=INK)


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
    figure = new_figure(7.0, 1.7)
    _titles(figure, title, evidence)
    figure.text(LEFT / 7.0, 0.5, printable(f"Not available: {reason}", 88), fontsize=9,
                va="center", color=INK, family=FONT, parse_math=False)  # fmt: skip
    return figure


def _draw_map(axes: Axes, view: MapView) -> None:
    size = 46.0 if view.closeup else 20.0
    for points in view.held_out:
        faint = COLORS[style(points.index)[0]]
        axes.scatter(
            points.xy[:, 0], points.xy[:, 1], s=size / 6, c=faint, alpha=0.4, linewidths=0, zorder=1
        )
    for points in view.references:
        color, marker = style(points.index)
        axes.scatter(points.xy[:, 0], points.xy[:, 1], s=size, c=COLORS[color], marker=MARKERS[marker],
                     linewidths=0.35, edgecolors="#1b1f2499", zorder=2)  # fmt: skip
    x, y = view.query
    for kin in view.kin:
        axes.plot([x, kin.xy[0]], [y, kin.xy[1]], color=INK, lw=0.8, alpha=0.55, zorder=3)
        axes.scatter(
            kin.xy[0], kin.xy[1], s=130, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=4
        )
        if view.closeup:
            axes.text(*kin.number_xy, str(kin.rank), fontsize=8, weight="bold", ha="center",
                      va="center", color=INK, family=FONT, zorder=6)  # fmt: skip
    axes.scatter(x, y, s=150, marker="s", facecolors="#ffffffcc", edgecolors=INK, linewidths=2.2,
                 zorder=5)  # fmt: skip
    axes.set(xlim=(0, view.width), ylim=(view.height, 0), xticks=[], yticks=[], aspect="equal")
    for side in axes.spines.values():
        side.set(edgecolor="#d0d7de")


def _legend(figure: Figure, evidence: Evidence, view: MapView) -> None:
    handles = [_class_handle(p.index) for p in view.references]
    titles = [evidence.labels.title(p.label) for p in view.references]
    handles += [
        Line2D([], [], ls="", marker="s", ms=9, mfc="white", mec=INK, mew=2),
        Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec=INK, mew=1.3),
    ]
    titles += ["query", "its closest kin"]
    if view.held_out:
        handles.append(Line2D([], [], ls="", marker="o", ms=2.5, mfc=MUTED, mec="none", alpha=0.6))
        titles.append("held-out cells, in the colour of their class")
    legend = figure.legend(handles, _wrapped(titles), loc="lower left",
                           bbox_to_anchor=(0.625, 0.06), frameon=False, ncols=2,
                           prop={"family": FONT, "size": 7.5}, handletextpad=0.3,
                           columnspacing=1.0)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _class_handle(index: int) -> Line2D:
    color, marker = style(index)
    return Line2D([], [], ls="", marker=MARKERS[marker], ms=6, mfc=COLORS[color], mec=INK, mew=0.4)


def _wrapped(titles: Sequence[str]) -> list[str]:
    return [printable(title, 30) for title in titles]
