"""The frozen records that flow through the house. Arrays inside them are read-only.

Units: distances are lengths in the min-max scaled feature space (section 4.1 of the paper);
percentiles lie in [0, 100]; shares and agreements in [0, 1]; images are uint8 RGB, (H, W, 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.core.errors import LabelError, SpaceMismatch, did_you_mean

__all__ = [
    "CLINICAL_CLASSES",
    "LYMPHOBLAST",
    "NOTICE",
    "NO_CELL",
    "OTHER_CELL",
    "Dataset",
    "Decision",
    "Evidence",
    "Features",
    "Heatmap",
    "ImageRef",
    "LabelSet",
    "Neighbor",
    "PairMap",
    "Provenance",
    "Sample",
    "Split",
    "frozen",
]

LYMPHOBLAST = "lymphoblast"
OTHER_CELL = "other cell"
NO_CELL = "no cell"
CLINICAL_CLASSES = (LYMPHOBLAST, OTHER_CELL, NO_CELL)

NOTICE = (
    "For research use only: never a diagnosis without a pathologist. "
    "Morphology alone establishes neither lineage nor malignancy."
)

Array = NDArray[Any]


def frozen(array: Array) -> Array:
    """A read-only view of an array (its owner, if somebody else holds it, stays as it is)."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set and what each means to a clinician.

    Attributes:
        names: fine classes in their fixed order (class index = position).
        clinical: fine class -> one of `CLINICAL_CLASSES`; every name is mapped.
        titles: fine class -> the words people read (C-NMC's `hem` is a "normal B-lymphoid
            precursor"); a class without a title is shown by its name.

    Raises:
        LabelError: a name is not mapped, or mapped to something that is no clinical class.
    """

    names: tuple[str, ...]
    clinical: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            meaning = self.clinical.get(name)
            if meaning not in CLINICAL_CLASSES:
                raise LabelError(
                    f"class {name!r} has no clinical meaning",
                    where=f"classes {', '.join(self.names)}",
                    mend=f"declare it as one of: {', '.join(CLINICAL_CLASSES)} "
                    f"(a line '{name},other cell' in classes.csv, or --clinical "
                    f"'{name}=other cell')",
                )
        object.__setattr__(self, "clinical", MappingProxyType(dict(self.clinical)))
        object.__setattr__(self, "titles", MappingProxyType(dict(self.titles)))

    @property
    def positive(self) -> str | None:
        """`"lymphoblast"` where a class means it, else None: such an atlas has no clinical verdict."""
        return LYMPHOBLAST if LYMPHOBLAST in self.clinical.values() else None

    def index(self, name: str) -> int:
        """Position of a class name.

        Raises:
            LabelError: no class of this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise LabelError(
                f"unknown class {name!r}",
                where=f"classes {', '.join(self.names)}",
                mend=did_you_mean(name, self.names) or "use one of the classes named here",
            ) from None

    def title(self, name: str) -> str:
        """The words people read for a class."""
        return self.titles.get(name, name)

    def is_positive(self, name: str) -> bool:
        """Whether a fine class means lymphoblast."""
        return self.clinical[name] == LYMPHOBLAST

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "clinical": dict(self.clinical),
            "titles": dict(self.titles),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelSet:
        return cls(tuple(data["names"]), data["clinical"], data.get("titles", {}))

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not travel between processes
        return (LabelSet, (self.names, dict(self.clinical), dict(self.titles)))


@dataclass(frozen=True)
class ImageRef:
    """Where an image lies: a file, a member or row of a container, a box (left, top, right, bottom)."""

    path: Path
    member: str | None = None
    row: int | None = None
    box: tuple[int, int, int, int] | None = None

    def __str__(self) -> str:
        inner = self.member or (f"row {self.row}" if self.row is not None else "")
        return f"{self.path}{'!' + inner if inner else ''}"


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        id: unique in its data set: the path relative to the data set's root, with `/`.
        labels: one tuple of labels per label level; cells have one level with one label.
        subject: the person, where known. group: slide or field, where known.
        annotations: points and masks by name (paths or coordinates).
        fold: the publisher's own fold, where the data set has official folds.
        sha256: of the file's bytes, where it was computed.
    """

    id: str
    image: ImageRef
    labels: tuple[tuple[str, ...], ...]
    subject: str | None = None
    group: str | None = None
    specimen: str | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)
    fold: str | None = None
    sha256: str | None = None

    @property
    def label(self) -> str:
        """The only label of a sample with one label level.

        Raises:
            LabelError: the sample has several levels or labels, or none.
        """
        if len(self.labels) == 1 and len(self.labels[0]) == 1:
            return self.labels[0][0]
        raise LabelError(
            "this image does not carry exactly one label",
            where=self.id,
            mend="use a data set with one class per image",
        )


@dataclass(frozen=True)
class Dataset:
    """Samples with labels, and what must be said about them.

    Attributes:
        layout: how it lay on disk, in words: "class folders", "C-NMC 2019", ...
        specimen, stain: what the publisher states ("bone marrow", "Wright"), None where unknown.
        drawn: True for synthetic cells; every page then says so.
        notes: what a user should know about how the folder was read.
    """

    name: str
    samples: tuple[Sample, ...]
    labels: LabelSet
    citation: str = ""
    licence: str = ""
    layout: str = ""
    root: Path = Path()
    specimen: str | None = None
    stain: str | None = None
    drawn: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def counts(self) -> dict[str, int]:
        """Number of samples per class, in the order of the classes."""
        found = Counter(sample.label for sample in self.samples)
        return {name: found.get(name, 0) for name in self.labels.names}

    def subjects(self) -> tuple[str, ...]:
        """The known subjects, sorted; empty where the data set names none."""
        return tuple(sorted({s.subject for s in self.samples if s.subject is not None}))

    def select(self, ids: Sequence[str]) -> tuple[Sample, ...]:
        """The samples of these ids, in the order of `ids`."""
        by_id = {sample.id: sample for sample in self.samples}
        return tuple(by_id[i] for i in ids)


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a data set, as sample ids.

    Attributes:
        calibration: cells for percentiles and thresholds, never trained or selected on; empty
            where the validation part is too small to give any away: then `val` calibrates and
            `note` says "calibrated on the selection set".
        unit: what is never on two sides: "subject", "slide", "field" or "image".
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]
    unit: str
    seed: int
    note: str = ""

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {
            "train": self.train,
            "val": self.val,
            "calibration": self.calibration,
            "test": self.test,
        }

    def counts(self) -> dict[str, int]:
        return {name: len(ids) for name, ids in self.parts().items()}

    def to_json(self) -> dict[str, Any]:
        parts = {name: list(ids) for name, ids in self.parts().items()}
        return {**parts, "unit": self.unit, "seed": self.seed, "note": self.note}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Split:
        parts = {k: tuple(data[k]) for k in ("train", "val", "calibration", "test")}
        return cls(**parts, unit=data["unit"], seed=data["seed"], note=data.get("note", ""))


@dataclass(frozen=True)
class Features:
    """Vectors with the name of the space they live in.

    Attributes:
        ids: N ids. vectors: (N, C) float32, unscaled network outputs. space: see `Encoder.space`.
    """

    ids: tuple[str, ...]
    vectors: Array
    space: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", frozen(self.vectors))

    def __len__(self) -> int:
        return len(self.ids)

    def require(self, space: str, *, where: object = "") -> None:
        """Refuse vectors of another space.

        Raises:
            SpaceMismatch: these vectors were not made in `space`.
        """
        if self.space != space:
            raise SpaceMismatch(
                "these vectors and this atlas do not share a feature space",
                where=f"{where or 'the atlas'} is of space {space[:8]}, the vectors are of "
                f"{self.space[:8]}",
                mend="cellkin index ENCODER DATA --out ATLAS makes an atlas in the encoder's space",
            )


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
