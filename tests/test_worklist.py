"""The rules of the worklist: held cells, order, flags, the differential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from storing import BLAST, LABELS
from storing import decision as plain

from cellkin.core.errors import DecisionError, LabelError
from cellkin.core.kinds import kind
from cellkin.core.records import Decision, LabelSet
from cellkin.core.sureness import FAR
from cellkin.measures.differential import (
    SELECTED,
    Counted,
    differential,
)
from cellkin.measures.intervals import clopper_pearson
from cellkin.web.worklist import FLAGS, REASONS, CaseFacts, case_flags, held_reasons, worry

PBC = LabelSet(
    ("neutrophil", "ig", "erythroblast"),
    dict.fromkeys(("neutrophil", "ig", "erythroblast"), "other cell"),
    {"ig": "immature granulocyte"},
)


def decision(label: str = "neutrophil", **changes: Any) -> Decision:
    return Decision.from_json(plain(label, **changes))


def kin(*labels: str) -> list[dict[str, Any]]:
    return [
        {"id": str(k), "label": label, "subject": None, "distance": 1.0, "rank": k}
        for k, label in enumerate(labels, 1)
    ]


# kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", "nothing"),
        ("neutrophil", "leukocyte"),
        ("ig", "immature granulocyte"),
        ("erythroblast", "erythroblast"),
        ("platelet", "platelet"),
        (BLAST, "lymphoblast"),
    ],
)
def test_kinds_of_classes(name: str, expected: str) -> None:
    assert kind(name, LABELS) == expected


@pytest.mark.parametrize("name", ["myelocyte", "Promyelocyte", "metamyelocytes", "myeloblast"])
def test_immature_granulocytes_by_their_own_names(name: str) -> None:
    labels = LabelSet((name, "x"), {name: "other cell", "x": "other cell"})
    assert kind(name, labels) == "immature granulocyte"
    assert kind("x", labels) == "leukocyte"


def test_imaging_groups_are_one_class_to_a_reader() -> None:
    assert LABELS.group_title(BLAST) == "lymphoblast"
    assert LABELS.group_title("ig") == "immature granulocyte"
    with pytest.raises(LabelError):
        kind("unknown", LABELS)


# held cells -------------------------------------------------------------------------------------


def test_a_sure_neutrophil_is_not_held() -> None:
    assert held_reasons(decision(), {"reasons": []}, LABELS) == ()
    assert held_reasons(decision(), {}, LABELS) == ()


CASES = {
    "lymphoblast proposed": decision(BLAST),
    "lymphoblast among neighbours": decision(neighbors=kin("neutrophil", BLAST, "neutrophil")),
    "lymphoblast in set": decision(prediction_set=["neutrophil", BLAST]),
    "failed quality": decision(quality=["out of focus"], reasons=["quality"], state="abstained"),
    "nothing proposed": decision("nothing"),
    "immature granulocyte proposed": decision("ig"),
    "erythroblast proposed": decision("erythroblast"),
    "no class fits": decision(reasons=["unlike"], prediction_set=[]),
    "set disagrees": decision(reasons=["ambiguous"]),
    "head disagrees": decision(head={"label": "ig", "probability": 0.6}),
    "tied": decision(state="tied", tie="label"),
    "far": decision(distance_percentile=FAR),
    "distance not judged": decision(distance_percentile=None),
}


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_holds_a_cell(reason: str) -> None:
    """Each rule of the specification, by itself, on a cell that is otherwise sure."""
    assert reason in held_reasons(CASES[reason], {}, LABELS)


def test_the_gate_alone_holds_a_cell() -> None:
    assert held_reasons(decision(), {"reasons": ["empty"]}, LABELS) == ("failed quality",)


def test_just_below_far_is_not_far() -> None:
    assert held_reasons(decision(distance_percentile=FAR - 0.01), {}, LABELS) == ()


def test_an_atlas_without_lymphoblasts_still_holds_its_immature_cells() -> None:
    told = decision(clinical_votes=None, clinical=None)
    assert held_reasons(told, {}, PBC) == ()
    told = replace(told, label="ig", neighbors=(), head=None, prediction_set=None)
    assert held_reasons(told, {}, PBC) == ("immature granulocyte proposed",)


def test_a_class_that_the_atlas_does_not_have_is_an_error() -> None:
    with pytest.raises(LabelError):
        held_reasons(replace(decision(), label="ghost"), {}, LABELS)


decisions = st.builds(
    lambda label, near, chosen, at, agreement, head, why, tie: decision(
        label,
        neighbors=kin(*near),
        prediction_set=chosen,
        distance_percentile=at,
        agreement=agreement,
        head=None if head is None else {"label": head, "probability": 0.5},
        reasons=why,
        tie=tie,
    ),
    st.sampled_from(LABELS.names),
    st.lists(st.sampled_from(LABELS.names), min_size=1, max_size=5),
    st.none() | st.lists(st.sampled_from(LABELS.names), unique=True),
    st.none() | st.floats(0, 100),
    st.floats(0, 1),
    st.none() | st.sampled_from(LABELS.names),
    st.lists(st.sampled_from(["unlike", "ambiguous", "set", "quality"]), unique=True),
    st.sampled_from([None, None, "label", "clinical"]),
)


@given(decisions)
@settings(max_examples=200, deadline=None)
def test_whatever_smells_of_a_lymphoblast_is_held(told: Decision) -> None:
    named = {told.label, *(n.label for n in told.neighbors)}
    named |= set(told.prediction_set.labels if told.prediction_set else ())
    reasons = held_reasons(told, {}, LABELS)
    if BLAST in named:
        assert reasons
    assert list(reasons) == [name for name in REASONS if name in reasons]


@given(decisions, decisions)
@settings(max_examples=200, deadline=None)
def test_a_graver_reason_always_comes_first(one: Decision, two: Decision) -> None:
    first, second = held_reasons(one, {}, LABELS), held_reasons(two, {}, LABELS)
    order = list(REASONS)

    def rank(reasons: tuple[str, ...]) -> int:
        return min((order.index(r) for r in reasons), default=len(order))

    anxiety = worry(one, first), worry(two, second)
    if rank(first) < rank(second):
        assert anxiety[0] > anxiety[1]
    assert all(0 <= value < len(order) + 1 for value in anxiety)


def test_among_equals_the_less_agreed_and_the_farther_comes_first() -> None:
    sure = worry(decision(), ())
    assert worry(decision(agreement=0.6), ()) > sure
    assert worry(decision(distance_percentile=80.0), ()) > sure


# flags ------------------------------------------------------------------------------------------


def facts(**changes: Any) -> CaseFacts:
    plain = {"reasons": frozenset(), "to_confirm": 0, "cells": 200, "duplicates": 0}
    return CaseFacts(**{**plain, "specimen": None, **changes})


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"reasons": frozenset({"lymphoblast proposed"})}, "lymphoblast proposed"),
        ({"to_confirm": 1}, "held cells"),
        ({"reasons": frozenset({"failed quality"})}, "poor quality"),
        ({"reasons": frozenset({"far"})}, "far"),
        ({"reasons": frozenset({"no class fits"})}, "far"),
        ({"specimen": "Blood", "atlas_specimens": ("marrow",)}, "other specimen"),
        ({"duplicates": 1}, "duplicates"),
        ({"cells": 99}, "fewer than 100 cells"),
    ],
)
def test_each_flag_by_itself(changes: dict[str, Any], flag: str) -> None:
    assert case_flags(facts()) == ()
    assert case_flags(facts(**changes)) == (flag,)
    assert flag in FLAGS


@pytest.mark.parametrize(
    ("own", "atlases"),
    [(None, ("marrow",)), ("blood", (None,)), ("blood", ()), (" Blood", ("blood ",))],
)
def test_no_warning_of_another_specimen_where_none_is_known(
    own: str | None, atlases: tuple[str | None, ...]
) -> None:
    assert case_flags(facts(specimen=own, atlas_specimens=atlases)) == ()


# the differential -------------------------------------------------------------------------------


@given(st.integers(1, 400), st.data())
@settings(max_examples=60, deadline=None)
def test_intervals_are_clopper_and_pearsons(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    exact = binomtest(count, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(count, n).ends == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("true", [0.02, 0.3, 0.5, 0.97])
def test_intervals_hold_the_truth_as_often_as_promised(true: float) -> None:
    n = 60
    held = sum(
        binom.pmf(count, n, true)
        for count in range(n + 1)
        if (ends := clopper_pearson(count, n).ends)[0] <= true <= ends[1]
    )
    assert held >= 0.95


def test_no_cells_say_nothing() -> None:
    with pytest.raises(DecisionError, match="no Clopper-Pearson interval"):
        clopper_pearson(0, 0)
    empty = differential([], consecutive=True)
    assert (empty.n, empty.rows, empty.per_100) == (0, (), None)


def cell(name: str, disposition: str = "cell") -> Counted:
    return Counted(LABELS.group_title(name), kind(name, LABELS), disposition)


def test_only_leukocytes_are_counted() -> None:
    made = differential(
        [
            *[cell("neutrophil")] * 6,
            *[cell(BLAST)] * 3,
            cell("ig"),
            *[cell("erythroblast")] * 2,
            *[cell("platelet")] * 4,
            cell("nothing"),
            cell("neutrophil", "smudge cell"),
            cell(BLAST, "artefact"),
            cell(BLAST, "artefact"),
            cell("erythroblast", "unidentifiable"),
        ],
        consecutive=True,
    )
    assert [(row.title, row.n) for row in made.rows] == [
        ("neutrophil", 6),
        ("lymphoblast", 3),
        ("immature granulocyte", 1),
    ]
    assert made.n == 10
    assert (made.erythroblasts, made.per_100) == (2, 20.0)
    assert made.excluded == {
        "artefact": 2,
        "nothing": 1,
        "platelet": 4,
        "smudge cell": 1,
        "unidentifiable": 1,
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(LABELS.names),
            st.sampled_from(["cell", "cell", "smudge cell", "artefact", "unidentifiable"]),
        )
    )
)
@settings(deadline=None)
def test_every_object_is_counted_once(objects: list[tuple[str, str]]) -> None:
    made = differential([cell(*item) for item in objects], consecutive=False)
    assert made.n == sum(row.n for row in made.rows)
    assert made.n + made.erythroblasts + sum(made.excluded.values()) == len(objects)
    assert sum(row.share for row in made.rows) == pytest.approx(1.0 if made.n else 0.0)
    assert all(row.low <= row.share <= row.high for row in made.rows)


@pytest.mark.parametrize(
    ("n", "consecutive", "words"),
    [
        (1, True, ["1 white cell was"]),
        (99, True, ["fewer than 100"]),
        (100, True, ["200 are preferred"]),
        (199, True, ["200 are preferred"]),
        (200, True, []),
        (200, False, ["Selected cells: not a differential"]),
        (99, False, ["Selected cells", "fewer than 100"]),
    ],
)
def test_what_must_be_said_with_the_counts(n: int, consecutive: bool, words: list[str]) -> None:
    said = differential([cell("neutrophil")] * n, consecutive=consecutive).warnings
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))
    assert (SELECTED in said) is not consecutive


def test_no_share_of_lymphoblasts_says_a_diagnosis() -> None:
    """The words do not depend on the share: there is no threshold."""
    for blasts in (0, 20, 25, 200):
        cells = [cell(BLAST)] * blasts + [cell("neutrophil")] * (200 - blasts)
        assert differential(cells, consecutive=True).warnings == ()
