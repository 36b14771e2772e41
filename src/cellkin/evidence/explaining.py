"""Heatmaps, pair maps and difference maps of many decisions at once, as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Floats, Singles
from cellkin.core.records import DifferenceMap, Heatmap, PairMap
from cellkin.decision import MinMaxScale
from cellkin.evidence import pairs
from cellkin.evidence.saliency import grad_cam
from cellkin.learning.encoder import Encoder

GRADIENT = "gradient x activation"
BLOCK = 1 << 24  # float32 numbers of scaled maps in memory at once


@dataclass(frozen=True)
class Cases:
    """M queries with k reference cells each.

    Attributes:
        queries: M names. references: for each query the k ids.
        vectors: raw features of the queries (M, C), and of the references (M, k, C): those that
            voted. distances: (M, k), as they voted.
        maps, reference_maps: feature maps (M, C, h, w) and (M, k, C, h, w); None for a transformer.
        images, reference_images: prepared, (M, S, S, 3) and (M, k, S, S, 3) uint8; only for a
            transformer.
        alignment: (C, C), by which the features of the queries were moved after the network, and
            of those references that `moved` (M, k) marks; only for a transformer.
    """

    queries: Sequence[str]
    references: Sequence[Sequence[str]]
    vectors: Singles
    reference_vectors: Singles
    distances: Floats
    maps: Array | None = None
    reference_maps: Array | None = None
    images: Bytes | None = None
    reference_images: Bytes | None = None
    alignment: Floats | None = None
    moved: Bools | None = None

    def nearest(self, k: int) -> Cases:
        """The same queries with their first k references alone."""
        names = ("reference_vectors", "distances", "reference_maps", "reference_images", "moved")
        cut = {
            name: None if (value := getattr(self, name)) is None else value[:, :k] for name in names
        }
        held: dict[str, Any] = {**cut, "references": [names[:k] for names in self.references]}
        return replace(self, **held)

    def part(self, rows: slice) -> Cases:
        """Some of the queries."""
        held: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        whole = {"alignment": held.pop("alignment")}
        cut: dict[str, Any] = {n: v if v is None else v[rows] for n, v in held.items()} | whole
        return replace(self, **cut)


Maps = tuple[list[tuple[PairMap, ...]], list[tuple[DifferenceMap, ...]]]


def class_maps(
    encoder: Encoder, cases: Cases, labels: Sequence[str]
) -> list[tuple[Heatmap, ...] | None]:
    """Grad-CAM of each query's class on the query and its references; None without such a class.

    For a transformer gradient x activation on the tokens that enter the last block, signed.
    """
    known = [i for i, label in enumerate(labels) if label in encoder.classes]
    found: list[tuple[Heatmap, ...] | None] = [None] * len(labels)
    if not known:
        return found
    rows = [encoder.classes.index(labels[i]) for i in known]
    weights = encoder.head_weights()[rows]
    exact = encoder.pooling == "average"
    method = "grad-cam" if exact else GRADIENT
    values = (_grad_cams if exact else _token_cams)(encoder, cases, known, weights)
    for i, maps in zip(known, values, strict=True):
        found[i] = tuple(
            Heatmap(v, method, encoder.layer, labels[i], name, signed=not exact)
            for v, name in zip(maps, (cases.queries[i], *cases.references[i]), strict=True)
        )
    return found


def _grad_cams(encoder: Encoder, cases: Cases, known: list[int], weights: Singles) -> Floats:
    """(M, 1 + k, h, w)."""
    if cases.maps is None or cases.reference_maps is None:
        raise ValueError("average pooling needs the feature maps")
    own = grad_cam(cases.maps[known][:, None], weights)
    return np.concatenate([own, grad_cam(cases.reference_maps[known], weights)], axis=1)


def _token_cams(encoder: Encoder, cases: Cases, known: list[int], weights: Singles) -> Floats:
    images, others = _images(cases)
    everyone = np.concatenate([images[known][:, None], others[known]], axis=1)
    M, count = everyone.shape[:2]
    toward = np.repeat(weights[:, None, None], count, axis=1)
    moved = None if cases.moved is None else cases.moved[known]
    own, kin = _to_network(cases.alignment, moved, toward[:, 0], toward[:, 1:])
    directions = np.concatenate([own[:, None], kin], axis=1).reshape(M * count, 1, -1)
    maps = encoder.token_products(everyone.reshape(M * count, *everyone.shape[2:]), directions)
    return np.asarray(maps.reshape(M, count, *maps.shape[2:]))


def _images(cases: Cases) -> tuple[Bytes, Bytes]:
    if cases.images is None or cases.reference_images is None:
        raise ValueError("a transformer's maps need the images")
    return cases.images, cases.reference_images


def pair_maps(encoder: Encoder, cases: Cases, scale: MinMaxScale, distance: str) -> Maps:
    """The likeness and the difference of each query to each of its references.

    The targets are computed from the features that voted and from the distances that voted, never
    from the maps: completeness compares two ways of computing.
    """
    if encoder.pooling != "average":
        return _records(cases, scale, distance, _token_pairs(encoder, cases, scale, distance))
    if cases.maps is None or cases.reference_maps is None:
        raise ValueError("average pooling needs the feature maps")
    step = max(1, BLOCK // max(1, cases.reference_maps[0].size))
    likes: list[tuple[PairMap, ...]] = []
    differs: list[tuple[DifferenceMap, ...]] = []
    for start in range(0, len(cases.queries), step):
        part = cases.part(slice(start, start + step))
        found = _records(part, scale, distance, _average_pairs(part, scale, distance))
        likes += found[0]
        differs += found[1]
    return likes, differs


@dataclass(frozen=True)
class _Pairs:
    """Of M queries and k references: D where it exists, and the marginals of D and E."""

    tensors: Singles | None
    likes: tuple[Floats, Floats]
    differs: tuple[Floats, Floats]


def _features(cases: Cases, scale: MinMaxScale) -> tuple[Floats, Floats]:
    M, k, C = cases.reference_vectors.shape
    references = scale.apply(cases.reference_vectors.reshape(M * k, C)).reshape(M, k, C)
    return scale.apply(cases.vectors), references


def _average_pairs(cases: Cases, scale: MinMaxScale, distance: str) -> _Pairs:
    B_Q, B_P = (
        pairs.scaled_maps(np.asarray(maps), scale.scale, scale.offset)
        for maps in (cases.maps, cases.reference_maps)
    )
    tensors = pairs.likeness(B_Q, B_P)
    g_Q, g_P = _features(cases, scale)
    if distance == "cosine":
        norms = np.linalg.norm(g_Q, axis=-1)[:, None] * np.linalg.norm(g_P, axis=-1)
        tensors = (tensors / norms[..., None, None, None, None]).astype(np.float32)
    likes = tensors.sum(axis=(-2, -1), dtype=np.float64), tensors.sum(axis=(2, 3), dtype=np.float64)
    return _Pairs(tensors, likes, pairs.differences(B_Q, B_P, (g_Q, g_P), distance))


def _token_pairs(encoder: Encoder, cases: Cases, scale: MinMaxScale, distance: str) -> _Pairs:
    """First-order terms of the patches that enter the last block: an approximation."""
    images, others = _images(cases)
    g_Q, g_P = _features(cases, scale)
    M, k, C = g_P.shape
    v, a, b = pairs.driving(g_Q, g_P, distance)
    norm = np.ones((M, k, 1))
    if distance == "cosine":
        norm = a * b
    S = scale.scale
    queries = np.concatenate([S * g_P * norm, S * v * a], axis=1)
    back = np.stack([S * g_Q[:, None] * norm, -S * v * b], axis=2)
    queries, back = _to_network(cases.alignment, cases.moved, queries, back)
    on_queries = encoder.token_products(images, queries)
    images_back = others.reshape(M * k, *others.shape[2:])
    on_others = encoder.token_products(images_back, back.reshape(M * k, 2, C))
    on_others = on_others.reshape(M, k, 2, *on_others.shape[2:])
    return _Pairs(
        None,
        (on_queries[:, :k], on_others[:, :, 0]),
        (on_queries[:, k:], on_others[:, :, 1]),
    )


def _to_network(
    alignment: Floats | None, moved: Bools | None, queries: Array, references: Array
) -> tuple[Array, Array]:
    """Directions in the space of the vote as directions of the network's own features.

    Args:
        alignment, moved: see `Cases`. queries: (M, J, C). references: (M, k, J, C).
    """
    if alignment is None or moved is None:
        return queries, references
    turned = references @ alignment
    return queries @ alignment, np.where(moved[..., None, None], turned, references)


def _records(cases: Cases, scale: MinMaxScale, distance: str, found: _Pairs) -> Maps:
    features = _features(cases, scale)
    similarity = np.einsum("mc,mkc->mk", *features)
    sums = found.likes[0].sum(axis=(-2, -1))
    measure, power = pairs.measure_of(distance)
    total = cases.distances**power
    parts = sum(side.sum(axis=(-2, -1)) for side in found.differs)
    if distance == "cosine":  # every target is in units of the cosine, whose norms are 1
        lengths = [np.linalg.norm(g, axis=-1, keepdims=True) for g in features]
        features = features[0] / lengths[0], features[1] / lengths[1]
        similarity = np.einsum("mc,mkc->mk", *features)
    exact = found.tensors is not None
    errors = pairs.completeness(sums, similarity, features)
    gaps = pairs.completeness(np.asarray(parts), total, features)
    likes, differs = [], []
    for m, (query, names) in enumerate(zip(cases.queries, cases.references, strict=True)):
        likes.append(
            tuple(
                PairMap(
                    query,
                    name,
                    None if found.tensors is None else found.tensors[m, i],
                    float(similarity[m, i]),
                    float(errors[m, i]),
                    exact,
                    (found.likes[0][m, i], found.likes[1][m, i]),
                )
                for i, name in enumerate(names)
            )
        )
        differs.append(
            tuple(
                DifferenceMap(
                    query,
                    name,
                    found.differs[0][m, i],
                    found.differs[1][m, i],
                    float(total[m, i]),
                    float(gaps[m, i]),
                    measure,
                    exact,
                )
                for i, name in enumerate(names)
            )
        )
    return likes, differs
