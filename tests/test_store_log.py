"""The log: append-only, chained, and in agreement with everything else that is stored."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storing import Altered, Change, fresh, tamper, worked

from cellkin.core.artifacts import digest
from cellkin.web.store import Store


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store in which everything has happened, as bytes."""
    path = tmp_path_factory.mktemp("used") / "s"
    worked(fresh(path)).close()
    return path.read_bytes()


@pytest.fixture
def store(used: bytes, tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "s").write_bytes(used)
    opened = Store.open(tmp_path / "s")
    yield opened
    opened.close()


def test_everything_that_happened_is_in_the_log_in_order(store: Store) -> None:
    entries, cursor = store.log(limit=5)
    while cursor is not None:
        more, cursor = store.log(limit=5, cursor=cursor)
        entries += more
    entries.reverse()
    assert [e.number for e in entries] == list(range(1, len(entries) + 1))
    assert [e.action for e in entries] == [
        "atlas registered",
        "user added",
        "case created",
        "cells added",
        "pictures of kin kept",
        "case changed",
        "cell reclassified",
        "review undone",
        "cell reclassified",
        "cells confirmed",
        "cells seen",
        "cell opened",
        "cell opened",
        "cell opened",
        "cell opened",
        "cell confirmed",
        "cells seen",
        "case signed",
        "document frozen",
        "case amended",
        "cell reclassified",
        "case signed",
        "document frozen",
    ]
    assert store.verify_log().intact
    own, _ = store.log(case=entries[-1].case)
    assert {e.case for e in own} == {entries[-1].case}
    assert len(own) == len(entries) - 3


def test_the_chain_by_its_definition(store: Store) -> None:
    """Each hash is the SHA-256 of the canonical JSON of the other fields."""
    previous = "0" * 64
    for entry in reversed(store.log(limit=1000)[0]):
        fields = {k: v for k, v in entry.to_json().items() if k != "hash"}
        assert fields["previous"] == previous
        assert entry.hash == digest(fields)
        previous = entry.hash
    assert store.verify_log().head == previous


@pytest.mark.parametrize("statement", ["UPDATE audit SET user = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_log(
    store: Store, tmp_path: Path, statement: str
) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "s")) as base,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        base.execute(statement)
    assert store.verify_log().intact


