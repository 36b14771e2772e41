"""Prediction sets keep their promise; the triage curve counts what it says."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.regression import SplitConformalRegressor
from scipy.stats import betabinom, binom
from sklearn.base import BaseEstimator, RegressorMixin

from cellkin.core.errors import ArtifactError, DecisionError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, Decision, LabelSet, PredictionSet
from cellkin.decision import Conformal, abstention, units_needed
from cellkin.measures.triage import triage

BLASTS = LabelSet(
    ("normal", "blast (1)", "blast (2)"),
    {"normal": OTHER_CELL, "blast (1)": LYMPHOBLAST, "blast (2)": LYMPHOBLAST},
)
FINE = LabelSet(("a", "b"), {"a": OTHER_CELL, "b": OTHER_CELL})


def of_units(units: int, cells: int = 1, label: str = "a", seed: int = 0) -> Conformal:
    rng = np.random.default_rng(seed)
    scores = rng.random(units * cells)
    names = [f"S{i // cells}" for i in range(units * cells)]
    return Conformal.from_cells([label] * len(scores), names, scores.tolist(), unit="subject")


@pytest.mark.parametrize(
    ("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.7, 3)]
)
def test_n_units_promise_n_over_n_plus_1(coverage: float, needed: int) -> None:
    assert units_needed(coverage) == needed
    assert needed / (needed + 1) >= coverage - 1e-12 > (needed - 1) / needed - 1e-9


@pytest.mark.parametrize("bad", [0, 1, -1, 1.5, math.nan, math.inf])
def test_an_impossible_coverage_is_refused(bad: float) -> None:
    with pytest.raises(DecisionError, match="no coverage"):
        units_needed(bad)


def test_too_few_subjects_are_said_and_never_replaced_by_cells() -> None:
    """Sixty cells of three people are three units."""
    found, why = of_units(3, 20).predict({"a": 0.1, "b": 0.1}, 0.95, FINE)
    assert found is None
    assert why == "not available: needs 19 subjects per class, has 3"


def test_the_least_p_value_is_1_over_n_plus_1() -> None:
    known = of_units(19)
    assert known.p_value("a", 2.0) == pytest.approx(1 / 20)
    assert known.p_value("a", 0.0) == pytest.approx(1.0)
    assert known.p_value("b", 0.0) is None
    found, _ = known.predict({"a": 2.0}, 0.95, FINE)
    assert found is not None
    assert found.labels == ()  # 1/20 is not above 1 - 0.95


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(-1, 10),
)
@settings(max_examples=100, deadline=None)
def test_p_values_equal_a_naive_count(units: list[list[int]], score: int) -> None:
    known = Conformal("subject", {"a": tuple(tuple(map(float, u)) for u in units)})
    naive = 1 + sum(sum(s >= score for s in u) / len(u) for u in units)
    assert known.p_value("a", score) == pytest.approx(naive / (len(units) + 1))


@pytest.mark.parametrize(("units", "cells"), [(19, 1), (40, 1), (19, 5), (40, 5)])
def test_coverage_of_200_simulated_sets_of_exchangeable_subjects(units: int, cells: int) -> None:
    """Coverage over 200 draws of calibration subjects and one new subject lies in its band.

    Cells of one subject share most of their score, so cells are far from independent.
    """
    rng = np.random.default_rng(units + cells)
    coverage, draws = 0.9, 200

    def subject() -> np.ndarray:
        return np.abs(rng.normal() + 0.3 * rng.normal(size=rng.integers(1, 2 * cells + 1)))

    kept = 0
    for _ in range(draws):
        known = Conformal("subject", {"a": tuple(tuple(subject()) for _ in range(units))})
        found, _ = known.predict({"a": float(rng.choice(subject()))}, coverage, FINE)
        assert found is not None
        kept += "a" in found.labels
    low = binom.ppf(0.0005, draws, coverage)
    assert kept >= low
    if cells == 1:  # for single cells the band has an upper side: coverage + 1 / (n + 1)
        assert kept <= binom.ppf(0.9995, draws, coverage + 1 / (units + 1))


def test_coverage_within_one_calibration_set_is_beta_binomial() -> None:
    """Of one set of 99 calibration cells, 200 new cells: Beta(n + 1 - l, l) coverage."""
    rng = np.random.default_rng(2)
    n, new, outside = 99, 200, 0
    for _ in range(200):
        known = Conformal("cell", {"a": tuple((float(s),) for s in rng.random(n))})
        kept = sum(
            "a" in found.labels
            for s in rng.random(new)
            if (found := known.predict({"a": float(s)}, 0.9, FINE)[0])
        )
        least = math.floor((n + 1) * 0.1)
        band = betabinom(new, n + 1 - least, least)
        outside += not band.ppf(0.005) <= kept <= band.ppf(0.995)
    assert outside <= binom.ppf(0.999, 200, 0.01)


def test_pooling_the_cells_of_subjects_would_break_the_promise() -> None:
    """What the tests above must be able to notice: cells taken for independent units."""
    rng = np.random.default_rng(3)
    kept = 0
    for _ in range(200):
        cells = [(float(abs(rng.normal()) + 1e-3 * abs(rng.normal())),) for _ in range(3)] * 20
        pooled = Conformal("cell", {"a": tuple(cells)})
        found, _ = pooled.predict({"a": float(abs(rng.normal()))}, 0.95, FINE)
        assert found is not None
        kept += "a" in found.labels
    assert kept < binom.ppf(1e-6, 200, 0.95)


class Zero(RegressorMixin, BaseEstimator):
    """Predicts 0, so that the absolute residual is the score itself."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Zero:
        self.fitted_ = True
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


