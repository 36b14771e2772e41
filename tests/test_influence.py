"""Shares of support and flips against brute force; the nearest of every class."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, LabelSet
from cellkin.decision import (
    ClassIndex,
    Index,
    MinMaxScale,
    flips,
    matching,
    shares_of_support,
    vote,
)

BLASTS = LabelSet(
    ("normal", "monocyte", "blast (1)", "blast (2)"),
    {
        "normal": OTHER_CELL,
        "monocyte": OTHER_CELL,
        "blast (1)": LYMPHOBLAST,
        "blast (2)": LYMPHOBLAST,
    },
)
FINE = LabelSet(("a", "b", "c"), dict.fromkeys("abc", OTHER_CELL))
ONE = LabelSet(("a",), {"a": OTHER_CELL})

lists = st.sampled_from([BLASTS, FINE]).flatmap(
    lambda labels: st.tuples(
        st.just(labels), st.lists(st.sampled_from(labels.names), min_size=1, max_size=7)
    )
)


def called(labels: list[str], k: int, label_set: LabelSet) -> tuple[str | None, bool]:
    """The deciding class of the real two-level vote among the k nearest, and whether it tied."""
    near = labels[:k]
    result = vote(near, [float(i) for i in range(len(near))], label_set)
    if label_set.positive is None:
        return result.label, result.tie is not None
    side = "positive" if label_set.is_positive(result.label) else "other"
    return side, result.tie == "clinical"


def naive_removals(labels: list[str], k: int, label_set: LabelSet) -> int | None:
    before, tied = called(labels, k, label_set)
    if tied:
        return 0
    for r in range(1, len(labels)):
        for gone in combinations(range(len(labels)), r):
            left = [label for i, label in enumerate(labels) if i not in gone]
            after, tie = called(left, k, label_set)
            if tie or after != before:
                return r
    return None


def naive_relabellings(labels: list[str], k: int, label_set: LabelSet) -> int | None:
    before, tied = called(labels, k, label_set)
    if tied:
        return 0
    for r in range(1, len(labels) + 1):
        for changed in combinations(range(len(labels)), r):
            for names in product(label_set.names, repeat=r):
                new = list(labels)
                for i, name in zip(changed, names, strict=True):
                    new[i] = name
                after, tie = called(new, k, label_set)
                if tie or after != before:
                    return r
    return None


@given(lists, st.integers(1, 5))
@settings(max_examples=120, deadline=None)
def test_removals_equal_brute_force_with_the_real_vote(
    cells: tuple[LabelSet, list[str]], k: int
) -> None:
    label_set, labels = cells
    k = min(k, len(labels))
    verdict = vote(labels[:k], [float(i) for i in range(k)], label_set).label
    found = flips(labels, k, verdict, label_set).removals
    assert (None if found is None else len(found)) == naive_removals(labels, k, label_set)
    if found:
        left = [label for i, label in enumerate(labels) if i not in found]
        after, tie = called(left, k, label_set)
        assert tie or after != called(labels, k, label_set)[0]


@given(
    st.sampled_from([BLASTS, FINE]).flatmap(
        lambda labels: st.tuples(
            st.just(labels), st.lists(st.sampled_from(labels.names), min_size=1, max_size=5)
        )
    ),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_relabellings_equal_brute_force(cells: tuple[LabelSet, list[str]], k: int) -> None:
    label_set, labels = cells
    k = min(k, len(labels))
    verdict = vote(labels[:k], [float(i) for i in range(k)], label_set).label
    found = flips(labels, k, verdict, label_set).relabellings
    assert found is not None
    assert len(found) == naive_relabellings(labels, k, label_set)
    assert all(i < k for i in found)


def test_a_verdict_without_a_rival_cannot_be_flipped() -> None:
    assert flips(["a"] * 4, 3, "a", ONE).removals is None
    assert flips(["a"] * 4, 3, "a", ONE).relabellings is None
    assert flips(["a"] * 4, 3, "a", FINE).removals is None
    assert flips(["a"] * 4, 3, "a", FINE).relabellings == (0, 1)


def test_two_kinds_of_lymphoblast_flip_together() -> None:
    labels = ["blast (1)", "blast (2)", "normal", "blast (1)", "normal", "normal"]
    assert flips(labels, 3, "blast (1)", BLASTS).removals == (0, 1)
    assert flips(labels, 3, "blast (1)", BLASTS).relabellings == (0,)


def naive_shapley(matches: list[bool], k: int) -> np.ndarray:
    def v(members: tuple[int, ...]) -> float:
        return sum(matches[i] for i in sorted(members)[:k]) / k

    N = len(matches)
    values = np.zeros(N)
    orders = list(permutations(range(N)))
    for order in orders:
        for place, i in enumerate(order):
            values[i] += v(order[: place + 1]) - v(order[:place])
    return values / len(orders)


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_shares_equal_brute_force(matches: list[bool], k: int) -> None:
    shares = shares_of_support(np.array(matches), k)
    assert shares == pytest.approx(naive_shapley(matches, k), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_shares_add_up_to_the_agreement_and_are_symmetric(matches: list[bool], k: int) -> None:
    shares = shares_of_support(np.array(matches), k)
    assert shares.sum() == pytest.approx(sum(matches[:k]) / k, abs=1e-12)
    same = set(matches[:k])
    assert len(same) == 2 or np.ptp(shares[:k]) < 1e-12  # equals among the k count equally
    assert (shares[np.array(matches)] >= -1e-12).all()
    assert (shares[~np.array(matches)] <= 1e-12).all()


def test_matching_is_by_side_where_there_are_sides() -> None:
    labels = ["blast (1)", "blast (2)", "normal"]
    assert matching(labels, "blast (2)", BLASTS).tolist() == [True, True, False]
    assert matching(["a", "b", "a"], "a", FINE).tolist() == [True, False, True]


# --- the nearest of every class ----------------------------------------------------------------


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_the_nearest_of_every_class_equal_a_naive_search(distance: str) -> None:
    rng = np.random.default_rng(4)
    references = MinMaxScale.fit(x := rng.random((40, 6))).apply(x) + 0.1
    labels = [("a", "b", "c")[i % 3] for i in range(39)] + ["rare"]
    ids = [f"{i:02d}" for i in range(40)]
    queries = rng.random((5, 6)) + 0.1
    exclude = [set(), {0, 1, 2}, set(range(0, 39, 3)), {39}, set()]
    found = ClassIndex(references, ids, labels, distance).nearest(queries, 3, exclude)
    index = Index(references, ids, distance)
    for m in range(5):
        order = [int(i) for i in index.ranking(queries[m], exclude[m])]
        assert not set(order) & exclude[m]
        for c, name in enumerate(found.classes):
            expected = [i for i in order if labels[i] == name][:3]
            kept = [int(i) for i in found.positions[m, c] if i >= 0]
            assert kept == expected
            mean = found.mean_distances()[m, c]
            near = found.distances[m, c][: len(expected)]
            assert mean == (pytest.approx(near.mean()) if expected else np.inf)
    far, odd = found.mean_distances(), found.nonconformity()
    for m, c in np.ndindex(far.shape):
        other = min(far[m, i] for i in range(far.shape[1]) if i != c)
        expected = far[m, c] ** 2 / other if np.isfinite(far[m, c]) else np.inf
        assert odd[m, c] == pytest.approx(expected)
    alone = ClassIndex(references, ids, labels, distance).nearest(queries[1:2], 3, exclude[1:2])
    assert np.array_equal(alone.distances[0], found.distances[1])


def test_oddness_of_one_class_of_equal_cells_and_of_cells_seen_by_nobody() -> None:
    """With one class it is the distance; identical cells of two classes divide by nothing."""
    one = ClassIndex(np.eye(3), ["a", "b", "c"], ["x"] * 3, "euclidean")
    found = one.nearest(np.zeros((1, 3)), 2, None)
    assert found.nonconformity() == pytest.approx(found.mean_distances())
    two = ClassIndex(np.eye(2), ["a", "b"], ["x", "y"], "euclidean")
    odd = two.nearest(np.eye(2), 1, [set(), {0}]).nonconformity()
    assert odd[0, 0] == 0.0
    assert 1 < odd[0, 1] < np.inf
    assert odd[1].tolist() == [np.inf, 0.0]
    same = ClassIndex(np.zeros((2, 2)), ["a", "b"], ["x", "y"], "euclidean")
    assert same.nearest(np.zeros((1, 2)), 1, None).nonconformity().tolist() == [[0.0, 0.0]]


def test_the_ranking_agrees_with_the_nearest() -> None:
    rng = np.random.default_rng(5)
    references = rng.integers(0, 3, (50, 3)).astype(float)  # many ties
    index = Index(references, [f"{i:02d}" for i in rng.permutation(50)])
    query = rng.random(3)
    assert index.ranking(query).tolist() == index.nearest(query[None], 50)[0][0].tolist()
