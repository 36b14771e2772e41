"""What a page says first: counter-evidence, flips, sets and shares; and what it refuses to draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import BLASTS, PBC, basophil_evidence, decision_of, evidence_of, page_of

from cellkin.core.records import (
    Contrast,
    ContrastMap,
    CounterEvidence,
    DifferenceMap,
    Evidence,
    HeadCall,
    Influence,
    Neighbor,
    PairMap,
    PredictionSet,
)
from cellkin.report import scatter, telling
from cellkin.report.heatmaps import overlay, shared_scale
from cellkin.report.telling import sentence
from cellkin.report.triage import triage_view
from cellkin.report.words import trust_words
from cellkin.web.evidence import evidence_json


def influence(k: int, **changes: Any) -> Influence:
    values: dict[str, Any] = {
        "shares": (0.21,) * k,
        "other_shares": 1 - 0.21 * k,
        "removals": 4,
        "removed": ("a", "b", "c", "d"),
        "relabellings": 2,
        "relabelled": ("a", "b"),
    }
    return Influence(**{**values, **changes})


def full(evidence: Evidence, error: float = 1e-7) -> Evidence:
    """With differences, two opponents and influence."""
    rng = np.random.default_rng(3)
    ids = [n.id for n in evidence.decision.neighbors]

    def difference(name: str) -> DifferenceMap:
        maps = rng.normal(size=(2, 7, 7))
        return DifferenceMap("q", name, maps[0], maps[1], 1.234, error)

    def pair(name: str) -> PairMap:
        return PairMap("q", name, rng.normal(size=(7,) * 4).astype(np.float32), 0.5, error)

    names = ("foe/1.png", "foe/2.png")
    against = CounterEvidence(
        "another class",
        tuple(Neighbor(n, "ig", 1.75 + i, i + 1) for i, n in enumerate(names)),
        tuple(rng.integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)),
        tuple(map(pair, names)),
        tuple(map(difference, names)),
    )
    return replace(
        evidence,
        differences=tuple(map(difference, ids)),
        counter=against,
        influence=influence(len(ids)),
    )


def test_the_first_view_holds_what_speaks_against_the_verdict(tmp_path: Path) -> None:
    html, tags = page_of(full(basophil_evidence()), tmp_path)
    first = html[: html.index('id="gradcam"')]
    for wanted in (
        "Against it: nearest of the other side", "foe/1.png", "1.75", "share of support",
        "+21.0 %", "4 removed or 2 relabelled", "not available", "class head",
    ):  # fmt: skip
        assert wanted.lower() in first.lower()
    assert "foe/2.png" not in html  # five kin leave room for one
    said = tags.words()
    assert "removing 4 reference cells that support it would change or tie the call" in said
    assert "What makes them differ" in said
    assert said.count("squared distance") == 6


def contrasted(evidence: Evidence, outline: object, error: float = 1e-7) -> Evidence:
    """With a contrast whose positive part lies in the left half, and outlines of every cell."""
    values = np.hstack([np.ones((4, 2)), -np.ones((4, 2))])
    names = [n.id for n in (*evidence.decision.neighbors, *evidence.counter.neighbors)]  # type: ignore[union-attr]
    maps = [ContrastMap(name, values, 3.21, error) for name in ("q", *names)]
    why = Contrast(tuple(names[:3]), ("foe",), "squared distance", maps[0], tuple(maps[1:]), ())
    return replace(evidence, contrast=why, outlines=(outline,) * len(maps))  # type: ignore[arg-type]


LEFT = np.arange(32)[None].repeat(32, axis=0) < 16


@pytest.mark.parametrize(
    ("outline", "said"),
    [
        (LEFT, "100 % inside the cell"),
        (~LEFT, "only 0 % inside the cell: it points elsewhere"),
        (None, "no outline of the cell was found"),
    ],
)
def test_the_contrast_comes_first_and_says_how_much_is_inside(
    outline: Any, said: str, tmp_path: Path
) -> None:
    evidence = contrasted(full(basophil_evidence()), outline)
    html, _ = page_of(evidence, tmp_path)
    first = html[html.index('id="why"') : html.index('id="sure"')]
    assert first.count(said) == 1 + 5 + 1  # the query, its kin, the one against it
    assert first.count("margin <span") == 7
    assert (
        html.index('id="why"')
        < html.index("<details")
        < html.index('id="sure"')
        < html.index('id="gradcam"')
    )
    start = html.index("<summary>More maps")
    more = html[start : html.index("</details>", start)]
    for one in ("gradcam", "pairs", "differences"):
        assert f'id="{one}"' in more
    told = evidence_json(evidence, {"id": "q", "image": ""})
    assert [m["inside"] for m in (told["contrast"]["query"], *told["contrast"]["references"])] == (
        [said] * 8
    )
    assert told["limits"]["contrast"] == 1
    assert all((corners is None) == (outline is None) for corners in told["outlines"])


def test_a_contrast_that_does_not_add_up_is_not_drawn(tmp_path: Path) -> None:
    evidence = contrasted(full(basophil_evidence()), LEFT, error=3e-3)
    html, _ = page_of(evidence, tmp_path)
    first = html[html.index('id="why"') : html.index('id="sure"')]
    assert first.count("alt=") == 7  # and no colour bar
    assert first.count('class="empty">refused: it does not add up') == 7
    assert evidence_json(evidence, {"id": "q", "image": ""})["contrast"]["query"]["values"] is None


def test_outside_of_its_cell_a_map_is_faint() -> None:
    image, values = np.full((32, 32, 3), 200, np.uint8), np.ones((4, 4))
    scale = shared_scale([values], signed=True)
    whole, cut = overlay(image, values, scale, 64), overlay(image, values, scale, 64, LEFT)
    left, right = (slice(8, 56), slice(4, 24)), (slice(8, 56), slice(40, 60))
    assert np.array_equal(whole[left], cut[left])
    faint, full_ = (np.abs(a[right].astype(int) - 200).mean() for a in (cut, whole))
    assert 0.15 * full_ < faint < 0.4 * full_


def test_few_kin_leave_room_for_two_opponents(tmp_path: Path) -> None:
    evidence = evidence_of(decision_of(PBC, ["basophil"] * 3, "basophil"), PBC)
    assert "foe/2.png" in page_of(full(evidence), tmp_path)[0]


def test_a_map_that_does_not_add_up_is_named_and_not_drawn(tmp_path: Path) -> None:
    _, tags = page_of(full(basophil_evidence(), error=3e-3), tmp_path)
    said = tags.words()
    assert said.count("refused: it does not add up to what it explains") == 6 + 1
    alts = [str(a["alt"]) for t, a in tags.found if t == "img"]
    assert sum("refused" in alt for alt in alts) == 2 * 7


def test_cells_of_the_own_subject_are_said_to_be_left_out(tmp_path: Path) -> None:
    decision = decision_of(PBC, ["basophil"] * 3, "basophil", left_out=12)
    _, tags = page_of(evidence_of(decision, PBC), tmp_path)
    assert "12 reference cells of this cell’s own subject were left out." in tags.words()


@pytest.mark.parametrize(
    ("labels", "unjudged", "said"),
    [
        (("normal", "lymphoblast (1)", "lymphoblast (2)"), {}, "normal or lymphoblast"),
        ((), {}, "none: unlike anything in this atlas"),
        (("normal",), {"monocyte": 3}, "normal"),
    ],
)
def test_prediction_sets_in_words(
    labels: tuple[str, ...], unjudged: dict[str, int], said: str
) -> None:
    found = PredictionSet(labels, 0.95, "subject", {}, unjudged, 19)
    decision = decision_of(BLASTS, ["normal"] * 3, "normal", prediction_set=found)
    short, notes = telling.tell(decision, BLASTS).prediction_set
    assert short == said
    assert notes.startswith("95 % by subject")
    assert ("fewer than 19 calibration subjects: monocyte (3)" in notes) is bool(unjudged)


def test_abstention_is_a_warning_in_the_head_of_the_page(tmp_path: Path) -> None:
    found = PredictionSet((), 0.95, "cell", {}, {}, 19)
    decision = decision_of(
        PBC, ["basophil"] * 3, "basophil", prediction_set=found, state="abstained",
        reasons=("unlike",),
    )  # fmt: skip
    html, tags = page_of(evidence_of(decision, PBC), tmp_path)
    head = html[: html.index("</header>")]
    assert "Does not fit this atlas because it is unlike every class of it: do not use" in head
    assert "not to be used" in tags.words()


def test_the_head_agrees_or_not() -> None:
    labels = BLASTS
    for name, said in (("lymphoblast (2)", "agrees"), ("normal", "disagrees")):
        decision = decision_of(
            labels, ["lymphoblast (1)"] * 3, "lymphoblast (1)", head=HeadCall(name, 0.81)
        )
        assert telling.tell(decision, labels).head == (said, f"the class head says {name} (81 %)")


def test_flips_in_words() -> None:
    decision = decision_of(PBC, ["basophil"] * 3, "basophil")

    def flip(**changes: Any) -> tuple[str, str]:
        return telling.tell(decision, PBC, influence(3, **changes)).flip

    assert flip(removals=0)[0] == "tied already"
    assert flip(removals=None)[0] == "cannot flip or 2 relabelled"
    assert flip(removals=1, relabellings=None) == (
        "1 removed", "removing 1 reference cell that supports it would change or tie the call",
    )  # fmt: skip
    assert telling.share_words(-0.031) == "−3.1 %"
    assert telling.share_words(0.0001) == "0 %"


def test_outlines_hold_three_quarters_of_a_class() -> None:
    evidence = basophil_evidence()
    view = scatter.map_view(evidence, 640, 500)
    outlines = dict(view.outlines)
    lines = outlines[0]  # 44 basophils
    assert lines
    for line in lines:
        assert line.shape[1] == 2
        assert (line >= 0).all()
    assert outlines[2] == ()  # one immature granulocyte is no cloud
    assert scatter.map_view(evidence, 340, 340, closeup=True).outlines == ()
    assert scatter.outline_path([np.array([[0, 1], [2, 3.25]])]) == "M0.0,1.0L2.0,3.2"


def test_triage_in_a_picture() -> None:
    curve = {"automatic": [0.5, 1.0], "errors": [0.0, 0.02], "missed": [0.0, 0.04], "n": 50,
             "blasts": 25}  # fmt: skip
    view = triage_view(curve)
    assert view is not None
    assert view["words"] == (
        "The surest 50.0 % of the cells are decided before a lymphoblast is missed."
    )
    assert [line["class"] for line in view["lines"]] == ["errors", "missed"]
    assert view["y_ticks"][-1][1] == "5 %"
    assert triage_view(None) is None


def test_trust_in_words() -> None:
    assert "not measured" in trust_words(None)
    said = trust_words({"trustworthiness": 0.9871, "neighbors": 15, "cells": 90})
    assert "0.987 of 1" in said


def test_page_workstation_and_command_line_say_the_same(tmp_path: Path) -> None:
    """Every sentence of a telling is on the page and in the JSON; the line holds what it says."""
    found = PredictionSet(("normal",), 0.9, "subject", {"normal": 0.4}, {"monocyte": 3}, 9, "drawn")
    faults: dict[str, Any] = {"quality": ("out of focus",), "reasons": ("quality", "set")}
    told: dict[str, Any] = {**faults, "prediction_set": found, "left_out": 4, "state": "abstained"}
    decision = decision_of(BLASTS, ["lymphoblast (1)"] * 2 + ["normal"], "lymphoblast (1)", **told)
    evidence = replace(evidence_of(decision, BLASTS), influence=influence(3))
    said = telling.tell(decision, BLASTS, evidence.influence)
    answers = (*said.prediction_set, *said.head)
    sentences = (
        *said.verdict,
        said.agreement,
        said.percentile,
        *said.because,
        said.line,
        said.left_out,
    )
    page = page_of(evidence, tmp_path)[1].words()
    sent = evidence_json(evidence, {})["confidence"]
    for words in (*sentences, *answers, *said.flip, said.rest):
        assert words in page
        assert words in str(sent)
    line = sentence(decision, BLASTS)
    for words in (said.line, said.percentile, *said.because, *said.prediction_set):
        assert words in line
