"""The records of a decision: neighbours, prediction set, and what the class head says.

They are part of `cellkin.core.records` and imported from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from cellkin.core.plain import Plain
from cellkin.core.reading import read_record

__all__ = [
    "NEAR_COPY",
    "QUALITY",
    "SAME_IMAGE",
    "Decision",
    "HeadCall",
    "Neighbor",
    "Novelty",
    "PredictionSet",
]

QUALITY: Mapping[str, str] = MappingProxyType(
    {
        "empty": "the picture is empty",
        "out of focus": "the picture is out of focus",
        "underexposed": "the picture is too dark",
        "overexposed": "the picture is too bright",
        "no cell in the middle": "there is no nucleus in the middle of the picture",
        "several cells": "there are several cells in the picture",
        "not like its smears": "colours and textures are not those of this atlas's smears",
    }
)
"""What the quality gate finds wrong with a picture, by the name that data carry, in words."""


SAME_IMAGE, NEAR_COPY = "same image", "near copy"


@dataclass(frozen=True)
class Neighbor:
    """One of the reference cells nearest to a query; rank 1 is the nearest.

    Attributes:
        place: the laboratory or scanner, where known.
        twin: "same image" where it is the query itself, "near copy" where it nearly is (see
            `cellkin.atlas.recognising`): then the query's own label votes. Else empty, also where
            nobody compared the pictures.
    """

    id: str
    label: str
    distance: float
    rank: int
    subject: str | None = None
    twin: str = ""
    place: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "subject": self.subject,
            "distance": self.distance,
            "rank": self.rank,
            **({"twin": self.twin} if self.twin else {}),
            **({"place": self.place} if self.place is not None else {}),
        }


@dataclass(frozen=True)
class HeadCall(Plain):
    """What the network's class head says, beside the vote: its class and softmax in (0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class PredictionSet:
    """The classes that held-out calibration cells do not rule out for a query.

    In the long run, of the new cells of a judged class at least the share `coverage` get a set
    that holds their class, where new cells come `unit` by `unit` (see `cellkin.decision.conformal`
    for what that means for subjects).

    Attributes:
        labels: the judged classes that stay, in class order. None of them: the cell is unlike
            every class that could be judged.
        coverage: in (0, 1). unit: "subject", "slide/field", "slide", "field" or "cell".
        p_values: judged class -> share of its calibration units (with the query's own) that are as
            odd among the cells of the class as the query, or odder.
        unjudged: class -> number of its calibration units, where these are too few to promise
            `coverage`. needed: how many it takes.
        note: what limits the promise, or an empty string.
        typical: share of the calibration units of all classes together that are as odd among the
            cells of their own class as the query is where it fits best, or odder.
    """

    labels: tuple[str, ...]
    coverage: float
    unit: str
    p_values: Mapping[str, float]
    unjudged: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    needed: int = 0
    note: str = ""
    typical: float = 1.0


