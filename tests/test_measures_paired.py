"""Paired tests: against statsmodels and exhaustive counting."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as oracle_mcnemar
from statsmodels.stats.multitest import multipletests
from study_results import CLASSES, job, made_up, prediction

from cellkin.core.errors import DecisionError
from cellkin.measures import paired
from cellkin.study.predictions import Results
from cellkin.study.tables import summarize

CLOSE = 1e-9


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(first: int, second: int) -> None:
    found = paired.mcnemar(first, second)
    if first + second == 0:
        assert found == 1.0
    else:
        wanted = oracle_mcnemar([[5, first], [second, 5]], exact=True).pvalue
        assert abs(found - wanted) < CLOSE


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(DecisionError, match="negative"):
        paired.mcnemar(-1, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_holm_agrees_with_statsmodels(size: int) -> None:
    values = np.random.default_rng(size).random(size).round(2).tolist()  # rounded: ties as well
    wanted = multipletests(values, method="holm")[1]
    assert np.allclose(paired.holm(values), wanted, rtol=0, atol=CLOSE)


def test_holm_of_none_and_of_nonsense() -> None:
    assert paired.holm([]) == ()
    with pytest.raises(DecisionError, match="no p-values"):
        paired.holm([0.1, 1.5])
    with pytest.raises(DecisionError, match="no p-values"):
        paired.holm([float("nan")])


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_sign_flips_count_every_pattern(sums: list[int]) -> None:
    values = [v for v in sums if v]
    totals = [abs(sum(s * v for s, v in zip(signs, values, strict=True)))
              for signs in product((-1, 1), repeat=len(values))]  # fmt: skip
    wanted = np.mean([total >= abs(sum(values)) for total in totals])
    assert abs(paired.sign_flips(sums, seed=0) - wanted) < CLOSE


def test_sign_flips_of_single_cells_are_mcnemar() -> None:
    assert abs(paired.sign_flips([1] * 9 + [-1] * 2, seed=0) - paired.mcnemar(9, 2)) < CLOSE


def test_random_sign_flips_come_near_the_exact_value() -> None:
    found = paired.sign_flips([1] * 40 + [-1] * 20, seed=3)
    assert abs(found - paired.mcnemar(40, 20)) < 0.005
    assert found == paired.sign_flips([1] * 40 + [-1] * 20, seed=3)


def test_subjects_of_equal_cells_count_once() -> None:
    """Ten cells of one person that agree are one piece of evidence, not ten."""
    first = np.ones(60, bool)
    second = np.repeat([False, True, True, True, True, True], 10)
    people = np.repeat(list("abcdef"), 10).tolist()
    by_cell = paired.paired_difference(first, second, range(60), unit="image", seed=0)
    by_person = paired.paired_difference(first, second, people, unit="subject", seed=0)
    assert by_cell.p_value == pytest.approx(2 / 2**10)
    assert by_person.p_value == 1.0
    assert by_person.difference == by_cell.difference == pytest.approx(1 / 6)
    assert by_person.units == 6


def test_identical_methods_differ_by_nothing() -> None:
    right = [True, False] * 10
    found = paired.paired_difference(right, right, range(20), unit="image", seed=0)
    assert (found.difference, found.p_value, found.interval.low) == (0.0, 1.0, None)


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DecisionError, match="do not fit"):
        paired.paired_difference([True], [True, False], ["a"], unit="image", seed=0)
    with pytest.raises(DecisionError, match="nothing to compare"):
        paired.paired_difference([], [], [], unit="image", seed=0)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with made_up(tmp_path_factory.mktemp("study"), subjects=40, cells=8) as results:
        return summarize(results)


def test_a_method_is_compared_within_its_data_set_and_unit(study) -> None:
    assert {(t.first, t.second, t.unit) for t in study.tests} == {
        ("cellkin", other, unit)
        for other in ("softmax head", "colour histogram")
        for unit in ("image", "subject")
    }
    by_image = next(t for t in study.tests if t.unit == "image")
    assert by_image.test == "McNemar, exact"
    by_subject = [t for t in study.tests if t.unit == "subject"]
    assert {t.test for t in by_subject} == {"sign flips over subjects"}
    assert all(t.p_holm >= t.p_value for t in study.tests)


def test_what_leakage_was_worth_is_named_on_the_same_cells(study) -> None:
    worth = {t.first: t for t in study.leakage}
    assert set(worth) == {"cellkin", "softmax head", "colour histogram"}
    rows = {(r.title, r.unit): r.measures["clinical_accuracy"].value for r in study.rows}
    for title, test in worth.items():
        wanted = rows[title, "image"] - rows[title, "subject"]
        assert abs(test.difference - wanted) < CLOSE
        assert (test.unit, test.units) == ("subject", 40)
    assert any("was worth +" in finding["text"] for finding in study.findings)


def test_losing_is_said_first_and_plainly(tmp_path) -> None:
    def decided(right):
        return [
            prediction(f"{name}{i}", name, name if i < right else "normal", score=0.5)
            for name in ("normal", "blast (1)")
            for i in range(40)
        ]

    with Results.open(tmp_path) as results:
        results.add(job("cellkin"), decided(20), 1.0, CLASSES)
        results.add(job("softmax head"), decided(40), 1.0, CLASSES)
        study = summarize(results)
    assert study.findings[0]["state"] == "bad"
    assert (
        "cellkin is beaten by softmax head (−25.0 points on 80 cells" in study.findings[0]["text"]
    )


def test_a_table_is_the_same_whenever_it_is_recomputed(tmp_path) -> None:
    with made_up(tmp_path) as results:
        assert summarize(results).tables == summarize(results).tables


def test_the_drop_of_an_external_test_is_shown(tmp_path) -> None:
    def decided(right):
        return [
            prediction(f"{name}{i}", name, name if i < right else "normal", score=0.5)
            for name in ("normal", "blast (1)")
            for i in range(20)
        ]

    with Results.open(tmp_path) as results:
        results.add(job(), decided(18), 1.0, CLASSES)
        results.add(job(tested_on="elsewhere"), decided(10), 1.0, CLASSES)
        study = summarize(results)
    (table,) = [table for table in study.tables if table.name == "external"]
    ((*_, drop),) = table.rows
    assert table.rows[0][1:3] == ("smears", "elsewhere")
    assert (table.rows[0][4], table.rows[0][6], drop) == ("95.00", "75.00", "20.00")
    assert {row.external for row in study.rows} == {False, True}


def test_the_paired_bootstrap_draws_whole_subjects() -> None:
    """By hand: subjects drawn one by one, their cells pooled."""
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(15), generator.integers(1, 9, 15))
    first = generator.random(len(people)) < 0.8
    second = generator.random(len(people)) < 0.6
    found = paired.paired_difference(first, second, people.tolist(), unit="subject", seed=0)
    gain, values = first.astype(int) - second.astype(int), []
    for _ in range(4000):
        cells = np.concatenate(
            [np.flatnonzero(people == p) for p in generator.integers(15, size=15)]
        )
        values.append(gain[cells].mean())
    low, high = np.quantile(values, [0.025, 0.975])
    assert abs(found.interval.low - low) < 0.03
    assert abs(found.interval.high - high) < 0.03
