"""Nobody signs what they did not see; many cells at once; a case that does not fit; uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from storing import ANNA, BEN, BLAST, Clock, decide_all, every_cell, filled, fresh, ids, new_cell
from workstation import Workstation, upload

from cellkin.web.reporting import report_html
from cellkin.web.store import NotFound, Refused, Rules, Store
from cellkin.web.worklist.flags import MISFIT
from cellkin.web.worklist.misfit import EXPECTED, LEAST, misfit


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = fresh(tmp_path / "s", clock)
    yield opened
    assert opened.verify_log().faults == ()
    opened.close()


# seeing -----------------------------------------------------------------------------------------


def test_what_was_seen_and_opened_belongs_to_the_person(store: Store) -> None:
    case, cells = filled(store)
    store.seen(ANNA, case.id, ids(cells))
    store.opened(ANNA, cells[0].id)
    assert [c.seen for c in store.cells(case.id, by="anna")[0]] == [True] * len(cells)
    assert [c.seen for c in store.cells(case.id, by="ben")[0]] == [False] * len(cells)
    assert store.cell(cells[0].id, by="anna").opened
    assert not store.cell(cells[0].id, by="ben").opened
    assert store.case(case.id, by="ben").unseen == 4
    assert store.case(case.id, by="anna").unseen == 0
    entries = [e for e in store.log(case=case.id)[0] if e.action in ("cells seen", "cell opened")]
    assert {e.user for e in entries} == {"anna"}


def test_a_held_cell_is_looked_at_for_a_while_by_whoever_decides(
    store: Store, clock: Clock
) -> None:
    case, cells = filled(store, plain=1, blasts=1)
    blast, plain = cells
    store.rules = Rules(least_view=2.0)
    for wait, by in ((None, ANNA), (1.9, ANNA), (2.1, BEN)):
        if wait is not None:
            store.opened(ANNA, blast.id)
            clock.move(seconds=wait)
        with pytest.raises(Refused, match="looked at before they are decided"):
            store.review(by, blast.id, case.version, label=BLAST)
    _, case = store.review(ANNA, blast.id, case.version, label=BLAST)
    store.review(ANNA, plain.id, case.version, label=plain.proposed)  # others need no while


def test_changes_of_what_was_seen_beside_the_log_are_found(store: Store, tmp_path: Path) -> None:
    import sqlite3

    case, cells = filled(store)
    store.seen(ANNA, case.id, ids(cells))
    base = sqlite3.connect(tmp_path / "s")
    for change, back in (
        ("UPDATE views SET opened = seen", "UPDATE views SET opened = NULL"),
        ("UPDATE views SET user = 'ben'", "UPDATE views SET user = 'anna'"),
        ("UPDATE cases SET accepted_by = 'ben'", "UPDATE cases SET accepted_by = NULL"),
    ):
        base.execute(change)
        base.commit()
        assert store.verify_log().faults, change
        base.execute(back)
        base.commit()
    base.close()


# many at once -----------------------------------------------------------------------------------


def test_many_cells_change_class_with_one_reason_and_come_back_with_one_undo(store: Store) -> None:
    case, cells = filled(store, plain=5, blasts=2)
    held, plain = cells[:2], cells[2:]
    verdict = {"label": "ig", "reason": "granules"}
    with pytest.raises(Refused, match="looked at before"):
        store.review_many(ANNA, (case.id, case.version), ids(cells), verdict)
    for cell in held:
        store.opened(ANNA, cell.id)
    found, case = store.review_many(ANNA, (case.id, case.version), ids(cells), verdict)
    assert {(c.final, c.reason, c.reviewed_by) for c in found} == {("ig", "granules", "anna")}
    assert [c.confirmed for c in found] == ["singly"] * 2 + ["together"] * 5
    assert case.finals == {"ig": 7}
    back, case = store.undo(ANNA, case.id, case.version)
    assert {c.state for c in back} == {"proposed"}
    named = {"label": plain[0].proposed}  # the class that was proposed: no reason needed
    found, case = store.review_many(ANNA, (case.id, case.version), ids(plain), named)
    assert {c.state for c in found} == {"confirmed"}


def test_a_house_may_ask_no_reason_for_routine_but_always_for_grave_changes(store: Store) -> None:
    case, cells = filled(store, plain=2, blasts=1)
    blast, one, two = cells
    with pytest.raises(Refused, match="needs a reason"):
        store.review(ANNA, one.id, case.version, label="ig")
    store.rules = Rules(routine_reasons=False)
    _, case = store.review(ANNA, one.id, case.version, label="ig")
    for cell, label in ((blast, "ig"), (two, BLAST)):
        with pytest.raises(Refused, match="needs a reason"):
            store.review(ANNA, cell.id, case.version, label=label)


def test_many_cells_are_all_of_the_case_or_none_is_changed(store: Store) -> None:
    case, cells = filled(store)
    other = store.create_case(ANNA, "Q")
    (stranger,) = store.add_cells(ANNA, other.id, [new_cell(90)], None).cells
    for wrong in ([cells[-1].id, stranger.id], ["nothing"], []):
        with pytest.raises(NotFound):
            store.review_many(
                ANNA, (case.id, case.version), wrong, {"disposition": "artefact", "reason": "x"}
            )
    assert store.case(case.id).version == case.version


# a case that does not fit -----------------------------------------------------------------------


def test_a_case_fits_where_about_as_many_lie_far_as_would_anyway() -> None:
    assert pytest.approx(0.05) == EXPECTED
    assert not misfit(LEAST - 1, LEAST - 1)
    for cells in (10, 30, 100, 1000):
        assert not misfit(round(0.05 * cells), cells)
        assert misfit(round(0.55 * cells), cells)
    assert not misfit(3, 10)  # could be chance
    assert misfit(30, 100)


def test_a_case_that_does_not_fit_needs_one_decision_not_one_for_each_cell(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    far = [new_cell(i, distance_percentile=99.0) for i in range(12)]
    store.add_cells(ANNA, case.id, [*far, new_cell(20, BLAST, distance_percentile=99.0)], None)
    case = store.case(case.id)
    assert MISFIT in case.flags
    assert "far" not in case.flags
    assert case.held == 13
    assert "Nobody has decided" in report_html(store, case.id)
    case = store.accept_misfit(ANNA, case.id, case.version, "another scanner")
    assert (case.held, case.accepted_by) == (1, "anna")  # the lymphoblast still is
    store.add_cells(ANNA, case.id, [new_cell(30, distance_percentile=99.0)], None)
    assert store.case(case.id).held == 1
    assert "anna went on: another scanner" in report_html(store, case.id)
    case = store.hold_misfit(ANNA, case.id, store.case(case.id).version)
    assert (case.held, case.accepted_by) == (14, None)
    case = decide_all(store, case.id)
    with pytest.raises(Refused) as told:
        store.sign(ANNA, case.id, case.version)
    assert told.value.missing == ("decide whether to go on: the case does not fit its atlas",)
    case = store.accept_misfit(ANNA, case.id, case.version, "another scanner")
    assert store.sign(ANNA, case.id, case.version).status == "signed"


def test_a_case_that_fits_has_nothing_to_accept(store: Store) -> None:
    case, _ = filled(store)
    with pytest.raises(Refused, match="fits its atlas"):
        store.accept_misfit(ANNA, case.id, case.version, "so")


# uploads ----------------------------------------------------------------------------------------


def test_an_announced_upload_keeps_a_case_open_until_it_is_whole_or_closed(store: Store) -> None:
    case, _ = filled(store)
    case = decide_all(store, case.id)
    batch = store.announce(ANNA, case.id, [("a.png", 10), ("b.png", 11), ("c.png", 12)])
    store.add_cells(ANNA, case.id, [new_cell(50)], None, (batch.id, [0, 2, 9]))
    (found,) = store.uploads(case.id)
    assert (found.received, found.state) == ((0, 2), "open")
    assert "2 of 3 files are here" in "; ".join(store.missing(case.id, "anna"))
    assert store.close_upload(ANNA, case.id, batch.id).state == "incomplete"
    whole = store.announce(ANNA, case.id, [("d.png", 1)])
    store.add_cells(ANNA, case.id, [new_cell(51)], None, (whole.id, [0]))
    assert store.close_upload(ANNA, case.id, whole.id).state == "complete"
    assert not [told for told in store.missing(case.id, "anna") if "files" in told]
    with pytest.raises(NotFound):
        store.close_upload(ANNA, case.id, "nothing")
    assert len(every_cell(store, case.id)) == 8


def test_the_api_tells_each_person_their_own_part_of_the_work(web: Workstation) -> None:
    rolf, rita = web.client("rolf"), web.client("rita")
    case = web.case(rolf)
    batch = rolf.post(
        f"/api/v1/cases/{case['id']}/uploads", json={"files": [{"name": "x.png", "bytes": 5}]}
    ).json()
    address = f"/api/v1/cases/{case['id']}/cells"
    name, data = web.cells[0]
    files = [("files", (name, data, "image/png"))]
    added = rolf.post(f"{address}?part={batch['id']}:0", files=files)
    assert added.status_code == 201, added.text
    assert rolf.get(f"/api/v1/cases/{case['id']}/uploads").json()["items"][0]["received"] == [0]
    upload(rolf, case["id"], web.cells[1:4])
    rolf.post(f"/api/v1/cases/{case['id']}/seen", json={"cells": [added.json()["added"][0]["id"]]})
    mine, hers = (c.get(address).json()["items"] for c in (rolf, rita))
    assert sum(c["seen"] for c in mine) == 1
    assert sum(c["seen"] for c in hers) == 0
    assert rolf.post(f"{address}?part=nonsense", files=files).status_code == 422
