"""One line first: the rule, its words, and how often a sure call is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_report import BLASTS, PBC, decision_of

from cellkin.core.decisions import SAME_IMAGE, HeadCall, Novelty, PredictionSet
from cellkin.core.errors import DecisionError
from cellkin.core.records import Decision
from cellkin.core.sureness import DOUBTS, MISFIT, MISFITS, SURE, UNSURE, most_misfit, sureness
from cellkin.measures.sure import sure_calls
from cellkin.report.first_line import FIRST, sure_words, sureness_json
from cellkin.report.telling import tell


def known(*labels: str, **changes: Any) -> PredictionSet:
    return replace(PredictionSet(labels, 0.95, "cell", {}, {}, 19), **changes)


def call(**changes: Any) -> Decision:
    told = {"prediction_set": known("basophil"), **changes}
    return decision_of(PBC, ["basophil"] * 3, "basophil", **told)


def beside(near: str, *, unknown: bool = False) -> Novelty:
    return Novelty(0.5, 0.5, near, unknown)


SPEAKS: dict[str, dict[str, Any]] = {
    "quality": {"quality": ("out of focus",), "reasons": ("quality",)},
    "unlike": {"prediction_set": known(), "reasons": ("unlike",)},
    "unknown": {"novelty": beside("basophil", unknown=True), "reasons": ("unknown",)},
    "tied": {"tie": "label", "state": "tied"},
    "dissent": {"agreement": 2 / 3},
    "ambiguous": {"prediction_set": known("basophil", "ig"), "reasons": ("ambiguous",)},
    "set": {"prediction_set": known("ig"), "reasons": ("set",)},
    "head": {"head": HeadCall("ig", 0.9)},
    "second space": {"novelty": beside("ig")},
    "far": {"distance_percentile": 95.0},
    "distance not judged": {"distance_percentile": None},
    "class not judged": {"prediction_set": known("ig", unjudged={"basophil": 3})},
    "no promise": {"prediction_set": None, "set_absent": "not available: needs 19 subjects"},
    "itself": {"neighbors": (replace(call().neighbors[0], twin=SAME_IMAGE),)},
}


def test_nothing_against_it_is_sure_and_what_is_not_there_does_not_count() -> None:
    full = call(head=HeadCall("basophil", 0.9), novelty=beside("basophil"), quality=())
    for decision in (full, call()):
        told = tell(decision, PBC)
        assert sureness(decision, PBC).state == SURE
        assert (told.line, told.because) == ("Sure: basophil.", ())


@pytest.mark.parametrize("name", [*MISFITS, *DOUBTS])
def test_every_reason_by_itself_changes_the_line_and_has_its_clause(name: str) -> None:
    decision = call(**SPEAKS[name])
    found, told = sureness(decision, PBC), tell(decision, PBC)
    assert found.because == (name,)
    assert found.state == (MISFIT if name in MISFITS else UNSURE)
    assert told.because[0] in told.line
    begins = "Does not fit this atlas because" if name in MISFITS else "Unsure: basophil, because"
    assert told.line.startswith(begins)
    assert ("do not use the call (basophil)" in told.line) is (name in MISFITS)


def test_a_cell_that_does_not_fit_says_no_doubts_beside_it() -> None:
    decision = call(**{**SPEAKS["head"], **SPEAKS["quality"]})
    assert sureness(decision, PBC).because == ("quality",)


def test_an_atlas_of_few_people_is_never_sure_and_says_what_else_there_is() -> None:
    """Of a new person nothing can be promised; the line tells whether that is all."""
    alone = tell(call(**SPEAKS["no promise"]), PBC).line
    assert "(needs 19 subjects); nothing else speaks against it." in alone
    more = tell(call(**SPEAKS["no promise"], **SPEAKS["head"]), PBC)
    assert "nothing else" not in more.line
    assert len(more.because) == 2


def test_a_line_is_one_line_and_the_rest_is_counted() -> None:
    many = call(**SPEAKS["far"], **SPEAKS["head"], **SPEAKS["dissent"], **SPEAKS["second space"])
    told = tell(many, PBC)
    assert len(told.because) == 4
    assert told.line.endswith(" and 2 more reasons.")
    assert all((clause in told.line) is (i < FIRST) for i, clause in enumerate(told.because))
    data = sureness_json(many, PBC)
    assert (data["sureness"], data["line"]) == (UNSURE, told.line)
    assert data["because"] == ["dissent", "head", "second space", "far"]


def test_kinds_of_lymphoblasts_are_one_verdict() -> None:
    """Another kind of lymphoblast by head or second space speaks for the call, not against it."""
    told = {"prediction_set": known("lymphoblast (1)"), "head": HeadCall("lymphoblast (2)", 0.9)}
    blast = decision_of(BLASTS, ["lymphoblast (1)"] * 3, "lymphoblast (1)", **told)
    assert sureness(blast, BLASTS).state == SURE
    other = replace(blast, novelty=beside("normal"), head=HeadCall("normal", 0.9))
    assert sureness(other, BLASTS).because == ("head", "second space")


def test_a_class_that_the_atlas_does_not_name_speaks_against_the_call() -> None:
    assert sureness(call(head=HeadCall("no such class", 0.9)), PBC).because == ("head",)


def test_sure_calls_are_counted_and_told() -> None:
    cells = [call(), call(), call(**SPEAKS["far"]), call(**SPEAKS["quality"])]
    found = sure_calls(cells, ["basophil", "ig", "ig", "basophil"], PBC)
    assert found.to_json() == {"cells": 4, "wrong": 2, "sure": 2, "wrong_sure": 1, "misfit": 1,
                               "wrong_misfit": 0}  # fmt: skip
    assert sure_words(found.to_json()).startswith("Of 4 held-out cells of this atlas 2 (50 %)")
    assert sure_words(None) == ""
    assert sure_words(sure_calls(cells[2:], ["ig", "ig"], PBC).to_json()) == ""
    with pytest.raises(DecisionError, match="true class"):
        sure_calls(cells, ["ig"], PBC)


@pytest.mark.parametrize(("unfit", "cells", "said"), [(0, 0, 0), (5, 10, 0), (6, 10, 1)])
def test_a_case_says_once_that_most_of_it_does_not_fit(unfit: int, cells: int, said: bool) -> None:
    assert most_misfit(unfit, cells) is bool(said)
