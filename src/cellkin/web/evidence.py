"""Evidence as JSON for the pages and for programs, and a bounded memory of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import numpy as np

from cellkin.core.arrays import Array, Bools
from cellkin.core.records import NOTICE, Contrast, DifferenceMap, Evidence, Neighbor, PairMap
from cellkin.imaging.outline import polygon
from cellkin.report.heatmaps import shared_scale
from cellkin.report.morphology import morphology
from cellkin.report.telling import counter_title, share_words, tell
from cellkin.report.words import ROLES, copies_words, inside_words, looks_words

Plain = dict[str, Any]


def evidence_json(evidence: Evidence, query: Plain) -> Plain:
    """All that the evidence view needs, in one piece.

    Args:
        query: `id` and `image` (an address or a data URI) of the cell that was asked about.

    Returns:
        plain data: `size` in pixels of every picture, `grid` [h, w] of the maps, `query`,
        `neighbors` and `counter.neighbors` (`share` in the verdict; the address of the picture),
        `gradcam` or `gradcam_absent`, `pairs` and `counter.pairs` (see `_pair`; in the order of
        the neighbours), `copies` (which other kin are nearly the same picture, in words), `beside`
        (other cells worth a look, with their `role`), `morphology` (see there), `limits` (the
        value that the strongest colour of each kind stands for, the
        same for the whole row), `map`, `confidence` in words and numbers, `provenance`, `notice`.
    """
    decision, counter = evidence.decision, evidence.counter
    shares = evidence.influence.shares if evidence.influence else ()
    k = len(evidence.pairs)
    pairs = _pairs(evidence, evidence.pairs, evidence.differences, 1)
    against = _pairs(evidence, counter.pairs, counter.differences, 1 + k) if counter else []
    return {
        "decision": decision.to_json(),
        "size": int(evidence.query_image.shape[0]),
        "grid": _grid(evidence),
        "query": query,
        "neighbors": [
            _neighbor(kin, evidence, shares[i] if i < len(shares) else None)
            for i, kin in enumerate(decision.neighbors)
        ],
        "counter": None
        if counter is None
        else {
            "side": counter.side,
            "title": counter_title(evidence),
            "neighbors": [_neighbor(kin, evidence, None) for kin in counter.neighbors],
            "pairs": against,
            "absent": counter.absent or None,
        },
        "contrast": _contrast(evidence),
        "contrast_absent": evidence.contrast_absent or None,
        "outlines": [
            None if mask is None else polygon(mask).round(4).tolist() for mask in evidence.outlines
        ],
        "gradcam": _gradcam(evidence),
        "gradcam_absent": evidence.heatmap_absent or None,
        "pairs": pairs,
        "pairs_absent": evidence.pairs_absent or None,
        "limits": _limits(evidence, [*pairs, *against]),
        "map": {
            "query_xy": [float(v) for v in evidence.query_xy],
            "percentile": decision.distance_percentile,
        },
        "copies": [copies_words(kin.id, evidence) for kin in decision.neighbors],
        "beside": [
            {**_neighbor(one.neighbor, evidence, None), "role": ROLES[one.role]}
            for one in evidence.beside
        ],
        "morphology": morphology(evidence.traits, evidence.labels),
        "influence": evidence.influence.to_json() if evidence.influence else None,
        "confidence": _confidence(evidence),
        "provenance": evidence.provenance.to_json(),
        "notice": NOTICE,
    }


def cell_address(cell: str) -> str:
    """Where the picture of a reference cell is."""
    return f"/api/v1/atlas/cells/{quote(cell, safe='')}/image"


def tensor_text(values: Array) -> str:
    """Numbers as base64 of little-endian float32, row by row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _neighbor(kin: Neighbor, evidence: Evidence, share: float | None) -> Plain:
    labels = evidence.labels
    return {
        **kin.to_json(),
        "title": labels.title(kin.label),
        "clinical": labels.clinical[kin.label],
        "share": share,
        "share_words": None if share is None else share_words(share),
        "image": cell_address(kin.id),
        "scale": 1.0,
    }


def _grid(evidence: Evidence) -> list[int] | None:
    maps = [evidence.heatmap.values] if evidence.heatmap else []
    maps += [pair.on_query() for pair in evidence.pairs[:1]]
    return [int(n) for n in maps[0].shape] if maps else None


def _contrast(evidence: Evidence) -> Plain | None:
    """The maps on the query and on the others, each with how much of it is inside, in words."""
    why = evidence.contrast
    if why is None:
        return None
    maps = [
        {**one.to_json(), "inside": inside_words(one.values, evidence.outline(i))}
        for i, one in enumerate((why.on_query, *why.on_others))
    ]
    if not why.on_query.refused:
        maps[0]["values"] = _as_strong(why).tolist()
    return {
        "measure": why.measure,
        "kin": list(why.kin),
        "opponents": list(why.opponents),
        "query": maps[0],
        "references": maps[1:],
        "looks": looks_words(why),
        "warning": why.warning or None,
    }


