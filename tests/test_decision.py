"""Neighbours, vote and confidence, against full scans, naive loops and simulations."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from collections import Counter

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import kstest
from sklearn.preprocessing import MinMaxScaler

from cellkin.core.errors import ArtifactError, DecisionError, LabelError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, LabelSet
from cellkin.decision import (
    DISTANCES,
    Calibration,
    Index,
    MinMaxScale,
    nearest,
    pair_distances,
    vote,
)
from cellkin.decision.neighbors import SPARE, _measure, _prepare
from cellkin.decision.shortlist import Shortlist

ALL_IDB2 = LabelSet(
    ("nothing", "normal", "lymphoblast (1)", "lymphoblast (2)"),
    {
        "nothing": "no cell",
        "normal": "other cell",
        "lymphoblast (1)": "lymphoblast",
        "lymphoblast (2)": "lymphoblast",
    },
)
PBC = LabelSet(tuple("abcd"), dict.fromkeys("abcd", OTHER_CELL))
L1, L2 = "lymphoblast (1)", "lymphoblast (2)"


def names(n: int) -> list[str]:
    return [f"cell {i:05d}" for i in range(n)]


def naive_distances(queries: np.ndarray, references: np.ndarray, distance: str) -> np.ndarray:
    return np.array([[naive_distance(q, r, distance) for r in references] for q in queries])


def naive_distance(one: np.ndarray, other: np.ndarray, distance: str) -> float:
    pairs = [(float(a), float(b)) for a, b in zip(one, other, strict=True)]
    if distance == "manhattan":
        return math.fsum(abs(a - b) for a, b in pairs)
    if distance == "euclidean":
        return math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs))
    dot = math.fsum(a * b for a, b in pairs)
    norms = math.sqrt(math.fsum(a * a for a, _ in pairs) * math.fsum(b * b for _, b in pairs))
    return 1.0 - dot / norms


def full_scan(lengths, ids, k, exclude=None):
    """Sort every distance, (queries, references), by (distance, id): slow and obvious."""
    found = []
    for i, row in enumerate(lengths):
        seen = [j for j in range(len(ids)) if exclude is None or j not in exclude[i]]
        found.append(sorted((row[j], ids[j], j) for j in seen)[:k])
    positions = np.array([[j for _, _, j in row] for row in found], np.int64).reshape(-1, k)
    return positions, np.array([[d for d, _, _ in row] for row in found]).reshape(-1, k)


# --- min-max ---------------------------------------------------------------------------------


def test_fault_02_minmax_scaling_of_the_reference_features():
    rng = np.random.default_rng(2)
    references = rng.normal(3, [0.01, 1, 100, 5], (50, 4)).astype(np.float32)
    references[:, 3] = 7.0
    queries = rng.normal(3, [0.02, 2, 200, 5], (20, 4)).astype(np.float32)
    scale = MinMaxScale.fit(references)
    oracle = MinMaxScaler().fit(references[:, :3].astype(np.float64))
    expected = oracle.transform(queries[:, :3].astype(np.float64))
    applied = scale.apply(queries)
    np.testing.assert_allclose(applied[:, :3], expected, rtol=0, atol=1e-12)
    assert applied.dtype == np.float64
    assert (applied[:, 3] == 0).all(), "a constant dimension says nothing"
    assert scale.scale[3] == scale.offset[3] == 0
    assert applied.min() < 0, "queries are not clipped"
    assert applied.max() > 1, "queries are not clipped"
    np.testing.assert_array_equal(applied, scale.scale * queries - scale.offset)
    inside = scale.apply(references)
    np.testing.assert_array_equal(inside.min(axis=0), 0)
    np.testing.assert_allclose(inside[:, :3].max(axis=0), 1, atol=1e-12)


def test_minmax_changes_who_is_nearest():
    """Without the scale the dimension with large numbers decides alone (so fault 2 is visible)."""
    references = np.array([[0.0, 0.0], [1.0, 100.0], [0.0, 60.0]])
    query = np.array([[1.0, 55.0]])
    scale = MinMaxScale.fit(references)
    raw, _ = nearest(query, references, ids=names(3), k=1)
    scaled, _ = nearest(scale.apply(query), scale.apply(references), ids=names(3), k=1)
    assert raw[0, 0] == 2
    assert scaled[0, 0] == 1


def test_minmax_is_frozen_and_keeps_its_own_numbers():
    values = np.array([1.0, 2.0])
    scale = MinMaxScale(values, values)
    values[:] = 9
    assert scale.scale.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        scale.scale[0] = 3
    with pytest.raises(AttributeError):
        scale.scale = values
    assert pickle.loads(pickle.dumps(scale)).offset.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (np.empty((0, 3)), "no reference vector"),
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1.0], [np.inf]]), "NaN"),
        (np.arange(3.0), "shape"),
    ],
)
def test_minmax_refuses(bad, match):
    with pytest.raises(DecisionError, match=match):
        MinMaxScale.fit(bad)


def test_minmax_refuses_vectors_of_another_length():
    scale = MinMaxScale.fit(np.eye(3))
    with pytest.raises(DecisionError, match="number of dimensions"):
        scale.apply(np.eye(4))
    with pytest.raises(DecisionError, match="number of dimensions"):
        MinMaxScale(np.ones(2), np.ones(3))


# --- distances -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "scipy_name"),
    [("euclidean", "euclidean"), ("cosine", "cosine"), ("manhattan", "cityblock")],
)
def test_pair_distances_equal_scipy(distance, scipy_name):
    rng = np.random.default_rng(0)
    query, references = rng.normal(size=37), rng.normal(size=(50, 37))
    expected = cdist(query[None], references, scipy_name)[0]
    np.testing.assert_allclose(pair_distances(query, references, distance), expected, rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_distance_has_the_same_digits_alone_and_among_others(distance):
    rng = np.random.default_rng(1)
    query, references = rng.random(513), rng.random((300, 513))
    together = pair_distances(query, references, distance)
    alone = [pair_distances(query, references[i : i + 1], distance)[0] for i in range(300)]
    fortran = pair_distances(query, np.asfortranarray(references), distance)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, fortran)
    assert pair_distances(query, query[None], distance)[0] == 0


def test_cosine_knows_directions_only_and_refuses_a_zero_vector():
    query = np.array([1.0, 2.0])
    opposite = pair_distances(query, np.array([[2.0, 4.0], [-3.0, -6.0], [2.0, -1.0]]), "cosine")
    np.testing.assert_allclose(opposite, [0, 2, 1], atol=1e-15)
    tiny = pair_distances(query * 1e-140, query[None] * 1e140, "cosine")
    np.testing.assert_allclose(tiny, 0, atol=1e-15)
    zero = np.zeros((1, 2))
    with pytest.raises(DecisionError, match="zero vector is not defined") as caught:
        pair_distances(query, np.vstack([query, zero]), "cosine")
    assert "row 1" in caught.value.where
    with pytest.raises(DecisionError, match="zero vector"):
        nearest(zero, query[None], ids=["a"], k=1, distance="cosine")
    with pytest.raises(DecisionError, match="zero vector"):
        Index(zero, ["a"], "cosine")
    assert pair_distances(query, zero, "euclidean")[0] == pytest.approx(5**0.5)


# --- nearest against full scans --------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n_queries", [1, 40])
def test_nearest_equals_a_naive_full_scan(distance, n_queries):
    rng = np.random.default_rng(3)
    references, queries = rng.random((150, 9)), rng.random((n_queries, 9))
    ids = [f"r{i}" for i in rng.permutation(150)]
    expected, lengths = full_scan(naive_distances(queries, references, distance), ids, 5)
    found, distances = nearest(queries, references, ids=ids, k=5, distance=distance)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(distances, lengths, rtol=1e-9)
    assert (found.dtype, distances.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12), hide=st.booleans())
def test_nearest_is_exact_among_ties_and_duplicates(distance, seed, k, hide):
    """Vectors on a coarse grid: nearly every distance occurs many times, so ids decide."""
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 3, (rng.integers(60, 120), 3)).astype(float) + 1
    queries = rng.integers(0, 3, (25, 3)).astype(float) + 1
    ids = [f"{i}" for i in rng.permutation(len(references))]
    exclude = [set(rng.choice(len(references), 40, False).tolist()) for _ in queries]
    exclude = exclude if hide else None
    rows = [pair_distances(query, references, distance) for query in queries]
    expected, lengths = full_scan(rows, ids, k, exclude)
    found, distances = nearest(
        queries, references, ids=ids, k=k, distance=distance, exclude=exclude
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(distances, lengths)


@pytest.mark.parametrize("distance", DISTANCES)
def test_many_exact_duplicates_are_ordered_by_id(distance):
    """More copies than candidates: the first pass cannot know which ids come first."""
    rng = np.random.default_rng(4)
    one = rng.random(16) + 0.1
    references = np.vstack([rng.random((200, 16)) + 0.1, np.tile(one, (300, 1))])
    ids = [f"{i:04d}" for i in rng.permutation(500)]
    found, distances = nearest(np.tile(one, (30, 1)), references, ids=ids, k=5, distance=distance)
    expected = sorted(range(200, 500), key=ids.__getitem__)[:5]
    assert (found == expected).all()
    assert (distances == 0).all()


def two_far_clusters() -> tuple[np.ndarray, np.ndarray]:
    """Cells a millionth apart, in clusters a thousand apart: float32 squares cannot tell them."""
    rng = np.random.default_rng(5)
    references = rng.normal(0, 1e-6, (400, 8)) + np.repeat([[0.0], [1000.0]], 200, axis=0)
    return references, references[::10] + rng.normal(0, 1e-7, (40, 8))


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_nearest_is_exact_where_float32_is_not(distance):
    references, queries = two_far_clusters()
    expected, lengths = full_scan(naive_distances(queries, references, distance), names(400), 5)
    found, distances = nearest(queries, references, ids=names(400), k=5, distance=distance)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(distances, lengths, rtol=1e-9)


def test_float32_alone_would_lose_neighbours_there():
    """Even with the spare candidates: so the test above can fail."""
    references, queries = two_far_clusters()
    expected, _ = full_scan(naive_distances(queries, references, "euclidean"), names(400), 5)
    index = faiss.IndexFlatL2(8)
    index.add(references.astype(np.float32))
    _, candidates = index.search(queries.astype(np.float32), 5 + SPARE[0])
    lost = [not set(e) <= set(c) for e, c in zip(expected.tolist(), candidates, strict=True)]
    assert sum(lost) > 10


def kept_promises(queries: np.ndarray, references: np.ndarray, distance: str) -> int:
    """How many bounds say something; fails if one exceeds a distance that it should bound."""
    found, floors = Shortlist(references, distance).search(queries, 21)
    promised = 0
    for query, candidates, floor in zip(queries, found, floors, strict=True):
        lengths = _measure(query, references, distance)
        for j in (4, 12, 20):
            others = np.delete(lengths, candidates[: j + 1])
            assert floor[j] <= others.min()
            promised += floor[j] > 0.5 * others.min()
    return promised


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_the_shortlist_promises_nothing_where_float32_underflows(distance):
    rng = np.random.default_rng(16)
    for size in (1e-19, 1e-21, 3e-22, 1e-22, 1e-44):
        for n_queries in (5, 40):
            references, queries = rng.random((200, 3)) * size, rng.random((n_queries, 3)) * size
            kept_promises(queries, references, distance)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n_queries", [5, 40])  # faiss sums differently from 20 queries on
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e6])
def test_what_the_shortlist_promises_of_all_others_is_true(distance, n_queries, offset):
    """No reference off the shortlist is nearer than the bound, whatever float32 thought of it."""
    rng = np.random.default_rng(14)
    promised = 0
    for spread in 10.0 ** np.arange(-9, 1):
        references = rng.normal(0, spread, (200, 12)) + rng.choice([-1, 1, 2], 200)[:, None]
        queries = references[:n_queries] + rng.normal(0, spread, (n_queries, 12)) + offset
        references, queries = (
            _prepare(values, distance, "") for values in (references + offset, queries)
        )
        promised += kept_promises(queries, references, distance)
    if distance != "cosine" or offset < 10:  # far from zero all directions are alike to float32
        assert promised > 0, "a bound that is always zero would prove nothing"


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("copies", [1, 50])
def test_a_full_scan_is_the_exception(distance, copies, monkeypatch):
    """16 spare candidates prove ordinary answers, also with a hidden subject; 256 prove copies."""
    monkeypatch.setattr(Index, "_scanned", lambda *_: pytest.fail("scanned"))
    if copies == 1:
        monkeypatch.setattr("cellkin.decision.neighbors.SPARE", SPARE[:1])
    rng = np.random.default_rng(15)
    references = np.tile(rng.random((800 // copies, 32)), (copies, 1))
    queries = references[:16] + rng.normal(0, 0.01, (16, 32))
    order = [np.argsort(pair_distances(query, references, distance)) for query in queries]
    hidden = [set(row[:100].tolist()) for row in order]  # the subject's own cells are the nearest
    found, _ = nearest(queries, references, ids=names(800), k=5, distance=distance, exclude=hidden)
    assert all(hidden[i].isdisjoint(row) for i, row in enumerate(found.tolist()))


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_a_query_just_past_float32(distance):
    """References in reach of float32 squares, the query not: it must not be taken for another."""
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    references = 0.6e18 * np.column_stack([np.cos(angle), np.sin(angle)])
    queries = np.array([[1.1e18, 1e16], [0.0, 1e18]])
    expected, _ = full_scan(naive_distances(queries, references, distance), names(300), 3)
    found, _ = nearest(queries, references, ids=names(300), k=3, distance=distance)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e-18, 1e12, 1e30, 1e140])
def test_nearest_is_exact_at_any_size_of_number(distance, size):
    rng = np.random.default_rng(6)
    references, queries = rng.normal(size=(120, 6)) * size, rng.normal(size=(25, 6)) * size
    expected, _ = nearest(queries / size, references / size, ids=names(120), k=4, distance=distance)
    found, distances = nearest(queries, references, ids=names(120), k=4, distance=distance)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(distances).all()


def test_one_distant_query_among_others():
    """A query past float32 beside ordinary ones: each is answered as if alone."""
    rng = np.random.default_rng(7)
    references, queries = rng.random((100, 4)), rng.random((30, 4))
    queries[3] = 1e30
    together = nearest(queries, references, ids=names(100), k=3)
    alone = [nearest(queries[i : i + 1], references, ids=names(100), k=3) for i in range(30)]
    np.testing.assert_array_equal(together[0], np.vstack([a[0] for a in alone]))
    np.testing.assert_array_equal(together[1], np.vstack([a[1] for a in alone]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_fault_04_results_do_not_depend_on_the_batch(distance):
    rng = np.random.default_rng(8)
    references = (rng.random((500, 64)) * rng.random(64)).astype(np.float32)
    queries = references[rng.integers(0, 500, 200)] + rng.normal(0, 1e-3, (200, 64))
    index = Index(references, names(500), distance)
    whole = index.nearest(queries, 5)
    for size in (1, 7, 19, 20, 80, 81):  # 20: faiss changes its way; 80: where others fail
        parts = [index.nearest(queries[i : i + size], 5) for i in range(0, 200, size)]
        np.testing.assert_array_equal(np.vstack([p[0] for p in parts]), whole[0])
        np.testing.assert_array_equal(np.vstack([p[1] for p in parts]), whole[1])
    order = rng.permutation(200)
    np.testing.assert_array_equal(index.nearest(queries[order], 5)[1], whole[1][order])


def test_the_order_of_the_references_does_not_matter():
    rng = np.random.default_rng(9)
    references = rng.integers(0, 2, (200, 5)).astype(float)
    queries, ids = rng.integers(0, 2, (30, 5)).astype(float), names(200)
    order = rng.permutation(200)
    first, _ = nearest(queries, references, ids=ids, k=7)
    second, _ = nearest(queries, references[order], ids=[ids[i] for i in order], k=7)
    np.testing.assert_array_equal(first, order[second])


@pytest.mark.parametrize("distance", DISTANCES)
def test_exclude_hides_references_from_one_query_only(distance):
    rng = np.random.default_rng(10)
    references = rng.random((300, 8)) + 0.1
    subjects = rng.integers(0, 6, 300)
    own = [frozenset(np.flatnonzero(subjects == s).tolist()) for s in subjects]
    own[0] = frozenset()
    found, distances = nearest(
        references, references, ids=names(300), k=5, distance=distance, exclude=own
    )
    assert (subjects[found[1:]] != subjects[1:, None]).all()
    assert (found[0, 0], distances[0, 0]) == (0, 0)
    for i in range(0, 300, 37):
        seen = np.array([j for j in range(300) if j not in own[i]])
        expected, _ = nearest(
            references[i : i + 1], references[seen], ids=names(len(seen)), k=5, distance=distance
        )
        np.testing.assert_array_equal(found[i], seen[expected[0]])


def test_an_index_keeps_its_own_references():
    references = np.random.default_rng(11).random((50, 3))
    index = Index(references, names(50))
    before = index.nearest(references[:5].copy(), 3)
    query = references[:5].copy()
    references[:] = 0
    np.testing.assert_array_equal(index.nearest(query, 3)[1], before[1])
    assert len(index) == 50
    assert index.distance == "euclidean"


@pytest.mark.parametrize("fails", [False, True])
def test_the_setting_of_faiss_is_put_back(monkeypatch, fails):
    seen = []

    def search(self, queries, count):
        seen.append(faiss.cvar.distance_compute_blas_threshold)
        if fails:
            raise MemoryError
        return original(self, queries, count)

    original = faiss.IndexFlat.search
    monkeypatch.setattr(faiss.IndexFlat, "search", search)
    before = faiss.cvar.distance_compute_blas_threshold
    index = Index(np.eye(50), names(50))
    if fails:
        with pytest.raises(MemoryError):
            index.nearest(np.eye(50), 1)
    else:
        index.nearest(np.eye(50), 1)
    assert seen == [20]
    assert faiss.cvar.distance_compute_blas_threshold == before != 20


def test_no_query_is_an_empty_answer():
    found, distances = nearest(np.empty((0, 3)), np.eye(3), ids=names(3), k=2)
    assert found.shape == distances.shape == (0, 2)


GOOD = {"queries": np.eye(3), "references": np.eye(3), "ids": ["a", "b", "c"], "k": 1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"k": 0}, "0 neighbours cannot be found among 3"),
        ({"k": -1}, "-1 neighbours"),
        ({"k": 4}, "4 neighbours cannot be found among 3"),
        ({"k": 2, "exclude": [{0, 1}, set(), set()]}, "2 neighbours cannot be found among 1"),
        ({"exclude": [{0, 1, 2}] * 3}, "among 0"),
        ({"exclude": [set()]}, "1 sets of references"),
        ({"exclude": [{3}, set(), set()]}, "does not exist"),
        ({"exclude": [{-1}, set(), set()]}, "does not exist"),
        ({"queries": np.full((1, 3), np.nan)}, "the queries hold NaN"),
        ({"references": np.diag([1, 1, np.inf])}, "the references hold NaN"),
        ({"queries": np.full((1, 3), 1e200)}, "too large"),
        ({"queries": np.eye(2)}, "same number of dimensions"),
        ({"queries": np.ones(3)}, "must be an array of shape"),
        ({"ids": ["a", "b"]}, "ids do not fit"),
        ({"ids": ["a", "b", "a"]}, "share an id"),
        ({"distance": "euclidian"}, "unknown distance"),
        ({"references": np.empty((0, 3)), "ids": []}, "among 0"),
    ],
)
def test_nearest_refuses(change, match):
    nearest(**GOOD)
    with pytest.raises(DecisionError, match=match) as caught:
        nearest(**{**GOOD, **change})
    assert caught.value.where
    assert caught.value.mend


def test_a_misspelt_distance_is_mended():
    with pytest.raises(DecisionError) as caught:
        pair_distances(np.ones(2), np.ones((1, 2)), "euclidian")
    assert "did you mean 'euclidean'?" in caught.value.mend


# --- vote ------------------------------------------------------------------------------------


def test_fault_03_vote_is_a_verified_majority():
    """[0,0,1,2,3] is class 0, and two kinds of lymphoblast outvote one normal cell."""
    assert vote(list("aabcd"), [1, 2, 3, 4, 5], PBC).label == "a"
    for order in itertools.permutations(range(5)):
        assert vote(["aabcd"[i] for i in order], [1.0] * 5, PBC).label == "a"
    for labels in itertools.permutations([L1, L2, "normal"]):
        result = vote(labels, [1.0, 2.0, 3.0], ALL_IDB2)
        assert result.clinical == LYMPHOBLAST
        assert result.clinical_votes == {"lymphoblast": 2, "other cell": 1}
        assert result.agreement == pytest.approx(2 / 3)
        assert result.tie == "label"  # one each; the nearer kind is named
        assert result.label == next(label for label in labels if label != "normal")


def test_a_plurality_of_one_class_does_not_beat_the_lymphoblasts_together():
    result = vote(["normal", "normal", L1, L2, L2], [0.1, 0.1, 9, 9, 9], ALL_IDB2)
    assert (result.label, result.clinical, result.tie) == (L2, LYMPHOBLAST, None)
    assert result.votes == {"normal": 2, L1: 1, L2: 2}
    assert list(result.votes) == ["normal", L1, L2]
    assert result.agreement == pytest.approx(0.6)


def test_the_other_side_wins_with_its_own_plurality():
    result = vote(["nothing", "normal", "normal", L1, L1], [1, 2, 3, 1, 1], ALL_IDB2)
    assert (result.label, result.clinical, result.tie) == ("normal", "other cell", None)
    assert result.clinical_votes == {"lymphoblast": 2, "other cell": 2, "no cell": 1}
    assert result.agreement == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("labels", "distances", "label", "tie"),
    [
        (["normal", L1], [1, 2], "normal", "clinical"),
        (["normal", L1], [2, 1], L1, "clinical"),
        (["normal", L1], [1, 1], L1, "clinical"),  # the careful side
        (["nothing", "normal", L1, L2], [1, 1, 1, 1], L1, "clinical"),  # both tied: the graver
        (["nothing", "normal", L1, L2], [1, 0.5, 1, 1], "normal", "clinical"),
        ([L1, L2], [2, 1], L2, "label"),
        ([L2, L1], [1, 1], L1, "label"),  # class order
        ([L1, L1, "normal"], [5, 5, 0], L1, None),
    ],
)
def test_ties_go_to_the_smaller_mean_distance_and_are_named(labels, distances, label, tie):
    result = vote(labels, distances, ALL_IDB2)
    assert (result.label, result.tie) == (label, tie)


def test_an_atlas_without_lymphoblasts_gives_no_clinical_verdict():
    result = vote(list("bbacc"), [5, 5, 1, 2, 2], PBC)
    assert (result.label, result.tie, result.clinical) == ("c", "label", None)
    assert result.clinical_votes is None
    assert result.agreement == pytest.approx(0.4)
    assert result.votes == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize("order", [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]])
def test_equal_means_are_equal_in_any_order_of_addition(order):
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floats; the vote must not hang on that."""
    for labels in ([L1] * 3 + ["normal"] * 3, ["normal"] * 3 + [L1] * 3):
        result = vote(labels, [0.1, 0.2, 0.3, *order], ALL_IDB2)
        assert (result.label, result.tie) == (L1, "clinical")


