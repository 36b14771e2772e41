"""Contrast maps: exact for the margin, finer from more looks, and how much of them is inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evidence import Averaging, small_atlas

from cellkin.core.contrast import Contrast, ContrastMap, coverage, share_inside
from cellkin.core.errors import DecisionError
from cellkin.core.records import Dataset
from cellkin.decision import MinMaxScale, pair_distances
from cellkin.evidence.contrasting import Comparing, Opponents, Pictures, Shifts, contrasts, read
from cellkin.evidence.explaining import Cases
from cellkin.system import DecisionSupport

DISTANCES = ["euclidean", "cosine", "manhattan"]
POWER = {"euclidean": 2, "cosine": 1, "manhattan": 1}


def mean_of(maps: np.ndarray) -> np.ndarray:
    return np.float32(maps.mean((-2, -1)))


@given(st.integers(0, 10_000), st.sampled_from(DISTANCES), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_the_contrast_adds_up_to_the_margin(seed: int, distance: str, k: int, others: int) -> None:
    """Of the query by the distances that voted; of each pair and each other cell alike."""
    rng = np.random.default_rng(seed)
    A_Q, A_P = rng.gamma(1.0, size=(1, 8, 3, 3)), rng.gamma(1.0, size=(1, k + 2, 8, 3, 3))
    scale = MinMaxScale(rng.gamma(1.0, size=8), rng.normal(size=8))
    raw = rng.gamma(1.0, size=(others, 8)).astype(np.float32)
    g, kin, against = (scale.apply(v) for v in (mean_of(A_Q), mean_of(A_P)[0], raw))
    far = [pair_distances(g[0], side, distance) for side in (kin, against)]
    names = [f"p{i}" for i in range(k + 2)]
    cases = Cases(["q"], [names], mean_of(A_Q), mean_of(A_P), far[0][None], A_Q, A_P)
    opponents = Opponents(tuple(f"o{i}" for i in range(others)), raw, far[1])
    how = Comparing(Averaging(), scale, distance)  # type: ignore[arg-type]
    (found,) = contrasts(how, cases, [opponents], k)
    assert found is not None
    power = POWER[distance]
    margin = (far[1] ** power).mean() - (far[0][:k] ** power).mean()
    assert found.on_query.margin == pytest.approx(margin)
    assert found.on_query.values.sum() == pytest.approx(margin, rel=1e-4, abs=1e-4)
    for i, pair in enumerate(found.pairs):
        alone = far[1][0] ** power - far[0][i] ** power
        assert pair.values.sum() == pytest.approx(alone, rel=1e-4, abs=1e-4)
    for own, other in zip(kin, found.on_others, strict=True):
        to = [(pair_distances(own, side, distance) ** power).mean() for side in (against, kin[:k])]
        assert other.values.sum() == pytest.approx(to[0] - to[1], rel=1e-4, abs=1e-4)
    for made in (found.on_query, *found.pairs, *found.on_others):
        assert made.completeness < 1e-5
        assert made.refused == ""
    assert (found.kin, found.opponents) == (tuple(names[:k]), opponents.ids)


def test_it_is_the_formula_of_the_margin() -> None:
    """(2 <B[:, i, j], g_K - g_O> + c) / n by a naive loop; what both sides share cancels."""
    rng = np.random.default_rng(3)
    B, kin, against = rng.normal(size=(6, 2, 2)), rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    flat = MinMaxScale(np.ones(6), np.zeros(6))
    how = Comparing(Averaging(), flat, "euclidean")  # type: ignore[arg-type]
    cell = Pictures(B.mean((1, 2))[None], B[None], None)
    found = read(how, cell, [(kin, against), (kin, kin)])
    c = (against**2).sum(1).mean() - (kin**2).sum(1).mean()
    for i, j in np.ndindex(2, 2):
        expected = (2 * B[:, i, j] @ (kin.mean(0) - against.mean(0)) + c) / 4
        assert found.values[0, 0, i, j] == pytest.approx(expected)
    assert not found.values[0, 1].any()


def test_one_that_does_not_add_up_is_refused() -> None:
    made = ContrastMap("q", np.ones((2, 2)), 4.0, 2e-4)
    assert made.refused.startswith("refused")
    assert made.to_json()["values"] is None
    assert replace(made, exact=False).refused == ""  # a measured gap


@pytest.mark.parametrize("distance", DISTANCES)
def test_every_atlas_explains_with_a_contrast(distance: str, rng: np.random.Generator) -> None:
    dss = DecisionSupport(small_atlas("resnet18", 3, distance, rng))
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    evidence = dss.explain(image)
    why = evidence.contrast
    assert why is not None
    g = dss.atlas.scale.apply(dss.look(image).features.vectors)[0]
    place = dss.atlas.cells.positions
    to = [
        pair_distances(g, dss.atlas.scaled[[place[i] for i in side]], distance) ** POWER[distance]
        for side in (why.opponents, why.kin)
    ]
    assert why.on_query.values.sum() == pytest.approx(to[0].mean() - to[1].mean(), abs=1e-3)
    assert why.kin == tuple(n.id for n in evidence.decision.neighbors)
    labels = dss.atlas.labels
    label_of = dict(zip(dss.atlas.cells.ids, dss.atlas.cells.labels, strict=True))
    own = labels.is_positive(evidence.decision.label)
    assert {labels.is_positive(label_of[i]) for i in why.opponents} == {not own}
    for made in (why.on_query, *why.on_others, *why.pairs):
        assert made.exact
        assert made.refused == ""
    assert len(why.on_others) == len(evidence.pairs) + len(evidence.counter.pairs)  # type: ignore[union-attr]


def test_of_a_transformer_it_is_approximate(rng: np.random.Generator) -> None:
    size = {"size": 224, "cells": 8}
    dss = DecisionSupport(small_atlas("vit_tiny_patch16_224", 2, "euclidean", rng, **size))
    why = dss.explain(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)).contrast
    assert why is not None
    assert not why.on_query.exact
    assert why.on_query.values.shape == (14, 14)
    assert np.abs(why.on_query.values).max() > 0


def test_finer_is_the_mean_of_looks_that_each_add_up(
    support: DecisionSupport, smears: Dataset
) -> None:
    evidence = support.explain(smears.samples[4].image.path)
    before = evidence.contrast
    assert before is not None
    same = support.finer(evidence, 1).contrast
    assert same is not None
    assert same.on_query.values == pytest.approx(before.on_query.values, abs=1e-4)
    finer = support.finer(evidence, 3).contrast
    assert finer is not None
    assert finer.looks == 9
    h, w = before.on_query.values.shape
    assert finer.on_query.values.shape == (3 * h, 3 * w)
    assert finer.on_query.completeness < 1e-4
    assert finer.margins is not None
    low, high = finer.margins
    assert low <= finer.on_query.margin <= high
    assert finer.on_others == before.on_others
    with pytest.raises(DecisionError, match="divided by 9"):
        support.finer(evidence, 9)


def test_shifted_maps_are_laid_back_where_they_were() -> None:
    """A network of one pixel's view: its map is the picture, so the finer one is as well."""
    image = np.arange(36, dtype=np.uint8).reshape(6, 6, 1).repeat(3, axis=2)
    shifts = Shifts.of(image, (2, 2), 3)
    assert shifts.images.shape == (9, 6, 6, 3)
    wide = shifts.images[..., 0].astype(float)
    maps = wide.reshape(9, 2, 3, 2, 3).mean((2, 4))  # positions of 3 x 3 pixels
    finer = shifts.together(maps)
    rows, columns = np.indices((6, 6))
    middle = finer[2:4, 2:4] * 9
    assert middle == pytest.approx((6.0 * rows + columns)[2:4, 2:4])  # linear: the mean is itself


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_how_much_of_a_map_is_inside(h: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    S = h + size
    mask = rng.random((S, S)) < 0.5
    covered = coverage(mask[None], (h, h))[0]
    assert covered.mean() == pytest.approx(mask.mean())
    assert share_inside(np.ones((h, h)), mask) == pytest.approx(mask.mean())
    assert share_inside(np.ones((h, h)), None) is None
    assert share_inside(-np.ones((h, h)), mask) is None
    assert share_inside(np.ones((h, h)), np.ones_like(mask)) == pytest.approx(1)


def test_an_evidence_tells_how_much_is_inside(support: DecisionSupport, smears: Dataset) -> None:
    evidence = support.explain(smears.samples[4].image.path)
    assert isinstance(evidence.contrast, Contrast)
    told = evidence.to_json()["contrast"]
    mask = evidence.outline(0)
    assert mask is not None
    assert told["inside"] == share_inside(evidence.contrast.on_query.values, mask)
    assert len(evidence.outlines) == 1 + 3 + 2
