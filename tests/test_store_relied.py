"""Verification finds a change of anything that people rely on, whoever made it beside the log."""

from __future__ import annotations

import gzip
import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from storing import (
    ANNA,
    ROOT,
    Altered,
    Clock,
    filled,
    fresh,
    new_cell,
    prepared,
    tamper,
    worked,
)

from cellkin.core.errors import ArtifactError
from cellkin.web.store import Original, Refused, Store
from cellkin.web.store.guards import GUARDS
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.tables import metadata

KEY = AuditKey(b"k" * 32)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store in which everything has happened, with a session, a token and looks, as bytes."""
    path = tmp_path_factory.mktemp("used") / "s"
    store = worked(fresh(path))
    store.set_factor(ROOT, "anna")
    store.know_device("anna")
    store.start_session("anna")
    store.add_token(ROOT, "anna", ["read"], title="scanner")
    case = store.create_case(ANNA, "P-2")
    looked = [new_cell(50 + i) for i in range(2)]
    for cell in looked:
        cell.look.update(light=0.5)  # type: ignore[attr-defined]
    file = b"a file as it came"
    known = Original(hashlib.sha256(file).hexdigest(), len(file), "PNG", 24, 24, 0.1)
    looked[0] = replace(looked[0], original=(known, file))
    store.add_cells(ANNA, case.id, looked, "second")
    store.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def kept(used: bytes, tmp_path_factory: pytest.TempPathFactory) -> Altered:
    """The same, to be altered."""
    path = tmp_path_factory.mktemp("kept") / "s"
    path.write_bytes(used)
    return Altered(path)


@pytest.fixture
def place(used: bytes, tmp_path: Path) -> Path:
    (tmp_path / "s").write_bytes(used)
    return tmp_path / "s"


def verified(path: Path, key: AuditKey | None = None) -> tuple[str, ...]:
    """All faults of a store."""
    store = Store.open(path, key=key)
    try:
        return store.verify_log().faults
    finally:
        store.close()


LOOSE = {
    "devices": (),
    "batches": (),
    "factors": ("used",),
    "reviews": ("id",),
    "attempts": (),
    "audit_head": ("id", "seal"),
    "sessions": ("expires",),
}
"""Columns that no verification covers, see docs/store.md; () stands for all of them."""


def columns() -> list[tuple[str, str]]:
    """Every column of every table; a new one is covered, or this test says so."""
    found = []
    for table in metadata.sorted_tables:
        for column in table.c:
            loose = LOOSE.get(table.name, ("",))
            if loose and column.name not in loose:
                found.append((table.name, column.name))
    return found


@pytest.mark.parametrize(("table", "column"), columns())
def test_a_change_of_any_column_is_found(kept: Altered, table: str, column: str) -> None:
    kind = metadata.tables[table].c[column].type.python_type
    new = {int: f'"{column}" + 7', float: f'"{column}" + 7', bytes: "x'00'"}.get(kind)
    new = f'NOT "{column}"' if kind is bool else new or f"coalesce(\"{column}\", '') || 'x'"
    one = f"SELECT max(rowid) FROM {table}"
    assert kept.faults(f'UPDATE {table} SET "{column}" = {new} WHERE rowid = ({one})')


@pytest.mark.parametrize("table", sorted({t for t, _ in columns()} - {"sessions"}))
def test_a_row_that_is_gone_is_found(kept: Altered, table: str) -> None:
    assert kept.faults(f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})")


FORGED = {
    "a session": "INSERT INTO sessions SELECT 'f', user, minutes, started, expires FROM sessions",
    "a session that lasts": "UPDATE sessions SET expires = '2999-01-01T00:00:00.000+00:00'",
    "a token": "INSERT INTO api_tokens SELECT 'f', 'f', user, scopes, title, created, expires, "
    "ended FROM api_tokens",
    "a token that lasts": "UPDATE api_tokens SET expires = '2999'",
    "a look": "UPDATE looks SET \"values\" = '{}'",
    "a review": 'INSERT INTO reviews SELECT NULL, "case", revision, user, before, after, undone, '
    "at FROM reviews LIMIT 1",
    "a picture of another atlas": "INSERT INTO reference_pictures SELECT atlas, 'f', picture "
    "FROM reference_pictures LIMIT 1",
    "flags": "UPDATE cases SET flags = '[]', to_confirm = 0, unseen = 0",
    "one cell less to look at": "UPDATE cells SET held_reasons = '[]', opened = 1",
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_beside_the_log_is_found(kept: Altered, what: str) -> None:
    assert kept.faults(FORGED[what])


def test_a_case_changed_beside_the_log_cannot_be_signed(tmp_path: Path) -> None:
    """A held cell was signed without being opened: its mark was taken away in the database."""
    changes = (
        "UPDATE cells SET held_reasons = '[]'",
        "UPDATE cells SET opened = 1, confirmed = 'singly', state = 'confirmed', final = proposed",
        "UPDATE cells SET seen = 1",
        "UPDATE cases SET consecutive = 1",
    )
    for i, change in enumerate(changes):
        path = tmp_path / str(i)
        store = fresh(path)
        case, _ = filled(store)
        tamper(path, change)
        with pytest.raises(Refused):
            store.sign(ANNA, case.id, store.case(case.id).version)
        store.close()


def test_a_held_cell_is_held_for_its_reasons_alone(tmp_path: Path) -> None:
    assert "held" not in metadata.tables["cells"].c
    store = fresh(tmp_path / "s")
    _, cells = filled(store)
    assert [cell.held for cell in cells] == [bool(cell.held_reasons) for cell in cells]
    assert {cell.held for cell in store.cells(cells[0].case, held=True)[0]} == {True}
    store.close()


# triggers ---------------------------------------------------------------------------------------


def test_triggers_that_are_gone_or_new_are_found(kept: Altered) -> None:
    assert not kept.faults("UPDATE users SET role = role")
    found = kept.faults("UPDATE users SET role = role", again=False)
    assert len([f for f in found if "is gone" in f]) == 3 * len(GUARDS)

    def add(base: sqlite3.Connection) -> None:
        base.execute("CREATE TRIGGER quiet AFTER INSERT ON users BEGIN SELECT 1; END")
        base.execute("CREATE VIEW people AS SELECT * FROM users")
        base.execute("CREATE INDEX more ON users (role)")

    found = kept.faults(add, again=False)
    assert "quiet is none of this store's triggers" in found
    assert "people is none of this store's triggers" in found
    assert any("schema" in fault for fault in found)


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.table for guard in GUARDS])
def test_no_statement_replaces_what_is_kept_for_good(place: Path, guard: object) -> None:
    """REPLACE INTO fires no trigger of DELETE."""
    table = guard.table  # type: ignore[attr-defined]
    column = (guard.columns or tuple(metadata.tables[table].c.keys()))[-1]  # type: ignore[attr-defined]
    with closing(sqlite3.connect(place)) as base:
        for statement in (
            f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
            f'UPDATE {table} SET "{column}" = NULL',
            f"DELETE FROM {table}",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=r"append-only|never changed"):
                base.execute(statement)


# times ------------------------------------------------------------------------------------------


def test_times_that_run_backwards_are_found(tmp_path: Path) -> None:
    clock = Clock()
    store = fresh(tmp_path / "s", clock)
    store.create_case(ANNA, "P-1")
    clock.move(hours=-2)
    store.create_case(ANNA, "P-2")  # a clock that was set back is written down, and no fault
    entries = [entry.action for entry in store.log()[0]]
    assert entries[:2] == ["case created", "clock set back"]
    assert store.verify_log().intact
    store.close()
    told = "'2020-01-01T00:00:00.000+00:00'"
    tamper(tmp_path / "s", f"UPDATE audit SET at = {told} WHERE number = 2")
    assert any("older than the one before" in fault for fault in verified(tmp_path / "s"))


# the key ----------------------------------------------------------------------------------------


def cut_back(path: Path, number: int) -> None:
    """Cut the log back to an entry, the head with it, and the seal as it is."""
    tamper(
        path,
        f"DELETE FROM audit WHERE number > {number}",
        f"UPDATE audit_head SET number = {number}, "
        f"hash = (SELECT hash FROM audit WHERE number = {number})",
    )


def test_an_end_that_no_table_tells_of_is_found_by_the_key(tmp_path: Path) -> None:
    """Who looked, and who backed up, is told by the log alone."""
    path = tmp_path / "s"
    store = prepared(Store.open(path, key=KEY))
    case, _ = filled(store)
    number = store.verify_log().entries
    store.viewed(ANNA, case.id)
    check = store.verify_log()
    assert (check.intact, check.sealed) == (True, True)
    store.close()
    cut_back(path, number)
    assert verified(path) == ()
    assert verified(path, KEY) == ("the end of the log is not sealed with this key",)


def test_nothing_goes_on_after_an_end_that_the_key_did_not_seal(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = prepared(Store.open(path, key=KEY))
    case, _ = filled(store)
    store.close()
    other = Store.open(path, key=AuditKey(b"o" * 32))
    for opened in (Store.open(path), other):
        with pytest.raises(Refused, match="sealed"):
            opened.create_case(ANNA, "P")
        opened.close()
    tamper(path, "UPDATE audit_head SET seal = NULL")
    again = Store.open(path, key=KEY)
    with pytest.raises(Refused, match="taken away"):
        again.viewed(ANNA, case.id)
    assert not again.verify_log().intact
    again.close()


def test_a_log_is_sealed_from_some_day_on(tmp_path: Path) -> None:
    store = fresh(tmp_path / "s")
    store.close()
    sealed = Store.open(tmp_path / "s", key=KEY)
    with pytest.raises(Refused, match="not sealed"):
        sealed.create_case(ANNA, "P")
    assert sealed.seal_log(ROOT) == 2
    sealed.create_case(ANNA, "P")
    assert sealed.verify_log().intact
    with pytest.raises(Refused, match="already"):
        sealed.seal_log(ROOT)
    sealed.close()


def test_a_key_is_long_and_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ArtifactError, match="cannot be read"):
        AuditKey.read(path)
    path.write_bytes(os.urandom(8))
    path.chmod(0o600)
    with pytest.raises(ArtifactError, match="32 bytes"):
        AuditKey.read(path)
    path.write_bytes(os.urandom(32))
    assert AuditKey.read(path).secret == path.read_bytes()
    path.chmod(0o644)
    with pytest.raises(ArtifactError, match="others"):
        AuditKey.read(path)
    assert "secret" not in repr(KEY)


# reads ------------------------------------------------------------------------------------------


def test_reads_that_matter_leave_an_entry(tmp_path: Path) -> None:
    store = fresh(tmp_path / "s")
    case, _ = filled(store)
    before = store.case_report(case.id).raw
    store.viewed(ANNA, case.id)
    store.given(ANNA, case.id, 1, "pdf")
    assert store.case_report(case.id).raw[:2000] == before[:2000]
    store.backup(tmp_path / "b", actor=ROOT)
    told = [(e.action, e.user, e.after) for e in reversed(store.log(limit=3)[0])]
    assert told == [
        ("case viewed", "anna", None),
        ("report given", "anna", {"revision": 1, "form": "pdf"}),
        ("backup begun", "root", {"file": "b"}),
    ]
    store.close()


# stores of earlier versions ---------------------------------------------------------------------


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A store as version 0.1 left it: without what the log tells today."""
    path = tmp_path / "earlier"
    packed = Path(__file__).parent / "earlier" / "store-0002.sqlite.gz"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def test_an_upgrade_writes_down_what_the_log_did_not_tell(earlier: Path) -> None:
    store = Store.open(earlier)
    check = store.verify_log()
    assert check.faults == ()
    assert store.log(limit=1)[0][0].action == "store upgraded"
    store.close()
    whole = earlier.read_bytes()
    for change in (
        "UPDATE atlases SET facts = '{}'",
        "UPDATE reference_pictures SET picture = x'00'",
        "UPDATE uploads SET content = 'x'",
        "UPDATE cells SET worry = 0",
        "UPDATE users SET password = 'x'",
        "UPDATE api_tokens SET hash = 'x'",
        "UPDATE revisions SET signed_by = 'eve'",
        "UPDATE reviews SET user = 'eve'",
    ):
        earlier.write_bytes(whole)
        tamper(earlier, change)
        assert verified(earlier), change