neighbours = st.lists(
    st.tuples(st.sampled_from(ALL_IDB2.names), st.sampled_from([0.1, 0.2, 0.3, 0.7, 1.1])),
    min_size=1,
    max_size=9,
)


@settings(max_examples=300, deadline=None)
@given(neighbours, st.randoms(use_true_random=False))
def test_the_order_of_the_neighbours_does_not_matter(cells, random):
    result = vote(*zip(*cells, strict=True), ALL_IDB2)
    random.shuffle(cells)
    assert vote(*zip(*cells, strict=True), ALL_IDB2) == result


@settings(max_examples=300, deadline=None)
@given(neighbours)
def test_what_every_vote_satisfies(cells):
    labels, distances = zip(*cells, strict=True)
    result = vote(labels, distances, ALL_IDB2)
    counts, k = Counter(labels), len(labels)
    side = {n for n in counts if ALL_IDB2.is_positive(n) == ALL_IDB2.is_positive(result.label)}
    standing = sum(counts[n] for n in side)
    assert result.agreement == pytest.approx(standing / k)
    assert 0.5 <= result.agreement <= 1
    assert counts[result.label] == max(counts[n] for n in side)
    assert result.clinical == ALL_IDB2.clinical[result.label]
    assert sum(result.votes.values()) == sum(result.clinical_votes.values()) == k
    assert all(result.votes.values())
    assert (result.tie == "clinical") == (2 * standing == k)
    if result.tie is None:
        assert sum(counts[n] == counts[result.label] for n in side) == 1
    if result.tie == "clinical":

        def mean(positive):
            own = [d for label, d in cells if ALL_IDB2.is_positive(label) is positive]
            return math.fsum(own) / len(own)

        assert ALL_IDB2.is_positive(result.label) == (mean(True) <= mean(False))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 9)), min_size=1, max_size=9))
