"""The records of an answer: heatmaps, pair maps, influence, evidence and where they come from.

They are part of `cellkin.core.records` and imported from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cellkin.core.arrays import Array, Bools
from cellkin.core.contrast import Contrast, refusal, share_inside
from cellkin.core.decisions import Decision, Neighbor
from cellkin.core.descriptions import Traits
from cellkin.core.labels import NOTICE, LabelSet, frozen
from cellkin.core.plain import Plain, plain_fields
from cellkin.core.reading import read_record


@dataclass(frozen=True)
class Heatmap:
    """A raw heatmap over the positions of a feature map, not normalised.

    Attributes:
        values: (h, w) float. signed: True where zero is the neutral middle of the scale.
        method: "grad-cam", "metric-grad-cam". layer: the feature map it was read from.
        target: what it explains: a class name, or the id of the other cell of a pair.
        image: id of the image it lies on.
        warning: why it should not be trusted, found by verifying the atlas; or an empty string.
    """

    values: Array
    method: str
    layer: str
    target: str
    image: str
    signed: bool = False
    warning: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen(self.values))

    def to_json(self) -> dict[str, Any]:
        return {**plain_fields(self), "warning": self.warning or None}


@dataclass(frozen=True)
class PairMap:
    """Where a query and a reference cell are alike (Eq. 9, likeness decomposition).

    Attributes:
        query, reference: ids.
        tensor: (h, w, h, w) float32; [i, j, x, y] is what query position (i, j) and reference
            position (x, y) add to the inner product of the two scaled feature vectors. None for a
            transformer, whose class token has no such form.
        similarity: that inner product, <g_Q, g_P>, of the very features that voted.
        completeness: |sum - similarity| / (|g_Q| |g_P|), the sum of `tensor` or, without one, of
            the query's map: then it is the measured gap of an approximation.
        exact: True where the sum is the similarity by construction.
        marginals: the query's and the reference's map, (h, w) each, where they are known already.
        warning: see `Heatmap`.
    """

    query: str
    reference: str
    tensor: Array | None
    similarity: float
    completeness: float
    exact: bool = True
    marginals: tuple[Array, Array] | None = None
    warning: str = ""

    def __post_init__(self) -> None:
        if self.tensor is not None:
            object.__setattr__(self, "tensor", frozen(self.tensor))
        if self.marginals is not None:
            on_query, on_reference = (frozen(m) for m in self.marginals)
            object.__setattr__(self, "marginals", (on_query, on_reference))

    def on_query(self) -> Array:
        """(h, w): the query's heatmap, the tensor summed over the reference's positions."""
        return self._marginal(0, (2, 3))

    def on_reference(self) -> Array:
        """(h, w): the reference's heatmap, the tensor summed over the query's positions."""
        return self._marginal(1, (0, 1))

    def matches(self, i: int, j: int) -> Array | None:
        """(h, w): what in the reference matches position (i, j) of the query (point to point)."""
        return None if self.tensor is None else np.asarray(self.tensor[i, j])

    @property
    def refused(self) -> str:
        """Why this map must not be shown, or an empty string."""
        return refusal(self.exact, self.completeness)

    def to_json(self) -> dict[str, Any]:
        """Without the query, which is that of the evidence, and without maps that are refused."""
        told = plain_fields(self, without=("query", "tensor", "marginals"))
        return {**told, **_shown(self, self.on_query, self.on_reference)}

    def _marginal(self, side: int, axes: tuple[int, int]) -> Array:
        if self.marginals is not None:
            return self.marginals[side]
        if self.tensor is None:
            raise ValueError("a pair map needs its tensor or its marginals")
        return np.asarray(self.tensor.sum(axis=axes, dtype=np.float64))


@dataclass(frozen=True)
class DifferenceMap:
    """What makes a query and a reference cell differ: their distance, position by position.

    The distance decomposition E is additive, so it is its two maps; it has no point-to-point form.

    Attributes:
        query, reference: ids.
        on_query, on_reference: (h, w) each, signed: above 0 where a position drives the two cells
            apart, below where it brings them together; 0 is the midpoint between them.
        total: what both maps add up to: the squared Euclidean, the Manhattan or the cosine
            distance that voted, as `measure` says.
        completeness: |sum - total| / (|g_Q| |g_P|). exact: see `PairMap`. warning: see `Heatmap`.
    """

    query: str
    reference: str
    on_query: Array
    on_reference: Array
    total: float
    completeness: float
    measure: str = "squared distance"
    exact: bool = True
    warning: str = ""

    def __post_init__(self) -> None:
        for name in ("on_query", "on_reference"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def refused(self) -> str:
        """Why this map must not be shown, or an empty string."""
        return refusal(self.exact, self.completeness)

    def to_json(self) -> dict[str, Any]:
        """Without the query, which is that of the evidence, and without maps that are refused."""
        told = plain_fields(self, without=("query",))
        return {**told, **_shown(self, lambda: self.on_query, lambda: self.on_reference)}


@dataclass(frozen=True)
class CounterEvidence:
    """The nearest cells that speak against the verdict, and how they pair with the query.

    Attributes:
        side: what they are: "lymphoblast", "no lymphoblast", or "another class".
        neighbors: nearest first; rank counts among all references of that side.
        images: (S, S, 3) uint8 each. pairs, differences: as in `Evidence`, one each.
        absent: why there is none, or an empty string.
    """

    side: str
    neighbors: tuple[Neighbor, ...] = ()
    images: Sequence[Array] = ()
    pairs: tuple[PairMap, ...] = ()
    differences: tuple[DifferenceMap, ...] = ()
    absent: str = ""

    def to_json(self) -> dict[str, Any]:
        told = plain_fields(self, without=("images",))
        return {**told, "absent": self.absent or None}


@dataclass(frozen=True)
class LocalMatches(Plain):
    """Spots of a query and of one reference cell that look alike, each the other's nearest by the
    features of an early stage; no decomposition of the distance, see `PairMap.matches` for that.

    Attributes:
        reference: id. points: (n, 4) those that are shown: row and column on the query, row and
            column on the other, in sides of the picture. likeness: (n,) cosine of each.
        all: how many spots match. absent: why there are none, or an empty string.
    """

    reference: str
    points: Array = field(default_factory=lambda: np.zeros((0, 4)))
    likeness: Array = field(default_factory=lambda: np.zeros(0))
    all: int = 0
    absent: str = ""


@dataclass(frozen=True)
class Beside(Plain):
    """A reference cell that is shown beside the kin and did not vote for its place.

    Attributes:
        role: "next kin", where near copies took several places of the kin; "typical", the cell of
            the voted class that lies most in its middle; "borderline", the nearest cell of that
            class whose own kin are not all of its side.
        neighbor: its rank counts among all reference cells.
    """

    role: str
    neighbor: Neighbor


@dataclass(frozen=True)
class Influence(Plain):
    """How the verdict hangs on single reference cells; see `cellkin.decision.influence`.

    Attributes:
        shares: Shapley value of each of the k neighbours, in their order; can be negative.
        other_shares: of all other reference cells together. All sum to the agreement.
        removals: smallest number of reference cells whose removal changes the deciding class (a
            tie counts as changed), 0 where the vote is tied already, None where no removal can.
        removed: ids of such a set, the nearest ones.
        relabellings, relabelled: the same for changing labels.
    """

    shares: tuple[float, ...]
    other_shares: float
    removals: int | None
    removed: tuple[str, ...]
    relabellings: int | None
    relabelled: tuple[str, ...]


@dataclass(frozen=True)
class Provenance(Plain):
    """Where a result comes from: enough to make it again. `created` is ISO 8601, UTC.

    `drawn` is True where the reference cells are synthetic. `place`: which place the cell was said
    to be from, where an atlas was told.
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
    place: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        """The provenance that `to_json` wrote.

        Raises:
            ArtifactError: this is no such data.
        """
        return read_record(cls, data)


