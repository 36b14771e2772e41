"""The store: cases and cells, what reviewers decide, and what a signature freezes."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from storing import (
    ANNA,
    ATLAS,
    BEN,
    BLAST,
    FACTS,
    LABELS,
    VIEWER,
    Clock,
    decide_all,
    every_cell,
    filled,
    fresh,
    ids,
    look_at,
    new_cell,
    png,
    prepared,
)

from cellkin.core.decisions import Decision
from cellkin.core.errors import ArtifactError
from cellkin.web.store import (
    Actor,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    Store,
    database,
)
from cellkin.web.store.registry import small


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = fresh(tmp_path / "store.sqlite", clock)
    yield opened
    opened.close()


def test_the_pictures_of_the_kin_of_an_upload_are_asked_for_at_once(store: Store) -> None:
    asked: list[list[str]] = []

    def pictures(ids: Sequence[str]) -> list[bytes]:
        asked.append(list(ids))
        return [png(i) for i in range(len(ids))]

    store.register_atlas(ATLAS, LABELS, FACTS, pictures)
    filled(store)
    filled(store)
    assert asked == [["r1", "r2", "r3"]]
    kept = store.reference_pictures(ATLAS, ["r1", "r2", "r3", "r4"])
    assert kept == {f"r{i + 1}": small(png(i)) for i in range(3)}


# cases ------------------------------------------------------------------------------------------


def test_a_new_case_is_empty_and_open(store: Store, clock: Clock) -> None:
    case = store.create_case(ANNA, "  P-7 ", "bone marrow", consecutive=True, note="second look")
    assert store.case(case.id) == case
    assert (case.pseudonym, case.status, case.version, case.revision) == ("P-7", "open", 1, 1)
    assert (case.cells, case.counts, case.created_by) == (0, {}, "anna")
    assert case.created == "2026-01-01T12:00:00.000+00:00"
    assert case.flags == ("fewer than 100 cells",)
    with pytest.raises(NotFound):
        store.case("nothing")


@pytest.mark.parametrize("name", ["", "   ", "\0", "x" * 81])
def test_a_pseudonym_must_be_short_and_say_something(store: Store, name: str) -> None:
    with pytest.raises(Refused, match="pseudonym"):
        store.create_case(ANNA, name)
    assert store.cases() == ([], None)


def test_viewers_change_nothing(store: Store) -> None:
    case, cells = filled(store)
    before = store.verify_log().entries
    for forbidden in (
        lambda: store.create_case(VIEWER, "P"),
        lambda: store.add_cells(VIEWER, case.id, [new_cell(99)], None),
        lambda: store.update_case(VIEWER, case.id, case.version, note="x"),
        lambda: store.seen(VIEWER, case.id, ids(cells)),
        lambda: store.opened(VIEWER, cells[0].id),
        lambda: store.review(VIEWER, cells[0].id, case.version, label=BLAST),
        lambda: store.confirm_many(VIEWER, case.id, case.version, ids(cells[2:])),
        lambda: store.undo(VIEWER, case.id, case.version),
        lambda: store.sign(VIEWER, case.id, case.version),
        lambda: store.amend(VIEWER, case.id, case.version, "why"),
        lambda: store.create_case(Actor("x", "nobody", "page"), "P"),
    ):
        with pytest.raises(Forbidden):
            forbidden()
    assert store.verify_log().entries == before


def test_the_worklist_is_searched_filtered_and_paged(store: Store, clock: Clock) -> None:
    made = []
    for i in range(5):
        clock.move(minutes=1)
        made.append(store.create_case(ANNA if i % 2 else BEN, f"P_{i}%", note=f"note {i}"))
    filled(store)
    first, cursor = store.cases(search="p_", limit=2)
    assert [c.pseudonym for c in first] == ["P_4%", "P_3%"]
    second, cursor = store.cases(search="p_", limit=2, cursor=cursor)
    third, end = store.cases(search="p_", limit=2, cursor=cursor)
    assert [c.id for c in first + second + third] == [c.id for c in reversed(made)]
    assert end is None
    assert [c.id for c in store.cases(search="NOTE 3")[0]] == [made[3].id]
    assert [c.id for c in store.cases(search=made[2].id)[0]] == [made[2].id]
    assert (
        store.cases(search="%")[0] == store.cases(search="p_")[0]
    )  # no wildcard of the searcher's
    assert store.cases(search="' OR 1=1 --")[0] == []
    assert [c.pseudonym for c in store.cases(flag="lymphoblast proposed")[0]] == ["P-1"]
    assert len(store.cases(status="open")[0]) == 6
    for wrong in ({"status": "lost"}, {"flag": "held"}, {"cursor": "x"}, {"cursor": "WzFd"}):
        with pytest.raises(Refused):
            store.cases(**wrong)  # type: ignore[arg-type]


def test_a_change_of_a_case_is_logged_with_before_and_after(store: Store) -> None:
    case = store.create_case(ANNA, "P-1", note="old")
    changed = store.update_case(BEN, case.id, 1, note="new", consecutive=True)
    assert (changed.note, changed.consecutive, changed.version) == ("new", True, 2)
    entry = store.log()[0][0]
    assert (entry.user, entry.action, entry.case) == ("ben", "case changed", case.id)
    assert entry.before == {"note": "old", "consecutive": False}
    assert entry.after == {"note": "new", "consecutive": True}
    assert store.update_case(BEN, case.id, 2, note="new").version == 2  # nothing changed
    with pytest.raises(Refused, match="field"):
        store.update_case(BEN, case.id, 2, status="signed")
    with pytest.raises(Conflict) as stale:
        store.update_case(ANNA, case.id, 1, note="mine")
    assert stale.value.version == 2
    assert store.case(case.id).note == "new"


# cells ------------------------------------------------------------------------------------------


def test_cells_come_back_as_they_were_added(store: Store) -> None:
    case, cells = filled(store)
    assert [c.held for c in cells] == [True, True, False, False, False, False]
    assert (case.cells, case.held, case.to_confirm, case.unseen) == (6, 2, 2, 4)
    assert case.counts == {BLAST: 2, "neutrophil": 4} == case.finals
    assert "lymphoblast proposed" in case.flags
    cell = store.cell(cells[0].id)
    assert cell == cells[0]
    assert (cell.name, cell.proposed, cell.final, cell.state) == (
        "cell 0.png",
        BLAST,
        None,
        "proposed",
    )
    assert Decision.from_json(cell.decision) == new_cell(0, BLAST).decision
    assert store.image(cell.id) == png(0)
    for missing in (store.cell, store.image, store.original):
        with pytest.raises(NotFound):
            missing("nothing")


def test_the_most_worrying_cells_come_first_and_pages_hold_each_once(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    new = [new_cell(i, agreement=(i % 5) / 5) for i in range(20)]
    new += [new_cell(20 + i, BLAST) for i in range(3)]
    store.add_cells(ANNA, case.id, new, None)
    paged = every_cell(store, case.id)
    assert [c.id for c in paged] == ids(store.cells(case.id)[0])
    assert len({c.id for c in paged}) == 23
    assert [c.worry for c in paged] == sorted((c.worry for c in paged), reverse=True)
    assert [c.proposed for c in paged[:3]] == [BLAST] * 3
    by_position, cursor = store.cells(case.id, order="position", limit=20)
    rest, _ = store.cells(case.id, order="position", cursor=cursor)
    assert [c.position for c in by_position + rest] == list(range(23))
    assert len(store.cells(case.id, label=BLAST)[0]) == 3 == len(store.cells(case.id, held=True)[0])
    with pytest.raises(Refused):
        store.cells(case.id, order="random")
    with pytest.raises(NotFound):
        store.cells("nothing")


def test_an_image_is_in_a_case_once(store: Store) -> None:
    case, _ = filled(store)
    added = store.add_cells(ANNA, case.id, [new_cell(0), new_cell(50), new_cell(50)], "second")
    assert [c.name for c in added.cells] == ["cell 50.png"]
    assert added.duplicates == ("cell 0.png", "cell 50.png")
    case = store.case(case.id)
    assert (case.cells, case.duplicates) == (7, 2)
    assert "duplicates" in case.flags
    other = store.create_case(ANNA, "P-2")
    assert len(store.add_cells(ANNA, other.id, [new_cell(0)], None).cells) == 1


def test_the_same_key_gives_the_first_answer_and_adds_nothing(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    new = [new_cell(i) for i in range(3)]
    first = store.add_cells(ANNA, case.id, new, "k")
    entries = store.verify_log().entries
    again = store.add_cells(ANNA, case.id, new, "k")
    assert again.replayed
    assert not first.replayed
    assert (again.cells, again.duplicates) == (first.cells, first.duplicates)
    assert store.verify_log().entries == entries
    with pytest.raises(Refused, match="other images"):
        store.add_cells(ANNA, case.id, [new_cell(9)], "k")
    store.sign(ANNA, case.id, decide_all(store, case.id).version)
    assert store.add_cells(ANNA, case.id, new, "k").replayed  # an answer is no change


def test_cells_of_an_unknown_atlas_are_refused_with_all_others(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    strange = new_cell(1)
    strange.provenance["atlas"] = "b" * 64  # type: ignore[index]
    with pytest.raises(Refused, match="not registered"):
        store.add_cells(ANNA, case.id, [new_cell(0), strange], None)
    assert store.case(case.id).cells == 0


def test_names_are_only_texts(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    names = ["../../etc/passwd", "<script>alert(1)</script>", "a\0b\udc80c", "x" * 999, "'; DROP--"]
    new = [new_cell(i, name=name) for i, name in enumerate(names)]
    added = store.add_cells(ANNA, case.id, new, None)
    assert [c.name for c in added.cells] == [names[0], names[1], "ab?c", "x" * 255, names[4]]
    assert [c.name for c in store.cells(case.id)[0]] == [c.name for c in added.cells]


def test_a_case_of_another_specimen_is_flagged(store: Store) -> None:
    assert "other specimen" in filled(store, specimen="peripheral blood")[0].flags
    assert "other specimen" not in filled(store, specimen="Bone marrow ")[0].flags
    assert "other specimen" not in filled(store)[0].flags


# deciding ---------------------------------------------------------------------------------------


def test_confirming_and_reclassifying(store: Store) -> None:
    case, cells = filled(store)
    cell, case = store.review(ANNA, cells[0].id, case.version, label=BLAST, comment="clear")
    assert (cell.state, cell.final, cell.confirmed, cell.comment) == (
        "confirmed",
        BLAST,
        "singly",
        "clear",
    )
    assert (cell.reviewed_by, case.version) == ("anna", 2)
    cell, case = store.review(BEN, cells[0].id, 2, label="neutrophil", reason="lobed nucleus")
    assert (cell.state, cell.final, cell.proposed) == ("reclassified", "neutrophil", BLAST)
    assert (cell.comment, cell.reason) == ("clear", "lobed nucleus")
    assert case.counts[BLAST] == 2
    assert case.finals == {BLAST: 1, "neutrophil": 5}


@pytest.mark.parametrize("what", ["smudge cell", "artefact", "unidentifiable"])
def test_an_object_can_be_set_aside_with_a_reason(store: Store, what: str) -> None:
    case, cells = filled(store)
    with pytest.raises(Refused, match="reason"):
        store.review(ANNA, cells[2].id, case.version, disposition=what)
    cell, case = store.review(
        ANNA, cells[2].id, case.version, disposition=what, reason="see picture"
    )
    assert (cell.disposition, cell.final, cell.state) == (what, None, "reclassified")
    assert case.finals == {BLAST: 2, "neutrophil": 3, what: 1}


@pytest.mark.parametrize(
    "verdict",
    [
        {},
        {"label": "neutrophil", "disposition": "artefact", "reason": "x"},
        {"label": "nonsense", "reason": "x"},
        {"disposition": "ghost", "reason": "x"},
        {"label": BLAST},
        {"label": BLAST, "reason": "   "},
        {"label": BLAST, "reason": "x" * 1001},
        {"label": "neutrophil", "comment": "x" * 4001},
    ],
)
def test_a_review_that_says_nothing_clear_is_refused(store: Store, verdict: dict[str, str]) -> None:
    case, cells = filled(store)
    with pytest.raises(Refused):
        store.review(ANNA, cells[5].id, case.version, **verdict)
    assert store.cell(cells[5].id) == cells[5]
    assert store.case(case.id) == case


def test_two_reviewers_on_one_case(store: Store) -> None:
    """The second is told, carries the version now, and nothing of the first is lost."""
    case, cells = filled(store)
    store.review(ANNA, cells[0].id, case.version, label=BLAST)
    before = store.case(case.id)
    for attempt in (
        lambda: store.review(BEN, cells[0].id, case.version, label="neutrophil", reason="x"),
        lambda: store.confirm_many(BEN, case.id, case.version, ids(cells[2:])),
        lambda: store.undo(BEN, case.id, case.version),
        lambda: store.sign(BEN, case.id, case.version),
    ):
        with pytest.raises(Conflict) as told:
            attempt()
        assert told.value.version == before.version
    assert store.case(case.id) == before
    assert store.cell(cells[0].id).reviewed_by == "anna"


def test_many_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    """Eight reviewers retry on conflicts; each decision is there once, and the log is whole."""
    store = fresh(tmp_path / "s.sqlite")
    case, cells = filled(store, plain=24, blasts=0)

    def work(k: int) -> None:
        actor = Actor(f"r{k}", "reviewer", "page")
        for cell in cells[k::8]:
            while True:
                try:
                    store.review(actor, cell.id, store.case(case.id).version, label="neutrophil")
                    break
                except Conflict:
                    continue

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = store.cells(case.id)[0]
    assert {c.id: c.reviewed_by for c in after} == {c.id: f"r{i % 8}" for i, c in enumerate(cells)}
    assert store.case(case.id).version == case.version + 24
    assert store.verify_log().intact
    store.close()


def test_bulk_confirmation_never_touches_held_cells(store: Store) -> None:
    case, cells = filled(store)
    with pytest.raises(Refused, match="singly") as told:
        store.confirm_many(ANNA, case.id, case.version, ids(cells))
    assert set(told.value.missing) == set(ids(cells[:2]))
    assert store.case(case.id) == case
    _, case = store.review(ANNA, cells[5].id, case.version, label="ig", reason="young")
    case = store.confirm_many(BEN, case.id, case.version, ids(cells[2:]))
    after = {c.id: c for c in store.cells(case.id)[0]}
    assert [after[c.id].confirmed for c in cells] == [None, None, *["together"] * 3, "singly"]
    assert after[cells[5].id].final == "ig"  # what was decided stays
    assert case == store.confirm_many(BEN, case.id, case.version, ids(cells[2:]))
    other, others = filled(store)
    with pytest.raises(NotFound):
        store.confirm_many(ANNA, other.id, other.version, [others[3].id, cells[2].id])


def test_undo_takes_back_ones_own_last_review(store: Store) -> None:
    case, cells = filled(store)
    _, case = store.review(ANNA, cells[0].id, case.version, label=BLAST)
    case = store.confirm_many(ANNA, case.id, case.version, ids(cells[2:]))
    _, case = store.review(BEN, cells[1].id, case.version, label="ig", reason="x")
    undone, case = store.undo(ANNA, case.id, case.version)
    assert {c.id for c in undone} == set(ids(cells[2:]))
    assert {c.state for c in undone} == {"proposed"}
    undone, case = store.undo(ANNA, case.id, case.version)
    assert undone == [cells[0]]
    with pytest.raises(Refused, match="nothing of yours"):
        store.undo(ANNA, case.id, case.version)
    assert store.cell(cells[1].id).final == "ig"
    assert store.verify_log().intact


def test_undo_does_not_undo_what_somebody_decided_since(store: Store) -> None:
    case, cells = filled(store)
    _, case = store.review(ANNA, cells[0].id, case.version, label=BLAST)
    _, case = store.review(BEN, cells[0].id, case.version, label="ig", reason="x")
    with pytest.raises(Refused, match="after you"):
        store.undo(ANNA, case.id, case.version)
    assert store.cell(cells[0].id).final == "ig"


# signing ----------------------------------------------------------------------------------------


def test_signing_waits_for_everything(store: Store) -> None:
    empty = store.create_case(ANNA, "E")
    with pytest.raises(Refused, match="cannot be signed"):
        store.sign(ANNA, empty.id, 1)
    case, cells = filled(store)
    assert len(store.missing(case.id, ANNA.user)) == 2
    store.seen(ANNA, case.id, ids(cells))
    _, case = store.review(ANNA, cells[0].id, case.version, label=BLAST)  # not opened
    store.opened(ANNA, cells[1].id)  # not decided
    with pytest.raises(Refused) as told:
        store.sign(ANNA, case.id, case.version)
    assert told.value.missing == (
        "open and decide 2 cells (cell 0.png, cell 1.png) that must be looked at singly",
    )
    store.opened(ANNA, cells[0].id)
    _, case = store.review(ANNA, cells[1].id, case.version, label=BLAST)
    assert store.missing(case.id, ANNA.user) == []
    with pytest.raises(Refused, match="cannot be signed yet"):  # ben has seen none of it
        store.sign(BEN, case.id, case.version)
    look_at(store, case.id, BEN)
    signed = store.sign(BEN, case.id, case.version)
    assert (signed.status, signed.signed_by) == ("signed", "ben")
    assert {c.confirmed for c in store.cells(case.id)[0]} == {"singly", "by signing"}
    assert all(c.final == c.proposed for c in store.cells(case.id)[0])


def test_a_cell_that_arrives_late_keeps_the_case_open(store: Store) -> None:
    case, _ = filled(store)
    ready = decide_all(store, case.id)
    store.add_cells(BEN, case.id, [new_cell(77)], None)
    with pytest.raises(Refused, match="cannot be signed"):
        store.sign(ANNA, case.id, ready.version)


def signed_case(store: Store) -> tuple[str, list[str]]:
    case, cells = filled(store)
    store.sign(ANNA, case.id, decide_all(store, case.id).version)
    return case.id, ids(cells)


def test_a_signed_case_is_read_only(store: Store) -> None:
    case_id, cells = signed_case(store)
    case, entries = store.case(case_id), store.verify_log().entries
    for attempt in (
        lambda: store.update_case(ANNA, case_id, case.version, note="x"),
        lambda: store.add_cells(ANNA, case_id, [new_cell(99)], None),
        lambda: store.review(ANNA, cells[0], case.version, label=BLAST),
        lambda: store.confirm_many(ANNA, case_id, case.version, cells[2:]),
        lambda: store.undo(ANNA, case_id, case.version),
        lambda: store.sign(ANNA, case_id, case.version),
    ):
        with pytest.raises(Refused, match="read-only"):
            attempt()
    store.seen(ANNA, case_id, cells)
    store.opened(ANNA, cells[0])
    assert store.case(case_id) == case
    assert store.verify_log().entries == entries


def test_an_amendment_is_a_new_revision_beside_the_old(store: Store) -> None:
    case_id, cells = signed_case(store)
    first = store.case_report(case_id)
    case = store.case(case_id)
    with pytest.raises(Refused, match="reason"):
        store.amend(ANNA, case_id, case.version, " ")
    case = store.amend(BEN, case_id, case.version, "second opinion")
    assert (case.status, case.revision) == ("amended", 2)
    with pytest.raises(Refused, match="only a signed"):
        store.amend(BEN, case_id, case.version, "again")
    with pytest.raises(Refused, match="nothing of yours"):
        store.undo(ANNA, case_id, case.version)  # what was signed is not undone
    _, case = store.review(BEN, cells[0], case.version, label="ig", reason="granules")
    assert not store.case_report(case_id).signed
    case = store.sign(BEN, case_id, case.version)
    second = store.case_report(case_id)
    assert second.signed
    assert store.case_report(case_id, 1).raw == first.raw
    assert [c.final for c in first.cells].count("ig") == 0
    assert [c.final for c in second.cells].count("ig") == 1
    told = store.revisions(case_id)
    assert [(r.revision, r.reason, r.signed_by) for r in told] == [
        (1, "", "anna"),
        (2, "second opinion", "ben"),
    ]
    assert [r.sha256 for r in told] == [first.sha256, second.sha256]
    assert json.loads(first.raw) == first.to_json()
    with pytest.raises(NotFound):
        store.case_report(case_id, 3)


def test_a_signed_document_and_pictures_cannot_be_changed(store: Store, tmp_path: Path) -> None:
    signed_case(store)
    base = sqlite3.connect(tmp_path / "store.sqlite")
    for statement in (
        "UPDATE revisions SET document = x'00'",
        "DELETE FROM revisions",
        "UPDATE pictures SET png = x'00'",
        "DELETE FROM pictures",
        "UPDATE reference_pictures SET picture = x'00'",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            base.execute(statement)
    base.close()


# opening ----------------------------------------------------------------------------------------


def test_what_is_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    first = prepared(Store.open(tmp_path / "deep" / "s.sqlite"))
    case, cells = filled(first)
    first.close()
    again = Store.open(tmp_path / "deep" / "s.sqlite")
    assert again.case(case.id) == case
    assert again.cells(case.id)[0] == cells
    labels, facts = again.atlas("a" * 64)
    assert labels == LABELS
    assert facts["stain"] == "Wright"
    again.close()


def test_something_else_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be looked at" * 40)
    with pytest.raises(ArtifactError, match="cannot be opened"):
        Store.open(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE things (id)")
    other.close()
    with pytest.raises(ArtifactError, match="something else"):
        Store.open(tmp_path / "other")
    with pytest.raises(ArtifactError, match="folder"):
        Store.open(tmp_path)
    for url in ("mysql://localhost/x", "sqlite://", "nonsense://"):
        with pytest.raises(ArtifactError, match="no address"):
            Store.open(url)


def test_a_store_of_a_newer_cellkin_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "s").close()
    base = sqlite3.connect(tmp_path / "s")
    base.execute("UPDATE alembic_version SET version_num = '9999'")
    base.commit()
    base.close()
    with pytest.raises(ArtifactError, match="9999"):
        Store.open(tmp_path / "s")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "a b%20c?x=1#y.sqlite"
    store = Store.open(place)
    store.create_case(ANNA, "P")
    store.backup(tmp_path / "b%?.sqlite")
    store.close()
    assert place.is_file()
    again = Store.restore(tmp_path / "b%?.sqlite", tmp_path / "c?")
    assert len(again.cases()[0]) == 1
    again.close()


def test_a_store_that_stays_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY", 20)
    store = fresh(tmp_path / "s")
    other = sqlite3.connect(tmp_path / "s")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="busy"):
        store.create_case(ANNA, "P")
    assert store.cases()[0] == []  # reading goes on
    other.rollback()
    other.close()
    assert store.create_case(ANNA, "P").version == 1
    store.close()