def test_what_every_vote_without_a_positive_class_satisfies(cells):
    labels, distances = zip(*cells, strict=True)
    result, counts = vote(labels, distances, PBC), Counter(labels)
    assert counts[result.label] == max(counts.values())
    assert result.agreement == pytest.approx(counts[result.label] / len(labels))
    rivals = [n for n in counts if counts[n] == counts[result.label]]
    assert (result.tie == "label") == (len(rivals) > 1)
    means = {n: math.fsum(d for m, d in cells if m == n) / counts[n] for n in rivals}
    assert means[result.label] == min(means.values())
    assert result.label == min(n for n in rivals if means[n] == means[result.label])


@pytest.mark.parametrize("n_classes", [1, 2, 5, 11])
def test_fault_10_any_k_any_number_of_classes(n_classes):
    rng = np.random.default_rng(12)
    classes = tuple(f"c{i}" for i in range(n_classes))
    label_set = LabelSet(classes, dict.fromkeys(classes, OTHER_CELL))
    truth = np.arange(60) % n_classes
    references = np.eye(n_classes)[truth] * 3 + rng.normal(0, 0.1, (60, n_classes))
    queries = np.eye(n_classes) * 3
    per_class = 60 // n_classes
    for k in (1, 2, 3, 4, per_class, 59, 60):
        found, distances = nearest(queries, references, ids=names(60), k=k)
        for i in range(n_classes):
            result = vote([classes[truth[j]] for j in found[i]], distances[i], label_set)
            assert sum(result.votes.values()) == k
            if k <= per_class:
                assert (result.label, result.agreement) == (classes[i], 1)


