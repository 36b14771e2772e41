"""The frozen records that flow through the house. Arrays inside them are read-only.

Units: distances are lengths in the min-max scaled feature space (section 4.1 of the paper);
percentiles lie in [0, 100]; shares and agreements in [0, 1]; images are uint8 RGB, (H, W, 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.answers import (
    Beside,
    CounterEvidence,
    DifferenceMap,
    Evidence,
    Heatmap,
    Influence,
    PairMap,
    Provenance,
)
from cellkin.core.arrays import Array, Ints
from cellkin.core.contrast import CLOSES, Contrast, ContrastMap
from cellkin.core.decisions import QUALITY, Decision, HeadCall, Neighbor, Novelty, PredictionSet
from cellkin.core.errors import LabelError, SpaceMismatch
from cellkin.core.labels import (
    CLINICAL_CLASSES,
    LYMPHOBLAST,
    NO_CELL,
    NOTICE,
    OTHER_CELL,
    LabelSet,
    frozen,
)

__all__ = [
    "CLINICAL_CLASSES",
    "CLOSES",
    "LYMPHOBLAST",
    "NOTICE",
    "NO_CELL",
    "OTHER_CELL",
    "QUALITY",
    "Beside",
    "Contrast",
    "ContrastMap",
    "CounterEvidence",
    "Dataset",
    "Decision",
    "DifferenceMap",
    "Evidence",
    "Features",
    "HeadCall",
    "Heatmap",
    "ImageRef",
    "Influence",
    "LabelSet",
    "Neighbor",
    "Novelty",
    "PairMap",
    "PredictionSet",
    "Provenance",
    "Sample",
    "Split",
    "frozen",
]


@dataclass(frozen=True)
class ImageRef:
    """Where an image lies: file, member or row of a container, box (left, top, right, bottom); and
    its micrometres per pixel, where something else than the file says them.
    """

    path: Path
    member: str | None = None
    row: int | None = None
    box: tuple[int, int, int, int] | None = None
    um_per_pixel: float | None = None

    def __str__(self) -> str:
        inner = self.member or (f"row {self.row}" if self.row is not None else "")
        return f"{self.path}{'!' + inner if inner else ''}"


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        id: unique in its data set: the path relative to the data set's root, with `/`.
        labels: one tuple of labels per label level; cells have one level with one label.
        subject: the person, where known. group: slide or field, where known. place: the
            laboratory or scanner, where known.
        annotations: points and masks by name (paths or coordinates).
        fold: the publisher's own fold, where the data set has official folds.
        sha256: of the file's bytes, where it was computed.
        pixels: a mark of the image as it is decoded, where it was computed (see `parts.seen`).
    """

    id: str
    image: ImageRef
    labels: tuple[tuple[str, ...], ...]
    subject: str | None = None
    group: str | None = None
    place: str | None = None
    specimen: str | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)
    fold: str | None = None
    sha256: str | None = None
    pixels: str | None = None

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
        levels: for several labels per image, the codes of each label level in their order
            (ADP: 9, 26, 38 codes), and `labels` has no class; empty for cells, one class each.
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
    levels: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def counts(self) -> dict[str, int]:
        """Number of samples per class, in the order of the classes.

        Raises:
            LabelError: a sample does not carry exactly one label.
        """
        found = Counter(sample.label for sample in self.samples)
        return {name: found.get(name, 0) for name in self.labels.names}

    def require_cells(self) -> None:
        """Refuse a data set with several labels per image: it has no classes to split or vote on.

        Raises:
            LabelError: it has label levels.
        """
        if self.levels:
            raise LabelError(
                f"{self.name} carries several labels per image on {len(self.levels)} levels",
                where=self.root,
                mend="use it for pretraining; splits, training and votes need one class per image",
            )

    def subjects(self) -> tuple[str, ...]:
        """The known subjects, sorted; empty where the data set names none."""
        return tuple(sorted({s.subject for s in self.samples if s.subject is not None}))

    def rows(self, ids: Sequence[str]) -> Ints:
        """The positions of these ids among the samples, in the order of `ids`."""
        places = {sample.id: i for i, sample in enumerate(self.samples)}
        return np.array([places[i] for i in ids], np.int64)

    def select(self, ids: Sequence[str]) -> tuple[Sample, ...]:
        """The samples of these ids, in the order of `ids`."""
        return tuple(self.samples[row] for row in self.rows(ids))


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

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all samples that are in a part."""
        return tuple(i for part in self.parts().values() for i in part)

    def without(self, ids: Collection[str], note: str) -> Split:
        """The parts without some samples, and a sentence more in the note."""
        kept = {name: [i for i in part if i not in ids] for name, part in self.parts().items()}
        told = {"unit": self.unit, "seed": self.seed, "note": self.note}
        return Split.from_json({**kept, **told}).noted(note)

    def noted(self, *sentences: str) -> Split:
        """The same parts with some sentences more in the note; empty ones say nothing."""
        return replace(self, note="; ".join(filter(None, (self.note, *sentences))))

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
