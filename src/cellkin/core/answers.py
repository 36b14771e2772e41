"""The records of an answer: neighbours, decision, heatmaps, evidence and where they come from.

They are part of `cellkin.core.records` and imported from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellkin.core.labels import NOTICE, Array, LabelSet, frozen

__all__ = ["Decision", "Evidence", "Heatmap", "Neighbor", "PairMap", "Provenance"]


@dataclass(frozen=True)
class Neighbor:
    """One of the reference cells nearest to a query; rank 1 is the nearest."""

    id: str
    label: str
    distance: float
    rank: int
    subject: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "subject": self.subject,
            "distance": self.distance,
            "rank": self.rank,
        }


@dataclass(frozen=True)
class Decision:
    """What the neighbours say about one query (sections 4.1, Eqs. 6-7).

    Attributes:
        query: the query's id or path.
        label: the fine class. clinical: its clinical class, or None where the atlas knows no
            lymphoblasts and so cannot exclude one.
        votes: fine class -> number of neighbours (only classes with votes), in class order.
        clinical_votes: the same by clinical class; None where `clinical` is None.
        agreement: share of the k neighbours that stand with the deciding vote: on the same side of
            the question "lymphoblast or not" where the atlas knows lymphoblasts, of the same fine
            class otherwise.
        mean_distance: of the k neighbours, in the scaled space.
        distance_percentile: share in percent of the calibration cells of the voted class whose
            mean distance is smaller; None where that class has no calibration cell.
        calibration_cells: how many calibration cells of the class the percentile rests on.
        state: "decided" or "tied". tie: None, "clinical" or "label": the vote that was tied and
            went to the smaller mean distance.
    """

    query: str
    label: str
    clinical: str | None
    votes: Mapping[str, int]
    clinical_votes: Mapping[str, int] | None
    agreement: float
    mean_distance: float
    distance_percentile: float | None
    calibration_cells: int
    state: str
    tie: str | None
    neighbors: tuple[Neighbor, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.query,
            "label": self.label,
            "clinical": self.clinical,
            "votes": dict(self.votes),
            "clinical_votes": None if self.clinical_votes is None else dict(self.clinical_votes),
            "agreement": self.agreement,
            "mean_distance": self.mean_distance,
            "distance_percentile": self.distance_percentile,
            "calibration_cells": self.calibration_cells,
            "state": self.state,
            "tie": self.tie,
            "neighbors": [neighbor.to_json() for neighbor in self.neighbors],
        }


@dataclass(frozen=True)
class Heatmap:
    """A raw heatmap over the positions of a feature map, not normalised.

    Attributes:
        values: (h, w) float. signed: True where zero is the neutral middle of the scale.
        method: "grad-cam", "metric-grad-cam". layer: the feature map it was read from.
        target: what it explains: a class name, or the id of the other cell of a pair.
        image: id of the image it lies on.
    """

    values: Array
    method: str
    layer: str
    target: str
    image: str
    signed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen(self.values))


@dataclass(frozen=True)
class PairMap:
    """Where a query and a reference cell are alike (Eq. 9, likeness decomposition).

    Attributes:
        query, reference: ids.
        tensor: (h, w, h, w) float32; [i, j, x, y] is what query position (i, j) and reference
            position (x, y) add to the inner product of the two scaled feature vectors.
        similarity: that inner product, <g_Q, g_P>.
        completeness: |tensor.sum() - similarity| / (|g_Q| |g_P|).
    """

    query: str
    reference: str
    tensor: Array
    similarity: float
    completeness: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensor", frozen(self.tensor))

    def on_query(self) -> Array:
        """(h, w): the query's heatmap, the tensor summed over the reference's positions."""
        return np.asarray(self.tensor.sum(axis=(2, 3), dtype=np.float64))

    def on_reference(self) -> Array:
        """(h, w): the reference's heatmap, the tensor summed over the query's positions."""
        return np.asarray(self.tensor.sum(axis=(0, 1), dtype=np.float64))


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from: enough to make it again. `created` is ISO 8601, UTC.

    `drawn` is True where the reference cells are synthetic.
    """

    version: str
    weights: str
    atlas: str
    recipe: str
    seed: int
    created: str
    space: str = ""
    dataset: str = ""
    drawn: bool = False

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        return cls(**data)


@dataclass(frozen=True)
class Evidence:
    """A decision with everything a person needs to judge it (section 4.2).

    Attributes:
        decision: see `Decision`.
        labels: the atlas's classes, for titles and clinical meaning.
        query_image: (S, S, 3) uint8, the very array the network saw before z-scoring.
        reference_images: the same for the k neighbours, in their order.
        heatmap: Grad-CAM on the query for the voted class; None where the head does not know
            the class or the network has no exact form: `heatmap_absent` says why.
        reference_heatmaps: Grad-CAM on each neighbour for the voted class; empty if absent.
        pairs: one `PairMap` per neighbour; empty where there is no exact form: `pairs_absent`.
        atlas_ids, atlas_labels, atlas_xy: the stored map of the N references, xy (N, 2).
        query_xy: (2,), the query placed on it.
        held_out_xy, held_out_labels: other cells placed on the map, e.g. the test part (M, 2).
    """

    decision: Decision
    labels: LabelSet
    query_image: Array
    reference_images: tuple[Array, ...]
    heatmap: Heatmap | None
    heatmap_absent: str
    reference_heatmaps: tuple[Heatmap, ...]
    pairs: tuple[PairMap, ...]
    pairs_absent: str
    atlas_ids: tuple[str, ...]
    atlas_labels: tuple[str, ...]
    atlas_xy: Array
    query_xy: Array
    held_out_xy: Array
    held_out_labels: tuple[str, ...]
    provenance: Provenance
    atlas_facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures and the N-point map, as plain data."""
        return {
            "decision": self.decision.to_json(),
            "heatmap": _heatmap_json(self.heatmap) if self.heatmap else None,
            "heatmap_absent": self.heatmap_absent or None,
            "reference_heatmaps": [_heatmap_json(h) for h in self.reference_heatmaps],
            "pairs": [
                {
                    "reference": pair.reference,
                    "similarity": pair.similarity,
                    "completeness": pair.completeness,
                    "on_query": pair.on_query().tolist(),
                    "on_reference": pair.on_reference().tolist(),
                }
                for pair in self.pairs
            ],
            "pairs_absent": self.pairs_absent or None,
            "query_xy": [float(v) for v in self.query_xy],
            "atlas": dict(self.atlas_facts),
            "provenance": self.provenance.to_json(),
            "notice": NOTICE,
        }


def _heatmap_json(heatmap: Heatmap) -> dict[str, Any]:
    return {
        "method": heatmap.method,
        "layer": heatmap.layer,
        "target": heatmap.target,
        "image": heatmap.image,
        "signed": heatmap.signed,
        "values": heatmap.values.tolist(),
    }