def test_vote_refuses():
    with pytest.raises(DecisionError, match="no neighbour to vote"):
        vote([], [], PBC)
    with pytest.raises(DecisionError, match="one label and one distance"):
        vote(["a"], [1, 2], PBC)
    with pytest.raises(DecisionError, match="NaN or infinite"):
        vote(["a", "b"], [1, math.nan], PBC)
    with pytest.raises(LabelError, match="unknown class 'e'"):
        vote(["a", "e"], [1, 2], PBC)


# --- confidence ------------------------------------------------------------------------------


def test_percentile_counts_the_smaller_and_half_of_the_equal():
    cells = Calibration.from_cells(["a", "b", "a", "a", "a"], [3, 9, 1, 2, 2])
    assert cells.distances == {"a": (1, 2, 2, 3), "b": (9,)}
    assert cells.counts() == {"a": 4, "b": 1}
    assert cells.percentile("a", 0.5) == (0, 4)
    assert cells.percentile("a", 1) == (12.5, 4)
    assert cells.percentile("a", 2) == (50, 4)
    assert cells.percentile("a", 2.5) == (75, 4)
    assert cells.percentile("a", 10) == (100, 4)
    assert cells.percentile("b", 9) == (50, 1)
    assert cells.percentile("c", 9) == (None, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(0, 10))
