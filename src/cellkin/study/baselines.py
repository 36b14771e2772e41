"""Baselines that could win: colour histograms, frozen ImageNet features, the softmax head.

They decide on the same cells, in the same folds, by the same vote where they vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellkin.atlas import Atlas, head_shares
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.records import Decision, Features, LabelSet, Neighbor, Sample
from cellkin.decision import Index, vote
from cellkin.study.predictions import Prediction

BINS = 8  # of each colour; 512 in all


def colour_histogram(images: Bytes) -> Floats:
    """Joint RGB histograms of prepared images (N, S, S, 3) uint8: (N, 512), square roots of shares.

    The Euclidean distance of square roots is the Hellinger distance of the histograms, times the
    root of two.
    """
    bins = np.asarray(images, np.int64) // (256 // BINS)
    codes = (bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2]
    flat = codes.reshape(len(images), -1)
    counts = [np.bincount(row, minlength=BINS**3) for row in flat]
    return np.sqrt(np.array(counts, np.float64).reshape(-1, BINS**3) / flat.shape[1])


def by_histogram(
    references: tuple[Floats, Sequence[Sample]],
    queries: tuple[Floats, Sequence[Sample]],
    labels: LabelSet,
    k: int,
) -> list[Prediction]:
    """Neighbours by the colours of the whole picture.

    Args:
        references, queries: histograms (N, 512) and their cells.
    """
    vectors, cells = references
    index = Index(vectors, [s.id for s in cells], "euclidean")
    found, distances = index.nearest(queries[0], k)
    predictions = []
    for sample, row, lengths in zip(queries[1], found.tolist(), distances.tolist(), strict=True):
        near = [cells[i] for i in row]
        result = vote([s.label for s in near], lengths, labels)
        predictions.append(
            _prediction(
                sample,
                labels,
                label=result.label,
                clinical=result.clinical,
                score=_share(result.votes, labels),
                votes=dict(result.votes),
                neighbors=tuple(
                    Neighbor(s.id, s.label, d, r, s.subject, place=s.place)
                    for r, (s, d) in enumerate(zip(near, lengths, strict=True), start=1)
                ),
            )
        )
    return predictions


def by_neighbors(
    decisions: Sequence[Decision],
    samples: Sequence[Sample],
    labels: LabelSet,
    places: Floats | None,
) -> list[Prediction]:
    """The decisions of an atlas on cells whose class is known; `places` (N, 2) on its map."""
    return [
        _prediction(
            sample,
            labels,
            label=decision.label,
            clinical=decision.clinical,
            score=_share(decision.votes, labels),
            votes=dict(decision.votes),
            neighbors=decision.neighbors,
            map_xy=_place(places, i),
        )
        for i, (decision, sample) in enumerate(zip(decisions, samples, strict=True))
    ]


def by_head(
    atlas: Atlas,
    features: Features,
    samples: Sequence[Sample],
    labels: LabelSet,
    places: Floats | None,
) -> list[Prediction]:
    """The class head of the trained network: the class of the largest softmax.

    The score adds up the softmax of all classes that mean lymphoblast.
    """
    predictions = []
    for i, sample in enumerate(samples):
        shares = head_shares(atlas, features.vectors[i])
        assert shares is not None  # the network was trained on these classes
        label = labels.names[int(shares.argmax())]
        named = zip(labels.names, shares.tolist(), strict=True)
        positive = [share for name, share in named if labels.is_positive(name)]
        predictions.append(
            _prediction(
                sample,
                labels,
                label=label,
                clinical=_clinical(label, labels),
                score=min(1.0, sum(positive)) if positive else None,
                map_xy=_place(places, i),
            )
        )
    return predictions


def _prediction(sample: Sample, labels: LabelSet, **found: Any) -> Prediction:
    """What was found on a cell, beside what is known of it."""
    return Prediction(
        id=sample.id,
        truth=sample.label,
        truth_clinical=_clinical(sample.label, labels),
        subject=sample.subject,
        group=sample.group,
        **found,
    )


def _place(places: Floats | None, i: int) -> tuple[float, float] | None:
    return None if places is None else (float(places[i, 0]), float(places[i, 1]))


def _clinical(label: str, labels: LabelSet) -> str | None:
    return None if labels.positive is None else labels.clinical[label]


def _share(votes: Mapping[str, int], labels: LabelSet) -> float | None:
    """Share of the neighbours that are lymphoblasts; None where no class means that."""
    if labels.positive is None:
        return None
    positive = sum(n for name, n in votes.items() if labels.is_positive(name))
    return positive / sum(votes.values())
