"""Every map of a decision on its cells: the contrast first, Grad-CAM, likeness, difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cellkin.core.arrays import Array, Bools
from cellkin.core.numbers import number
from cellkin.core.records import ContrastMap, DifferenceMap, Evidence, PairMap
from cellkin.report.canvas import data_uri
from cellkin.report.heatmaps import Scale, color_bar, overlay, peak, resized, shared_scale, status
from cellkin.report.words import inside_words, looks_words

COLUMNS = 7  # cells in one row of a wide page


def opponents(evidence: Evidence) -> int:
    """How many cells of the other side stand beside the kin: what fits into the row, at least 1."""
    if evidence.counter is None:
        return 0
    room = COLUMNS - 2 - len(evidence.decision.neighbors)
    return min(len(evidence.counter.neighbors), max(1, room))


def led_columns(others: int) -> int:
    """Columns of a row in which the query takes two by two places, and others stand beside it."""
    return 2 + (others + 1) // 2


@dataclass(frozen=True)
class Picture:
    """One cell of an evidence and where it lies in its picture; None where no outline is found."""

    image: Array
    outline: Bools | None


def pictures(evidence: Evidence) -> list[Picture]:
    """The query, its kin, and the opponents that are shown."""
    counter = evidence.counter.images if evidence.counter else ()
    images = [evidence.query_image, *evidence.reference_images]
    images += [counter[i] for i in range(opponents(evidence))]
    return [Picture(image, evidence.outline(i)) for i, image in enumerate(images)]


def contrast_maps(evidence: Evidence) -> dict[str, Any]:
    """The contrast of the verdict on every picture, on one scale; a map that fails its own test is
    not drawn, and does not scale.
    """
    why = evidence.contrast
    if why is None:
        return {"absent": evidence.contrast_absent or "no reason was given"}
    cells = pictures(evidence)
    found = (why.on_query, *why.on_others)[: len(cells)]
    scale = contrast_scale(found)
    drawn = [
        {
            **_map_cell(cell, density(one.values), scale, pair=True, no=one.refused),
            "margin": number(one.margin),
            "error": _error(one),
        }
        for cell, one in zip(cells, found, strict=True)
    ]
    return {
        "absent": "",
        "cells": drawn,
        "bar": _bar(scale),
        "exact": why.on_query.exact,
        "measure": why.measure,
        "kin": len(why.kin),
        "opponents": len(why.opponents),
        "looks": looks_words(why),
        "warning": why.warning,
        "columns": led_columns(len(cells) - 1),
    }


def contrast_scale(found: Sequence[ContrastMap]) -> Scale:
    """What the colours stand for: the same for a share of the picture, so a finer map, whose
    positions are smaller, is as strong as a coarse one.
    """
    return shared_scale([density(one.values) for one in found if not one.refused], signed=True)


def density(values: Array) -> Array:
    """A map as what its values would add up to if they filled the picture."""
    return values * values.size


def grad_cam_maps(evidence: Evidence) -> dict[str, Any]:
    """Grad-CAM of the voted class on the query and its kin."""
    if evidence.heatmap is None:
        return {"absent": evidence.heatmap_absent or "no reason was given"}
    heatmaps = (evidence.heatmap, *evidence.reference_heatmaps)
    scale = shared_scale([h.values for h in heatmaps], signed=any(h.signed for h in heatmaps))
    drawn = [
        _map_cell(cell, heatmap.values, scale)
        for cell, heatmap in zip(pictures(evidence), heatmaps, strict=False)
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


def pair_maps(evidence: Evidence) -> dict[str, Any]:
    """The likeness of the query to its kin, and to the cells beside them, on one scale."""
    if not evidence.pairs:
        return {"absent": evidence.pairs_absent or "no reason was given"}
    counter, shown = evidence.counter, opponents(evidence)
    pairs = (*evidence.pairs, *(counter.pairs[:shown] if counter else ()))
    sides = [(pair.on_query(), pair.on_reference()) for pair in pairs]
    return _two_sided(evidence, pairs, sides, [("similarity", p.similarity) for p in pairs])


def difference_maps(evidence: Evidence) -> dict[str, Any]:
    """What makes the query and its kin differ, and the cells beside them, on one scale."""
    if not evidence.differences:
        return {"absent": "no reason was given", "cells": []}
    counter, shown = evidence.counter, opponents(evidence)
    found = (*evidence.differences, *(counter.differences[:shown] if counter else ()))
    sides = [(d.on_query, d.on_reference) for d in found]
    return _two_sided(evidence, found, sides, [(d.measure, d.total) for d in found])


def _error(found: PairMap | DifferenceMap | ContrastMap) -> tuple[str, str]:
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
    query, *others = pictures(evidence)
    drawn = [
        {
            "query": _map_cell(query, on_query, scale, pair=True, no=one.refused),
            "kin": _map_cell(cell, on_kin, scale, pair=True, no=one.refused),
            "name": name,
            "value": number(total),
            "error": _error(one),
        }
        for one, cell, (on_query, on_kin), (name, total) in zip(
            found, others, sides, totals, strict=True
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
    cell: Picture, values: Array, scale: Scale, *, pair: bool = False, no: str = ""
) -> dict[str, str]:
    if no:
        return {
            "image": data_uri(resized(cell.image), lossless=False),
            "status": no,
            "peak": "",
            "inside": "",
        }
    return {
        "image": data_uri(overlay(cell.image, values, scale, outline=cell.outline), lossless=False),
        "status": status(values, pair=pair),
        "peak": number(peak(values), 2),
        "inside": inside_words(values, cell.outline),
    }


def _bar(scale: Scale) -> dict[str, Any]:
    return {
        "image": data_uri(color_bar(scale), lossless=True),
        "ticks": [number(tick, 2) for tick in scale.ticks()],
        "empty": not scale.limit,
        "signed": scale.signed,
    }
