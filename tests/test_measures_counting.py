"""Counting with errors: what the interval of a corrected share promises, and its refusals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from cellkin.core.arrays import Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.measures import counting, spread
from cellkin.measures.counting import HeldOutCalls, corrected_shares, foreseen, shortest
from cellkin.measures.intervals import clopper_pearson, wilson
from cellkin.measures.shares import sampled
from cellkin.measures.spread import PRIOR, dirichlet

TWO = np.array([[0.80, 0.20], [0.13, 0.87]])  # specificity 0.80, sensitivity 0.87


def called(true: Sequence[int] | Ints, rows: Floats, rho: float, rng: np.random.Generator) -> Ints:
    """(K, K) calls of one unit's cells, by rows of its own around the mean rows."""
    own = [rng.dirichlet(row * (1 / rho - 1)) if rho else row for row in rows]
    return np.array([rng.multinomial(n, row) for n, row in zip(true, own, strict=True)])


def atlas_of(rng: np.random.Generator, rho: float = 0.1, subjects: int = 20) -> HeldOutCalls:
    """Calls of 8 to 40 cells of each subject, each of one class."""
    counts = [
        called(np.eye(2, dtype=int)[u % 2] * rng.integers(8, 41), TWO, rho, rng)
        for u in range(subjects)
    ]
    return HeldOutCalls(("normal", "blast"), np.array(counts), "subject")


@pytest.mark.parametrize("prevalence", [0.0, 0.02, 0.4])
def test_the_interval_holds_the_true_share_at_every_prevalence(prevalence: float) -> None:
    """200 smears of 200 cells, each of a new subject and with an atlas of its own.

    An interval that takes all subjects to be alike, or whose spread is a point estimate, covers 87
    to 90 %: 187 or more of 200 then come in one run of twenty at most.
    """
    rng = np.random.default_rng(round(1000 * prevalence))
    smears, atlases = [], []
    for _ in range(200):
        atlases.append(counting.rows_of_a_new_unit(atlas_of(rng), rng, 30))
        blasts = int(rng.binomial(200, prevalence))
        smears.append(called([200 - blasts, blasts], TWO, 0.1, rng).sum(axis=0))
    rows, none = np.concatenate(atlases), np.zeros(2, np.int64)
    drawn = sampled(np.repeat(smears, 30, axis=0), none, rows, rng)
    blast, fresh = np.array([False, True]), dirichlet(rows, rng)
    ends = [
        counting.ends_of(blast, n, none, (drawn[part], fresh[part]), rng)
        for n, part in zip(smears, (slice(i, i + 30) for i in range(0, 6000, 30)), strict=True)
    ]
    assert sum(low <= prevalence <= high for low, high in ends) >= 187
    naive = [wilson(int(n[1]), 200) for n in smears]
    assert sum(bool(i.low <= prevalence <= i.high) for i in naive) < 150
    assert np.mean([high - low for low, high in ends]) < 0.85


def exact(
    n: Ints, parameters: Floats, draws: int, rng: np.random.Generator, kept: int = 20_000
) -> Floats:
    """Posterior of the second of two shares by weighting: shares and rows from their priors."""
    share = rng.beta(PRIOR, PRIOR, draws)
    rows = dirichlet(np.broadcast_to(parameters, (draws, 2, 2)), rng)
    chance = np.clip((1 - share) * rows[:, 0, 1] + share * rows[:, 1, 1], 1e-300, 1 - 1e-16)
    log = n[1] * np.log(chance) + n[0] * np.log(1 - chance)
    weight = np.exp(log - log.max())
    return share[rng.choice(draws, kept, p=weight / weight.sum())]