def test_percentile_equals_a_naive_count(cells, distance):
    calibration = Calibration.from_cells(["a"] * len(cells), cells)
    smaller, equal = sum(c < distance for c in cells), sum(c == distance for c in cells)
    percentile, n = calibration.percentile("a", distance)
    assert percentile == pytest.approx(100 * (smaller + 0.5 * equal) / len(cells))
    assert n == len(cells)


def test_calibration_survives_json_and_pickle():
    values = np.random.default_rng(13).random(20)
    cells = Calibration.from_cells(["a", "b"] * 10, values)
    assert Calibration.from_json(json.loads(json.dumps(cells.to_json()))) == cells
    assert pickle.loads(pickle.dumps(cells)) == cells
    assert Calibration.from_cells([], []).percentile("a", 1.0) == (None, 0)


@pytest.mark.parametrize(
    "data", [{}, {"distances": 3}, {"distances": {"a": ["x"]}}, {"distances": {"a": [-1]}}]
)
def test_damaged_calibrations_are_refused(data):
    with pytest.raises(ArtifactError, match="calibration cannot be read"):
        Calibration.from_json(data)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1])
def test_calibration_refuses(bad):
    with pytest.raises(DecisionError, match="no mean distance"):
        Calibration.from_cells(["a"], [bad])
    with pytest.raises(DecisionError, match="no mean distance"):
        Calibration.from_cells(["a"], [1]).percentile("a", bad)
    with pytest.raises(DecisionError, match="one label and one mean distance"):
        Calibration.from_cells(["a", "b"], [1])


