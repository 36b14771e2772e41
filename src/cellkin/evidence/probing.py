"""Cells with their nearest kin, and the heatmaps of any network on them: what is put to the test.

The heatmaps are those of the page of one cell (`cellkin.evidence.explaining`), made anew by the
encoder that is asked: the trained one on changed pictures, or a random one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from cellkin.core.arrays import Bytes, Floats, Ints, Singles
from cellkin.decision import pair_distances
from cellkin.evidence.contrasting import Comparing, Pictures, read
from cellkin.evidence.explaining import Cases, class_maps, pair_maps
from cellkin.evidence.pairs import driving, measure_of

CHUNK = 16  # cells whose feature maps are in memory at once

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "contrast": "Contrast map, the kin against the other side",
        "grad-cam": "Grad-CAM of the voted class",
        "likeness": "Metric-Grad-CAM, likeness to the nearest kin",
        "difference": "Metric-Grad-CAM, difference to the nearest kin",
    }
)
"""The heatmaps on a query, by the name that data carry, in words."""


@dataclass(frozen=True)
class Sides:
    """The reference cells that the contrasts of M queries compare.

    Attributes:
        images: (R, S, S, 3) uint8, prepared, each cell once.
        kin, opponents: for each query, rows of them; no opponents where there is no other side.
    """

    images: Bytes
    kin: Sequence[Sequence[int]]
    opponents: Sequence[Sequence[int]]

    @property
    def whole(self) -> bool:
        """Whether every query has both."""
        return all(map(len, self.opponents))

    def part(self, rows: Ints) -> Sides:
        """Those of some of the queries."""
        return replace(
            self, kin=[self.kin[i] for i in rows], opponents=[self.opponents[i] for i in rows]
        )

    def features(self, vectors: Singles) -> list[tuple[Singles, Singles]]:
        """Of each query its kin and its opponents, out of the features (R, C) of `images`."""
        return [
            (vectors[list(kin)], vectors[list(others)])
            for kin, others in zip(self.kin, self.opponents, strict=True)
        ]


@dataclass(frozen=True)
class Probe:
    """M queries, each with its nearest reference cell and the class that was voted.

    Attributes:
        ids: M names. images, kin: (M, S, S, 3) uint8, prepared. labels: the voted classes.
        sides: what their contrasts compare; without it no contrast is made.
    """

    ids: Sequence[str]
    images: Bytes
    kin: Bytes
    labels: Sequence[str]
    sides: Sides | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: Sequence[int] | Ints) -> Probe:
        """Some of the queries, in this order; a row may stand there several times."""
        chosen = np.asarray(rows, np.int64)
        return Probe(
            [self.ids[i] for i in chosen],
            self.images[chosen],
            self.kin[chosen],
            [self.labels[i] for i in chosen],
            None if self.sides is None else self.sides.part(chosen),
        )

    def with_images(self, images: Bytes) -> Probe:
        """The same queries with other pictures of them."""
        return replace(self, images=images)


def method_maps(space: Comparing, probe: Probe) -> dict[str, Floats]:
    """The heatmaps (M, h, w) on the queries, raw, by the names of `METHODS`.

    "grad-cam" is absent where the class head does not know every voted class, "contrast" where a
    query has no other side.
    """
    contrasted = probe.sides is not None and probe.sides.whole
    vectors = space.encoder.vectors(probe.sides.images) if probe.sides and contrasted else None
    found: dict[str, list[Floats]] = {}
    for start in range(0, len(probe), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(probe)))
        part = probe.part(rows)
        made = _maps(space, part)
        if vectors is not None and part.sides is not None:
            made["contrast"] = _contrasts(space, part, part.sides.features(vectors))
        for name, values in made.items():
            found.setdefault(name, []).append(values)
    whole = {name: np.concatenate(values) for name, values in found.items()}
    return {name: whole[name] for name in METHODS if len(whole.get(name, ())) == len(probe)}


def _maps(space: Comparing, probe: Probe) -> dict[str, Floats]:
    encoder = space.encoder
    views, kin = encoder.view(probe.images), encoder.view(probe.kin)
    average = encoder.pooling == "average"
    features = (space.scale.apply(views.features), space.scale.apply(kin.features))
    power = measure_of(space.distance)[1]
    cases = Cases(
        queries=probe.ids,
        references=[["kin"]] * len(probe),
        vectors=views.features,
        reference_vectors=kin.features[:, None],
        distances=(_apart(features, space.distance) ** (1 / power))[:, None],
        maps=views.maps if average else None,
        reference_maps=kin.maps[:, None] if average else None,
        images=None if average else probe.images,
        reference_images=None if average else probe.kin[:, None],
    )
    likes, differs = pair_maps(encoder, cases, space.scale, space.distance)
    made = {
        "likeness": np.stack([row[0].on_query() for row in likes]),
        "difference": np.stack([row[0].on_query for row in differs]),
    }
    heat = class_maps(encoder, cases, probe.labels)
    known = [found[0].values for found in heat if found is not None]
    if len(known) == len(probe):
        made["grad-cam"] = np.stack(known)
    return {name: np.asarray(values, np.float64) for name, values in made.items()}


def _contrasts(space: Comparing, probe: Probe, sides: Sequence[tuple[Singles, Singles]]) -> Floats:
    """(M, h, w) on the queries."""
    views = space.encoder.view(probe.images)
    average = space.encoder.pooling == "average"
    made = [
        read(
            space,
            Pictures(
                views.features[i : i + 1],
                views.maps[i : i + 1] if average else None,
                None if average else probe.images[i : i + 1],
            ),
            [both],
        ).values[0, 0]
        for i, both in enumerate(sides)
    ]
    return np.stack(made)


def targets(
    space: Comparing, probe: Probe, kin_vectors: Singles, side_vectors: Singles | None = None
) -> dict[str, Floats]:
    """What each heatmap claims to explain, of the queries' pictures as they are: (M,) each.

    The margin between the sides; the score of the voted class; the likeness to the nearest kin (a
    cosine in a cosine space); the distance to it, squared in a Euclidean space.

    Args:
        kin_vectors: (M, C) raw features of the kin, which stay as they are.
        side_vectors: (R, C) of `Probe.sides`, which stay as well.
    """
    vectors = space.encoder.vectors(probe.images)
    g_Q, g_P = space.scale.apply(vectors), space.scale.apply(kin_vectors)
    likeness = (g_Q * g_P).sum(axis=1)
    if space.distance == "cosine":
        likeness /= np.linalg.norm(g_Q, axis=1) * np.linalg.norm(g_P, axis=1)
    found = {"likeness": likeness, "difference": _apart((g_Q, g_P), space.distance)}
    if side_vectors is not None and probe.sides is not None and probe.sides.whole:
        found["contrast"] = _margins(space, g_Q, probe.sides.features(side_vectors))
    classes = space.encoder.classes
    if set(probe.labels) <= set(classes):
        rows = [classes.index(label) for label in probe.labels]
        weights = space.encoder.head_weights()[rows].astype(np.float64)
        found["grad-cam"] = (weights * vectors).sum(axis=1) + space.encoder.head_bias()[rows]
    return found


def _apart(features: tuple[Floats, Floats], distance: str) -> Floats:
    """(M,) what the difference map adds up to, pair by pair."""
    g_Q, g_P = features[0], features[1][:, None]
    v, a, b = driving(g_Q, g_P, distance)
    return np.asarray((v * (a * g_Q[:, None] - b * g_P)).sum(axis=-1)[:, 0])


def _margins(
    space: Comparing, features: Floats, sides: Sequence[tuple[Singles, Singles]]
) -> Floats:
    """(M,) what the contrast adds up to."""
    found = []
    for g, both in zip(features, sides, strict=True):
        to_kin, to_others = (
            pair_distances(g, space.scale.apply(side), space.distance) for side in both
        )
        found.append(space.margin(to_others, to_kin))
    return np.array(found)