@pytest.mark.parametrize("n", [(180, 20), (120, 80), (30, 170), (1400, 600)])
def test_the_chains_draw_from_the_posterior(n: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    parameters = np.array([[8.0, 2.0], [1.3, 8.7]])
    wanted = np.quantile(exact(np.array(n), parameters, 400_000, rng), [0.05, 0.25, 0.5, 0.75])
    rows = np.broadcast_to(parameters, (1500, 2, 2))
    drawn = sampled(np.array(n), np.array([0, 0]), rows, rng)[..., 1]
    assert np.abs(np.quantile(drawn, [0.05, 0.25, 0.5, 0.75]) - wanted).max() < 0.025


@pytest.mark.parametrize(("subjects", "n"), [(10, (0, 100)), (5, (100, 100)), (5, (0, 1000))])
def test_the_interval_hangs_neither_on_the_seed_nor_on_the_order_of_classes(
    subjects: int, n: tuple[int, int]
) -> None:
    """Subjects all of whose calls are right, but few: a new one may have them wrong. What chains
    say is compared with weighted draws, of rows drawn in the same way.
    """
    counts = np.tile([[20, 0], [0, 20]], (subjects, 1, 1))
    known, rng = HeldOutCalls(("a", "b"), counts, "subject"), np.random.default_rng(0)
    rows = counting.rows_of_a_new_unit(known, rng)
    wanted = shortest(np.concatenate([exact(np.array(n), one, 2000, rng, 10) for one in rows]))
    found = [corrected_shares(n, known, seed=seed).shares[1][1].ends for seed in (0, 1)]
    mirrored = corrected_shares(n[::-1], known).shares[0][1].ends
    for ends in (*found, mirrored):
        assert ends == pytest.approx(wanted, abs=0.1)


def test_the_spread_is_drawn_from_its_posterior_with_many_classes_too() -> None:
    """The mean of one class of six, and rho, by walking from a start far away for long."""
    rng = np.random.default_rng(2)
    mean = np.array([0.9, 0.06, 0.02, 0.01, 0.005, 0.005])
    held = np.array([rng.multinomial(40, rng.dirichlet(9 * mean)) for _ in range(40)])
    seeds = [spread.row_of_a_new_unit(held, np.random.default_rng(s), 400) for s in range(2)]
    rho, other = np.full(400, 0.5), np.full((400, 6), 1 / 6)
    for _ in range(20):
        rho, other = spread.walked(held, rho, other, rng)
    slow = (1 / rho - 1)[:, None] * other
    for drawn in seeds:
        share = drawn[:, 0] / drawn.sum(axis=1)
        wanted = slow[:, 0] / slow.sum(axis=1)
        assert np.median(share) == pytest.approx(np.median(wanted), abs=0.01)
        spreads = [float(np.diff(np.quantile(each, [0.2, 0.8]))[0]) for each in (share, wanted)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.25)
        strengths = np.median(drawn.sum(axis=1)), np.median(slow.sum(axis=1))
        assert strengths[0] == pytest.approx(strengths[1], rel=0.15)


def test_the_rows_of_a_new_subject_differ_as_subjects_do() -> None:
    """Two sets of calls with the same mean: subjects alike, and each all right or all wrong."""
    alike = np.tile([[20, 5], [0, 25]], (16, 1, 1))
    apart = np.array([[[0, 25], [0, 25]]] * 3 + [[[25, 0], [0, 25]]] * 13)
    spread = []
    for counts in (alike, apart):
        known = HeldOutCalls(("a", "b"), counts, "subject")
        rng = np.random.default_rng(0)
        rows = counting.rows_of_a_new_unit(known, rng, 4000)[:, 0]
        share = rng.beta(*rows.T)
        assert share.mean() == pytest.approx(0.8, abs=0.06)
        spread.append(share.std())
    assert spread[0] < 0.08 < 0.3 < spread[1]


def test_more_subjects_and_alike_ones_narrow_it() -> None:
    widths = [
        _width(corrected_shares([150, 50], atlas_of(np.random.default_rng(5), *given)).shares[1])
        for given in ((0.25, 60), (0.05, 10), (0.01, 100))
    ]
    assert widths[0] > widths[1] > widths[2]


def _width(found: tuple[float, object]) -> float:
    interval = found[1]
    return float(interval.high - interval.low)  # type: ignore[attr-defined]


def test_confirmed_cells_carry_no_error() -> None:
    known = atlas_of(np.random.default_rng(1))
    sure = corrected_shares([0, 0], known, confirmed=[150, 50], positive=[1])
    exactly = clopper_pearson(50, 200)
    assert sure.shares[1] == sure.positive == (0.25, exactly)
    nearly = corrected_shares([4, 0], known, confirmed=[146, 50]).shares[1]
    assert nearly[0] == pytest.approx(0.25, abs=0.02)
    assert _width(nearly) == pytest.approx(exactly.high - exactly.low, rel=0.2)
    unsure = corrected_shares([150, 50], known).shares[1]
    assert _width(nearly) < 0.5 * _width(unsure)
    some = corrected_shares([150, 0], known, confirmed=[0, 3]).shares[1]
    assert 0 < some[1].low < 0.02  # three lymphoblasts are there, whatever the calls are worth
    others = corrected_shares([0, 150], known, confirmed=[3, 0]).shares[1]
    assert 0.98 < others[1].high < 1


def test_a_smear_without_such_cells_reaches_exactly_zero() -> None:
    known = atlas_of(np.random.default_rng(2))
    (_, (_, none)) = corrected_shares([160, 40], known).shares
    (_, (_, most)) = corrected_shares([20, 180], known).shares
    assert none.low == 0.0
    assert 0 < most.low < most.high == 1.0


def test_classes_are_summed_and_shares_fit_together() -> None:
    counts = np.zeros((12, 3, 3), np.int64)
    counts[:] = [[18, 1, 1], [1, 15, 4], [1, 5, 14]]
    known = HeldOutCalls(("other", "blast 1", "blast 2"), counts, "slide")
    found = corrected_shares([100, 60, 40], known, positive=[1, 2])
    assert found.positive is not None
    assert found.positive[0] == pytest.approx(1 - found.shares[0][0], abs=0.01)
    assert "slides" in found.positive[1].method
    # what is confused within the sum costs the sum nothing
    assert _width(found.positive) < _width(found.shares[1]) + _width(found.shares[2])


def test_where_no_subject_is_known_it_says_for_whom_it_holds() -> None:
    cells = ["a"] * 50 + ["b"] * 50
    said = ["a"] * 45 + ["b"] * 50 + ["a"] * 5
    of = partial(HeldOutCalls.of, cells, said, names=("a", "b"))
    alone, by_field = of(range(100), unit="image"), of([i % 10 for i in range(100)], unit="field")
    assert alone.counts.tolist() == [[[45, 5], [5, 45]]]
    assert by_field.counts.shape == (10, 2, 2)
    assert alone.units == {"a": 50, "b": 50}
    assert by_field.units == {"a": 10, "b": 10}
    assert by_field.counts.sum(axis=0).tolist() == alone.counts[0].tolist()
    found = corrected_shares([100, 100], alone).shares[1]
    assert "cells like those of the atlas only" in found[1].note
    assert corrected_shares([100, 100], by_field).shares[1][1].note == ""


def test_a_class_without_held_out_cells_is_named_and_widens_all() -> None:
    counts = np.zeros((10, 3, 3), np.int64)
    counts[:, 0, 0] = counts[:, 1, 1] = 20
    known = HeldOutCalls(("a", "b", "rare"), counts, "subject")
    assert known.cells == (200, 200, 0)
    found = corrected_shares([100, 100, 0], known, positive=[1])
    assert found.positive is not None
    assert "how rare is called is not known" in found.positive[1].note
    both = HeldOutCalls(("a", "b"), counts[:, :2, :2], "subject")
    assert _width(found.positive) > 1.5 * _width(corrected_shares([100, 100], both).shares[1])


def test_how_far_more_cells_would_help() -> None:
    known = atlas_of(np.random.default_rng(4), 0.02, 60)
    found = foreseen([60, 40], known, positive=[1], sizes=(50, 200))
    assert [size for size, _ in found] == [50, 200, None]
    few, more, all_ = (interval.high - interval.low for _, interval in found)
    assert few > more > 0.9 * all_ > 0.05


def test_answers_repeat_by_seed() -> None:
    known = atlas_of(np.random.default_rng(6))
    first, again, other = (corrected_shares([70, 30], known, seed=s) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("n", "sure", "positive"),
    [
        ([0, 0], None, ()),
        ([5, 5, 5], None, ()),
        ([5, -1], None, ()),
        ([5, 5], [1], ()),
        ([5, 5], [1, -1], ()),
        ([5, 5], None, (2,)),
        ([5, 5], None, (0.5,)),
        ([10**15, 1], None, ()),
        ([2**63, 1], None, ()),
        ([2**70, 1], None, ()),
        ([10**9, 1], None, ()),
        ([5, 5], [10**9, 0], ()),
        ([5.5, 5], None, ()),
        ([float("nan"), 5], None, ()),
        ([float("inf"), 5], None, ()),
        ([5, 5], [0.2, 0], ()),
        (["5", "5"], None, ()),
        ([True, False], None, ()),
        ([None, 5], None, ()),
        ([[5], [5, 1]], None, ()),
    ],
)
def test_counts_that_do_not_fit_are_refused(n: Any, sure: Any, positive: tuple[int, ...]) -> None:
    known = atlas_of(np.random.default_rng(7))
    with pytest.raises(DecisionError, match="these cells cannot be counted") as wrong:
        corrected_shares(n, known, confirmed=sure, positive=positive)
    assert "whole numbers" in wrong.value.mend


def test_as_many_cells_as_can_be_counted_are() -> None:
    known = atlas_of(np.random.default_rng(7))
    for n in ([10**9 - 1, 1], [10**9, 0], [5.0, 5.0]):
        for _, interval in corrected_shares(n, known).shares:
            assert 0 <= interval.low < interval.high <= 1


@pytest.mark.parametrize(("size", "positive"), [(1, ()), (1, (0,)), (2, (0, 1)), (3, (2, 0, 1))])
@pytest.mark.parametrize("by_person", [False, True])
def test_without_another_class_there_is_no_share_to_tell(
    size: int, positive: tuple[int, ...], by_person: bool
) -> None:
    names = ("a", "b", "c")[:size]
    known = HeldOutCalls(names, np.tile(9 * np.eye(size, dtype=int), (5, 1, 1)), "subject")
    n, none = [50] * size, [0] * size
    with pytest.raises(DecisionError, match="no other class"):
        corrected_shares(
            none if by_person else n, known, confirmed=n if by_person else none, positive=positive
        )


@pytest.mark.parametrize(
    "counts",
    [
        [[[5, -1], [0, 5]]],
        [[[5, 0.5], [0, 5]]],
        [[[5, float("nan")], [0, 5]]],
        [[[5, 2**63], [0, 5]]],
        [[5, 1], [0, 5]],
        [[[5, 1, 0], [0, 5, 0]]],
        [[[5, 1], [0]]],
    ],
)
def test_held_out_counts_that_are_none_are_refused(counts: Any) -> None:
    with pytest.raises(DecisionError, match="held-out calls cannot be counted") as wrong:
        HeldOutCalls(("a", "b"), counts, "subject")
    assert "whole numbers" in wrong.value.mend


@pytest.mark.parametrize("sizes", [(0,), (-5,), (2.5,), (float("nan"),)])
def test_sizes_that_are_no_numbers_of_cells_are_refused(sizes: Any) -> None:
    with pytest.raises(DecisionError, match="no share to foresee"):
        foreseen([5, 5], atlas_of(np.random.default_rng(7)), positive=[1], sizes=sizes)


def test_calls_that_do_not_fit_or_are_not_there_are_refused() -> None:
    none = HeldOutCalls(("a", "b"), np.zeros((0, 2, 2), np.int64), "subject")
    with pytest.raises(DecisionError, match="has not seen is not known"):
        corrected_shares([1, 2], none)
    with pytest.raises(DecisionError, match="no share to foresee"):
        foreseen([1, 2], atlas_of(np.random.default_rng(7)), positive=[])
    with pytest.raises(DecisionError) as wrong:
        HeldOutCalls.of(["a"], ["c"], [0], names=("a", "b"), unit="subject")
    assert "unknown: c" in str(wrong.value)
    with pytest.raises(DecisionError, match="cannot be counted"):
        HeldOutCalls.of(["a", "b"], ["a"], [0, 1], names=("a", "b"), unit="subject")


def test_the_shortest_interval_reaches_the_end_where_it_is_densest() -> None:
    draws = np.linspace(0.001, 1, 1000) ** 3
    low, high = shortest(draws)
    assert low == 0.0
    assert high == pytest.approx(0.96**3, abs=0.005)
    low, high = shortest(1 - draws)
    assert (low, high) == pytest.approx((1 - 0.96**3, 1.0), abs=0.005)


def test_where_many_intervals_are_as_short_the_middle_one_is_told() -> None:
    """A peak in the middle, and flat tails: which one is shortest hangs on chance."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        tails = rng.random(6000) < 0.12
        low, high = shortest(np.where(tails, rng.random(6000), 0.45 + 0.1 * rng.random(6000)))
        assert 0.0 < low < 0.42
        assert 0.58 < high < 1.0
