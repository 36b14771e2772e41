"""The evidence for halving a class, as one page and one figure (the paper's Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.numbers import percent
from cellkin.core.records import NOTICE, Dataset, LabelSet
from cellkin.report.canvas import FONT, data_uri, new_figure, printable, write_figure
from cellkin.report.pages import write_page
from cellkin.report.scatter import COLORS, MARKERS, class_style, fitted, marker_path, style

MAP = (560.0, 420.0)  # picture units of a map
MARGIN = 18.0
RADIUS = 3.6
COLUMNS = 12  # cells in a row of the figure's montages


@dataclass(frozen=True)
class HalvingReport:
    """All that the page says.

    Attributes:
        data: the data set before. name: of the class. found: see `HalvingProposal.to_json`.
        xy: (N, 2) t-SNE of the cells shown. before, after: their N labels. labels: of `after`.
        montages: cells of both halves, (n, S, S, 3) uint8 each. made_with: name -> value.
    """

    data: Dataset
    name: str
    found: Mapping[str, Any]
    xy: Array
    before: tuple[str, ...]
    after: tuple[str, ...]
    labels: LabelSet
    montages: tuple[Array, Array]
    made_with: Mapping[str, str]

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        title = self.data.labels.title(self.name)
        if self.found["split"]:
            return f"{title}: two imaging groups, by {self.found['by']}"
        subjects = any("subjects, not" in why for why in self.found["why"])
        return f"{title}: not halved, " + (
            "the halves are the subjects" if subjects else "one mode only"
        )


def save_halving(page: HalvingReport, folder: str | Path) -> list[Path]:
    """Write `split.html` and `split.png` into a folder.

    Raises:
        OutputError: one of them cannot be written.
    """
    folder = Path(folder)
    return [
        write_page("halving.html.j2", _context(page), folder / "split.html"),
        write_figure(_figure(page), folder / "split.png"),
    ]


def _context(page: HalvingReport) -> dict[str, Any]:
    colors = _class_colors(page)
    sizes = [sum(label == name for label in page.after) for name in _pair(page)]
    maps = [("Before", page.before), ("After" if page.found["split"] else "If halved", page.after)]
    return {
        "title": page.headline,
        "halved": page.found["split"],
        "why": page.found["why"],
        "class_title": page.data.labels.title(page.name),
        "maps": [(caption, _map(page, labels, colors)) for caption, labels in maps],
        "shown": len(page.xy),
        "trials": [trial_row(trial) for trial in page.found["trials"].values()],
        "halves": [
            {
                "title": page.labels.title(name),
                "size": size,
                "images": [data_uri(image, lossless=False) for image in images],
            }
            for name, size, images in zip(_pair(page), sizes, page.montages, strict=True)
        ],
        "made_with": {
            "Data set": f"{page.data.name}: {len(page.data)} cells, {page.data.layout}",
            **{key.capitalize(): value for key, value in page.made_with.items()},
        },
        "notice": NOTICE,
        "drawn": page.data.drawn,
        "specimen": page.data.specimen or "specimen not stated",
        "stain": page.data.stain or "stain not stated",
        "colors": COLORS,
    }


def trial_row(trial: Mapping[str, Any]) -> dict[str, str]:
    """One way of halving, in words."""
    evidence, subjects = trial["evidence"], trial["subjects"]
    row = dict.fromkeys(("cells", "p", "silhouette", "separation", "agreement"), "-")
    if evidence is not None:
        row = {
            "cells": " + ".join(map(str, evidence["cells"])),
            "p": f"{evidence['p_value']:.2g}",
            "silhouette": f"{evidence['silhouette']:.2f}",
            "separation": f"{evidence['separation']:.2f}",
            "agreement": percent(evidence["agreement"], 0),
        }
    like, medians = trial["like_features"], trial["medians"]
    two = "as listed" if evidence is None else ("two" if evidence["two_modes"] else "one")
    return {
        "by": trial["by"],
        **row,
        "subjects": percent(None if subjects is None else max(subjects["share"], 0), 0),
        "like": percent(like, 0),
        "medians": "" if medians is None else " and ".join(f"{m:,.0f}" for m in medians),
        "modes": trial["unavailable"] or two,
    }


def _pair(page: HalvingReport) -> tuple[str, str]:
    return f"{page.name} (1)", f"{page.name} (2)"


def _class_colors(page: HalvingReport) -> dict[str, tuple[int, int]]:
    """Colour and marker by class: the class keeps its own in its first half, so that what changes
    between the two maps is the second half.
    """
    first, second = _pair(page)
    names = [*page.data.labels.names, second]
    styles = {name: style(i) for i, name in enumerate(names)}
    return {**styles, first: styles[page.name]}


def _map(
    page: HalvingReport, labels: Sequence[str], colors: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    points, owners = fitted(page.xy, MAP, MARGIN), np.array(labels, dtype=object)
    order = [n for n in (*page.data.labels.names, *_pair(page)) if n in set(labels)]
    paths = [
        (colors[n][0], marker_path(points[owners == n], MARKERS[colors[n][1]], RADIUS))
        for n in order
    ]
    legend = [{"title": _title(page, n), "class": class_style(colors[n])} for n in order]
    return {"width": MAP[0], "height": MAP[1], "paths": paths, "legend": legend}


def _title(page: HalvingReport, name: str) -> str:
    return page.labels.title(name) if name in page.labels.names else page.data.labels.title(name)


def _figure(page: HalvingReport) -> Any:
    """Both maps above, cells of both halves below."""
    rows = [max(-(-len(images) // COLUMNS), 1) for images in page.montages]
    height = 4.6 + 0.95 * sum(rows) + 0.9
    figure = new_figure(11, height)
    grid = figure.add_gridspec(
        3,
        2,
        height_ratios=[4.3, *(0.95 * r + 0.25 for r in rows)],
        hspace=0.22,
        wspace=0.06,
        left=0.02,
        right=0.98,
        top=1 - 0.75 / height,
        bottom=0.35 / height,
    )
    figure.suptitle(printable(page.headline), font=FONT, fontsize=13, x=0.02, ha="left")
    colors = _class_colors(page)
    captions = ("Before", "After" if page.found["split"] else "As the halves would lie")
    for column, labels in enumerate((page.before, page.after)):
        axes = figure.add_subplot(grid[0, column])
        _scatter(axes, page, labels, colors)
        axes.set_title(captions[column], font=FONT, fontsize=11)
    for row, (name, images) in enumerate(zip(_pair(page), page.montages, strict=True), start=1):
        axes = figure.add_subplot(grid[row, :])
        axes.imshow(_tiled(images, rows[row - 1]), interpolation="lanczos")
        axes.set_axis_off()
        axes.set_title(printable(page.labels.title(name)), font=FONT, fontsize=11, loc="left")
    source = "drawn cells, no real blood. " if page.data.drawn else ""
    figure.text(0.02, 0.1 / height, source + NOTICE, font=FONT, fontsize=7.5, color="#57606a")
    return figure


def _scatter(
    axes: Any, page: HalvingReport, labels: Sequence[str], colors: Mapping[str, tuple[int, int]]
) -> None:
    owners = np.array(labels, dtype=object)
    for name in [n for n in (*page.data.labels.names, *_pair(page)) if n in set(labels)]:
        color, marker = colors[name]
        x, y = page.xy[owners == name].T
        axes.scatter(
            x, y, s=16, c=COLORS[color], marker=MARKERS[marker], linewidths=0.3,
            edgecolors="white", label=printable(_title(page, name)),
        )  # fmt: skip
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_adjustable("datalim")
    axes.legend(prop={"family": FONT, "size": 8}, loc="best", framealpha=0.85)


def _tiled(images: Array, rows: int) -> Array:
    """(n, S, S, 3) side by side with white seams."""
    side = images.shape[1] + 6
    sheet = np.full((rows * side, COLUMNS * side, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // COLUMNS * side, i % COLUMNS * side
        sheet[top : top + side - 6, left : left + side - 6] = image
    return sheet