def _as_strong(why: Contrast) -> Array:
    """The map of the query; a finer one as strong as the others, whose positions are larger."""
    values = why.on_query.values
    coarse = why.on_others[0].values.size if why.on_others else values.size
    return np.asarray(values * (values.size / coarse))


def _gradcam(evidence: Evidence) -> Plain | None:
    if evidence.heatmap is None:
        return None
    maps = [one.values for one in (evidence.heatmap, *evidence.reference_heatmaps)]
    return {
        "inside": [inside_words(one, evidence.outline(i)) for i, one in enumerate(maps)],
        "target": evidence.heatmap.target,
        "layer": evidence.heatmap.layer,
        "method": evidence.heatmap.method,
        "signed": evidence.heatmap.signed,
        "query": evidence.heatmap.values.tolist(),
        "references": [heatmap.values.tolist() for heatmap in evidence.reference_heatmaps],
    }


def _pairs(
    evidence: Evidence,
    pairs: Sequence[PairMap],
    differences: Sequence[DifferenceMap],
    first: int,
) -> list[Plain]:
    """`first`: where the first of these reference cells stands among the pictures."""
    told: list[DifferenceMap | None] = [*differences] or [None] * len(pairs)
    ends = [(evidence.outline(0), evidence.outline(first + i)) for i in range(len(pairs))]
    return [_pair(*one) for one in zip(pairs, told, ends, strict=True)]


def _pair(
    pair: PairMap, difference: DifferenceMap | None, ends: tuple[Bools | None, Bools | None]
) -> Plain:
    """Likeness and difference of the query and one reference cell.

    A map that does not add up to what it explains is `refused`, in words, and not sent; one that
    is an approximation, or of a method that failed its proof on this atlas, carries a `warning`.
    """
    warning = pair.warning
    if not pair.exact:
        warning = f"approximate: it does not add up exactly to the similarity. {warning}".strip()
    told = difference
    return {
        "reference": pair.reference,
        "tensor": None if pair.refused or pair.tensor is None else tensor_text(pair.tensor),
        "similarity": pair.similarity,
        "completeness": pair.completeness,
        "exact": pair.exact,
        "refused": pair.refused or None,
        "warning": warning or None,
        **_sides("", None if pair.refused else (pair.on_query(), pair.on_reference()), ends),
        "difference": None if told is None else told.total,
        "difference_measure": None if told is None else told.measure,
        "difference_refused": None if told is None else told.refused or None,
        **_sides(
            "difference_",
            None if told is None or told.refused else (told.on_query, told.on_reference),
            ends,
        ),
    }


def _sides(
    kind: str, maps: tuple[Array, Array] | None, ends: tuple[Bools | None, Bools | None]
) -> Plain:
    """Both maps of a pair, and in words how much of each is inside."""
    names = ("on_query", "on_reference")
    if maps is None:
        return {f"{kind}{prefix}{name}": None for name in names for prefix in ("", "inside_")}
    both = dict(zip(names, zip(maps, ends, strict=True), strict=True))
    return {f"{kind}{name}": values.tolist() for name, (values, _) in both.items()} | {
        f"{kind}inside_{name}": inside_words(values, mask) for name, (values, mask) in both.items()
    }


def _limits(evidence: Evidence, pairs: Sequence[Plain]) -> Plain:
    heat = [evidence.heatmap, *evidence.reference_heatmaps] if evidence.heatmap else []
    why = evidence.contrast
    contrast = [one.values for one in why.on_others if not one.refused] if why else []
    if why and not why.on_query.refused:
        contrast.append(_as_strong(why))
    rows: Mapping[str, list[Any]] = {
        "contrast": contrast,
        "gradcam": [one.values for one in heat if one is not None],
        "pair": _maps(pairs, "on_query", "on_reference"),
        "difference": _maps(pairs, "difference_on_query", "difference_on_reference"),
    }
    return {name: shared_scale(maps).limit for name, maps in rows.items()}


def _maps(pairs: Sequence[Plain], *sides: str) -> list[Any]:
    return [pair[side] for pair in pairs for side in sides if pair[side] is not None]


def _confidence(evidence: Evidence) -> Plain:
    told = tell(evidence.decision, evidence.labels, evidence.influence)
    return {
        **asdict(told),
        "votes": [{"label": name, "title": title, "count": n} for name, title, n in told.votes],
        "mean_distance": evidence.decision.mean_distance,
        "percentile_value": evidence.decision.distance_percentile,
    }