@pytest.mark.parametrize(("n", "coverage"), [(19, 0.9), (57, 0.95), (100, 0.8)])
def test_mapie_draws_the_same_limit_for_single_cells(n: int, coverage: float) -> None:
    scores = np.random.default_rng(n).random(n)
    X = np.zeros((n, 1))
    library = SplitConformalRegressor(Zero().fit(X, scores), confidence_level=coverage, prefit=True)
    library.conformalize(X, scores)
    limit = float(library.predict_interval(X[:1])[1][0, 1, 0])
    known = Conformal("cell", {"a": tuple((float(s),) for s in scores)})
    for score, stays in ((limit - 1e-9, True), (limit + 1e-9, False)):
        found, _ = known.predict({"a": score}, coverage, FINE)
        assert found is not None
        assert ("a" in found.labels) is stays


def test_both_classes_and_neither_are_possible_answers() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(60).tolist()
    labels = ["normal"] * 20 + ["blast (1)"] * 20 + ["blast (2)"] * 20
    known = Conformal.from_cells(labels, [str(i) for i in range(60)], scores, unit="cell")
    near = dict.fromkeys(BLASTS.names, 0.01)
    both, _ = known.predict(near, 0.95, BLASTS)
    neither, _ = known.predict(dict.fromkeys(BLASTS.names, 9.0), 0.95, BLASTS)
    blast, _ = known.predict({**near, "normal": 9.0}, 0.95, BLASTS)
    assert both is not None
    assert neither is not None
    assert blast is not None
    assert both.labels == BLASTS.names
    assert neither.labels == ()
    assert abstention(both, "normal", BLASTS) == ("ambiguous",)
    assert abstention(neither, "normal", BLASTS) == ("unlike",)
    assert abstention(blast, "normal", BLASTS) == ("set",)
    assert abstention(blast, "blast (1)", BLASTS) == ()  # two imaging groups are one verdict
    assert abstention(None, "normal", BLASTS) == ()


def test_a_class_with_few_units_is_not_judged_and_named() -> None:
    labels = ["a"] * 19 + ["b"] * 2
    known = Conformal.from_cells(labels, list(map(str, range(21))), [0.5] * 21, unit="cell")
    found, _ = known.predict({"a": 9.0, "b": 0.1}, 0.95, FINE)
    assert found is not None
    assert found.labels == ()
    assert dict(found.unjudged) == {"b": 2}
    assert found.typical == pytest.approx(1.0)  # it fits class b as well as any cell its own
    assert abstention(found, "a", FINE) == ("unlike",)
    assert abstention(found, "b", FINE) == ()
    far, _ = known.predict({"a": 9.0, "b": 8.0}, 0.95, FINE)
    assert far is not None
    assert far.typical == pytest.approx(1 / 22)  # odder than all 21 units
    assert abstention(far, "b", FINE) == ("unlike",)


