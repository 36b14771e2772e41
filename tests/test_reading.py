"""Plain data back to records: what `to_json` wrote is read, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storing import decision as plain

from cellkin.core.decisions import (
    NEAR_COPY,
    QUALITY,
    SAME_IMAGE,
    Decision,
    HeadCall,
    Neighbor,
    PredictionSet,
)
from cellkin.core.errors import ArtifactError
from cellkin.core.records import Provenance

names = st.text(min_size=1, max_size=8)
twins = st.sampled_from(["", SAME_IMAGE, NEAR_COPY])
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.dictionaries(names, st.integers(0, 9), max_size=3)
sets = st.builds(
    PredictionSet,
    st.lists(names, max_size=3).map(tuple),
    finite,
    names,
    st.dictionaries(names, finite, max_size=3),
    counts,
    st.integers(0, 50),
    st.text(max_size=5),
    finite,
)
decisions = st.builds(
    Decision,
    query=names,
    label=names,
    clinical=st.none() | names,
    votes=counts,
    clinical_votes=st.none() | counts,
    agreement=finite,
    mean_distance=finite,
    distance_percentile=st.none() | finite,
    calibration_cells=st.integers(0, 99),
    state=names,
    tie=st.none() | names,
    neighbors=st.lists(
        st.builds(Neighbor, names, names, finite, st.integers(1, 9), st.none() | names, twins),
        max_size=3,
    ).map(tuple),
    head=st.none() | st.builds(HeadCall, names, finite),
    prediction_set=st.none() | sets,
    set_absent=st.just(""),
    subject=st.none() | names,
    left_out=st.integers(0, 9),
    reasons=st.lists(names, max_size=2).map(tuple),
    quality=st.none() | st.lists(st.sampled_from(list(QUALITY)), max_size=2).map(tuple),
)
PROVENANCE = Provenance("0.1", "imagenet", "a" * 8, "quick", 3, "2026-01-01T00:00:00", drawn=True)


@settings(max_examples=60, deadline=None)
@given(decisions, st.text(max_size=5))
def test_a_decision_comes_back_from_its_json(made: Decision, absent: str) -> None:
    if made.prediction_set is None:
        made = replace(made, set_absent=absent)
    assert Decision.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_decision_of_an_earlier_version_is_read() -> None:
    told = plain()
    del told["set_needed"]  # it did not say how many units a class needs
    found = Decision.from_json(told)
    assert found.prediction_set is not None
    assert found.to_json() == {**told, "set_needed": 0, "novelty": None}


def test_provenance_comes_back_from_its_json() -> None:
    assert Provenance.from_json(json.loads(json.dumps(PROVENANCE.to_json()))) == PROVENANCE


WRONG = {str: 7, float: "0.5", int: "3", bool: 1, list: "abc", dict: [1], type(None): object()}
STRANGER = {"verdict": "healthy"}


def broken(told: dict[str, Any]) -> list[Any]:
    """The same data with each of its values of another type, with a stranger, and no data."""
    changed: list[Any] = [{**told, key: WRONG[type(value)]} for key, value in told.items()]
    return [*changed, {**told, **STRANGER}, None, [], "text", 3]


@pytest.mark.parametrize("data", broken(Decision.from_json(plain()).to_json()))
def test_what_is_no_decision_is_refused(data: Any) -> None:
    with pytest.raises(ArtifactError, match="this is no "):
        Decision.from_json(data)


@pytest.mark.parametrize("data", broken(PROVENANCE.to_json()))
def test_what_is_no_provenance_is_refused(data: Any) -> None:
    with pytest.raises(ArtifactError, match="this is no provenance"):
        Provenance.from_json(data)


OPTIONAL = {
    "reasons",
    "quality",
    "subject",
    "left_out",
    "head",
    "prediction_set",
    "set_needed",
    "set_note",
}


@pytest.mark.parametrize("key", sorted(set(plain()) - OPTIONAL))
def test_nothing_of_a_decision_may_be_missing(key: str) -> None:
    told = {name: value for name, value in plain().items() if name != key}
    with pytest.raises(ArtifactError, match="this is no "):
        Decision.from_json(told)
