"""Records to pages: one HTML file each, whole in itself, with no script and nothing to fetch.

A page carries a Content-Security-Policy that forbids every request, and every text in it is
escaped, so that a file name or a class name cannot become markup.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from cellkin.core.artifacts import write_bytes, write_json
from cellkin.core.errors import OutputError
from cellkin.core.records import NOTICE, Decision, Evidence, LabelSet, Provenance
from cellkin.report import figures
from cellkin.report.canvas import image_bytes, write_figure
from cellkin.report.facts import fact_rows, provenance_rows, recall_rows, test_rows
from cellkin.report.heatmaps import Scale, color_bar, overlay, peak, resized, shared_scale, status
from cellkin.report.scatter import COLORS, MARKERS, MapView, map_view, marker_path, style
from cellkin.report.words import (
    GROUP,
    agreement_words,
    number,
    percentile_words,
    shown_name,
    state_words,
    verdict,
)

__all__ = ["save", "save_all", "save_table"]

Array = NDArray[Any]

THUMBNAIL = 176  # pixels, shown at half of it
ORIGIN = np.zeros((1, 2))


def save(evidence: Evidence, path: str | Path) -> Path:
    """Write the evidence for one decision as one HTML page (the paper's Figs. 7-10, 13-15).

    Raises:
        OutputError: the file cannot be written.
    """
    return write_page("evidence.html.j2", _evidence_context(evidence), Path(path))


def save_all(evidence: Evidence, folder: str | Path) -> list[Path]:
    """Write `evidence.html`, `evidence.json` and the four figures as PNG into a folder.

    Files of these names are replaced, each at once; others in the folder stay as they are.

    Raises:
        OutputError: the folder or a file in it cannot be written.
    """
    folder = Path(folder)
    written = [save(evidence, folder / "evidence.html"), folder / "evidence.json"]
    write_json(written[1], evidence.to_json())
    drawings = {
        "neighbors.png": figures.neighbors_figure,
        "grad_cam.png": figures.grad_cam_figure,
        "metric_grad_cam.png": figures.metric_grad_cam_figure,
        "map.png": figures.map_figure,
    }
    return written + [
        write_figure(draw(evidence), folder / name) for name, draw in drawings.items()
    ]


def save_table(
    title: str,
    decisions: Sequence[Mapping[str, Any]],
    labels: LabelSet,
    facts: Mapping[str, Any],
    provenance: Provenance,
    path: str | Path,
) -> Path:
    """Write an overview of many decisions as one HTML page.

    Args:
        decisions: one mapping per cell: `image` (S, S, 3) uint8, `truth` (class name or None),
            `decision` (a `Decision`), `href` (path of its evidence page relative to this one, not
            yet percent-encoded, or None).
        facts: the atlas's facts; `test` gives the numbers on top, shares in [0, 1].
        path: the HTML file to write.

    Raises:
        OutputError: the file cannot be written.
    """
    test = facts.get("test") or {}
    cells = [_table_cell(row, labels) for row in decisions]
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
        "no_verdict": labels.positive is None,
        **_foot(facts, labels, provenance),
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
    if path.is_dir():
        raise OutputError(
            "this is a folder, not a file",
            where=path,
            mend=f"give the name of a page, e.g. {path / 'evidence.html'}",
        )
    html = _environment().get_template(template).render(context)
    # a file name that is no UTF-8 carries lone surrogates, which no page can hold
    return write_bytes(path, html.encode("utf-8", "replace"))


def _foot(facts: Mapping[str, Any], labels: LabelSet, provenance: Provenance) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "drawn": provenance.drawn,
        "facts": fact_rows(facts, labels),
        "provenance": provenance_rows(provenance),
        "specimen": facts.get("specimen") or "specimen not stated",
        "stain": facts.get("stain") or "stain not stated",
        "colors": COLORS,
    }


def _evidence_context(evidence: Evidence) -> dict[str, Any]:
    decision, labels = evidence.decision, evidence.labels
    return {
        "name": shown_name(decision.query),
        "query_path": decision.query,
        "title": labels.title(decision.label),
        "verdict": verdict(decision, labels),
        "decision": decision,
        "confidence": _confidence(decision, labels),
        "query_image": _data_uri(evidence.query_image, lossless=True),
        "kin": _kin(evidence),
        "columns": min(6, len(decision.neighbors) + 1),
        "grad_cam": _grad_cam(evidence),
        "pairs": _pairs(evidence),
        "map": _map(evidence),
        "groups_note": any(GROUP.search(labels.title(n)) for n in labels.names),
        **_foot(evidence.atlas_facts, labels, evidence.provenance),
    }


def _confidence(decision: Decision, labels: LabelSet) -> dict[str, Any]:
    votes = [
        {"title": labels.title(name), "count": count, "class": _class_style(labels, name)}
        for name, count in decision.votes.items()
    ]
    return {
        "agreement": agreement_words(decision),
        "mean_distance": number(decision.mean_distance),
        "percentile": percentile_words(decision),
        "at": decision.distance_percentile,
        "state": state_words(decision),
        "tied": decision.tie is not None,
        "votes": votes,
        "clinical": decision.clinical or "no clinical verdict",
    }


def _class_style(labels: LabelSet, name: str) -> dict[str, Any]:
    color, marker = style(labels.index(name))
    return {"color": color, "path": marker_path(ORIGIN, MARKERS[marker], 6.0)}


def _kin(evidence: Evidence) -> list[dict[str, Any]]:
    rows = []
    for kin, image in zip(evidence.decision.neighbors, evidence.reference_images, strict=True):
        rows.append(
            {
                "rank": kin.rank,
                "id": kin.id,
                "title": evidence.labels.title(kin.label),
                "class": _class_style(evidence.labels, kin.label),
                "distance": number(kin.distance),
                "subject": kin.subject,
                "image": _data_uri(image, lossless=True),
                "identical": np.array_equal(image, evidence.query_image),
            }
        )
    return rows


def _grad_cam(evidence: Evidence) -> dict[str, Any]:
    if evidence.heatmap is None:
        return {"absent": evidence.heatmap_absent or "no reason was given"}
    heatmaps = (evidence.heatmap, *evidence.reference_heatmaps)
    scale = shared_scale([h.values for h in heatmaps], signed=any(h.signed for h in heatmaps))
    images = (evidence.query_image, *evidence.reference_images)
    drawn = [
        _map_cell(image, heatmap.values, scale)
        for image, heatmap in zip(images, heatmaps, strict=False)
    ]
    return {
        "absent": "",
        "target": evidence.labels.title(evidence.decision.label),
        "layer": evidence.heatmap.layer,
        "cells": drawn,
        "bar": _bar(scale),
    }


def _pairs(evidence: Evidence) -> dict[str, Any]:
    if not evidence.pairs:
        return {"absent": evidence.pairs_absent or "no reason was given"}
    maps = [(pair.on_query(), pair.on_reference()) for pair in evidence.pairs]
    scale = shared_scale([m for both in maps for m in both], signed=True)
    drawn = [
        {
            "query": _map_cell(evidence.query_image, on_query, scale, pair=True),
            "kin": _map_cell(image, on_kin, scale, pair=True),
            "similarity": number(pair.similarity),
            "completeness": number(pair.completeness, 2),
        }
        for pair, image, (on_query, on_kin) in zip(
            evidence.pairs, evidence.reference_images, maps, strict=True
        )
    ]
    return {"absent": "", "cells": drawn, "bar": _bar(scale)}


def _map_cell(image: Array, values: Array, scale: Scale, *, pair: bool = False) -> dict[str, str]:
    return {
        "image": _data_uri(overlay(image, values, scale), lossless=False),
        "status": status(values, pair=pair),
        "peak": number(peak(values), 2),
    }


def _bar(scale: Scale) -> dict[str, Any]:
    return {
        "image": _data_uri(color_bar(scale), lossless=True),
        "ticks": [number(tick, 2) for tick in scale.ticks()],
        "empty": not scale.limit,
        "signed": scale.signed,
    }


def _map(evidence: Evidence) -> dict[str, Any]:
    whole = map_view(evidence, 640, 500)
    classes = [
        {"title": evidence.labels.title(p.label), "class": _class_style(evidence.labels, p.label)}
        for p in whole.references
    ]
    return {
        "views": [
            _drawn(whole, evidence),
            _drawn(map_view(evidence, 340, 340, closeup=True), evidence),
        ],
        "classes": classes,
        "cells": len(evidence.atlas_ids),
        "held_out": len(evidence.held_out_labels),
    }


def _drawn(view: MapView, evidence: Evidence) -> dict[str, Any]:
    radius = 5.0 if view.closeup else 3.4
    references = [
        (style(p.index)[0], marker_path(p.xy, MARKERS[style(p.index)[1]], radius))
        for p in view.references
    ]
    dots = [(style(p.index)[0], marker_path(p.xy, "o", radius * 0.55)) for p in view.held_out]
    kin = [{"at": k, "title": evidence.labels.title(k.label)} for k in view.kin]
    return {"view": view, "references": references, "held_out": dots, "kin": kin}


def _table_cell(row: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
    decision: Decision = row["decision"]
    truth: str | None = row.get("truth")
    href: str | None = row.get("href")
    return {
        "name": shown_name(decision.query),
        "image": _data_uri(resized(row["image"], THUMBNAIL), lossless=False),
        "call": labels.title(decision.label),
        "truth": None if truth is None else labels.title(truth),
        "right": None if truth is None else _is_right(decision.label, truth, labels),
        "agreement": agreement_words(decision),
        "mean_distance": number(decision.mean_distance),
        "percentile": percentile_words(decision),
        "tied": decision.tie is not None,
        # the colon of "javascript:" is encoded as well, so a link can only be a relative path
        "href": None if href is None else quote(href, safe="/"),
    }


def _is_right(call: str, truth: str, labels: LabelSet) -> bool:
    """Imaging groups of lymphoblasts are one class to a reader (section 3.2)."""
    return call == truth or (labels.is_positive(call) and labels.is_positive(truth))


def _data_uri(image: Array, *, lossless: bool) -> str:
    kind, data = image_bytes(image, lossless=lossless)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