CELLS, DIMENSIONS, CLASSES = 600, 8, ("a", "b")


def cloud(rng: np.random.Generator, width: float) -> tuple[np.ndarray, list[str]]:
    """Cells of two classes around two centres."""
    truth = np.arange(CELLS) % 2
    return truth[:, None] * 4.0 + rng.normal(0, width, (CELLS, DIMENSIONS)), [
        CLASSES[i] for i in truth
    ]


def fresh_percentiles(seed: int, *, from_training: bool) -> np.ndarray:
    """Percentiles of cells never seen, where training cells lie three times as tight."""
    rng = np.random.default_rng(seed)
    (references, labels), (held_out, _), (fresh, _) = (cloud(rng, w) for w in (1 / 3, 1, 1))
    scale = MinMaxScale.fit(references)
    index = Index(scale.apply(references), names(CELLS))
    cells = references if from_training else held_out
    own = [{i} for i in range(CELLS)] if from_training else None
    _, distances = index.nearest(scale.apply(cells), 5, own)
    calibration = Calibration.from_cells(labels, distances.mean(axis=1).tolist())
    _, distances = index.nearest(scale.apply(fresh), 5)
    means = distances.mean(axis=1).tolist()
    return np.array([calibration.percentile(*cell)[0] for cell in zip(labels, means, strict=True)])


# Kolmogorov-Smirnov between two samples of 300 per class, at 1 in 1000, both classes together.
LIMIT = 1.95 * math.sqrt(2 / CELLS)


@pytest.mark.parametrize("seed", range(3))
def test_fresh_cells_get_uniform_percentiles_from_held_out_cells(seed):
    percentiles = fresh_percentiles(seed, from_training=False)
    assert kstest(percentiles / 100, "uniform").statistic < LIMIT
    assert np.mean(percentiles) == pytest.approx(50, abs=5)


def test_training_cells_would_make_every_fresh_cell_look_far():
    """What the test above must be able to notice: distances among the training cells."""
    percentiles = fresh_percentiles(0, from_training=True)
    assert kstest(percentiles / 100, "uniform").statistic > 5 * LIMIT
    assert np.mean(percentiles) > 95
