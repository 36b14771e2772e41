"""From features to decisions: the atlas asks `decision`, and has no voting rules of its own."""

from __future__ import annotations

from collections.abc import Sequence

from cellkin.atlas.atlas import Atlas
from cellkin.core.errors import DecisionError
from cellkin.core.records import Decision, Features, Neighbor
from cellkin.decision import vote

__all__ = ["decide"]


def decide(
    atlas: Atlas, features: Features, *, subjects: Sequence[str | None] | None = None
) -> list[Decision]:
    """One decision per query (section 4.1, Eqs. 6-7), in the order of the queries.

    Args:
        subjects: the queries' subjects where known: reference cells of a query's own subject do
            not vote on it.

    Raises:
        SpaceMismatch: the features are not of the atlas's space.
        DecisionError: `subjects` does not match, or fewer than k references are left.
    """
    atlas.check_space(features)
    if subjects is not None and len(subjects) != len(features):
        raise DecisionError(
            f"{len(subjects)} subjects for {len(features)} queries",
            where="subjects",
            mend="give one subject (or None) per query",
        )
    exclude = None if subjects is None else [atlas.own_subject(s) for s in subjects]
    index, distances = atlas.index.nearest(
        atlas.scale.apply(features.vectors), atlas.k, exclude=exclude
    )
    return [
        _decision(atlas, query, [int(i) for i in found], [float(d) for d in lengths])
        for query, found, lengths in zip(features.ids, index, distances, strict=True)
    ]


def _decision(atlas: Atlas, query: str, found: list[int], distances: list[float]) -> Decision:
    cells = atlas.cells
    result = vote([cells.labels[i] for i in found], distances, atlas.labels)
    mean = sum(distances) / len(distances)
    percentile, counted = atlas.calibration.percentile(result.label, mean)
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
        state="decided" if result.tie is None else "tied",
        tie=result.tie,
        neighbors=tuple(
            Neighbor(cells.ids[i], cells.labels[i], d, rank, cells.subjects[i])
            for rank, (i, d) in enumerate(zip(found, distances, strict=True), start=1)
        ),
    )