def test_at_most_5_percent_of_like_cells_are_called_unlike_all() -> None:
    """The share of fresh cells with a small `typical`, rare classes without units included."""
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(200):
        labels = rng.choice(["a", "b"], 60, p=[0.95, 0.05]).tolist() + ["a"] * 19
        scores = rng.gamma(2.0, size=len(labels)).tolist()
        names = list(map(str, range(len(labels))))
        known = Conformal.from_cells(labels, names, scores, unit="cell")
        own = float(rng.gamma(2.0))
        found, _ = known.predict({"a": own, "b": own + 0.1}, 0.95, FINE)
        assert found is not None
        alarms += found.typical <= 0.05
    assert alarms <= binom.ppf(0.999, 200, 0.05)


def test_a_set_of_one_side_only_is_never_given() -> None:
    """Where no lymphoblast class can be judged, "normal" alone would read as a verdict."""
    known = of_units(30, label="normal")
    found, why = known.predict(dict.fromkeys(BLASTS.names, 0.1), 0.95, BLASTS)
    assert found is None
    assert why == "not available: needs 19 subjects per class, has 0"


def test_conformal_scores_survive_json_and_pickle() -> None:
    known = of_units(5, 3)
    assert Conformal.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert pickle.loads(pickle.dumps(known)) == known
    with pytest.raises(ArtifactError, match="conformal scores cannot be read"):
        Conformal.from_json({"unit": "cell", "note": "", "scores": {"a": [[-1.0]]}})
    with pytest.raises(DecisionError, match="one label, one unit"):
        Conformal.from_cells(["a"], ["x"], [1.0, 2.0], unit="cell")


# --- triage ------------------------------------------------------------------------------------


def decided(label: str, agreement: float, percentile: float | None) -> Decision:
    return Decision(
        query="q",
        label=label,
        clinical=None,
        votes={},
        clinical_votes=None,
        agreement=agreement,
        mean_distance=1.0,
        distance_percentile=percentile,
        calibration_cells=3,
        state="decided",
        tie=None,
        neighbors=(),
    )


def test_triage_counts_missed_blasts_from_the_surest_on() -> None:
    calls = [
        decided("normal", 0.6, 10.0),
        decided("blast (1)", 1.0, 50.0),
        decided("normal", 1.0, 20.0),
        decided("normal", 1.0, 90.0),
    ]
    truth = ["blast (2)", "blast (2)", "normal", "blast (1)"]
    curve = triage(calls, truth, BLASTS)
    assert curve.automatic == (0.25, 0.5, 0.75, 1.0)
    assert curve.missed == pytest.approx((0.0, 0.0, 1 / 3, 2 / 3))
    assert curve.errors == pytest.approx((0.0, 0.0, 1 / 3, 0.5))
    assert (curve.n, curve.blasts) == (4, 3)
    again = triage(calls[::-1], truth[::-1], BLASTS)
    assert again == curve


def test_triage_without_lymphoblasts_counts_errors_only() -> None:
    curve = triage([decided("a", 1.0, None)], ["b"], FINE)
    assert curve.missed is None
    assert curve.errors == (1.0,)
    with pytest.raises(DecisionError, match="triage curve needs"):
        triage([], [], FINE)


def test_equally_sure_cells_are_decided_together() -> None:
    calls = [decided("a", 1.0, 5.0)] * 3
    curve = triage(calls, ["a", "b", "a"], FINE)
    assert curve.automatic == (1.0,)
    assert curve.errors == pytest.approx((1 / 3,))


def test_a_prediction_set_goes_into_the_plain_data_of_a_decision() -> None:
    found = PredictionSet(("a",), 0.95, "cell", {"a": 0.4}, {"b": 2}, 19)
    told = replace(decided("a", 1.0, 5.0), prediction_set=found).to_json()
    assert told["prediction_set"] == ["a"]
    assert (told["coverage"], told["set_unit"]) == (0.95, "cell")
    absent = replace(decided("a", 1.0, 5.0), set_absent="why").to_json()
    assert absent["prediction_set"] is None
    assert absent["set_note"] == "why"
