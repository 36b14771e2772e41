"""The test cells of one fold on the map of its training, by class (the paper's Fig. 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.studies import Call, Study, StudyRow
from cellkin.report.scatter import MARKERS, class_style, fitted, marker_path, style

SIZE = (440.0, 340.0)  # picture units
MARGIN, RADIUS, RING = 18.0, 3.8, 7.5
MOST = 8


def study_maps(study: Study) -> list[dict[str, Any]]:
    """One map per row that has places: the first fold of the first seed."""
    found: list[dict[str, Any]] = []
    for row in study.rows:
        calls = [call for call in row.calls if call.map_xy is not None]
        if calls and len(found) < MOST:
            first = min((call.seed, call.fold) for call in calls)
            found.append(_map(row, [c for c in calls if (c.seed, c.fold) == first]))
    return found


def _map(row: StudyRow, calls: Sequence[Call]) -> dict[str, Any]:
    xy = fitted(np.array([call.map_xy for call in calls], np.float64), SIZE, MARGIN)
    truth = np.array([call.truth for call in calls], dtype=object)
    wrong = np.array([not row.labels.right(call.label, call.truth) for call in calls])
    held = [name for name in row.labels.names if (truth == name).any()]
    return {
        "title": row.title,
        "backbone": row.backbone,
        "where": f"{row.data}, split by {row.unit}, fold {calls[0].fold}",
        "cells": len(calls),
        "wrong": int(wrong.sum()),
        "width": SIZE[0],
        "height": SIZE[1],
        "paths": [_drawn(row, name, xy[truth == name]) for name in held],
        "rings": [(float(x), float(y)) for x, y in xy[wrong]],
        "radius": RING,
        "legend": [_legend(row, name) for name in held],
    }


def _drawn(row: StudyRow, name: str, xy: Array) -> tuple[int, str]:
    color, marker = style(row.labels.index(name))
    return color, marker_path(xy, MARKERS[marker], RADIUS)


def _legend(row: StudyRow, name: str) -> dict[str, Any]:
    look = style(row.labels.index(name))
    return {"title": row.labels.title(name), "class": class_style(look)}
