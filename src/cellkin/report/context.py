"""What the page of one decision shows, as plain data for its template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.decisions import SAME_IMAGE
from cellkin.core.labels import GROUP
from cellkin.core.numbers import number
from cellkin.core.records import (
    NOTICE,
    Evidence,
    LabelSet,
    Neighbor,
    Provenance,
)
from cellkin.report.canvas import data_uri
from cellkin.report.cell_maps import (
    COLUMNS,
    contrast_maps,
    difference_maps,
    grad_cam_maps,
    led_columns,
    opponents,
    pair_maps,
)
from cellkin.report.facts import fact_rows, provenance_rows
from cellkin.report.first_line import FIRST, sure_words
from cellkin.report.morphology import morphology
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
from cellkin.report.spots import NAME, spot_rows
from cellkin.report.telling import counter_title, share_words, tell, twin_words
from cellkin.report.words import ROLES, copies_words, shown_name, trust_words


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
    copied = sum(map(bool, evidence.copies))
    return {
        "name": shown_name(decision.query),
        "query_path": decision.query,
        "told": told,
        "decision": decision,
        "measured": sure_words(evidence.atlas_facts.get("sure")),
        "votes": [(_class_style(labels, name), title, n) for name, title, n in told.votes],
        "query_image": data_uri(evidence.query_image, lossless=True),
        "kin": (kin := _kin(evidence)),
        "shown_kin": [cell for cell in kin if not cell["copy_of"]],
        "beside": _beside(evidence),
        "beside_absent": evidence.beside_absent,
        "morphology": morphology(evidence.traits, labels),
        "against": (against := _against(evidence)),
        "against_rows": [{**row, "opposed": True, "copy_of": ""} for row in against],
        "against_title": counter_title(evidence),
        "more_because": told.because[FIRST:],
        "columns": min(COLUMNS, len(decision.neighbors) + 1 + opponents(evidence)),
        "led": led_columns(len(decision.neighbors) - copied + opponents(evidence)),
        "why": contrast_maps(evidence),
        "grad_cam": grad_cam_maps(evidence),
        "pairs": pair_maps(evidence),
        "differences": difference_maps(evidence),
        "spots": spot_rows(evidence),
        "spots_name": NAME,
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
                "copy_of": evidence.copies[i] if i < len(evidence.copies) else "",
                "copies": copies_words(kin.id, evidence),
                "share": share_words(shares[i]) if i < len(shares) else "",
            }
        )
    return rows


def _twin(kin: Neighbor, image: Array, evidence: Evidence) -> str:
    same = np.array_equal(image, evidence.query_image)
    return twin_words(SAME_IMAGE if same else kin.twin)


def _beside(evidence: Evidence) -> list[dict[str, Any]]:
    pictured = zip(evidence.beside, evidence.beside_images, strict=True)
    return [
        {**_cell(one.neighbor, image, evidence), "role": ROLES[one.role]} for one, image in pictured
    ]


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