TAMPERINGS = {
    "user of an entry": "UPDATE audit SET user = 'eve' WHERE number = 7",
    "time of an entry": "UPDATE audit SET at = '2020-01-01' WHERE number = 7",
    "what an entry says": "UPDATE audit SET after = '{}' WHERE number = 8",
    "an entry is gone": "DELETE FROM audit WHERE number = 9",
    "the first entry is gone": "DELETE FROM audit WHERE number = 1",
    "the last entry is gone": "DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)",
    "all entries are gone": "DELETE FROM audit",
    "an entry is moved": "UPDATE audit SET number = -number WHERE number = 8",
    "an entry is no JSON": "UPDATE audit SET after = '{' WHERE number = 8",
    "the head": "UPDATE audit_head SET number = number + 1",
    "a decision": "UPDATE cells SET final = 'neutrophil' WHERE final = 'ig'",
    "a disposition": "UPDATE cells SET disposition = 'cell' WHERE disposition = 'artefact'",
    "who decided": "UPDATE cells SET reviewed_by = 'eve'",
    "that a cell was opened": "UPDATE cells SET opened = NOT opened",
    "that a cell was held": "UPDATE cells SET held_reasons = '[]' WHERE held_reasons <> '[]'",
    "what the atlas proposed": "UPDATE cells SET proposed = 'ig' WHERE position = 0",
    "what the atlas said": "UPDATE cells SET decision = '{}' WHERE position = 3",
    "a picture": "UPDATE pictures SET png = x'00' WHERE cell = (SELECT id FROM cells LIMIT 1)",
    "a missing picture": "DELETE FROM pictures WHERE cell = (SELECT id FROM cells LIMIT 1)",
    "a missing cell": "DELETE FROM cells WHERE position = 5",
    "who signed": "UPDATE cases SET signed_by = 'eve'",
    "that it is signed": "UPDATE cases SET status = 'open'",
    "the declaration": "UPDATE cases SET consecutive = 1",
    "a signed document": "UPDATE revisions SET document = x'7b7d' WHERE revision = 1",
    "a missing revision": "DELETE FROM revisions WHERE revision = 1",
    "a role": "UPDATE users SET role = 'admin'",
    "a new account": "INSERT INTO users SELECT 'eve', password, 'admin', 0, created, created_by, "
    "groups FROM users",
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_found(finished: Altered, what: str) -> None:
    assert finished.faults(TAMPERINGS[what])


def forged(change: Callable[[dict[str, object]], None], number: int) -> Change:
    """Change an entry and make the whole chain after it anew, head included."""

    def forge(base: sqlite3.Connection) -> None:
        base.row_factory = sqlite3.Row
        previous = "0" * 64
        for row in base.execute("SELECT * FROM audit ORDER BY number").fetchall():
            entry = {k: row[k] for k in row.keys() if k != "hash"}  # noqa: SIM118
            entry["before"], entry["after"] = json.loads(row["before"]), json.loads(row["after"])
            entry["previous"] = previous
            if row["number"] == number:
                change(entry)
            previous = digest(entry)
            base.execute(
                "UPDATE audit SET user = ?, previous = ?, hash = ? WHERE number = ?",
                (entry["user"], entry["previous"], previous, row["number"]),
            )
        base.execute("UPDATE audit_head SET hash = ?", (previous,))

    return forge


def test_a_log_made_anew_is_found_by_what_was_written_down_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    """Somebody who owns the file can make a whole new chain; a printed report gives them away."""
    case = store.cases()[0][0]
    told = store.case_report(case.id).data["witness"]
    witness = (told["number"], told["hash"])
    assert store.verify_log(witness).intact
    assert not store.verify_log((told["number"], "f" * 64)).intact
    assert not store.verify_log((10_000, told["hash"])).intact
    store.close()
    number = 1  # an entry whose user no table repeats
    tamper(tmp_path / "s", forged(lambda entry: entry.update(user="eve"), number))
    again = Store.open(tmp_path / "s")
    assert again.verify_log().intact  # the chain alone cannot tell
    found = again.verify_log(witness)
    again.close()
    assert found.faults == (f"entry {witness[0]} is not the one that was witnessed",)


def test_a_log_cut_off_with_its_head_is_found_by_the_decisions(
    store: Store, tmp_path: Path
) -> None:
    """The last decisions are in the tables, but no longer in the log."""
    store.close()
    tamper(
        tmp_path / "s",
        "DELETE FROM audit WHERE number > 15",
        "UPDATE audit_head SET number = 15, hash = (SELECT hash FROM audit WHERE number = 15)",
    )
    again = Store.open(tmp_path / "s")
    found = again.verify_log()
    again.close()
    assert not found.intact
    assert any("log says" in fault for fault in found.faults)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_flipped_character_anywhere_in_the_log_is_found(
    finished: Altered, data: st.DataObject
) -> None:
    columns = ("at", "user", "role", "how", "action", "before", "after", "previous", "hash")

    def flip(base: sqlite3.Connection) -> None:
        count = base.execute("SELECT max(number) FROM audit").fetchone()[0]
        number = data.draw(st.integers(1, count))
        column = data.draw(st.sampled_from(columns))
        (text,) = base.execute(f"SELECT {column} FROM audit WHERE number = ?", (number,)).fetchone()
        at = data.draw(st.integers(0, len(text) - 1))
        changed = text[:at] + ("b" if text[at] != "b" else "c") + text[at + 1 :]
        base.execute(f"UPDATE audit SET {column} = ? WHERE number = ?", (changed, number))

    assert finished.faults(flip)


@pytest.fixture(scope="module")
def finished(used: bytes, tmp_path_factory: pytest.TempPathFactory) -> Altered:
    """The same, to be altered."""
    path = tmp_path_factory.mktemp("finished") / "s"
    path.write_bytes(used)
    return Altered(path)


def test_many_faults_are_told_up_to_a_number(store: Store, tmp_path: Path) -> None:
    store.close()
    tamper(tmp_path / "s", "UPDATE cells SET reviewed_by = 'eve', decision = '{}'")
    tamper(tmp_path / "s", "UPDATE audit SET user = 'eve'", "UPDATE pictures SET png = x'00'")
    again = Store.open(tmp_path / "s")
    steps: list[str] = []
    found = again.verify_log(progress=lambda task, done, total: steps.append(task))
    again.close()
    assert len(found.faults) <= 51
    assert {"reading the log", "comparing cells"} == set(steps)
