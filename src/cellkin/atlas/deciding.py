"""From features to decisions: the atlas asks `decision`, and has no voting rules of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.core.arrays import Floats, Singles
from cellkin.core.errors import DecisionError
from cellkin.core.records import Decision, Features, HeadCall, Neighbor, PredictionSet
from cellkin.core.stages import stage
from cellkin.core.units import SUBJECT, Owners
from cellkin.decision import COVERAGE, NearestByClass, abstention, units_needed, vote

NO_SCORES = "not available: this atlas was made without calibration scores; cellkin index adds them"


def decide(
    atlas: Atlas,
    features: Features,
    *,
    owners: Owners | None = None,
    coverage: float = COVERAGE,
) -> list[Decision]:
    """One decision per query (section 4.1, Eqs. 6-7), in the order of the queries.

    Args:
        owners: whose the queries are, where known: reference cells of a query's own subject (slide,
            field) do not vote on it.
        coverage: what the prediction sets promise, in (0, 1).

    Raises:
        SpaceMismatch: the features are not of the atlas's space.
        DecisionError: `owners` does not match, or names nobody or an owner in the atlas in another
            spelling; fewer than k references are left; an impossible coverage.
    """
    with stage("neighbours"):
        return consult(atlas, features, owners=owners, coverage=coverage).decisions


@dataclass(frozen=True)
class Consultation:
    """Decisions on M queries and what they were made from.

    Attributes:
        scaled: (M, C). exclude: for each query the references that are its own, see `Atlas.own`.
        near: the nearest references of every class; None where nobody asked for them.
    """

    decisions: list[Decision]
    scaled: Floats
    exclude: Sequence[set[int]]
    near: NearestByClass | None


def consult(
    atlas: Atlas,
    features: Features,
    *,
    owners: Owners | None = None,
    coverage: float = COVERAGE,
    classes: bool = False,
) -> Consultation:
    """`decide`, keeping what evidence needs; `classes` asks for the nearest of every class.

    Raises:
        CellkinError: as `decide`.
    """
    atlas.check_space(features)
    if owners is not None and len(owners) != len(features):
        raise DecisionError(
            f"{len(owners)} owners for {len(features)} queries",
            where=f"unit = {owners.unit}",
            mend=f"give one {owners.unit} (or None) per query",
        )
    named = atlas.named(owners or Owners(SUBJECT, (None,) * len(features)))
    exclude = atlas.own(named)
    scaled = atlas.scale.apply(features.vectors)
    index, distances = atlas.index.nearest(scaled, atlas.k, exclude=exclude)
    near = None
    if classes or atlas.conformal is not None:
        near = atlas.class_index.nearest(scaled, atlas.k, exclude)
    units_needed(coverage)  # an impossible coverage is refused, whatever this atlas holds
    sets = _prediction_sets(atlas, near, coverage, len(features))
    decisions = [
        _decision(
            atlas,
            query,
            ([int(i) for i in index[row]], [float(d) for d in distances[row]]),
            _head_call(atlas, features.vectors[row]),
            sets[row],
            (named.names[row] if named.unit == SUBJECT else None, len(exclude[row])),
        )
        for row, query in enumerate(features.ids)
    ]
    return Consultation(decisions, scaled, exclude, near)


def _prediction_sets(
    atlas: Atlas, near: NearestByClass | None, coverage: float, count: int
) -> list[tuple[PredictionSet | None, str]]:
    if atlas.conformal is None or near is None:
        return [(None, NO_SCORES)] * count
    return [
        atlas.conformal.predict(dict(zip(near.classes, row, strict=True)), coverage, atlas.labels)
        for row in near.nonconformity().tolist()
    ]


def head_shares(atlas: Atlas, vector: Singles) -> Floats | None:
    """Softmax (K,) of the class head on one feature (C,), in float64 and alone: no other query can
    change a bit. None where the atlas has no class head.
    """
    if atlas.head is None:
        return None
    weights, bias = atlas.head
    logits = weights @ vector.astype(np.float64) + bias
    odds = np.exp(logits - logits.max())
    return np.asarray(odds / odds.sum())


def _head_call(atlas: Atlas, vector: Singles) -> HeadCall | None:
    shares = head_shares(atlas, vector)
    if shares is None:
        return None
    best = int(shares.argmax())
    return HeadCall(atlas.labels.names[best], float(shares[best]))


def _decision(
    atlas: Atlas,
    query: str,
    nearest: tuple[list[int], list[float]],
    head: HeadCall | None,
    judged: tuple[PredictionSet | None, str],
    own: tuple[str | None, int],
) -> Decision:
    cells, (found, distances) = atlas.cells, nearest
    result = vote([cells.labels[i] for i in found], distances, atlas.labels)
    mean = sum(distances) / len(distances)
    percentile, counted = atlas.calibration.percentile(result.label, mean)
    reasons = abstention(judged[0], result.label, atlas.labels)
    return Decision(
        query=query,
        label=result.label,
        clinical=result.clinical,
        votes=result.votes,
        clinical_votes=result.clinical_votes,
        agreement=result.agreement,
        mean_distance=mean,
        distance_percentile=percentile,
        calibration_cells=counted,
        state="tied" if result.tie is not None else "abstained" if reasons else "decided",
        tie=result.tie,
        neighbors=tuple(
            Neighbor(
                cells.ids[i], cells.labels[i], d, rank, cells.subjects[i], place=cells.places[i]
            )
            for rank, (i, d) in enumerate(zip(found, distances, strict=True), start=1)
        ),
        head=head,
        prediction_set=judged[0],
        set_absent=judged[1],
        subject=own[0],
        left_out=own[1],
        reasons=reasons,
    )
