"""Counting right and wrong decisions, against scipy and scikit-learn."""

from __future__ import annotations

import ast
import json
import math
import pickle
import re
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

import cellkin
from cellkin.core.errors import DecisionError, LabelError
from cellkin.core.records import OTHER_CELL, LabelSet
from cellkin.measures.intervals import wilson
from cellkin.measures.scores import score

ALL_IDB2 = LabelSet(
    ("nothing", "lymphoblast (2)", "normal", "lymphoblast (1)"),  # lymphoblasts not side by side
    {
        "nothing": "no cell",
        "normal": "other cell",
        "lymphoblast (1)": "lymphoblast",
        "lymphoblast (2)": "lymphoblast",
    },
)
CNMC = LabelSet(("all", "hem"), {"all": "lymphoblast", "hem": "other cell"})
PBC = LabelSet(tuple("abc"), dict.fromkeys("abc", OTHER_CELL))
L1, L2 = "lymphoblast (1)", "lymphoblast (2)"


cells = st.lists(
    st.tuples(st.sampled_from(ALL_IDB2.names), st.sampled_from(ALL_IDB2.names)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(cells)
def test_scores_equal_scikit_learn(pairs):
    true, predicted = (list(x) for x in zip(*pairs, strict=True))
    scores = score(true, predicted, ALL_IDB2)
    names = list(ALL_IDB2.names)
    assert scores.accuracy == pytest.approx(accuracy_score(true, predicted))
    with warnings.catch_warnings():  # scikit-learn warns of classes called that are not there
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(true, predicted)
    assert scores.balanced_accuracy == pytest.approx(balanced)
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(true, predicted, labels=names))
    recalls = recall_score(true, predicted, labels=names, average=None, zero_division=np.nan)
    for name, recall in zip(names, recalls, strict=True):
        found = scores.per_class[name].recall
        assert (math.nan if found is None else found) == pytest.approx(recall, nan_ok=True)
    is_true, is_called = (np.array(["lymph" in x for x in xs]) for xs in (true, predicted))
    (tn, fp), (fn, tp) = confusion_matrix(is_true, is_called, labels=[False, True])
    assert (scores.tp, scores.fn, scores.tn, scores.fp) == (tp, fn, tn, fp)
    assert scores.clinical_accuracy == pytest.approx(accuracy_score(is_true, is_called))
    for share, positive in ((scores.sensitivity, True), (scores.specificity, False)):
        expected = recall_score(is_true, is_called, pos_label=positive, zero_division=np.nan)
        assert (math.nan if share is None else share) == pytest.approx(expected, nan_ok=True)


def test_fault_11_sensitivity_is_read_by_class_name_and_absent_classes_keep_the_matrix():
    true = ["normal", "normal", L1, L1, L1, "normal"]
    predicted = ["normal", L1, L2, "nothing", L1, "nothing"]
    scores = score(true, predicted, ALL_IDB2)
    assert (scores.tp, scores.fn, scores.tn, scores.fp) == (2, 1, 2, 1)
    assert scores.sensitivity == pytest.approx(2 / 3)
    assert scores.specificity == pytest.approx(2 / 3)
    assert scores.clinical_accuracy == pytest.approx(4 / 6)  # a confusion inside a side is right
    assert scores.accuracy == pytest.approx(2 / 6)
    assert scores.confusion.shape == (4, 4)
    assert scores.confusion[ALL_IDB2.index(L1)].tolist() == [1, 1, 0, 1]
    assert scores.confusion[ALL_IDB2.index("nothing")].tolist() == [0, 0, 0, 0]
    absent = scores.per_class["nothing"]
    assert (absent.n, absent.correct, absent.recall) == (0, 0, None)
    assert (absent.interval.low, absent.interval.high) == (None, None)
    assert scores.balanced_accuracy == pytest.approx((1 / 3 + 1 / 3) / 2)

    order = LabelSet(tuple(reversed(ALL_IDB2.names)), ALL_IDB2.clinical)
    again = score(true, predicted, order)
    assert (again.tp, again.fn, again.tn, again.fp) == (2, 1, 2, 1)
    np.testing.assert_array_equal(again.confusion, scores.confusion[::-1, ::-1])


def test_a_side_without_cells_has_no_share():
    only_blasts = score([L1, L2], [L1, "normal"], ALL_IDB2)
    assert (only_blasts.sensitivity, only_blasts.specificity) == (0.5, None)
    only_others = score(["normal"], ["normal"], ALL_IDB2)
    assert (only_others.sensitivity, only_others.specificity) == (None, 1)


def test_without_lymphoblasts_there_is_no_clinical_number():
    scores = score(list("aabc"), list("aabb"), PBC)
    clinical = (scores.clinical_accuracy, scores.sensitivity, scores.specificity)
    assert clinical == (None, None, None)
    assert (scores.tp, scores.fn, scores.tn, scores.fp) == (None, None, None, None)
    assert scores.accuracy == 0.75


def test_cells_as_units_get_wilson_intervals_and_a_note():
    scores = score(["all"] * 8 + ["hem"] * 4, ["all"] * 7 + ["hem"] * 5, CNMC)
    interval = scores.interval
    assert interval.ends == wilson(11, 12).ends
    assert (interval.method, interval.level) == ("Wilson", 0.95)
    assert interval.note == "cells taken as independent: the data set names no subjects"
    entry = scores.per_class["all"].interval
    assert entry.ends == wilson(7, 8).ends
    named = score(["all", "hem"], ["all", "hem"], CNMC, subjects=["1", None])
    assert named.interval.note == "cells taken as independent, which cells of one subject are not"
    unnamed = score(["all", "hem"], ["all", "hem"], CNMC, subjects=[None, None])
    assert unnamed.interval.note == interval.note
    assert unnamed.by_subject == ()


def study(n_all: int, n_hem: int, per_subject: int = 20):
    """Subjects differ much, cells of one subject little: what makes cells dependent."""
    rng = np.random.default_rng(0)
    true, predicted, subjects = [], [], []
    for i in range(n_all + n_hem):
        name = "all" if i < n_all else "hem"
        right = rng.random(per_subject) < rng.choice([0.3, 1.0], p=[0.25, 0.75])
        true += [name] * per_subject
        predicted += [name if r else ("hem" if name == "all" else "all") for r in right]
        subjects += [f"{name}{i}"] * per_subject
    return true, predicted, subjects


def test_too_few_subjects_for_an_interval():
    true, predicted, subjects = study(9, 7)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject")
    assert (scores.interval.low, scores.interval.high) == (None, None)
    assert scores.interval.note == (
        "too few subjects for an interval (all: 9, hem: 7; 10 per class needed)"
    )
    true, predicted, subjects = study(10, 9)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject")
    assert scores.interval.note.endswith("(hem: 9; 10 per class needed)")
    assert scores.per_class["hem"].interval.low is None
    assert scores.per_class["all"].interval.low is not None
    true, predicted, subjects = study(10, 10)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject")
    assert scores.interval.low is not None


def test_the_bootstrap_draws_whole_subjects():
    true, predicted, subjects = study(20, 20)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject", seed=3)
    interval = scores.interval
    assert interval.method == "bootstrap over subjects"
    assert interval.low < scores.accuracy < interval.high
    rates = np.array([row["accuracy"] for row in scores.by_subject])
    error = rates.std() / math.sqrt(len(rates))  # subjects of equal size: the mean of their rates
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    low, high = wilson(scores.correct, scores.n).ends
    assert interval.high - interval.low > 2 * (high - low), "cells are not independent here"
    again = score(true, predicted, CNMC, subjects=subjects, unit="subject", seed=3)
    assert again.to_json() == scores.to_json()
    other = score(true, predicted, CNMC, subjects=subjects, unit="subject", seed=4)
    assert other.interval != interval
    shuffled = np.random.default_rng(1).permutation(len(true))
    parts = [[column[i] for i in shuffled] for column in (true, predicted, subjects)]
    third = score(parts[0], parts[1], CNMC, subjects=parts[2], unit="subject", seed=3)
    assert third.interval == interval


def test_large_subjects_weigh_more_in_the_bootstrap():
    """The interval is about the share of cells, so it must lie around that share."""
    subjects = [f"s{i}" for i in range(30) for _ in range(100 if i % 3 == 0 else 2)]
    predicted = ["all" if int(s[1:]) % 3 == 0 else "hem" for s in subjects]
    predicted[0] = "hem"
    true = ["all"] * len(subjects)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject")
    assert scores.accuracy > 0.95
    assert scores.interval.low > 0.85


def test_a_bootstrap_without_spread_is_no_interval():
    true, _, subjects = study(12, 12)
    scores = score(true, true, CNMC, subjects=subjects, unit="subject")
    assert scores.accuracy == 1
    assert (scores.interval.low, scores.interval.high) == (None, None)
    assert "score alike" in scores.interval.note


def test_fields_and_slides_are_units_as_well():
    true, predicted, fields = study(9, 12)
    scores = score(true, predicted, CNMC, subjects=fields, unit="field")
    assert scores.interval.method == "bootstrap over fields"
    assert scores.interval.note.startswith("too few fields for an interval (all: 9;")


def test_the_table_by_subject():
    scores = score(
        ["hem", "all", "all", "hem", "all"],
        ["hem", "all", "hem", "hem", "all"],
        CNMC,
        subjects=["s2", "s1", "s1", None, "s2"],
    )
    assert [tuple(row.values()) for row in scores.by_subject] == [
        ("s1", ("all",), 2, 1, 0.5),
        ("s2", ("all", "hem"), 2, 2, 1.0),
        (None, ("hem",), 1, 1, 1.0),
    ]
    assert sum(row["n"] for row in scores.by_subject) == scores.n
    assert list(scores.by_subject[0]) == ["subject", "classes", "n", "correct", "accuracy"]


def test_scores_are_plain_data_in_json():
    true, predicted, subjects = study(12, 12)
    scores = score(true, predicted, CNMC, subjects=subjects, unit="subject")
    data = scores.to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["confusion"] == scores.confusion.tolist()
    assert data["per_class"]["all"]["interval"]["method"] == "bootstrap over subjects"
    assert pickle.loads(pickle.dumps(scores)).to_json() == data
    with pytest.raises(ValueError, match="read-only"):
        scores.confusion[0, 0] = 1


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([], []), {}, "nothing to score"),
        ((["all"], []), {}, "do not fit"),
        ((["all"], ["all"]), {"subjects": ["a", "b"]}, "do not fit"),
        ((["all"], ["all"]), {"unit": "subject"}, "subject of 1 of 1 cells is not known"),
        (
            (["all", "hem"], ["all", "hem"]),
            {"unit": "slide", "subjects": ["a", None]},
            "slide of 1 of 2 cells is not known",
        ),
        ((["all"], ["all"]), {"unit": "mitten"}, "unknown unit"),
    ],
)
def test_score_refuses(arguments, options, match):
    with pytest.raises(DecisionError, match=match) as caught:
        score(*arguments, CNMC, **options)
    assert caught.value.where
    assert caught.value.mend


