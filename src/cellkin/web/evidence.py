"""Evidence as JSON for the pages and for programs, and a bounded memory of it."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.records import NOTICE, DifferenceMap, Evidence, Neighbor, PairMap
from cellkin.report.heatmaps import shared_scale
from cellkin.report.telling import counter_title, share_words, tell

Plain = dict[str, Any]


class EvidenceCache:
    """Evidence that was computed lately, as the bytes that are sent, within so many bytes.

    Args:
        limit: bytes of all that is remembered; the longest unused goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._found: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """What was put there, if it is still remembered."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: str, content: bytes) -> None:
        """Remember; what is larger than the whole memory is not."""
        if len(content) > self._limit:
            return
        with self._lock:
            self._held += len(content) - len(self._found.pop(key, b""))
            self._found[key] = content
            while self._held > self._limit:
                self._held -= len(self._found.popitem(last=False)[1])

    @property
    def held(self) -> int:
        """Bytes remembered now."""
        return self._held


def evidence_json(evidence: Evidence, query: Plain) -> Plain:
    """All that the evidence view needs, in one piece.

    Args:
        query: `id` and `image` (an address or a data URI) of the cell that was asked about.

    Returns:
        plain data: `size` in pixels of every picture, `grid` [h, w] of the maps, `query`,
        `neighbors` and `counter.neighbors` (`share` in the verdict; the address of the picture),
        `gradcam` or `gradcam_absent`, `pairs` and `counter.pairs` (see `_pair`; in the order of
        the neighbours), `limits` (the value that the strongest colour of each kind stands for, the
        same for the whole row), `map`, `confidence` in words and numbers, `provenance`, `notice`.
    """
    decision, counter = evidence.decision, evidence.counter
    shares = evidence.influence.shares if evidence.influence else ()
    pairs = _pairs(evidence.pairs, evidence.differences)
    against = _pairs(counter.pairs, counter.differences) if counter else []
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
        "gradcam": _gradcam(evidence),
        "gradcam_absent": evidence.heatmap_absent or None,
        "pairs": pairs,
        "pairs_absent": evidence.pairs_absent or None,
        "limits": _limits(evidence, [*pairs, *against]),
        "map": {
            "query_xy": [float(v) for v in evidence.query_xy],
            "percentile": decision.distance_percentile,
        },
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


def _gradcam(evidence: Evidence) -> Plain | None:
    if evidence.heatmap is None:
        return None
    return {
        "target": evidence.heatmap.target,
        "layer": evidence.heatmap.layer,
        "method": evidence.heatmap.method,
        "signed": evidence.heatmap.signed,
        "query": evidence.heatmap.values.tolist(),
        "references": [heatmap.values.tolist() for heatmap in evidence.reference_heatmaps],
    }


def _pairs(pairs: Sequence[PairMap], differences: Sequence[DifferenceMap]) -> list[Plain]:
    told: list[DifferenceMap | None] = [*differences] or [None] * len(pairs)
    return [_pair(pair, other) for pair, other in zip(pairs, told, strict=True)]


def _pair(pair: PairMap, difference: DifferenceMap | None) -> Plain:
    """Likeness and difference of the query and one reference cell.

    A map that does not add up to what it explains is `refused`, in words, and not sent; one that
    is an approximation, or of a method that failed its proof on this atlas, carries a `warning`.
    """
    shown = not pair.refused
    told = difference if difference is not None and not difference.refused else None
    warning = pair.warning
    if not pair.exact:
        warning = f"approximate: it does not add up exactly to the similarity. {warning}".strip()
    return {
        "reference": pair.reference,
        "tensor": tensor_text(pair.tensor) if shown and pair.tensor is not None else None,
        "similarity": pair.similarity,
        "completeness": pair.completeness,
        "exact": pair.exact,
        "refused": pair.refused or None,
        "warning": warning or None,
        "on_query": pair.on_query().tolist() if shown else None,
        "on_reference": pair.on_reference().tolist() if shown else None,
        "difference": None if difference is None else difference.total,
        "difference_measure": None if difference is None else difference.measure,
        "difference_refused": None if difference is None else difference.refused or None,
        "difference_on_query": None if told is None else told.on_query.tolist(),
        "difference_on_reference": None if told is None else told.on_reference.tolist(),
    }


def _limits(evidence: Evidence, pairs: Sequence[Plain]) -> Plain:
    heat = [evidence.heatmap, *evidence.reference_heatmaps] if evidence.heatmap else []
    rows: Mapping[str, list[Any]] = {
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