@dataclass(frozen=True)
class Evidence:
    """A decision with everything a person needs to judge it (section 4.2).

    Attributes:
        decision: see `Decision`.
        labels: the atlas's classes, for titles and clinical meaning.
        query_image: (S, S, 3) uint8, the very array the network saw before z-scoring.
        reference_images: the same for the k neighbours, in their order; decoded when looked at.
        heatmap: Grad-CAM on the query for the voted class; None where the head does not know
            the class or the network has no exact form: `heatmap_absent` says why.
        reference_heatmaps: Grad-CAM on each neighbour for the voted class; empty if absent.
        pairs: one `PairMap` per neighbour; empty where there is none: `pairs_absent`.
        atlas_ids, atlas_labels, atlas_xy: the stored map of the N references, xy (N, 2).
        query_xy: (2,), the query placed on it.
        held_out_xy, held_out_labels: other cells placed on the map, e.g. the test part (M, 2).
        differences: one `DifferenceMap` per neighbour, absent where `pairs` are.
        counter: the nearest cells of the other side. influence: shares and flips.
        contrast: why this side and not the other; None where `contrast_absent` says why.
        outlines: where the cells lie, (S, S) bool each or None where no outline is found; the
            query, the neighbours, the cells of `counter`; sought when looked at.
        copies: for each neighbour the id of the nearer one that is nearly the same picture, or "".
        beside: other reference cells worth a look, and their pictures, or why there are none.
        spots: the matches with each neighbour, then each cell of `counter`; sought when looked at.
        described: makes `traits` when somebody looks at them.
    """

    decision: Decision
    labels: LabelSet
    query_image: Array
    reference_images: Sequence[Array]
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
    differences: tuple[DifferenceMap, ...] = ()
    counter: CounterEvidence | None = None
    influence: Influence | None = None
    contrast: Contrast | None = None
    contrast_absent: str = ""
    outlines: Sequence[Bools | None] = ()
    copies: tuple[str, ...] = ()
    beside: tuple[Beside, ...] = ()
    beside_images: Sequence[Array] = ()
    beside_absent: str = ""
    spots: Sequence[LocalMatches] = ()
    described: Callable[[], Traits] | None = None

    @cached_property
    def traits(self) -> Traits | None:
        """What the cell looks like among the reference cells; None where nobody can tell."""
        return None if self.described is None else self.described()

    def outline(self, position: int) -> Bools | None:
        """Where the cell lies in the picture of this position among `outlines`."""
        return self.outlines[position] if position < len(self.outlines) else None

    def inside(self, values: Array, position: int = 0) -> float | None:
        """Of what is positive in a map on that picture, how much is on the cell, in [0, 1]; None
        where no outline is found, or nothing is positive.
        """
        return share_inside(values, self.outline(position))

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures and the N-point map, as plain data."""
        return {
            "decision": self.decision.to_json(),
            "contrast": self._contrast(),
            "contrast_absent": self.contrast_absent or None,
            "heatmap": self.heatmap.to_json() if self.heatmap else None,
            "heatmap_absent": self.heatmap_absent or None,
            "reference_heatmaps": [h.to_json() for h in self.reference_heatmaps],
            "pairs": [pair.to_json() for pair in self.pairs],
            "differences": [d.to_json() for d in self.differences],
            "counter": self.counter.to_json() if self.counter else None,
            "spots": [one.to_json() for one in self.spots],
            "copies": list(self.copies),
            "beside": [one.to_json() for one in self.beside],
            "traits": self.traits.to_json() if self.traits else None,
            "influence": self.influence.to_json() if self.influence else None,
            "pairs_absent": self.pairs_absent or None,
            "query_xy": [float(v) for v in self.query_xy],
            "atlas": dict(self.atlas_facts),
            "provenance": self.provenance.to_json(),
            "notice": NOTICE,
        }

    def _contrast(self) -> dict[str, Any] | None:
        if self.contrast is None:
            return None
        inside = None
        if not self.contrast.on_query.refused:
            inside = self.inside(self.contrast.on_query.values)
        return {**self.contrast.to_json(), "inside": inside}


def _shown(
    pair: PairMap | DifferenceMap, on_query: Callable[[], Array], on_reference: Callable[[], Array]
) -> dict[str, Any]:
    refused = bool(pair.refused)
    return {
        "refused": pair.refused or None,
        "warning": pair.warning or None,
        "on_query": None if refused else on_query().tolist(),
        "on_reference": None if refused else on_reference().tolist(),
    }