@dataclass(frozen=True)
class Novelty(Plain):
    """Whether a cell is of a kind that the atlas knows.

    Attributes:
        p: share of held-out cells (with the cell's own) that are as odd as it in a space that was
            not trained on the atlas's classes, or odder; None where there are too few.
        own: the same in the atlas's own space (`PredictionSet.typical`); None without a set.
        near: the class that it is nearest to there. unknown: whether it is refused for `p`.
    """

    p: float | None
    own: float | None
    near: str
    unknown: bool


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
        state: "decided", "tied", or "abstained": the vote was not tied, but `reasons` say why its
            call should not be used. tie: None, "clinical" or "label": the vote that was tied and
            went to the smaller mean distance.
        head: the class head's call; None where it knows other classes than the atlas.
        prediction_set: None where there is none; `set_absent` then says why.
        subject: the person, where it was named. left_out: how many reference cells of that person
            (or of the cell's own slide or field) were left out of the vote; 0: this atlas has none.
        reasons: why to abstain: "unlike" (no class is like it), "ambiguous" (several stay that
            mean different verdicts), "set" (the one class that stays is another than the vote's),
            "quality" (the picture failed the quality gate), "unknown" (see `Novelty`).
        quality: what the quality gate found wrong, keys of `QUALITY`; None where it was not asked,
            or where the atlas has no gate.
        novelty: None where the atlas was made without a frozen space.
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
    head: HeadCall | None = None
    prediction_set: PredictionSet | None = None
    set_absent: str = ""
    subject: str | None = None
    left_out: int = 0
    reasons: tuple[str, ...] = ()
    quality: tuple[str, ...] | None = None
    novelty: Novelty | None = None

    @property
    def twin(self) -> str:
        """Whether the query is itself among its kin: "same image", "near copy", or empty."""
        found = {kin.twin for kin in self.neighbors}
        return next((name for name in (SAME_IMAGE, NEAR_COPY) if name in found), "")

    def is_far(self, coverage: float) -> bool:
        """Whether its mean distance lies beyond that share of the held-out cells of its class.

        No promise is made by it, and nothing is refused for it: cells of one person are alike.
        """
        percentile = self.distance_percentile
        return percentile is not None and percentile > 100 * coverage

    def gated(self, quality: tuple[str, ...] | None) -> Decision:
        """The same decision with what the quality gate found; it abstains where that is much."""
        if not quality:
            return replace(self, quality=quality)
        state = "abstained" if self.state == "decided" else self.state
        return replace(self, quality=quality, state=state, reasons=("quality", *self.reasons))

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
            "reasons": list(self.reasons),
            "quality": None if self.quality is None else list(self.quality),
            "tie": self.tie,
            "neighbors": [neighbor.to_json() for neighbor in self.neighbors],
            "subject": self.subject,
            "left_out": self.left_out,
            "head": self.head.to_json() if self.head else None,
            "novelty": self.novelty.to_json() if self.novelty else None,
            **_set_json(self.prediction_set, self.set_absent),
        }

    @classmethod
    def from_json(cls, data: Any) -> Decision:
        """The decision that `to_json` wrote, also that of an earlier version.

        Raises:
            ArtifactError: this is no such data.
        """
        if not isinstance(data, Mapping):
            return read_record(cls, data)  # which says so
        named = {"query": data.get("image"), **_set_fields(data)}
        return read_record(cls, {**{k: v for k, v in data.items() if k not in FLAT}, **named})


FLAT = (
    "image",
    "prediction_set",
    "coverage",
    "set_unit",
    "set_p_values",
    "set_unjudged",
    "set_needed",
    "set_typical",
    "set_note",
)
"""Names of plain data that hold the query and its prediction set; the others are the fields."""


def _set_json(found: PredictionSet | None, absent: str) -> dict[str, Any]:
    if found is None:
        return {
            "prediction_set": None,
            "coverage": None,
            "set_unit": None,
            "set_p_values": None,
            "set_unjudged": None,
            "set_needed": None,
            "set_typical": None,
            "set_note": absent or None,
        }
    return {
        "prediction_set": list(found.labels),
        "coverage": found.coverage,
        "set_unit": found.unit,
        "set_p_values": dict(found.p_values),
        "set_unjudged": dict(found.unjudged),
        "set_needed": found.needed,
        "set_typical": found.typical,
        "set_note": found.note or None,
    }


def _set_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """`_set_json` undone: the two fields of a decision, the set as plain data."""
    note = data.get("set_note") or ""
    if data.get("prediction_set") is None:
        return {"prediction_set": None, "set_absent": note}
    told = {
        "labels": data["prediction_set"],
        "coverage": data.get("coverage"),
        "unit": data.get("set_unit"),
        "p_values": data.get("set_p_values"),
        "unjudged": data.get("set_unjudged"),
        "needed": data.get("set_needed", 0),
        "typical": data.get("set_typical"),
        "note": note,
    }
    return {"prediction_set": told, "set_absent": ""}