def test_score_refuses_unknown_classes():
    with pytest.raises(LabelError, match="unknown class 'blast'"):
        score(["all"], ["blast"], CNMC)
    with pytest.raises(LabelError, match="unknown class 'blast'"):
        score(["blast"], ["all"], CNMC)


@pytest.mark.parametrize(
    ("call", "truth", "right", "exact", "right_side"),
    [
        (L1, L1, True, True, True),
        (L1, L2, True, False, True),  # imaging groups are one class to a reader
        ("normal", "normal", True, True, True),
        ("nothing", "normal", False, False, True),
        ("normal", L1, False, False, False),
    ],
)
def test_right_has_three_names_for_three_meanings(call, truth, right, exact, right_side) -> None:
    for a, b in ((call, truth), (truth, call)):
        assert ALL_IDB2.right(a, b) is right
        assert ALL_IDB2.exact(a, b) is exact
        assert ALL_IDB2.right_side(a, b) is right_side


def test_without_imaging_groups_right_is_exact() -> None:
    for labels in (CNMC, PBC):
        for call, truth in product(labels.names, repeat=2):
            assert labels.right(call, truth) == labels.exact(call, truth)


TRUE, CALLED = {"truth", "true"}, {"label", "call", "called", "predicted"}


def judged_by_hand(code: str) -> list[str]:
    """Comparisons of a call with the truth, and of two meanings of lymphoblast."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        sides = [node.left, node.comparators[0]]
        last = {word for side in sides for word in re.findall(r"\w+", ast.unparse(side))[-1:]}
        positive = all("is_positive(" in ast.unparse(side) for side in sides)
        lengths = all(ast.unparse(side).startswith("len(") for side in sides)
        if positive or (last & TRUE and last & CALLED and not lengths):
            found.append(ast.unparse(node))
    return found


def test_the_search_for_judgements_finds_what_was_once_there() -> None:
    for code in (
        "(c.label == c.truth) == right",
        "row['label'] == row['truth']",
        "call.label != call.truth",
        "call == truth or labels.is_positive(call)",
        "labels.is_positive(call) == labels.is_positive(truth)",
    ):
        assert judged_by_hand(code), code


def test_whether_a_call_is_right_is_asked_of_the_label_set() -> None:
    root = Path(cellkin.__file__).parent
    own = {"core/labels.py", "measures/scores.py"}  # the meanings, and the matrix's diagonal
    found = {
        name: judged
        for path in sorted(root.rglob("*.py"))
        if (name := path.relative_to(root).as_posix()) not in own
        and (judged := judged_by_hand(path.read_text(encoding="utf-8")))
    }
    assert found == {}
