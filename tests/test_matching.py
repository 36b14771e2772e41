"""Spot to spot: local features, mutual nearest, on the cell alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellkin.core.answers import LocalMatches
from cellkin.evidence.matching import APART, NO_OUTLINE, SHOWN, Matching, Spots, mutual, spread_out
from cellkin.learning.local import local_maps
from cellkin.report.spots import spot_rows, spotted
from cellkin.system import DecisionSupport


def spots(seed: int, mask: np.ndarray) -> Spots:
    rng = np.random.default_rng(seed)
    return Spots.of([rng.normal(size=(6, 8, 8)), rng.normal(size=(3, 8, 8))], mask)


def test_a_cell_matches_itself_spot_by_spot_and_turned_as_well() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((32, 32), bool)
    mask[4:28, 4:28] = True
    maps = rng.normal(size=(6, 8, 8))
    one = Spots.of([maps], mask)
    assert len(one.features) == 36  # 24 / 32 of 8 positions, squared
    here, there, values = mutual(one, one)
    assert (here == there).all()
    assert values == pytest.approx(np.ones(36))
    turned = Spots.of([np.rot90(maps, axes=(1, 2))], np.rot90(mask))
    here, there, values = mutual(one, turned)
    assert len(here) == 36
    row, column = one.places[here].T
    assert turned.places[there] == pytest.approx(np.stack([1 - column, row], axis=1))


def test_matches_are_mutual_and_on_the_cell_by_a_naive_loop() -> None:
    mask = np.zeros((32, 32), bool)
    mask[:, :18] = True
    one, other = spots(1, mask), spots(2, mask)
    assert one.places[:, 1].max() < 18 / 32
    expected = set()
    for i, f in enumerate(one.features):
        j = int(np.argmax(other.features @ f))
        if int(np.argmax(one.features @ other.features[j])) == i:
            expected.add((i, j))
    here, there, _ = mutual(one, other)
    assert set(zip(here.tolist(), there.tolist(), strict=True)) == expected
    empty = Spots.of([np.ones((2, 8, 8))], np.zeros((32, 32), bool))
    assert [len(found) for found in mutual(one, empty)] == [0, 0, 0]


def test_a_stronger_stain_is_no_other_part() -> None:
    mask = np.ones((32, 32), bool)
    maps = np.random.default_rng(3).normal(size=(6, 8, 8))
    stronger = Spots.of([2.5 * maps + 7], mask)
    assert stronger.features == pytest.approx(Spots.of([maps], mask).features, abs=0.01)


def test_those_that_are_shown_lie_apart() -> None:
    places = np.random.default_rng(4).uniform(size=(200, 2))
    taken = spread_out(places)
    assert (taken[0], len(taken)) == (0, SHOWN)
    away = [np.hypot(*(places[i] - places[j])) for i in taken for j in taken if i != j]
    assert min(away) >= APART


def test_evidence_has_them_beside_the_exact_tensor(support: DecisionSupport) -> None:
    image = np.asarray(support.atlas.image(2))
    evidence = support.explain(image, gate=False)
    assert evidence.counter is not None
    ids = [n.id for n in (*evidence.decision.neighbors, *evidence.counter.neighbors)]
    assert [one.reference for one in evidence.spots] == ids
    for one in evidence.spots:
        assert one.absent in ("", NO_OUTLINE)
        assert len(one.points) <= min(one.all, SHOWN)
        assert ((one.points >= 0) & (one.points <= 1)).all()
    two = np.stack([image, np.asarray(support.atlas.image(5))])
    alone = local_maps(support.atlas.encoder, two[1:])
    together = local_maps(support.atlas.encoder, two)
    assert all(np.array_equal(a[0], b[1]) for a, b in zip(alone, together, strict=True))
    lost = Matching(support.atlas.encoder, (image, [image]), (None, None), ["x"])
    assert lost[0] == LocalMatches("x", points=lost[0].points, likeness=lost[0].likeness,
                                   absent=NO_OUTLINE)  # fmt: skip
    rows = spot_rows(replace(evidence, spots=lost))
    assert [row["absent"] for row in rows] == [NO_OUTLINE]


def test_spots_are_drawn_where_they_lie() -> None:
    drawn = spotted(np.full((40, 40, 3), 120, np.uint8), np.array([[0.25, 0.75]]), side=200)
    changed = np.argwhere((drawn != 120).any(axis=2)).mean(axis=0)
    assert changed == pytest.approx([50, 150], abs=1)
