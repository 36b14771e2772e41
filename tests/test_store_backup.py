"""Backups of a store in use, putting them back, and processes that die in mid-change."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from storing import ANNA, decide_all, every_cell, filled, fresh, new_cell

from cellkin.core.errors import ArtifactError, OutputError
from cellkin.web.store import Store
from cellkin.web.store.migrating import HEAD, alembic_config
from cellkin.web.store.tables import metadata


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = fresh(tmp_path / "s")
    yield opened
    opened.close()


# backup -----------------------------------------------------------------------------------------


def test_a_backup_holds_everything_and_can_be_put_back(store: Store, tmp_path: Path) -> None:
    case, cells = filled(store)
    store.sign(ANNA, case.id, decide_all(store, case.id).version)
    report = store.case_report(case.id)
    path = store.backup(tmp_path / "backup" / "b.sqlite")
    assert [p.name for p in path.parent.iterdir()] == ["b.sqlite"]  # one file, nothing beside it
    other = Store.restore(path, tmp_path / "new" / "s")
    assert other.case(case.id) == store.case(case.id)
    assert other.case_report(case.id).raw == report.raw
    assert other.image(cells[0].id) == store.image(cells[0].id)
    assert other.verify_log() == store.verify_log()
    other.create_case(ANNA, "goes on")
    other.close()
    assert [p.name for p in path.parent.iterdir()] == ["b.sqlite"]


def test_only_the_owner_reads_store_and_backup(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    store.create_case(ANNA, "P")
    store.backup(tmp_path / "b")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()


def test_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    path = store.backup(tmp_path / "b")
    with pytest.raises(OutputError, match="already"):
        store.backup(path)
    with pytest.raises(OutputError, match="already"):
        Store.restore(path, tmp_path / "s")


def test_a_backup_is_taken_while_others_write(store: Store, tmp_path: Path) -> None:
    case, _ = filled(store)
    stop = threading.Event()

    def write() -> None:
        for i in range(100, 400):
            if stop.is_set():
                return
            store.add_cells(ANNA, case.id, [new_cell(i)], None)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        paths = [store.backup(tmp_path / f"b{i}") for i in range(3)]
    finally:
        stop.set()
        writer.join()
    counts = []
    for path in paths:
        copy = Store.restore(path, path.with_suffix(".back"))
        assert copy.verify_log().intact
        counts.append(copy.case(case.id).cells)
        assert len(every_cell(copy, case.id)) == counts[-1]
        copy.close()
    assert counts == sorted(counts)


def test_a_damaged_or_tampered_backup_is_not_put_back(store: Store, tmp_path: Path) -> None:
    filled(store)
    whole = store.backup(tmp_path / "b").read_bytes()
    (tmp_path / "text").write_bytes(b"no backup" * 100)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tampered").write_bytes(whole)
    with closing(sqlite3.connect(tmp_path / "tampered")) as base, base:
        base.execute("UPDATE cells SET reviewed_by = 'eve'")
    with closing(sqlite3.connect(tmp_path / "foreign")) as base:
        base.execute("CREATE TABLE x (y)")
    for name in ("missing", "text", "cut", "tampered", "foreign"):
        with pytest.raises(ArtifactError):
            Store.restore(tmp_path / name, tmp_path / "new")
        assert not (tmp_path / "new").exists()


# migrations -------------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    opened: list[Store] = []

    def make() -> None:
        opened.append(Store.open(tmp_path / "shared"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    opened[0].create_case(ANNA, "P")
    assert len(opened[3].cases()[0]) == 1
    for store in opened:
        store.close()


# death in the middle ----------------------------------------------------------------------------


DYING = """
    import sys
    sys.path.insert(0, {tests!r})
    from storing import *
    from cellkin.web.store import gallery, signing
    from cellkin.web.store import log
    from cellkin.web.store.database import Transaction
    store = prepared(Store.open({path!r}))
    steps = 0

    def counted(act):
        def doing(*args, **kwargs):
            global steps
            steps += 1
            if steps == {death}:
                print("in the middle", flush=True)
                sys.stdin.read()  # killed here
            return act(*args, **kwargs)
        return doing

    from sqlalchemy import Connection
    {work}
    print("done", steps, flush=True)
"""
ADDING = """
    Connection.execute = counted(Connection.execute)
    store.add_cells(ANNA, {case!r}, [new_cell(i) for i in range(50, 80)], "late")
"""
SIGNING = """
    Connection.execute = counted(Connection.execute)
    store.sign(ANNA, {case!r}, store.case({case!r}).version)
"""


def killed(path: Path, work: str, case: str, death: int) -> str:
    """Run `work` in a process that is killed at its `death`-th statement; what it said."""
    source = textwrap.dedent(DYING).format(
        tests=str(Path(__file__).parent),
        path=str(path),
        death=death,
        work=textwrap.dedent(work).format(case=case).strip(),
    )
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said == "in the middle":
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return said


@pytest.mark.parametrize("death", [7, 13])
def test_killed_in_the_middle_of_an_upload(tmp_path: Path, death: int) -> None:
    store = fresh(tmp_path / "s")
    case, _ = filled(store)
    before = store.verify_log()
    store.close()
    assert killed(tmp_path / "s", ADDING, case.id, death) == "in the middle"
    again = fresh_again(tmp_path / "s")
    assert again.case(case.id) == case
    assert len(every_cell(again, case.id)) == case.cells
    assert again.verify_log() == before
    added = again.add_cells(ANNA, case.id, [new_cell(i) for i in range(50, 80)], "late")
    assert (len(added.cells), added.replayed) == (30, False)
    again.close()


@pytest.mark.parametrize("death", [8, 22])
def test_killed_in_the_middle_of_signing(tmp_path: Path, death: int) -> None:
    store = fresh(tmp_path / "s")
    case, _ = filled(store)
    ready = decide_all(store, case.id)
    before = store.verify_log()
    store.close()
    assert killed(tmp_path / "s", SIGNING, case.id, death) == "in the middle"
    again = fresh_again(tmp_path / "s")
    assert again.case(case.id) == ready
    assert {c.confirmed for c in every_cell(again, case.id)} == {"singly", None}
    assert again.verify_log() == before
    assert again.sign(ANNA, case.id, ready.version).status == "signed"
    assert again.verify_log().intact
    again.close()


def fresh_again(path: Path) -> Store:
    """The store as the next start of the workstation finds it."""
    from storing import prepared

    return prepared(Store.open(path))


def test_killed_after_the_answer_nothing_is_lost(tmp_path: Path) -> None:
    store = fresh(tmp_path / "s")
    case, _ = filled(store)
    store.close()
    work = """
    store.add_cells(ANNA, {case!r}, [new_cell(90)], "k")
    counted(lambda: None)()
    """
    assert killed(tmp_path / "s", work, case.id, 1) == "in the middle"
    again = Store.open(tmp_path / "s")
    assert again.case(case.id).cells == case.cells + 1
    assert again.add_cells(ANNA, case.id, [new_cell(90)], "k").replayed
    assert again.verify_log().intact
    again.close()
