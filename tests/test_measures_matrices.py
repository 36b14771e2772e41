"""Measures of a study: against scikit-learn, and where classes are absent."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from study_results import BLASTS, CLASSES, job, made_up, prediction

from cellkin.core.errors import DecisionError
from cellkin.core.records import LabelSet, Neighbor
from cellkin.measures import matrices
from cellkin.measures.ranking import auroc
from cellkin.study.method_rows import study_rows
from cellkin.study.predictions import Results
from cellkin.study.tables import summarize

CLOSE = 1e-9
NAMES = BLASTS.names

tables = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=40
)


def near(found: float | None, wanted: float) -> bool:
    return found is not None and abs(found - wanted) < CLOSE


@settings(deadline=None)
@given(tables)
def test_measures_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, called = [a for a, _ in pairs], [b for _, b in pairs]
    counts = matrices.confusion(truth, called, NAMES)
    assert counts.tolist() == oracle.confusion_matrix(truth, called, labels=NAMES).tolist()
    assert near(matrices.accuracy(counts), oracle.accuracy_score(truth, called))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # called classes without true cells
        balanced = oracle.balanced_accuracy_score(truth, called)
    assert near(matrices.balanced_accuracy(counts), balanced)
    f1 = oracle.f1_score(truth, called, average="weighted", zero_division=0)
    assert near(matrices.weighted_f1(counts), f1)


@settings(deadline=None)
@given(tables)
def test_sensitivity_and_specificity_are_recalls_of_the_merged_sides(
    pairs: list[tuple[str, str]],
) -> None:
    counts = matrices.confusion([a for a, _ in pairs], [b for _, b in pairs], NAMES)
    truth, called = ([BLASTS.is_positive(name) for name in names] for names in zip(*pairs))  # noqa: B905
    for side, read in ((True, matrices.sensitivity), (False, matrices.specificity)):
        found = read(counts, BLASTS)
        if side in truth:
            assert near(found, oracle.recall_score(truth, called, pos_label=side))
        else:
            assert found is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_auroc_agrees_with_scikit_learn_ties_and_all(pairs: list[tuple[bool, int]]) -> None:
    truth, votes = [a for a, _ in pairs], [b / 5 for _, b in pairs]
    inside, outside = ([b / 5 for a, b in pairs if a is side] for side in (False, True))
    if len(set(truth)) == 1:
        with pytest.raises(DecisionError, match="told apart"):
            auroc(inside, outside)
    else:
        assert near(auroc(inside, outside), oracle.roc_auc_score(truth, votes))


def test_ties_everywhere_are_a_coin_flip() -> None:
    assert auroc([0.6] * 2, [0.6] * 2) == 0.5


def test_a_class_absent_from_a_fold_keeps_its_place() -> None:
    counts = matrices.confusion(["normal", "blast (2)"], ["normal", "blast (2)"], NAMES)
    assert counts.shape == (4, 4)
    assert np.diag(counts).tolist() == [0, 1, 0, 1]
    assert matrices.balanced_accuracy(counts) == 1.0
    names, clinical = matrices.merged(counts, BLASTS)
    assert names == ("lymphoblast", "other cell", "no cell")
    assert clinical.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_merging_adds_rows_and_columns_by_name_not_by_place() -> None:
    counts = np.arange(16).reshape(4, 4)
    names, clinical = matrices.merged(counts, BLASTS)
    blast = [2, 3]
    assert clinical[0, 0] == counts[np.ix_(blast, blast)].sum()
    assert clinical[names.index("no cell"), names.index("other cell")] == counts[0, 1]
    assert clinical.sum() == counts.sum()


def test_percentages_are_of_all_cells_as_in_table_6() -> None:
    counts = np.diag([130, 129, 73, 57])
    counts[1, 3] = 1
    shares = matrices.percentages(counts)
    assert math.isclose(shares.sum(), 100)
    assert round(shares[0, 0], 2) == 33.33
    assert round(shares[3, 3], 2) == 14.62
    assert matrices.percentages(np.zeros((2, 2), int)).tolist() == [[0, 0], [0, 0]]


def test_without_cells_nothing_is_measured() -> None:
    empty = np.zeros((4, 4), np.int64)
    assert matrices.accuracy(empty) is None
    assert matrices.balanced_accuracy(empty) is None
    assert matrices.weighted_f1(empty) is None
    assert matrices.sensitivity(empty, BLASTS) is None


def test_no_sensitivity_without_a_lymphoblast_class() -> None:
    labels = LabelSet(("a", "b"), {"a": "other cell", "b": "other cell"})
    counts = np.array([[3, 1], [0, 2]])
    assert matrices.sensitivity(counts, labels) is None
    assert matrices.specificity(counts, labels) is None


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(DecisionError, match="no confusion matrix"):
        matrices.confusion(["normal"], ["basophil"], NAMES)
    with pytest.raises(DecisionError, match="no confusion matrix"):
        matrices.confusion(["normal"], [], NAMES)


def test_spread_names_both_deviations() -> None:
    found = matrices.spread([1.0, 1.0, 1.0, 1.0, 26 / 27])
    assert near(found.sd_population, float(np.std([1, 1, 1, 1, 26 / 27])))
    assert near(found.sd_sample, float(np.std([1, 1, 1, 1, 26 / 27], ddof=1)))
    some = matrices.spread([0.5, None, 1.0])
    assert (some.mean, some.folds, some.missing) == (0.75, 2, 1)
    assert matrices.spread([0.5]).sd_sample is None
    assert matrices.spread([None]).mean is None


def test_the_claims_about_nothing_and_the_groups_are_checked() -> None:
    counts = np.diag([5, 5, 5, 5])
    assert [found.confused for found in matrices.mixups(counts, BLASTS)] == [0, 0]
    counts[0, 1], counts[2, 3], counts[1, 2] = 2, 1, 7  # a cell called another cell is no mix-up
    empty, groups = matrices.mixups(counts, BLASTS)
    assert (empty.confused, empty.which) == (2, (("nothing", "normal", 2),))
    assert (groups.confused, groups.which) == (1, (("blast (1)", "blast (2)", 1),))
    plain = LabelSet(("a", "b"), {"a": "lymphoblast", "b": "other cell"})
    assert matrices.mixups(np.diag([1, 1]), plain) == ()


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    with made_up(tmp_path_factory.mktemp("study")) as results:
        return study_rows(results)[0]


def test_a_row_equals_the_same_numbers_by_scikit_learn(row) -> None:
    assert (row.title, row.unit, row.independent) == ("cellkin", "image", "image")
    truth, called = [c.truth for c in row.calls], [c.label for c in row.calls]
    assert near(row.measures["accuracy"].value, oracle.accuracy_score(truth, called))
    f1 = oracle.f1_score(truth, called, average="weighted", zero_division=0)
    assert near(row.measures["weighted_f1"].value, f1)
    folds = [
        oracle.accuracy_score(
            [c.truth for c in row.calls if c.fold == fold],
            [c.label for c in row.calls if c.fold == fold],
        )
        for fold in (1, 2, 3)
    ]
    assert near(row.measures["accuracy"].mean, float(np.mean(folds)))
    assert near(row.measures["accuracy"].sd_population, float(np.std(folds)))
    area = oracle.roc_auc_score(
        [BLASTS.is_positive(t) for t in truth], [c.score for c in row.calls]
    )
    assert near(row.measures["auroc"].value, area)
    for name, measure in row.measures.items():
        if measure.low is not None:
            assert measure.low <= measure.value <= measure.high, name


def test_real_cells_alone_leave_out_the_patches_and_keep_the_calls(row) -> None:
    real = [c for c in row.calls if c.truth != "nothing"]
    assert near(row.real["accuracy"].value, np.mean([c.truth == c.label for c in real]))
    assert near(row.real["sensitivity"].value, row.measures["sensitivity"].value)


def one_row(tmp_path, decisions, labels=BLASTS, **changes):
    with Results.open(tmp_path / "results.sqlite") as results:
        one = job(**changes)
        results.plan([one])
        results.add(one, decisions, 1.0, {"classes": labels.to_json()})
        study = summarize(results)
    return study.rows[0], study


def test_one_class_only(tmp_path) -> None:
    cells = [prediction(f"{i}", "normal", "normal", score=0.0) for i in range(5)]
    row, study = one_row(tmp_path, cells)
    assert row.measures["sensitivity"].value is None
    assert row.measures["auroc"].value is None
    assert row.measures["specificity"].value == 1.0
    assert study.tests == ()


def test_only_cell_free_patches_leave_no_real_cell(tmp_path) -> None:
    cells = [prediction(f"{i}", "nothing", "nothing", score=0.0) for i in range(3)]
    row, _ = one_row(tmp_path, cells)
    assert row.measures["accuracy"].value == 1.0
    assert {measure.value for measure in row.real.values()} == {None}


def test_more_neighbours_than_a_class_holds_are_still_counted(tmp_path) -> None:
    kin = tuple(Neighbor(f"r{i}", "normal", 1.0, i) for i in range(9))
    cells = [
        prediction("a", "blast (1)", "normal", score=1 / 9, votes={"normal": 8, "blast (1)": 1}),
        prediction("b", "normal", "normal", score=0.0, neighbors=kin),
    ]
    row, _ = one_row(tmp_path, cells)
    assert row.measures["sensitivity"].value == 0.0
    assert row.measures["auroc"].value == 1.0


def test_without_lymphoblasts_there_is_no_clinical_number(tmp_path) -> None:
    labels = LabelSet(("a", "b"), {"a": "other cell", "b": "other cell"})
    cells = [prediction(str(i), "a", "ab"[i % 2], labels) for i in range(6)]
    row, study = one_row(tmp_path, cells, labels, injection="none")
    assert row.main == "accuracy"
    assert row.measures["clinical_accuracy"].value is None
    assert row.real is None
    assert "–" in study.tables[0].rows[0]


def test_cells_decided_with_two_seeds_are_drawn_as_cells(tmp_path) -> None:
    cells = [
        prediction(f"{name}{i}", name, name if i else "nothing", score=0.5)
        for name in NAMES
        for i in range(12)
    ]
    with Results.open(tmp_path) as results:
        for seed in (0, 1):
            results.add(job(seed=seed), cells, 1.0, CLASSES)
        (row,) = study_rows(results)
    assert (row.independent, row.cells, row.distinct) == ("cell", 96, 48)
    assert row.measures["accuracy"].method == "bootstrap over cells"
