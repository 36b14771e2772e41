"""What the page of one decision shows, as plain data for its template."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.decisions import SAME_IMAGE
from cellkin.core.labels import GROUP
from cellkin.core.numbers import number
from cellkin.core.records import (
    NOTICE,
    DifferenceMap,
    Evidence,
    LabelSet,
    Neighbor,
    PairMap,
    Provenance,
)
from cellkin.report.canvas import image_bytes
from cellkin.report.facts import fact_rows, provenance_rows
from cellkin.report.heatmaps import Scale, color_bar, overlay, peak, resized, shared_scale, status
from cellkin.report.scatter import (
    COLORS,
    MARKERS,
    MapView,
    class_style,
    map_view,
    marker_path,
    outline_path,
    style,
)
from cellkin.report.telling import counter_title, share_words, tell, twin_words
from cellkin.report.words import shown_name, trust_words

COLUMNS = 7  # cells in one row of a wide page


def opponents(evidence: Evidence) -> int:
    """How many cells of the other side stand beside the kin: what fits into the row, at least 1."""
    if evidence.counter is None:
        return 0
    room = COLUMNS - 2 - len(evidence.decision.neighbors)
    return min(len(evidence.counter.neighbors), max(1, room))


def foot(facts: Mapping[str, Any], labels: LabelSet, provenance: Provenance) -> dict[str, Any]:
    """What every page ends with."""
    return {
        "notice": NOTICE,
        "drawn": provenance.drawn,
        "facts": fact_rows(facts, labels),
        "provenance": provenance_rows(provenance),
        "specimen": facts.get("specimen") or "specimen not stated",
        "stain": facts.get("stain") or "stain not stated",
        "colors": COLORS,
    }


def evidence_context(evidence: Evidence) -> dict[str, Any]:
    """All that the page of one decision shows."""
    decision, labels = evidence.decision, evidence.labels
    told = tell(decision, labels, evidence.influence)
    return {
        "name": shown_name(decision.query),
        "query_path": decision.query,
        "told": told,
        "decision": decision,
        "votes": [(_class_style(labels, name), title, n) for name, title, n in told.votes],
        "query_image": data_uri(evidence.query_image, lossless=True),
        "kin": _kin(evidence),
        "against": (against := _against(evidence)),
        "against_rows": [{**row, "opposed": True} for row in against],
        "against_title": counter_title(evidence),
        "columns": min(COLUMNS, len(decision.neighbors) + 1 + opponents(evidence)),
        "grad_cam": _grad_cam(evidence),
        "pairs": _pairs(evidence),
        "differences": _differences(evidence),
        "map": _map(evidence),
        "groups_note": any(GROUP.search(labels.title(n)) for n in labels.names),
        **foot(evidence.atlas_facts, labels, evidence.provenance),
    }


def _class_style(labels: LabelSet, name: str) -> dict[str, Any]:
    return class_style(style(labels.index(name)))


def _kin(evidence: Evidence) -> list[dict[str, Any]]:
    shares = evidence.influence.shares if evidence.influence else ()
    rows = []
    pictured = zip(evidence.decision.neighbors, evidence.reference_images, strict=True)
    for i, (kin, image) in enumerate(pictured):
        rows.append(
            {
                **_cell(kin, image, evidence),
                "opposed": False,
                "twin": _twin(kin, image, evidence),
                "share": share_words(shares[i]) if i < len(shares) else "",
            }
        )
    return rows


def _twin(kin: Neighbor, image: Array, evidence: Evidence) -> str:
    same = np.array_equal(image, evidence.query_image)
    return twin_words(SAME_IMAGE if same else kin.twin)


def _against(evidence: Evidence) -> list[dict[str, Any]]:
    if evidence.counter is None:
        return []
    counter, shown = evidence.counter, opponents(evidence)
    return [_cell(counter.neighbors[i], counter.images[i], evidence) for i in range(shown)]


def _cell(found: Neighbor, image: Array, evidence: Evidence) -> dict[str, Any]:
    return {
        "rank": found.rank,
        "id": found.id,
        "title": evidence.labels.title(found.label),
        "class": _class_style(evidence.labels, found.label),
        "distance": number(found.distance),
        "subject": found.subject,
        "place": found.place,
        "image": data_uri(image, lossless=True),
    }


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
        "warning": evidence.heatmap.warning,
        "exact": evidence.heatmap.method == "grad-cam",
        "cells": drawn,
        "bar": _bar(scale),
    }


def _pairs(evidence: Evidence) -> dict[str, Any]:
    """The likeness of the query to its kin, and to the cells beside them, on one scale."""
    if not evidence.pairs:
        return {"absent": evidence.pairs_absent or "no reason was given"}
    counter, shown = evidence.counter, opponents(evidence)
    pairs = (*evidence.pairs, *(counter.pairs[:shown] if counter else ()))
    sides = [(pair.on_query(), pair.on_reference()) for pair in pairs]
    return _two_sided(evidence, pairs, sides, [("similarity", p.similarity) for p in pairs])


def _differences(evidence: Evidence) -> dict[str, Any]:
    """What makes the query and its kin differ, and the cells beside them, on one scale."""
    if not evidence.differences:
        return {"absent": "no reason was given", "cells": []}
    counter, shown = evidence.counter, opponents(evidence)
    found = (*evidence.differences, *(counter.differences[:shown] if counter else ()))
    sides = [(d.on_query, d.on_reference) for d in found]
    return _two_sided(evidence, found, sides, [(d.measure, d.total) for d in found])


def _error(found: PairMap | DifferenceMap) -> tuple[str, str]:
    name = "completeness error" if found.exact else "approximate; gap"
    return name, number(found.completeness, 2)


def _two_sided(
    evidence: Evidence,
    found: Sequence[PairMap | DifferenceMap],
    sides: Sequence[tuple[Array, Array]],
    totals: Sequence[tuple[str, float]],
) -> dict[str, Any]:
    """Both maps of every pair and their total; a map that fails its own test is not drawn, and does
    not scale.
    """
    good = [m for one, both in zip(found, sides, strict=True) if not one.refused for m in both]
    scale = shared_scale(good, signed=True)
    counter = evidence.counter.images if evidence.counter else ()
    images = (*evidence.reference_images, *counter)
    drawn = [
        {
            "query": _map_cell(evidence.query_image, on_query, scale, pair=True, no=one.refused),
            "kin": _map_cell(image, on_kin, scale, pair=True, no=one.refused),
            "name": name,
            "value": number(total),
            "error": _error(one),
        }
        for one, image, (on_query, on_kin), (name, total) in zip(
            found, images, sides, totals, strict=False
        )
    ]
    return {
        "absent": "",
        "cells": drawn,
        "bar": _bar(scale),
        "exact": all(f.exact for f in found),
        "warning": next((f.warning for f in found), ""),
    }


def _map_cell(
    image: Array, values: Array, scale: Scale, *, pair: bool = False, no: str = ""
) -> dict[str, str]:
    if no:
        return {"image": data_uri(resized(image), lossless=False), "status": no, "peak": ""}
    return {
        "image": data_uri(overlay(image, values, scale), lossless=False),
        "status": status(values, pair=pair),
        "peak": number(peak(values), 2),
    }


def _bar(scale: Scale) -> dict[str, Any]:
    return {
        "image": data_uri(color_bar(scale), lossless=True),
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
        "trust": trust_words(evidence.atlas_facts.get("map")),
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
    outlines = [(COLORS[style(i)[0]], outline_path(lines)) for i, lines in view.outlines]
    return {
        "view": view,
        "references": references,
        "held_out": dots,
        "kin": kin,
        "outlines": outlines,
    }


def data_uri(image: Array, *, lossless: bool, small: bool = False) -> str:
    """A uint8 RGB image inside a page."""
    kind, data = image_bytes(image, lossless=lossless, small=small)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
