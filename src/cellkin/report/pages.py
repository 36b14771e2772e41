"""Records to pages: one HTML file each, whole in itself, with no script and nothing to fetch.

A page carries a Content-Security-Policy that forbids every request, and every text in it is
escaped, so that a file name or a class name cannot become markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from cellkin.core.arrays import Array
from cellkin.core.artifacts import write_bytes, write_json
from cellkin.core.errors import OutputError
from cellkin.core.numbers import number
from cellkin.core.records import Decision, Evidence, LabelSet, Provenance
from cellkin.report.canvas import data_uri, write_figure
from cellkin.report.context import evidence_context, foot
from cellkin.report.facts import recall_rows, test_rows
from cellkin.report.first_line import sure_words, sureness_json
from cellkin.report.heatmaps import resized
from cellkin.report.triage import triage_view
from cellkin.report.words import agreement_words, percentile_words, shown_name

THUMBNAIL = 176  # pixels, shown at half of it


def save(evidence: Evidence, path: str | Path, *, known: str = "", back: str = "") -> Path:
    """Write the evidence for one decision as one HTML page (the paper's Figs. 7-10, 13-15).

    Args:
        known: what is known of this cell besides, a sentence. back: the page that leads here,
            relative to this one.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_page(
        "evidence.html.j2", {**evidence_context(evidence), "known": known, "back": back}, Path(path)
    )


def save_all(evidence: Evidence, folder: str | Path, *, paper: bool = False) -> list[Path]:
    """Write `evidence.html`, `evidence.json` and the six figures as PNG into a folder; with `paper`
    also all of them on one page, as `figure.png` and `figure.svg`.

    Files of these names are replaced, each at once; others in the folder stay as they are.

    Raises:
        OutputError: the folder or a file in it cannot be written.
    """
    from cellkin.report import figures  # matplotlib takes long to import

    folder = Path(folder)
    written = [save(evidence, folder / "evidence.html"), folder / "evidence.json"]
    first = sureness_json(evidence.decision, evidence.labels)
    write_json(written[1], {**evidence.to_json(), **first})
    drawings = {
        "neighbors.png": figures.neighbors_figure,
        "contrast.png": figures.contrast_figure,
        "grad_cam.png": figures.grad_cam_figure,
        "metric_grad_cam.png": figures.metric_grad_cam_figure,
        "difference.png": figures.difference_figure,
        "map.png": figures.map_figure,
    }
    written += [write_figure(draw(evidence), folder / name) for name, draw in drawings.items()]
    if paper:
        from cellkin.report.paper import save_paper

        written += save_paper(evidence, folder)
    return written


@dataclass(frozen=True, eq=False)
class DecisionRow:
    """One cell of `save_table`.

    Attributes:
        image: (S, S, 3) uint8. truth: its class, where known.
        href: path of its evidence page relative to the table, not yet percent-encoded.
    """

    image: Array
    decision: Decision
    truth: str | None = None
    href: str | None = None


def save_table(
    title: str,
    rows: Sequence[DecisionRow],
    labels: LabelSet,
    facts: Mapping[str, Any],
    provenance: Provenance,
    path: str | Path,
) -> Path:
    """Write an overview of many decisions as one HTML page.

    Args:
        rows: one per cell.
        facts: the atlas's facts; `test` gives the numbers on top, shares in [0, 1].
        path: the HTML file to write.

    Raises:
        OutputError: the file cannot be written.
    """
    test = facts.get("test") or {}
    cells = [_table_cell(row, labels) for row in rows]
    known = [cell for cell in cells if cell["right"] is not None]
    context = {
        "title": title,
        "cells": cells,
        "shown": {
            "all": len(cells),
            "known": len(known),
            "right": sum(cell["right"] for cell in known),
        },
        "test": test_rows(test, labels),
        "recall": recall_rows(test, labels),
        "sure": sure_words(facts.get("sure")),
        "triage": triage_view(facts.get("triage")),
        "no_verdict": labels.positive is None,
        **foot(facts, labels, provenance),
    }
    return write_page("table.html.j2", context, Path(path))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(template: str, context: Mapping[str, Any], path: Path) -> Path:
    """Render a template of this room and write it.

    Raises:
        OutputError: the file cannot be written.
    """
    if path.is_dir():
        raise OutputError(
            "this is a folder, not a file",
            where=path,
            mend=f"give the name of a page, e.g. {path / 'evidence.html'}",
        )
    return write_bytes(path, render_page(template, context).encode())


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """A template of this room as HTML."""
    html = _environment().get_template(template).render(context)
    # a file name that is no UTF-8 carries lone surrogates, which no page can hold
    return html.encode("utf-8", "replace").decode()


def picture_uri(image: Array, side: int, *, small: bool = False) -> str:
    """An image as a data URI (JPEG), its longer side at most `side` pixels, for illustration;
    `small` in bytes as well.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(np.asarray(picture), lossless=False, small=small)


def _table_cell(row: DecisionRow, labels: LabelSet) -> dict[str, Any]:
    decision, truth, href = row.decision, row.truth, row.href
    return {
        "name": shown_name(decision.query),
        "image": data_uri(resized(row.image, THUMBNAIL), lossless=False),
        "call": labels.title(decision.label),
        "truth": None if truth is None else labels.title(truth),
        "right": None if truth is None else labels.right(decision.label, truth),
        "agreement": agreement_words(decision),
        "mean_distance": number(decision.mean_distance),
        "percentile": percentile_words(decision),
        "tied": decision.tie is not None,
        # the colon of "javascript:" is encoded as well, so a link can only be a relative path
        "href": None if href is None else quote(href, safe="/"),
    }
